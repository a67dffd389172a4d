//! Events: what takes place, in which sessions, and what is on sale of it.
//!
//! Every change to an event or a part of it holds the event's row, so that two who add a session at once get two
//! codes. Places are counted by pools and by nothing else: a session has one, an event with a total and a ticket
//! type with a quantity have one each, and the database refuses a pool that has sold more than it holds. What is a
//! draft, or asks for more vetting than the reader has, does not exist for them.

mod availability;
pub mod cache;
mod capacity;
mod error;
mod event;
mod filter;
pub mod list;
mod live;
mod pools;
mod prices;
mod refund_policy;
mod search;
pub mod seats;
mod session;
mod status;
mod store;
pub mod summary;
mod ticket_type;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use availability::{
    Availability, AvailabilitySource, Constraint, SessionAvailability, TicketTypeAvailability,
    TicketTypeNow,
};
pub use cache::KeptEvent;
pub use capacity::{Part, set_aside};
pub use error::EventError;
pub use event::{
    Cancellation, Cancelled, Event, EventChange, EventDetails, EventNow, EventType, NewEvent,
    StatusChange,
};
pub use filter::{EventFilter, EventSort};
pub use list::Viewer;
pub use live::{Latest, Watches, availability, ticket_types, watch};
pub use prices::follow_due as follow_prices;
pub use refund_policy::RefundPolicy;
pub use session::{
    NewSession, Session, SessionChange, add_session, change_session, delete_session,
};
pub use status::Status;
pub use summary::{EventPage, EventSummary, Listing, Live};
pub use ticket_type::{
    NewTicketType, TicketType, TicketTypeChange, add_ticket_type, change_ticket_type,
    delete_ticket_type, of_ticket_type,
};

use crate::activity::{self, Activity};
use crate::app::App;
use crate::cache::Changed;
use crate::error::{Code, Error, Invalid, Result};
use crate::ids::{EventId, OrganizationId, VenueId};
use crate::jobs::{Job, Queue};
use crate::money::Currency;
use crate::orders::jobs::RefundAll;
use crate::organizations;
use crate::patch::Patch;
use crate::stock::{Claim, Places};
use crate::text::slugs_for;
use crate::tx::Tx;
use crate::venues::{self, Venue};
use crate::version::Expected;

/// What the address `/events/featured` stands for.
const TAKEN_SLUG: &str = "featured";
/// Teachers, and organizers.
const MOST_PEOPLE: usize = 50;

pub async fn create(tx: &mut Tx, new: NewEvent) -> Result<EventDetails> {
    let organization_id = tx.scope().choose(new.organization_id)?;
    let organization = organizations::get(tx, organization_id).await?;
    let mut invalid = Invalid::default();
    let sessions = new.sessions_to_make(tx.now(), &mut invalid);
    let id = EventId::fresh(tx.now());
    let begins = sessions.iter().map(|session| session.starts_at).min();
    let ends = sessions.iter().map(|session| session.ends_at).max();
    let mut event = Event {
        id,
        organization_id,
        slug: String::new(),
        short_description: new.short_description,
        description: new.description.map(|html| ammonia::clean(&html)),
        policies: new.policies.map(|html| ammonia::clean(&html)),
        event_type: new.event_type,
        category: new.category,
        venue_id: new.venue_id,
        image_urls: new.image_urls,
        teacher_ids: new.teacher_ids,
        organizer_ids: new.organizer_ids,
        time_zone: new.time_zone.unwrap_or(organization.time_zone),
        currency: new.currency.unwrap_or(organization.currency),
        status: Status::Draft,
        status_reason: None,
        starts_at: begins.unwrap_or(tx.now().into()),
        ends_at: ends.unwrap_or(tx.now().into()),
        own_capacity: new.total_capacity,
        max_tickets_per_order: new.max_tickets_per_order,
        required_vetting_level: new.required_vetting_level,
        is_featured: new.is_featured,
        is_sensitive: new.is_sensitive,
        refund_policy: new
            .refund_policy
            .unwrap_or(organization.settings.refund_policy),
        version: 1,
        created_at: tx.now().into(),
        updated_at: tx.now().into(),
        never_published: false,
        title: new.title,
    };
    event.check(None, &mut invalid);
    Currency::check(&event.currency, &mut invalid);
    must_offer(tx, organization_id, event.venue_id, &mut invalid).await?;
    must_belong(tx, &event, &mut invalid).await?;
    ticket_type::check_all(&new.ticket_types, &event, sessions.len(), &mut invalid);
    invalid.check()?;
    let slugs = slugs_for(&event.title, id.into()).into_iter();
    let mut inserted = false;
    for slug in slugs.filter(|slug| slug != TAKEN_SLUG) {
        event.slug = slug;
        inserted = store::insert(tx, &event).await?;
        if inserted {
            break;
        }
    }
    if !inserted {
        return Err(Error::Internal("no slug is free".into()));
    }
    event.pool().fit(tx, event.own_capacity, None).await?;
    for new in sessions {
        session::insert_session(tx, id, new).await?;
    }
    record(tx, &event, "event.created", json!({ "title": event.title }));
    ticket_type::insert_ticket_types(tx, &event, new.ticket_types).await?;
    details(tx, event).await
}

/// Whose event it is.
pub async fn organization_of(db: &mut PgConnection, id: EventId) -> Result<OrganizationId> {
    let organization_id = store::organization_of(db, id).await?;
    Ok(organization_id.ok_or(EventError::NotFound)?)
}

/// An event as everybody may see it, if everybody may: what is hidden is left out.
pub async fn public_details(app: &App, id: EventId) -> Result<Option<Arc<KeptEvent>>> {
    cache::public(app, id).await
}

async fn details(db: &mut PgConnection, event: Event) -> Result<EventDetails> {
    Ok(EventDetails {
        sessions: store::sessions(db, event.id).await?,
        ticket_types: store::ticket_types(db, event.id).await?,
        event,
    })
}

/// Changes what is named. Naming what is already so changes nothing, the version included.
pub async fn change(
    tx: &mut Tx,
    id: EventId,
    seen: Expected,
    change: EventChange,
    aside: Option<Claim>,
) -> Result<EventDetails> {
    let before = lock_with_venue(tx, id, &change.venue_id).await?;
    seen.check(before.version)?;
    let mut event = change.applied_to(before.clone());
    let changes = activity::changes(
        &before,
        &event,
        &["description", "policies", "short_description"],
    )?;
    if changes.is_empty() {
        return details(tx, before).await;
    }
    if changes.keys().any(|field| field != "description") {
        before.must_be_open(tx.now())?;
    }
    let mut invalid = Invalid::default();
    event.check(Some(&before), &mut invalid);
    if event.venue_id != before.venue_id {
        must_offer(tx, event.organization_id, event.venue_id, &mut invalid).await?;
    }
    if (&event.teacher_ids, &event.organizer_ids) != (&before.teacher_ids, &before.organizer_ids) {
        must_belong(tx, &event, &mut invalid).await?;
    }
    if event.max_tickets_per_order < before.max_tickets_per_order {
        ticket_type::must_allow_orders(tx, &event, &mut invalid).await?;
    }
    invalid.check()?;
    if event.own_capacity != before.own_capacity {
        before.pool().fit(tx, event.own_capacity, aside).await?;
    }
    event.version += 1;
    event.updated_at = tx.now().into();
    store::update(tx, &event).await?;
    record(tx, &event, "event.changed", Value::Object(changes));
    details(tx, event).await
}

/// Moves an event to another status. Moving it to where it is changes nothing but the reason, if another one is given.
pub async fn set_status(
    tx: &mut Tx,
    id: EventId,
    seen: Expected,
    to: StatusChange,
) -> Result<EventDetails> {
    let mut event = lock(tx, id).await?;
    seen.check(event.version)?;
    let from = event.status;
    let reason = to.reason.filter(|_| to.status.needs_reason());
    let stays = from == to.status;
    // Why it was cancelled has been told already.
    let said_anew = reason.is_some() && reason != event.status_reason && from.is_open();
    if stays && !said_anew {
        return details(tx, event).await;
    }
    if !stays && !from.reachable().contains(&to.status) {
        return Err(EventError::StatusNotReachable { from }.into());
    }
    if to.status.needs_reason() && reason.is_none() {
        return Err(Invalid::field("reason", "is needed for this status").into());
    }
    if to.status == Status::Published {
        must_be_ready(tx, id).await?;
    }
    event.status = to.status;
    event.status_reason = reason;
    event.never_published |= from == Status::Draft && event.status == Status::Cancelled;
    event.version += 1;
    event.updated_at = tx.now().into();
    store::update(tx, &event).await?;
    if event.status == Status::Cancelled && !stays {
        tx.enqueue(&RefundAll { event_id: id });
    }
    prices::follow(tx, &[id]).await?;
    let data = json!({ "status": [from, event.status], "reason": event.status_reason });
    record(tx, &event, "event.status_changed", data);
    details(tx, event).await
}

/// Gone for good, unless places of it are sold.
pub async fn delete(tx: &mut Tx, id: EventId, seen: Expected) -> Result<()> {
    let event = lock(tx, id).await?;
    seen.check(event.version)?;
    let sold = pools::sold(tx, id).await?;
    if sold > 0 || store::has_orders(tx, id).await? {
        return Err(EventError::HasRegistrations { sold }.into());
    }
    store::delete(tx, id).await?;
    tx.tell_places(Places::Gone(id));
    record(tx, &event, "event.deleted", json!({ "title": event.title }));
    Ok(())
}

/// Lets events begin and end by the clock.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Advance {}

impl Job for Advance {
    const KIND: &'static str = "events.advance";
    const QUEUE: Queue = Queue::Background;
}

/// Moves at most `limit` events that have begun or ended; answers how many it moved.
pub async fn advance(tx: &mut Tx, limit: i64) -> Result<usize> {
    let now = tx.now();
    let due = store::due(tx, now, limit).await?;
    let mut moved: BTreeMap<Status, Vec<EventId>> = BTreeMap::new();
    for event in &due {
        let to = event
            .status
            .by_the_clock(event.starts_at, event.ends_at, now);
        moved.entry(to).or_default().push(event.id);
        tx.changed(Changed::Event(event.id));
        tx.record(Activity {
            organization_id: Some(event.organization_id),
            kind: "event.status_changed",
            subject: event.id.into(),
            data: json!({ "status": [event.status, to], "reason": null }),
        });
    }
    for (to, ids) in &moved {
        store::move_to(tx, ids, *to, now).await?;
    }
    let ids: Vec<EventId> = due.iter().map(|event| event.id).collect();
    prices::follow(tx, &ids).await?;
    Ok(due.len())
}

/// The event as it is now, kept so until the end of the transaction, for those who may change it.
///
/// To those who may neither change it nor see it, it does not exist.
async fn lock(tx: &mut Tx, id: EventId) -> Result<Event> {
    store::lock(tx, id).await?;
    let event = list::by_id(tx, id).await?.ok_or(EventError::NotFound)?;
    if let Err(refusal) = tx.require(event.organization_id) {
        if event.is_out_of_sight() || event.required_vetting_level > 0 {
            return Err(EventError::NotFound.into());
        }
        return Err(refusal);
    }
    Ok(event)
}

/// The same for a change that may name another venue. The venue is locked first, as when one is renamed, which
/// changes its events.
async fn lock_with_venue(tx: &mut Tx, id: EventId, to: &Patch<Option<VenueId>>) -> Result<Event> {
    if let Patch::Set(Some(venue_id)) = to {
        found(venues::hold(tx, *venue_id).await)?;
    }
    lock(tx, id).await
}

/// The venue exists, belongs to the organization, and stays so until the event has it.
async fn must_offer(
    tx: &mut Tx,
    organization_id: OrganizationId,
    venue_id: Option<VenueId>,
    invalid: &mut Invalid,
) -> Result<()> {
    let Some(venue_id) = venue_id else {
        return Ok(());
    };
    let venue = found(venues::hold(tx, venue_id).await)?;
    if venue.is_none_or(|venue| venue.organization_id != organization_id) {
        invalid.push("venue_id", "is no venue of the organization");
    }
    Ok(())
}

fn found(venue: Result<Venue>) -> Result<Option<Venue>> {
    match venue {
        Ok(venue) => Ok(Some(venue)),
        Err(error) if error.code() == Code::VenueNotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whoever teaches or organizes belongs to the organization.
async fn must_belong(tx: &mut Tx, event: &Event, invalid: &mut Invalid) -> Result<()> {
    for (field, people) in [
        ("teacher_ids", &event.teacher_ids),
        ("organizer_ids", &event.organizer_ids),
    ] {
        let known = organizations::belong(tx, event.organization_id, people).await?;
        if people.len() > MOST_PEOPLE || !known {
            let message = "must be at most 50 members of the organization, each once";
            invalid.push(field, message);
        }
    }
    Ok(())
}

async fn must_be_ready(tx: &mut Tx, id: EventId) -> Result<()> {
    let now = tx.now();
    let mut missing = Vec::new();
    let sessions = store::sessions(tx, id).await?;
    if !sessions.iter().any(|s| s.active && s.starts_at.0 > now) {
        missing.push("a session to come");
    }
    if store::ticket_types(tx, id).await?.is_empty() {
        missing.push("a ticket type");
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(EventError::NotReady { missing }.into())
}

fn record(tx: &mut Tx, event: &Event, kind: &'static str, data: Value) {
    record_part(tx, event, kind, event.id.into(), data);
}

/// The same of a session or a ticket type.
fn record_part(tx: &mut Tx, event: &Event, kind: &'static str, subject: Uuid, data: Value) {
    tx.changed(Changed::Event(event.id));
    tx.record(Activity {
        organization_id: Some(event.organization_id),
        kind,
        subject,
        data,
    });
}
