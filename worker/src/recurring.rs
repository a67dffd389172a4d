//! Jobs that come back every so often.
//!
//! A tick is a multiple of the period since 1970, so all workers agree on it. What remembers the last one is a row
//! of a table: two workers make each tick once, missed ones are known after a pause, and pruning forgets nothing.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use shared::jobs::{self, Job, NewJob, Queue};
use sqlx::{PgConnection, PgPool};
use tokio::time::{MissedTickBehavior, interval};

use crate::registry::{JobResult, Registry};

/// What is made up for after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Every missed tick, but no more than the last so many.
    Each(u16),
    /// The last tick only: it does the work of those before it.
    Latest,
}

/// A job that comes back.
pub struct Recurring {
    name: &'static str,
    kind: &'static str,
    every: TimeDelta,
    catch_up: CatchUp,
    job: Box<dyn Fn(DateTime<Utc>) -> NewJob + Send + Sync>,
}

impl fmt::Debug for Recurring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) every {}", self.name, self.kind, self.every)
    }
}

impl Recurring {
    /// `job` is given the time of its tick. Panics if `every` is less than a second.
    pub fn new<J: Job>(
        name: &'static str,
        every: Duration,
        catch_up: CatchUp,
        job: impl Fn(DateTime<Utc>) -> J + Send + Sync + 'static,
    ) -> Self {
        let every = TimeDelta::from_std(every).expect("a period that a calendar can hold");
        assert!(
            every >= TimeDelta::seconds(1),
            "{name} recurs too often for its own good"
        );
        Self {
            name,
            kind: J::KIND,
            every,
            catch_up,
            job: Box::new(move |tick| NewJob::new(&job(tick), tick)),
        }
    }

    #[cfg(test)]
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// The last tick at or before `now`.
    fn current(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let now = now.timestamp_millis();
        let tick = now - now.rem_euclid(self.every.num_milliseconds());
        DateTime::from_timestamp_millis(tick)
            .expect("no more than a period from a time that exists")
    }

    /// The ticks to make jobs of, the oldest first.
    fn missed(&self, last: DateTime<Utc>, current: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let at_most = match self.catch_up {
            CatchUp::Each(max) => usize::from(max),
            CatchUp::Latest => 1,
        };
        let back = std::iter::successors(Some(current), |tick| Some(*tick - self.every));
        let mut ticks: Vec<_> = back.take_while(|tick| *tick > last).take(at_most).collect();
        ticks.reverse();
        ticks
    }

    /// Makes jobs of the ticks since the last look, in one transaction. The first look ever only takes its bearings.
    async fn catch_up(&self, pool: &PgPool, now: DateTime<Utc>) -> Result<usize, sqlx::Error> {
        let current = self.current(now);
        let mut tx = pool.begin().await?;
        sqlx::query!(
            "insert into recurring_jobs (name, last_tick) values ($1, $2) on conflict (name) do nothing",
            self.name,
            current,
        )
        .execute(&mut *tx)
        .await?;
        let last = sqlx::query_scalar!(
            "select last_tick from recurring_jobs where name = $1 for update",
            self.name
        )
        .fetch_one(&mut *tx)
        .await?;
        let ticks = self.missed(last, current);
        let job = |tick: &DateTime<Utc>| {
            (self.job)(*tick).key(format!("{}:{}", self.name, tick.timestamp()))
        };
        jobs::insert(&mut tx, &ticks.iter().map(job).collect::<Vec<_>>()).await?;
        sqlx::query!(
            "update recurring_jobs set last_tick = greatest(last_tick, $2) where name = $1",
            self.name,
            current,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(ticks.len())
    }
}

/// Makes jobs of all ticks up to `now`, and says how many.
pub async fn tick(
    pool: &PgPool,
    recurring: &[Recurring],
    now: DateTime<Utc>,
) -> Result<usize, sqlx::Error> {
    // Looked at without a lock first: almost always there is nothing to do.
    let last: HashMap<String, DateTime<Utc>> =
        sqlx::query!("select name, last_tick from recurring_jobs")
            .fetch_all(pool)
            .await?
            .into_iter()
            .map(|row| (row.name, row.last_tick))
            .collect();
    let mut made = 0;
    for recurring in recurring {
        if last
            .get(recurring.name)
            .is_none_or(|last| *last < recurring.current(now))
        {
            made += recurring.catch_up(pool, now).await?;
        }
    }
    Ok(made)
}

/// Makes jobs of the ticks as they come, by the clock of the database.
pub(crate) async fn keep_ticking(pool: PgPool, recurring: Vec<Recurring>) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        if let Err(error) = tick_now(&pool, &recurring).await {
            tracing::warn!(%error, "recurring jobs have to wait");
        }
    }
}

async fn tick_now(pool: &PgPool, recurring: &[Recurring]) -> Result<usize, sqlx::Error> {
    let now = database_now(&mut *pool.acquire().await?).await?;
    tick(pool, recurring, now).await
}

/// Deletes the jobs that were done long ago.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prune {}

impl Job for Prune {
    const KIND: &'static str = "jobs.prune";
    const QUEUE: Queue = Queue::Background;
}

/// The engine's own recurring job, and its handler.
pub(crate) fn housekeeping<S>(
    registry: Registry<S>,
    pool: PgPool,
    keep: TimeDelta,
) -> (Registry<S>, Recurring)
where
    S: Clone + Send + Sync + 'static,
{
    let registry = registry.on(move |_, _: Prune| prune(pool.clone(), keep));
    (
        registry,
        Recurring::new(
            "jobs.prune",
            Duration::from_hours(1),
            CatchUp::Latest,
            |_| Prune {},
        ),
    )
}

/// In batches, so that no transaction is long and no lock is held for long.
async fn prune(pool: PgPool, keep: TimeDelta) -> JobResult {
    const BATCH: u32 = 1000;
    let mut conn = pool.acquire().await?;
    let before = database_now(&mut conn).await? - keep;
    while jobs::prune(&mut conn, before, BATCH).await? == u64::from(BATCH) {}
    Ok(())
}

/// The time that all workers agree on.
pub(crate) async fn database_now(conn: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(r#"select now() as "now!""#)
        .fetch_one(conn)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u32, second: u32) -> DateTime<Utc> {
        let second = i64::from(minute * 60 + second);
        DateTime::from_timestamp(1_800_000_000 + second, 0).expect("a time")
    }

    fn every_minute(catch_up: CatchUp) -> Recurring {
        Recurring::new("test", Duration::from_mins(1), catch_up, |_| Prune {})
    }

    #[test]
    fn a_tick_is_a_multiple_of_the_period() {
        assert_eq!(every_minute(CatchUp::Latest).current(at(3, 59)), at(3, 0));
        assert_eq!(every_minute(CatchUp::Latest).current(at(4, 0)), at(4, 0));
    }

    #[test]
    fn missed_ticks_are_made_up_for_as_far_as_was_asked() {
        let missed = |catch_up, last, current| every_minute(catch_up).missed(last, current);
        assert!(missed(CatchUp::Each(9), at(1, 0), at(1, 0)).is_empty());
        assert_eq!(
            missed(CatchUp::Each(9), at(1, 0), at(3, 0)),
            [at(2, 0), at(3, 0)]
        );
        assert_eq!(
            missed(CatchUp::Each(2), at(1, 0), at(9, 0)),
            [at(8, 0), at(9, 0)]
        );
        assert_eq!(missed(CatchUp::Latest, at(1, 0), at(9, 0)), [at(9, 0)]);
        assert!(
            missed(CatchUp::Latest, at(9, 0), at(1, 0)).is_empty(),
            "a clock that was set back"
        );
    }
}
