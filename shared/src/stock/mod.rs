//! What is free right now: the places of an event in Redis, where they are admitted.
//!
//! Postgres says how many places of a pool there are and how many are sold; Redis knows that too, and which are held
//! for somebody at the moment. What is free is the rest. All of it is changed by scripts of one round trip each that
//! may be run twice, because an answer can be lost; the numbers of Postgres come with the version of their pool, so
//! they may arrive late, twice or in another order. Whatever Redis forgets or gets wrong, [`reconcile()`] puts right,
//! and until then the constraint of the pool in Postgres has the last word.
//!
//! All keys of one event have the same hash tag and lie on one node of a cluster.

mod claim;
mod durable;
mod hold;
mod identity;
mod keys;
mod looks;
mod many;
mod places;
mod reconcile;
mod scripts;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use redis::aio::ConnectionLike;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

pub use claim::Claim;
pub use durable::{Durable, Pool, Waiting};
pub use hold::{Found, HoldToken, NewHold, Placed, Proof, Short};
pub(crate) use identity::hold_again;
pub use identity::{compare_after_change, watch};
pub(crate) use looks::Looks;
pub use many::{LevelsOf, durable_levels};
pub(crate) use places::Places;
pub(crate) use reconcile::release_of_the_ended;
pub use reconcile::{Drift, Reconcile, Source, levels, place, reconcile};

use crate::error::{Error, Result};
use crate::ids::{EventId, OrderId, TicketTypeId};
use crate::redis_connection::RedisConnection;
use keys::Keys;

/// The places in Redis, by one connection.
#[derive(Clone)]
pub struct Stock<C = RedisConnection> {
    connection: C,
    prefix: Arc<str>,
    /// How far the time that is handed in may be from the clock of Redis; any distance if none.
    farthest: Option<TimeDelta>,
    warming: Arc<[Mutex<()>; WARMED_AT_ONCE]>,
}

/// More events than this are not brought to Redis by one process at a time.
const WARMED_AT_ONCE: usize = 16;

/// What an order is written within, counted from the moment in which its hold was taken for it.
pub const ORDERED_WITHIN: TimeDelta = TimeDelta::seconds(30);

/// How far the clock of a process may be from that of Redis.
pub const FARTHEST_CLOCK: TimeDelta = TimeDelta::seconds(30);

/// After this, a hold for an order that is not there goes back: nobody is writing the order any more. Its transaction has
/// begun within 30 seconds, is ended by Postgres when it does nothing for a minute, and no statement of it takes
/// more than 30 seconds; and two clocks are at most a minute apart.
pub const LONGEST_ORDERING: TimeDelta = TimeDelta::seconds(180);

/// How many places of a pool there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Level {
    pub capacity: i64,
    pub sold: i64,
    pub held: i64,
}

/// What Postgres says of a pool. Of two, the one with the greater version is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Told {
    pub id: Uuid,
    pub capacity: i32,
    pub sold: i32,
    pub version: i64,
}

/// All pools of an event.
pub type Levels = BTreeMap<Uuid, Level>;

impl Level {
    /// Never below nothing, also while Redis catches up with Postgres.
    #[must_use]
    pub fn free(self) -> i64 {
        (self.capacity - self.sold - self.held).max(0)
    }
}

impl<C: ConnectionLike + Clone + Send> Stock<C> {
    pub fn new(connection: C, prefix: &str) -> Self {
        Self {
            connection,
            prefix: prefix.into(),
            farthest: None,
            warming: Arc::new(std::array::from_fn(|_| Mutex::default())),
        }
    }

    /// The same, where a time is refused that is farther than this from the clock of Redis.
    #[must_use]
    pub fn with_farthest_clock(self, farthest: Option<TimeDelta>) -> Self {
        Self { farthest, ..self }
    }

    fn farthest(&self) -> i64 {
        self.farthest
            .map_or(0, |farthest| farthest.num_milliseconds())
    }

    /// One at a time for an event: after a loss everybody asks at once, and one answer is enough.
    async fn warming(&self, event_id: EventId) -> MutexGuard<'_, ()> {
        let at = event_id.0.as_u128() % WARMED_AT_ONCE as u128;
        self.warming[usize::try_from(at).unwrap_or(0)].lock().await
    }

    /// Takes places from every pool or from none. The same hold again is answered as before.
    pub async fn place(&self, now: DateTime<Utc>, hold: &NewHold) -> Result<Placed> {
        self.run(&scripts::PLACE, hold.event_id, now, hold).await
    }

    /// What is held, for its owner; nothing if it is over.
    pub async fn look(
        &self,
        now: DateTime<Utc>,
        event_id: EventId,
        id: OrderId,
        proof: &Proof,
    ) -> Result<Option<Found>> {
        let ask = json!({ "id": id, "proof": proof });
        match self.run(&scripts::LOOK, event_id, now, &ask).await? {
            Looked::Found(found) => Ok(Some(found)),
            Looked::Missing => Ok(None),
        }
    }

    /// Gives the places back: with a proof only to its owner, and only while no order stands on the hold.
    pub async fn release(
        &self,
        now: DateTime<Utc>,
        event_id: EventId,
        id: OrderId,
        proof: Option<&Proof>,
    ) -> Result<Released> {
        let ask = json!({ "id": id, "proof": proof });
        self.run(&scripts::RELEASE, event_id, now, &ask).await
    }

    /// Moves the deadline, once.
    pub async fn extend(
        &self,
        now: DateTime<Utc>,
        event_id: EventId,
        id: OrderId,
        proof: &Proof,
        by: TimeDelta,
    ) -> Result<Extended> {
        let ask = json!({ "id": id, "proof": proof, "by": by.num_milliseconds() });
        self.run(&scripts::EXTEND, event_id, now, &ask).await
    }

    /// Lets an order that `writer` is about to write stand on the hold, which lapses no more then. True if none stood on it
    /// before, false if one did, nothing if the hold is over or another's.
    pub async fn attach(
        &self,
        now: DateTime<Utc>,
        event_id: EventId,
        id: OrderId,
        proof: &Proof,
        writer: Uuid,
    ) -> Result<Option<bool>> {
        self.stand(now, event_id, id, proof, writer, true).await
    }

    /// `writer` has not written the order: unless another writer is about to, the hold lapses at its deadline again. Answers
    /// whether it does.
    pub async fn detach(
        &self,
        now: DateTime<Utc>,
        event_id: EventId,
        id: OrderId,
        proof: &Proof,
        writer: Uuid,
    ) -> Result<bool> {
        let detached = self.stand(now, event_id, id, proof, writer, false).await?;
        Ok(detached == Some(true))
    }

    async fn stand(
        &self,
        now: DateTime<Utc>,
        event_id: EventId,
        id: OrderId,
        proof: &Proof,
        writer: Uuid,
        ordered: bool,
    ) -> Result<Option<bool>> {
        let ask = json!({ "id": id, "proof": proof, "writer": writer, "ordered": ordered });
        match self.run(&scripts::ATTACH, event_id, now, &ask).await? {
            Attached::Attached { anew } => Ok(Some(anew)),
            Attached::Missing => Ok(None),
        }
    }

    /// Forgets holds whose places are sold now, and takes over what Postgres says of the pools.
    pub async fn settle(
        &self,
        now: DateTime<Utc>,
        event_id: EventId,
        holds: &[OrderId],
        pools: &[Told],
    ) -> Result<()> {
        let ask = json!({ "holds": holds, "pools": pools });
        let Settled::Settled = self.run(&scripts::SETTLE, event_id, now, &ask).await?;
        Ok(())
    }

    /// All pools as they are now; nothing for an event that Redis does not know.
    pub async fn read(&self, now: DateTime<Utc>, event_id: EventId) -> Result<Option<Levels>> {
        let keys = Keys::of(&self.prefix, event_id);
        let mut connection = self.connection.clone();
        let mut call = scripts::READ.prepare_invoke();
        for key in &keys.0 {
            call.key(key);
        }
        call.arg(now.timestamp_millis())
            .arg("{}")
            .arg(self.farthest());
        let pools: BTreeMap<String, String> = call.invoke_async(&mut connection).await?;
        if pools.is_empty() {
            return Ok(None);
        }
        levels_in(event_id, &pools).map(Some)
    }

    /// Which versions of an event's pools Redis has heard of.
    pub async fn heard(&self, event_id: EventId) -> Result<BTreeMap<Uuid, i64>> {
        let keys = Keys::of(&self.prefix, event_id);
        let pools: BTreeMap<String, String> = redis::cmd("HGETALL")
            .arg(keys.pools())
            .query_async(&mut self.connection.clone())
            .await?;
        let heard = pools.iter().filter_map(|(id, text)| {
            let version = text.split(' ').nth(3)?.parse().ok()?;
            Some((id.parse().ok()?, version))
        });
        Ok(heard.collect())
    }

    /// Makes the event what Postgres says. `now` is from before Postgres was asked: an order that came after that is
    /// not among those that wait.
    pub async fn restore(&self, now: DateTime<Utc>, durable: &Durable) -> Result<Restored> {
        let mut ask = serde_json::to_value(durable)?;
        ask["longest_ordering"] = LONGEST_ORDERING.num_milliseconds().into();
        self.run(&scripts::RESTORE, durable.event_id, now, &ask)
            .await
    }

    /// All holds of an event, for those who look after them.
    pub async fn holds(&self, event_id: EventId) -> Result<BTreeMap<OrderId, Kept>> {
        let keys = Keys::of(&self.prefix, event_id);
        let holds: BTreeMap<String, String> = redis::cmd("HGETALL")
            .arg(keys.holds())
            .query_async(&mut self.connection.clone())
            .await?;
        let holds = holds.iter().map(|(id, text)| {
            let id = id.parse().map(OrderId).map_err(|_| unreadable(event_id))?;
            Ok((id, serde_json::from_str(text)?))
        });
        holds.collect()
    }

    /// Forgets all of an event that is over and gone.
    pub async fn forget(&self, event_id: EventId) -> Result<()> {
        let keys = Keys::of(&self.prefix, event_id);
        redis::cmd("DEL")
            .arg(&keys.0)
            .exec_async(&mut self.connection.clone())
            .await?;
        Ok(())
    }

    async fn run<A: Serialize, R: for<'de> Deserialize<'de>>(
        &self,
        script: &redis::Script,
        event_id: EventId,
        now: DateTime<Utc>,
        ask: &A,
    ) -> Result<R> {
        let keys = Keys::of(&self.prefix, event_id);
        let mut call = script.prepare_invoke();
        for key in &keys.0 {
            call.key(key);
        }
        call.arg(now.timestamp_millis())
            .arg(serde_json::to_string(ask)?)
            .arg(self.farthest());
        let answer: String = call.invoke_async(&mut self.connection.clone()).await?;
        Ok(serde_json::from_str(&answer)?)
    }
}

fn unreadable(event_id: EventId) -> Error {
    Error::Internal(format!("a hold of {event_id} is not readable").into())
}

fn levels_in(event_id: EventId, pools: &BTreeMap<String, String>) -> Result<Levels> {
    let levels = pools.iter().map(|(id, text)| level(id, text));
    levels
        .collect::<Option<Levels>>()
        .ok_or_else(|| Error::Internal(format!("the pools of {event_id} are not readable").into()))
}

fn level(id: &str, text: &str) -> Option<(Uuid, Level)> {
    let mut numbers = text.split(' ').map(|number| number.parse().ok());
    let (capacity, sold, held) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let level = Level {
        capacity,
        sold,
        held,
    };
    Some((id.parse().ok()?, level))
}

/// A hold as Redis keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Kept {
    pub buyer: String,
    /// How many tickets of which type.
    #[serde(deserialize_with = "maybe_none")]
    pub items: Vec<(TicketTypeId, i32)>,
    /// Whether an order stands on it.
    pub ordered: bool,
    /// Since when it is ordered, or else held.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub since: DateTime<Utc>,
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub deadline: DateTime<Utc>,
}

impl Kept {
    /// An order's hold waits for the order's end, any other for its deadline.
    #[must_use]
    pub fn lives(&self, now: DateTime<Utc>) -> bool {
        self.ordered || self.deadline > now
    }
}

/// An empty list and an empty object are the same to Lua.
fn maybe_none<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Vec<T>, D::Error> {
    let value = Value::deserialize(from)?;
    if value.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(Vec::new());
    }
    serde_json::from_value(value).map_err(serde::de::Error::custom)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Released {
    Released,
    /// It is over already.
    Missing,
    /// An order stands on it; the places come back with the order's end.
    Ordered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Extended {
    Extended {
        #[serde(with = "chrono::serde::ts_milliseconds")]
        deadline: DateTime<Utc>,
    },
    ExtendedBefore {
        #[serde(with = "chrono::serde::ts_milliseconds")]
        deadline: DateTime<Utc>,
    },
    Missing,
    Ordered,
}

/// What it took to make an event what Postgres says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Restored {
    /// Redis did not know the event.
    pub cold: bool,
    /// By how many places the pools were off.
    pub drift: i64,
    /// How many orders had lost their hold, or stood on one that would have lapsed.
    pub missing: i64,
}

#[derive(Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Looked {
    Found(Found),
    Missing,
}

#[derive(Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Attached {
    Attached { anew: bool },
    Missing,
}

#[derive(Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Settled {
    Settled,
}
