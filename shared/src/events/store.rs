//! The statements of events, their sessions, ticket types and pools.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::capacity::Part;
use super::event::Event;
use super::session::{NewSession, Session};
use super::status::Status;
use super::ticket_type::TicketType;
use super::{EventError, EventId};
use crate::clock::Time;
use crate::error::{OnConstraint as _, Result};
use crate::ids::{OrganizationId, SessionId, TicketTypeId, UserId};
use crate::stock::Told;

/// What refuses to let go of a ticket type that was ordered.
const ORDERED: &str = "order_items_ticket_type_id_fkey";

pub(super) async fn lock(db: &mut PgConnection, id: EventId) -> Result<()> {
    sqlx::query!("select from events where id = $1 for update", id as _)
        .execute(db)
        .await?;
    Ok(())
}

/// False if the slug is taken.
pub(super) async fn insert(db: &mut PgConnection, event: &Event) -> Result<bool> {
    let inserted = sqlx::query!(
        "insert into events (id, organization_id, title, slug, short_description, description, event_type,
                             category, venue_id, image_urls, time_zone, currency, status, starts_at, ends_at,
                             max_tickets_per_order, required_vetting_level, is_featured, is_sensitive, version,
                             created_at, updated_at, teacher_ids, organizer_ids, refund_policy, policies)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
                 $24, $25, $26)
         on conflict on constraint events_slug_key do nothing",
        event.id as _,
        event.organization_id as _,
        event.title,
        event.slug,
        event.short_description,
        event.description,
        event.event_type as _,
        event.category,
        event.venue_id as _,
        &event.image_urls,
        event.time_zone,
        event.currency,
        event.status as _,
        event.starts_at.0,
        event.ends_at.0,
        event.max_tickets_per_order,
        event.required_vetting_level,
        event.is_featured,
        event.is_sensitive,
        event.version,
        event.created_at.0,
        event.updated_at.0,
        &event.teacher_ids as _,
        &event.organizer_ids as _,
        Json(&event.refund_policy) as _,
        event.policies,
    );
    Ok(inserted.execute(db).await?.rows_affected() == 1)
}

pub(super) async fn update(db: &mut PgConnection, event: &Event) -> Result<()> {
    sqlx::query!(
        "update events set title = $2, short_description = $3, description = $4, event_type = $5, category = $6,
                           venue_id = $7, image_urls = $8, time_zone = $9, status = $10, status_reason = $11,
                           max_tickets_per_order = $12, required_vetting_level = $13, is_featured = $14,
                           is_sensitive = $15, version = $16, updated_at = $17, teacher_ids = $18,
                           organizer_ids = $19, refund_policy = $20, policies = $21
         where id = $1",
        event.id as _,
        event.title,
        event.short_description,
        event.description,
        event.event_type as _,
        event.category,
        event.venue_id as _,
        &event.image_urls,
        event.time_zone,
        event.status as _,
        event.status_reason,
        event.max_tickets_per_order,
        event.required_vetting_level,
        event.is_featured,
        event.is_sensitive,
        event.version,
        event.updated_at.0,
        &event.teacher_ids as _,
        &event.organizer_ids as _,
        Json(&event.refund_policy) as _,
        event.policies,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn delete(db: &mut PgConnection, id: EventId) -> Result<()> {
    // Types first: they hold on to their sessions.
    sqlx::query!("delete from ticket_types where event_id = $1", id as _)
        .execute(&mut *db)
        .await
        .on_constraint(ORDERED, || EventError::HasRegistrations { sold: 0 })?;
    sqlx::query!("delete from events where id = $1", id as _)
        .execute(db)
        .await?;
    Ok(())
}

/// The event begins with its first session and ends with its last.
pub(super) async fn follow_sessions(db: &mut PgConnection, id: EventId) -> Result<()> {
    sqlx::query!(
        "update events e set starts_at = s.starts_at, ends_at = s.ends_at
         from (select min(starts_at) as starts_at, max(ends_at) as ends_at
               from event_sessions where event_id = $1) s
         where e.id = $1",
        id as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Under the next number. The event is locked.
pub(super) async fn insert_session(
    db: &mut PgConnection,
    event_id: EventId,
    id: SessionId,
    new: &NewSession,
) -> Result<()> {
    sqlx::query!(
        "with numbered as (
             update events set next_session = next_session + 1 where id = $2 returning next_session - 1 as number
         )
         insert into event_sessions (id, event_id, number, name, starts_at, ends_at, active, version)
         select $1, $2, number, $3, $4, $5, true, 1 from numbered",
        id as _,
        event_id as _,
        new.name,
        new.starts_at.0,
        new.ends_at.0,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn sessions(db: &mut PgConnection, event_id: EventId) -> Result<Vec<Session>> {
    let mut sessions = sessions_of(db, &[event_id.0]).await?;
    Ok(sessions.remove(&event_id).unwrap_or_default())
}

/// Of several events at once.
pub(super) async fn sessions_of(
    db: &mut PgConnection,
    events: &[Uuid],
) -> Result<HashMap<EventId, Vec<Session>>> {
    let rows = sqlx::query!(
        r#"select s.event_id as "event_id: EventId", s.id as "id: SessionId", 'S' || s.number as "code!", s.name,
                  s.starts_at as "starts_at: Time", s.ends_at as "ends_at: Time", p.capacity, p.sold, s.active, s.version
           from event_sessions s join pools p on p.id = s.id
           where s.event_id = any($1) order by s.event_id, s.number"#,
        events,
    );
    let mut sessions: HashMap<EventId, Vec<Session>> = HashMap::new();
    for row in rows.fetch_all(db).await? {
        sessions.entry(row.event_id).or_default().push(Session {
            id: row.id,
            code: row.code,
            name: row.name,
            starts_at: row.starts_at,
            ends_at: row.ends_at,
            capacity: row.capacity,
            sold: row.sold,
            active: row.active,
            version: row.version,
        });
    }
    Ok(sessions)
}

pub(super) async fn session(db: &mut PgConnection, id: SessionId) -> Result<Session> {
    let session = sqlx::query_as!(
        Session,
        r#"select s.id as "id: SessionId", 'S' || s.number as "code!", s.name, s.starts_at as "starts_at: _",
                  s.ends_at as "ends_at: _", p.capacity, p.sold, s.active, s.version
           from event_sessions s join pools p on p.id = s.id
           where s.id = $1"#,
        id as _,
    );
    Ok(session.fetch_one(db).await?)
}

pub(super) async fn update_session(db: &mut PgConnection, session: &Session) -> Result<()> {
    sqlx::query!(
        "update event_sessions set name = $2, starts_at = $3, ends_at = $4, active = $5, version = $6
         where id = $1",
        session.id as _,
        session.name,
        session.starts_at.0,
        session.ends_at.0,
        session.active,
        session.version,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn delete_session(db: &mut PgConnection, id: SessionId) -> Result<()> {
    sqlx::query!("delete from event_sessions where id = $1", id as _)
        .execute(&mut *db)
        .await
        .on_constraint("ticket_type_sessions_session_fkey", || {
            EventError::SessionInUse("A ticket type includes the session.")
        })?;
    delete_pool(db, id.into()).await
}

pub(super) async fn insert_ticket_type(
    db: &mut PgConnection,
    event_id: EventId,
    new: &TicketType,
    included: &[SessionId],
    now: DateTime<Utc>,
) -> Result<()> {
    let included: Vec<Uuid> = included.iter().map(|id| id.0).collect();
    sqlx::query!(
        "with made as (
             insert into ticket_types (id, event_id, name, description, price, original_price, member_price,
                                       sales_start, sales_end, min_per_order, max_per_order, max_per_buyer,
                                       hidden, version, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             returning id
         )
         insert into ticket_type_sessions (ticket_type_id, session_id)
         select made.id, session_id from made, unnest($16::uuid[]) as session_id",
        new.id as _,
        event_id as _,
        new.name,
        new.description,
        new.price,
        new.original_price,
        new.member_price,
        new.sales_start.map(|time| time.0),
        new.sales_end.map(|time| time.0),
        new.min_per_order,
        new.max_per_order,
        new.max_per_buyer,
        new.hidden,
        new.version,
        now,
        &included,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn update_ticket_type(db: &mut PgConnection, kind: &TicketType) -> Result<()> {
    sqlx::query!(
        "update ticket_types set name = $2, description = $3, price = $4, original_price = $5, member_price = $6,
                                 sales_start = $7, sales_end = $8, min_per_order = $9, max_per_order = $10,
                                 max_per_buyer = $11, hidden = $12, version = $13
         where id = $1",
        kind.id as _,
        kind.name,
        kind.description,
        kind.price,
        kind.original_price,
        kind.member_price,
        kind.sales_start.map(|time| time.0),
        kind.sales_end.map(|time| time.0),
        kind.min_per_order,
        kind.max_per_order,
        kind.max_per_buyer,
        kind.hidden,
        kind.version,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether somebody has ordered of it, whatever became of that.
pub(super) async fn was_ordered(db: &mut PgConnection, id: TicketTypeId) -> Result<bool> {
    let ordered = sqlx::query_scalar!(
        r#"select exists (select from order_items where ticket_type_id = $1) as "ordered!""#,
        id as _,
    );
    Ok(ordered.fetch_one(db).await?)
}

/// The same of an event.
pub(super) async fn has_orders(db: &mut PgConnection, id: EventId) -> Result<bool> {
    let ordered = sqlx::query_scalar!(
        r#"select exists (select from orders where event_id = $1) as "ordered!""#,
        id as _,
    );
    Ok(ordered.fetch_one(db).await?)
}

/// Lets a type admit to these sessions and no others.
pub(super) async fn include_sessions(
    db: &mut PgConnection,
    id: TicketTypeId,
    included: &[SessionId],
) -> Result<()> {
    let included: Vec<Uuid> = included.iter().map(|id| id.0).collect();
    sqlx::query!(
        "with gone as (delete from ticket_type_sessions where ticket_type_id = $1 and session_id <> all($2))
         insert into ticket_type_sessions (ticket_type_id, session_id)
         select $1, session_id from unnest($2::uuid[]) as session_id on conflict do nothing",
        id as _,
        &included,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn delete_ticket_type(db: &mut PgConnection, id: TicketTypeId) -> Result<()> {
    sqlx::query!("delete from ticket_types where id = $1", id as _)
        .execute(db)
        .await
        .on_constraint(ORDERED, || EventError::TicketTypeHasSales)?;
    Ok(())
}

pub(super) async fn ticket_type(
    db: &mut PgConnection,
    event_id: EventId,
    id: TicketTypeId,
) -> Result<Option<TicketType>> {
    let types = ticket_types(db, event_id).await?;
    Ok(types.into_iter().find(|kind| kind.id == id))
}

pub(super) async fn ticket_types(
    db: &mut PgConnection,
    event_id: EventId,
) -> Result<Vec<TicketType>> {
    let mut types = ticket_types_of(db, &[event_id.0]).await?;
    Ok(types.remove(&event_id).unwrap_or_default())
}

/// Of several events at once.
pub(super) async fn ticket_types_of(
    db: &mut PgConnection,
    events: &[Uuid],
) -> Result<HashMap<EventId, Vec<TicketType>>> {
    let rows = sqlx::query!(
        r#"select t.event_id as "event_id: EventId", t.id as "id: TicketTypeId", t.name, t.description, t.price,
                  t.original_price, t.member_price, p.capacity as "quantity?",
                  array(select 'S' || s.number from ticket_type_sessions i
                        join event_sessions s on s.id = i.session_id
                        where i.ticket_type_id = t.id order by s.number) as "included_sessions!",
                  t.sales_start as "sales_start: Time", t.sales_end as "sales_end: Time", t.min_per_order,
                  t.max_per_order, t.max_per_buyer, t.hidden, t.version
           from ticket_types t left join pools p on p.id = t.id
           where t.event_id = any($1) order by t.event_id, t.created_at, t.id"#,
        events,
    );
    let mut types: HashMap<EventId, Vec<TicketType>> = HashMap::new();
    for row in rows.fetch_all(db).await? {
        types.entry(row.event_id).or_default().push(TicketType {
            id: row.id,
            name: row.name,
            description: row.description,
            price: row.price,
            original_price: row.original_price,
            member_price: row.member_price,
            quantity: row.quantity,
            included_sessions: row.included_sessions,
            sales_start: row.sales_start,
            sales_end: row.sales_end,
            min_per_order: row.min_per_order,
            max_per_order: row.max_per_order,
            max_per_buyer: row.max_per_buyer,
            hidden: row.hidden,
            version: row.version,
        });
    }
    Ok(types)
}

pub(super) async fn organization_of(
    db: &mut PgConnection,
    id: EventId,
) -> Result<Option<OrganizationId>> {
    let organization_id = sqlx::query_scalar!(
        r#"select organization_id as "id: OrganizationId" from events where id = $1"#,
        id as _,
    );
    Ok(organization_id.fetch_optional(db).await?)
}

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

/// An event that the clock moves.
pub(super) struct Due {
    pub id: EventId,
    pub organization_id: OrganizationId,
    pub status: Status,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
}

/// What has begun or ended by `now` and does not say so yet, for whoever moves it.
pub(super) async fn due(db: &mut PgConnection, now: DateTime<Utc>, limit: i64) -> Result<Vec<Due>> {
    let due = sqlx::query_as!(
        Due,
        r#"select id as "id: EventId", organization_id as "organization_id: OrganizationId", status as "status: Status",
                  starts_at, ends_at
           from events
           where status = 'published' and starts_at <= $1 or status = 'in_progress' and ends_at <= $1
           order by id limit $2 for update skip locked"#,
        now,
        limit,
    );
    Ok(due.fetch_all(db).await?)
}

pub(super) async fn move_to(
    db: &mut PgConnection,
    ids: &[EventId],
    status: Status,
    now: DateTime<Utc>,
) -> Result<()> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query!(
        "update events set status = $2, version = version + 1, updated_at = $3 where id = any($1)",
        &ids,
        status as _,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
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

pub(super) async fn event_of_ticket_type(
    db: &mut PgConnection,
    id: TicketTypeId,
) -> Result<Option<EventId>> {
    let event_id = sqlx::query_scalar!(
        r#"select event_id as "event_id: EventId" from ticket_types where id = $1"#,
        id as _,
    );
    Ok(event_id.fetch_optional(db).await?)
}

pub(super) async fn by_slug(db: &mut PgConnection, slug: &str) -> Result<Option<EventId>> {
    let id = sqlx::query_scalar!(
        r#"select id as "id: EventId" from events where slug = $1"#,
        slug
    );
    Ok(id.fetch_optional(db).await?)
}

pub(super) async fn vetted(
    db: &mut PgConnection,
    organization_id: OrganizationId,
    user_id: UserId,
    level: i16,
) -> Result<bool> {
    let vetted = sqlx::query_scalar!(
        r#"select exists(select from members
                         where organization_id = $1 and user_id = $2 and vetting_level >= $3) as "vetted!""#,
        organization_id as _,
        user_id as _,
        level,
    );
    Ok(vetted.fetch_one(db).await?)
}
