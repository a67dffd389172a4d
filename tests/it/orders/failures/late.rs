//! Money that comes when its order is over.

use super::*;

/// Nobody waits long for Stripe.
pub(in crate::orders) const HASTY: [(&str, &str); 2] = [
    ("HOLDFAST_STRIPE_TIMEOUT", "300ms"),
    ("HOLDFAST_STRIPE_ATTEMPTS", "1"),
];

/// An order whose card Stripe was asked to charge, and which has expired before Stripe did so.
pub(super) async fn expired_too_early(world: &World, event: &Value) -> Value {
    world
        .stripe()
        .misbehave("payment_intents.create", Fault::HoldBefore, 1);
    let order = bought(
        world,
        &world.stranger(),
        &card_order(event, 2, "pm_card_visa"),
    )
    .await;
    world.pass(TimeDelta::minutes(33));
    chase(world).await;
    assert_eq!(again(&world.stranger(), &order).await["status"], "expired");
    order
}

/// Stripe charges after all, and says so.
pub(super) async fn charged_late(world: &World) {
    let before = world.stripe().events().len();
    world.stripe().release();
    eventually("it is charged", async || {
        world.stripe().events().len() > before
    })
    .await;
    world.stripe().deliver_webhooks(Bring::AsMade).await;
    world.run_jobs().await;
}

/// All of it, for no ticket.
pub(super) async fn has_gone_back(world: &World, order: &Value) -> Value {
    let order = again(&world.stranger(), order).await;
    assert_eq!(
        (&order["status"], &order["paid"], &order["refunded"]),
        (&json!("refunded"), &json!(9000), &json!(9000))
    );
    assert_eq!(order["tickets"], json!([]));
    order
}

/// What the buyer has been mailed, the latest last.
pub(super) fn mails(world: &World) -> Vec<(String, String)> {
    let mails = world.inbox.messages().into_iter();
    let mails = mails.filter(|mail| mail.to == ["ada@example.org"]);
    mails
        .map(|mail| (mail.subject.clone(), mail.text.clone().unwrap_or_default()))
        .collect()
}

/// The buyer was told that their money came too late, once, and has no mail with tickets.
fn hears_that_it_goes_back(world: &World) {
    let mails = mails(world);
    let subjects = mails.iter().map(|(subject, _)| subject.as_str());
    let mut subjects: Vec<&str> = subjects.collect();
    subjects.sort_unstable();
    let expected = [
        "Your payment for Rope Basics goes back",
        "Your refund for Rope Basics",
    ];
    assert_eq!(subjects, expected);
    for (subject, words) in &mails {
        assert!(words.contains("90.00 EUR"), "{subject}: {words}");
        let late = words.contains("came too late");
        assert_eq!(late, subject.starts_with("Your payment"), "{words}");
    }
}

/// The buyer has the mail with their tickets, once, and was told nothing else.
pub(super) fn hears_that_it_is_paid(world: &World, order: &Value) {
    let mails = mails(world);
    let [(subject, words)] = &mails[..] else {
        panic!("one mail: {mails:?}");
    };
    assert_eq!(subject, "Your tickets for Rope Basics");
    for ticket in order["tickets"].as_array().expect("tickets") {
        let code = ticket["code"].as_str().expect("a code");
        assert!(words.contains(code), "{code} is missing: {words}");
    }
}

#[tokio::test]
async fn money_comes_late_and_the_places_are_still_there() {
    world_with(&HASTY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let order = expired_too_early(world, &event).await;
        assert_eq!(left(world, &event).await, 10);
        charged_late(world).await;
        is_paid_once(world, &order, 2).await;
        hears_that_it_is_paid(world, &again(&world.stranger(), &order).await);
        assert_eq!(left(world, &event).await, 8);
    })
    .await;
}

#[tokio::test]
async fn money_comes_late_and_the_event_is_cancelled() {
    world_with(&HASTY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let order = expired_too_early(world, &event).await;
        cancel_event(&organizer, &event).await;
        world.run_jobs().await;
        charged_late(world).await;
        world.stripe().deliver_webhooks(Bring::AsMade).await;
        world.run_jobs().await;
        has_gone_back(world, &order).await;
        hears_that_it_goes_back(world);
    })
    .await;
}

/// Why the order is over does not change with the money that comes for it.
#[tokio::test]
async fn money_comes_late_for_an_order_that_was_called_off_with_its_event() {
    world_with(&HASTY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let stripe = world.stripe();
        stripe.misbehave("payment_intents.create", Fault::HoldBefore, 1);
        let new = card_order(&event, 2, "pm_card_visa");
        let order = bought(world, &world.stranger(), &new).await;
        cancel_event(&organizer, &event).await;
        world.run_jobs().await;
        let called_off = again(&world.stranger(), &order).await;
        assert_eq!(called_off["status"], "cancelled", "{called_off}");
        charged_late(world).await;
        world.stripe().deliver_webhooks(Bring::AsMade).await;
        world.run_jobs().await;
        let order = has_gone_back(world, &order).await;
        assert_eq!(order["reason"], "event_cancelled");
        let mails = mails(world);
        let subjects = mails.iter().map(|(subject, _)| subject.as_str());
        let mut subjects: Vec<&str> = subjects.collect();
        subjects.sort_unstable();
        let expected = [
            "Rope Basics is cancelled",
            "Your payment for Rope Basics goes back",
            "Your refund for Rope Basics",
        ];
        assert_eq!(subjects, expected);
    })
    .await;
}

#[tokio::test]
async fn money_comes_late_and_the_places_are_gone() {
    world_with(&HASTY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 3).await;
        let order = expired_too_early(world, &event).await;
        let other = free_other(world, &event).await;
        charged_late(world).await;
        world.stripe().deliver_webhooks(Bring::Reversed).await;
        world.run_jobs().await;
        let order = has_gone_back(world, &order).await;
        hears_that_it_goes_back(world);
        let refunds = place_of_refunds(&order);
        let refunds = world.stranger().get(&refunds).await.expect(200);
        assert_eq!(refunds.as_array().expect("refunds").len(), 1);
        assert_eq!(again(&world.stranger(), &other).await["status"], "paid");
    })
    .await;
}

/// What was given back once is not held again because somebody tells of it again.
#[tokio::test]
async fn money_that_was_seen_to_keeps_no_places_when_it_is_told_again() {
    world_with(&HASTY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 3).await;
        let order = expired_too_early(world, &event).await;
        let other = free_other(world, &event).await;
        world
            .stripe()
            .misbehave("refunds.create", Fault::CutBefore, 1);
        charged_late(world).await;
        let paid_late = again(&world.stranger(), &order).await;
        assert_eq!(
            paid_late["status"], "expired",
            "its money is still on its way"
        );
        let cancel = place_of(&other).replace('?', "/cancel?");
        world.stranger().put(&cancel, &json!({})).await.expect(200);
        // Stripe tells of one payment by several events.
        let payments: Vec<(String, uuid::Uuid)> =
            sqlx::query_as("select reference, order_id from ledger where kind = 'payment'")
                .fetch_all(world.app.pool())
                .await
                .expect("payments");
        for (reference, order_id) in payments {
            let outcome = orders::Outcome::Paid(orders::Received {
                provider: orders::Provider::Stripe,
                reference,
                amount: 9000,
                note: None,
                claim: None,
            });
            let order_id = shared::ids::OrderId(order_id);
            let settled = orders::pay::end(&world.app, order_id, outcome).await;
            settled.expect("it was seen to");
        }
        assert_eq!(left(world, &event).await, 3);
        world.stripe().drop_webhooks();
        world.pass(TimeDelta::hours(1));
        world.run_jobs().await;
        assert_eq!(again(&world.stranger(), &order).await["status"], "refunded");
    })
    .await;
}

/// Somebody else takes two of three places.
async fn free_other(world: &World, event: &Value) -> Value {
    let mut new = card_order(event, 2, "pm_card_mastercard");
    new["email"] = json!("grace@example.org");
    bought(world, &world.stranger(), &new).await
}

fn place_of_refunds(order: &Value) -> String {
    place_of(order).replace('?', "/refunds?")
}
