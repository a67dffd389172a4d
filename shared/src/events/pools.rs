//! The statements of pools: how many places there are, and how many of them are gone.

use sqlx::PgConnection;
use uuid::Uuid;

use super::capacity::Part;
use super::error::EventError;
use super::status::Status;
use crate::error::{OnConstraint as _, Result};
use crate::ids::{EventId, OrganizationId};
use crate::stock::Told;

/// How many tickets were sold of something that had no pool, and how many of it are in orders that wait.
pub(super) async fn taken_before(
    db: &mut PgConnection,
    id: Uuid,
    event_id: EventId,
) -> Result<(i32, i32)> {
    let taken = sqlx::query!(
        r#"select (select count(*) from tickets t
                   where t.event_id = $2 and t.status = 'valid' and $1 in (t.ticket_type_id, t.event_id))::int as "sold!",
                  (select coalesce(sum(i.quantity), 0) from orders o join order_items i on i.order_id = o.id
                   where o.event_id = $2 and o.status in ('pending', 'requires_action')
                         and $1 in (i.ticket_type_id, o.event_id))::int as "ordered!""#,
        id,
        event_id as _,
    );
    let taken = taken.fetch_one(db).await?;
    Ok((taken.sold, taken.ordered))
}

/// `sold` of it were sold before it had a limit.
pub(super) async fn insert_pool(
    db: &mut PgConnection,
    id: Uuid,
    event_id: EventId,
    kind: &str,
    capacity: i32,
    sold: i32,
) -> Result<()> {
    sqlx::query!(
        "insert into pools (id, event_id, kind, capacity, sold, version)
         values ($1, $2, $3, $4, $5, coalesce((select next_pool_version from events where id = $1),
                                              (select next_pool_version from ticket_types where id = $1), 1))",
        id,
        event_id as _,
        kind,
        capacity,
        sold,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The pool of a part of an event, if it has one.
pub(super) struct Pool {
    pub id: Uuid,
    pub organization_id: OrganizationId,
    pub capacity: i32,
}

pub(super) async fn pool_of(
    db: &mut PgConnection,
    event_id: EventId,
    part: Part<'_>,
) -> Result<Option<Pool>> {
    let (id, number) = match part {
        Part::Event => (Some(event_id.0), None),
        Part::TicketType(id) => (Some(id.0), None),
        Part::Session(code) => (None, super::session::number(code)),
    };
    let pool = sqlx::query_as!(
        Pool,
        r#"select p.id, e.organization_id as "organization_id: OrganizationId", p.capacity
           from pools p join events e on e.id = p.event_id
           where p.event_id = $1
                 and (p.id = $2 or p.id = (select s.id from event_sessions s where s.event_id = $1 and s.number = $3))"#,
        event_id as _,
        id,
        number,
    );
    Ok(pool.fetch_optional(db).await?)
}

/// A pool as it is until the end of the transaction.
pub(super) struct Locked {
    pub capacity: i32,
    pub sold: i32,
}

pub(super) async fn lock_pool(db: &mut PgConnection, id: Uuid) -> Result<Option<Locked>> {
    let pool = sqlx::query_as!(
        Locked,
        "select capacity, sold from pools where id = $1 for update",
        id
    );
    Ok(pool.fetch_optional(db).await?)
}

pub(super) async fn resize_pool(db: &mut PgConnection, id: Uuid, capacity: i32) -> Result<Told> {
    let told = sqlx::query_as!(
        Told,
        "update pools set capacity = $2, version = version + 1 where id = $1
         returning id, capacity, sold, version",
        id,
        capacity,
    );
    Ok(told.fetch_one(db).await?)
}

/// Does nothing where there is none. Not of a type that was sold, nor what another service has sold from, so that it
/// stays counted.
pub(super) async fn delete_pool(db: &mut PgConnection, id: Uuid) -> Result<()> {
    let gone = sqlx::query!(
        r#"with gone as (
               delete from pools where id = $1 returning id, kind, sold, sold_elsewhere, version
           ), of_event as (
               update events e set next_pool_version = gone.version + 1 from gone where e.id = gone.id
           ), of_type as (
               update ticket_types t set next_pool_version = gone.version + 1 from gone where t.id = gone.id
           )
           select kind = 'ticket_type' and sold > 0 as "has_sales!", sold_elsewhere as "sold_elsewhere!" from gone"#,
        id
    );
    match gone.fetch_optional(db).await? {
        Some(gone) if gone.has_sales => Err(EventError::TicketTypeHasSales.into()),
        Some(gone) if gone.sold_elsewhere > 0 => Err(EventError::CapacityBelowSold {
            taken: gone.sold_elsewhere.into(),
        }
        .into()),
        _ => Ok(()),
    }
}

/// How many places of the event are sold, by us, counted by sessions, and by another service.
pub(super) async fn sold(db: &mut PgConnection, event_id: EventId) -> Result<i64> {
    let sold = sqlx::query_scalar!(
        r#"select coalesce(sum(case kind when 'session' then sold else sold_elsewhere end), 0) as "sold!"
           from pools where event_id = $1"#,
        event_id as _,
    );
    Ok(sold.fetch_one(db).await?)
}

/// What another service needs to know of an event's places.
pub(super) struct Inventory {
    pub organization_id: OrganizationId,
    pub status: Status,
    /// Of the event's own pool, or of the one that it is yet to have.
    pub version: i64,
    pub has_pool: bool,
    pub sessions: Vec<Uuid>,
}

pub(super) async fn inventory(db: &mut PgConnection, id: EventId) -> Result<Option<Inventory>> {
    let inventory = sqlx::query_as!(
        Inventory,
        r#"select e.organization_id as "organization_id: OrganizationId", e.status as "status: Status",
                  coalesce(p.version, e.next_pool_version) as "version!", p.id is not null as "has_pool!",
                  array(select s.id from event_sessions s where s.event_id = e.id) as "sessions!"
           from events e left join pools p on p.id = e.id
           where e.id = $1"#,
        id as _,
    );
    Ok(inventory.fetch_optional(db).await?)
}

/// How many places all sessions have together.
pub(super) async fn seats_of_sessions(db: &mut PgConnection, id: EventId) -> Result<i32> {
    let seats = sqlx::query_scalar!(
        r#"select least(sum(capacity), 2147483647)::int as "seats!" from pools
           where event_id = $1 and kind = 'session'"#,
        id as _,
    );
    Ok(seats.fetch_one(db).await?)
}

/// Moves seats of the event's pool to another service, or back; nothing if the version is another one or the service
/// has fewer.
pub(super) async fn move_seats(
    db: &mut PgConnection,
    id: EventId,
    seats: i32,
    version: i64,
) -> Result<Option<Told>> {
    let told = sqlx::query_as!(
        Told,
        "update pools set sold = sold + $2, sold_elsewhere = sold_elsewhere + $2, version = version + 1
         where id = $1 and version = $3 and sold_elsewhere + $2 >= 0
         returning id, capacity, sold, version",
        id as _,
        seats,
        version,
    );
    let told = told.fetch_optional(db).await;
    told.on_constraint("pools_not_overdrawn", || EventError::InsufficientSeats {
        requested: seats,
        available: 0,
    })
}
