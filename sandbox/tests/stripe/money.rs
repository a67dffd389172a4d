use sandbox::stripe::RefundStatus;

use super::help::{THEN, desk};

#[tokio::test]
async fn never_more_goes_back_than_came_in() {
    let desk = desk();
    let paid = desk.pay("pm_card_visa", "p").await.id().to_owned();
    let refund = async |amount: i64, key: &str| {
        let form = format!("payment_intent={paid}&amount={amount}&metadata[refund_id]=r1");
        desk.client.post("refunds", &form, key).await
    };
    let first = refund(2_000, "a").await;
    assert_eq!(
        (&first.body["status"], &first.body["amount"]),
        (&"succeeded".into(), &2_000.into())
    );
    assert!(refund(2_000, "a").await.replayed);
    assert_eq!(refund(3_001, "b").await.code(), "amount_too_large");
    assert_eq!(refund(3_000, "c").await.status, 200);
    assert_eq!(refund(1, "d").await.code(), "charge_already_refunded");
    assert_eq!(desk.stripe.payments()[0].refunded, 5_000);

    let all = desk
        .client
        .get(&format!("refunds?payment_intent={paid}"))
        .await;
    assert_eq!(all.body["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn amounts_are_in_steps_of_what_the_currency_can_be_paid_in() {
    let desk = desk();
    for (currency, odd, even) in [("isk", 10_050, 10_100), ("kwd", 10_005, 10_010)] {
        let ask = |amount: i64| format!("amount={amount}&currency={currency}");
        let odd = desk.client.post("payment_intents", &ask(odd), "").await;
        assert_eq!((odd.status, odd.code()), (400, "parameter_invalid"));
        let paid = format!("{}&payment_method=pm_card_visa&confirm=true", ask(even));
        let paid = desk.client.post("payment_intents", &paid, "").await;
        let back = format!("payment_intent={}&amount=5005", paid.id());
        let back = desk.client.post("refunds", &back, "").await;
        assert_eq!((back.status, back.code()), (400, "parameter_invalid"));
        let all = format!("payment_intent={}", paid.id());
        assert_eq!(desk.client.post("refunds", &all, "").await.status, 200);
    }
}

#[tokio::test]
async fn parts_of_a_payment_are_disputed_one_by_one_and_no_more_than_all_of_it() {
    let desk = desk();
    let paid = desk.pay("pm_card_visa", "p").await.id().to_owned();
    let some = desk.stripe.open_dispute_of(&paid, 2_000).expect("a part");
    assert!(desk.stripe.open_dispute_of(&paid, 3_001).is_err());
    let rest = desk.stripe.open_dispute(&paid).expect("the rest");
    assert!(desk.stripe.open_dispute_of(&paid, 1).is_err());
    let rest = desk.client.get(&format!("disputes/{rest}")).await;
    assert_eq!(rest.body["amount"], 3_000);
    desk.stripe.close_dispute(&some, true).expect("won");
}

#[tokio::test]
async fn what_was_not_paid_is_not_refunded() {
    let desk = desk();
    let open = desk
        .client
        .post("payment_intents", "amount=700&currency=eur", "k")
        .await;
    let form = format!("payment_intent={}", open.id());
    let refused = desk.client.post("refunds", &form, "r").await;
    assert_eq!(refused.code(), "payment_intent_unexpected_state");
    let nobody = desk
        .client
        .post("refunds", "payment_intent=pi_none", "s")
        .await;
    assert_eq!(nobody.code(), "resource_missing");
}

#[tokio::test]
async fn a_refund_waits_and_succeeds_or_fails_later() {
    let desk = desk();
    desk.stripe.keep_refunds_pending(true);
    for (end, refunded) in [(RefundStatus::Succeeded, 5_000), (RefundStatus::Failed, 0)] {
        let paid = desk.pay("pm_card_visa", &format!("{end:?}")).await;
        let form = format!("payment_intent={}", paid.id());
        let refund = desk.client.post("refunds", &form, "").await;
        assert_eq!(refund.body["status"], "pending");
        desk.stripe.end_refund(refund.id(), end).expect("it waits");
        let after = desk.client.get(&format!("refunds/{}", refund.id())).await;
        assert_eq!(after.body["status"], format!("{end:?}").to_lowercase());
        let payments = desk.stripe.payments();
        assert_eq!(payments.last().map(|p| p.refunded), Some(refunded));
    }
    let balance = desk
        .client
        .get("balance_transactions?type=refund_failure")
        .await;
    assert_eq!(balance.body["data"][0]["amount"], 5_000);
}

#[tokio::test]
async fn the_balance_lists_what_came_and_went() {
    let desk = desk();
    let paid = desk.pay("pm_card_visa", "p").await;
    desk.pass(60);
    let form = format!("payment_intent={}&amount=1000", paid.id());
    let refund = desk.client.post("refunds", &form, "r").await;
    let all = desk.client.get("balance_transactions").await;
    let seen: Vec<_> = all.body["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            (
                entry["type"].as_str().unwrap_or_default().to_owned(),
                entry["net"].as_i64().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [("refund".to_owned(), -1_000), ("charge".to_owned(), 4_900)]
    );
    assert_eq!(all.body["data"][0]["source"], refund.body["id"]);
    let early = format!(
        "balance_transactions?created[gte]={THEN}&created[lt]={}",
        THEN + 60
    );
    let early = desk.client.get(&early).await;
    assert_eq!(early.body["data"][0]["type"], "charge");
    assert_eq!(early.body["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_dispute_takes_the_money_and_may_bring_it_back() {
    let desk = desk();
    let paid = desk.pay("pm_card_visa", "p").await;
    let dispute = desk.stripe.open_dispute(paid.id()).expect("it was paid");
    assert!(desk.stripe.open_dispute(paid.id()).is_err());
    desk.stripe
        .close_dispute(&dispute, true)
        .expect("it is open");
    let shown = desk.client.get(&format!("disputes/{dispute}")).await;
    assert_eq!(shown.body["status"], "won");
    let all = desk
        .client
        .get("balance_transactions?type=adjustment")
        .await;
    let nets: Vec<_> = all.body["data"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|e| e["net"].as_i64())
        .collect();
    assert_eq!(nets, [5_000, -7_000]);
}
