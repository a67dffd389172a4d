//! A dated part of an event.

use chrono::{DateTime, Utc};
use poem_openapi::Object;
use serde::Serialize;

use crate::clock::Time;
use crate::error::Invalid;
use crate::ids::SessionId;
use crate::patch::Patch;

/// A dated part of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object, sqlx::FromRow)]
pub struct Session {
    pub id: SessionId,
    /// S1, S2 and so on within the event; one that was given is not given again.
    pub code: String,
    pub name: String,
    pub starts_at: Time,
    pub ends_at: Time,
    pub capacity: i32,
    /// How many of its places are sold.
    pub sold: i32,
    pub active: bool,
    pub version: i64,
}

/// A session to be added.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct NewSession {
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub name: String,
    /// In the future.
    pub starts_at: Time,
    pub ends_at: Time,
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub capacity: i32,
}

/// What is to be different; what is left out stays as it is.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields)]
pub struct SessionChange {
    /// The version you have seen, unless you say it by `If-Match`.
    pub version: Option<i64>,
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub name: Patch<String>,
    pub starts_at: Patch<Time>,
    pub ends_at: Patch<Time>,
    /// Not below what is sold.
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub capacity: Patch<i32>,
    pub active: Patch<bool>,
}

impl NewSession {
    /// `place` is where the session stands in the request: nothing, or `sessions[0].`.
    pub(super) fn check(&self, now: DateTime<Utc>, place: &str, invalid: &mut Invalid) {
        if self.starts_at.0 <= now {
            invalid.push(format!("{place}starts_at"), "must be in the future");
        }
        if self.ends_at <= self.starts_at {
            invalid.push(format!("{place}ends_at"), "must be after `starts_at`");
        }
    }
}

impl SessionChange {
    pub(super) fn applied_to(self, mut session: Session) -> Session {
        self.name.apply(&mut session.name);
        self.starts_at.apply(&mut session.starts_at);
        self.ends_at.apply(&mut session.ends_at);
        self.capacity.apply(&mut session.capacity);
        self.active.apply(&mut session.active);
        session
    }
}

/// The number in a code like S2.
pub(super) fn number(code: &str) -> Option<i32> {
    let digits = code.strip_prefix('S')?;
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    canonical.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_one_spelling() {
        assert_eq!(number("S12"), Some(12));
        for other in ["", "S", "s1", "S01", "S-1", "S+1", "12", "S99999999999"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
