//! Sessions: where somebody is signed in, and the refresh tokens that keep them so.
//!
//! A session begins with a login and lives until it is ended, is not refreshed for too long, or is too old.
//! Each refresh spends the refresh token it was asked with and hands out the next one.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use super::store;
use crate::config;
use crate::error::Result;
use crate::ids::{self, LoginSessionId, UserId};
use crate::tx::Tx;

/// What is known of where somebody signs in.
#[derive(Debug, Clone, Default)]
pub struct Device {
    pub address: Option<String>,
    pub user_agent: Option<String>,
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
    let latest_end = now + config.session_longest.delta();
    let session = NewSession {
        id: LoginSessionId::fresh(now),
        user_id,
        device,
        now,
        expires_at: (now + config.session_idle.delta()).min(latest_end),
        latest_end,
    };
    store::insert_session(tx, &session).await?;
    let refresh_token = ids::url_token();
    store::insert_refresh_token(tx, session.id, &hash(&refresh_token), now).await?;
    Ok(Opened {
        user_id,
        session_id: session.id,
        refresh_token,
        expires_at: session.expires_at,
    })
}

/// A token has 256 random bits: it needs no slow hash, only one that cannot be turned around.
fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
