//! Optimistic versions: whoever changes a thing says which state of it they have seen.

use serde_json::{Value, json};

use crate::error::{Code, Fault, Result};

/// The version a caller has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// `If-Match: *`: whatever it is now.
    Any,
    Exactly(i64),
}

#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    #[error(
        "Somebody else changed it meanwhile: it is at version {current} now. Read it again, then repeat your change."
    )]
    Stale { current: i64 },
    #[error("Say which version you have seen, by the header `If-Match` or the field `version`.")]
    Required,
}

impl Fault for VersionError {
    fn code(&self) -> Code {
        match self {
            Self::Stale { .. } => Code::ConcurrentUpdate,
            Self::Required => Code::VersionRequired,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::Stale { current } => json!({ "current_version": current }),
            Self::Required => json!({}),
        }
    }
}

impl Expected {
    /// Fails if it was changed between the caller's reading and now. The row must be locked.
    pub fn check(self, current: i64) -> Result<()> {
        match self {
            Self::Exactly(seen) if seen != current => Err(VersionError::Stale { current }.into()),
            Self::Any | Self::Exactly(_) => Ok(()),
        }
    }
}
