//! How fast the product is: `DATABASE_URL=… REDIS_URL=… cargo run --release -p tests --bin bench [section …]`.
//!
//! Sections: `jobs`, the job engine with trivial jobs, so that what is measured is the engine and nothing else;
//! `logins`, a storm of logins; `lists`, lists among few events and among many; `orders`, buying, by processes of the
//! binary `holdfast` next to this one. Without a name all of them are measured. Each prints a table, then the same as
//! JSON.

mod client;
mod lists;
mod logins;
mod orders;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use redis::aio::ConnectionManager;
use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use shared::jobs::{self, Job, NewJob, Queue};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgPool};
use tests::env;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use worker::{Engine, Registry};

/// Enough for several seconds.
const JOBS: u64 = 60_000;
/// Jobs that one transaction asks for, and transactions at a time.
const PER_TRANSACTION: u64 = 10;
const CLIENTS: u64 = 8;
const SINGLES: usize = 500;

#[derive(Serialize, Deserialize)]
struct Trivial {}

impl Job for Trivial {
    const KIND: &'static str = "bench.trivial";
    const QUEUE: Queue = Queue::Purchase;
}

/// A job on its own, that tells when it began.
#[derive(Serialize, Deserialize)]
struct Single {}

impl Job for Single {
    const KIND: &'static str = "bench.single";
    const QUEUE: Queue = Queue::Purchase;
}

#[derive(Serialize)]
struct Report {
    jobs: u64,
    synchronous_commit: String,
    fsync: String,
    enqueued_per_second: f64,
    run_per_second: f64,
    end_to_end_per_second: f64,
    pick_up_p50_ms: f64,
    pick_up_p90_ms: f64,
    pick_up_p99_ms: f64,
    pick_up_max_ms: f64,
}

struct Bench {
    pool: PgPool,
    redis_url: String,
    redis: ConnectionManager,
    prefix: String,
    run: Arc<AtomicU64>,
    begun: mpsc::UnboundedSender<Instant>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (server, redis_url) = (env("DATABASE_URL"), env("REDIS_URL"));
    let named: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |section: &str| named.is_empty() || named.iter().any(|name| name == section);
    if wanted("jobs") {
        let prefix = fresh_prefix();
        sql(&server, format!("create database {prefix}")).await?;
        let result = measure(&server, redis_url.clone(), prefix.clone()).await;
        drop_database(&server, &prefix).await?;
        print(&result?)?;
    }
    if wanted("logins") {
        let prefix = fresh_prefix();
        sql(&server, format!("create database {prefix}")).await?;
        let (place, _) = server
            .rsplit_once('/')
            .context("DATABASE_URL ends with the name of a database")?;
        let database = format!("{place}/{prefix}");
        let result = logins::measure(&database, &redis_url, &prefix).await;
        drop_database(&server, &prefix).await?;
        logins::print(&result?)?;
    }
    if wanted("lists") {
        lists::print(&lists::measure(&server, &redis_url).await?)?;
    }
    if wanted("orders") {
        orders::print(&orders::measure(&server, &redis_url).await?)?;
    }
    Ok(())
}

fn fresh_prefix() -> String {
    format!("bench_{}", ulid::Ulid::generate()).to_lowercase()
}

async fn measure(server: &str, redis_url: String, prefix: String) -> anyhow::Result<Report> {
    let options: PgConnectOptions = server.parse()?;
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .connect_with(options.database(&prefix))
        .await?;
    jobs::install(&pool).await?;
    sqlx::raw_sql(include_str!("../../../../migrations/0002_recurring.sql"))
        .execute(&pool)
        .await?;
    let redis = redis::Client::open(redis_url.as_str())?
        .get_connection_manager()
        .await?;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let bench = Bench {
        pool,
        redis_url,
        redis,
        prefix,
        run: Arc::default(),
        begun,
    };

    let enqueued = rate(async { bench.enqueue(JOBS).await }).await?;
    let (stop, task) = bench.start()?;
    let run = rate(bench.wait_for(JOBS)).await?;
    let end_to_end = rate(async {
        bench.enqueue(JOBS).await?;
        bench.wait_for(2 * JOBS).await
    })
    .await?;
    let mut waits = bench.singles(&mut begins).await?;
    stop.cancel();
    task.await??;
    waits.sort_unstable();
    let percentile =
        |percent: usize| waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    Ok(Report {
        jobs: JOBS,
        synchronous_commit: bench.setting("show synchronous_commit").await?,
        fsync: bench.setting("show fsync").await?,
        enqueued_per_second: enqueued,
        run_per_second: run,
        end_to_end_per_second: end_to_end,
        pick_up_p50_ms: percentile(50),
        pick_up_p90_ms: percentile(90),
        pick_up_p99_ms: percentile(99),
        pick_up_max_ms: percentile(100),
    })
}

impl Bench {
    /// An engine as an installation has it, with default settings.
    fn start(
        &self,
    ) -> anyhow::Result<(
        CancellationToken,
        tokio::task::JoinHandle<Result<(), worker::EngineError>>,
    )> {
        let (run, begun) = (Arc::clone(&self.run), self.begun.clone());
        let registry = Registry::new()
            .on(move |_, _: Trivial| {
                run.fetch_add(1, Ordering::Relaxed);
                std::future::ready(Ok(()))
            })
            .on(move |_, _: Single| {
                std::future::ready(begun.send(Instant::now()).map_err(Into::into))
            });
        let mut settings = tests::queue::config().jobs;
        settings.heartbeat.0 = Duration::from_secs(1);
        let engine = Engine {
            pool: self.pool.clone(),
            redis: shared::redis_connection::RedisConnection::to(&self.redis_url)?,
            prefix: self.prefix.clone(),
            settings,
            drain: Duration::from_secs(20),
            registry,
            recurring: Vec::new(),
            state: (),
        };
        let stop = CancellationToken::new();
        Ok((stop.clone(), tokio::spawn(engine.run(stop))))
    }

    /// As the business does it: a few jobs per transaction, then a wake.
    async fn enqueue(&self, jobs: u64) -> anyhow::Result<()> {
        let clients = (0..CLIENTS).map(|_| async {
            for _ in 0..jobs / CLIENTS / PER_TRANSACTION {
                let trivial = |_| NewJob::new(&Trivial {}, now());
                self.commit(&(0..PER_TRANSACTION).map(trivial).collect::<Vec<_>>())
                    .await?;
            }
            anyhow::Ok(())
        });
        futures_util::future::try_join_all(clients).await?;
        Ok(())
    }

    async fn commit(&self, new: &[NewJob]) -> anyhow::Result<()> {
        let mut tx = self.pool.begin().await?;
        let queues = jobs::insert(&mut tx, new).await?;
        tx.commit().await?;
        jobs::wake(&self.redis, &self.prefix, &queues).await;
        Ok(())
    }

    /// Until so many have run and are written down as done.
    async fn wait_for(&self, jobs: u64) -> anyhow::Result<()> {
        while self.run.load(Ordering::Relaxed) < jobs {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let waiting =
            "select count(*) from apalis.jobs where status <> 'Done' and job_type = 'purchase'";
        while sqlx::query_scalar::<_, i64>(waiting)
            .fetch_one(&self.pool)
            .await?
            > 0
        {}
        Ok(())
    }

    /// From the commit to the first line of the handler, for jobs that come alone.
    async fn singles(
        &self,
        begins: &mut mpsc::UnboundedReceiver<Instant>,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut waits = Vec::new();
        for _ in 0..SINGLES {
            let mut tx = self.pool.begin().await?;
            let queues = jobs::insert(&mut tx, &[NewJob::new(&Single {}, now())]).await?;
            tx.commit().await?;
            let committed = Instant::now();
            jobs::wake(&self.redis, &self.prefix, &queues).await;
            let begun = begins.recv().await.context("the engine is gone")?;
            waits.push(begun.saturating_duration_since(committed));
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        Ok(waits)
    }

    async fn setting(&self, show: &'static str) -> anyhow::Result<String> {
        Ok(sqlx::query_scalar(show).fetch_one(&self.pool).await?)
    }
}

/// Jobs per second, when `work` does all of them.
#[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
async fn rate(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<f64> {
    let begun = Instant::now();
    work.await?;
    Ok(JOBS as f64 / begun.elapsed().as_secs_f64())
}

fn now() -> DateTime<Utc> {
    Clock::System.now()
}

/// Autovacuum may be at work in it, which only a superuser may cut off: then it is let finish.
async fn drop_database(server: &str, name: &str) -> anyhow::Result<()> {
    for _ in 0..40 {
        if sql(server, format!("drop database {name} with (force)"))
            .await
            .is_ok()
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    sql(server, format!("drop database {name} with (force)")).await
}

async fn sql(server: &str, sentence: String) -> anyhow::Result<()> {
    let mut conn = server.parse::<PgConnectOptions>()?.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(sentence))
        .execute(&mut conn)
        .await?;
    Ok(())
}

fn print(report: &Report) -> anyhow::Result<()> {
    println!(
        "Job engine, {} trivial jobs, fsync {}, synchronous_commit {}",
        report.jobs, report.fsync, report.synchronous_commit
    );
    println!(
        "  enqueued              {:>9.0} jobs/s",
        report.enqueued_per_second
    );
    println!(
        "  run from a backlog    {:>9.0} jobs/s",
        report.run_per_second
    );
    println!(
        "  enqueued and run      {:>9.0} jobs/s",
        report.end_to_end_per_second
    );
    println!(
        "  picked up after       {:>9.1} ms p50, {:.1} ms p90, {:.1} ms p99, {:.1} ms at most",
        report.pick_up_p50_ms, report.pick_up_p90_ms, report.pick_up_p99_ms, report.pick_up_max_ms
    );
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}
