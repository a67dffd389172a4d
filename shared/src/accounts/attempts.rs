//! Attempts at passwords, counted in Redis per account and per address.
//!
//! An attempt counts as failed from its beginning until it has succeeded, so a hundred at the same moment
//! are a hundred. After the free ones each attempt doubles the pause before the next. An address nobody has
//! an account for is counted like any other: the pause tells nothing. When Redis does not answer, nobody
//! can log in: guessing without bounds would be worse.

use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use redis::Script;
use sha2::{Digest as _, Sha256};

use crate::app::Redis;
use crate::config;
use crate::error::{Code, Fault, Result};

/// Without a further failure they are forgotten after this.
const REMEMBERED: TimeDelta = TimeDelta::hours(1);

static ATTEMPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("attempt.lua")));
static SUCCEEDED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("succeeded.lua")));

#[derive(Debug, thiserror::Error)]
#[error("Too many failed attempts. Try again in {seconds} seconds.")]
pub struct TooManyFailures {
    seconds: i64,
}

impl Fault for TooManyFailures {
    fn code(&self) -> Code {
        Code::RateLimited
    }

    fn details(&self) -> serde_json::Value {
        serde_json::json!({ "retry_after": self.seconds })
    }
}

/// An attempt that has begun.
#[derive(Debug)]
pub struct Attempt {
    keys: [String; 2],
}

impl Attempt {
    /// Tells how long to wait while there is a pause.
    pub async fn begin(
        redis: &Redis,
        email: &str,
        address: &str,
        now: DateTime<Utc>,
        config: &config::Auth,
    ) -> Result<Result<Self, TooManyFailures>> {
        let keys = [
            // Not in clear: the keys of Redis are no place for addresses.
            redis.key(&format!("attempts:account:{}", hash(email))),
            redis.key(&format!("attempts:address:{address}")),
        ];
        let mut script = ATTEMPT.key(&keys[0]);
        script.key(&keys[1]);
        let wait: i64 = script
            .arg(now.timestamp_millis())
            .arg(config.failures_per_account)
            .arg(config.failures_per_address)
            .arg(config.longest_pause.delta().num_milliseconds())
            .arg(REMEMBERED.num_milliseconds())
            .invoke_async(&mut redis.connection())
            .await?;
        if wait > 0 {
            let seconds = (wait + 999) / 1_000;
            return Ok(Err(TooManyFailures { seconds }));
        }
        Ok(Ok(Self { keys }))
    }

    /// The password was right.
    pub async fn succeeded(self, redis: &Redis) -> Result<()> {
        let mut script = SUCCEEDED.key(&self.keys[0]);
        script.key(&self.keys[1]);
        script.invoke_async::<()>(&mut redis.connection()).await?;
        Ok(())
    }
}

/// Tells addresses apart without naming them.
pub(super) fn hash(email: &str) -> String {
    hex::encode(&Sha256::digest(email.as_bytes())[..16])
}
