//! Tickets as they are shown: to whoever has them, and to the organizer of their event.

use chrono::{DateTime, Utc};
use poem_openapi::Object;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::order::Attendee;
use super::tickets::{Ticket, TicketStatus};
use super::{OrderError, Reader};
use crate::access::Scope;
use crate::clock::Time;
use crate::encryption::{Cipher, KeptSecret, Place};
use crate::error::Result;
use crate::events;
use crate::ids::{EventId, OrderId, OrganizationId, TicketId, TicketTypeId, UserId};
use crate::page::{Page, Paging};

/// A ticket, and what it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Object)]
pub struct TicketDetails {
    #[oai(flatten)]
    #[serde(flatten)]
    pub ticket: Ticket,
    pub event: TicketEvent,
    /// What it admits to, in the order of time.
    pub sessions: Vec<TicketSession>,
}

/// What takes place, as it stands on a ticket.
#[derive(Debug, Clone, PartialEq, Serialize, Object)]
pub struct TicketEvent {
    pub title: String,
    /// Its name in addresses.
    pub slug: String,
    pub status: events::Status,
    pub starts_at: Time,
    pub ends_at: Time,
    /// IANA name of the zone that its times are told in.
    pub time_zone: String,
    pub venue_name: Option<String>,
    pub city: Option<String>,
}

/// A part of an event that a ticket admits to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Object)]
pub struct TicketSession {
    pub code: String,
    pub name: String,
    pub starts_at: Time,
    pub ends_at: Time,
}

/// A ticket as it is kept.
struct Kept {
    details: TicketDetails,
    organization_id: OrganizationId,
    user_id: Option<UserId>,
    /// Opens its order to a guest.
    secret: KeptSecret,
    is_sensitive: bool,
}

/// A ticket, as somebody sees it.
#[derive(Debug)]
pub struct Seen {
    pub ticket: TicketDetails,
    pub organization_id: OrganizationId,
    /// They have it, by account or by secret.
    pub own: bool,
}

/// A ticket, if the reader has it, or may see the tickets of the organization. Its organizer sees of the attendee what
/// is for organizers to see.
pub async fn ticket(
    db: &mut PgConnection,
    cipher: &Cipher,
    reader: &Reader<'_>,
    id: TicketId,
) -> Result<Seen> {
    let found = kept(db, cipher, &[id]).await?.pop();
    let kept = found.ok_or(OrderError::TicketNotFound)?;
    let own = kept.is_of(reader);
    if !own && reader.scope.require(kept.organization_id).is_err() {
        return Err(OrderError::TicketNotFound.into());
    }
    Ok(Seen {
        organization_id: kept.organization_id,
        ticket: if own {
            kept.details
        } else {
            kept.backstage(&reader.contact)
        },
        own,
    })
}

/// Which tickets of an account are asked for, and by whom.
#[derive(Debug)]
pub struct Wallet {
    pub user_id: UserId,
    /// For events that are not over, or for those that are.
    pub upcoming: Option<bool>,
    pub status: Option<TicketStatus>,
    /// Organizers see those for events of theirs; none: it is the account's own.
    pub within: Option<Scope>,
}

/// The tickets of an account: what comes next first, then what is over, the latest first.
pub async fn wallet(
    db: &mut PgConnection,
    cipher: &Cipher,
    wanted: &Wallet,
    contact: &Scope,
    now: DateTime<Utc>,
    paging: Paging,
) -> Result<Page<TicketDetails>> {
    let total = count(db, wanted, now).await?;
    let ids = page(db, wanted, now, paging).await?;
    let kept = kept(db, cipher, &ids).await?.into_iter();
    let tickets = kept.map(|kept| match wanted.within {
        None => kept.details,
        Some(_) => kept.backstage(contact),
    });
    Ok(paging.of(tickets.collect(), total))
}

impl Kept {
    fn is_of(&self, reader: &Reader<'_>) -> bool {
        let theirs = reader.user_id.is_some() && reader.user_id == self.user_id;
        theirs || reader.secret.is_some_and(|told| self.secret.is(told))
    }

    /// As its organizer sees it.
    fn backstage(mut self, contact: &Scope) -> TicketDetails {
        let contact = contact.require(self.organization_id).is_ok();
        let attendee = &mut self.details.ticket.attendee;
        attendee.backstage(contact, self.is_sensitive);
        self.details
    }
}

fn organizations(within: Option<&Scope>) -> Option<Vec<Uuid>> {
    match within? {
        Scope::Everything => None,
        Scope::Organizations(ids) => Some(ids.iter().map(|id| id.0).collect()),
    }
}

async fn count(db: &mut PgConnection, wanted: &Wallet, now: DateTime<Utc>) -> Result<i64> {
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from tickets t join events e on e.id = t.event_id
           where t.user_id = $1 and ($2::uuid[] is null or t.organization_id = any($2))
                 and ($3::text is null or t.status = $3) and ($4::bool is null or (e.ends_at > $5) = $4)"#,
        wanted.user_id as _,
        organizations(wanted.within.as_ref()) as _,
        wanted.status as _,
        wanted.upcoming,
        now,
    );
    Ok(total.fetch_one(db).await?)
}

async fn page(
    db: &mut PgConnection,
    wanted: &Wallet,
    now: DateTime<Utc>,
    paging: Paging,
) -> Result<Vec<TicketId>> {
    let ids = sqlx::query_scalar!(
        r#"select t.id as "id: TicketId" from tickets t join events e on e.id = t.event_id
           where t.user_id = $1 and ($2::uuid[] is null or t.organization_id = any($2))
                 and ($3::text is null or t.status = $3) and ($4::bool is null or (e.ends_at > $5) = $4)
           order by e.ends_at <= $5, case when e.ends_at > $5 then e.starts_at end, e.starts_at desc, t.id
           limit $6 offset $7"#,
        wanted.user_id as _,
        organizations(wanted.within.as_ref()) as _,
        wanted.status as _,
        wanted.upcoming,
        now,
        paging.limit(),
        paging.offset(),
    );
    Ok(ids.fetch_all(db).await?)
}

/// Tickets in the order in which they are named.
async fn kept(db: &mut PgConnection, cipher: &Cipher, ids: &[TicketId]) -> Result<Vec<Kept>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let tickets = sqlx::query!(
        r#"select t.id as "id: TicketId", t.order_id as "order_id: OrderId", t.event_id as "event_id: EventId",
                  t.organization_id as "organization_id: OrganizationId", t.user_id as "user_id: UserId",
                  t.ticket_type_id as "ticket_type_id: TicketTypeId", i.name as ticket_type,
                  t.code, t.code_hash, t.code_encrypted,
                  t.status as "status: TicketStatus", t.price, o.currency, o.secret, o.secret_hash, o.secret_encrypted,
                  t.attendee as "attendee: Json<Attendee>", t.version, t.created_at as "created_at: Time",
                  e.title, e.slug, e.status as "event_status: events::Status", e.starts_at as "starts_at: Time",
                  e.ends_at as "ends_at: Time", e.time_zone, e.is_sensitive, v.name as "venue_name?", v.city as "city?",
                  (select coalesce(jsonb_agg(jsonb_build_object('code', 'S' || s.number, 'name', s.name,
                                                                'starts_at', s.starts_at, 'ends_at', s.ends_at)
                                             order by s.starts_at, s.number), '[]')
                   from ticket_type_sessions ts join event_sessions s on s.id = ts.session_id
                   where ts.ticket_type_id = t.ticket_type_id) as "sessions!: Json<Vec<TicketSession>>"
           from unnest($1::uuid[]) with ordinality as wanted (id, place)
                join tickets t on t.id = wanted.id
                join orders o on o.id = t.order_id
                join order_items i on i.order_id = t.order_id and i.ticket_type_id = t.ticket_type_id
                join events e on e.id = t.event_id left join venues v on v.id = e.venue_id
           order by wanted.place"#,
        &ids,
    );
    let tickets = tickets.fetch_all(db).await?.into_iter().map(|row| {
        let code = KeptSecret {
            plain: row.code,
            hash: row.code_hash,
            encrypted: row.code_encrypted,
        };
        let code = code.reveal(cipher, Place::TicketCode(row.id.0))?;
        let secret = KeptSecret {
            plain: row.secret,
            hash: row.secret_hash,
            encrypted: row.secret_encrypted,
        };
        Ok(Kept {
            organization_id: row.organization_id,
            user_id: row.user_id,
            secret,
            is_sensitive: row.is_sensitive,
            details: TicketDetails {
                ticket: Ticket {
                    id: row.id,
                    order_id: row.order_id,
                    event_id: row.event_id,
                    ticket_type_id: row.ticket_type_id,
                    ticket_type: row.ticket_type,
                    code,
                    status: row.status,
                    price: row.price,
                    currency: row.currency,
                    attendee: row.attendee.0,
                    version: row.version,
                    created_at: row.created_at,
                },
                event: TicketEvent {
                    title: row.title,
                    slug: row.slug,
                    status: row.event_status,
                    starts_at: row.starts_at,
                    ends_at: row.ends_at,
                    time_zone: row.time_zone,
                    venue_name: row.venue_name,
                    city: row.city,
                },
                sessions: row.sessions.0,
            },
        })
    });
    tickets.collect()
}
