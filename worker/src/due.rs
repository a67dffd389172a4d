//! Runs what is due by a test's own clock, one job after the other, through the same code as the engine.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use crate::attempt::{Claimed, attempt};
use crate::heart;
use crate::ledger;
use crate::registry::Registry;

const WORKER: &str = "run-due";

/// Runs every job that is due at `now`, and those that they ask for, until none is left. Says how many attempts that
/// took. A failed job waits from `now` on, so it is tried again once the test's clock has moved.
pub async fn run_due<S>(
    pool: &PgPool,
    registry: &Registry<S>,
    state: &S,
    now: DateTime<Utc>,
) -> Result<usize, sqlx::Error>
where
    S: Clone + Send + Sync + 'static,
{
    heart::beat(pool, WORKER).await?;
    let mut attempts = 0;
    // No connection is held while a job runs: it may need the only one there is.
    while let Some(row) = claim(&mut *pool.acquire().await?, now).await? {
        attempts += 1;
        if let Some(end) = attempt(registry, state, row).await {
            ledger::write(&mut *pool.acquire().await?, WORKER, Some(now), &[end]).await?;
        }
    }
    Ok(attempts)
}

/// What `claim.sql` does, but from all queues and by the clock of the test.
async fn claim(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
) -> Result<Option<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Claimed,
        "update apalis.jobs set status = 'Queued', lock_by = $1, lock_at = now()
         where id = (
             select id from apalis.jobs
             where (status = 'Pending' or (status = 'Failed' and attempts < max_attempts)) and run_at <= $2
             order by priority desc, run_at, id
             limit 1
             for update skip locked
         )
         returning id, job_type as queue, job as payload, attempts, max_attempts",
        WORKER,
        now,
    )
    .fetch_optional(conn)
    .await
}
