//! What is on sale of an event: ticket types, each for some of its sessions, with a pool of their own if they have a quantity.

use chrono::{DateTime, TimeDelta, Utc};
use poem_openapi::Object;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::event::Event;
use super::session::{Session, check_name};
use super::status::Status;
use super::{EventError, lock, prices, record_part, store};
use crate::activity;
use crate::clock::Time;
use crate::error::{Invalid, Result};
use crate::ids::{EventId, SessionId, TicketTypeId};
use crate::money;
use crate::patch::Patch;
use crate::stock::{Claim, Places};
use crate::tx::Tx;
use crate::version::Expected;

/// What an event is made with.
const MOST_AT_FIRST: usize = 50;
/// What it may have in the end, off sale or not.
const MOST_TICKET_TYPES: usize = 200;

/// Something on sale: it admits to one or more sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object, sqlx::FromRow)]
pub struct TicketType {
    pub id: TicketTypeId,
    pub name: String,
    pub description: Option<String>,
    /// In the minor unit of the event's currency.
    pub price: i64,
    pub original_price: Option<i64>,
    /// For members of the organization.
    pub member_price: Option<i64>,
    /// How many there are, apart from what its sessions and the event can take.
    pub quantity: Option<i32>,
    /// The codes of the sessions it admits to.
    pub included_sessions: Vec<String>,
    pub sales_start: Option<Time>,
    pub sales_end: Option<Time>,
    pub min_per_order: i32,
    pub max_per_order: Option<i32>,
    pub max_per_buyer: Option<i32>,
    /// Not shown to the public.
    pub hidden: bool,
    pub version: i64,
}

/// A ticket type to be added.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct NewTicketType {
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub name: String,
    #[oai(validator(max_length = 2000))]
    pub description: Option<String>,
    /// In the minor unit of the event's currency; 0 is free. A multiple of 100 in ISK and UGX, of 10 in BHD, JOD, KWD, OMR
    /// and TND: less cannot be paid in them.
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub price: i64,
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub original_price: Option<i64>,
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub member_price: Option<i64>,
    /// How many there are, apart from what its sessions and the event can take.
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub quantity: Option<i32>,
    /// The codes of the sessions it admits to, at least one.
    #[oai(validator(min_items = 1, max_items = 200))]
    pub included_sessions: Vec<String>,
    pub sales_start: Option<Time>,
    pub sales_end: Option<Time>,
    #[oai(
        default = "one",
        validator(minimum(value = "1"), maximum(value = "1000"))
    )]
    pub min_per_order: i32,
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub max_per_order: Option<i32>,
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub max_per_buyer: Option<i32>,
    #[oai(default)]
    pub hidden: bool,
}

/// What is to be different; what is left out stays as it is.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields)]
pub struct TicketTypeChange {
    /// The version you have seen, unless you say it by `If-Match`.
    pub version: Option<i64>,
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub name: Patch<String>,
    #[oai(validator(max_length = 2000))]
    pub description: Patch<Option<String>>,
    /// In the minor unit of the event's currency; 0 is free. A multiple of 100 in ISK and UGX, of 10 in BHD, JOD, KWD, OMR
    /// and TND: less cannot be paid in them.
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub price: Patch<i64>,
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub original_price: Patch<Option<i64>>,
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub member_price: Patch<Option<i64>>,
    /// Not below what is sold of it.
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub quantity: Patch<Option<i32>>,
    /// The codes of the sessions it admits to; they stay as they are once it was ordered.
    #[oai(validator(min_items = 1, max_items = 200))]
    pub included_sessions: Patch<Vec<String>>,
    pub sales_start: Patch<Option<Time>>,
    pub sales_end: Patch<Option<Time>>,
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub min_per_order: Patch<i32>,
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub max_per_order: Patch<Option<i32>>,
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub max_per_buyer: Patch<Option<i32>>,
    pub hidden: Patch<bool>,
}

impl TicketTypeChange {
    pub(super) fn applied_to(self, mut kind: TicketType) -> TicketType {
        self.name.apply(&mut kind.name);
        self.description.apply(&mut kind.description);
        self.price.apply(&mut kind.price);
        self.original_price.apply(&mut kind.original_price);
        self.member_price.apply(&mut kind.member_price);
        self.quantity.apply(&mut kind.quantity);
        self.included_sessions.apply(&mut kind.included_sessions);
        self.sales_start.apply(&mut kind.sales_start);
        self.sales_end.apply(&mut kind.sales_end);
        self.min_per_order.apply(&mut kind.min_per_order);
        self.max_per_order.apply(&mut kind.max_per_order);
        self.max_per_buyer.apply(&mut kind.max_per_buyer);
        self.hidden.apply(&mut kind.hidden);
        kind
    }
}

fn one() -> i32 {
    1
}

impl NewTicketType {
    pub(super) fn under(self, id: TicketTypeId) -> TicketType {
        TicketType {
            id,
            name: self.name,
            description: self.description,
            price: self.price,
            original_price: self.original_price,
            member_price: self.member_price,
            quantity: self.quantity,
            included_sessions: self.included_sessions,
            sales_start: self.sales_start,
            sales_end: self.sales_end,
            min_per_order: self.min_per_order,
            max_per_order: self.max_per_order,
            max_per_buyer: self.max_per_buyer,
            hidden: self.hidden,
            version: 1,
        }
    }

    /// A type with a price and no rules of its own.
    #[must_use]
    pub fn simple(name: &str, price: i64, included_sessions: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            description: None,
            price,
            original_price: None,
            member_price: None,
            quantity: None,
            included_sessions,
            sales_start: None,
            sales_end: None,
            min_per_order: one(),
            max_per_order: None,
            max_per_buyer: None,
            hidden: false,
        }
    }
}

impl TicketType {
    /// What no field can say by itself. `place` is where the type stands in the request.
    pub(super) fn check(
        &self,
        before: Option<&Self>,
        currency: &str,
        place: &str,
        invalid: &mut Invalid,
    ) {
        if before.is_none_or(|before| before.name != self.name) {
            check_name(&self.name, place, invalid);
        }
        let prices = |kind: &Self| {
            [
                ("price", Some(kind.price)),
                ("member_price", kind.member_price),
            ]
        };
        for (at, (field, price)) in prices(self).into_iter().enumerate() {
            if before.is_none_or(|before| prices(before)[at].1 != price) {
                let field = format!("{place}{field}");
                money::check_payable(price.unwrap_or(0), currency, field, invalid);
            }
        }
        if self
            .sales_end
            .is_some_and(|end| Some(end) <= self.sales_start)
        {
            invalid.push(format!("{place}sales_end"), "must be after `sales_start`");
        }
    }

    /// An order of the least that it may have must be possible. Of two fields that do not go together, the one that is
    /// being changed is named; what was so before is left alone.
    pub(super) fn check_least(
        &self,
        before: Option<&Self>,
        most_of_event: i32,
        place: &str,
        invalid: &mut Invalid,
    ) {
        let limits = |kind: &Self| {
            [
                ("max_per_order", kind.max_per_order),
                ("max_per_buyer", kind.max_per_buyer),
                ("quantity", kind.quantity),
            ]
        };
        let least = self.min_per_order;
        let least_changed = before.is_none_or(|before| before.min_per_order != least);
        if least_changed && least > most_of_event {
            let message = format!(
                "must not be more than `max_tickets_per_order` of the event, which is {most_of_event}"
            );
            invalid.push(format!("{place}min_per_order"), message);
        }
        for (at, (name, limit)) in limits(self).into_iter().enumerate() {
            let Some(limit) = limit.filter(|limit| *limit < least) else {
                continue;
            };
            if before.is_none_or(|before| limits(before)[at].1 != Some(limit)) {
                let message = format!("must not be less than `min_per_order`, which is {least}");
                invalid.push(format!("{place}{name}"), message);
            } else if least_changed {
                let message = format!("must not be more than `{name}`, which is {limit}");
                invalid.push(format!("{place}min_per_order"), message);
            }
        }
    }
}

/// The event that a ticket type is of.
pub async fn of_ticket_type(db: &mut PgConnection, id: TicketTypeId) -> Result<EventId> {
    let event_id = store::event_of_ticket_type(db, id).await?;
    Ok(event_id.ok_or(EventError::TicketTypeNotFound)?)
}

/// Puts something on sale.
pub async fn add_ticket_type(tx: &mut Tx, id: EventId, new: NewTicketType) -> Result<TicketType> {
    let event = lock(tx, id).await?;
    event.must_be_open(tx.now())?;
    let ticket_type = new.under(TicketTypeId::fresh(tx.now()));
    let mut invalid = Invalid::default();
    ticket_type.check(None, &event.currency, "", &mut invalid);
    ticket_type.check_least(None, event.max_tickets_per_order, "", &mut invalid);
    let known = store::sessions(tx, id).await?;
    check_sessions(
        &codes(&known),
        &ticket_type.included_sessions,
        "",
        &mut invalid,
    );
    if store::ticket_types(tx, id).await?.len() >= MOST_TICKET_TYPES {
        invalid.push("ticket_types", "must be at most 200");
    }
    invalid.check()?;
    let included = included(&known, &ticket_type);
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
    ticket_type.check(Some(&before), &event.currency, "", &mut invalid);
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

fn codes(sessions: &[Session]) -> Vec<String> {
    sessions
        .iter()
        .map(|session| session.code.clone())
        .collect()
}

/// Every code that is unknown or named twice.
fn check_sessions(known: &[String], included: &[String], place: &str, invalid: &mut Invalid) {
    for (at, code) in included.iter().enumerate() {
        let field = format!("{place}included_sessions[{at}]");
        if !known.contains(code) {
            invalid.push(field, "is no session of the event");
        } else if included[..at].contains(code) {
            invalid.push(field, "is named twice");
        }
    }
}

/// The sessions that a ticket type includes.
fn included(known: &[Session], kind: &TicketType) -> Vec<SessionId> {
    let included = known
        .iter()
        .filter(|session| kind.included_sessions.contains(&session.code));
    included.map(|session| session.id).collect()
}

/// Lets a type admit to other sessions, if nobody has ordered it yet. Whoever holds places of it holds those of the
/// sessions that it admits to now.
async fn include(tx: &mut Tx, id: EventId, kind: &mut TicketType) -> Result<()> {
    if store::was_ordered(tx, kind.id).await? {
        return Err(EventError::TicketTypeHasSales.into());
    }
    let known = store::sessions(tx, id).await?;
    let mut invalid = Invalid::default();
    check_sessions(&codes(&known), &kind.included_sessions, "", &mut invalid);
    invalid.check()?;
    let included = included(&known, kind);
    store::include_sessions(tx, kind.id, &included).await?;
    let codes = known
        .into_iter()
        .filter(|session| included.contains(&session.id));
    kind.included_sessions = codes.map(|session| session.code).collect();
    tx.tell_places(Places::Rearranged(id));
    Ok(())
}

/// What an event is to be made with, and with so many sessions.
pub(super) fn check_all(
    new: &[NewTicketType],
    event: &Event,
    sessions: usize,
    invalid: &mut Invalid,
) {
    if new.len() > MOST_AT_FIRST {
        invalid.push("ticket_types", "must be at most 50");
    }
    let known: Vec<String> = (1..=sessions).map(|number| format!("S{number}")).collect();
    for (at, new) in new.iter().enumerate() {
        let place = format!("ticket_types[{at}].");
        let kind = new.clone().under(TicketTypeId(Uuid::nil()));
        kind.check(None, &event.currency, &place, invalid);
        kind.check_least(None, event.max_tickets_per_order, &place, invalid);
        check_sessions(&known, &kind.included_sessions, &place, invalid);
    }
}

/// What an event is made with.
pub(super) async fn insert_ticket_types(
    tx: &mut Tx,
    event: &Event,
    new: Vec<NewTicketType>,
) -> Result<()> {
    let known = store::sessions(tx, event.id).await?;
    for (at, new) in (0..).zip(new) {
        // They are listed in the order in which they were made.
        let at = tx.now() + TimeDelta::microseconds(at);
        let kind = new.under(TicketTypeId::fresh(tx.now()));
        let included = included(&known, &kind);
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

/// No ticket type asks for more in one order than the event allows.
pub(super) async fn must_allow_orders(
    tx: &mut Tx,
    event: &Event,
    invalid: &mut Invalid,
) -> Result<()> {
    let types = store::ticket_types(tx, event.id).await?;
    let least = types.iter().map(|kind| kind.min_per_order).max();
    if let Some(least) = least.filter(|least| *least > event.max_tickets_per_order) {
        let message =
            format!("must not be less than `min_per_order` of a ticket type, which is {least}");
        invalid.push("max_tickets_per_order", message);
    }
    Ok(())
}
