//! A payment whose bank wants parts of it back, one after the other.

use sandbox::stripe::Order as Bring;
use tests::{World, world};

use super::*;

/// An order of 90 euros, and what Stripe calls its payment.
async fn sold(world: &World) -> (Value, String) {
    let organizer = world.organizer("lighthouse").await.organizer;
    let event = event_of(&organizer, 5).await;
    let guest = world.stranger();
    let order = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
    let payment = sqlx::query_scalar("select reference from ledger where kind = 'payment'")
        .fetch_one(world.app.pool())
        .await
        .expect("paid");
    (order, payment)
}

async fn disputed(world: &World, order: &Value) -> bool {
    world.stripe().deliver_webhooks(Bring::AsMade).await;
    world.run_jobs().await;
    let order = again(&world.stranger(), order).await;
    order["disputed"].as_bool().expect("yes or no")
}

async fn refused_to_buyer(world: &World, order: &Value) {
    let cancel = place_of(order).replace('?', "/cancel?");
    let cancelled = world.stranger().put(&cancel, &json!({})).await;
    cancelled.refused(409, "ORDER_NOT_MODIFIABLE");
}

#[tokio::test]
async fn a_dispute_that_is_won_does_not_end_another() {
    world(async |world| {
        let (order, payment) = sold(world).await;
        let stripe = world.stripe();
        let first = stripe.open_dispute_of(&payment, 4_500).expect("open");
        let second = stripe.open_dispute_of(&payment, 4_500).expect("open");
        assert!(disputed(world, &order).await);
        stripe.close_dispute(&second, true).expect("won");
        assert!(disputed(world, &order).await, "the first is open");
        refused_to_buyer(world, &order).await;
        stripe.close_dispute(&first, true).expect("won");
        assert!(!disputed(world, &order).await);
        let cancel = place_of(&order).replace('?', "/cancel?");
        let guest = world.stranger();
        assert_eq!(
            guest.put(&cancel, &json!({})).await.expect(200)["refunded"],
            9_000
        );
        world.run_jobs().await;
    })
    .await;
}

#[tokio::test]
async fn an_order_stays_disputed_whose_lost_dispute_was_not_heard_of_last() {
    world(async |world| {
        let (order, payment) = sold(world).await;
        let stripe = world.stripe();
        let lost = stripe.open_dispute_of(&payment, 4_500).expect("open");
        let won = stripe.open_dispute_of(&payment, 4_500).expect("open");
        stripe.close_dispute(&lost, false).expect("lost");
        assert!(disputed(world, &order).await);
        stripe.close_dispute(&won, true).expect("won");
        assert!(
            disputed(world, &order).await,
            "the bank gave the buyer a part"
        );
        for bring in [Bring::Reversed, Bring::Shuffled(5), Bring::AsMade] {
            for known in stripe.events() {
                stripe.resend(known["id"].as_str().expect("an id"));
            }
            stripe.deliver_webhooks(bring).await;
            assert!(disputed(world, &order).await, "{bring:?}");
        }
        refused_to_buyer(world, &order).await;
    })
    .await;
}
