//! Ten thousand want five thousand places at the same moment.
//!
//! Two sessions of one event, and tickets for the one or for both: half of the buyers want the one, half want both. Of
//! the second session there are fewer places, so it runs out first, and then whoever wants both is refused while the
//! first still sells.

use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join;
use futures_util::stream::{self, StreamExt as _};
use shared::clock::Clock;
use shared::ids;
use tests::{standard, world_with};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::*;
use crate::processes;

const BUYERS: usize = 10_000;
const AT_ONCE: usize = 1_000;
const PLACES: i64 = 5_000;
const PLACES_OF_THE_SECOND: i64 = 2_000;
/// For everything that a rush leaves to do, its mails among it. It takes a fifth of that on an idle machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// An event of two sessions. Its first ticket type is for the first of them, its second for both.
async fn two_sessions(organizer: &Client) -> Value {
    let mut event = workshop();
    event["capacity"] = json!(PLACES);
    let event = organizer.post("/events", &event).await.expect(201);
    let place = format!("/events/{}", event["id"].as_str().expect("an id"));
    let second = json!({"name": "Second", "starts_at": "2026-02-11T18:00:00Z", "ends_at": "2026-02-11T20:00:00Z",
                        "capacity": PLACES_OF_THE_SECOND});
    let sessions = format!("{place}/sessions");
    organizer.post(&sessions, &second).await.expect(201);
    let (mut first, mut both) = (standard(), standard());
    first["price"] = json!(0);
    both["price"] = json!(0);
    both["name"] = json!("Both");
    both["included_sessions"] = json!(["S1", "S2"]);
    for kind in [first, both] {
        let types = format!("{place}/ticket-types");
        organizer.post(&types, &kind).await.expect(201);
    }
    let publish = json!({"status": "published", "version": 1});
    let status = format!("{place}/status");
    organizer.put(&status, &publish).await.expect(200)
}

fn order_of(event: &Value, buyer: usize) -> Value {
    let kind = &event["ticket_types"][buyer % 2]["id"];
    json!({"event_id": event["id"], "items": [{"ticket_type_id": kind, "quantity": 1}],
           "email": format!("buyer{buyer}@example.org")})
}

/// Asks until there is an answer, at whichever process is there, under the same key; waits while none is. True if there
/// is an order.
async fn buys(guest: &Client, event: &Value, buyer: usize, api: &watch::Sender<String>) -> bool {
    let guest = guest.with("idempotency-key", &format!("buyer-{buyer}"));
    let order = order_of(event, buyer);
    let mut told = api.subscribe();
    loop {
        let base = told.wait_for(|base| !base.is_empty()).await;
        let base = base.expect("there is another").clone();
        let answer = guest.at(&base).try_post("/orders", &order).await;
        match answer {
            Some(answer) if answer.status == 202 => return true,
            // The process that is gone has left a connection that Postgres has not yet given up.
            Some(answer) if answer.body["error"]["code"] == "IDEMPOTENCY_IN_FLIGHT" => {
                sleep(Duration::from_millis(20)).await;
            }
            Some(answer) => {
                let details = answer.refused(409, "INSUFFICIENT_CAPACITY");
                assert_eq!(details["available"], 0, "{details}");
                return false;
            }
            // A connection may also end while the process goes on.
            None => drop(tokio::time::timeout(Duration::from_millis(100), told.changed()).await),
        }
    }
}

/// All buyers, [`AT_ONCE`] at a time; how many have an order.
async fn rush(
    world: &World,
    event: &Value,
    api: &watch::Sender<String>,
    answered: &AtomicUsize,
) -> usize {
    let guest = world.stranger();
    let buyers = stream::iter(0..BUYERS).map(async |buyer| {
        let ordered = buys(&guest, event, buyer, api).await;
        answered.fetch_add(1, Ordering::Relaxed);
        ordered
    });
    let ordered = buyers
        .buffer_unordered(AT_ONCE)
        .filter(|o| std::future::ready(*o));
    ordered.count().await
}

async fn sold(world: &World) -> Vec<i64> {
    let sold = "select sold::bigint from pools where kind = 'session' order by capacity desc";
    let sold = sqlx::query_scalar(sold).fetch_all(world.app.pool()).await;
    sold.expect("two sessions")
}

/// All are sold, all who have an order have their ticket, and nothing is left to do. The harness goes over the books.
async fn all_is_sold(world: &World, ordered: usize) {
    let left = "select (select count(*) from orders where status <> 'paid')
                       + (select count(*) from apalis.jobs where status <> 'Done' and run_at <= now())";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left: i64 = sqlx::query_scalar(left)
            .fetch_one(world.app.pool())
            .await
            .expect("a number");
        if left == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{left} orders or jobs are left");
        sleep(Duration::from_millis(100)).await;
    }
    let ordered = i64::try_from(ordered).expect("a number");
    let told = (sold(world).await, ordered);
    assert_eq!(told, (vec![PLACES, PLACES_OF_THE_SECOND], PLACES));
}

async fn killed(mut process: Child) -> ExitStatus {
    process.kill().await.expect("it is gone");
    process.wait().await.expect("how it ended")
}

#[tokio::test]
async fn ten_thousand_buy_five_thousand_places() {
    tests::many_connections();
    world_with(&CROWD, async |world| {
        let event = two_sessions(&world.organizer("lighthouse").await.organizer).await;
        let workers = [
            processes::worker(world).await,
            processes::worker(world).await,
        ];
        let (api, base) = processes::api(world).await;
        let answered = AtomicUsize::new(0);
        let ordered = rush(world, &event, &watch::Sender::new(base), &answered).await;
        all_is_sold(world, ordered).await;
        for process in workers.into_iter().chain([api]) {
            killed(process).await;
        }
    })
    .await;
}

/// The numbers of answers after which something is killed, at random and far enough apart to matter.
fn moments() -> Vec<usize> {
    let seed = ids::fresh(Clock::System.now()).as_u128();
    println!("seed {seed:x}");
    let drawn = (0..8).map(|at| {
        let byte = usize::try_from(seed >> (8 * at) & 0xff).expect("a byte");
        at * BUYERS / 8 + byte * BUYERS / 8 / 256
    });
    drawn.collect()
}

/// Kills now the API and now a worker at each of the moments, and puts another in its place.
async fn kill_and_replace(
    world: &World,
    answered: &AtomicUsize,
    api: &watch::Sender<String>,
    mut running: Child,
) -> [Child; 2] {
    let mut worker = processes::worker(world).await;
    for (at, moment) in moments().into_iter().enumerate() {
        while answered.load(Ordering::Relaxed) < moment {
            sleep(Duration::from_millis(1)).await;
        }
        if at % 2 == 0 {
            api.send_replace(String::new());
            killed(running).await;
            let (next, base) = processes::api(world).await;
            running = next;
            api.send_replace(base);
        } else {
            killed(worker).await;
            worker = processes::worker(world).await;
        }
    }
    [running, worker]
}

#[tokio::test]
async fn the_same_while_processes_are_killed_and_replaced() {
    tests::many_connections();
    world_with(&CROWD, async |world| {
        let event = two_sessions(&world.organizer("lighthouse").await.organizer).await;
        let (first, base) = processes::api(world).await;
        let (api, answered) = (watch::Sender::new(base), AtomicUsize::new(0));
        let rush = rush(world, &event, &api, &answered);
        let faults = kill_and_replace(world, &answered, &api, first);
        // The faults come first: the crowd uses up all that a task may do before it has to let others run.
        let (running, ordered) = join(faults, rush).await;
        all_is_sold(world, ordered).await;
        for process in running {
            killed(process).await;
        }
    })
    .await;
}

/// Whoever orders keeps the event as it is for a moment, and there are always some; an organizer gets through all the same.
#[tokio::test]
async fn sales_are_stopped_in_the_middle_of_a_rush() {
    tests::many_connections();
    world_with(&CROWD, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = free_event_of(&organizer, 100_000).await;
        let apis = [
            processes::api(world).await,
            processes::api(world).await,
            processes::api(world).await,
        ];
        let (stopped, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let guest = world.stranger();
        let buy = async |buyer: usize| {
            let guest = guest.at(&apis[buyer % apis.len()].1);
            let new = free_order(&event, 1);
            while stopped.load(Ordering::Relaxed) == 0 {
                let guest = if buyer.is_multiple_of(2) {
                    guest.with("idempotency-key", &ids::url_token())
                } else {
                    guest.clone()
                };
                let answer = guest.post("/orders", &new).await;
                answered.fetch_add(1, Ordering::Relaxed);
                if answer.status != 202 {
                    answer.refused(409, "EVENT_NOT_ON_SALE");
                }
            }
        };
        let stop = async {
            while answered.load(Ordering::Relaxed) < 200 {
                sleep(Duration::from_millis(1)).await;
            }
            let status = format!("/events/{}/status", event["id"].as_str().expect("an id"));
            let on_hold = json!({"status": "on_hold", "reason": "Storm", "version": 2});
            let answer = organizer.put(&status, &on_hold).await;
            stopped.store(1, Ordering::Relaxed);
            answer.expect(200);
            // From here on nobody buys, whatever a process remembers.
            for (_, api) in &apis {
                let late = guest.at(api).post("/orders", &free_order(&event, 1)).await;
                late.refused(409, "EVENT_NOT_ON_SALE");
            }
        };
        let buyers = stream::iter(0..20).for_each_concurrent(None, buy);
        join(stop, buyers).await;
        for (process, _) in apis {
            killed(process).await;
        }
    })
    .await;
}
