//! Money that goes back, and money that is paid by hand.

use chrono::TimeDelta;
use futures_util::future::join_all;
use sandbox::stripe::{Fault, Order as Bring};
use tests::{world, world_with};

use super::*;

fn refunds_of(order: &Value) -> String {
    format!("/orders/{}/refunds", order["id"].as_str().expect("an id"))
}

#[tokio::test]
async fn refunds_at_once_never_pass_what_was_paid() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        let some = json!({"amount": 2500, "reason": "Rain"});
        let place = refunds_of(&order);
        let answers = join_all((0..8).map(|_| organizer.post(&place, &some))).await;
        let (given, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.status == 201);
        assert_eq!(given.len(), 3, "three times 25 are less than 90");
        for refused in refused {
            refused.refused(422, "REFUND_EXCEEDS_PAYMENT");
        }
        world.run_jobs().await;
        let order = again(&guest, &order).await;
        assert_eq!(
            (&order["status"], &order["refunded"]),
            (&json!("partially_refunded"), &json!(7500))
        );
        assert_eq!(left(world, &event).await, 8, "the tickets are still good");

        // What is left, and the tickets with it.
        let rest = json!({"reason": "All of it"});
        organizer.post(&place, &rest).await.expect(201);
        world.run_jobs().await;
        let order = again(&guest, &order).await;
        assert_eq!(
            (&order["status"], &order["refunded"]),
            (&json!("refunded"), &json!(9000))
        );
        assert_eq!(left(world, &event).await, 10);
        organizer
            .post(&place, &rest)
            .await
            .refused(409, "ORDER_NOT_MODIFIABLE");
    })
    .await;
}

#[tokio::test]
async fn a_refund_that_the_bank_sends_back_is_owed_again() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        let some = json!({"amount": 1500, "reason": "Rain"});
        organizer.post(&refunds_of(&order), &some).await.expect(201);
        world.run_jobs().await;
        assert_eq!(again(&guest, &order).await["refunded"], 1500);
        let refund: String = sqlx::query_scalar("select provider_id from refunds")
            .fetch_one(world.app.pool())
            .await
            .expect("it is known");
        let failed = sandbox::stripe::RefundStatus::Failed;
        world
            .stripe()
            .end_refund(&refund, failed)
            .expect("it fails");
        world.stripe().deliver_webhooks(Bring::Reversed).await;
        world.run_jobs().await;
        assert_eq!(again(&guest, &order).await["refunded"], 0);
        let day = world.app.clock.now().date_naive();
        let report = shared::orders::audit::audit(&world.app, day)
            .await
            .expect("Stripe answers");
        assert_eq!(report.differences, vec![]);
    })
    .await;
}

/// What Stripe remembers under a key is gone after a day, and may be its own failure.
#[tokio::test]
async fn a_refund_whose_answer_was_never_heard_is_made_once() {
    world_with(&[("HOLDFAST_STRIPE_ATTEMPTS", "1")], async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        for (fault, later) in [
            (Fault::CutAfter, TimeDelta::hours(25)),
            (Fault::ErrorKept, TimeDelta::minutes(2)),
        ] {
            let order = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
            world.stripe().misbehave("refunds.create", fault, 1);
            let some = json!({"amount": 1500, "reason": "Rain"});
            organizer.post(&refunds_of(&order), &some).await.expect(201);
            world.run_jobs().await;
            let listed = organizer.get(&refunds_of(&order)).await.expect(200);
            assert_eq!(listed[0]["status"], "requested", "{fault:?}");
            world.pass(later);
            world.run_jobs().await;
            let listed = organizer.get(&refunds_of(&order)).await.expect(200);
            assert_eq!(listed[0]["status"], "succeeded", "{fault:?}");
            let day = (world.app.clock.now() - later).date_naive();
            let report = shared::orders::audit::audit(&world.app, day).await;
            assert_eq!(report.expect("Stripe answers").differences, vec![]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_refund_made_at_stripe_itself_is_taken_up() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        let payment: String = sqlx::query_scalar("select reference from ledger")
            .fetch_one(world.app.pool())
            .await
            .expect("paid");
        let new = stripe_api::NewRefund {
            payment,
            amount_minor: 1_200,
            metadata: std::iter::empty().collect(),
        };
        world
            .app
            .stripe
            .refund(&new, "by-hand")
            .await
            .expect("given back");
        for _ in 0..2 {
            for known in world.stripe().events() {
                world.stripe().resend(known["id"].as_str().expect("an id"));
            }
            world.stripe().deliver_webhooks(Bring::Shuffled(3)).await;
            world.run_jobs().await;
        }
        let order = again(&guest, &order).await;
        assert_eq!(
            (&order["status"], &order["refunded"]),
            (&json!("partially_refunded"), &json!(1200))
        );
        let listed = guest
            .get(&place_of(&order).replace('?', "/refunds?"))
            .await
            .expect(200);
        assert_eq!(listed[0]["reason"], "made_at_stripe");
    })
    .await;
}

#[tokio::test]
async fn an_order_is_paid_by_hand_once_even_late() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 4).await;
        let guest = world.stranger();
        let mut new = card_order(&event, 2, "");
        new["payment"] = json!({"method": "manual"});
        let order = bought(world, &guest, &new).await;
        assert_eq!(order["status"], "pending");
        let place = format!("/orders/{}/payments", order["id"].as_str().expect("an id"));
        let paid = json!({"reference": "Bank statement 7"});
        for answer in join_all((0..4).map(|_| organizer.post(&place, &paid))).await {
            assert_eq!(answer.expect(201)["paid"], 9000);
        }
        world.run_jobs().await;
        assert_eq!(
            again(&guest, &order).await["tickets"]
                .as_array()
                .expect("tickets")
                .len(),
            2
        );

        let late = bought(world, &guest, &new).await;
        world.pass(TimeDelta::days(8));
        world
            .change(async |tx| {
                tx.enqueue(&shared::orders::jobs::Chase {});
                Ok(())
            })
            .await;
        world.run_jobs().await;
        assert_eq!(again(&guest, &late).await["status"], "expired");
        assert_eq!(left(world, &event).await, 2);
        let place = format!("/orders/{}/payments", late["id"].as_str().expect("an id"));
        organizer.post(&place, &json!({})).await.expect(201);
        world.run_jobs().await;
        assert_eq!(again(&guest, &late).await["status"], "paid");
        assert_eq!(left(world, &event).await, 0);
    })
    .await;
}

#[tokio::test]
async fn places_come_back_with_the_commit_and_the_next_buys_them() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 2).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        let next = card_order(&event, 2, "pm_card_mastercard");
        guest
            .post("/orders", &next)
            .await
            .refused(409, "INSUFFICIENT_CAPACITY");
        let cancel = place_of(&order).replace('?', "/cancel?");
        let cancelled = guest.put(&cancel, &json!({})).await.expect(200);
        assert_eq!(
            (&cancelled["status"], &cancelled["refunded"]),
            (&json!("cancelled"), &json!(9000))
        );
        let next = bought(world, &guest, &next).await;
        assert_eq!(next["status"], "paid");
        assert_eq!(again(&guest, &order).await["status"], "refunded");
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_event_gives_everything_back() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 20).await;
        let guest = world.stranger();
        let mut orders = Vec::new();
        for _ in 0..3 {
            orders.push(bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await);
        }
        let mut waiting = card_order(&event, 1, "");
        waiting["payment"] = json!({"method": "client"});
        let waiting = bought(world, &guest, &waiting).await;
        let place = format!("/events/{}", event["id"].as_str().expect("an id"));
        cancel_event(&organizer, &event).await;
        world
            .stripe()
            .misbehave("refunds.create", Fault::CutBefore, 3);
        let progress = async || {
            let progress = organizer.get(&format!("{place}/cancellation")).await;
            let progress = progress.expect(200);
            let told = [
                "orders_standing",
                "refunds_open",
                "refunds_succeeded",
                "amount_refunded",
            ];
            let numbers = told.map(|name| progress[name].as_i64().expect("a number"));
            (numbers, progress["done"].as_bool().expect("done"))
        };
        assert_eq!(progress().await, ([4, 0, 0, 0], false));
        world.run_jobs().await;
        world.pass(TimeDelta::hours(1));
        world.run_jobs().await;
        assert_eq!(progress().await, ([0, 0, 3, 27_000], true));
        for order in &orders {
            let order = again(&guest, order).await;
            assert_eq!(
                (&order["status"], &order["refunded"]),
                (&json!("refunded"), &json!(9000))
            );
        }
        assert_eq!(again(&guest, &waiting).await["status"], "cancelled");
    })
    .await;
}

#[tokio::test]
async fn nobody_is_charged_for_an_event_that_was_cancelled_meanwhile() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let (event, free) = (
            event_of(&organizer, 10).await,
            free_event_of(&organizer, 10).await,
        );
        let guest = world.stranger();
        let mut orders = Vec::new();
        for new in [card_order(&event, 2, "pm_card_visa"), free_order(&free, 1)] {
            orders.push(guest.post("/orders", &new).await.expect(202));
        }
        cancel_event(&organizer, &event).await;
        cancel_event(&organizer, &free).await;
        // The orders themselves are seen to before the jobs that undo whatever was sold.
        world.run_jobs().await;
        for order in &orders {
            let order = again(&guest, order).await;
            assert_eq!(
                (&order["status"], &order["reason"], &order["tickets"]),
                (&json!("cancelled"), &json!("event_cancelled"), &json!([]))
            );
        }
        assert_eq!(world.stripe().payments().len(), 0);
        let told = world.inbox.messages();
        let told = told.iter().filter(|mail| mail.subject.contains("ancel"));
        assert_eq!(told.count(), 2, "{:?}", world.inbox.messages());
    })
    .await;
}

/// Or an order that is called off by hand would be told of as if its event were cancelled.
#[tokio::test]
async fn what_people_say_is_not_taken_for_what_we_say() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let order = bought(
            world,
            &world.stranger(),
            &card_order(&event, 1, "pm_card_visa"),
        )
        .await;
        let ours = json!({"reason": "event_cancelled"});
        let place = format!("/orders/{}", order["id"].as_str().expect("an id"));
        let cancel = organizer.put(&format!("{place}/cancel"), &ours).await;
        assert_eq!(cancel.bad_fields(), ["reason"]);
        let refund = organizer.post(&format!("{place}/refunds"), &ours).await;
        assert_eq!(refund.bad_fields(), ["reason"]);
        assert_eq!(again(&world.stranger(), &order).await["status"], "paid");
    })
    .await;
}
