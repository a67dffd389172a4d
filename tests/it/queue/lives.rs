//! Workers that come and go: killed, drained, cut off, too many of them.

use std::time::{Duration, Instant};

use holdfast::services::{Promise, Services};
use redis::aio::ConnectionManager;
use shared::jobs::{self, NewJob};
use shared::redis_connection::RedisConnection;
use sqlx::postgres::PgPoolOptions;
use tests::queue::{Act, Fragile, Probe};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::task::JoinHandle;
use worker::Engine;

use super::place::{Place, now, start};

const SECOND: Duration = Duration::from_secs(1);

fn probes(count: usize, act: &Act) -> Vec<NewJob> {
    let probe = |n| {
        NewJob::new(
            &Probe {
                name: format!("{n}"),
                act: act.clone(),
            },
            now(),
        )
    };
    (0..count).map(probe).collect()
}

/// An engine that looks by itself so rarely that whatever happens soon happened because it was woken.
fn sleepy(mut engine: Engine<sqlx::PgPool>) -> Engine<sqlx::PgPool> {
    engine.settings.poll.0 = 60 * SECOND;
    engine
}

async fn enqueue_and_wake(place: &Place, redis: &ConnectionManager, name: &str) {
    let mut tx = place.pool.begin().await.expect("a transaction");
    let job = NewJob::new(
        &Probe {
            name: name.into(),
            act: Act::Pass,
        },
        now(),
    );
    let queues = jobs::insert(&mut tx, &[job]).await.expect("written");
    tx.commit().await.expect("committed");
    jobs::wake(redis, &place.prefix, &queues).await;
}

#[tokio::test]
async fn a_woken_worker_begins_within_50_ms() {
    let place = Place::new().await;
    let running = start(sleepy(place.engine()));
    let client = redis::Client::open(place.redis_url.as_str()).expect("an address of Redis");
    let redis = client.get_connection_manager().await.expect("Redis");
    // The first wake may come before anybody listens.
    enqueue_and_wake(&place, &redis, "first").await;
    place
        .until(10 * SECOND, 1, "select count(*) from runs")
        .await;

    let mut waits = Vec::new();
    for n in 0..100 {
        let begun: chrono::DateTime<chrono::Utc> = sqlx::query_scalar("select clock_timestamp()")
            .fetch_one(&place.pool)
            .await
            .expect("the time");
        enqueue_and_wake(&place, &redis, "timed").await;
        place
            .until(10 * SECOND, n + 2, "select count(*) from runs")
            .await;
        let ran: chrono::DateTime<chrono::Utc> = sqlx::query_scalar("select max(at) from runs")
            .fetch_one(&place.pool)
            .await
            .expect("the time");
        waits.push((ran - begun).num_milliseconds());
    }
    running.stop().await;
    waits.sort_unstable();
    // Other tests share the machine, so not the worst of them; the bench looks at those.
    assert!(
        waits[94] < 50,
        "95 of 100 jobs should begin within 50 ms, these are the waits: {waits:?}"
    );
}

#[tokio::test]
async fn without_redis_jobs_run_all_the_same() {
    let place = Place::new().await;
    let mut engine = place.engine();
    // Nobody listens on the port of discard.
    engine.redis = RedisConnection::to("redis://127.0.0.1:9").expect("an address");
    let running = start(engine);
    place.enqueue_all(&probes(10, &Act::Pass)).await;
    place
        .until(5 * SECOND, 10, "select count(*) from runs")
        .await;
    running.stop().await;
}

/// A way to the Redis of the tests that can be cut.
async fn proxy(listener: TcpListener, to: String) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut from, _)) = listener.accept().await {
        let mut to = TcpStream::connect(&to).await.expect("Redis");
        connections.spawn(async move { copy_bidirectional(&mut from, &mut to).await });
    }
}

async fn open_proxy(place: &Place, address: &str) -> (String, JoinHandle<()>) {
    let url = redis::Client::open(place.redis_url.as_str()).expect("an address of Redis");
    let to = url.get_connection_info().addr().to_string();
    let listener = TcpListener::bind(address).await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    (address, tokio::spawn(proxy(listener, to)))
}

#[tokio::test]
async fn workers_are_woken_again_when_redis_is_back() {
    let place = Place::new().await;
    let (address, cut) = open_proxy(&place, "127.0.0.1:0").await;
    let mut engine = sleepy(place.engine());
    let (to, _) = (place.redis_url.rsplit_once('@')).expect("Redis asks for a password");
    engine.redis = RedisConnection::to(&format!("{to}@{address}")).expect("an address");
    let running = start(engine);
    let client = redis::Client::open(place.redis_url.as_str()).expect("an address of Redis");
    let redis = client.get_connection_manager().await.expect("Redis");
    enqueue_and_wake(&place, &redis, "before").await;
    place
        .until(10 * SECOND, 1, "select count(*) from runs")
        .await;

    cut.abort();
    let _ = cut.await;
    enqueue_and_wake(&place, &redis, "meanwhile").await;
    let (_, _back) = open_proxy(&place, &address).await;
    place
        .until(10 * SECOND, 2, "select count(*) from runs")
        .await;
    enqueue_and_wake(&place, &redis, "after").await;
    place
        .until(10 * SECOND, 3, "select count(*) from runs")
        .await;
    running.stop().await;
}

#[tokio::test]
async fn two_workers_run_each_job_once() {
    let place = Place::new().await;
    place.enqueue_all(&probes(2000, &Act::Pass)).await;
    let (one, other) = (place.start(), place.start());
    let done = "select count(*) from apalis.jobs where status = 'Done' and convert_from(job, 'UTF8') like '%test.probe%'";
    place.until(60 * SECOND, 2000, done).await;
    one.stop().await;
    other.stop().await;
    assert_eq!(place.runs().await, 2000);
    assert_eq!(
        place.count("select count(distinct id) from runs").await,
        2000
    );
}

#[tokio::test]
async fn the_jobs_of_a_killed_worker_are_taken_over() {
    let place = Place::new().await;
    let mut victim = place.process(8);
    place
        .enqueue_all(&probes(3, &Act::SleepFirst { ms: 600_000 }))
        .await;
    place
        .until(20 * SECOND, 3, "select count(*) from runs")
        .await;
    let mut heir = place.engine();
    // The heartbeat of an installation, so that its 15 seconds are what is measured.
    heir.settings.heartbeat.0 = SECOND;
    let running = start(heir);
    let killed = Instant::now();
    victim.kill().await.expect("killed");
    place
        .until(
            15 * SECOND,
            3,
            "select count(*) from apalis.jobs where status = 'Done' and attempts = 2",
        )
        .await;
    assert!(killed.elapsed() < 15 * SECOND);
    running.stop().await;
    assert_eq!(
        place.count("select count(*) from apalis.workers").await,
        0,
        "the dead are buried"
    );
}

/// As when the connection breaks after Postgres has given a job away and before it could say so.
#[tokio::test]
async fn a_claim_that_was_never_heard_of_is_found_again() {
    let place = Place::new().await;
    let running = place.start();
    let id = place
        .enqueue(&Probe {
            name: "early".into(),
            act: Act::Pass,
        })
        .await;
    place
        .until(
            10 * SECOND,
            1,
            "select count(*) from apalis.jobs where status = 'Done'",
        )
        .await;
    let lost = "update apalis.jobs set status = 'Queued', lock_at = now(), lock_by = (select id from apalis.workers)
        where id = $1";
    sqlx::query(lost)
        .bind(&id)
        .execute(&place.pool)
        .await
        .expect("lost");
    place
        .until(15 * SECOND, 2, "select count(*) from runs")
        .await;
    running.stop().await;
}

/// With all slots taken, more jobs waiting, and jobs that keep every connection of the pool to themselves.
#[tokio::test]
async fn a_busy_worker_is_not_taken_for_dead() {
    let place = Place::new().await;
    let mut busy = place.engine();
    busy.pool = PgPoolOptions::new()
        .max_connections(5)
        .connect(&place.database)
        .await
        .expect("the database");
    busy.state = busy.pool.clone();
    busy.settings.concurrency_beside = 5;
    let busy = start(busy);
    place
        .enqueue_all(&probes(10, &Act::KeepConnection { ms: 2500 }))
        .await;
    place
        .until(
            10 * SECOND,
            5,
            "select count(*) from apalis.jobs where lock_by is not null",
        )
        .await;
    let mut idle = place.engine();
    idle.settings.concurrency_beside = 1;
    let idle = start(idle);
    // A heart of 200 ms is missed after one second.
    place
        .until(
            30 * SECOND,
            10,
            "select count(*) from apalis.jobs where status = 'Done' and attempts = 1",
        )
        .await;
    busy.stop().await;
    idle.stop().await;
    assert_eq!(place.runs().await, 10);
}

async fn exit(child: &mut Child) -> std::process::ExitStatus {
    // Waiting would close its input, which would end it.
    let _input = child.stdin.take();
    tokio::time::timeout(60 * SECOND, child.wait())
        .await
        .expect("it ends")
        .expect("its status")
}

#[tokio::test]
async fn a_job_that_kills_its_workers_dies_and_the_others_live() {
    let place = Place::new().await;
    let killer = place
        .enqueue(&Fragile {
            name: "killer".into(),
            act: Act::Abort,
        })
        .await;
    place.enqueue_all(&probes(5, &Act::Sleep { ms: 300 })).await;
    let dead = "select count(*) from apalis.jobs where status = 'Killed'";
    // A supervisor starts it again whenever it dies.
    let supervisor = async {
        loop {
            assert!(!exit(&mut place.process(16)).await.success());
        }
    };
    tokio::select! {
        () = supervisor => {}
        () = place.until(90 * SECOND, 1, dead) => {}
    }
    assert_eq!(
        place.row(&killer).await.error.as_deref(),
        Some("its worker died each time it ran")
    );
    assert_eq!(
        place
            .count("select count(*) from runs where name = 'killer'")
            .await,
        3,
        "and not once more"
    );
    let running = place.start();
    place.until(30 * SECOND, 5, "select count(*) from apalis.jobs where status = 'Done' and convert_from(job, 'UTF8') like '%Sleep%'").await;
    running.stop().await;
}

async fn terminate(child: &Child) {
    let pid = child.id().expect("alive").to_string();
    assert!(
        tokio::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .expect("kill")
            .success()
    );
}

#[tokio::test]
async fn a_stopped_worker_finishes_what_runs_and_leaves_the_rest() {
    let place = Place::new().await;
    let mut worker = place.process(2);
    place
        .enqueue_all(&probes(6, &Act::Sleep { ms: 1500 }))
        .await;
    place
        .until(20 * SECOND, 2, "select count(*) from runs")
        .await;
    terminate(&worker).await;
    assert!(exit(&mut worker).await.success());
    assert_eq!(place.runs().await, 2);
    assert_eq!(
        place
            .count("select count(*) from apalis.jobs where status = 'Done'")
            .await,
        2
    );
    let untouched = "select count(*) from apalis.jobs where status = 'Pending' and attempts = 0 and lock_by is null";
    assert_eq!(place.count(untouched).await, 4);
    assert_eq!(place.count("select count(*) from apalis.workers").await, 0);
}

#[tokio::test]
async fn a_job_that_takes_too_long_to_stop_is_given_back() {
    let place = Place::new().await;
    let mut engine = place.engine();
    engine.drain = SECOND;
    let running = start(engine);
    let id = place.probe("long", Act::SleepFirst { ms: 600_000 }).await;
    place
        .until(10 * SECOND, 1, "select count(*) from runs")
        .await;
    let stopped = Instant::now();
    running.stop().await;
    assert!(stopped.elapsed() < 8 * SECOND);
    let stored = place.row(&id).await;
    assert_eq!(
        (stored.status.as_str(), stored.attempts, stored.lock_by),
        ("Pending", 0, None)
    );
}

/// It lasts longer than a dead worker's heart is waited for, so afterwards each of the two looks dead to the other, and
/// neither is.
#[tokio::test]
async fn workers_outlive_a_restart_of_postgres_and_take_nothing_from_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let servers = Services::throwaway(folder.path()).await;
    let mut servers = servers.expect("a place for servers");
    let postgres = servers.start_postgres(Promise::Fast).await;
    let place = Place::elsewhere(postgres.expect("Postgres").url()).await;
    let one_at_a_time = || {
        let mut engine = place.engine();
        engine.settings.concurrency_beside = 1;
        // That of an installation: who is slow to come back is not taken for dead.
        engine.settings.heartbeat.0 = SECOND;
        start(engine)
    };
    let (one, other) = (one_at_a_time(), one_at_a_time());
    place
        .enqueue_all(&probes(2, &Act::Sleep { ms: 1500 }))
        .await;
    place
        .until(10 * SECOND, 2, "select count(*) from runs")
        .await;
    let postgres = servers.postgres.as_mut().expect("started");
    postgres.stop().await.expect("stopped");
    // Both jobs end in the outage.
    tokio::time::sleep(2 * SECOND).await;
    postgres.start_again().await.expect("back");

    let done = "select count(*) from apalis.jobs where status = 'Done' and attempts = 1";
    place.until(15 * SECOND, 2, done).await;
    place.probe("afterwards", Act::Pass).await;
    place.until(15 * SECOND, 3, done).await;
    assert!(!one.task.is_finished() && !other.task.is_finished());
    one.stop().await;
    other.stop().await;
    assert_eq!(place.runs().await, 3, "none ran twice");
    servers.remove().await.expect("no server is left");
}

/// A server that hangs answers nobody and refuses nobody, longer than a worker may be silent.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_hangs_makes_no_living_worker_lose_its_jobs() {
    const WORKERS: usize = 5;
    let folder = tempfile::tempdir().expect("a folder");
    let servers = Services::throwaway(folder.path()).await;
    let mut servers = servers.expect("a place for servers");
    let postgres = servers.start_postgres(Promise::Fast).await;
    let place = Place::elsewhere(postgres.expect("Postgres").url()).await;
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let mut engine = place.engine();
            engine.settings.concurrency_beside = 1;
            engine.settings.heartbeat.0 = SECOND;
            start(engine)
        })
        .collect();
    // Each has one of them in its hands, beyond the time in which it begins to judge the others and through the hang.
    place
        .enqueue_all(&probes(WORKERS, &Act::Sleep { ms: 18_000 }))
        .await;
    let begun = WORKERS.try_into().expect("a few");
    place
        .until(10 * SECOND, begun, "select count(*) from runs")
        .await;
    tokio::time::sleep(7 * SECOND).await;
    let processes: Vec<i32> = sqlx::query_scalar("select pid from pg_stat_activity")
        .fetch_all(&place.pool)
        .await
        .expect("its processes");
    signal("STOP", &processes).await;
    tokio::time::sleep(8 * SECOND).await;
    signal("CONT", &processes).await;

    let done = "select count(*) from apalis.jobs where status = 'Done' and attempts = 1";
    place.until(30 * SECOND, begun, done).await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(place.runs().await, begun, "none ran twice");
    servers.remove().await.expect("no server is left");
}

async fn signal(name: &str, processes: &[i32]) {
    let processes = processes.iter().map(ToString::to_string);
    let mut kill = tokio::process::Command::new("kill");
    let done = kill.arg(format!("-{name}")).args(processes).status().await;
    assert!(done.expect("a program").success(), "{name}");
}
