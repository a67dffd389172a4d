use sandbox::Stripe;
use serde_json::Value;

use super::help::{Desk, THEN, desk};

const SESSION: &str = "mode=payment&success_url=http://shop.example/done?s={CHECKOUT_SESSION_ID}\
    &cancel_url=http://shop.example/back&client_reference_id=order-1&line_items[0][quantity]=2\
    &line_items[0][price_data][currency]=eur&line_items[0][price_data][unit_amount]=2500\
    &line_items[0][price_data][product_data][name]=Two%20%3Cb%3Eplaces\
    &payment_intent_data[metadata][order_id]=order-1&metadata[order_id]=order-1";

async fn session(desk: &Desk) -> (String, String) {
    let made = desk.client.post("checkout/sessions", SESSION, "").await;
    assert_eq!(
        (made.status, &made.body["status"]),
        (200, &"open".into()),
        "{}",
        made.body
    );
    assert_eq!(made.body["amount_total"], 5_000);
    let url = made.body["url"].as_str().expect("a page");
    (made.id().to_owned(), url.to_owned())
}

async fn shown(desk: &Desk, id: &str) -> Value {
    desk.client
        .get(&format!("checkout/sessions/{id}"))
        .await
        .body
}

fn kinds(stripe: &Stripe) -> Vec<String> {
    let events = stripe.events();
    events
        .iter()
        .filter_map(|e| e["type"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn a_buyer_is_declined_and_pays_with_another_card() {
    let desk = desk();
    let (id, url) = session(&desk).await;
    let (status, _, page) = desk.client.page(&url, None).await;
    assert_eq!(status, 200);
    assert!(
        page.contains("50.00 EUR") && page.contains("Two &lt;b&gt;places"),
        "{page}"
    );

    let declined = Some("payment_method=pm_card_visa_chargeDeclined");
    let (_, _, page) = desk.client.page(&url, declined).await;
    assert!(page.contains("Your card was declined."), "{page}");
    let (status, next, _) = desk
        .client
        .page(&url, Some("payment_method=pm_card_visa"))
        .await;
    assert_eq!(
        (status, next),
        (303, format!("http://shop.example/done?s={id}"))
    );

    let session = shown(&desk, &id).await;
    assert_eq!(
        (&session["status"], &session["payment_status"]),
        (&"complete".into(), &"paid".into())
    );
    assert_eq!(desk.stripe.charges_of("order-1"), 1);
    assert_eq!(desk.stripe.payments().len(), 1);
    assert_eq!(
        kinds(&desk.stripe),
        [
            "payment_intent.payment_failed",
            "payment_intent.succeeded",
            "checkout.session.completed"
        ]
    );
    let (status, ..) = desk
        .client
        .page(&url, Some("payment_method=pm_card_visa"))
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_bank_that_asks_is_answered_on_its_page() {
    let desk = desk();
    let (id, url) = session(&desk).await;
    for (answer, end) in [("fails", "open"), ("succeeds", "complete")] {
        let asks = Some("payment_method=pm_card_authenticationRequired");
        let (_, question, _) = desk.client.page(&url, asks).await;
        let (_, _, page) = desk.client.page(&question, None).await;
        assert!(page.contains("Is it you"), "{page}");
        let (_, secret) = question.split_once("client_secret=").expect("a secret");
        let form = format!("client_secret={secret}&result={answer}");
        let place = question.split('?').next().unwrap_or_default();
        let (status, ..) = desk
            .client
            .page(place, Some("client_secret=no&result=succeeds"))
            .await;
        assert_eq!(status, 404);
        let (status, ..) = desk.client.page(place, Some(&form)).await;
        assert_eq!(status, 303);
        assert_eq!(shown(&desk, &id).await["status"], end);
    }
    assert_eq!(desk.stripe.charges_of("order-1"), 1);
}

#[tokio::test]
async fn a_payment_outside_of_a_checkout_asks_as_well() {
    let desk = desk();
    let asks = desk.pay("pm_card_authenticationRequired", "k").await;
    assert_eq!(asks.body["status"], "requires_action");
    let page = asks.body["next_action"]["use_stripe_sdk"]["stripe_js"]
        .as_str()
        .expect("a page");
    let (status, _, text) = desk.client.page(page, None).await;
    assert!(status == 200 && text.contains("50.00 EUR"), "{text}");
    desk.stripe.authenticate(asks.id(), true).expect("it waits");
    assert!(desk.stripe.authenticate(asks.id(), true).is_err());
    assert_eq!(desk.stripe.charges_of("order-1"), 1);
}

#[tokio::test]
async fn nobody_pays_an_expired_session() {
    let desk = desk();
    let (told, told_url) = session(&desk).await;
    let (lapsed, lapsed_url) = session(&desk).await;
    let expire = format!("checkout/sessions/{told}/expire");
    assert_eq!(
        desk.client.post(&expire, "", "").await.body["status"],
        "expired"
    );
    assert_eq!(desk.client.post(&expire, "", "").await.status, 400);
    desk.pass(24 * 3_600);
    for (id, url) in [(told, told_url), (lapsed, lapsed_url)] {
        let session = shown(&desk, &id).await;
        assert_eq!(
            (&session["status"], &session["url"]),
            (&"expired".into(), &Value::Null)
        );
        let (status, ..) = desk
            .client
            .page(&url, Some("payment_method=pm_card_visa"))
            .await;
        assert_eq!(status, 400);
        assert!(desk.stripe.pay_checkout(&id, "pm_card_visa").is_err());
    }
    assert_eq!(kinds(&desk.stripe), ["checkout.session.expired"; 2]);
    assert!(desk.stripe.payments().is_empty());
}

#[tokio::test]
async fn a_session_lives_half_an_hour_at_least() {
    let desk = desk();
    for (lives, status) in [(600, 400), (1_800, 200), (86_400, 200), (90_000, 400)] {
        let form = format!("{SESSION}&expires_at={}", THEN + lives);
        let made = desk.client.post("checkout/sessions", &form, "").await;
        assert_eq!(made.status, status, "{lives}");
    }
    let bad = SESSION.replace("http://shop.example/back", "javascript:alert(1)");
    assert_eq!(
        desk.client.post("checkout/sessions", &bad, "").await.code(),
        "url_invalid"
    );
}

#[tokio::test]
async fn the_list_shows_who_paid() {
    let desk = desk();
    let (_, _, empty) = desk
        .client
        .page(&format!("{}/", desk.client.base), None)
        .await;
    assert!(empty.contains("Nobody has paid yet"), "{empty}");
    let paid = desk.pay("pm_card_visa", "k").await;
    let (_, _, list) = desk
        .client
        .page(&format!("{}/", desk.client.base), None)
        .await;
    assert!(
        list.contains(paid.id()) && list.contains("order-1"),
        "{list}"
    );
    let (status, ..) = desk
        .client
        .page(&format!("{}/elsewhere", desk.client.base), None)
        .await;
    assert_eq!(status, 404);
}
