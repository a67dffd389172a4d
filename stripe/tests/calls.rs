//! Every call against the stand-in over real HTTP, on good days and on bad ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sandbox::Stripe;
use sandbox::stripe::{Delivery, Fault, Options, RefundStatus as BankSays};
use secrecy::ExposeSecret as _;
use stripe_api::{
    CheckoutStatus, Client, Error, Metadata, NewCheckout, NewPayment, NewRefund, PaymentStatus,
    RefundStatus, Settings,
};

const SOON: Duration = Duration::from_secs(10);
const NOW: i64 = 1_790_000_000;

fn stand_in() -> (Stripe, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new(NOW));
    let time = Arc::clone(&now);
    let options = Options {
        now: Arc::new(move || time.load(Ordering::SeqCst)),
        public_url: None,
        webhooks: None,
        delivery: Delivery::WhenTold,
    };
    let stripe = Stripe::start(([127, 0, 0, 1], 0).into(), options).expect("a free port");
    (stripe, now)
}

fn client_with(stripe: &Stripe, key: &str, timeout: Duration, attempts: u32) -> Client {
    let settings = Settings {
        secret_key: Some(key.into()),
        url: stripe.url(),
        timeout,
        attempts,
    };
    Client::new(settings).expect("good settings")
}

fn client(stripe: &Stripe) -> Client {
    client_with(stripe, "sk_test_calls", SOON, 3)
}

fn about_order() -> Metadata {
    [
        ("order_id", "order-1"),
        ("attempt", "1"),
        ("a", "b"),
        ("c", "d"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn with_card(method: &str) -> NewPayment {
    NewPayment {
        amount_minor: 5_000,
        currency: "EUR".to_owned(),
        method: Some(method.to_owned()),
        confirm: true,
        metadata: about_order(),
        description: Some("Two places".to_owned()),
        return_url: None,
    }
}

fn a_checkout() -> NewCheckout {
    NewCheckout {
        amount_minor: 5_000,
        currency: "eur".to_owned(),
        name: "Rope Basics & more, 2 places".to_owned(),
        success_url: "https://shop.example/done?id={CHECKOUT_SESSION_ID}&x=1".to_owned(),
        cancel_url: "https://shop.example/back".to_owned(),
        expires_at: Some(NOW + 3_600),
        metadata: about_order(),
    }
}

#[tokio::test]
async fn a_card_pays() {
    let (stripe, _) = stand_in();
    let paid = client(&stripe)
        .create_payment(&with_card("pm_card_visa"), "k")
        .await
        .expect("paid");
    assert_eq!(paid.status, PaymentStatus::Succeeded);
    assert_eq!(
        (paid.amount, paid.amount_received, paid.currency.as_str()),
        (5_000, 5_000, "eur")
    );
    assert_eq!(paid.metadata, about_order());
    assert!(paid.charge.is_some() && paid.decline.is_none());
    let found = client(&stripe).payment(&paid.id).await.expect("found");
    assert_eq!((found.id, found.status), (paid.id, paid.status));
}

#[tokio::test]
async fn a_decline_is_an_answer_and_is_told_again_under_its_key() {
    let (stripe, _) = stand_in();
    let client = client(&stripe);
    for _ in 0..2 {
        let new = with_card("pm_card_visa_chargeDeclinedInsufficientFunds");
        let declined = client.create_payment(&new, "k").await.expect("an answer");
        assert_eq!(declined.status, PaymentStatus::RequiresPaymentMethod);
        let decline = declined.decline.expect("a reason");
        assert_eq!(decline.code, "card_declined");
        assert_eq!(decline.decline_code.as_deref(), Some("insufficient_funds"));
        assert_eq!(decline.message, "Your card has insufficient funds.");
        let found = client.payment(&declined.id).await.expect("found");
        assert_eq!(found.decline, Some(decline));
    }
    assert_eq!(
        (stripe.payments().len(), stripe.charges_of("order-1")),
        (1, 0)
    );
}

#[tokio::test]
async fn a_buyer_is_asked_by_their_bank() {
    let (stripe, _) = stand_in();
    let client = client(&stripe);
    let new = with_card("pm_card_authenticationRequired");
    let asked = client.create_payment(&new, "k").await.expect("an answer");
    assert_eq!(asked.status, PaymentStatus::RequiresAction);
    let secret = asked
        .client_secret
        .as_ref()
        .expect("a secret")
        .expose_secret();
    let page = asked.action_url.as_ref().expect("a page").expose_secret();
    assert!(page.contains(secret) && !format!("{asked:?}").contains(secret));
    stripe.authenticate(&asked.id, true).expect("it waits");
    let paid = client.payment(&asked.id).await.expect("found");
    assert_eq!(paid.status, PaymentStatus::Succeeded);
}

#[tokio::test]
async fn a_payment_is_made_for_the_browser_to_confirm_or_cancelled() {
    let (stripe, _) = stand_in();
    let client = client(&stripe);
    let new = NewPayment {
        method: None,
        confirm: false,
        ..with_card("")
    };
    let open = client.create_payment(&new, "a").await.expect("made");
    assert_eq!(open.status, PaymentStatus::RequiresPaymentMethod);
    assert_eq!(open.decline, None);
    stripe.confirm(&open.id, "pm_card_visa").expect("paid");
    let too_late = client
        .cancel_payment(&open.id, "a-cancel")
        .await
        .expect("as it is");
    assert_eq!(too_late.status, PaymentStatus::Succeeded);

    let open = client.create_payment(&new, "b").await.expect("made");
    for key in ["b-cancel", "b-cancel", "b-cancel-again"] {
        let cancelled = client
            .cancel_payment(&open.id, key)
            .await
            .expect("cancelled");
        assert_eq!(cancelled.status, PaymentStatus::Canceled);
    }
}

#[tokio::test]
async fn a_checkout_is_paid_or_expired() {
    let (stripe, _) = stand_in();
    let client = client(&stripe);
    let open = client
        .create_checkout(&a_checkout(), "a")
        .await
        .expect("made");
    assert_eq!(
        (open.status, open.paid, open.amount),
        (CheckoutStatus::Open, false, 5_000)
    );
    assert_eq!((open.expires_at, &open.payment), (NOW + 3_600, &None));
    assert!(open.url.is_some_and(|url| url.contains(&open.id)));
    stripe.pay_checkout(&open.id, "pm_card_visa").expect("paid");
    let paid = client.checkout(&open.id).await.expect("found");
    assert!(paid.paid && paid.status == CheckoutStatus::Complete);
    let payment = client
        .payment(&paid.payment.expect("a payment"))
        .await
        .expect("found");
    assert_eq!(payment.metadata, about_order());
    let too_late = client
        .expire_checkout(&open.id, "a-expire")
        .await
        .expect("as it is");
    assert!(too_late.paid);

    let open = client
        .create_checkout(&a_checkout(), "b")
        .await
        .expect("made");
    for key in ["b-expire", "b-expire", "b-again"] {
        let expired = client
            .expire_checkout(&open.id, key)
            .await
            .expect("expired");
        assert_eq!(
            (expired.status, expired.url),
            (CheckoutStatus::Expired, None)
        );
    }
    let hasty = NewCheckout {
        expires_at: Some(NOW + 600),
        ..a_checkout()
    };
    let refused = client.create_checkout(&hasty, "c").await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn money_goes_back_and_never_too_much() {
    let (stripe, _) = stand_in();
    let client = client(&stripe);
    let paid = client
        .create_payment(&with_card("pm_card_visa"), "k")
        .await
        .expect("paid");
    let new = |amount| NewRefund {
        payment: paid.id.clone(),
        amount_minor: amount,
        metadata: Metadata::from([("refund_id".to_owned(), "r1".to_owned())]),
    };
    for _ in 0..2 {
        let refund = client.refund(&new(2_000), "r1").await.expect("refunded");
        assert_eq!(
            (refund.status, refund.amount),
            (RefundStatus::Succeeded, 2_000)
        );
        assert_eq!(refund.payment.as_ref(), Some(&paid.id));
        assert_eq!(refund.metadata["refund_id"], "r1");
    }
    stripe.keep_refunds_pending(true);
    let slow = client.refund(&new(1_000), "r2").await.expect("taken in");
    assert_eq!(slow.status, RefundStatus::Pending);
    stripe
        .end_refund(&slow.id, BankSays::Failed)
        .expect("it waits");
    let failed = client.refund_status(&slow.id).await.expect("found");
    assert_eq!(failed.status, RefundStatus::Failed);
    assert!(failed.failure_reason.is_some());
    let too_much = client.refund(&new(3_001), "r3").await;
    assert!(
        matches!(too_much, Err(Error::Refused { ref code, .. }) if code == "amount_too_large"),
        "{too_much:?}"
    );
    assert_eq!(stripe.payments()[0].refunded, 2_000);
}

#[tokio::test]
async fn the_balance_is_read_page_by_page() {
    let (stripe, now) = stand_in();
    let client = client(&stripe);
    for n in 0..130 {
        let key = format!("k{n}");
        client
            .create_payment(&with_card("pm_card_visa"), &key)
            .await
            .expect("paid");
    }
    now.fetch_add(60, Ordering::SeqCst);
    client
        .create_payment(&with_card("pm_card_visa"), "later")
        .await
        .expect("paid");
    let (mut seen, mut next) = (Vec::new(), None);
    loop {
        let page = client
            .balance_transactions(NOW..NOW + 60, next.as_deref())
            .await
            .expect("a page");
        seen.extend(page.items);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 130);
    assert!(
        seen.iter()
            .all(|t| t.kind == "charge" && t.net == t.amount - t.fee && t.source.is_some())
    );
    assert_eq!(stripe.requests("balance_transactions.list"), 2);
}

#[tokio::test]
async fn a_bad_moment_passes_and_money_is_taken_once() {
    for fault in [
        Fault::TooManyRequests,
        Fault::ErrorBefore,
        Fault::ErrorAfter,
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::Slow(Duration::from_millis(5)),
    ] {
        let (stripe, _) = stand_in();
        stripe.misbehave("payment_intents.create", fault, 1);
        let paid = client(&stripe)
            .create_payment(&with_card("pm_card_visa"), "k")
            .await
            .expect("paid");
        assert_eq!(paid.status, PaymentStatus::Succeeded, "{fault:?}");
        assert_eq!(
            (stripe.payments().len(), stripe.charges_of("order-1")),
            (1, 1),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn charged_and_never_answered_is_found_by_the_next_attempt() {
    let (stripe, _) = stand_in();
    stripe.misbehave("payment_intents.create", Fault::Silence, 1);
    let hasty = client_with(&stripe, "sk_test_calls", Duration::from_millis(300), 5);
    let paid = hasty
        .create_payment(&with_card("pm_card_visa"), "k")
        .await
        .expect("paid");
    assert_eq!(stripe.payments()[0].id, paid.id);
    assert_eq!(
        (stripe.payments().len(), stripe.charges_of("order-1")),
        (1, 1)
    );
}

#[tokio::test]
async fn a_key_that_is_busy_is_waited_for() {
    let (stripe, _) = stand_in();
    stripe.misbehave("payment_intents.create", Fault::HoldBefore, 1);
    let patient = client_with(&stripe, "sk_test_calls", SOON, 20);
    let first = tokio::spawn({
        let client = patient.clone();
        async move { client.create_payment(&with_card("pm_card_visa"), "k").await }
    });
    stripe.until_held(SOON).await.expect("it is held");
    // As if its process were killed.
    first.abort();
    let second = tokio::spawn(async move {
        patient
            .create_payment(&with_card("pm_card_visa"), "k")
            .await
    });
    stripe
        .until_arrived("payment_intents.create", 2, SOON)
        .await
        .expect("it comes");
    stripe.release();
    let paid = second.await.expect("no panic").expect("paid");
    assert_eq!(paid.status, PaymentStatus::Succeeded);
    assert_eq!(
        (stripe.payments().len(), stripe.charges_of("order-1")),
        (1, 1)
    );
}

#[tokio::test]
async fn patience_ends_and_the_same_key_goes_on_later() {
    let (stripe, _) = stand_in();
    let client = client_with(&stripe, "sk_test_calls", SOON, 2);
    stripe.misbehave("payment_intents.create", Fault::ErrorKept, 1);
    let unknown = client
        .create_payment(&with_card("pm_card_visa"), "kept")
        .await;
    assert!(matches!(unknown, Err(Error::Unavailable(_))), "{unknown:?}");

    stripe.go_down().await.expect("the port is ours");
    let down = client
        .create_payment(&with_card("pm_card_visa"), "down")
        .await;
    assert!(matches!(down, Err(Error::Unavailable(_))), "{down:?}");
    stripe.come_back().expect("the port is still ours");
    client
        .create_payment(&with_card("pm_card_visa"), "down")
        .await
        .expect("paid");
    assert_eq!(stripe.charges_of("order-1"), 2);

    // The one whose answer was lost for good is found by what is written on it.
    let page = client.payments(NOW..NOW + 1, None).await.expect("a page");
    assert!(
        page.items
            .iter()
            .all(|payment| payment.metadata == about_order())
    );
    assert_eq!((page.items.len(), page.next), (2, None));
}

#[tokio::test]
async fn what_is_our_mistake_is_not_tried_again() {
    let (stripe, _) = stand_in();
    let client = client(&stripe);
    let too_little = NewPayment {
        amount_minor: 10,
        ..with_card("pm_card_visa")
    };
    let refused = client.create_payment(&too_little, "a").await;
    assert!(matches!(refused, Err(Error::Refused { ref code, .. }) if code == "amount_too_small"));
    let no_card = client.create_payment(&with_card("pm_none"), "b").await;
    assert!(matches!(no_card, Err(Error::Refused { ref code, .. }) if code == "resource_missing"));
    assert_eq!(stripe.requests("payment_intents.create"), 2);

    client
        .create_payment(&with_card("pm_card_visa"), "k")
        .await
        .expect("paid");
    let other = NewPayment {
        amount_minor: 6_000,
        ..with_card("pm_card_visa")
    };
    assert_eq!(
        client.create_payment(&other, "k").await.err(),
        Some(Error::KeyReused)
    );
    for id in ["pi_none", "../balance", ""] {
        assert_eq!(
            client.payment(id).await.err(),
            Some(Error::NotFound),
            "{id}"
        );
    }
}

#[tokio::test]
async fn without_a_good_key_it_waits_for_one() {
    let (stripe, _) = stand_in();
    let bad = client_with(&stripe, "hunter2", SOON, 3);
    client(&stripe)
        .check()
        .await
        .expect("it answers and takes the key");
    let refused = bad.check().await.expect_err("no");
    assert!(matches!(refused, Error::Unavailable(_)) && !refused.to_string().contains("hunter2"));
    let settings = Settings {
        secret_key: None,
        url: stripe.url(),
        timeout: SOON,
        attempts: 1,
    };
    let none = Client::new(settings).expect("good settings");
    assert!(!none.has_key());
    assert!(matches!(
        none.payment("pi_1").await,
        Err(Error::Unavailable(_))
    ));
    assert_eq!(stripe.requests(""), 2);
}

#[tokio::test]
async fn connections_are_kept() {
    let (stripe, _) = stand_in();
    let client = client(&stripe);
    for n in 0..20 {
        client
            .create_payment(&with_card("pm_card_visa"), &n.to_string())
            .await
            .expect("paid");
    }
    assert_eq!(stripe.connections(), 1);
}
