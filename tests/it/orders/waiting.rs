//! A thousand who wait for their orders ask Postgres nothing meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use sqlx::PgConnection;
use tests::world_with;

use super::*;
use crate::processes;
use crate::stock::servers::eventually;

const ORDERS: usize = 100;
/// Who wait for each order: half of them for an answer, half on a stream.
const WAITERS: usize = 10;
/// For so long nothing is asked while they wait.
const QUIET: Duration = Duration::from_secs(2);

/// Over how many connections of others anything was asked lately.
async fn used(db: &mut PgConnection) -> i64 {
    let used = sqlx::query_scalar(
        "select count(*) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and state_change > clock_timestamp() - $1",
    );
    used.bind(QUIET).fetch_one(db).await.expect("a number")
}

async fn waits(guest: &Client, order: &Value) -> Value {
    guest
        .get(&format!("{}&wait=30", place_of(order)))
        .await
        .expect(200)
}

/// The last of the stream; `begun` counts who has been told how it stands.
async fn follows(guest: &Client, order: &Value, begun: &AtomicUsize) -> Value {
    let (guest, place) = opened(guest, order);
    let mut events = guest.follow(&format!("{place}/stream")).await;
    let mut last = events.next().await.expect("how it stands");
    assert_eq!(last["status"], "pending");
    begun.fetch_add(1, Ordering::Relaxed);
    while let Some(event) = events.next().await {
        last = event;
    }
    last
}

#[tokio::test]
async fn a_thousand_wait_and_ask_postgres_nothing() {
    tests::many_connections();
    world_with(&CROWD, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = free_event_of(&organizer, 1_000).await;
        let (guest, new) = (world.stranger(), free_order(&event, 1));
        let orders = join_all((0..ORDERS).map(|_| guest.post("/orders", &new))).await;
        let orders: Vec<Value> = orders.into_iter().map(|order| order.expect(202)).collect();

        let begun = AtomicUsize::new(0);
        let each = orders
            .iter()
            .flat_map(|order| std::iter::repeat_n(order, WAITERS / 2));
        let waiting = join_all(each.clone().map(|order| waits(&guest, order)));
        let following = join_all(each.map(|order| follows(&guest, order, &begun)));
        let working = async {
            let mut db = world.app.pool().acquire().await.expect("a connection");
            eventually("all wait, and nobody asks", async || {
                begun.load(Ordering::Relaxed) == ORDERS * WAITERS / 2 && used(&mut db).await == 0
            })
            .await;
            drop(db);
            processes::worker(world).await
        };
        let ((answers, ends), mut worker) = join(join(waiting, following), working).await;
        assert_eq!(answers.len() + ends.len(), ORDERS * WAITERS);
        for told in answers.iter().chain(&ends) {
            assert_eq!(told["status"], "paid", "{told}");
        }
        eventually("nothing is left to do", async || {
            let left =
                "select count(*) from apalis.jobs where status <> 'Done' and run_at <= now()";
            let left = sqlx::query_scalar::<_, i64>(left).fetch_one(world.app.pool());
            left.await.expect("a number") == 0
        })
        .await;
        worker.kill().await.expect("it is gone");
    })
    .await;
}
