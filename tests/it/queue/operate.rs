//! What an operator sees and does.

use chrono::TimeDelta;
use shared::jobs::{self, NewJob, Queue};
use tests::queue::{Act, Probe};

use super::place::{Place, now};

#[tokio::test]
async fn queues_tell_how_they_are_doing() {
    let place = Place::new().await;
    place.probe("dead", Act::Dead { why: "no".into() }).await;
    place.run_due(now()).await;
    let early = now() - TimeDelta::seconds(90);
    place
        .enqueue_all(&[NewJob::new(
            &Probe {
                name: "old".into(),
                act: Act::Pass,
            },
            early,
        )])
        .await;
    let later = NewJob::new(
        &Probe {
            name: "later".into(),
            act: Act::Pass,
        },
        now(),
    )
    .run_at(now() + TimeDelta::hours(1));
    place.enqueue_all(&[later]).await;

    let mut conn = place.pool.acquire().await.expect("a connection");
    let depths = jobs::depths(&mut conn).await.expect("depths");
    let names: Vec<_> = depths.iter().map(|depth| depth.queue.as_str()).collect();
    assert_eq!(names, ["background", "mail", "payment", "purchase"]);
    let background = &depths[0];
    assert_eq!(
        (
            background.waiting,
            background.due,
            background.running,
            background.dead
        ),
        (2, 1, 0, 1)
    );
    assert!(
        (90.0..120.0).contains(&background.oldest_due_seconds),
        "{}",
        background.oldest_due_seconds
    );
    assert_eq!((depths[1].waiting, depths[1].oldest_due_seconds), (0, 0.0));
}

#[tokio::test]
async fn dead_jobs_can_be_seen_retried_and_thrown_away() {
    let place = Place::new().await;
    let dies = |why: &str| Act::Dead { why: why.into() };
    let one = place.probe("one", dies("first reason")).await;
    let other = place.probe("other", dies("second reason")).await;
    let alive = place.probe("alive", Act::Pass).await;
    place.run_due(now()).await;

    let mut conn = place.pool.acquire().await.expect("a connection");
    let dead = jobs::dead(&mut conn, None, 10).await.expect("the dead");
    let mut seen: Vec<_> = dead
        .iter()
        .map(|job| (job.id.as_str(), job.error.as_deref().unwrap_or("")))
        .collect();
    seen.sort_by_key(|(_, error)| *error);
    assert_eq!(
        seen,
        [
            (one.as_str(), "first reason"),
            (other.as_str(), "second reason")
        ]
    );
    assert!(dead[0].id > dead[1].id, "the latest first");
    assert_eq!(dead[0].payload["kind"], "test.probe");
    let rest = jobs::dead(&mut conn, Some(&dead[0].id), 10)
        .await
        .expect("the next page");
    assert_eq!(
        rest.iter().map(|job| &job.id).collect::<Vec<_>>(),
        [&dead[1].id]
    );

    assert_eq!(
        jobs::retry(&mut conn, &one).await.expect("retried"),
        Some(Queue::Background)
    );
    assert_eq!(
        jobs::retry(&mut conn, &alive).await.expect("asked"),
        None,
        "it is not dead"
    );
    assert!(jobs::discard(&mut conn, &other).await.expect("thrown away"));
    assert!(
        !jobs::discard(&mut conn, &alive).await.expect("asked"),
        "it is not dead"
    );
    drop(conn);
    assert_eq!(place.run_due(now()).await, 1);
    assert_eq!(
        place
            .count("select count(*) from runs where name = 'one'")
            .await,
        2
    );
}
