//! Events: what takes place, in which sessions, and what is on sale of it.
//!
//! Every change to an event or a part of it holds the event's row, so that two who add a session at once get two
//! codes. Places are counted by pools and by nothing else: a session has one, an event with a total and a ticket
//! type with a quantity have one each, and the database refuses a pool that has sold more than it holds. What is a
//! draft, or asks for more vetting than the reader has, does not exist for them.

mod availability;
pub mod cache;
mod capacity;
mod event;
mod filter;
pub mod list;
mod live;
mod prices;
mod refund_policy;
mod search;
pub mod seats;
mod session;
mod status;
mod store;
pub mod summary;
mod ticket_type;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use availability::{
    Availability, AvailabilitySource, Constraint, SessionAvailability, TicketTypeAvailability,
};
pub use capacity::{Part, set_aside};
pub use event::{
    Cancellation, Cancelled, Event, EventChange, EventDetails, EventNow, EventType, NewEvent,
    StatusChange,
};
pub use filter::{EventFilter, EventSort};
pub use list::Viewer;
pub use live::{Latest, Watches, availability, watch};
pub use prices::follow_due as follow_prices;
pub use refund_policy::RefundPolicy;
pub use session::{NewSession, Session, SessionChange};
pub use status::Status;
pub use summary::{EventPage, EventSummary, Listing, Live};
pub use ticket_type::{NewTicketType, TicketType, TicketTypeChange};

use crate::activity::{self, Activity};
use crate::app::App;
use crate::cache::Changed;
use crate::error::{Code, Fault, Invalid, Result};
use crate::ids::{EventId, OrganizationId, SessionId, TicketTypeId, VenueId};
use crate::jobs::{Job, Queue};
use crate::orders::jobs::RefundAll;
use crate::organizations;
use crate::patch::Patch;
use crate::stock::{Claim, Places};
use crate::text::slugs_for;
use crate::tx::Tx;
use crate::venues::{self, Venue};
use crate::version::Expected;

const MOST_IMAGES: usize = 20;
/// Teachers, and organizers.
const MOST_PEOPLE: usize = 50;
const MOST_SESSIONS: usize = 200;
const MOST_TICKET_TYPES: usize = 50;

#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error("There is no such event.")]
    NotFound,
    #[error("The event has no such session.")]
    SessionNotFound,
    #[error("The event has no such ticket type.")]
    TicketTypeNotFound,
    #[error("The event has begun, is over or is cancelled; only its description can still change.")]
    NotModifiable,
    #[error("The event cannot go on sale yet: it lacks {}.", .missing.join(" and "))]
    NotReady { missing: Vec<&'static str> },
    #[error("The event was ordered of, and {sold} of its places are sold. Cancel it instead.")]
    HasRegistrations { sold: i64 },
    #[error("An event cannot be moved from this status to that one.")]
    StatusNotReachable { from: Status },
    #[error(
        "Tickets of this type are sold: it can neither be removed nor lose its quantity or change its sessions."
    )]
    TicketTypeHasSales,
    #[error("{0}")]
    SessionInUse(&'static str),
    #[error("The event is not on sale.")]
    NotOnSale,
    #[error("{available} seats are free.")]
    InsufficientSeats { requested: i32, available: i64 },
    #[error("More seats would come back than were taken.")]
    SeatsNotTaken,
    #[error("{taken} places are sold or held for buyers.")]
    CapacityBelowSold { taken: i64 },
}

impl Fault for EventError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::EventNotFound,
            Self::SessionNotFound => Code::SessionNotFound,
            Self::TicketTypeNotFound => Code::TicketTypeNotFound,
            Self::NotModifiable => Code::EventNotModifiable,
            Self::NotReady { .. } => Code::EventNotReady,
            Self::HasRegistrations { .. } => Code::EventHasRegistrations,
            Self::StatusNotReachable { .. } => Code::StatusNotReachable,
            Self::TicketTypeHasSales => Code::TicketTypeHasSales,
            Self::SessionInUse(_) => Code::SessionInUse,
            Self::CapacityBelowSold { .. } => Code::CapacityBelowSold,
            Self::NotOnSale => Code::EventNotOnSale,
            Self::InsufficientSeats { .. } => Code::InsufficientSeats,
            Self::SeatsNotTaken => Code::SeatsNotTaken,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::NotReady { missing } => json!({ "missing": missing }),
            Self::HasRegistrations { sold } => json!({ "sold": sold }),
            Self::StatusNotReachable { from } => {
                json!({ "status": from, "reachable": from.reachable() })
            }
            Self::CapacityBelowSold { taken } => json!({ "taken": taken }),
            Self::InsufficientSeats {
                requested,
                available,
            } => json!({ "requested": requested, "available": available }),
            _ => json!({}),
        }
    }
}

pub async fn create(tx: &mut Tx, new: NewEvent) -> Result<EventDetails> {
    let organization_id = tx.scope().choose(new.organization_id)?;
    let organization = organizations::get(tx, organization_id).await?;
    let sessions = new.sessions_to_make(tx.now())?;
    let id = EventId::fresh(tx.now());
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
        starts_at: sessions.iter().map(|s| s.starts_at).min().expect("one"),
        ends_at: sessions.iter().map(|s| s.ends_at).max().expect("one"),
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
        title: new.title,
    };
    event.check()?;
    must_offer(tx, organization_id, event.venue_id).await?;
    must_belong(tx, &event).await?;
    for slug in slugs_for(&event.title, id.into()) {
        event.slug = slug;
        if store::insert(tx, &event).await? {
            break;
        }
    }
    event.pool().fit(tx, event.own_capacity, None).await?;
    for new in sessions {
        insert_session(tx, id, new).await?;
    }
    record(tx, &event, "event.created", json!({ "title": event.title }));
    insert_ticket_types(tx, &event, new.ticket_types).await?;
    details(tx, event).await
}

/// The event that a ticket type is of.
pub async fn of_ticket_type(db: &mut PgConnection, id: TicketTypeId) -> Result<EventId> {
    let event_id = store::event_of_ticket_type(db, id).await?;
    Ok(event_id.ok_or(EventError::TicketTypeNotFound)?)
}

/// Whose event it is.
pub async fn organization_of(db: &mut PgConnection, id: EventId) -> Result<OrganizationId> {
    let organization_id = store::organization_of(db, id).await?;
    Ok(organization_id.ok_or(EventError::NotFound)?)
}

/// An event as everybody may see it, if everybody may: what is hidden is left out.
pub async fn public_details(app: &App, id: EventId) -> Result<Option<EventDetails>> {
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
    event.check()?;
    if event.venue_id != before.venue_id {
        must_offer(tx, event.organization_id, event.venue_id).await?;
    }
    if (&event.teacher_ids, &event.organizer_ids) != (&before.teacher_ids, &before.organizer_ids) {
        must_belong(tx, &event).await?;
    }
    if event.max_tickets_per_order < before.max_tickets_per_order {
        must_allow_orders(tx, &event).await?;
    }
    if event.own_capacity != before.own_capacity {
        before.pool().fit(tx, event.own_capacity, aside).await?;
    }
    event.version += 1;
    event.updated_at = tx.now().into();
    store::update(tx, &event).await?;
    record(tx, &event, "event.changed", Value::Object(changes));
    details(tx, event).await
}

/// Moves an event to another status. Moving it to where it is changes nothing.
pub async fn set_status(
    tx: &mut Tx,
    id: EventId,
    seen: Expected,
    to: StatusChange,
) -> Result<EventDetails> {
    let mut event = lock(tx, id).await?;
    seen.check(event.version)?;
    let from = event.status;
    if from == to.status {
        return details(tx, event).await;
    }
    if !from.reachable().contains(&to.status) {
        return Err(EventError::StatusNotReachable { from }.into());
    }
    if to.status.needs_reason() && to.reason.is_none() {
        return Err(Invalid::field("reason", "is needed for this status").into());
    }
    if to.status == Status::Published {
        must_be_ready(tx, id).await?;
    }
    event.status = to.status;
    event.status_reason = to.reason.filter(|_| to.status.needs_reason());
    event.version += 1;
    event.updated_at = tx.now().into();
    store::update(tx, &event).await?;
    if event.status == Status::Cancelled {
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
    let sold = store::sold(tx, id).await?;
    if sold > 0 || store::has_orders(tx, id).await? {
        return Err(EventError::HasRegistrations { sold }.into());
    }
    store::delete(tx, id).await?;
    tx.tell_places(Places::Gone(id));
    record(tx, &event, "event.deleted", json!({ "title": event.title }));
    Ok(())
}

/// Adds a session under the next code.
pub async fn add_session(tx: &mut Tx, id: EventId, new: NewSession) -> Result<Session> {
    let event = lock(tx, id).await?;
    event.must_be_open(tx.now())?;
    let mut invalid = Invalid::default();
    new.check(tx.now(), "", &mut invalid);
    invalid.check()?;
    let session_id = insert_session(tx, id, new).await?;
    store::follow_sessions(tx, id).await?;
    let session = store::session(tx, session_id).await?;
    record_part(
        tx,
        &event,
        "session.added",
        session.id.into(),
        json!({ "code": session.code }),
    );
    Ok(session)
}

/// Changes what is named. Naming what is already so changes nothing, the version included.
pub async fn change_session(
    tx: &mut Tx,
    id: EventId,
    code: &str,
    seen: Expected,
    change: SessionChange,
    aside: Option<Claim>,
) -> Result<Session> {
    let event = lock(tx, id).await?;
    let before = by_code(tx, id, code).await?;
    seen.check(before.version)?;
    let mut session = change.applied_to(before.clone());
    let changes = activity::changes(&before, &session, &[])?;
    if changes.is_empty() {
        return Ok(before);
    }
    event.must_be_open(tx.now())?;
    if session.ends_at <= session.starts_at {
        return Err(Invalid::field("ends_at", "must be after `starts_at`").into());
    }
    if session.capacity != before.capacity {
        let capacity = Some(session.capacity);
        before.pool(id).fit(tx, capacity, aside).await?;
    }
    session.version += 1;
    store::update_session(tx, &session).await?;
    store::follow_sessions(tx, id).await?;
    prices::follow(tx, &[id]).await?;
    record_part(
        tx,
        &event,
        "session.changed",
        session.id.into(),
        Value::Object(changes),
    );
    Ok(session)
}

/// Its code is not given again.
pub async fn delete_session(tx: &mut Tx, id: EventId, code: &str, seen: Expected) -> Result<()> {
    let event = lock(tx, id).await?;
    let session = by_code(tx, id, code).await?;
    seen.check(session.version)?;
    event.must_be_open(tx.now())?;
    if session.sold > 0 {
        return Err(EventError::SessionInUse("Places of the session are sold.").into());
    }
    if store::sessions(tx, id).await?.len() == 1 {
        return Err(EventError::SessionInUse("An event keeps at least one session.").into());
    }
    store::delete_session(tx, session.id).await?;
    tx.tell_places(Places::Rearranged(id));
    store::follow_sessions(tx, id).await?;
    record_part(
        tx,
        &event,
        "session.deleted",
        session.id.into(),
        json!({ "code": session.code }),
    );
    Ok(())
}

/// Puts something on sale.
pub async fn add_ticket_type(tx: &mut Tx, id: EventId, new: NewTicketType) -> Result<TicketType> {
    let event = lock(tx, id).await?;
    event.must_be_open(tx.now())?;
    let ticket_type = new.under(TicketTypeId::fresh(tx.now()));
    let mut invalid = Invalid::default();
    ticket_type.check("", &mut invalid);
    ticket_type.check_least(None, event.max_tickets_per_order, "", &mut invalid);
    let known = store::sessions(tx, id).await?;
    let included = included(&known, &ticket_type, "", &mut invalid);
    invalid.check()?;
    let now = tx.now();
    insert_ticket_type(tx, &event, &ticket_type, &included, now).await?;
    prices::follow(tx, &[id]).await?;
    Ok(store::ticket_type(tx, id, ticket_type.id)
        .await?
        .ok_or(EventError::TicketTypeNotFound)?)
}

/// Changes what is named. Naming what is already so changes nothing, the version included.
pub async fn change_ticket_type(
    tx: &mut Tx,
    id: EventId,
    ticket_type_id: TicketTypeId,
    seen: Expected,
    change: TicketTypeChange,
    aside: Option<Claim>,
) -> Result<TicketType> {
    let event = lock(tx, id).await?;
    let before = store::ticket_type(tx, id, ticket_type_id).await?;
    let before = before.ok_or(EventError::TicketTypeNotFound)?;
    seen.check(before.version)?;
    let mut ticket_type = change.applied_to(before.clone());
    let changes = activity::changes(&before, &ticket_type, &["description"])?;
    if changes.is_empty() {
        return Ok(before);
    }
    event.must_be_open(tx.now())?;
    let mut invalid = Invalid::default();
    ticket_type.check("", &mut invalid);
    let most = event.max_tickets_per_order;
    ticket_type.check_least(Some(&before), most, "", &mut invalid);
    invalid.check()?;
    if ticket_type.included_sessions != before.included_sessions {
        include(tx, id, &mut ticket_type).await?;
    }
    if ticket_type.quantity != before.quantity {
        let pool = before.pool(id);
        pool.fit(tx, ticket_type.quantity, aside).await?;
    }
    ticket_type.version += 1;
    store::update_ticket_type(tx, &ticket_type).await?;
    prices::follow(tx, &[id]).await?;
    record_part(
        tx,
        &event,
        "ticket_type.changed",
        ticket_type_id.into(),
        Value::Object(changes),
    );
    Ok(ticket_type)
}

/// Takes something off sale for good, unless it was sold.
pub async fn delete_ticket_type(
    tx: &mut Tx,
    id: EventId,
    ticket_type_id: TicketTypeId,
    seen: Expected,
) -> Result<()> {
    let event = lock(tx, id).await?;
    let gone = store::ticket_type(tx, id, ticket_type_id).await?;
    let gone = gone.ok_or(EventError::TicketTypeNotFound)?;
    seen.check(gone.version)?;
    event.must_be_open(tx.now())?;
    if event.status == Status::Published && store::ticket_types(tx, id).await?.len() == 1 {
        return Err(EventError::NotReady {
            missing: vec!["a ticket type"],
        }
        .into());
    }
    if store::was_ordered(tx, ticket_type_id).await? {
        return Err(EventError::TicketTypeHasSales.into());
    }
    store::delete_ticket_type(tx, ticket_type_id).await?;
    prices::follow(tx, &[id]).await?;
    gone.pool(id).fit(tx, None, None).await?;
    record_part(
        tx,
        &event,
        "ticket_type.deleted",
        ticket_type_id.into(),
        json!({ "name": gone.name }),
    );
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
    let moved = store::advance(tx, now, limit).await?;
    let number = moved.len();
    let ids: Vec<EventId> = moved.iter().map(|moved| moved.0).collect();
    prices::follow(tx, &ids).await?;
    for (id, organization_id, from, to) in moved {
        tx.changed(Changed::Event(id));
        tx.record(Activity {
            organization_id: Some(organization_id),
            kind: "event.status_changed",
            subject: id.into(),
            data: json!({ "status": [from, to], "reason": null }),
        });
    }
    Ok(number)
}

impl Event {
    /// What no field can say by itself.
    fn check(&self) -> Result<()> {
        let mut invalid = Invalid::default();
        if organizations::check_time_zone(&self.time_zone).is_err() {
            let message = "must be the IANA name of a time zone, like Europe/Berlin";
            invalid.push("time_zone", message);
        }
        let is_image = |url: &String| {
            let scheme = url::Url::parse(url).map(|url| url.scheme().to_owned());
            url.len() <= 2_000 && matches!(scheme.as_deref(), Ok("http" | "https"))
        };
        if self.image_urls.len() > MOST_IMAGES || !self.image_urls.iter().all(is_image) {
            invalid.push(
                "image_urls",
                "must be at most 20 addresses, each http or https",
            );
        }
        self.refund_policy.check("", &mut invalid);
        invalid.check()
    }

    fn must_be_open(&self, now: DateTime<Utc>) -> Result<()> {
        let begun = self.status == Status::Published && self.starts_at.0 <= now;
        if begun || !self.status.is_open() {
            return Err(EventError::NotModifiable.into());
        }
        Ok(())
    }
}

impl NewEvent {
    /// Its sessions, or the only one that it describes itself.
    fn sessions_to_make(&self, now: DateTime<Utc>) -> Result<Vec<NewSession>> {
        let mut invalid = Invalid::default();
        if self.sessions.is_empty() {
            return self.only_session(now);
        }
        let alone = "is for events without `sessions`";
        for (field, given) in [
            ("starts_at", self.starts_at.is_some()),
            ("ends_at", self.ends_at.is_some()),
            ("capacity", self.capacity.is_some()),
        ] {
            if given {
                invalid.push(field, alone);
            }
        }
        if self.sessions.len() > MOST_SESSIONS {
            invalid.push("sessions", "must be at most 200");
        }
        for (at, session) in self.sessions.iter().enumerate() {
            session.check(now, &format!("sessions[{at}]."), &mut invalid);
        }
        invalid.check()?;
        Ok(self.sessions.clone())
    }

    fn only_session(&self, now: DateTime<Utc>) -> Result<Vec<NewSession>> {
        let mut invalid = Invalid::default();
        let (Some(starts_at), Some(ends_at), Some(capacity)) =
            (self.starts_at, self.ends_at, self.capacity)
        else {
            let message = "is needed, or `starts_at`, `ends_at` and `capacity` of the only session";
            return Err(Invalid::field("sessions", message).into());
        };
        let session = NewSession {
            name: self.title.clone(),
            starts_at,
            ends_at,
            capacity,
        };
        session.check(now, "", &mut invalid);
        invalid.check()?;
        Ok(vec![session])
    }
}

/// The event as it is now, kept so until the end of the transaction, for those who may change it.
///
/// To those who may neither change it nor see it, it does not exist.
async fn lock(tx: &mut Tx, id: EventId) -> Result<Event> {
    store::lock(tx, id).await?;
    let event = list::by_id(tx, id).await?.ok_or(EventError::NotFound)?;
    if let Err(refusal) = tx.require(event.organization_id) {
        return Err(match event.status {
            Status::Draft => EventError::NotFound.into(),
            _ => refusal,
        });
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
) -> Result<()> {
    let Some(venue_id) = venue_id else {
        return Ok(());
    };
    match found(venues::hold(tx, venue_id).await)? {
        Some(venue) if venue.organization_id == organization_id => Ok(()),
        _ => Err(Invalid::field("venue_id", "is no venue of the organization").into()),
    }
}

fn found(venue: Result<Venue>) -> Result<Option<Venue>> {
    match venue {
        Ok(venue) => Ok(Some(venue)),
        Err(error) if error.code() == Code::VenueNotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whoever teaches or organizes belongs to the organization.
async fn must_belong(tx: &mut Tx, event: &Event) -> Result<()> {
    let mut invalid = Invalid::default();
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
    invalid.check()
}

/// No ticket type asks for more in one order than the event allows.
async fn must_allow_orders(tx: &mut Tx, event: &Event) -> Result<()> {
    let types = store::ticket_types(tx, event.id).await?;
    let least = types.iter().map(|kind| kind.min_per_order).max();
    match least.filter(|least| *least > event.max_tickets_per_order) {
        Some(least) => {
            let message =
                format!("must not be less than `min_per_order` of a ticket type, which is {least}");
            Err(Invalid::field("max_tickets_per_order", message).into())
        }
        None => Ok(()),
    }
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

async fn insert_session(tx: &mut Tx, id: EventId, new: NewSession) -> Result<SessionId> {
    let session_id = SessionId::fresh(tx.now());
    store::insert_session(tx, id, session_id, &new).await?;
    store::insert_pool(tx, session_id.into(), id, "session", new.capacity, 0).await?;
    tx.tell_places(Places::Rearranged(id));
    Ok(session_id)
}

async fn by_code(tx: &mut Tx, id: EventId, code: &str) -> Result<Session> {
    let session = match session::number(code) {
        Some(_) => store::sessions(tx, id).await?,
        None => Vec::new(),
    };
    let session = session.into_iter().find(|session| session.code == code);
    Ok(session.ok_or(EventError::SessionNotFound)?)
}

/// The sessions that a ticket type includes, every unknown code named.
fn included(
    known: &[Session],
    kind: &TicketType,
    place: &str,
    invalid: &mut Invalid,
) -> Vec<SessionId> {
    let mut included = Vec::new();
    for (at, code) in kind.included_sessions.iter().enumerate() {
        let field = format!("{place}included_sessions[{at}]");
        match known.iter().find(|session| session.code == *code) {
            Some(session) if !included.contains(&session.id) => included.push(session.id),
            Some(_) => invalid.push(field, "is named twice"),
            None => invalid.push(field, "is no session of the event"),
        }
    }
    included
}

/// Lets a type admit to other sessions, if nobody has ordered it yet. Whoever holds places of it holds those of the
/// sessions that it admits to now.
async fn include(tx: &mut Tx, id: EventId, kind: &mut TicketType) -> Result<()> {
    if store::was_ordered(tx, kind.id).await? {
        return Err(EventError::TicketTypeHasSales.into());
    }
    let known = store::sessions(tx, id).await?;
    let mut invalid = Invalid::default();
    let included = included(&known, kind, "", &mut invalid);
    invalid.check()?;
    store::include_sessions(tx, kind.id, &included).await?;
    let codes = known
        .into_iter()
        .filter(|session| included.contains(&session.id));
    kind.included_sessions = codes.map(|session| session.code).collect();
    tx.tell_places(Places::Rearranged(id));
    Ok(())
}

/// What an event is made with.
async fn insert_ticket_types(tx: &mut Tx, event: &Event, new: Vec<NewTicketType>) -> Result<()> {
    let known = store::sessions(tx, event.id).await?;
    let mut invalid = Invalid::default();
    if new.len() > MOST_TICKET_TYPES {
        invalid.push("ticket_types", "must be at most 50");
    }
    let mut made = Vec::new();
    for (at, new) in new.into_iter().enumerate() {
        let place = format!("ticket_types[{at}].");
        let kind = new.under(TicketTypeId::fresh(tx.now()));
        kind.check(&place, &mut invalid);
        kind.check_least(None, event.max_tickets_per_order, &place, &mut invalid);
        let included = included(&known, &kind, &place, &mut invalid);
        made.push((kind, included));
    }
    invalid.check()?;
    for (at, (kind, included)) in (0..).zip(made) {
        // They are listed in the order in which they were made.
        let at = tx.now() + TimeDelta::microseconds(at);
        insert_ticket_type(tx, event, &kind, &included, at).await?;
    }
    Ok(())
}

async fn insert_ticket_type(
    tx: &mut Tx,
    event: &Event,
    kind: &TicketType,
    included: &[SessionId],
    at: DateTime<Utc>,
) -> Result<()> {
    store::insert_ticket_type(tx, event.id, kind, included, at).await?;
    kind.pool(event.id).fit(tx, kind.quantity, None).await?;
    let data = json!({ "event_id": event.id, "name": kind.name, "price": kind.price });
    record_part(tx, event, "ticket_type.added", kind.id.into(), data);
    Ok(())
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
