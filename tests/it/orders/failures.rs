//! What can go wrong on the way from a hold to a ticket, each with the fault really made. Every test ends with the
//! books of its world being balanced.
//!
//! | fault | here, or where |
//! |---|---|
//! | two buyers, last place | [`two_buyers_want_the_last_place`] |
//! | API dies after the hold, before answering | `holds::faults::what_a_killed_process_held_and_never_said_lapses` |
//! | client retries the order (same key / same hold) | [`an_order_is_sent_again_and_again_and_is_one`] |
//! | one key, two addresses and two processes | `same_key::one_key_from_two_addresses_and_two_processes_is_one_order` |
//! | one of two requests with a key is refused | `same_key::a_refused_request_leaves_the_hold_to_another_with_its_key` |
//! | client retries, and the first attempt is paid meanwhile | [`a_repeated_request_keeps_no_places_for_nobody`] |
//! | Postgres goes in the moment of the commit | [`an_order_that_nobody_heard_was_written_is_an_order`] |
//! | API dies between insert and commit | [`the_api_dies_between_insert_and_commit`] |
//! | worker is killed before, during, after the call | `killed::a_worker_is_killed_…` |
//! | Stripe times out but charged | `stripe::stripe_does_not_answer_and_has_charged` |
//! | Stripe hangs | `stripe::stripe_hangs_and_free_tickets_are_given_out` |
//! | Stripe is down for an hour | `stripe::stripe_is_down_for_an_hour`, `stripe::stripe_charges_and_is_down_for_an_hour` |
//! | webhook before the worker's own answer | `stripe::stripe_tells_before_it_answers` |
//! | webhook twice, never, out of order | `stripe::stripe_tells_twice_and_backwards`, `stripe::stripe_never_tells` |
//! | webhook forged, too old | [`what_is_forged_or_stale_leaves_no_trace`] |
//! | payment after expiry, places there / gone | `late::…` |
//! | payment after expiry, a limit removed or given since | `late_pools::…` |
//! | Postgres restarts in the middle | `servers::postgres_restarts_in_the_middle` |
//! | Redis restarts, loses all data, is away | `servers::redis_…`, `stock::faults` |
//! | Redis loses its last second, or has promised too much | `lost_places::…` |
//! | SMTP is down, slow, refuses one address | `mail`, `tickets` |
//! | a job's payload is garbage, a handler panics | `queue` |
//! | two workers, two crons | `queue`, [`two_jobs_of_one_order_charge_once`] |
//! | clock jump, deadline passes during payment | [`the_deadline_passes_during_the_payment`] |

mod killed;
pub(super) mod late;
mod late_pools;
mod lost_places;
mod same_key;
mod servers;
mod stripe;

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::{join, join_all};
use sandbox::stripe::{Fault, Order as Bring, WebhookFault};
use shared::access::Actor;
use shared::activity::By;
use shared::error::Code;
use shared::holds::{Buyer, Wanted};
use shared::ids::{EventId, TicketTypeId};
use shared::orders::jobs::{Chase, ForgetHeard, Purchase};
use shared::orders::{self, NewOrder, PlacedOrder};
use tests::{WEBHOOK_SECRET, world, world_with};

use super::*;
use crate::processes;
use crate::stock::servers::eventually;

const PATIENCE: Duration = Duration::from_secs(10);

fn id_of(order: &Value) -> &str {
    order["id"].as_str().expect("an id")
}

fn charges(world: &World, order: &Value) -> usize {
    world.stripe().charges_of(id_of(order))
}

/// Paid, with these many tickets, charged once.
async fn is_paid_once(world: &World, order: &Value, tickets: usize) {
    let order = again(&world.stranger(), order).await;
    assert_eq!(order["status"], "paid", "{order}");
    assert_eq!(order["tickets"].as_array().expect("tickets").len(), tickets);
    assert_eq!(charges(world, &order), 1);
}

#[tokio::test]
async fn two_buyers_want_the_last_place() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 1).await;
        let new = card_order(&event, 1, "pm_card_visa");
        let (ada, grace) = (world.stranger(), world.stranger());
        let (one, other) = join(ada.post("/orders", &new), grace.post("/orders", &new)).await;
        let (placed, refused) = if one.status == 202 {
            (one, other)
        } else {
            (other, one)
        };
        let details = refused.refused(409, "INSUFFICIENT_CAPACITY");
        assert_eq!(
            (&details["available"], &details["limiting_sessions"]),
            (&json!(0), &json!(["S1"]))
        );
        let order = placed.expect(202);
        world.run_jobs().await;
        is_paid_once(world, &order, 1).await;
    })
    .await;
}

#[tokio::test]
async fn an_order_is_sent_again_and_again_and_is_one() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        let by_key = guest.with("Idempotency-Key", "one-order");
        let new = card_order(&event, 2, "pm_card_visa");
        let mut placed = Vec::new();
        for answer in join_all((0..10).map(|_| by_key.post("/orders", &new))).await {
            match answer.status {
                202 => placed.push(answer.expect(202)["id"].clone()),
                _ => drop(answer.refused(409, "IDEMPOTENCY_IN_FLIGHT")),
            }
        }
        let order = by_key.post("/orders", &new).await.expect(202);
        assert!(placed.iter().all(|id| *id == order["id"]), "{placed:?}");
        assert_eq!(left(world, &event).await, 8);

        let hold = json!({"event_id": event["id"], "items": wanted(&event, 3)});
        let hold = guest.post("/holds", &hold).await.expect(201);
        let new = json!({"hold_token": hold["token"], "email": "ada@example.org",
                         "payment": {"method": "card", "token": "pm_card_visa"}});
        let answers = join_all((0..10).map(|_| guest.post("/orders", &new))).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.status == 202);
        let [won] = <[_; 1]>::try_from(won).expect("one order");
        let second = won.expect(202);
        for answer in lost {
            assert_eq!(
                answer.refused(409, "HOLD_ALREADY_USED")["order_id"],
                second["id"]
            );
        }
        world.run_jobs().await;
        is_paid_once(world, &order, 2).await;
        is_paid_once(world, &second, 3).await;
        assert_eq!(left(world, &event).await, 5);
    })
    .await;
}

/// What a guest's request for two free tickets comes to before it is written, the same each time.
async fn prepared(world: &World, event: &Value) -> PlacedOrder {
    let id = |value: &Value| {
        value
            .as_str()
            .and_then(|id| id.parse().ok())
            .expect("an id")
    };
    let event_id = EventId(id(&event["id"]));
    let new = NewOrder {
        hold_token: None,
        event_id: Some(event_id),
        items: vec![Wanted {
            ticket_type_id: TicketTypeId(id(&event["ticket_types"][0]["id"])),
            quantity: 2,
        }],
        attendees: Vec::new(),
        email: Some("ada@example.org".into()),
        payment: None,
    };
    let buyer = Buyer {
        user_id: None,
        address: "192.0.2.7".into(),
    };
    let details = shared::events::public_details(&world.app, event_id).await;
    let details = details.expect("Postgres").expect("it is public");
    let order = orders::prepare(&world.app, &details, &buyer, false, new, Some([7; 32])).await;
    order.expect("its places")
}

/// As when the first of two equal requests is answered, its order is paid, and only then the second holds its places.
#[tokio::test]
async fn a_repeated_request_keeps_no_places_for_nobody() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = free_event_of(&organizer, 10).await;
        let first = prepared(world, &event).await;
        world
            .change(async |tx| orders::place(&world.app, tx, &first).await)
            .await;
        world.run_jobs().await;
        assert_eq!(left(world, &event).await, 8);

        let second = prepared(world, &event).await;
        assert_eq!(second.id(), first.id());
        assert_eq!(left(world, &event).await, 6, "held again, for nobody");
        second.withdraw(&world.app, None).await;
        assert_eq!(left(world, &event).await, 8);
    })
    .await;
}

/// As when Postgres is gone in the moment of a commit that has come about, and the order is written once more.
#[tokio::test]
async fn an_order_that_nobody_heard_was_written_is_an_order() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = free_event_of(&organizer, 10).await;
        let order = prepared(world, &event).await;
        let place = async |order| {
            let by = By {
                actor: Actor::Stranger,
                cause: None,
            };
            orders::place_together(&world.app, order, by).await
        };
        let written = place(&order).await.expect("an order");
        let again = place(&order).await.expect("the same order");
        assert_eq!(written, again);
        // Somebody else's of the same hold is another one.
        let other = prepared(world, &event).await;
        let refused = place(&other).await.expect_err("there is an order");
        assert_eq!(refused.code(), Code::HoldAlreadyUsed);
        world.run_jobs().await;
        assert_eq!(left(world, &event).await, 8);
    })
    .await;
}

#[tokio::test]
async fn the_api_dies_between_insert_and_commit() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let (mut process, base) = processes::api(world).await;
        // The order is inserted before the line that tells of it, which has to wait.
        let mut lock = world.app.pool().begin().await.expect("a transaction");
        sqlx::query("lock table activities in access exclusive mode")
            .execute(&mut *lock)
            .await
            .expect("a lock");
        let (guest, new) = (world.stranger().at(&base), card_order(&event, 2, "pm_card_visa"));
        let buying = tokio::spawn(async move { guest.post("/orders", &new).await });
        eventually("the order waits for the lock", async || blocked(world, "activities").await).await;
        process.kill().await.expect("it is gone");
        assert!(buying.await.is_err(), "nobody answered");
        lock.rollback().await.expect("the lock is gone");
        eventually("the transaction is gone", async || count(world, "select count(*) from pg_stat_activity where state like 'idle in%' and datname = current_database()").await == 0).await;
        assert_eq!(count(world, "select count(*) from orders").await, 0);
        let jobs = "select count(*) from apalis.jobs where convert_from(job, 'UTF8') like '%orders.purchase%'";
        assert_eq!(count(world, jobs).await, 0);
        // What was held for the order that never came is on sale again after three minutes.
        assert_eq!(left(world, &event).await, 8);
        world.pass(shared::stock::LONGEST_ORDERING);
        shared::stock::reconcile(&world.app).await.expect("both sides");
        assert_eq!(left(world, &event).await, 10);
    })
    .await;
}

/// Whether somebody waits for this table.
async fn blocked(world: &World, table: &str) -> bool {
    let waiting = format!(
        "select count(*) from pg_locks where not granted and relation = '{table}'::regclass"
    );
    count(world, &waiting).await > 0
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

async fn count(world: &World, sql: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
        .fetch_one(world.app.pool())
        .await
        .expect("a number")
}

#[tokio::test]
async fn what_is_forged_or_stale_leaves_no_trace() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        let told = world.stripe().events().remove(0).to_string();
        world.stripe().drop_webhooks();
        let now = world.app.clock.now().timestamp();
        let signed = |secret: &str, at| sandbox::stripe::sign(secret, at, told.as_bytes());
        let bad = [
            signed("whsec_somebody_else", now),
            signed(WEBHOOK_SECRET, now - 301),
            signed(WEBHOOK_SECRET, now + 301),
            "t=1,v1=00".to_owned(),
            String::new(),
        ];
        let before = again(&guest, &order).await;
        for signature in bad {
            let stripe = guest.with("Stripe-Signature", &signature);
            let body: Value = serde_json::from_str(&told).expect("JSON");
            assert_eq!(body.to_string(), told);
            stripe
                .post("/webhooks/stripe", &body)
                .await
                .refused(400, "MALFORMED_REQUEST");
        }
        assert_eq!(world.run_jobs().await, 0);
        assert_eq!(count(world, "select count(*) from stripe_events").await, 0);
        assert_eq!(again(&guest, &order).await, before);
    })
    .await;
}

#[tokio::test]
async fn two_jobs_of_one_order_charge_once() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let new = card_order(&event, 2, "pm_card_visa");
        let order = world.stranger().post("/orders", &new).await.expect(202);
        let order_id = id_of(&order)
            .parse()
            .map(shared::ids::OrderId)
            .expect("an id");
        world
            .change(async |tx| {
                tx.enqueue(&Purchase { order_id });
                Ok(())
            })
            .await;
        let purchases = (0..8).map(|_| orders::pay::purchase(&world.app, order_id));
        for outcome in join_all(purchases).await {
            outcome.expect("it ends well");
        }
        world.run_jobs().await;
        is_paid_once(world, &order, 2).await;
    })
    .await;
}

#[tokio::test]
async fn the_deadline_passes_during_the_payment() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 2).await;
        world
            .stripe()
            .misbehave("payment_intents.create", Fault::HoldAfter, 1);
        let new = card_order(&event, 2, "pm_card_visa");
        let order = world.stranger().post("/orders", &new).await.expect(202);
        let late = async {
            world
                .stripe()
                .until_held(PATIENCE)
                .await
                .expect("it was asked");
            world.pass(TimeDelta::hours(3));
            // Nobody else gets its places, because nobody has ended it.
            let other = world.stranger().post("/orders", &new).await;
            other.refused(409, "INSUFFICIENT_CAPACITY");
            world.stripe().release();
        };
        join(world.run_jobs(), late).await;
        is_paid_once(world, &order, 2).await;
    })
    .await;
}

/// The process that asks after payments has a clock that is ahead of the worker's: the deadline is over for it while the worker's
/// call, which began in time, has not reached Stripe.
#[tokio::test]
async fn a_call_that_began_in_time_is_waited_for_by_a_process_whose_clock_is_ahead() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 2).await;
        world
            .stripe()
            .misbehave("payment_intents.create", Fault::HoldBefore, 1);
        let new = card_order(&event, 2, "pm_card_visa");
        let order = world.stranger().post("/orders", &new).await.expect(202);
        world.pass(TimeDelta::minutes(29));
        let ahead = async {
            let held = world.stripe().until_held(PATIENCE).await;
            held.expect("it was asked");
            let mut other = world.app.clone();
            let two_later = world.app.clock.now() + TimeDelta::minutes(2);
            other.clock = shared::clock::Clock::manual(two_later);
            orders::chase(&other).await.expect("Stripe answers");
            assert_eq!(again(&world.stranger(), &order).await["status"], "pending");
            world.stripe().release();
        };
        join(world.run_jobs(), ahead).await;
        is_paid_once(world, &order, 2).await;
        let lines = world.activity_of(&order["id"]).await;
        let moves = lines
            .iter()
            .filter(|(_, kind, _)| kind == "order.status_changed");
        assert_eq!(
            moves.count(),
            1,
            "it never was anything but pending and paid"
        );
    })
    .await;
}
