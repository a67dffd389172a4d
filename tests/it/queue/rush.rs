//! More purchases than a worker can begin.

use std::time::Duration;

use shared::jobs::NewJob;
use tests::queue::{Act, Probe, Urgent};

use super::place::{Place, now, start};

const PURCHASES: usize = 200;
/// Without a rush, they are all begun before the tenth purchase is over.
const OTHERS: usize = 400;
const PATIENCE: Duration = Duration::from_mins(1);

fn purchase(_: usize) -> NewJob {
    let job = Urgent {
        name: "purchase".into(),
        act: Act::Sleep { ms: 20 },
    };
    NewJob::new(&job, now())
}

fn other(_: usize) -> NewJob {
    let job = Probe {
        name: "other".into(),
        act: Act::Pass,
    };
    NewJob::new(&job, now())
}

/// How many others were begun in the rush, and for how long it lasted after the first of them. What is begun beside
/// the very last purchases is not in it.
const IN_THE_RUSH: &str = "
    with rush as (select at as until from runs where name = 'purchase' order by at desc offset 10 limit 1)
    select count(*), coalesce(extract(epoch from max(until) - min(at)), 0)::float8
    from runs, rush where name = 'other' and at < until";

#[tokio::test]
async fn other_queues_take_turns_while_purchases_wait() {
    let place = Place::new().await;
    let mut engine = place.engine();
    engine.settings.concurrency = 4;
    let running = start(engine);
    let purchases: Vec<NewJob> = (0..PURCHASES).map(purchase).collect();
    place.enqueue_all(&purchases).await;
    let begun = "select (count(*) > 0)::int::int8 from runs";
    place.until(PATIENCE, 1, begun).await;
    let others: Vec<NewJob> = (0..OTHERS).map(other).collect();
    place.enqueue_all(&others).await;

    let all = i64::try_from(PURCHASES + OTHERS).expect("a number");
    place
        .until(PATIENCE, all, "select count(*) from runs")
        .await;
    running.stop().await;
    let (others, seconds): (i64, f64) = sqlx::query_as(IN_THE_RUSH)
        .fetch_one(&place.pool)
        .await
        .expect("numbers");
    assert!(
        others > 0,
        "nobody waits until there are no purchases any more"
    );
    // Two every fiftieth of a second at the most, and those of the turn in which it ended.
    let turns = seconds / 0.05 + 2.0;
    #[expect(clippy::cast_precision_loss, reason = "some hundred")]
    let others = others as f64;
    assert!(others <= 2.0 * turns, "{others} were begun in {seconds} s");
}
