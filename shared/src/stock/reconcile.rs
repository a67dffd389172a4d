//! Redis made what Postgres says: at the first look at an event, each minute, and when asked to.

use std::collections::HashSet;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::{Durable, Levels, NewHold, Placed, Restored, Stock, identity};
use crate::app::App;
use crate::cache::Changed;
use crate::error::{Error, Result};
use crate::ids::{EventId, OrderId};
use crate::jobs::{Job, Queue};
use crate::redis_connection::RedisConnection;

/// Compares both sides of every event that Redis knows.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reconcile {}

impl Job for Reconcile {
    const KIND: &'static str = "stock.reconcile";
    const QUEUE: Queue = Queue::Background;
}

/// What one round found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Drift {
    pub events: usize,
    /// Events whose numbers were off, and by how many places in all.
    pub drifted: usize,
    pub places: i64,
    /// Orders that had lost their hold.
    pub missing: i64,
}

/// Puts every event right that Redis knows; answers what was wrong. One that Redis does not know is right at the first
/// look at it. One that cannot be put right keeps the others from nothing.
pub async fn reconcile(app: &App) -> Result<Drift> {
    let known = app.stock.known().await?;
    let lasting = lasting(app, &known).await?;
    let mut drift = Drift {
        events: known.len(),
        ..Drift::default()
    };
    let mut failed = None;
    for event_id in known {
        let found = if lasting.contains(&event_id) {
            restore(app, event_id, true).await
        } else {
            app.stock
                .forget_wholly(event_id)
                .await
                .map(|()| Restored::default())
        };
        match found {
            Ok(found) => drift.count(event_id, found),
            Err(error) => {
                tracing::warn!(%event_id, %error, "the places of an event could not be compared");
                failed = Some(error);
            }
        }
    }
    metrics::counter!("holdfast_stock_drift_places_total").increment(drift.places.unsigned_abs());
    failed.map_or(Ok(drift), Err)
}

impl Drift {
    fn count(&mut self, event_id: EventId, found: Restored) {
        if found.drift == 0 && found.missing == 0 {
            return;
        }
        self.drifted += 1;
        self.places += found.drift;
        self.missing += found.missing;
        tracing::warn!(%event_id, places = found.drift, holds = found.missing, "places had drifted");
    }
}

/// Those of the events that are there, and not over for a day.
async fn lasting(app: &App, events: &[EventId]) -> Result<HashSet<EventId>> {
    let a_day_ago = app.clock.now() - TimeDelta::days(1);
    let events: Vec<_> = events.iter().map(|id| id.0).collect();
    let lasting = sqlx::query_scalar!(
        r#"select id as "id: EventId" from events where id = any($1) and ends_at > $2"#,
        &events,
        a_day_ago,
    );
    let lasting = lasting.fetch_all(&mut *app.read().await?).await?;
    Ok(lasting.into_iter().collect())
}

/// Tells Redis what Postgres says of an event, then what it says after that: between the first look and the telling
/// something may have been ordered, sold or ended, and an event that Redis does not know yet cannot be told so.
async fn restore(app: &App, event_id: EventId, only_known: bool) -> Result<Restored> {
    let now = app.clock.now();
    let heard = app.stock.heard(event_id).await?;
    let mut db = app.read().await?;
    let before = Durable {
        only_known,
        ..Durable::read(&mut db, event_id).await?.after(&heard)
    };
    if before.is_behind() {
        identity::require_primary(&mut db).await?;
        tracing::error!(%event_id, "Postgres has lost changes that Redis had heard of");
    }
    drop(db);
    if !only_known {
        app.stock.note(event_id).await?;
    }
    let restored = app.stock.restore(now, &before).await?;
    let after = Durable {
        only_known: true,
        ..Durable::read(&mut *app.read().await?, event_id).await?
    };
    if restored.cold {
        app.stock.restore(now, &after).await?;
    }
    let (ended, told) = (before.ended_by(&after), after.told());
    app.stock.settle(now, event_id, &ended, &told).await?;
    Ok(restored)
}

/// Compares one event, if Redis knows it.
pub(super) async fn compare(app: &App, event_id: EventId) -> Result<Restored> {
    let found = restore(app, event_id, true).await?;
    Drift::default().count(event_id, found);
    Ok(found)
}

/// Gives back what is held for an order that is over: in one step with what Postgres says is sold, so that nothing is free
/// in between.
pub(crate) async fn release_of_the_ended(app: &App, event_id: EventId, id: OrderId) -> Result<()> {
    let durable = Durable::read(&mut *app.read().await?, event_id).await?;
    let now = app.clock.now();
    app.stock
        .settle(now, event_id, &[id], &durable.told())
        .await
}

/// Takes places, of an event that Redis may not know yet. Cold if somebody asks for pools that are no more: whatever they
/// were told by is forgotten.
pub async fn place(app: &App, hold: &NewHold) -> Result<Placed> {
    let placed = app.stock.place(app.clock.now(), hold).await?;
    if placed != Placed::Cold {
        return Ok(placed);
    }
    let _alone = app.stock.warming(hold.event_id).await;
    for _ in 0..3 {
        // Whoever was here before may have brought it.
        let placed = app.stock.place(app.clock.now(), hold).await?;
        if placed != Placed::Cold {
            return Ok(placed);
        }
        if !warm_up(app, hold.event_id).await? {
            break;
        }
    }
    // What was missing may have been brought by somebody else since.
    let placed = app.stock.place(app.clock.now(), hold).await?;
    if placed == Placed::Cold {
        app.caches.forget(&[Changed::Event(hold.event_id)]);
    }
    Ok(placed)
}

/// Where the numbers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From Redis, as they are right now.
    Live,
    /// From Postgres, because Redis is away: what is held for others is not known.
    Durable,
}

/// All pools of an event, from Redis or, while that is away, from Postgres.
pub async fn levels(app: &App, event_id: EventId) -> Result<(Levels, Source)> {
    match live_levels(app, event_id).await {
        Err(Error::Unavailable(cause)) => {
            tracing::debug!(%event_id, %cause, "places are read from Postgres");
            let durable = Durable::read(&mut *app.read().await?, event_id).await?;
            Ok((durable.levels(), Source::Durable))
        }
        levels => Ok((levels?, Source::Live)),
    }
}

async fn live_levels(app: &App, event_id: EventId) -> Result<Levels> {
    let asked = vec![event_id];
    let known = app.looks.look(&app.stock, app.clock.now(), asked).await?;
    if let Some(levels) = known.get(&event_id) {
        return Ok(levels.clone());
    }
    let _alone = app.stock.warming(event_id).await;
    if let Some(levels) = app.stock.read(app.clock.now(), event_id).await? {
        return Ok(levels);
    }
    warm_up(app, event_id).await?;
    let levels = app.stock.read(app.clock.now(), event_id).await?;
    Ok(levels.unwrap_or_default())
}

/// Brings an event to Redis. False if all that Postgres has of it is there already: somebody asks for what is no more.
async fn warm_up(app: &App, event_id: EventId) -> Result<bool> {
    let known = app.stock.read(app.clock.now(), event_id).await?;
    let durable = Durable::read(&mut *app.read().await?, event_id).await?;
    let mut pools = durable.pools.iter();
    if known.is_some_and(|levels| pools.all(|pool| levels.contains_key(&pool.told.id))) {
        return Ok(false);
    }
    let restored = restore(app, event_id, false).await?;
    tracing::info!(%event_id, ?restored, "the places of an event were brought to Redis");
    Ok(true)
}

impl Stock<RedisConnection> {
    /// The events that Redis knows.
    async fn known(&self) -> Result<Vec<EventId>> {
        let ids: Vec<String> = redis::cmd("SMEMBERS")
            .arg(self.known_key())
            .query_async(&mut self.connection.clone())
            .await?;
        Ok(ids
            .iter()
            .filter_map(|id| id.parse().ok().map(EventId))
            .collect())
    }

    /// Before the event itself is written, so that none is known and not looked after.
    async fn note(&self, event_id: EventId) -> Result<()> {
        redis::cmd("SADD")
            .arg(self.known_key())
            .arg(event_id.to_string())
            .exec_async(&mut self.connection.clone())
            .await?;
        Ok(())
    }

    async fn forget_wholly(&self, event_id: EventId) -> Result<()> {
        self.forget(event_id).await?;
        redis::cmd("SREM")
            .arg(self.known_key())
            .arg(event_id.to_string())
            .exec_async(&mut self.connection.clone())
            .await?;
        Ok(())
    }

    fn known_key(&self) -> String {
        format!("{}:stock:known", self.prefix)
    }
}
