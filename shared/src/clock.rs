//! The one place that asks the machine what time it is.
//!
//! Everything else is handed a time. Tests hand in a clock that they move themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

#[derive(Clone, Debug)]
pub enum Clock {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands still until it is told to move.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.timestamp_micros())))
    }

    /// Microseconds, because that is what Postgres keeps: a time read back equals the time written.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the home of the system's time")]
    pub fn now(&self) -> DateTime<Utc> {
        let micros = match self {
            Self::System => Utc::now().timestamp_micros(),
            Self::Manual(micros) => micros.load(Ordering::SeqCst),
        };
        DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Moves a manual clock; the system's clock cannot be moved.
    pub fn advance(&self, by: TimeDelta) {
        match self {
            Self::Manual(micros) => {
                let by = by.num_microseconds().expect("a span that fits a clock");
                micros.fetch_add(by, Ordering::SeqCst);
            }
            Self::System => panic!("the system's clock cannot be moved"),
        }
    }
}
