//! Seats for another service that sells from the same stock: it takes and returns places of the event's pool.
//!
//! Each change names the version of the inventory that it has seen. The places are taken in Redis first, so that no
//! buyer is given them meanwhile; the row in Postgres is locked for one statement.

use poem_openapi::Object;
use serde::Serialize;
use serde_json::json;

use super::{EventError, Status, lock, record, store};
use crate::access::Scope;
use crate::app::App;
use crate::error::Result;
use crate::ids::EventId;
use crate::stock::{self, Claim, Level, Places, Told};
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
    let (levels, _) = stock::levels(app, id).await?;
    let available_seats = match levels.get(&id.0) {
        Some(level) => level.free(),
        None => inventory
            .sessions
            .iter()
            .filter_map(|session| levels.get(session))
            .map(|level| level.free())
            .sum(),
    };
    Ok(inventory.seats(id, available_seats))
}

/// Whether the event has no pool of its own yet; [`ensure_pool`] gives it one.
pub async fn without_pool(app: &App, scope: &Scope, id: EventId) -> Result<bool> {
    Ok(inventory(app, scope, id).await?.version.is_none())
}

/// Takes seats out of the rush, for [`take`] to make them the other service's.
pub async fn reserve(
    app: &App,
    scope: &Scope,
    id: EventId,
    seats: i32,
    version: i64,
) -> Result<Claim> {
    let inventory = inventory(app, scope, id).await?;
    if !inventory.status.is_on_sale() {
        return Err(EventError::NotOnSale.into());
    }
    // A stale caller is told so before anything is taken from the others.
    if inventory.version.unwrap_or(1) != version {
        return Err(VersionError::Stale {
            current: inventory.version.unwrap_or(1),
        }
        .into());
    }
    match Claim::take(app, id, id.0, seats).await? {
        Ok(claim) => Ok(claim),
        Err(available) => Err(EventError::InsufficientSeats {
            requested: seats,
            available,
        }
        .into()),
    }
}

/// Sells seats for the other service.
pub async fn take(tx: &mut Tx, claim: Claim, version: i64) -> Result<Seats> {
    let told = move_seats(tx, claim.event_id, claim.places, version).await?;
    tx.tell_places(claim.done());
    answer(tx, claim.event_id, told).await
}

/// Takes seats back from the other service; never more than it has.
pub async fn give_back(tx: &mut Tx, id: EventId, seats: i32, version: i64) -> Result<Seats> {
    let told = move_seats(tx, id, -seats, version).await?;
    answer(tx, id, told).await
}

/// Gives the event a pool of its own if it has none, as large as all of its sessions together: it takes nothing from
/// what is on sale.
pub async fn ensure_pool(tx: &mut Tx, id: EventId) -> Result<()> {
    let mut event = lock(tx, id).await?;
    if event.own_capacity.is_some() {
        return Ok(());
    }
    let capacity = store::seats_of_sessions(tx, id).await?;
    event.pool().fit(tx, Some(capacity), None).await?;
    event.own_capacity = Some(capacity);
    event.version += 1;
    event.updated_at = tx.now().into();
    store::update(tx, &event).await?;
    let changes = json!({ "own_capacity": [null, capacity] });
    record(tx, &event, "event.changed", changes);
    Ok(())
}

async fn move_seats(tx: &mut Tx, id: EventId, seats: i32, version: i64) -> Result<Told> {
    if let Some(told) = store::move_seats(tx, id, seats, version).await? {
        return Ok(told);
    }
    let inventory = store::inventory(tx, id).await?;
    let current = inventory
        .and_then(|inventory| inventory.version)
        .unwrap_or(1);
    if current != version {
        return Err(VersionError::Stale { current }.into());
    }
    Err(EventError::SeatsNotTaken.into())
}

async fn answer(tx: &mut Tx, id: EventId, told: Told) -> Result<Seats> {
    let inventory = store::inventory(tx, id).await?;
    let inventory = inventory.ok_or(EventError::NotFound)?;
    tx.require(inventory.organization_id)?;
    let level = Level {
        capacity: told.capacity.into(),
        sold: told.sold.into(),
        held: 0,
    };
    tx.record(crate::activity::Activity {
        organization_id: Some(inventory.organization_id),
        kind: "event.seats_moved",
        subject: id.into(),
        data: json!({ "sold": told.sold, "version": told.version }),
    });
    tx.tell_places(Places::Moved {
        event_id: id,
        holds: Vec::new(),
        pools: vec![told.clone()],
    });
    let inventory = store::Inventory {
        version: Some(told.version),
        ..inventory
    };
    Ok(inventory.seats(id, level.free()))
}

/// To whoever may not act for its organization, an event does not exist.
async fn inventory(app: &App, scope: &Scope, id: EventId) -> Result<store::Inventory> {
    let inventory = store::inventory(&mut *app.read().await?, id).await?;
    let ours = |inventory: &store::Inventory| scope.require(inventory.organization_id).is_ok();
    Ok(inventory.filter(ours).ok_or(EventError::NotFound)?)
}

impl store::Inventory {
    fn seats(&self, event_id: EventId, available_seats: i64) -> Seats {
        Seats {
            event_id,
            available_seats,
            status: self.status,
            version: self.version.unwrap_or(1),
        }
    }
}
