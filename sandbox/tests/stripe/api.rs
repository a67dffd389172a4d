use super::help::{answer, desk, paying};

#[tokio::test]
async fn a_card_pays_and_the_charge_says_what_it_cost() {
    let desk = desk();
    let paid = desk.pay("pm_card_visa", "k1").await;
    assert_eq!((paid.status, paid.replayed), (200, false));
    assert_eq!(paid.body["status"], "succeeded");
    assert_eq!(paid.body["amount_received"], 5_000);
    assert_eq!(paid.body["metadata"]["order_id"], "order-1");

    let charge = paid.body["latest_charge"].as_str().expect("a charge");
    let charge = desk.client.get(&format!("charges/{charge}")).await;
    assert_eq!(charge.body["payment_intent"], paid.body["id"]);
    let booked = charge.body["balance_transaction"].as_str().expect("booked");
    let booked = desk
        .client
        .get(&format!("balance_transactions/{booked}"))
        .await;
    assert_eq!(
        (&booked.body["fee"], &booked.body["net"]),
        (&100.into(), &4_900.into())
    );

    let again = desk
        .client
        .get(&format!("payment_intents/{}", paid.id()))
        .await;
    assert_eq!(again.body, paid.body);
    assert_eq!(desk.stripe.charges_of("order-1"), 1);
}

#[tokio::test]
async fn without_a_secret_key_there_is_nothing() {
    let desk = desk();
    for key in ["", "pk_test_1", "sk_", "nonsense"] {
        let request = desk
            .client
            .request("payment_intents", &paying("pm_card_visa"));
        let refused = answer(request.bearer_auth(key)).await.expect("an answer");
        assert_eq!(refused.status, 401, "{key}");
    }
    let request = desk
        .client
        .request("payment_intents", &paying("pm_card_visa"));
    let basic = request.basic_auth("sk_test_x", None::<&str>);
    assert_eq!(answer(basic).await.expect("an answer").status, 200);
    assert_eq!(desk.stripe.payments().len(), 1);
}

#[tokio::test]
async fn declines_carry_the_payment_and_its_reason() {
    let desk = desk();
    let cards = [
        (
            "pm_card_visa_chargeDeclined",
            "card_declined",
            Some("generic_decline"),
        ),
        (
            "pm_card_visa_chargeDeclinedInsufficientFunds",
            "card_declined",
            Some("insufficient_funds"),
        ),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
        (
            "pm_card_chargeDeclinedProcessingError",
            "processing_error",
            None,
        ),
        (
            "pm_card_chargeDeclinedFraudulent",
            "card_declined",
            Some("fraudulent"),
        ),
    ];
    for (card, code, decline_code) in cards {
        let declined = desk.pay(card, card).await;
        let error = &declined.body["error"];
        assert_eq!((declined.status, declined.code()), (402, code), "{card}");
        assert_eq!(error["decline_code"].as_str(), decline_code, "{card}");
        let intent = &error["payment_intent"];
        assert_eq!(intent["status"], "requires_payment_method");
        assert_eq!(intent["last_payment_error"]["code"], code);
        let again = desk.pay(card, card).await;
        assert!(again.replayed && again.body == declined.body, "{card}");
    }
    assert_eq!(desk.stripe.charges_of("order-1"), 0);
    assert_eq!(desk.stripe.payments().len(), cards.len());
}

#[tokio::test]
async fn a_payment_is_confirmed_by_a_browser_with_its_secret_alone() {
    let desk = desk();
    let made = desk
        .client
        .post("payment_intents", "amount=700&currency=EUR", "k")
        .await;
    assert_eq!(made.body["status"], "requires_payment_method");
    let secret = made.body["client_secret"].as_str().expect("a secret");
    let path = format!("payment_intents/{}/confirm", made.id());
    let confirm = async |secret: &str| {
        let form =
            format!("key=pk_test_1&client_secret={secret}&payment_method=pm_card_mastercard");
        answer(desk.client.request(&path, &form))
            .await
            .expect("an answer")
    };
    assert_eq!(confirm("wrong").await.status, 401);
    assert_eq!(confirm(secret).await.body["status"], "succeeded");
    let twice = confirm(secret).await;
    assert_eq!(
        (twice.status, twice.code()),
        (400, "payment_intent_unexpected_state")
    );
}

#[tokio::test]
async fn what_is_paid_is_not_cancelled_and_what_is_cancelled_is_not_paid() {
    let desk = desk();
    let made = desk
        .client
        .post(
            "payment_intents",
            "amount=700&currency=eur&payment_method=pm_card_visa",
            "k",
        )
        .await;
    assert_eq!(made.body["status"], "requires_confirmation");
    let cancel = format!("payment_intents/{}/cancel", made.id());
    let cancelled = desk
        .client
        .post(&cancel, "cancellation_reason=abandoned", "c")
        .await;
    assert_eq!(cancelled.body["status"], "canceled");
    let confirm = format!("payment_intents/{}/confirm", made.id());
    let late = desk.client.post(&confirm, "", "l").await;
    assert_eq!(late.code(), "payment_intent_unexpected_state");
    let paid = desk.pay("pm_card_visa", "p").await;
    let cancel = format!("payment_intents/{}/cancel", paid.id());
    let refused = desk.client.post(&cancel, "", "").await;
    assert_eq!(
        refused.body["error"]["payment_intent"]["status"],
        "succeeded"
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let desk = desk();
    let cases = [
        ("currency=eur", "parameter_missing", "amount"),
        ("amount=49&currency=eur", "amount_too_small", "amount"),
        (
            "amount=100000000&currency=eur",
            "amount_too_large",
            "amount",
        ),
        ("amount=500&currency=euro", "parameter_invalid", "currency"),
        ("amount=x&currency=eur", "parameter_invalid", "amount"),
        (
            "amount=500&currency=eur&amuont=1",
            "parameter_unknown",
            "amuont",
        ),
        (
            "amount=500&currency=eur&confirm=true",
            "parameter_missing",
            "payment_method",
        ),
        (
            "amount=500&currency=eur&confirm=true&payment_method=pm_none",
            "resource_missing",
            "payment_method",
        ),
    ];
    for (form, code, param) in cases {
        let refused = desk.client.post("payment_intents", form, "same").await;
        assert_eq!((refused.status, refused.code()), (400, code), "{form}");
        assert_eq!(refused.body["error"]["param"], param, "{form}");
    }
    assert!(desk.stripe.payments().is_empty());
    for path in [
        "payment_intents/pi_none",
        "refunds/re_none",
        "events/evt_none",
        "nowhere",
    ] {
        assert_eq!(desk.client.get(path).await.status, 404, "{path}");
    }
    // None of these took the key.
    assert_eq!(desk.pay("pm_card_visa", "same").await.status, 200);
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let desk = desk();
    let first = desk.pay("pm_card_visa", "k").await;
    let again = desk.pay("pm_card_visa", "k").await;
    assert!(again.replayed);
    assert_eq!(again.body, first.body);
    let other = desk
        .client
        .post("payment_intents", "amount=900&currency=eur", "k")
        .await;
    assert_eq!(
        (other.status, &other.body["error"]["type"]),
        (400, &"idempotency_error".into())
    );
    assert_eq!(desk.stripe.payments().len(), 1);
}

#[tokio::test]
async fn payments_are_listed_page_by_page() {
    let desk = desk();
    let mut made = Vec::new();
    for n in 0..5 {
        made.insert(
            0,
            desk.pay("pm_card_visa", &n.to_string())
                .await
                .id()
                .to_owned(),
        );
        desk.pass(1);
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = desk
            .client
            .get(&format!("payment_intents?limit=2{after}"))
            .await;
        let data = page.body["data"].as_array().expect("a list");
        seen.extend(
            data.iter()
                .filter_map(|p| p["id"].as_str().map(str::to_owned)),
        );
        if page.body["has_more"] == false {
            break;
        }
        after = format!("&starting_after={}", seen[seen.len() - 1]);
    }
    assert_eq!(seen, made);
}
