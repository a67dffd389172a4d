//! Refunds that are made at Stripe, heard by other events and in another order than they came about.

use sandbox::stripe::{Order as Bring, WebhookFault};
use tests::{World, world};

use super::*;

/// An order whose buyer has paid in the browser, and what Stripe calls the payment. Nothing was told of it yet.
async fn paid_and_untold(world: &World, event: &Value) -> (Value, String) {
    let mut new = card_order(event, 1, "");
    new["payment"] = json!({"method": "client"});
    let order = bought(world, &world.stranger(), &new).await;
    let secret = order["client_secret"].as_str().expect("a secret");
    let payment = secret.split("_secret").next().expect("a payment");
    let confirmed = world.stripe().confirm(payment, "pm_card_visa");
    confirmed.expect("confirmed");
    (order.clone(), payment.to_owned())
}

/// Gives money back as somebody does in the pages of Stripe.
async fn made_at_stripe(world: &World, payment: &str, amount_minor: i64) {
    let new = stripe_api::NewRefund {
        payment: payment.to_owned(),
        amount_minor,
        ..stripe_api::NewRefund::default()
    };
    let key = format!("{payment}-{amount_minor}");
    let made = world.app.stripe.refund(&new, &key);
    made.await.expect("given back");
}

/// What is listed of an order's refunds: how much, why, and how far.
async fn refunds_of(world: &World, order: &Value) -> Vec<(i64, String, String)> {
    let place = place_of(order).replace('?', "/refunds?");
    let listed = world.stranger().get(&place).await.expect(200);
    let text = |refund: &Value, name: &str| refund[name].as_str().expect("text").to_owned();
    let listed = listed.as_array().expect("refunds").iter().map(|refund| {
        let amount = refund["amount"].as_i64().expect("an amount");
        (amount, text(refund, "reason"), text(refund, "status"))
    });
    listed.collect()
}

fn taken_up(amount: i64) -> (i64, String, String) {
    (amount, "made_at_stripe".to_owned(), "succeeded".to_owned())
}

#[tokio::test]
async fn a_refund_heard_before_its_payment_is_taken_up_once() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let (order, payment) = paid_and_untold(world, &event).await;
        made_at_stripe(world, &payment, 1_200).await;
        // Of the payment itself nothing is ever told.
        world
            .stripe()
            .misdeliver("payment_intent.", WebhookFault::Never, 10);
        world.stripe().deliver_webhooks(Bring::AsMade).await;
        world.run_jobs().await;
        assert_eq!(refunds_of(world, &order).await, [taken_up(1_200)]);
        let order = again(&world.stranger(), &order).await;
        assert_eq!(
            (&order["status"], &order["paid"], &order["refunded"]),
            (&json!("partially_refunded"), &json!(4_500), &json!(1_200))
        );

        // Now everything is told, the latest first, and once more.
        world.stripe().recover();
        for bring in [Bring::Reversed, Bring::AsMade] {
            for known in world.stripe().events() {
                world.stripe().resend(known["id"].as_str().expect("an id"));
            }
            world.stripe().deliver_webhooks(bring).await;
            world.run_jobs().await;
        }
        assert_eq!(refunds_of(world, &order).await, [taken_up(1_200)]);
    })
    .await;
}

/// Stripe tells of a refund by two events; one of them is enough.
#[tokio::test]
async fn a_refund_is_heard_by_what_is_told_of_its_charge() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let (order, payment) = paid_and_untold(world, &event).await;
        world.stripe().deliver_webhooks(Bring::AsMade).await;
        world.run_jobs().await;
        world
            .stripe()
            .misdeliver("refund.", WebhookFault::Never, 10);
        for amount in [1_000, 2_000] {
            made_at_stripe(world, &payment, amount).await;
        }
        world.stripe().deliver_webhooks(Bring::Reversed).await;
        world.run_jobs().await;
        let mut refunds = refunds_of(world, &order).await;
        refunds.sort_unstable();
        assert_eq!(refunds, [taken_up(1_000), taken_up(2_000)]);
        let order = again(&world.stranger(), &order).await;
        assert_eq!(order["refunded"], 3_000);
        world.stripe().recover();
    })
    .await;
}

#[tokio::test]
async fn what_is_told_of_a_payment_of_another_shop_is_nothing_to_us() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        event_of(&organizer, 10).await;
        let ours = "00000000-0000-7000-8000-00000000000f";
        for order_id in [None, Some(ours), Some("no-order-of-ours")] {
            let metadata = order_id.map(|id| ("order_id".to_owned(), id.to_owned()));
            let new = stripe_api::NewPayment {
                amount_minor: 777,
                currency: "eur".to_owned(),
                method: Some("pm_card_visa".to_owned()),
                confirm: true,
                metadata: metadata.into_iter().collect(),
                ..stripe_api::NewPayment::default()
            };
            let key = format!("{order_id:?}");
            let other = world.app.stripe.create_payment(&new, &key).await;
            let other = other.expect("paid");
            made_at_stripe(world, &other.id, 77).await;
            world.stripe().open_dispute(&other.id).expect("disputed");
        }
        world.stripe().deliver_webhooks(Bring::Shuffled(3)).await;
        world.run_jobs().await;
        let kept = "select (select count(*) from refunds) + (select count(*) from ledger)
                           + (select count(*) from disputes)";
        let kept: i64 = sqlx::query_scalar(kept)
            .fetch_one(world.app.pool())
            .await
            .expect("a number");
        assert_eq!(kept, 0);
    })
    .await;
}
