use std::time::Duration;

use sandbox::stripe::Fault;
use serde_json::json;

use super::help::{SOON, desk, paying};

#[tokio::test]
async fn what_fails_before_leaves_nothing_and_what_fails_after_is_done() {
    let desk = desk();
    for (fault, status, done) in [
        (Fault::TooManyRequests, 429, false),
        (Fault::ErrorBefore, 500, false),
        (Fault::ErrorAfter, 500, true),
    ] {
        let before = desk.stripe.payments().len();
        let key = format!("{fault:?}");
        desk.stripe.misbehave("payment_intents.create", fault, 1);
        assert_eq!(desk.pay("pm_card_visa", &key).await.status, status);
        assert_eq!(desk.stripe.payments().len() - before, usize::from(done));
        let retry = desk.pay("pm_card_visa", &key).await;
        assert_eq!((retry.status, retry.replayed), (200, done), "{key}");
        assert_eq!(desk.stripe.payments().len() - before, 1);
    }
}

#[tokio::test]
async fn a_kept_error_is_told_again_although_the_money_was_taken() {
    let desk = desk();
    desk.stripe.misbehave("", Fault::ErrorKept, 1);
    for _ in 0..2 {
        assert_eq!(desk.pay("pm_card_visa", "k").await.status, 500);
    }
    assert_eq!(desk.stripe.charges_of("order-1"), 1);
}

#[tokio::test]
async fn connections_are_cut_before_or_after() {
    let desk = desk();
    for (fault, charges) in [(Fault::CutBefore, 0), (Fault::CutAfter, 1)] {
        desk.stripe.misbehave("payment_intents", fault, 1);
        let cut = desk
            .client
            .try_post("payment_intents", &paying("pm_card_visa"), "k")
            .await;
        assert!(cut.is_err());
        assert_eq!(desk.stripe.charges_of("order-1"), charges);
    }
    assert!(desk.pay("pm_card_visa", "k").await.replayed);
}

#[tokio::test]
async fn silence_has_charged() {
    let desk = desk();
    desk.stripe
        .misbehave("payment_intents.create", Fault::Silence, 1);
    let client = desk.client.clone();
    let waiting = tokio::spawn(async move {
        client
            .try_post("payment_intents", &paying("pm_card_visa"), "k")
            .await
    });
    desk.stripe
        .until_arrived("payment_intents.create", 1, SOON)
        .await
        .expect("it arrives");
    let retry = desk.pay("pm_card_visa", "k").await;
    assert_eq!((retry.status, desk.stripe.charges_of("order-1")), (200, 1));
    assert!(!waiting.is_finished());
    waiting.abort();
}

#[tokio::test]
async fn a_held_request_keeps_its_key_busy_and_is_done_even_if_its_client_is_gone() {
    let desk = desk();
    desk.stripe
        .misbehave("payment_intents.create", Fault::HoldBefore, 1);
    let client = desk.client.clone();
    let dying = tokio::spawn(async move {
        client
            .try_post("payment_intents", &paying("pm_card_visa"), "k")
            .await
    });
    desk.stripe.until_held(SOON).await.expect("it is held");
    dying.abort();
    let busy = desk.pay("pm_card_visa", "k").await;
    assert_eq!((busy.status, busy.code()), (409, "idempotency_key_in_use"));
    assert_eq!(desk.stripe.charges_of("order-1"), 0);

    desk.stripe.release();
    let after = loop {
        let answer = desk.pay("pm_card_visa", "k").await;
        if answer.status != 409 {
            break answer;
        }
    };
    assert!(after.replayed);
    assert_eq!(desk.stripe.charges_of("order-1"), 1);
}

#[tokio::test]
async fn an_answer_is_held_after_the_deed() {
    let desk = desk();
    desk.stripe
        .misbehave("payment_intents.create", Fault::HoldAfter, 1);
    let client = desk.client.clone();
    let waiting = tokio::spawn(async move {
        client
            .post("payment_intents", &paying("pm_card_visa"), "k")
            .await
            .status
    });
    desk.stripe.until_held(SOON).await.expect("it is held");
    assert_eq!(desk.stripe.charges_of("order-1"), 1);
    desk.stripe.recover();
    assert_eq!(waiting.await.expect("no panic"), 200);
}

#[tokio::test]
async fn slowness_is_slow_and_nothing_worse() {
    let desk = desk();
    desk.stripe
        .misbehave("", Fault::Slow(Duration::from_millis(20)), 1);
    assert_eq!(desk.pay("pm_card_visa", "k").await.status, 200);
}

#[tokio::test]
async fn it_goes_down_and_comes_back_knowing_everything() {
    let desk = desk();
    let paid = desk.pay("pm_card_visa", "k").await;
    for _ in 0..2 {
        desk.stripe.go_down().await.expect("the port is ours");
        let refused = desk.client.try_post("payment_intents", "", "").await;
        assert!(refused.is_err());
        desk.stripe.come_back().expect("the port is still ours");
        let found = desk
            .client
            .get(&format!("payment_intents/{}", paid.id()))
            .await;
        assert_eq!(found.body, paid.body);
    }
}

#[tokio::test]
async fn another_process_plans_faults_too() {
    let desk = desk();
    let fault = json!({"on": "payment_intents.create", "fault": "hold_before", "times": 1});
    assert_eq!(desk.client.control("faults", fault).await.status, 200);
    let client = desk.client.clone();
    let waiting = tokio::spawn(async move {
        client
            .post("payment_intents", &paying("pm_card_visa"), "k")
            .await
            .status
    });
    assert_eq!(
        desk.client
            .control("wait", json!({"held": true}))
            .await
            .status,
        200
    );
    desk.client.control("release", json!({})).await;
    assert_eq!(waiting.await.expect("no panic"), 200);
    let wait = json!({"request": "refunds", "millis": 1});
    assert_eq!(desk.client.control("wait", wait).await.status, 408);
    let nonsense = desk
        .client
        .control("faults", json!({"fault": "kindness"}))
        .await;
    assert_eq!(nonsense.status, 400);
    let (_, _, payments) = desk
        .client
        .page(&format!("{}/_control/payments", desk.client.base), None)
        .await;
    assert!(payments.contains("\"charges\":1"), "{payments}");
}
