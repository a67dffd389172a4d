//! What is left of many events at once: one round trip to Redis and at most one to Postgres, however many they are.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use redis::aio::ConnectionManager;
use redis::{ErrorKind, RedisResult};
use sqlx::PgConnection;
use uuid::Uuid;

use super::keys::Keys;
use super::{Level, Levels, Stock, levels_in, scripts};
use crate::error::Result;
use crate::ids::EventId;

/// The pools of several events.
pub type LevelsOf = HashMap<EventId, Levels>;

impl Stock<ConnectionManager> {
    /// The pools, as they are now, of those events that Redis knows.
    pub async fn read_many(&self, now: DateTime<Utc>, events: &[EventId]) -> Result<LevelsOf> {
        let told = match self.ask_many(now, events).await {
            // The scripts of a pipeline are not loaded by themselves.
            Err(error) if matches!(error.kind(), ErrorKind::Server(_)) => {
                let mut connection = self.connection.clone();
                scripts::READ.load_async(&mut connection).await?;
                self.ask_many(now, events).await
            }
            told => told,
        };
        let known = events
            .iter()
            .zip(told?)
            .filter(|(_, pools)| !pools.is_empty());
        let readable = known.filter_map(|(id, pools)| match levels_in(*id, &pools) {
            Ok(levels) => Some((*id, levels)),
            // Whoever asks for this one alone hears of it; it is no reason to tell nothing of the others.
            Err(error) => {
                tracing::error!(%error, "the places of an event are passed over");
                None
            }
        });
        Ok(readable.collect())
    }

    async fn ask_many(
        &self,
        now: DateTime<Utc>,
        events: &[EventId],
    ) -> RedisResult<Vec<BTreeMap<String, String>>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for event_id in events {
            let mut call = scripts::READ.prepare_invoke();
            for key in &Keys::of(&self.prefix, *event_id).0 {
                call.key(key);
            }
            call.arg(now.timestamp_millis()).arg("{}");
            pipe.invoke_script(&call);
        }
        pipe.query_async(&mut self.connection.clone()).await
    }
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
