//! Redis made what Postgres says: at the first look at an event, each minute, and when asked to.

use chrono::{DateTime, TimeDelta, Utc};
use redis::aio::ConnectionManager;
use serde::{Deserialize, Serialize};

use super::{Durable, Levels, NewHold, Placed, Restored, Stock};
use crate::app::App;
use crate::error::{Error, Result};
use crate::ids::EventId;
use crate::jobs::{Job, Queue};

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

/// Puts every event right that Redis knows or that an order waits for; answers what was wrong.
pub async fn reconcile(app: &App) -> Result<Drift> {
    let mut drift = Drift::default();
    for event_id in app.stock.known().await? {
        drift.events += 1;
        if over(app, event_id).await? {
            app.stock.forget_wholly(event_id).await?;
            continue;
        }
        let found = restore(app, event_id, true).await?;
        drift.missing += found.missing;
        if found.drift > 0 || found.missing > 0 {
            drift.drifted += 1;
            drift.places += found.drift;
            tracing::warn!(%event_id, places = found.drift, holds = found.missing, "places had drifted");
        }
    }
    metrics::counter!("holdfast_stock_drift_places_total").increment(drift.places.unsigned_abs());
    Ok(drift)
}

/// The event is gone, or has been over for a day.
async fn over(app: &App, event_id: EventId) -> Result<bool> {
    let a_day_ago = app.clock.now() - TimeDelta::days(1);
    let lives = sqlx::query_scalar!(
        r#"select exists (select from events where id = $1 and ends_at > $2) as "lives!""#,
        event_id as _,
        a_day_ago,
    );
    Ok(!lives.fetch_one(&mut *app.read().await?).await?)
}

/// Tells Redis what Postgres says of an event, then what it says after that: between the first look and the telling
/// something may have been ordered, sold or ended, and an event that Redis does not know yet cannot be told so.
async fn restore(app: &App, event_id: EventId, only_known: bool) -> Result<Restored> {
    let now = app.clock.now();
    let before = Durable {
        only_known,
        ..Durable::read(&mut *app.read().await?, event_id).await?
    };
    app.stock.note(event_id).await?;
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

/// Takes places, of an event that Redis may not know yet.
pub async fn place(app: &App, hold: &NewHold) -> Result<Placed> {
    for _ in 0..3 {
        let placed = app.stock.place(app.clock.now(), hold).await?;
        if placed != Placed::Cold {
            return Ok(placed);
        }
        warm_up(app, hold.event_id).await?;
    }
    let message = format!("Redis does not keep the places of {}", hold.event_id);
    Err(Error::Unavailable(message.into()))
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
    let now: DateTime<Utc> = app.clock.now();
    if let Some(levels) = app.stock.read(now, event_id).await? {
        return Ok(levels);
    }
    warm_up(app, event_id).await?;
    Ok(app.stock.read(now, event_id).await?.unwrap_or_default())
}

/// One at a time in this process: after a loss everybody asks at once, and one answer is enough.
async fn warm_up(app: &App, event_id: EventId) -> Result<()> {
    let _alone = app.stock.warming().await;
    let known = app.stock.read(app.clock.now(), event_id).await?;
    let durable = Durable::read(&mut *app.read().await?, event_id).await?;
    let mut pools = durable.pools.iter();
    let whole = |levels: Levels| pools.all(|pool| levels.contains_key(&pool.told.id));
    if known.is_some_and(whole) {
        return Ok(());
    }
    let restored = restore(app, event_id, false).await?;
    tracing::info!(%event_id, ?restored, "the places of an event were brought to Redis");
    Ok(())
}

impl Stock<ConnectionManager> {
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
