//! Jobs that misbehave on demand, for the tests of the job engine, in the test itself or in a worker process.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::config::{Config, Jobs, Source};
use shared::jobs::{Job, Queue};
use shared::redis_connection::RedisConnection;
use shared::telemetry;
use sqlx::PgPool;
use tokio::time::sleep;
use worker::{Engine, JobContext, JobError, JobResult, Registry};

/// Where handlers write down that they were begun.
pub const RUNS: &str = "create table runs (
    n bigint generated always as identity, name text, id text, attempt int, cause text, trace text,
    at timestamptz default clock_timestamp()
)";

/// What a job does once it is begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Act {
    Pass,
    Sleep {
        ms: u64,
    },
    /// Takes long, but only at its first attempt.
    SleepFirst {
        ms: u64,
    },
    /// Takes a connection of its worker's pool and keeps it for so long.
    KeepConnection {
        ms: u64,
    },
    Fail {
        why: String,
    },
    Dead {
        why: String,
    },
    Panic {
        why: String,
    },
    Later {
        at: DateTime<Utc>,
    },
    /// Takes its whole process down.
    Abort,
}

/// A job with 25 attempts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Probe {
    pub name: String,
    pub act: Act,
}

impl Job for Probe {
    const KIND: &'static str = "test.probe";
    const QUEUE: Queue = Queue::Background;
}

/// A job with 3 attempts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fragile {
    pub name: String,
    pub act: Act,
}

impl Job for Fragile {
    const KIND: &'static str = "test.fragile";
    const QUEUE: Queue = Queue::Background;
    const MAX_ATTEMPTS: u16 = 3;
}

/// A job that comes before the others.
#[derive(Debug, Serialize, Deserialize)]
pub struct Urgent {
    pub name: String,
    pub act: Act,
}

impl Job for Urgent {
    const KIND: &'static str = "test.urgent";
    const QUEUE: Queue = Queue::Purchase;
}

/// A job that no worker knows.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unknown {}

impl Job for Unknown {
    const KIND: &'static str = "test.unknown";
    const QUEUE: Queue = Queue::Background;
    const MAX_ATTEMPTS: u16 = 1;
}

#[must_use]
pub fn registry() -> Registry<PgPool> {
    Registry::new()
        .on(|context, job: Probe| run(context, job.name, job.act))
        .on(|context, job: Fragile| run(context, job.name, job.act))
        .on(|context, job: Urgent| run(context, job.name, job.act))
}

async fn run(context: JobContext<PgPool>, name: String, act: Act) -> JobResult {
    sqlx::query("insert into runs (name, id, attempt, cause, trace) values ($1, $2, $3, $4, $5)")
        .bind(name)
        .bind(&context.id)
        .bind(i32::from(context.attempt))
        .bind(&context.cause)
        .bind(telemetry::current_traceparent())
        .execute(&context.state)
        .await?;
    match act {
        Act::Sleep { ms } => sleep(Duration::from_millis(ms)).await,
        Act::SleepFirst { ms } if context.attempt == 1 => sleep(Duration::from_millis(ms)).await,
        Act::Pass | Act::SleepFirst { .. } => {}
        Act::KeepConnection { ms } => {
            let _kept = context.state.acquire().await?;
            sleep(Duration::from_millis(ms)).await;
        }
        Act::Fail { why } => return Err(JobError::Retry(anyhow::Error::msg(why))),
        Act::Dead { why } => return Err(JobError::Dead(anyhow::Error::msg(why))),
        Act::Panic { why } => panic!("{why}"),
        Act::Later { at } => {
            return Err(JobError::Later {
                at,
                why: "too early".into(),
            });
        }
        Act::Abort => std::process::abort(),
    }
    Ok(())
}

/// The configuration of an installation, with a heart that beats fast enough for impatient tests.
#[must_use]
pub fn config() -> Config {
    let env = [
        ("DATABASE_URL", "postgres://nobody@nowhere/unused"),
        ("REDIS_URL", "redis://nowhere"),
        ("HOLDFAST_GENERAL_MODE", "development"),
        ("HOLDFAST_JOBS_HEARTBEAT", "200ms"),
        ("HOLDFAST_TELEMETRY_LOG", "off"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Config::read(&Source {
        env: env.into(),
        ..Source::default()
    })
    .expect("settings")
}

/// An engine that runs the jobs of this module.
#[must_use]
pub fn engine(pool: PgPool, redis_url: &str, prefix: &str, settings: Jobs) -> Engine<PgPool> {
    Engine {
        redis: RedisConnection::to(redis_url).expect("an address of Redis"),
        prefix: prefix.to_owned(),
        settings,
        drain: Duration::from_secs(10),
        registry: registry(),
        recurring: Vec::new(),
        state: pool.clone(),
        pool,
    }
}
