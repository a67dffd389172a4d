//! Seats for another service that sells from the same stock: it takes and returns places of the event's pool.
//!
//! Each change names the version of the inventory that it has seen. The places are taken in Redis first, so that no
//! buyer is given them meanwhile; the row in Postgres is locked for one statement.

use poem_openapi::Object;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{EventError, Status, lock, pools, record, store};
use crate::access::Scope;
use crate::activity::Activity;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ids::EventId;
use crate::stock::{self, Claim, Level, Places};
use crate::tx::Tx;
use crate::version::VersionError;

/// What another service is told of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
pub struct Seats {
    pub event_id: EventId,
    /// How many places are free at this moment, of whatever ticket type.
    pub available_seats: i64,
    pub status: Status,
    /// Of the inventory: it grows with every change of what is sold.
    pub version: i64,
}

/// What is free of an event as a whole, and the version to change it by.
pub async fn seats(app: &App, scope: &Scope, id: EventId) -> Result<Seats> {
    let inventory = inventory(app, scope, id).await?;
    let available = inventory.available(app, id).await?;
    Ok(inventory.seats(id, available))
}

/// Whether seats can be taken, before anything is taken from the others. Answers whether the event has a pool of its own;
/// if not, [`ensure_pool`] gives it one.
pub async fn may_take(
    app: &App,
    scope: &Scope,
    id: EventId,
    seats: i32,
    version: i64,
) -> Result<bool> {
    let inventory = inventory(app, scope, id).await?;
    if !inventory.status.is_on_sale() {
        return Err(EventError::NotOnSale.into());
    }
    if inventory.version != version {
        let current = inventory.version;
        return Err(VersionError::Stale { current }.into());
    }
    if !inventory.has_pool {
        let available = inventory.available(app, id).await?;
        if available < seats.into() {
            return Err(insufficient(seats, available));
        }
    }
    Ok(inventory.has_pool)
}

/// Takes seats out of the rush, for [`take`] to make them the other service's.
pub async fn reserve(app: &App, id: EventId, seats: i32) -> Result<Claim> {
    let claim = Claim::take(app, id, id.0, seats).await?;
    claim.map_err(|available| insufficient(seats, available))
}

fn insufficient(requested: i32, available: i64) -> Error {
    let error = EventError::InsufficientSeats {
        requested,
        available,
    };
    error.into()
}

/// Sells seats for the other service.
pub async fn take(app: &App, tx: &mut Tx, claim: Claim, version: i64) -> Result<Seats> {
    let id = claim.event_id;
    let held = held(app, id).await - i64::from(claim.places);
    change(tx, id, claim.places, version, Some(claim), held).await
}

/// Takes seats back from the other service; never more than it has.
pub async fn give_back(
    app: &App,
    tx: &mut Tx,
    id: EventId,
    seats: i32,
    version: i64,
) -> Result<Seats> {
    let held = held(app, id).await;
    change(tx, id, -seats, version, None, held).await
}

/// How many places of the event's pool are held right now, as far as Redis can tell.
async fn held(app: &App, id: EventId) -> i64 {
    let levels = app.stock.read(app.clock.now(), id).await;
    let levels = levels.unwrap_or_default().unwrap_or_default();
    levels.get(&id.0).map_or(0, |level| level.held)
}

/// Gives the event a pool of its own if it has none, as large as all of its sessions together: it takes nothing from
/// what is on sale.
pub async fn ensure_pool(tx: &mut Tx, id: EventId) -> Result<()> {
    let mut event = lock(tx, id).await?;
    if event.own_capacity.is_some() {
        return Ok(());
    }
    let capacity = pools::seats_of_sessions(tx, id).await?;
    event.pool().fit(tx, Some(capacity), None).await?;
    event.own_capacity = Some(capacity);
    event.version += 1;
    event.updated_at = tx.now().into();
    store::update(tx, &event).await?;
    let changes = json!({ "own_capacity": [null, capacity] });
    record(tx, &event, "event.changed", changes);
    Ok(())
}

/// Whatever else is to be known is asked before: from the change of the row to the commit, everybody waits for it.
async fn change(
    tx: &mut Tx,
    id: EventId,
    seats: i32,
    version: i64,
    claim: Option<Claim>,
    held: i64,
) -> Result<Seats> {
    let inventory = pools::inventory(tx, id).await?;
    let inventory = ours(tx.scope(), inventory)?;
    let Some(told) = pools::move_seats(tx, id, seats, version).await? else {
        return Err(refusal(tx, id, version).await?);
    };
    tx.record(Activity {
        organization_id: Some(inventory.organization_id),
        kind: "event.seats_moved",
        subject: id.into(),
        data: json!({ "sold": told.sold, "version": told.version }),
    });
    let level = Level {
        capacity: told.capacity.into(),
        sold: told.sold.into(),
        held: held.max(0),
    };
    let inventory = pools::Inventory {
        version: told.version,
        ..inventory
    };
    tx.tell_places(Places::moved(id, claim, told));
    Ok(inventory.seats(id, level.free()))
}

/// Why no seats were moved.
async fn refusal(tx: &mut Tx, id: EventId, version: i64) -> Result<Error> {
    let inventory = pools::inventory(tx, id).await?;
    let current = inventory.map_or(version, |inventory| inventory.version);
    if current == version {
        return Ok(EventError::SeatsNotTaken.into());
    }
    Ok(VersionError::Stale { current }.into())
}

async fn inventory(app: &App, scope: &Scope, id: EventId) -> Result<pools::Inventory> {
    ours(scope, pools::inventory(&mut *app.read().await?, id).await?)
}

/// To whoever may not act for its organization, an event does not exist.
fn ours(scope: &Scope, inventory: Option<pools::Inventory>) -> Result<pools::Inventory> {
    let ours = |inventory: &pools::Inventory| scope.require(inventory.organization_id).is_ok();
    Ok(inventory.filter(ours).ok_or(EventError::NotFound)?)
}

impl pools::Inventory {
    fn seats(&self, event_id: EventId, available_seats: i64) -> Seats {
        Seats {
            event_id,
            available_seats,
            status: self.status,
            version: self.version,
        }
    }

    /// Of its own pool, or of all sessions together.
    async fn available(&self, app: &App, id: EventId) -> Result<i64> {
        let (levels, _) = stock::levels(app, id).await?;
        let free = |pool: &Uuid| levels.get(pool).map_or(0, |level| level.free());
        if self.has_pool {
            return Ok(free(&id.0));
        }
        Ok(self.sessions.iter().map(free).sum())
    }
}
