//! Who presents an access token, and whether their session is still alive.
//!
//! Every request of a person asks Redis once: is the session alive, and have rights changed? Redis is a
//! copy of what Postgres knows: what it has lost is asked for there and put back. What has ended is written to
//! Redis after the commit that ended it, so the very next request fails. When Redis does not answer, people
//! are turned away with UNAVAILABLE, since nobody can say that they have not been logged out; those who
//! browse without an account go on.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::rights::{self, Stamp};
use super::{AccessError, Actor, Caller, Person};
use crate::app::{App, Redis};
use crate::config;
use crate::error::Result;
use crate::ids::LoginSessionId;
use crate::redis_connection::RedisConnection;
use crate::tx::Tx;

const LIVE: &str = "live";
const ENDED: &str = "ended";
/// After this a session's record is taken from Postgres again, whatever may have gone wrong meanwhile.
const LIVE_KEPT: Duration = Duration::from_mins(5);
/// Outlasts every record that somebody may be about to put back.
const ENDED_KEPT: Duration = Duration::from_mins(10);

/// The person who presents this token.
pub async fn by_access_token(app: &App, token: &str) -> Result<Caller> {
    let now = app.clock.now();
    let read = app.tokens.read(token, now)?;
    let caller = by_session(app, read.person).await?;
    if caller.is_powerful() && now - read.issued_at >= app.config.auth.admin_session_idle.delta() {
        return Err(AccessError::TokenExpired.into());
    }
    Ok(caller)
}

/// The person of a session, if it is alive.
pub(super) async fn by_session(app: &App, person: Person) -> Result<Caller> {
    let now = app.clock.now();
    let stamp = alive(app, person, now).await?;
    let caller = Caller {
        actor: Actor::User(person.user_id),
        session: Some(person.session_id),
        grants: Arc::clone(&app.rights.of(app, person.user_id, stamp).await?),
    };
    if caller.is_powerful() {
        within_short_session(&app.config.auth, person.session_id, now)?;
    }
    Ok(caller)
}

/// Sessions of administrators and owners are short, also of those who have become one since the session was opened. When
/// it was opened stands in its id.
fn within_short_session(
    config: &config::Auth,
    session_id: LoginSessionId,
    now: DateTime<Utc>,
) -> Result<(), AccessError> {
    let opened_at = session_id.0.get_timestamp().and_then(|at| {
        let (seconds, nanos) = at.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    });
    if opened_at.is_none_or(|at| now - at >= config.admin_session_longest.delta()) {
        return Err(AccessError::SessionOver);
    }
    Ok(())
}

/// Fails if the session is over; answers which state of the rights is the current one.
async fn alive(app: &App, person: Person, now: DateTime<Utc>) -> Result<Stamp> {
    let mut redis = app.redis.connection();
    let key = session_key(&app.redis, person.session_id);
    let [personal, common] = rights::stamp_keys(&app.redis, person.user_id);
    let (record, personal, common): (Option<String>, Option<String>, Option<String>) =
        redis::cmd("MGET")
            .arg(&key)
            .arg(personal)
            .arg(common)
            .query_async(&mut redis)
            .await?;
    let alive = match record.as_deref() {
        Some(record) => record == LIVE,
        None => restore(&mut redis, &key, &mut *app.read().await?, person, now).await?,
    };
    if alive {
        Ok(Stamp { personal, common })
    } else {
        Err(AccessError::SessionOver.into())
    }
}

/// Puts back what Redis has lost, unless the session has been ended there meanwhile.
async fn restore(
    redis: &mut RedisConnection,
    key: &str,
    db: &mut PgConnection,
    person: Person,
    now: DateTime<Utc>,
) -> Result<bool> {
    let alive = sqlx::query_scalar!(
        r#"select exists(
               select from login_sessions s join users u on u.id = s.user_id
               where s.id = $1 and s.user_id = $2 and s.ended_at is null and s.expires_at > $3 and u.is_active
           ) as "alive!""#,
        person.session_id as _,
        person.user_id as _,
        now,
    );
    let record = if alive.fetch_one(db).await? {
        LIVE
    } else {
        ENDED
    };
    let there = redis::cmd("SET")
        .arg(key)
        .arg(record)
        .arg("NX")
        .arg("GET")
        .arg("PX")
        .arg(millis(LIVE_KEPT))
        .query_async::<Option<String>>(redis)
        .await?;
    Ok(there.as_deref().unwrap_or(record) == LIVE)
}

/// To be called by whatever ends sessions: their access tokens stop working with the commit.
pub(crate) fn sessions_ended(tx: &mut Tx, sessions: impl IntoIterator<Item = LoginSessionId>) {
    for id in sessions {
        let key = session_key(tx.redis(), id);
        tx.tell_redis(key, ENDED.to_owned(), ENDED_KEPT);
    }
}

fn session_key(redis: &Redis, id: LoginSessionId) -> String {
    redis.key(&format!("session:{id}"))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
