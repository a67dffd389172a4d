//! What is left of many events at once: one round trip to Redis and at most one to Postgres, however many they are.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use redis::{ErrorKind, RedisResult, ServerErrorKind};
use sqlx::PgConnection;
use uuid::Uuid;

use super::keys::Keys;
use super::{Level, Levels, Stock, levels_in, scripts};
use crate::error::{Error, Result};
use crate::ids::EventId;
use crate::redis_connection::RedisConnection;

/// The pools of several events.
pub type LevelsOf = HashMap<EventId, Levels>;

impl Stock<RedisConnection> {
    /// The pools, as they are now, of those events that Redis knows.
    pub async fn read_many(&self, now: DateTime<Utc>, events: &[EventId]) -> Result<LevelsOf> {
        let mut told = self.ask_many(now, events).await?;
        // The scripts of a pipeline are not loaded by themselves.
        if told.iter().any(|told| is(told, ServerErrorKind::NoScript)) {
            let mut connection = self.connection.clone();
            scripts::READ.load_async(&mut connection).await?;
            told = self.ask_many(now, events).await?;
        }
        let mut levels = LevelsOf::new();
        for (id, pools) in events.iter().zip(told) {
            let broken = is(&pools, ServerErrorKind::ResponseError);
            let known = match pools {
                Ok(pools) if pools.is_empty() => continue,
                Ok(pools) => levels_in(*id, &pools),
                Err(error) if broken => Err(Error::Internal(error.into())),
                Err(error) => return Err(error.into()),
            };
            match known {
                Ok(known) => _ = levels.insert(*id, known),
                // Whoever asks for this one alone hears of it; it is no reason to tell nothing of the others.
                Err(error) => {
                    tracing::error!(%error, event_id = %id, "the places of an event are passed over");
                }
            }
        }
        Ok(levels)
    }

    async fn ask_many(&self, now: DateTime<Utc>, events: &[EventId]) -> RedisResult<Vec<Pools>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        for event_id in events {
            let mut call = scripts::READ.prepare_invoke();
            for key in &Keys::of(&self.prefix, *event_id).0 {
                call.key(key);
            }
            call.arg(now.timestamp_millis())
                .arg("{}")
                .arg(self.farthest());
            pipe.invoke_script(&call);
        }
        pipe.query_async(&mut self.connection.clone()).await
    }
}

/// Those of one event, as Redis writes them.
type Pools = RedisResult<BTreeMap<String, String>>;

fn is(pools: &Pools, kind: ServerErrorKind) -> bool {
    pools
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::Server(kind))
}

/// The same by what is durably sold: right for events that Redis does not know, because nobody holds a place of them.
pub async fn durable_levels(db: &mut PgConnection, events: &[EventId]) -> Result<LevelsOf> {
    let ids: Vec<Uuid> = events.iter().map(|id| id.0).collect();
    let pools = sqlx::query!(
        r#"select id, event_id as "event_id: EventId", capacity, sold from pools where event_id = any($1)"#,
        &ids,
    );
    let mut levels = LevelsOf::new();
    for pool in pools.fetch_all(db).await? {
        let level = Level {
            capacity: pool.capacity.into(),
            sold: pool.sold.into(),
            held: 0,
        };
        levels
            .entry(pool.event_id)
            .or_default()
            .insert(pool.id, level);
    }
    Ok(levels)
}
