//! Passes: one-time tokens for an address that a browser opens by itself, where no header can be set.
//!
//! A pass is asked for beforehand by whoever may open the address, is good for one reading of one path within a minute, and
//! stands for its owner's session, key or order and for nothing else: when that ends, the pass does. An address is written
//! down in histories and logs of others; by then the pass in it is spent.
//!
//! Redis has the hash of a pass, and what it stands for encrypted.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{AccessError, Actor, Caller, Person};
use crate::app::App;
use crate::encryption::Place;
use crate::error::Result;
use crate::ids::{self, ApiKeyId, LoginSessionId, UserId};

/// How long a pass is good for.
const LASTS: TimeDelta = TimeDelta::seconds(60);

/// A pass as it is handed out.
#[derive(Debug, Clone)]
pub struct Pass {
    pub token: String,
    pub expires_at: DateTime<Utc>,
}

/// Who comes with a pass, and the secret of an order that they had when they asked for it.
#[derive(Debug)]
pub struct Bearer {
    pub caller: Caller,
    pub order_secret: Option<String>,
}

impl From<Caller> for Bearer {
    fn from(caller: Caller) -> Self {
        Self {
            caller,
            order_secret: None,
        }
    }
}

/// What Redis keeps of a pass.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    user: Option<(UserId, LoginSessionId)>,
    key: Option<ApiKeyId>,
    order_secret: Option<String>,
    expires_at: DateTime<Utc>,
}

/// Makes a pass for this path. Fails for callers who have nothing that a pass could stand for.
pub async fn issue(
    app: &App,
    caller: &Caller,
    order_secret: Option<&str>,
    path: &str,
) -> Result<Pass> {
    let (user, key) = match (caller.actor, caller.session) {
        (Actor::User(user_id), Some(session_id)) => (Some((user_id, session_id)), None),
        (Actor::ApiKey(id), _) => (None, Some(id)),
        _ if order_secret.is_some() => (None, None),
        _ => return Err(AccessError::Missing.into()),
    };
    let expires_at = app.clock.now() + LASTS;
    let kept = Kept {
        user,
        key,
        order_secret: order_secret.map(str::to_owned),
        expires_at,
    };
    let token = ids::url_token();
    let name = name(&token, path);
    let kept = app
        .cipher
        .encrypt(Place::Pass(name), &serde_json::to_string(&kept)?);
    redis::cmd("SET")
        .arg(app.redis.key(&format!("pass:{}", hex::encode(name))))
        .arg(kept)
        .arg("PX")
        .arg(LASTS.num_milliseconds())
        .query_async::<()>(&mut app.redis.connection())
        .await?;
    Ok(Pass { token, expires_at })
}

/// Spends a pass for this path.
pub async fn redeem(app: &App, token: &str, path: &str) -> Result<Bearer> {
    let name = name(token, path);
    let kept = redis::cmd("GETDEL")
        .arg(app.redis.key(&format!("pass:{}", hex::encode(name))))
        .query_async::<Option<Vec<u8>>>(&mut app.redis.connection())
        .await?;
    let kept = kept.ok_or(AccessError::BadPass)?;
    let kept: Kept = serde_json::from_str(&app.cipher.decrypt(Place::Pass(name), &kept)?)?;
    let now = app.clock.now();
    if kept.expires_at <= now {
        return Err(AccessError::BadPass.into());
    }
    let caller = match (kept.user, kept.key) {
        (Some((user_id, session_id)), _) => {
            let person = Person {
                user_id,
                session_id,
            };
            super::people::by_session(app, person).await?
        }
        (None, Some(id)) => super::keys::by_id(&mut *app.read().await?, id, now).await?,
        (None, None) => Caller::stranger(),
    };
    Ok(Bearer {
        caller,
        order_secret: kept.order_secret,
    })
}

/// A pass is found only by the path that it is for: presented elsewhere it is not even spent.
fn name(token: &str, path: &str) -> [u8; 32] {
    let digest = Sha256::new()
        .chain_update(token)
        .chain_update([0])
        .chain_update(path);
    digest.finalize().into()
}
