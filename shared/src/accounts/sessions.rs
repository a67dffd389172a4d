//! Sessions: where somebody is signed in, and the refresh tokens that keep them so.
//!
//! A session begins with a login and lives until it is ended, is not refreshed for too long, or is too old.
//! Each refresh spends the refresh token it was asked with and hands out the next one. A token that is used a
//! second time is in two hands, one of them a thief's, and nobody can say which: the session ends. Only when
//! the second use comes within a moment of the first is it taken for what it nearly always is, a client that
//! asked twice: the second is refused and the session goes on.

use chrono::{DateTime, TimeDelta, Utc};
use poem_openapi::Object;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use super::{AccountError, line, store};
use crate::access;
use crate::clock::Time;
use crate::config;
use crate::error::Result;
use crate::ids::{self, LoginSessionId, UserId};
use crate::tx::Tx;

/// Longer than Redis keeps the record of a session without asking.
const RETOLD: TimeDelta = TimeDelta::minutes(15);

/// What is known of where somebody signs in.
#[derive(Debug, Clone, Default)]
pub struct Device {
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

/// Where somebody is signed in.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "LoginSession")]
pub struct Session {
    pub id: LoginSessionId,
    /// The network address of the login.
    pub address: Option<String>,
    /// What the browser or program called itself.
    pub user_agent: Option<String>,
    pub created_at: Time,
    /// The last login or refresh.
    pub last_used_at: Time,
    /// When it is over unless it is refreshed before.
    pub expires_at: Time,
    /// The one that asks.
    pub current: bool,
}

/// A session as its owner gets it: the token is told here and nowhere else.
#[derive(Debug, Clone)]
pub struct Opened {
    pub user_id: UserId,
    pub session_id: LoginSessionId,
    pub refresh_token: String,
    /// When it is over unless it is refreshed before.
    pub expires_at: DateTime<Utc>,
}

/// Why a session ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    Logout,
    /// Its owner ended it from elsewhere.
    Revoked,
    /// A refresh token was used twice.
    Reuse,
    /// The password was changed.
    Password,
    Deactivated,
}

impl EndedBy {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Revoked => "revoked",
            Self::Reuse => "reuse",
            Self::Password => "password",
            Self::Deactivated => "deactivated",
        }
    }
}

/// How long sessions last: those of platform administrators and owners of organizations are short.
struct Lasts {
    idle: TimeDelta,
    longest: TimeDelta,
}

impl Lasts {
    fn of(powerful: bool, config: &config::Auth) -> Self {
        let (idle, longest) = (config.session_idle.delta(), config.session_longest.delta());
        if !powerful {
            return Self { idle, longest };
        }
        Self {
            idle: idle.min(config.admin_session_idle.delta()),
            longest: longest.min(config.admin_session_longest.delta()),
        }
    }
}

pub(super) struct NewSession<'a> {
    pub id: LoginSessionId,
    pub user_id: UserId,
    pub device: &'a Device,
    pub now: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub latest_end: DateTime<Utc>,
}

/// Signs somebody in. The caller has made sure who they are.
pub async fn open(
    tx: &mut Tx,
    user_id: UserId,
    device: &Device,
    config: &config::Auth,
) -> Result<Opened> {
    let now = tx.now();
    let lasts = Lasts::of(store::is_powerful(tx, user_id).await?, config);
    let latest_end = now + lasts.longest;
    let session = NewSession {
        id: LoginSessionId::fresh(now),
        user_id,
        device,
        now,
        expires_at: (now + lasts.idle).min(latest_end),
        latest_end,
    };
    store::insert_session(tx, &session).await?;
    let refresh_token = next_token(tx, session.id).await?;
    Ok(Opened {
        user_id,
        session_id: session.id,
        refresh_token,
        expires_at: session.expires_at,
    })
}

async fn next_token(tx: &mut Tx, session_id: LoginSessionId) -> Result<String> {
    let (token, now) = (ids::url_token(), tx.now());
    store::insert_refresh_token(tx, session_id, &hash(&token), now).await?;
    Ok(token)
}

/// What came of a refresh. A reuse is written down, so it must be committed, and then answered.
#[derive(Debug)]
pub enum Refreshed {
    Next(Opened),
    /// The session has ended, by this or before.
    Over,
}

impl Refreshed {
    pub fn opened(self) -> Result<Opened, AccountError> {
        match self {
            Self::Next(opened) => Ok(opened),
            Self::Over => Err(AccountError::BadRefreshToken),
        }
    }
}

/// Spends a refresh token and hands out the next one.
pub async fn refresh(
    tx: &mut Tx,
    token: &SecretString,
    config: &config::Auth,
) -> Result<Refreshed> {
    let (hash, now) = (hash(token.expose_secret()), tx.now());
    let presented = store::lock_presented(tx, &hash).await?;
    let presented = presented.ok_or(AccountError::BadRefreshToken)?;
    if presented.ended {
        // Redis may have been away when it ended.
        access::sessions_ended(tx, [presented.session_id]);
        return Ok(Refreshed::Over);
    }
    let lasts = Lasts::of(store::is_powerful(tx, presented.user_id).await?, config);
    // Whoever has become an administrator since then has a short session from now on.
    let latest_end = presented
        .latest_end
        .min(presented.created_at + lasts.longest);
    let ends_at = presented
        .expires_at
        .min(presented.last_used_at + lasts.idle)
        .min(latest_end);
    if !presented.user_is_active || ends_at <= now {
        return Err(AccountError::BadRefreshToken.into());
    }
    if let Some(spent_at) = presented.spent_at {
        if now - spent_at <= config.refresh_grace.delta() {
            return Err(AccountError::AlreadyRefreshed.into());
        }
        let (user_id, session_id) = (presented.user_id, presented.session_id);
        tx.record(line(
            user_id,
            "user.refresh_token_reused",
            json!({ "session_id": session_id }),
        ));
        end(tx, user_id, session_id, EndedBy::Reuse).await?;
        return Ok(Refreshed::Over);
    }
    tx.authenticated(presented.user_id);
    store::spend(tx, &hash, now).await?;
    let expires_at = (now + lasts.idle).min(latest_end);
    store::prolong(tx, presented.session_id, expires_at, now).await?;
    Ok(Refreshed::Next(Opened {
        user_id: presented.user_id,
        session_id: presented.session_id,
        refresh_token: next_token(tx, presented.session_id).await?,
        expires_at,
    }))
}

/// Where somebody is signed in, the last used first.
pub async fn list(
    db: &mut PgConnection,
    person: access::Person,
    now: DateTime<Utc>,
) -> Result<Vec<Session>> {
    let mut sessions = store::sessions_of(db, person.user_id, now).await?;
    for session in &mut sessions {
        session.current = session.id == person.session_id;
    }
    Ok(sessions)
}

/// Ends one session of somebody. Ending it again is no mistake for a while.
pub async fn end(tx: &mut Tx, user_id: UserId, id: LoginSessionId, by: EndedBy) -> Result<()> {
    if end_some(tx, user_id, Some(id), None, by).await? == 0 {
        return Err(AccountError::SessionNotFound.into());
    }
    Ok(())
}

/// Ends all sessions of somebody, but one if that is to stay.
pub async fn end_all(
    tx: &mut Tx,
    user_id: UserId,
    but: Option<LoginSessionId>,
    by: EndedBy,
) -> Result<()> {
    end_some(tx, user_id, None, but, by).await.map(|_| ())
}

/// Their access tokens stop working with the commit. Redis is told of those again that ended a moment ago:
/// it may have been away then. Answers of how many.
async fn end_some(
    tx: &mut Tx,
    user_id: UserId,
    only: Option<LoginSessionId>,
    but: Option<LoginSessionId>,
    by: EndedBy,
) -> Result<usize> {
    let now = tx.now();
    for id in store::end_sessions(tx, user_id, only, but, by, now).await? {
        let data = json!({ "session_id": id, "by": by.name() });
        tx.record(line(user_id, "user.session_ended", data));
    }
    let over = store::ended_since(tx, user_id, only, now - RETOLD).await?;
    let number = over.len();
    access::sessions_ended(tx, over);
    Ok(number)
}

/// Tells Redis once more of the sessions of somebody that ended a moment ago.
pub(super) async fn tell_again(tx: &mut Tx, user_id: UserId) -> Result<()> {
    let now = tx.now();
    let over = store::ended_since(tx, user_id, None, now - RETOLD).await?;
    access::sessions_ended(tx, over);
    Ok(())
}

/// Removes sessions and links that were over long before `before`; at most `limit` of each.
pub async fn forget(tx: &mut Tx, limit: i64) -> Result<u64> {
    let before = tx.now() - TimeDelta::days(30);
    store::forget_sessions(tx, before, limit).await
}

/// A token has 256 random bits: it needs no slow hash, only one that cannot be turned around.
fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
