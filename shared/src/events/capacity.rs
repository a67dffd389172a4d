//! How many places there are: made more at once, made fewer only by places that nobody has.

use uuid::Uuid;

use super::{Event, EventError, Session, TicketType, pools};
use crate::access::Scope;
use crate::app::App;
use crate::error::Result;
use crate::ids::{EventId, TicketTypeId};
use crate::stock::{Claim, Places};
use crate::tx::Tx;
use crate::version::VersionError;

/// What has a number of places.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    Event,
    Session(&'a str),
    TicketType(TicketTypeId),
}

/// Takes the places out of the rush that a smaller capacity does away with, before the change itself: what is sold or
/// held for a buyer cannot be among them.
///
/// Nothing is to be taken if it does not get smaller, or if there is no such thing or not for the caller: the change
/// says so itself.
pub async fn set_aside(
    app: &App,
    scope: &Scope,
    id: EventId,
    part: Part<'_>,
    capacity: Option<i32>,
) -> Result<Option<Claim>> {
    let Some(capacity) = capacity else {
        return Ok(None);
    };
    let mut db = app.read().await?;
    let Some(pool) = pools::pool_of(&mut db, id, part).await? else {
        drop(db);
        check_limit(app, scope, id, part, capacity).await?;
        return Ok(None);
    };
    drop(db);
    let surplus = pool.capacity - capacity;
    if surplus <= 0 || scope.require(pool.organization_id).is_err() {
        return Ok(None);
    }
    match Claim::take(app, id, pool.id, surplus).await? {
        Ok(claim) => Ok(Some(claim)),
        Err(free) => {
            let taken = i64::from(pool.capacity) - free;
            Err(EventError::CapacityBelowSold { taken }.into())
        }
    }
}

/// What had no limit may be limited to no less than is sold or held of it at this moment. There are no places of it to
/// set aside yet, so whoever is just buying may still get past the new limit; they are refused at the order's end.
async fn check_limit(
    app: &App,
    scope: &Scope,
    id: EventId,
    part: Part<'_>,
    capacity: i32,
) -> Result<()> {
    let (pool, only) = match part {
        Part::Event => (id.0, None),
        Part::TicketType(kind) => (kind.0, Some(kind)),
        Part::Session(_) => return Ok(()),
    };
    let mut db = app.read().await?;
    let inventory = pools::inventory(&mut db, id).await?;
    if inventory.is_none_or(|inventory| scope.require(inventory.organization_id).is_err()) {
        return Ok(());
    }
    let (sold, _) = pools::taken_before(&mut db, pool, id).await?;
    drop(db);
    let (now, holds) = (app.clock.now(), app.stock.holds(id).await?);
    let live = holds.into_values().filter(|hold| hold.lives(now));
    let items = live.flat_map(|hold| hold.items);
    let held = items.filter(|(kind, _)| only.is_none_or(|only| only == *kind));
    let taken = i64::from(sold) + held.map(|(_, tickets)| i64::from(tickets)).sum::<i64>();
    if taken > capacity.into() {
        return Err(EventError::CapacityBelowSold { taken }.into());
    }
    Ok(())
}

/// The pool of something that may have a limit.
pub(super) struct PoolOf {
    pub id: Uuid,
    pub event_id: EventId,
    pub kind: &'static str,
    /// Of the thing itself.
    pub version: i64,
}

impl PoolOf {
    /// Makes, resizes or removes it. What is sold is never cut off, and fewer places need those set aside before.
    pub async fn fit(
        &self,
        tx: &mut Tx,
        capacity: Option<i32>,
        aside: Option<Claim>,
    ) -> Result<()> {
        let Some(capacity) = capacity else {
            tx.tell_places(Places::Rearranged(self.event_id));
            return pools::delete_pool(tx, self.id).await;
        };
        let Some(before) = pools::lock_pool(tx, self.id).await? else {
            tx.tell_places(Places::Rearranged(self.event_id));
            return self.limit(tx, capacity).await;
        };
        if before.sold > capacity {
            let taken = before.sold.into();
            return Err(EventError::CapacityBelowSold { taken }.into());
        }
        let surplus = before.capacity - capacity;
        let covered = aside.is_some_and(|claim| claim.pool == self.id && claim.places >= surplus);
        if surplus > 0 && !covered {
            let current = self.version;
            return Err(VersionError::Stale { current }.into());
        }
        let told = pools::resize_pool(tx, self.id, capacity).await?;
        tx.tell_places(Places::moved(self.event_id, aside, told));
        Ok(())
    }
}

impl PoolOf {
    /// Something that had no limit gets one, against which everything counts that is sold or ordered already.
    async fn limit(&self, tx: &mut Tx, capacity: i32) -> Result<()> {
        let (sold, ordered) = pools::taken_before(tx, self.id, self.event_id).await?;
        if sold + ordered > capacity {
            let taken = (sold + ordered).into();
            return Err(EventError::CapacityBelowSold { taken }.into());
        }
        pools::insert_pool(tx, self.id, self.event_id, self.kind, capacity, sold).await
    }
}

impl Event {
    pub(super) fn pool(&self) -> PoolOf {
        PoolOf {
            id: self.id.into(),
            event_id: self.id,
            kind: "event",
            version: self.version,
        }
    }
}

impl Session {
    pub(super) fn pool(&self, event_id: EventId) -> PoolOf {
        PoolOf {
            id: self.id.into(),
            event_id,
            kind: "session",
            version: self.version,
        }
    }
}

impl TicketType {
    pub(super) fn pool(&self, event_id: EventId) -> PoolOf {
        PoolOf {
            id: self.id.into(),
            event_id,
            kind: "ticket_type",
            version: self.version,
        }
    }
}
