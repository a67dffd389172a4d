//! Answers kept for callers who repeat a request because they did not hear the first answer.
//!
//! The answer is written by the transaction of the work itself: either both happened or neither did. Neither the key nor a
//! secret in the answer stands there in plain: with both, whoever reads the database could have the answer repeated.

mod hidden;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use crate::encryption::Cipher;
use crate::error::{Code, Fault, Result};
use crate::jobs::{Job, Queue};
use crate::tx::Tx;

/// Forgets old answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Forget {}

impl Job for Forget {
    const KIND: &'static str = "idempotency.forget";
    const QUEUE: Queue = Queue::Background;
}

/// How long an answer is kept at the least.
const KEPT: TimeDelta = TimeDelta::hours(48);

#[derive(Debug, thiserror::Error)]
pub enum IdempotencyError {
    #[error("The first request with this key is still running. Ask again in a moment.")]
    InFlight,
    #[error("This key was used with another request. Use a new key for a new request.")]
    Reused,
}

impl Fault for IdempotencyError {
    fn code(&self) -> Code {
        match self {
            Self::InFlight => Code::IdempotencyInFlight,
            Self::Reused => Code::IdempotencyKeyReused,
        }
    }
}

/// A key as one caller used it, with the request it belongs to.
#[derive(Debug, Clone)]
pub struct Key {
    /// Whose key it is: two callers may use the same.
    pub caller: String,
    pub key: String,
    /// Of method, path and body.
    pub fingerprint: Vec<u8>,
}

impl Key {
    /// The key as the database has it.
    fn hashed(&self) -> String {
        format!("sha256:{}", hex::encode(Sha256::digest(&self.key)))
    }

    /// Tells the request from every other.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let digest = Sha256::new()
            .chain_update(&self.caller)
            .chain_update([0])
            .chain_update(&self.key)
            .chain_update([0])
            .chain_update(&self.fingerprint);
        digest.finalize().into()
    }
}

/// An answer as it went out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: i16,
    pub headers: Value,
    pub body: Vec<u8>,
}

/// Takes the key until the end of the transaction. Answers what the same request was answered before, if
/// it was; fails at once if the same key is being worked on elsewhere.
pub async fn claim(tx: &mut Tx, key: &Key) -> Result<Option<Answer>> {
    let (caller, cipher) = (&key.caller, tx.cipher());
    let free = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0)) as "free!""#,
        caller,
        key.key,
    );
    if !free.fetch_one(&mut **tx).await? {
        return Err(IdempotencyError::InFlight.into());
    }
    kept(tx, &cipher, key).await
}

/// What a request was answered before, without taking its key.
pub async fn kept(db: &mut PgConnection, cipher: &Cipher, key: &Key) -> Result<Option<Answer>> {
    // The version before keeps keys in plain.
    let kept = sqlx::query!(
        "select fingerprint, status, headers, body, secrets from idempotency_keys
         where caller = $1 and key = any($2) order by created_at limit 1",
        key.caller,
        &[key.hashed(), key.key.clone()],
    );
    match kept.fetch_optional(db).await? {
        None => Ok(None),
        Some(kept) if kept.fingerprint == key.fingerprint => {
            let answer = Answer {
                status: kept.status,
                headers: kept.headers,
                body: kept.body,
            };
            Ok(Some(match kept.secrets {
                Some(secrets) => hidden::show(answer, cipher, key, &secrets)?,
                None => answer,
            }))
        }
        Some(_) => Err(IdempotencyError::Reused.into()),
    }
}

/// Keeps the answer for the next time.
pub async fn keep(tx: &mut Tx, key: &Key, answer: &Answer) -> Result<()> {
    let (caller, now) = (&key.caller, tx.now());
    let (answer, secrets) = hidden::hide(answer.clone(), &tx.cipher(), key);
    sqlx::query!(
        "insert into idempotency_keys (caller, key, fingerprint, status, headers, body, created_at, secrets)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (caller, key) do nothing",
        caller,
        key.hashed(),
        key.fingerprint,
        answer.status,
        answer.headers,
        answer.body,
        now,
        secrets,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets answers that are older than anybody repeats a request; at most `limit` at a time.
pub async fn forget(tx: &mut Tx, limit: i64) -> Result<u64> {
    let before = tx.now() - KEPT;
    let old = sqlx::query!(
        "delete from idempotency_keys where (caller, key) in
             (select caller, key from idempotency_keys where created_at < $1 limit $2)",
        before,
        limit,
    );
    Ok(old
        .execute(&mut **tx as &mut PgConnection)
        .await?
        .rows_affected())
}
