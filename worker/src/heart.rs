//! Who is alive, and what becomes of the jobs of those who are not.
//!
//! apalis' own heartbeat stops while its worker is busy, and its sweep makes the jobs of the dead due at once: a job
//! that kills its worker takes down one after the other, and 63 innocents with it each time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval};

/// A worker that misses so many heartbeats is dead.
const MISSED: u32 = 5;

/// The ids of the jobs that a worker has in its hands: claimed, and their end not yet written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<Mutex<HashSet<String>>>);

impl Held {
    pub(crate) fn take<'a>(&self, ids: impl Iterator<Item = &'a String>) {
        self.ids().extend(ids.cloned());
    }

    pub(crate) fn release<'a>(&self, ids: impl Iterator<Item = &'a String>) {
        let mut held = self.ids();
        for id in ids {
            held.remove(id);
        }
    }

    fn ids(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that `worker` is alive; answers when that was by the clock of Postgres. The worker need not be known before: whoever took
/// it for dead has removed it.
pub(crate) async fn beat(pool: &PgPool, worker: &str) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(
        "insert into apalis.workers (id, worker_type, storage_name, last_seen, started_at)
         values ($1, 'holdfast', 'postgres', now(), now())
         on conflict (id) do update set last_seen = now()
         returning last_seen",
        worker,
    )
    .fetch_one(pool)
    .await
}

/// Beats for ever, and looks after the jobs that nobody looks after.
pub(crate) async fn keep_beating(pool: PgPool, worker: String, held: Held, every: Duration) {
    let dead_after = every * MISSED;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut steady_since, mut looked) = (None, Instant::now());
    let mut last_beat = Instant::now();
    loop {
        ticks.tick().await;
        let beat_at = match beat(&pool, &worker).await {
            Ok(at) => at,
            Err(error) => {
                tracing::warn!(%error, "no heartbeat");
                steady_since = None;
                continue;
            }
        };
        // A Postgres that hangs is an outage without an error, and so is a process that was stopped.
        let pause = std::mem::replace(&mut last_beat, Instant::now()).elapsed();
        if pause > 2 * every {
            steady_since = None;
        }
        // After an outage of Postgres everybody looks dead. Judge others only when they have had the time to speak.
        if steady_since.get_or_insert_with(Instant::now).elapsed() < dead_after {
            continue;
        }
        if let Err(error) = take_over(&pool, dead_after, beat_at + every).await {
            tracing::warn!(%error, "cannot look for dead workers");
        }
        if looked.elapsed() > 3 * dead_after {
            looked = Instant::now();
            if let Err(error) = find_lost(&pool, &worker, &held, 3 * dead_after).await {
                tracing::warn!(%error, "cannot look for lost jobs");
            }
        }
    }
}

/// Makes jobs due again that are ours and that we know nothing of: Postgres gave them to us, and the connection broke
/// before it could say so. `after` is longer than any claim takes.
async fn find_lost(
    pool: &PgPool,
    worker: &str,
    held: &Held,
    after: Duration,
) -> Result<(), sqlx::Error> {
    let held: Vec<String> = held.ids().iter().cloned().collect();
    let found = sqlx::query!(
        "update apalis.jobs set status = 'Pending', lock_by = null
         where lock_by = $1 and status in ('Queued', 'Running')
           and lock_at < now() - $2 * interval '1 second' and id <> all($3)",
        worker,
        after.as_secs_f64(),
        &held,
    )
    .execute(pool)
    .await?;
    if found.rows_affected() > 0 {
        tracing::warn!(
            jobs = found.rows_affected(),
            "found jobs claimed without our knowledge"
        );
    }
    Ok(())
}

/// Makes the jobs of dead workers due again, and removes the dead. A job that was begun before waits a while, at
/// random: one that kills its workers kills ever more rarely, and meets other company each time.
///
/// Nothing happens after `until`, by the clock of Postgres: where it hung in between, others could not say that they live.
async fn take_over(
    pool: &PgPool,
    dead_after: Duration,
    until: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let dead_after = dead_after.as_secs_f64();
    // Asked first and apart: nobody is dead nearly always, and then the jobs need not be looked at.
    let dead = sqlx::query_scalar!(
        "select id from apalis.workers
         where last_seen < now() - $1 * interval '1 second' and clock_timestamp() < $2",
        dead_after,
        until,
    )
    .fetch_all(pool)
    .await?;
    if dead.is_empty() {
        return Ok(());
    }
    let taken = sqlx::query!(
        r#"update apalis.jobs set
               status = 'Pending',
               attempts = attempts + 1,
               run_at = now() + case when attempts = 0 then 0 else random() * least(power(2, attempts), 3600) end
                                * interval '1 second',
               last_result = '{"Err": "its worker died"}',
               lock_by = null
           where lock_by = any($1) and status in ('Queued', 'Running') and clock_timestamp() < $2"#,
        &dead,
        until,
    )
    .execute(pool)
    .await?;
    sqlx::query!(
        "delete from apalis.workers
         where id = any($1) and last_seen < now() - $2 * interval '1 second'
           and not exists (select from apalis.jobs where lock_by = workers.id)",
        &dead,
        dead_after,
    )
    .execute(pool)
    .await?;
    tracing::warn!(workers = ?dead, jobs = taken.rows_affected(), "took over from dead workers");
    Ok(())
}

/// The last words of a worker that stops: what it was not able to finish is free, and no attempt was made.
pub(crate) async fn give_back(pool: &PgPool, worker: &str) -> Result<u64, sqlx::Error> {
    let given = sqlx::query!(
        "update apalis.jobs set status = 'Pending', lock_by = null where lock_by = $1 and status in ('Queued', 'Running')",
        worker,
    )
    .execute(pool)
    .await?;
    sqlx::query!("delete from apalis.workers where id = $1", worker)
        .execute(pool)
        .await?;
    Ok(given.rows_affected())
}
