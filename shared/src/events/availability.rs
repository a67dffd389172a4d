//! What can be bought of an event right now, and why not more. Pure: the numbers come from elsewhere.

use chrono::{DateTime, Utc};
use poem_openapi::{Enum, Object};
use serde::Serialize;
use uuid::Uuid;

use super::{Event, EventDetails, Live, Session, Status, TicketType};
use crate::clock::Time;
use crate::ids::{EventId, SessionId, TicketTypeId};
use crate::stock::{Level, Levels, Source};

#[cfg(test)]
mod tests;

/// What can be bought of an event right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
pub struct Availability {
    pub event_id: EventId,
    pub status: Status,
    /// The most tickets of one type that could be bought now.
    pub available_spots: i64,
    /// It is on sale, and nothing of it is left.
    pub sold_out: bool,
    pub sessions: Vec<SessionAvailability>,
    pub ticket_types: Vec<TicketTypeAvailability>,
    pub source: AvailabilitySource,
    pub calculated_at: Time,
}

/// Where the numbers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Enum)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AvailabilitySource {
    /// What a hold would get at this moment.
    Live,
    /// What is sold for good; what others hold at the moment is not known.
    Durable,
}

/// The places of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
pub struct SessionAvailability {
    pub session_id: SessionId,
    pub code: String,
    pub capacity: i64,
    pub sold: i64,
    /// Set aside for buyers who have not paid yet.
    pub held: i64,
    pub available: i64,
}

/// What can be bought of a ticket type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
pub struct TicketTypeAvailability {
    pub ticket_type_id: TicketTypeId,
    pub is_available: bool,
    /// How many one order may have now.
    pub max_purchasable: i64,
    /// The smallest rest among everything it draws on.
    pub available: i64,
    /// Why it is not available.
    pub constraint_reason: Option<Constraint>,
    /// The sessions that have no more places than that.
    pub limiting_sessions: Vec<String>,
}

/// A ticket type with what can be bought of it at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
pub struct TicketTypeNow {
    #[oai(flatten)]
    #[serde(flatten)]
    pub ticket_type: TicketType,
    pub availability: TicketTypeAvailability,
}

/// Why something cannot be bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Constraint {
    EventNotOnSale,
    Hidden,
    SalesNotOpen,
    SalesEnded,
    SoldOut,
}

impl EventDetails {
    /// What can be bought at `now`, of everything that is shown.
    #[must_use]
    pub fn availability(
        &self,
        levels: &Levels,
        source: Source,
        now: DateTime<Utc>,
    ) -> Availability {
        let ticket_types = self.types_at(levels, now);
        let (available_spots, sold_out) = self.spots(levels, now);
        Availability {
            event_id: self.event.id,
            status: self.event.status,
            available_spots,
            sold_out,
            sessions: self
                .sessions
                .iter()
                .map(|s| s.availability(levels))
                .collect(),
            ticket_types,
            source: source.into(),
            calculated_at: now.into(),
        }
    }

    /// The numbers that go with the event wherever it is shown.
    #[must_use]
    pub fn live(&self, levels: &Levels, now: DateTime<Utc>) -> Live {
        let (available_spots, sold_out) = self.spots(levels, now);
        Live {
            total_capacity: self.capacity(),
            available_spots,
            sold_out,
            lowest_price: self.prices(now).min(),
            highest_price: self.prices(now).max(),
            upcoming: self.event.starts_at.0 > now,
            past: self.event.ends_at.0 <= now,
        }
    }

    /// What is on sale, with what can be bought of it at `now`.
    #[must_use]
    pub fn ticket_types_at(&self, levels: &Levels, now: DateTime<Utc>) -> Vec<TicketTypeNow> {
        let availability = self.types_at(levels, now);
        let types = self.ticket_types.iter().cloned().zip(availability);
        types
            .map(|(ticket_type, availability)| TicketTypeNow {
                ticket_type,
                availability,
            })
            .collect()
    }

    fn types_at(&self, levels: &Levels, now: DateTime<Utc>) -> Vec<TicketTypeAvailability> {
        let types = self.ticket_types.iter();
        types
            .map(|kind| self.availability_of(kind, levels, now))
            .collect()
    }

    /// Its own limit if it has one, else the places of its largest session.
    fn capacity(&self) -> i32 {
        let largest = || self.sessions.iter().map(|session| session.capacity).max();
        self.event.own_capacity.or_else(largest).unwrap_or(0)
    }

    /// The prices of what is on sale at `now`, whether or not any of it is left.
    pub fn prices(&self, now: DateTime<Utc>) -> impl Iterator<Item = i64> {
        let types = self.ticket_types.iter();
        let on_sale = types.filter(move |kind| self.constraint(kind, now).is_none());
        on_sale.map(|kind| kind.price)
    }

    /// What can be bought of one type at `now`.
    #[must_use]
    pub fn availability_of(
        &self,
        kind: &TicketType,
        levels: &Levels,
        now: DateTime<Utc>,
    ) -> TicketTypeAvailability {
        let available = self.left_of(kind, levels);
        let limits = |session: &&Session| free(levels, session.id.0) == available;
        let limiting = self.sessions_of(kind).filter(limits);
        let limiting_sessions = limiting.map(|session| session.code.clone()).collect();
        let constraint_reason = self.refusal(kind, available, now);
        let most = self.event.most_per_order(kind).into();
        TicketTypeAvailability {
            ticket_type_id: kind.id,
            is_available: constraint_reason.is_none(),
            max_purchasable: if constraint_reason.is_none() {
                available.min(most)
            } else {
                0
            },
            available,
            constraint_reason,
            limiting_sessions,
        }
    }

    /// The smallest rest among everything that a type draws on.
    fn left_of(&self, kind: &TicketType, levels: &Levels) -> i64 {
        let rests = self.pools_of(kind).map(|pool| free(levels, pool));
        rests.min().unwrap_or(0)
    }

    /// Why a type of which so many are left cannot be bought at `now`.
    fn refusal(&self, kind: &TicketType, left: i64, now: DateTime<Utc>) -> Option<Constraint> {
        let too_few = left < kind.min_per_order.into();
        let constraint = self.constraint(kind, now);
        constraint.or(too_few.then_some(Constraint::SoldOut))
    }

    /// The most tickets of one type that could be bought, and whether only places are missing.
    fn spots(&self, levels: &Levels, now: DateTime<Utc>) -> (i64, bool) {
        let (mut spots, mut missing) = (0, false);
        for kind in &self.ticket_types {
            let left = self.left_of(kind, levels);
            match self.refusal(kind, left, now) {
                None => spots = spots.max(left),
                Some(reason) => missing |= reason == Constraint::SoldOut,
            }
        }
        (spots, spots == 0 && missing)
    }

    #[must_use]
    pub fn kind(&self, id: TicketTypeId) -> Option<&TicketType> {
        self.ticket_types.iter().find(|kind| kind.id == id)
    }

    #[must_use]
    pub fn has_member_prices(&self) -> bool {
        self.ticket_types
            .iter()
            .any(|kind| kind.member_price.is_some())
    }

    /// Everything that a ticket of this type takes a place of.
    pub fn pools_of<'a>(&'a self, kind: &'a TicketType) -> impl Iterator<Item = Uuid> + 'a {
        let total = self.event.own_capacity.map(|_| self.event.id.0);
        let own = kind.quantity.map(|_| kind.id.0);
        let sessions = self.sessions_of(kind).map(|session| session.id.0);
        sessions.chain(own).chain(total)
    }

    fn sessions_of<'a>(&'a self, kind: &'a TicketType) -> impl Iterator<Item = &'a Session> {
        let mut sessions = self.sessions.iter();
        std::iter::from_fn(move || {
            sessions.find(|session| kind.included_sessions.contains(&session.code))
        })
    }

    /// Why a type is not on sale at `now`, however many places there are.
    #[must_use]
    pub fn constraint(&self, kind: &TicketType, now: DateTime<Utc>) -> Option<Constraint> {
        let running = self.sessions_of(kind).all(|session| session.active);
        if !self.event.status.is_on_sale() || !running {
            return Some(Constraint::EventNotOnSale);
        }
        if kind.hidden {
            return Some(Constraint::Hidden);
        }
        if kind.sales_start.is_some_and(|start| now < start.0) {
            return Some(Constraint::SalesNotOpen);
        }
        (now >= self.sales_end(kind)).then_some(Constraint::SalesEnded)
    }

    /// Sales end when the first session that it admits to begins, or when its window says; with the last one's end
    /// at the latest.
    pub(super) fn sales_end(&self, kind: &TicketType) -> DateTime<Utc> {
        let begins = self
            .sessions_of(kind)
            .map(|session| session.starts_at.0)
            .min();
        let over = self
            .sessions_of(kind)
            .map(|session| session.ends_at.0)
            .max();
        let end = kind.sales_end.map(|end| end.0).or(begins);
        end.min(over).unwrap_or(self.event.ends_at.0)
    }
}

fn free(levels: &Levels, pool: Uuid) -> i64 {
    levels.get(&pool).map_or(0, |level| level.free())
}

impl TicketType {
    #[must_use]
    pub fn price_for(&self, member: bool) -> i64 {
        self.member_price.filter(|_| member).unwrap_or(self.price)
    }
}

impl Event {
    /// The most tickets of this type that one order may have.
    #[must_use]
    pub fn most_per_order(&self, kind: &TicketType) -> i32 {
        let most = kind.max_per_order.unwrap_or(i32::MAX);
        most.min(kind.max_per_buyer.unwrap_or(i32::MAX))
            .min(self.max_tickets_per_order)
    }
}

impl Session {
    fn availability(&self, levels: &Levels) -> SessionAvailability {
        let unknown = Level {
            capacity: self.capacity.into(),
            sold: self.sold.into(),
            held: 0,
        };
        let level = levels.get(&self.id.0).copied().unwrap_or(unknown);
        SessionAvailability {
            session_id: self.id,
            code: self.code.clone(),
            capacity: level.capacity,
            sold: level.sold,
            held: level.held,
            available: level.free(),
        }
    }
}

impl From<Source> for AvailabilitySource {
    fn from(source: Source) -> Self {
        match source {
            Source::Live => Self::Live,
            Source::Durable => Self::Durable,
        }
    }
}
