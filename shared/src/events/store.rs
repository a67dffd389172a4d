//! The statements of events, their sessions and ticket types; those of pools are in `pools`.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::event::Event;
use super::session::{NewSession, Session};
use super::status::Status;
use super::ticket_type::TicketType;
use super::{EventError, EventId, pools};
use crate::clock::Time;
use crate::error::{OnConstraint as _, Result};
use crate::ids::{OrganizationId, SessionId, TicketTypeId, UserId};

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
                           organizer_ids = $19, refund_policy = $20, policies = $21, never_published = $22
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
        event.never_published,
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

/// The event begins with its first session and ends with its last, of those that take place if any does, else of those to
/// come. Answers when it begins.
pub(super) async fn follow_sessions(
    db: &mut PgConnection,
    id: EventId,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>> {
    let followed = sqlx::query_scalar!(
        "update events e set starts_at = s.starts_at, ends_at = s.ends_at
         from (select coalesce(min(starts_at) filter (where active), min(starts_at) filter (where starts_at > $2),
                               min(starts_at)) as starts_at,
                      coalesce(max(ends_at) filter (where active), max(ends_at)) as ends_at
               from event_sessions where event_id = $1) s
         where e.id = $1
         returning e.starts_at",
        id as _,
        now,
    );
    Ok(followed.fetch_one(db).await?)
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
    pools::delete_pool(db, id.into()).await
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
