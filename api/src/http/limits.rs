//! How many requests a caller may make in a minute, counted in Redis for all processes together.
//!
//! Asking Redis for every request would cost more than most requests do, so a process leases a share of the
//! caller's minute and counts that down by itself. A lease is taken out of the common count before it is
//! used: together the processes never let more through than the limit. When Redis is away they count for
//! themselves, since browsing goes on.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use poem::Request;
use poem::http::HeaderMap;
use redis::Script;
use shared::access::Actor;
use shared::app::Redis;
use shared::config;
use shared::error::{Code, Fault, Result};

use super::address::Address;
use super::observe::SharedStanding;

const WINDOW_SECONDS: i64 = 60;
/// Most requests that a process takes out of the common count at once.
const LARGEST_SHARE: u32 = 50;
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
    refused: bool,
}

impl Standing {
    pub fn tell(self, headers: &mut HeaderMap) {
        headers.insert("ratelimit-limit", self.limit.into());
        headers.insert("ratelimit-remaining", self.remaining.into());
        headers.insert("ratelimit-reset", self.reset.into());
        if self.refused {
            headers.insert("retry-after", self.reset.into());
        }
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
    /// Redis has been asked, or was away when it should have been.
    known: bool,
}

pub struct Limiter {
    redis: Redis,
    anonymous: u32,
    account: u32,
    network: u32,
    sign_in: u32,
    window: Mutex<Window>,
}

impl Limiter {
    #[must_use]
    pub fn new(redis: Redis, limits: &config::Limits) -> Self {
        Self {
            redis,
            anonymous: limits.anonymous_per_minute,
            account: limits.account_per_minute,
            network: limits.network_per_minute,
            sign_in: limits.sign_in_per_minute,
            window: Mutex::default(),
        }
    }

    pub async fn count_address(
        &self,
        request: &Request,
        address: Address,
        now: DateTime<Utc>,
    ) -> Result<()> {
        self.count(
            request,
            format!("address:{}", address.network()),
            self.anonymous,
            now,
        )
        .await
    }

    /// For what guesses at secrets or sends mails, on top of everything else.
    pub async fn count_sign_in(
        &self,
        request: &Request,
        address: Address,
        now: DateTime<Utc>,
    ) -> Result<()> {
        self.count(
            request,
            format!("sign-in:{}", address.network()),
            self.sign_in,
            now,
        )
        .await
    }

    pub async fn count_account(
        &self,
        request: &Request,
        actor: Actor,
        now: DateTime<Utc>,
    ) -> Result<()> {
        self.count(
            request,
            format!("{}:{}", actor.kind(), actor.id().unwrap_or_default()),
            self.account,
            now,
        )
        .await
    }

    /// For accounts and keys, on top of their own limits: all of one network together.
    pub async fn count_network(
        &self,
        request: &Request,
        address: Address,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let who = format!("network:{}", address.network());
        self.count(request, who, self.network, now).await
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
            Taken::Left(left) => Some(left),
            Taken::Spent => None,
            Taken::Unknown => self.lease(number, who, limit).await,
        };
        let standing = Standing {
            limit,
            remaining: left.unwrap_or(0),
            reset,
            refused: left.is_none(),
        };
        if let Some(shared) = request.data::<SharedStanding>() {
            // A request that is counted twice is told the first count, which is the tighter one.
            let _ = shared.set(standing);
        }
        left.map(|_| ())
            .ok_or_else(|| TooMany { seconds: reset }.into())
    }

    /// One request out of the lease held here.
    fn take(&self, number: i64, who: &str) -> Taken {
        let mut window = self.window(number);
        match window.leases.get_mut(who) {
            Some(lease) if lease.here > 0 => {
                lease.here -= 1;
                Taken::Left(lease.here + lease.elsewhere)
            }
            // What is spent stays so until the minute is over: nobody has to ask Redis again.
            Some(lease) if lease.elsewhere == 0 => Taken::Spent,
            _ => Taken::Unknown,
        }
    }

    /// Fetches a share of the minute and takes one request out of it; how many are left then.
    async fn lease(&self, number: i64, who: String, limit: u32) -> Option<u32> {
        let share = (limit / 20).clamp(1, LARGEST_SHARE);
        let asked = self.ask(&who, number, share, limit).await;
        let mut window = self.window(number);
        let lease = window.leases.entry(who).or_default();
        match asked {
            Ok((taken, elsewhere)) => {
                lease.here += taken;
                lease.elsewhere = elsewhere;
            }
            Err(error) => {
                tracing::warn!(%error, "Redis is away; this process counts for itself");
                // The whole minute is ours then, unless some of it has been given out before.
                lease.here += if lease.known { lease.elsewhere } else { limit };
                lease.elsewhere = 0;
            }
        }
        lease.known = true;
        lease.here = lease.here.checked_sub(1)?;
        Some(lease.here + lease.elsewhere)
    }

    /// The leases of this minute. A request that was late at the turn of the minute counts in the new one.
    fn window(&self, number: i64) -> MutexGuard<'_, Window> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if number > window.number || window.leases.len() > MOST_CALLERS {
            *window = Window {
                number,
                leases: HashMap::new(),
            };
        }
        window
    }

    async fn ask(
        &self,
        who: &str,
        number: i64,
        share: u32,
        limit: u32,
    ) -> Result<(u32, u32), redis::RedisError> {
        let mut script = LEASE.key(self.redis.key(&format!("limit:{who}:{number}")));
        let asked = script.arg(share).arg(limit).arg(WINDOW_SECONDS * 1_000);
        asked.invoke_async(&mut self.redis.connection()).await
    }
}

/// What came of looking into the lease held here.
enum Taken {
    Left(u32),
    Spent,
    Unknown,
}
