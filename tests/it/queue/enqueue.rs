//! Writing jobs down: with the transaction, once per key, due by the clock of the database.

use std::time::Duration;

use chrono::TimeDelta;
use shared::jobs::{self, NewJob, Queue};
use sqlx::Row as _;
use tests::queue::{Act, Probe};

use super::place::{Place, now};

fn pass(name: &str) -> Probe {
    Probe {
        name: name.into(),
        act: Act::Pass,
    }
}

#[tokio::test]
async fn a_job_shares_the_fate_of_its_transaction() {
    let place = Place::new().await;
    let mut tx = place.pool.begin().await.expect("a transaction");
    jobs::insert(&mut tx, &[NewJob::new(&pass("rolled back"), now())])
        .await
        .expect("written");
    tx.rollback().await.expect("rolled back");
    let mut tx = place.pool.begin().await.expect("a transaction");
    let queues = jobs::insert(&mut tx, &[NewJob::new(&pass("committed"), now())])
        .await
        .expect("written");
    tx.commit().await.expect("committed");

    assert_eq!(queues.into_iter().collect::<Vec<_>>(), [Queue::Background]);
    place.run_due(now()).await;
    assert_eq!(
        place
            .count("select count(*) from runs where name = 'committed'")
            .await,
        1
    );
    assert_eq!(place.runs().await, 1);
}

#[tokio::test]
async fn a_key_is_used_once_and_a_second_time_harms_nobody() {
    let place = Place::new().await;
    let keyed = |name: &str| NewJob::new(&pass(name), now()).key("k");
    let mut tx = place.pool.begin().await.expect("a transaction");
    jobs::insert(&mut tx, &[keyed("first"), keyed("second")])
        .await
        .expect("written");
    let queues = jobs::insert(&mut tx, &[keyed("third")])
        .await
        .expect("written");
    assert!(queues.is_empty(), "nobody is woken for nothing");
    jobs::insert(&mut tx, &[NewJob::new(&pass("other"), now())])
        .await
        .expect("the transaction lives on");
    tx.commit().await.expect("committed");

    place.run_due(now()).await;
    let names = sqlx::query("select name from runs order by n")
        .fetch_all(&place.pool)
        .await
        .expect("runs");
    assert_eq!(
        names
            .iter()
            .map(|row| row.get::<String, _>(0))
            .collect::<Vec<_>>(),
        ["first", "other"]
    );
}

#[tokio::test]
async fn a_clock_that_is_ahead_delays_nothing() {
    let place = Place::new().await;
    let ahead = now() + TimeDelta::hours(1);
    place.enqueue_all(&[NewJob::new(&pass("now"), ahead)]).await;
    place
        .enqueue_all(&[NewJob::new(&pass("in an hour"), now()).run_at(ahead)])
        .await;

    let running = place.start();
    place
        .until(
            Duration::from_secs(5),
            1,
            "select count(*) from runs where name = 'now'",
        )
        .await;
    running.stop().await;
    assert_eq!(place.runs().await, 1, "what was asked for later waits");
    place.run_due(ahead).await;
    assert_eq!(place.runs().await, 2);
}

#[tokio::test]
async fn a_job_knows_its_cause_and_goes_on_with_its_trace() {
    let place = Place::new().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let job = NewJob::new(&pass("traced"), now())
        .cause(Some("request-7".into()))
        .trace(Some(trace.into()));
    place.enqueue_all(&[job]).await;
    // Tracing belongs to a whole process, so it is one of its own that runs the job.
    let _worker = place.process(1);
    let told = "select count(*) from runs where cause = 'request-7'
        and trace like '00-4bf92f3577b34da6a3ce929d0e0e4736-%' and trace not like '%-00f067aa0ba902b7-%'";
    place.until(Duration::from_secs(15), 1, told).await;
}

#[tokio::test]
async fn installing_again_changes_nothing_and_nobody_is_notified() {
    let place = Place::new().await;
    place.probe("kept", Act::Pass).await;
    jobs::install(&place.pool).await.expect("installed again");
    let enabled = "select count(*) from pg_trigger
        where tgrelid = 'apalis.jobs'::regclass and not tgisinternal and tgenabled <> 'D'";
    assert_eq!(place.count(enabled).await, 0);
    assert_eq!(place.run_due(now()).await, 1);
}
