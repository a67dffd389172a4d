//! One attempt at one job, from the stored row to how it ended. Nothing that a job does gets past this module:
//! a payload that cannot be read, a kind nobody knows, an error, a panic all become an [`End`].

use std::time::Instant;

use anyhow::anyhow;
use rand::RngExt as _;
use shared::jobs::{self, Envelope};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, Span};

use crate::ledger::{End, Verdict};
use crate::registry::{JobContext, JobError, JobResult, Registry};

/// A row of apalis that is ours for now.
#[derive(Debug, sqlx::FromRow)]
pub struct Claimed {
    pub id: String,
    pub queue: String,
    pub payload: Vec<u8>,
    /// How often it was begun before.
    pub attempts: i32,
    pub max_attempts: i32,
}

/// Runs the job. `None` if it was interrupted: then nobody knows how it would have ended.
pub(crate) async fn attempt<S>(registry: &Registry<S>, state: &S, row: Claimed) -> Option<End>
where
    S: Clone + Send + Sync + 'static,
{
    let begun = Instant::now();
    let envelope = serde_json::from_slice::<Envelope>(&row.payload);
    let kind = match &envelope {
        Ok(envelope) if registry.knows(&envelope.kind) => envelope.kind.clone(),
        Ok(_) => "unknown".to_owned(),
        Err(_) => "unreadable".to_owned(),
    };
    let span = tracing::info_span!(
        "job",
        id = row.id,
        kind,
        queue = row.queue,
        attempt = row.attempts + 1,
        cause = tracing::field::Empty
    );
    let result = match envelope {
        Ok(envelope) => run(registry, state, &row, envelope, &span).await?,
        Err(error) => Err(JobError::unreadable(&error)),
    };
    let end = span.in_scope(|| conclude(row, result));
    let labels = [
        ("queue", end.queue.clone()),
        ("kind", kind),
        ("outcome", end.verdict.name().to_owned()),
    ];
    metrics::histogram!("job_duration_seconds", &labels[..2]).record(begun.elapsed());
    metrics::counter!("jobs_finished_total", &labels).increment(1);
    Some(end)
}

/// `None` if it was interrupted.
async fn run<S>(
    registry: &Registry<S>,
    state: &S,
    row: &Claimed,
    envelope: Envelope,
    span: &Span,
) -> Option<JobResult>
where
    S: Clone + Send + Sync + 'static,
{
    span.record("cause", envelope.cause.as_deref());
    if let Some(traceparent) = &envelope.trace {
        shared::telemetry::continue_trace(span, traceparent);
    }
    // Begun as often as allowed and never ended, or it would not be here: whoever ran it died. Running it once more
    // would kill this worker as well, and the next one, for ever.
    if row.attempts >= row.max_attempts {
        return Some(Err(JobError::Dead(anyhow!(
            "its worker died each time it ran"
        ))));
    }
    let context = JobContext {
        state: state.clone(),
        id: row.id.clone(),
        cause: envelope.cause,
        attempt: u16::try_from(row.attempts + 1).unwrap_or(u16::MAX),
        max_attempts: u16::try_from(row.max_attempts).unwrap_or(u16::MAX),
    };
    let Some(work) = registry.work(&envelope.kind, context, envelope.args) else {
        // Not dead at once: during a rolling update a worker meets kinds that only its successor knows.
        return Some(Err(JobError::Retry(anyhow!(
            "no handler for the kind {}",
            envelope.kind
        ))));
    };
    // A task of its own: its panic stays there, and all cores share the work. If we are dropped, it stops.
    match AbortOnDropHandle::new(tokio::spawn(work.instrument(span.clone()))).await {
        Ok(result) => Some(result),
        Err(error) => {
            let panic = error.try_into_panic().ok()?;
            Some(Err(JobError::Retry(anyhow!(
                "panicked: {}",
                message(&*panic)
            ))))
        }
    }
}

/// What follows from how the job ended, and the line in the log that says so.
fn conclude(row: Claimed, result: JobResult) -> End {
    let attempt = (row.attempts + 1).min(row.max_attempts);
    let (verdict, attempts, error) = match result {
        Ok(()) => (Verdict::Done, attempt, None),
        Err(JobError::Later { at, why }) => {
            tracing::debug!(%at, why, "job put off");
            (Verdict::Later(at), row.attempts, Some(why))
        }
        Err(JobError::Retry(error)) if attempt < row.max_attempts => {
            let wait = jobs::backoff(
                u16::try_from(attempt).unwrap_or(u16::MAX),
                rand::rng().random(),
            );
            tracing::warn!(
                error = format!("{error:#}"),
                wait_ms = wait.num_milliseconds(),
                "job failed"
            );
            (Verdict::Again(wait), attempt, Some(format!("{error:#}")))
        }
        Err(JobError::Retry(error) | JobError::Dead(error)) => {
            tracing::error!(error = format!("{error:#}"), "job dead");
            (Verdict::Dead, attempt, Some(format!("{error:#}")))
        }
    };
    End {
        id: row.id,
        queue: row.queue,
        verdict,
        attempts,
        error,
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
