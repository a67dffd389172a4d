//! How many requests a caller may make in a minute, counted in Redis for all processes together.
//!
//! Asking Redis for every request would cost more than most requests do, so a process leases a share of the
//! caller's minute and counts that down by itself. A lease is taken out of the common count before it is
//! used: together the processes never let more through than the limit. When Redis is away they count for
//! themselves, since browsing goes on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{LazyLock, Mutex};

use chrono::{DateTime, Utc};
use poem::Request;
use poem::http::{HeaderMap, HeaderValue};
use redis::Script;
use shared::access::Actor;
use shared::app::Redis;
use shared::config;
use shared::error::{Code, Fault, Result};

use super::observe::SharedStanding;

const WINDOW_SECONDS: i64 = 60;
/// A process remembers this many callers of a minute; beyond that it starts over.
const MOST_CALLERS: usize = 100_000;

static LEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lease.lua")));

#[derive(Debug, thiserror::Error)]
#[error("Too many requests. Go on in {seconds} seconds.")]
pub struct TooMany {
    seconds: i64,
}

impl Fault for TooMany {
    fn code(&self) -> Code {
        Code::RateLimited
    }

    fn details(&self) -> serde_json::Value {
        serde_json::json!({ "retry_after": self.seconds })
    }
}

/// Where a caller stands with their limit.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    limit: u32,
    remaining: u32,
    reset: i64,
}

impl Standing {
    pub fn tell(self, headers: &mut HeaderMap) {
        headers.insert("ratelimit-limit", self.limit.into());
        headers.insert("ratelimit-remaining", self.remaining.into());
        headers.insert("ratelimit-reset", self.reset.into());
        if self.remaining == 0 && self.refused() {
            headers.insert("retry-after", HeaderValue::from(self.reset));
        }
    }

    fn refused(self) -> bool {
        self.limit > 0
    }
}

#[derive(Debug, Default)]
struct Window {
    number: i64,
    leases: HashMap<String, Lease>,
}

/// What this process may still let through, and what was left for all of them when it asked.
#[derive(Debug, Clone, Copy, Default)]
struct Lease {
    here: u32,
    elsewhere: u32,
}

pub struct Limiter {
    redis: Redis,
    anonymous: u32,
    account: u32,
    window: Mutex<Window>,
}

impl Limiter {
    #[must_use]
    pub fn new(redis: Redis, limits: &config::Limits) -> Self {
        Self {
            redis,
            anonymous: limits.anonymous_per_minute,
            account: limits.account_per_minute,
            window: Mutex::default(),
        }
    }

    pub async fn count_address(
        &self,
        request: &Request,
        address: IpAddr,
        now: DateTime<Utc>,
    ) -> Result<()> {
        self.count(request, format!("address:{address}"), self.anonymous, now)
            .await
    }

    pub async fn count_account(
        &self,
        request: &Request,
        actor: Actor,
        now: DateTime<Utc>,
    ) -> Result<()> {
        self.count(request, format!("{actor:?}"), self.account, now)
            .await
    }

    async fn count(
        &self,
        request: &Request,
        who: String,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<()> {
        if limit == 0 {
            return Ok(());
        }
        let number = now.timestamp().div_euclid(WINDOW_SECONDS);
        let reset = WINDOW_SECONDS - now.timestamp().rem_euclid(WINDOW_SECONDS);
        let left = match self.take(number, &who) {
            Some(left) => Some(left),
            None => self.lease(number, who, limit).await,
        };
        let standing = Standing {
            limit,
            remaining: left.unwrap_or(0),
            reset,
        };
        if let Some(shared) = request.data::<SharedStanding>() {
            // Whoever is counted twice is told the first count.
            let _ = shared.set(standing);
        }
        left.map(|_| ())
            .ok_or_else(|| TooMany { seconds: reset }.into())
    }

    /// One request out of the lease held here; how many are left after it.
    fn take(&self, number: i64, who: &str) -> Option<u32> {
        let mut window = self.window.lock().expect("nobody panics while counting");
        if window.number != number || window.leases.len() > MOST_CALLERS {
            *window = Window {
                number,
                leases: HashMap::new(),
            };
        }
        let lease = window.leases.get_mut(who)?;
        lease.here = lease.here.checked_sub(1)?;
        Some(lease.here + lease.elsewhere)
    }

    /// Fetches a share of the minute and takes one request out of it.
    async fn lease(&self, number: i64, who: String, limit: u32) -> Option<u32> {
        let share = (limit / 20).clamp(1, 50);
        let key = self.redis.key(&format!("limit:{who}:{number}"));
        let mut connection = self.redis.connection();
        let mut script = LEASE.key(key);
        let asked = script.arg(share).arg(limit).arg(WINDOW_SECONDS * 1_000);
        let (taken, elsewhere) = match asked.invoke_async(&mut connection).await {
            Ok(granted) => granted,
            Err(error) => {
                tracing::warn!(%error, "Redis is away; this process counts for itself");
                (share, limit.saturating_sub(share))
            }
        };
        let here = u32::checked_sub(taken, 1)?;
        let mut window = self.window.lock().expect("nobody panics while counting");
        if window.number == number {
            let lease = window.leases.entry(who).or_default();
            *lease = Lease {
                here: lease.here + here,
                elsewhere,
            };
        }
        Some(here + elsewhere)
    }
}
