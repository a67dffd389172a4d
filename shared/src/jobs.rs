//! Work for later, written down by the transaction that asks for it.
//!
//! A committed job runs at least once, on whichever worker is alive; a rolled back one never existed. So a handler
//! carries ids only, reads the world anew and finishes quietly when nothing is left to do. The table is that of
//! apalis; this module is what the business and an operator do with it, `worker::queue` is what a worker does.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use apalis_postgres::PostgresStorage;
use chrono::{DateTime, TimeDelta, Utc};
use redis::aio::ConnectionLike;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use ulid::Ulid;

use crate::ids;

/// The lanes that jobs run in. Few, because a worker asks for work once per lane; apart, because a thousand slow
/// mails must not stand in front of a purchase, nor a Stripe that hangs in front of what costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// What needs nobody but us.
    Purchase,
    /// What talks with Stripe.
    Payment,
    Mail,
    Background,
}

impl Queue {
    pub const ALL: [Self; 4] = [Self::Purchase, Self::Payment, Self::Mail, Self::Background];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Payment => "payment",
            Self::Mail => "mail",
            Self::Background => "background",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|queue| queue.name() == name)
    }
}

/// A kind of work. Its fields are ids: the handler re-reads everything else.
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    /// What it does, like `mail.send`. It is stored, so it outlives every renaming of the type.
    const KIND: &'static str;
    const QUEUE: Queue;
    /// After this many failures the job is dead and waits for an operator. With the backoff, 25 take half a day.
    const MAX_ATTEMPTS: u16 = 25;
}

/// What is stored of a job, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    pub kind: String,
    pub args: Value,
    /// The request, activity or job that asked for it.
    pub cause: Option<String>,
    /// The W3C `traceparent` of whoever asked for it.
    pub trace: Option<String>,
}

/// How keys begin that are free again when their job has ended.
const UNTIL_ENDED: &str = "until-ended/";

/// A job about to be written.
#[derive(Debug, Clone)]
pub struct NewJob {
    id: String,
    queue: Queue,
    kind: &'static str,
    max_attempts: u16,
    args: Value,
    run_at: DateTime<Utc>,
    immediate: bool,
    key: Option<String>,
    cause: Option<String>,
    trace: Option<String>,
}

impl NewJob {
    /// A job to run at once.
    #[must_use]
    pub fn new<J: Job>(job: &J, now: DateTime<Utc>) -> Self {
        Self {
            id: fresh_id(now),
            queue: J::QUEUE,
            kind: J::KIND,
            max_attempts: J::MAX_ATTEMPTS,
            args: serde_json::to_value(job).expect("ids and the maps of ids are always JSON"),
            run_at: now,
            immediate: true,
            key: None,
            cause: None,
            trace: None,
        }
    }

    /// Not before `at`.
    #[must_use]
    pub fn run_at(self, at: DateTime<Utc>) -> Self {
        Self {
            run_at: at,
            immediate: false,
            ..self
        }
    }

    /// One job of this queue per key, for as long as the first is kept.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        Self {
            key: Some(key.into()),
            ..self
        }
    }

    /// One job of this kind per subject at a time: while one waits or runs, another is left out. One that is left out
    /// while the first runs may come after what the first has read, so this is for what is asked for again and again.
    #[must_use]
    pub fn one_at_a_time(self, subject: impl fmt::Display) -> Self {
        let key = format!("{UNTIL_ENDED}{}/{subject}", self.kind);
        self.key(key)
    }

    #[must_use]
    pub fn cause(self, cause: Option<String>) -> Self {
        Self { cause, ..self }
    }

    #[must_use]
    pub fn trace(self, trace: Option<String>) -> Self {
        Self { trace, ..self }
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn payload(&self) -> String {
        let envelope = Envelope {
            kind: self.kind.to_owned(),
            args: self.args.clone(),
            cause: self.cause.clone(),
            trace: self.trace.clone(),
        };
        serde_json::to_string(&envelope).expect("a JSON value is always JSON")
    }
}

/// apalis wants a ULID: the same 48 bits of time and then randomness as our other ids, in another spelling.
#[must_use]
pub fn fresh_id(now: DateTime<Utc>) -> String {
    Ulid::from_bytes(ids::fresh(now).into_bytes()).to_string()
}

/// Writes the jobs in the caller's transaction. A job whose key is taken is left out.
///
/// Answers the queues that have something to do at once: [`wake`] them after the commit.
pub async fn insert(
    conn: &mut PgConnection,
    jobs: &[NewJob],
) -> Result<BTreeSet<Queue>, sqlx::Error> {
    if jobs.is_empty() {
        return Ok(BTreeSet::new());
    }
    let ids: Vec<&str> = jobs.iter().map(NewJob::id).collect();
    let queues: Vec<&str> = jobs.iter().map(|job| job.queue.name()).collect();
    let payloads: Vec<String> = jobs.iter().map(NewJob::payload).collect();
    let max_attempts: Vec<i32> = jobs.iter().map(|job| job.max_attempts.into()).collect();
    let run_ats: Vec<DateTime<Utc>> = jobs.iter().map(|job| job.run_at).collect();
    let immediate: Vec<bool> = jobs.iter().map(|job| job.immediate).collect();
    let keys: Vec<Option<&str>> = jobs.iter().map(|job| job.key.as_deref()).collect();
    free_keys(conn, &keys).await?;
    // A job for now is due by the clock of the database, however far ahead the clock of our host may be.
    let written = sqlx::query!(
        r#"insert into apalis.jobs (id, job_type, job, max_attempts, run_at, idempotency_key)
           select id, queue, convert_to(payload, 'UTF8'), max_attempts,
                  case when immediate then least(now(), run_at) else run_at end, key
           from unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::timestamptz[], $6::bool[], $7::text[])
                as new (id, queue, payload, max_attempts, run_at, immediate, key)
           on conflict (job_type, idempotency_key) do nothing
           returning job_type as queue, run_at <= now() as "due!""#,
        &ids as _,
        &queues as _,
        &payloads,
        &max_attempts,
        &run_ats,
        &immediate,
        &keys as _,
    )
    .fetch_all(&mut *conn)
    .await?;
    Ok(written
        .iter()
        .filter(|job| job.due)
        .filter_map(|job| Queue::named(&job.queue))
        .collect())
}

/// Takes the keys that stand for a job until it has ended from jobs that have.
async fn free_keys(conn: &mut PgConnection, keys: &[Option<&str>]) -> Result<(), sqlx::Error> {
    let keys = keys.iter().flatten().copied();
    let keys: Vec<&str> = keys.filter(|key| key.starts_with(UNTIL_ENDED)).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let queues = Queue::ALL.map(Queue::name);
    sqlx::query!(
        "update apalis.jobs set idempotency_key = null
         where job_type = any($1) and idempotency_key = any($2) and status in ('Done', 'Killed')",
        &queues as _,
        &keys as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Where [`wake`] tells the workers of an installation.
#[must_use]
pub fn wake_channel(prefix: &str) -> String {
    format!("{prefix}:wake")
}

/// Tells the workers that there is something to do, after the commit. It costs the caller next to nothing and may
/// be lost: workers also look by themselves a few times a second.
pub async fn wake<C: ConnectionLike + Clone>(redis: &C, prefix: &str, queues: &BTreeSet<Queue>) {
    if queues.is_empty() {
        return;
    }
    let channel = wake_channel(prefix);
    let mut pipe = redis::pipe();
    for queue in queues {
        pipe.publish(&channel, queue.name()).ignore();
    }
    let mut redis = redis.clone();
    let told = tokio::time::timeout(Duration::from_millis(100), pipe.exec_async(&mut redis)).await;
    if !matches!(told, Ok(Ok(()))) {
        tracing::debug!("workers were not woken: Redis does not answer");
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("the tables of apalis could not be made")]
    Apalis(#[from] apalis_postgres::Error),
    #[error("the tables of apalis could not be adapted")]
    Adapt(#[from] sqlx::Error),
}

/// Makes the tables of apalis, or brings them up to date. Run at every `migrate`.
pub async fn install(pool: &PgPool) -> Result<(), InstallError> {
    PostgresStorage::setup(pool).await?;
    sqlx::raw_sql(include_str!("jobs_install.sql"))
        .execute(pool)
        .await?;
    Ok(())
}

/// The migrations that apalis brings along.
pub(crate) fn migrations() -> sqlx::migrate::Migrator {
    PostgresStorage::migrations()
}

/// How a queue is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Depth {
    pub queue: String,
    /// Not begun, whenever they are due.
    pub waiting: i64,
    pub due: i64,
    pub running: i64,
    pub dead: i64,
    /// How long the longest waiting due job has been due.
    pub oldest_due_seconds: f64,
}

/// How each queue is doing.
pub async fn depths(conn: &mut PgConnection) -> Result<Vec<Depth>, sqlx::Error> {
    let queues = Queue::ALL.map(Queue::name);
    sqlx::query_file_as!(Depth, "src/jobs_depths.sql", &queues as _)
        .fetch_all(conn)
        .await
}

/// A job that will not run again unless somebody says so.
#[derive(Debug, Clone, Serialize)]
pub struct DeadJob {
    pub id: String,
    pub queue: String,
    /// As stored; text when it is not the JSON of an [`Envelope`].
    pub payload: Value,
    pub attempts: i32,
    pub error: Option<String>,
    pub died_at: Option<DateTime<Utc>>,
}

/// The dead jobs, the latest first, `limit` of them from before the id `before`.
pub async fn dead(
    conn: &mut PgConnection,
    before: Option<&str>,
    limit: u16,
) -> Result<Vec<DeadJob>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select id, job_type, job, attempts, last_result ->> 'Err' as error, done_at
           from apalis.jobs
           where status = 'Killed' and ($1::text is null or id < $1)
           order by id desc
           limit $2"#,
        before,
        i64::from(limit),
    )
    .fetch_all(conn)
    .await?;
    let readable = |bytes: &[u8]| {
        serde_json::from_slice(bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
    };
    Ok(rows
        .into_iter()
        .map(|row| DeadJob {
            id: row.id,
            queue: row.job_type,
            payload: readable(&row.job),
            attempts: row.attempts,
            error: row.error,
            died_at: row.done_at,
        })
        .collect())
}

/// Lets a dead job run again, with all its attempts. Answers its queue, to be woken; `None` if it is not dead.
pub async fn retry(conn: &mut PgConnection, id: &str) -> Result<Option<Queue>, sqlx::Error> {
    let queue = sqlx::query_scalar!(
        "update apalis.jobs set status = 'Pending', attempts = 0, run_at = now(), done_at = null
         where id = $1 and status = 'Killed'
         returning job_type",
        id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(queue.as_deref().and_then(Queue::named))
}

/// Throws a dead job away. False if it is not dead.
pub async fn discard(conn: &mut PgConnection, id: &str) -> Result<bool, sqlx::Error> {
    let thrown = sqlx::query!(
        "delete from apalis.jobs where id = $1 and status = 'Killed'",
        id
    )
    .execute(conn)
    .await?;
    Ok(thrown.rows_affected() > 0)
}

/// Deletes at most `limit` of the jobs that were done before `before`, and says how many. Dead jobs stay.
pub async fn prune(
    conn: &mut PgConnection,
    before: DateTime<Utc>,
    limit: u32,
) -> Result<u64, sqlx::Error> {
    // An id begins with the time it was made, so the primary key leads straight to the old ones.
    let made_before = Ulid::from_parts(
        u64::try_from(before.timestamp_millis()).unwrap_or_default(),
        0,
    );
    let pruned = sqlx::query!(
        "delete from apalis.jobs where id in (
             select id from apalis.jobs
             where id < $1 and status = 'Done' and done_at < $2
             order by id limit $3
             for update skip locked
         )",
        made_before.to_string(),
        before,
        i64::from(limit),
    )
    .execute(conn)
    .await?;
    Ok(pruned.rows_affected())
}

/// How long a job that failed for the `attempt`-th time waits: twice as long each time, from a second to an hour.
/// `jitter` is drawn from 0 to 1 and moves it by a quarter either way, so that what failed together comes back apart.
#[must_use]
pub fn backoff(attempt: u16, jitter: f64) -> TimeDelta {
    let doubled = 2_f64.powi(i32::from(attempt.clamp(1, 13)) - 1).min(3600.0);
    let millis = doubled * 1000.0 * (0.75 + jitter / 2.0);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most an hour and a quarter"
    )]
    TimeDelta::milliseconds(millis as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_a_ulid_that_carries_its_time() {
        let now = DateTime::from_timestamp_millis(1_800_000_000_123).expect("a time");
        let id = Ulid::from_string(&fresh_id(now)).expect("a ULID");
        assert_eq!(id.timestamp_ms(), 1_800_000_000_123);
    }

    #[test]
    fn queues_are_found_by_their_names() {
        for queue in Queue::ALL {
            assert_eq!(Queue::named(queue.name()), Some(queue));
        }
        assert_eq!(Queue::named("other"), None);
    }

    proptest! {
        #[test]
        fn a_backoff_grows_whatever_the_jitter(attempt in 1_u16..12, a in 0.0..1.0, b in 0.0..1.0) {
            prop_assert!(backoff(attempt, a) < backoff(attempt + 1, b));
        }

        #[test]
        fn a_backoff_is_bounded(attempt: u16, jitter in 0.0..1.0) {
            let wait = backoff(attempt, jitter);
            prop_assert!(wait >= TimeDelta::milliseconds(750) && wait <= TimeDelta::minutes(75));
        }
    }
}
