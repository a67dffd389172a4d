//! Orders that end without money: what closes their payment, and what is found afterwards.

use chrono::TimeDelta;
use sandbox::stripe::{Fault, Order as Bring};
use shared::orders::jobs::Chase;
use tests::{world, world_with};

use super::failures::late::HASTY;
use super::*;

async fn told(world: &World) {
    world.stripe().deliver_webhooks(Bring::AsMade).await;
    world.run_jobs().await;
}

/// What comes back each minute, and all that follows from it.
async fn chase(world: &World) {
    let enqueued = world.change(async |tx| {
        tx.enqueue(&Chase {});
        Ok(())
    });
    enqueued.await;
    world.run_jobs().await;
}

async fn status(world: &World, order: &Value) -> String {
    let order = again(&world.stranger(), order).await;
    order["status"].as_str().expect("a status").to_owned()
}

/// An order that waits for its buyer at a checkout, and the checkout.
async fn at_checkout(world: &World, event: &Value) -> (Value, String) {
    let mut new = card_order(event, 2, "");
    new["payment"] = json!({"method": "checkout"});
    let order = bought(world, &world.stranger(), &new).await;
    let checkout: Option<String> =
        sqlx::query_scalar("select checkout_id from payment_attempts where order_id = $1::uuid")
            .bind(order["id"].as_str())
            .fetch_one(world.app.pool())
            .await
            .expect("a try");
    (order, checkout.expect("a checkout"))
}

async fn cancel(world: &World, order: &Value) -> Answer {
    let cancel = place_of(order).replace('?', "/cancel?");
    world.stranger().put(&cancel, &json!({})).await
}

/// The buyer tries a card on the page that is declined, and Stripe tells of it.
async fn declined(world: &World, checkout: &str) {
    let paid = world
        .stripe()
        .pay_checkout(checkout, "pm_card_chargeDeclined");
    paid.expect_err("the bank does not pay");
    told(world).await;
}

#[tokio::test]
async fn a_checkout_with_a_declined_card_closes_when_its_time_is_over_or_somebody_cancels() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let (event, off) = (event_of(&organizer, 6).await, event_of(&organizer, 2).await);
        let (late, late_page) = at_checkout(world, &event).await;
        let (called_off, called_off_page) = at_checkout(world, &event).await;
        let (stopped, stopped_page) = at_checkout(world, &off).await;
        for page in [&late_page, &called_off_page, &stopped_page] {
            declined(world, page).await;
        }
        assert_eq!(
            cancel(world, &called_off).await.expect(200)["status"],
            "cancelled"
        );
        cancel_event(&organizer, &off).await;
        world.run_jobs().await;
        assert_eq!(status(world, &stopped).await, "cancelled");
        world.pass(TimeDelta::minutes(33));
        chase(world).await;
        assert_eq!(status(world, &late).await, "expired");
        for page in [&late_page, &called_off_page, &stopped_page] {
            let paid = world.stripe().pay_checkout(page, "pm_card_visa");
            paid.expect_err("nobody can pay it any more");
        }
        told(world).await;
        assert_eq!(left(world, &event).await, 6);
    })
    .await;
}

#[tokio::test]
async fn a_bank_debit_that_is_under_way_is_waited_for_beyond_the_deadline() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 6).await;
        let (arrives, page) = at_checkout(world, &event).await;
        let (fails, other_page) = at_checkout(world, &event).await;
        for page in [&page, &other_page] {
            world
                .stripe()
                .pay_checkout(page, "pm_usBankAccount")
                .expect("it is on its way");
        }
        told(world).await;
        world.pass(TimeDelta::hours(30));
        chase(world).await;
        for order in [&arrives, &fails] {
            assert_eq!(status(world, order).await, "requires_action");
            cancel(world, order)
                .await
                .refused(409, "ORDER_NOT_MODIFIABLE");
        }
        assert_eq!(left(world, &event).await, 2, "the places are kept");
        for (order, came) in [(&arrives, true), (&fails, false)] {
            let payments = world
                .stripe()
                .payments_with("order_id", order["id"].as_str().expect("an id"));
            world
                .stripe()
                .end_slow_payment(&payments[0].id, came)
                .expect("the bank says");
        }
        told(world).await;
        assert_eq!(status(world, &arrives).await, "paid");
        assert_eq!(status(world, &fails).await, "failed");
        assert_eq!(left(world, &event).await, 4);
    })
    .await;
}

/// A cancelled event gives a bank debit back that arrives after it.
#[tokio::test]
async fn a_bank_debit_for_a_cancelled_event_goes_back_when_it_arrives() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 6).await;
        let (order, page) = at_checkout(world, &event).await;
        world
            .stripe()
            .pay_checkout(&page, "pm_usBankAccount")
            .expect("it is on its way");
        told(world).await;
        cancel_event(&organizer, &event).await;
        world.run_jobs().await;
        assert_eq!(status(world, &order).await, "requires_action");
        let payments = world
            .stripe()
            .payments_with("order_id", order["id"].as_str().expect("an id"));
        world
            .stripe()
            .end_slow_payment(&payments[0].id, true)
            .expect("it arrives");
        told(world).await;
        told(world).await;
        assert_eq!(status(world, &order).await, "refunded");
        assert_eq!(world.stripe().payments()[0].refunded, 9_000);
    })
    .await;
}

#[tokio::test]
async fn an_order_whose_payment_stripe_does_not_know_any_more_expires() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 6).await;
        let (at_page, page) = at_checkout(world, &event).await;
        declined(world, &page).await;
        let mut new = card_order(&event, 2, "");
        new["payment"] = json!({"method": "client"});
        let in_browser = bought(world, &world.stranger(), &new).await;
        for payment in world.stripe().payments() {
            world.stripe().forget_payment(&payment.id);
        }
        world.stripe().drop_webhooks();
        // As long as it can be paid it is not known to be lost.
        world.pass(TimeDelta::minutes(20));
        chase(world).await;
        assert_eq!(status(world, &in_browser).await, "requires_action");
        world.pass(TimeDelta::minutes(13));
        chase(world).await;
        for order in [&at_page, &in_browser] {
            assert_eq!(status(world, order).await, "expired");
        }
        assert_eq!(left(world, &event).await, 6);
    })
    .await;
}

/// Stripe keeps an answer of its own under the key of a call for a day, a failure too.
#[tokio::test]
async fn closing_is_tried_anew_after_a_failure_that_stripe_keeps() {
    world_with(&HASTY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 6).await;
        let (at_page, _) = at_checkout(world, &event).await;
        let mut new = card_order(&event, 2, "");
        new["payment"] = json!({"method": "client"});
        let in_browser = bought(world, &world.stranger(), &new).await;
        for call in ["checkout.sessions.expire", "payment_intents.cancel"] {
            world.stripe().misbehave(call, Fault::ErrorKept, 1);
        }
        for minutes in [33, 2, 2] {
            world.pass(TimeDelta::minutes(minutes));
            chase(world).await;
        }
        for order in [&at_page, &in_browser] {
            assert_eq!(status(world, order).await, "expired");
        }
    })
    .await;
}

/// The worker that asked Stripe for the money is gone, its order was cancelled meanwhile, Stripe charges after all, and its word
/// of that is lost.
#[tokio::test]
async fn money_that_lands_after_the_end_and_is_never_told_of_goes_back() {
    world_with(&HASTY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 6).await;
        for (waits, rounds) in [(TimeDelta::minutes(6), 1), (TimeDelta::hours(26), 3)] {
            world
                .stripe()
                .misbehave("payment_intents.create", Fault::HoldBefore, 1);
            let new = card_order(&event, 2, "pm_card_visa");
            let order = bought(world, &world.stranger(), &new).await;
            assert_eq!(
                cancel(world, &order).await.expect(200)["status"],
                "cancelled"
            );
            if rounds > 1 {
                for pause in [TimeDelta::minutes(6), TimeDelta::hours(1)] {
                    world.pass(pause);
                    chase(world).await;
                }
            }
            assert_eq!(status(world, &order).await, "cancelled");
            let before = world.stripe().payments().len();
            world.stripe().release();
            crate::stock::servers::eventually("it is charged", async || {
                world.stripe().payments().len() > before
                    && world
                        .stripe()
                        .payments()
                        .last()
                        .is_some_and(|it| it.charges == 1)
            })
            .await;
            world.stripe().drop_webhooks();
            world.pass(waits);
            chase(world).await;
            world.pass(TimeDelta::minutes(2));
            chase(world).await;
            assert_eq!(status(world, &order).await, "refunded", "after {waits}");
        }
        // It is not asked for ever.
        world.pass(TimeDelta::hours(26));
        chase(world).await;
        let open: i64 = sqlx::query_scalar(
            "select count(*) from payment_attempts where ask_again_at is not null",
        )
        .fetch_one(world.app.pool())
        .await
        .expect("a number");
        assert_eq!(open, 0);
    })
    .await;
}
