//! Asking after orders and refunds each minute, for as long as Stripe does not answer.

use chrono::TimeDelta;
use shared::orders::jobs::Chase;
use shared::orders::refunds;
use tests::{World, world, world_with};

use super::*;

const HASTY: [(&str, &str); 2] = [
    ("HOLDFAST_STRIPE_TIMEOUT", "300ms"),
    ("HOLDFAST_STRIPE_ATTEMPTS", "1"),
];

/// An order that its buyer is to pay in the browser.
async fn waiting(world: &World, event: &Value) -> Value {
    let mut new = card_order(event, 1, "");
    new["payment"] = json!({"method": "client"});
    let order = bought(world, &world.stranger(), &new).await;
    assert_eq!(order["status"], "requires_action");
    order
}

/// A minute later, all that comes back each minute is done.
async fn minute(world: &World) {
    world.pass(TimeDelta::minutes(1));
    world
        .change(async |tx| {
            tx.enqueue(&Chase {});
            Ok(())
        })
        .await;
    world.run_jobs().await;
}

/// How many jobs wait for each order and refund, by the kind of job.
async fn jobs_of_each(world: &World) -> Vec<(String, i64)> {
    let jobs = "select payload ->> 'kind', count(*)
                from apalis.jobs cross join lateral (select convert_from(job, 'UTF8')::jsonb as payload) as read
                where status not in ('Done', 'Killed') group by payload ->> 'kind', payload -> 'args' order by 1";
    let jobs = sqlx::query_as(jobs).fetch_all(world.app.pool()).await;
    jobs.expect("jobs")
}

#[tokio::test]
async fn an_hour_without_stripe_leaves_one_job_for_each_order_and_refund() {
    world_with(&HASTY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        let paid = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        let orders = [waiting(world, &event).await, waiting(world, &event).await];
        world.stripe().go_down().await.expect("it is down");
        let refunds = format!("/orders/{}/refunds", paid["id"].as_str().expect("an id"));
        let some = json!({"amount": 1500, "reason": "Rain"});
        organizer.post(&refunds, &some).await.expect(201);
        for _ in 0..60 {
            minute(world).await;
        }
        let (ask, pay_back) = (
            ("orders.ask".to_owned(), 1),
            ("orders.pay_back".to_owned(), 1),
        );
        assert_eq!(jobs_of_each(world).await, [ask.clone(), ask, pay_back]);

        world.stripe().come_back().expect("it is back");
        minute(world).await;
        assert_eq!(jobs_of_each(world).await, []);
        for order in &orders {
            assert_eq!(again(&guest, order).await["status"], "expired");
        }
        assert_eq!(
            organizer.get(&refunds).await.expect(200)[0]["status"],
            "succeeded"
        );
        // What was asked after once is asked after again.
        let open = waiting(world, &event).await;
        for _ in 0..2 {
            let asked = world.stripe().requests("payment_intents.retrieve");
            minute(world).await;
            assert!(world.stripe().requests("payment_intents.retrieve") > asked);
        }
        assert_eq!(again(&guest, &open).await["status"], "requires_action");
    })
    .await;
}

#[tokio::test]
async fn each_open_refund_has_its_turn_however_many_there_are() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        world.stripe().keep_refunds_pending(true);
        let order = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        let place = format!("/orders/{}/refunds", order["id"].as_str().expect("an id"));
        for amount in 1..=5 {
            let some = json!({"amount": amount, "reason": "Rain"});
            organizer.post(&place, &some).await.expect(201);
        }
        world.run_jobs().await;
        let mut turns = Vec::new();
        for _ in 0..3 {
            world.pass(TimeDelta::minutes(1));
            let before = world.app.clock.now();
            let turn = world
                .change(async |tx| refunds::to_ask(tx, before, 2).await)
                .await;
            assert_eq!(turn.len(), 2);
            turns.extend(turn.into_iter().map(|id| id.0));
        }
        turns.sort_unstable();
        turns.dedup();
        assert_eq!(turns.len(), 5, "two of five at a time, in three turns");
        world.stripe().keep_refunds_pending(false);
    })
    .await;
}
