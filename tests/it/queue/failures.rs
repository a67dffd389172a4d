//! Jobs that fail, in all the ways a job can.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tests::queue::{Act, Fragile, Probe, Unknown};

use super::place::{Place, now};

fn failing(name: &str) -> Probe {
    Probe {
        name: name.into(),
        act: Act::Fail {
            why: "no luck".into(),
        },
    }
}

async fn waits(place: &Place, id: &str, from: DateTime<Utc>) -> TimeDelta {
    place.row(id).await.run_at - from
}

#[tokio::test]
async fn a_failed_job_waits_longer_each_time_and_never_in_step() {
    let place = Place::new().await;
    let (one, other) = (
        place.enqueue(&failing("one")).await,
        place.enqueue(&failing("other")).await,
    );
    let mut clock = now();
    let mut last = TimeDelta::zero();
    let mut apart = 0;
    for attempt in 1..=6 {
        assert_eq!(place.run_due(clock).await, 2);
        assert_eq!(place.run_due(clock).await, 0, "not again at once");
        let stored = place.row(&one).await;
        assert_eq!(
            (stored.status.as_str(), stored.attempts),
            ("Failed", attempt)
        );
        assert_eq!(stored.error.as_deref(), Some("no luck"));
        let wait = waits(&place, &one, clock).await;
        assert!(wait > last, "{wait} after {last}");
        apart += i32::from(wait != waits(&place, &other, clock).await);
        last = wait;
        clock += TimeDelta::hours(2);
    }
    assert!(apart >= 5, "what fails together comes back apart");
}

#[tokio::test]
async fn a_running_engine_keeps_to_the_stored_pause() {
    let place = Place::new().await;
    let running = place.start();
    let id = place.enqueue(&failing("live")).await;
    place
        .until(Duration::from_secs(15), 3, "select count(*) from runs")
        .await;
    running.stop().await;
    let pauses =
        "select count(*) from (select at - lag(at) over (order by n) as pause from runs) as pauses
        where pause >= interval '750 ms'";
    assert_eq!(place.count(pauses).await, 2);
    assert!(
        place.row(&id).await.run_at > now(),
        "the next pause is stored, so a restart does not cut it short"
    );
}

#[tokio::test]
async fn a_job_dies_after_its_last_attempt() {
    let place = Place::new().await;
    let id = place
        .enqueue(&Fragile {
            name: "f".into(),
            act: Act::Fail {
                why: "no luck".into(),
            },
        })
        .await;
    let mut clock = now();
    for _ in 0..5 {
        place.run_due(clock).await;
        clock += TimeDelta::hours(2);
    }
    let stored = place.row(&id).await;
    assert_eq!((stored.status.as_str(), stored.attempts), ("Killed", 3));
    assert_eq!(stored.error.as_deref(), Some("no luck"));
    assert_eq!(place.runs().await, 3);
}

#[tokio::test]
async fn a_job_that_can_never_work_dies_at_once() {
    let place = Place::new().await;
    let id = place
        .probe(
            "hopeless",
            Act::Dead {
                why: "no such order".into(),
            },
        )
        .await;
    place.run_due(now()).await;
    let stored = place.row(&id).await;
    assert_eq!((stored.status.as_str(), stored.attempts), ("Killed", 1));
    assert_eq!(stored.error.as_deref(), Some("no such order"));
}

#[tokio::test]
async fn a_job_put_off_has_not_failed() {
    let place = Place::new().await;
    let at = now() + TimeDelta::minutes(5);
    let id = place.probe("early", Act::Later { at }).await;
    place.run_due(now()).await;
    let stored = place.row(&id).await;
    assert_eq!((stored.status.as_str(), stored.attempts), ("Pending", 0));
    assert_eq!(stored.run_at.timestamp_micros(), at.timestamp_micros());
}

#[tokio::test]
async fn a_job_put_off_to_the_past_does_not_run_without_pause() {
    let place = Place::new().await;
    let at = now() - TimeDelta::minutes(5);
    place.probe("late", Act::Later { at }).await;
    assert_eq!(place.run_due(now()).await, 1);
}

/// What would end a worker of apalis, in front of a job that must run all the same.
#[tokio::test]
async fn garbage_and_panics_end_as_dead_jobs_and_the_queue_goes_on() {
    let place = Place::new().await;
    let panics = place
        .enqueue(&Fragile {
            name: "p".into(),
            act: Act::Panic {
                why: "at the disco".into(),
            },
        })
        .await;
    let unknown = place.enqueue(&Unknown {}).await;
    let garbage = "insert into apalis.jobs (id, job_type, job, run_at) values
        ('00000000000000000000000001', 'background', '\\xff00', '2020-01-01'),
        ('00000000000000000000000002', 'background', convert_to('{\"id\": 7}', 'UTF8'), '2020-01-01'),
        ('00000000000000000000000003', 'background',
         convert_to('{\"kind\": \"test.probe\", \"args\": [1], \"cause\": null, \"trace\": null}', 'UTF8'), '2020-01-01'),
        ('an id that is no ULID', 'background',
         convert_to('{\"kind\": \"test.probe\", \"args\": {\"name\": \"odd\", \"act\": \"Pass\"}, \"cause\": null, \"trace\": null}', 'UTF8'),
         '2020-01-01')";
    sqlx::query(garbage)
        .execute(&place.pool)
        .await
        .expect("garbage");
    place
        .probe(
            "nul",
            Act::Dead {
                why: "a \0 in the text".into(),
            },
        )
        .await;
    place.probe("good", Act::Pass).await;

    let running = place.start();
    place
        .until(
            Duration::from_secs(15),
            6,
            "select count(*) from apalis.jobs where status = 'Killed'",
        )
        .await;
    place
        .until(
            Duration::from_secs(5),
            2,
            "select count(*) from apalis.jobs where status = 'Done' and job_type = 'background'",
        )
        .await;
    running.stop().await;

    let error = async |id: &str| place.row(id).await.error.expect("an error");
    assert_eq!(error(&panics).await, "panicked: at the disco");
    assert_eq!(place.row(&panics).await.attempts, 3);
    assert_eq!(
        error(&unknown).await,
        "no handler for the kind test.unknown"
    );
    for garbage in 1..=3 {
        let error = error(&format!("{garbage:026}")).await;
        assert!(error.starts_with("unreadable payload: "), "{error}");
    }
    assert_eq!(place.count("select count(*) from apalis.jobs where last_result ->> 'Err' like 'a _ in the text'").await, 1);
}
