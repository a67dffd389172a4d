//! How the ends of attempts are written back.
//!
//! Not by apalis: it writes only when it has nothing else to do, forgets what it could not write when Postgres
//! restarts, makes a failed job due again at once and cannot say "later". One statement of ours says all of it, for
//! many jobs at a time, and is repeated until Postgres takes it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use tokio::sync::mpsc;

use crate::heart::Held;

/// How an attempt ended.
#[derive(Debug)]
pub struct End {
    pub id: String,
    pub queue: String,
    pub verdict: Verdict,
    /// How often it was begun by now.
    pub attempts: i32,
    pub error: Option<String>,
}

/// What becomes of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Done,
    /// It failed and is tried again after this time.
    Again(TimeDelta),
    /// It asked to be run then.
    Later(DateTime<Utc>),
    Dead,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Again(_) => "failed",
            Self::Later(_) => "later",
            Self::Dead => "dead",
        }
    }

    /// In the words of apalis, whose claim takes up `Pending` and `Failed`.
    fn status(self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::Again(_) => "Failed",
            Self::Later(_) => "Pending",
            Self::Dead => "Killed",
        }
    }
}

impl End {
    /// In the shape of apalis. Postgres refuses the character NUL, which would keep everything else from being written.
    fn result(&self) -> Value {
        match &self.error {
            None => json!({ "Ok": null }),
            Some(error) => json!({ "Err": error.replace('\0', "\u{fffd}") }),
        }
    }
}

/// Writes how attempts ended and releases their rows. A row that is no longer `worker`'s is somebody else's by now
/// and left alone. A pause counts from `now`, or from the clock of the database if there is none.
pub async fn write(
    conn: &mut PgConnection,
    worker: &str,
    now: Option<DateTime<Utc>>,
    ends: &[End],
) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> = ends.iter().map(|end| end.id.as_str()).collect();
    let statuses: Vec<&str> = ends.iter().map(|end| end.verdict.status()).collect();
    let attempts: Vec<i32> = ends.iter().map(|end| end.attempts).collect();
    let results: Vec<Value> = ends.iter().map(End::result).collect();
    let (mut pauses, mut times) = (Vec::new(), Vec::new());
    for end in ends {
        pauses.push(if let Verdict::Again(pause) = end.verdict {
            Some(pause.num_milliseconds())
        } else {
            None
        });
        times.push(if let Verdict::Later(at) = end.verdict {
            Some(at)
        } else {
            None
        });
    }
    sqlx::query_file!(
        "src/ledger.sql",
        &ids as _,
        &statuses as _,
        &attempts,
        &results,
        &pauses as &[Option<i64>],
        &times as &[Option<DateTime<Utc>>],
        worker,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes what comes in until the last sender is gone, together what came in together.
pub(crate) async fn keep(pool: PgPool, worker: String, held: Held, mut ends: mpsc::Receiver<End>) {
    let mut batch = Vec::new();
    while ends.recv_many(&mut batch, 500).await > 0 {
        while let Err(error) = write_pooled(&pool, &worker, &batch).await {
            tracing::warn!(%error, jobs = batch.len(), "cannot write how jobs ended, trying again");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        held.release(batch.iter().map(|end| &end.id));
        batch.clear();
    }
}

async fn write_pooled(pool: &PgPool, worker: &str, ends: &[End]) -> Result<(), sqlx::Error> {
    write(&mut *pool.acquire().await?, worker, None, ends).await
}
