//! Availability held against its rule, told as a list.

use chrono::TimeDelta;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::events::{EventType, RefundPolicy};
use crate::ids::OrganizationId;

/// What an event is made of here; times are hours from now.
#[derive(Debug, Clone)]
struct Given {
    status: Status,
    total: Option<Places>,
    most_per_order: i32,
    sessions: Vec<GivenSession>,
    types: Vec<GivenType>,
}

/// Capacity, sold and held; nothing is told of the pool if it is not known.
#[derive(Debug, Clone, Copy)]
struct Places {
    level: Level,
    known: bool,
}

#[derive(Debug, Clone)]
struct GivenSession {
    places: Places,
    begins: i64,
    ends: i64,
    active: bool,
}

#[derive(Debug, Clone)]
struct GivenType {
    /// One bit for each session.
    admits_to: u8,
    own: Option<Places>,
    hidden: bool,
    sales_start: Option<i64>,
    sales_end: Option<i64>,
    min_per_order: i32,
    max_per_order: Option<i32>,
    max_per_buyer: Option<i32>,
}

fn places() -> impl Strategy<Value = Places> {
    let numbers = (0..12_i64, 0..9_i64, 0..9_i64, prop::bool::weighted(0.95));
    numbers.prop_map(|(capacity, sold, held, known)| Places {
        level: Level {
            capacity,
            sold,
            held,
        },
        known,
    })
}

fn session() -> impl Strategy<Value = GivenSession> {
    let parts = (places(), -6..24_i64, 1..6_i64, prop::bool::weighted(0.9));
    parts.prop_map(|(places, begins, lasts, active)| GivenSession {
        places,
        begins,
        ends: begins + lasts,
        active,
    })
}

fn kind() -> impl Strategy<Value = GivenType> {
    let window = (option::of(-6..3_i64), option::of(-3..24_i64));
    let numbers = (1..5_i32, option::of(0..6_i32), option::of(0..6_i32));
    let parts = (
        1..8_u8,
        option::of(places()),
        prop::bool::weighted(0.1),
        window,
        numbers,
    );
    parts.prop_map(
        |(admits_to, own, hidden, window, (min, order, buyer))| GivenType {
            admits_to,
            own,
            hidden,
            sales_start: window.0,
            sales_end: window.1,
            min_per_order: min,
            // Never less than the least.
            max_per_order: order.map(|more| min + more),
            max_per_buyer: buyer.map(|more| min + more),
        },
    )
}

fn given() -> impl Strategy<Value = Given> {
    let status = prop_oneof![
        3 => Just(Status::Published),
        1 => prop::sample::select(Status::ALL.to_vec()),
    ];
    let parts = (
        status,
        option::of(places()),
        5..12_i32,
        vec(session(), 3),
        vec(kind(), 1..4),
    );
    parts.prop_map(|(status, total, most_per_order, sessions, types)| Given {
        status,
        total,
        most_per_order,
        sessions,
        types,
    })
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
}

fn hours(hours: i64) -> Time {
    Time(now() + TimeDelta::hours(hours))
}

const EVENT: Uuid = Uuid::from_u128(1);

fn session_id(at: usize) -> Uuid {
    Uuid::from_u128(100 + at as u128)
}

fn type_id(at: usize) -> Uuid {
    Uuid::from_u128(200 + at as u128)
}

fn number(places: i64) -> i32 {
    i32::try_from(places).expect("few places")
}

impl Given {
    fn details(&self) -> EventDetails {
        let ends = self.sessions.iter().map(|session| session.ends).max();
        EventDetails {
            event: Event {
                never_published: false,
                id: EventId(EVENT),
                organization_id: OrganizationId(Uuid::from_u128(2)),
                title: "Rope Basics".into(),
                slug: "rope-basics".into(),
                short_description: None,
                description: None,
                policies: None,
                event_type: EventType::Class,
                category: None,
                venue_id: None,
                image_urls: Vec::new(),
                teacher_ids: Vec::new(),
                organizer_ids: Vec::new(),
                time_zone: "UTC".into(),
                currency: "EUR".into(),
                status: self.status,
                status_reason: None,
                starts_at: hours(0),
                ends_at: hours(ends.expect("a session")),
                own_capacity: self.total.map(|total| number(total.level.capacity)),
                max_tickets_per_order: self.most_per_order,
                required_vetting_level: 0,
                is_featured: false,
                is_sensitive: false,
                refund_policy: RefundPolicy::default(),
                version: 1,
                created_at: hours(-99),
                updated_at: hours(-99),
            },
            sessions: (0..)
                .zip(&self.sessions)
                .map(|(at, s)| s.made(at))
                .collect(),
            ticket_types: (0..).zip(&self.types).map(|(at, t)| t.made(at)).collect(),
        }
    }

    fn levels(&self) -> Levels {
        let total = self.total.map(|total| (EVENT, total));
        let sessions = self.sessions.iter().enumerate();
        let sessions = sessions.map(|(at, session)| (session_id(at), session.places));
        let types = self.types.iter().enumerate();
        let types = types.filter_map(|(at, kind)| Some((type_id(at), kind.own?)));
        let all = total.into_iter().chain(sessions).chain(types);
        all.filter(|(_, places)| places.known)
            .map(|(id, places)| (id, places.level))
            .collect()
    }

    fn sessions_of<'a>(
        &'a self,
        kind: &'a GivenType,
    ) -> impl Iterator<Item = (usize, &'a GivenSession)> {
        let sessions = self.sessions.iter().enumerate();
        sessions.filter(|(at, _)| kind.admits_to >> at & 1 == 1)
    }

    /// The least that is left of anything a ticket takes a place of.
    fn rest(&self, kind: &GivenType) -> i64 {
        let sessions = self.sessions_of(kind).map(|(_, session)| session.places);
        let others = kind.own.into_iter().chain(self.total);
        let rests = sessions.chain(others).map(Places::rest);
        rests.min().expect("a session")
    }

    /// All that keeps it from being bought, the weightiest first.
    fn reasons(&self, kind: &GivenType) -> Vec<Constraint> {
        let sessions = || self.sessions_of(kind).map(|(_, session)| session);
        let first_begins = sessions().map(|session| session.begins).min();
        let last_ends = sessions().map(|session| session.ends).max();
        let window_over = match kind.sales_end {
            Some(end) => end <= 0,
            None => first_begins.expect("a session") <= 0,
        };
        let all = [
            (
                !matches!(self.status, Status::Published | Status::InProgress),
                Constraint::EventNotOnSale,
            ),
            (
                sessions().any(|session| !session.active),
                Constraint::EventNotOnSale,
            ),
            (kind.hidden, Constraint::Hidden),
            (
                kind.sales_start.is_some_and(|start| start > 0),
                Constraint::SalesNotOpen,
            ),
            (
                window_over || last_ends.expect("a session") <= 0,
                Constraint::SalesEnded,
            ),
            (
                self.rest(kind) < kind.min_per_order.into(),
                Constraint::SoldOut,
            ),
        ];
        let all = all.into_iter().filter(|(is_so, _)| *is_so);
        all.map(|(_, reason)| reason).collect()
    }
}

impl Places {
    fn rest(self) -> i64 {
        let left = self.level.capacity - self.level.sold - self.level.held;
        if self.known { left.max(0) } else { 0 }
    }
}

impl GivenSession {
    fn made(&self, at: usize) -> Session {
        Session {
            id: SessionId(session_id(at)),
            code: format!("S{}", at + 1),
            name: "A part".into(),
            starts_at: hours(self.begins),
            ends_at: hours(self.ends),
            capacity: number(self.places.level.capacity),
            sold: number(self.places.level.sold),
            active: self.active,
            version: 1,
        }
    }
}

impl GivenType {
    fn made(&self, at: usize) -> TicketType {
        let sessions = (0..3).filter(|at| self.admits_to >> at & 1 == 1);
        TicketType {
            id: TicketTypeId(type_id(at)),
            name: "Standard".into(),
            description: None,
            price: 4500,
            original_price: None,
            member_price: None,
            quantity: self.own.map(|own| number(own.level.capacity)),
            included_sessions: sessions.map(|at| format!("S{}", at + 1)).collect(),
            sales_start: self.sales_start.map(hours),
            sales_end: self.sales_end.map(hours),
            min_per_order: self.min_per_order,
            max_per_order: self.max_per_order,
            max_per_buyer: self.max_per_buyer,
            hidden: self.hidden,
            version: 1,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_type_is_available_if_nothing_speaks_against_it(given in given()) {
        let details = given.details();
        let told = details.availability(&given.levels(), Source::Live, now());
        prop_assert_eq!(told.ticket_types.len(), given.types.len());
        for (told, kind) in told.ticket_types.iter().zip(&given.types) {
            let reasons = given.reasons(kind);
            prop_assert_eq!(told.constraint_reason, reasons.first().copied());
            prop_assert_eq!(told.is_available, reasons.is_empty());
            prop_assert_eq!(told.available, given.rest(kind));
        }
    }

    #[test]
    fn one_order_may_have_what_is_left_within_every_limit(given in given()) {
        let details = given.details();
        let told = details.availability(&given.levels(), Source::Live, now());
        for (told, kind) in told.ticket_types.iter().zip(&given.types) {
            let limits = [kind.max_per_order, kind.max_per_buyer, Some(given.most_per_order)];
            let limits = limits.into_iter().flatten().map(i64::from);
            let most = limits.chain([given.rest(kind)]).min().expect("a limit");
            prop_assert_eq!(told.max_purchasable, if told.is_available { most } else { 0 });
            prop_assert!(!told.is_available || most >= kind.min_per_order.into());
        }
    }

    #[test]
    fn the_sessions_that_limit_are_those_with_the_least(given in given()) {
        let details = given.details();
        let told = details.availability(&given.levels(), Source::Live, now());
        for (told, kind) in told.ticket_types.iter().zip(&given.types) {
            let least = given.rest(kind);
            let limiting = given.sessions_of(kind).filter(|(_, s)| s.places.rest() == least);
            let limiting: Vec<_> = limiting.map(|(at, _)| format!("S{}", at + 1)).collect();
            prop_assert_eq!(&told.limiting_sessions, &limiting);
        }
        for (told, session) in told.sessions.iter().zip(&given.sessions) {
            let held = if session.places.known { session.places.level.held } else { 0 };
            let left = session.places.level.capacity - session.places.level.sold - held;
            prop_assert_eq!((told.held, told.available), (held, left.max(0)));
        }
    }

    #[test]
    fn an_event_is_sold_out_when_only_places_are_missing(given in given()) {
        let details = given.details();
        let told = details.availability(&given.levels(), Source::Durable, now());
        let types = || given.types.iter().map(|kind| (kind, given.reasons(kind)));
        let open = types().filter(|(_, reasons)| reasons.is_empty());
        let spots = open.map(|(kind, _)| given.rest(kind)).max().unwrap_or(0);
        prop_assert_eq!(told.available_spots, spots);
        let only_places = types().any(|(_, reasons)| reasons == [Constraint::SoldOut]);
        prop_assert_eq!(told.sold_out, spots == 0 && only_places);
        prop_assert_eq!(told.source, AvailabilitySource::Durable);
    }
}
