//! Which handler runs which kind of job, and what passes between a job and its handler.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde_json::Value;
use shared::jobs::Job;

/// What a handler is given besides its job.
#[derive(Debug, Clone)]
pub struct JobContext<S> {
    pub state: S,
    /// The id of the job: the cause of whatever it does.
    pub id: String,
    /// The request, activity or job that asked for it.
    pub cause: Option<String>,
    /// This attempt, counted from 1.
    pub attempt: u16,
    pub max_attempts: u16,
}

impl<S> JobContext<S> {
    /// Whether a failure now is the end of the job.
    #[must_use]
    pub fn last_attempt(&self) -> bool {
        self.attempt >= self.max_attempts
    }
}

pub type JobResult = Result<(), JobError>;

/// How a job did not get done. `?` on any error means: try again.
#[derive(Debug)]
pub enum JobError {
    /// It may work later: again after a growing pause, dead after the last attempt.
    Retry(anyhow::Error),
    /// It will never work: dead at once.
    Dead(anyhow::Error),
    /// Nothing failed, but it is too early. Not counted as an attempt.
    Later { at: DateTime<Utc>, why: String },
}

impl JobError {
    pub fn dead(error: impl Into<anyhow::Error>) -> Self {
        Self::Dead(error.into())
    }

    pub(crate) fn unreadable(error: &serde_json::Error) -> Self {
        Self::Dead(anyhow::anyhow!("unreadable payload: {error}"))
    }
}

impl<E: Into<anyhow::Error>> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::Retry(error.into())
    }
}

/// A handler with its type of job forgotten.
type Handler<S> = Box<dyn Fn(JobContext<S>, Value) -> BoxFuture<'static, JobResult> + Send + Sync>;

/// The handlers by kind of job.
pub struct Registry<S> {
    handlers: HashMap<&'static str, Handler<S>>,
}

impl<S> Default for Registry<S> {
    fn default() -> Self {
        Self {
            handlers: HashMap::new(),
        }
    }
}

impl<S> fmt::Debug for Registry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl<S: Clone + Send + Sync + 'static> Registry<S> {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs jobs of the kind `J` with `run`, an `async fn(JobContext<S>, J) -> JobResult`.
    ///
    /// Panics when the kind has a handler already: two kinds of the same name are a mistake in the program.
    #[must_use]
    pub fn on<J, F>(mut self, run: impl Fn(JobContext<S>, J) -> F + Send + Sync + 'static) -> Self
    where
        J: Job,
        F: Future<Output = JobResult> + Send + 'static,
    {
        let run = Arc::new(run);
        let handler: Handler<S> = Box::new(move |context, args| {
            let run = Arc::clone(&run);
            Box::pin(async move {
                let job = serde_json::from_value::<J>(args)
                    .map_err(|error| JobError::unreadable(&error))?;
                run(context, job).await
            })
        });
        match self.handlers.entry(J::KIND) {
            Entry::Occupied(taken) => panic!("two handlers for the job {}", taken.key()),
            Entry::Vacant(free) => free.insert(handler),
        };
        self
    }

    pub(crate) fn knows(&self, kind: &str) -> bool {
        self.handlers.contains_key(kind)
    }

    /// The work itself, not begun. `None` for a kind without a handler.
    pub(crate) fn work(
        &self,
        kind: &str,
        context: JobContext<S>,
        args: Value,
    ) -> Option<BoxFuture<'static, JobResult>> {
        self.handlers
            .get(kind)
            .map(|handler| handler(context, args))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use shared::jobs::Queue;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Nothing {}

    impl Job for Nothing {
        const KIND: &'static str = "nothing";
        const QUEUE: Queue = Queue::Background;
    }

    async fn nothing(_: JobContext<()>, _: Nothing) -> JobResult {
        std::fs::read("/nowhere/at/all")?;
        Ok(())
    }

    #[test]
    #[should_panic(expected = "two handlers for the job nothing")]
    fn a_kind_has_one_handler() {
        let _ = Registry::new().on(nothing).on(nothing);
    }
}
