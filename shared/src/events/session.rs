//! Sessions: the dated parts of an event, each with a pool of places of its own, under a code that is never given again.

use chrono::{DateTime, Utc};
use poem_openapi::Object;
use serde::Serialize;
use serde_json::{Value, json};

use super::event::MOST_SESSIONS;
use super::status::Status;
use super::{EventError, lock, pools, prices, record_part, store};
use crate::activity;
use crate::clock::Time;
use crate::error::{Invalid, Result};
use crate::ids::{EventId, SessionId};
use crate::patch::Patch;
use crate::stock::{Claim, Places};
use crate::text::is_a_line;
use crate::tx::Tx;
use crate::version::Expected;

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

/// `place` is where the session or the ticket type stands in the request: nothing, or `sessions[0].`.
pub(super) fn check_name(name: &str, place: &str, invalid: &mut Invalid) {
    if !is_a_line(name) {
        invalid.push(format!("{place}name"), "must be one line that can be read");
    }
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

impl Session {
    /// What has begun may still end at another time. Nothing is moved into the past, where it would be over at once.
    fn check(&self, before: &Self, now: DateTime<Utc>) -> Result<()> {
        let mut invalid = Invalid::default();
        if self.name != before.name {
            check_name(&self.name, "", &mut invalid);
        }
        if self.active && !before.active && self.starts_at.0 <= now {
            invalid.push("active", "cannot take place any more: it should have begun");
        }
        for (field, to, from) in [
            ("starts_at", self.starts_at, before.starts_at),
            ("ends_at", self.ends_at, before.ends_at),
        ] {
            if to != from && to.0 <= now {
                invalid.push(field, "must be in the future");
            }
        }
        if self.ends_at <= self.starts_at {
            invalid.push("ends_at", "must be after `starts_at`");
        }
        invalid.check()
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

/// Adds a session under the next code.
pub async fn add_session(tx: &mut Tx, id: EventId, new: NewSession) -> Result<Session> {
    let event = lock(tx, id).await?;
    event.must_be_open(tx.now())?;
    let mut invalid = Invalid::default();
    new.check(tx.now(), "", &mut invalid);
    check_name(&new.name, "", &mut invalid);
    if store::sessions(tx, id).await?.len() >= MOST_SESSIONS {
        invalid.push("sessions", "must be at most 200");
    }
    invalid.check()?;
    let session_id = insert_session(tx, id, new).await?;
    let now = tx.now();
    store::follow_sessions(tx, id, now).await?;
    let session = store::session(tx, session_id).await?;
    record_part(
        tx,
        &event,
        "session.added",
        session.id.into(),
        json!({ "code": session.code }),
    );
    Ok(session)
}

/// Changes what is named. Naming what is already so changes nothing, the version included.
pub async fn change_session(
    tx: &mut Tx,
    id: EventId,
    code: &str,
    seen: Expected,
    change: SessionChange,
    aside: Option<Claim>,
) -> Result<Session> {
    let event = lock(tx, id).await?;
    let before = by_code(tx, id, code).await?;
    seen.check(before.version)?;
    let mut session = change.applied_to(before.clone());
    let changes = activity::changes(&before, &session, &[])?;
    if changes.is_empty() {
        return Ok(before);
    }
    event.must_be_open(tx.now())?;
    session.check(&before, tx.now())?;
    if session.capacity != before.capacity {
        let capacity = Some(session.capacity);
        before.pool(id).fit(tx, capacity, aside).await?;
    }
    session.version += 1;
    store::update_session(tx, &session).await?;
    let now = tx.now();
    store::follow_sessions(tx, id, now).await?;
    prices::follow(tx, &[id]).await?;
    record_part(
        tx,
        &event,
        "session.changed",
        session.id.into(),
        Value::Object(changes),
    );
    Ok(session)
}

/// Its code is not given again.
pub async fn delete_session(tx: &mut Tx, id: EventId, code: &str, seen: Expected) -> Result<()> {
    let event = lock(tx, id).await?;
    let session = by_code(tx, id, code).await?;
    seen.check(session.version)?;
    event.must_be_open(tx.now())?;
    if session.sold > 0 {
        return Err(EventError::SessionInUse("Places of the session are sold.").into());
    }
    if store::sessions(tx, id).await?.len() == 1 {
        return Err(EventError::SessionInUse("An event keeps at least one session.").into());
    }
    store::delete_session(tx, session.id).await?;
    tx.tell_places(Places::Rearranged(id));
    let now = tx.now();
    let begins = store::follow_sessions(tx, id, now).await?;
    if event.status == Status::Published && begins <= now {
        let refusal = "What would be left of the event should have begun.";
        return Err(EventError::SessionInUse(refusal).into());
    }
    record_part(
        tx,
        &event,
        "session.deleted",
        session.id.into(),
        json!({ "code": session.code }),
    );
    Ok(())
}

pub(super) async fn insert_session(tx: &mut Tx, id: EventId, new: NewSession) -> Result<SessionId> {
    let session_id = SessionId::fresh(tx.now());
    store::insert_session(tx, id, session_id, &new).await?;
    pools::insert_pool(tx, session_id.into(), id, "session", new.capacity, 0).await?;
    tx.tell_places(Places::Rearranged(id));
    Ok(session_id)
}

async fn by_code(tx: &mut Tx, id: EventId, code: &str) -> Result<Session> {
    let session = match number(code) {
        Some(_) => store::sessions(tx, id).await?,
        None => Vec::new(),
    };
    let session = session.into_iter().find(|session| session.code == code);
    Ok(session.ok_or(EventError::SessionNotFound)?)
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
