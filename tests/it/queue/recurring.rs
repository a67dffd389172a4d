//! Jobs that come back: once per tick, whoever asks, however long nobody did.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tests::queue::{Act, Probe};
use worker::recurring::tick;
use worker::{CatchUp, Recurring};

use super::place::{Place, now, start};

const MADE: &str = "select count(*) from apalis.jobs where idempotency_key like 'test:%'";

fn recurring(every: u64, catch_up: CatchUp) -> Recurring {
    let probe = |tick: DateTime<Utc>| Probe {
        name: tick.to_rfc3339(),
        act: Act::Pass,
    };
    Recurring::new("test", Duration::from_secs(every), catch_up, probe)
}

#[tokio::test]
async fn two_workers_make_each_tick_once() {
    let place = Place::new().await;
    let with_ticks = || {
        let mut engine = place.engine();
        engine.recurring.push(recurring(1, CatchUp::Each(60)));
        start(engine)
    };
    let (one, other) = (with_ticks(), with_ticks());
    place
        .until(Duration::from_secs(20), 4, "select count(*) from runs")
        .await;
    one.stop().await;
    other.stop().await;
    place.run_due(now()).await;
    let runs = place.runs().await;
    assert_eq!(
        place.count("select count(distinct name) from runs").await,
        runs,
        "none twice"
    );
    let span = "select (extract(epoch from max(name::timestamptz) - min(name::timestamptz)))::bigint + 1 from runs";
    assert_eq!(place.count(span).await, runs, "none left out");
}

#[tokio::test]
async fn many_at_once_make_each_tick_once() {
    let place = Place::new().await;
    let ticks = [recurring(60, CatchUp::Each(100))];
    let begun = now();
    tick(&place.pool, &ticks, begun)
        .await
        .expect("the first look");
    assert_eq!(place.count(MADE).await, 0, "it only takes its bearings");
    for minute in 1..=5 {
        let at = begun + TimeDelta::minutes(minute);
        let (a, b, c) = tokio::join!(
            tick(&place.pool, &ticks, at),
            tick(&place.pool, &ticks, at),
            tick(&place.pool, &ticks, at)
        );
        assert_eq!(a.expect("a") + b.expect("b") + c.expect("c"), 1);
    }
    assert_eq!(place.count(MADE).await, 5);
}

#[tokio::test]
async fn what_a_pause_missed_is_made_up_for() {
    let place = Place::new().await;
    let begun = now();
    tick(&place.pool, &[recurring(60, CatchUp::Each(3))], begun)
        .await
        .expect("the first look");
    let made = tick(
        &place.pool,
        &[recurring(60, CatchUp::Each(3))],
        begun + TimeDelta::minutes(2),
    )
    .await;
    assert_eq!(made.expect("ticks"), 2, "each");
    let made = tick(
        &place.pool,
        &[recurring(60, CatchUp::Each(3))],
        begun + TimeDelta::hours(5),
    )
    .await;
    assert_eq!(made.expect("ticks"), 3, "but no more than was asked for");
    let made = tick(
        &place.pool,
        &[recurring(60, CatchUp::Latest)],
        begun + TimeDelta::hours(9),
    )
    .await;
    assert_eq!(made.expect("ticks"), 1, "or only the last");
    let made = tick(
        &place.pool,
        &[recurring(60, CatchUp::Latest)],
        begun + TimeDelta::hours(8),
    )
    .await;
    assert_eq!(
        made.expect("ticks"),
        0,
        "and nothing again when a clock is set back"
    );
}

#[tokio::test]
async fn old_finished_jobs_are_pruned_and_their_ticks_stay_made() {
    let place = Place::new().await;
    let begun = now() - TimeDelta::days(30);
    let ticks = [recurring(60, CatchUp::Each(10))];
    tick(&place.pool, &ticks, begun)
        .await
        .expect("the first look");
    tick(&place.pool, &ticks, begun + TimeDelta::minutes(3))
        .await
        .expect("three ticks");
    place.run_due(now()).await;
    assert_eq!(
        place
            .count("select count(*) from apalis.jobs where status = 'Done'")
            .await,
        3
    );
    sqlx::query("update apalis.jobs set done_at = run_at")
        .execute(&place.pool)
        .await
        .expect("aged");
    // These are old as well, but nobody has finished with them.
    let old = |name: &str| Probe {
        name: name.into(),
        act: Act::Dead { why: "no".into() },
    };
    place
        .enqueue_all(&[shared::jobs::NewJob::new(&old("dead"), begun)])
        .await;
    place.run_due(now()).await;
    place
        .enqueue_all(&[
            shared::jobs::NewJob::new(&old("waits"), begun).run_at(now() + TimeDelta::days(1))
        ])
        .await;
    // As if an hour had gone by since the engine last pruned.
    sqlx::query("insert into recurring_jobs values ('jobs.prune', now() - interval '2 hours')")
        .execute(&place.pool)
        .await
        .expect("the last tick");

    let running = place.start();
    place.until(Duration::from_secs(15), 0, MADE).await;
    running.stop().await;
    assert_eq!(
        place
            .count("select count(*) from apalis.jobs where status in ('Killed', 'Pending')")
            .await,
        2
    );
    let again = tick(&place.pool, &ticks, begun + TimeDelta::minutes(3)).await;
    assert_eq!(again.expect("ticks"), 0);
    assert_eq!(place.runs().await, 4);
}
