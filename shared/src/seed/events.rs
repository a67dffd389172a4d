//! What takes place in the demo: something of every kind, and in every state that somebody can move it to.

use chrono::{DateTime, TimeDelta, Utc};

use crate::error::Result;
use crate::events::{self, EventType, NewEvent, NewSession, NewTicketType, Status, StatusChange};
use crate::tx::Tx;
use crate::venues::Venue;
use crate::version::Expected;

/// An event as a line says it.
struct Plan {
    title: &'static str,
    about: &'static str,
    event_type: EventType,
    category: &'static str,
    /// Days from today.
    begins_in: i64,
    evenings: i64,
    /// Where it ends up, and why.
    status: Status,
    reason: Option<&'static str>,
    types: fn(evenings: i64, now: DateTime<Utc>) -> Vec<NewTicketType>,
}

const PLANS: [Plan; 9] = [
    Plan {
        title: "Night of the Organ",
        about: "Four hands, four thousand pipes.",
        event_type: EventType::Concert,
        category: "Music",
        begins_in: 30,
        evenings: 1,
        status: Status::Published,
        reason: None,
        types: with_patrons,
    },
    Plan {
        title: "Rope Basics",
        about: "Knots that hold, on two evenings.",
        event_type: EventType::Class,
        category: "Workshops",
        begins_in: 37,
        evenings: 2,
        status: Status::Published,
        reason: None,
        types: all_and_each,
    },
    Plan {
        title: "Tea and Code",
        about: "Bring something that does not work yet.",
        event_type: EventType::Meetup,
        category: "Talks",
        begins_in: 44,
        evenings: 1,
        status: Status::Published,
        reason: None,
        types: free,
    },
    Plan {
        title: "Harbour Festival",
        about: "Three days of music between the cranes.",
        event_type: EventType::Festival,
        category: "Music",
        begins_in: 60,
        evenings: 3,
        status: Status::Published,
        reason: None,
        types: festival,
    },
    Plan {
        title: "Rigging for the Initiated",
        about: "For members who have been with us for a while.",
        event_type: EventType::Class,
        category: "Workshops",
        begins_in: 20,
        evenings: 1,
        status: Status::Published,
        reason: None,
        types: with_patrons,
    },
    Plan {
        title: "Winter Ball",
        about: "Waltz until the last tram.",
        event_type: EventType::SocialEvent,
        category: "Dance",
        begins_in: 90,
        evenings: 1,
        status: Status::Postponed,
        reason: Some("The orchestra is stuck in the snow; a new date follows."),
        types: with_patrons,
    },
    Plan {
        title: "Robots and Craft",
        about: "Who makes what, and for how long yet?",
        event_type: EventType::Conference,
        category: "Talks",
        begins_in: 75,
        evenings: 2,
        status: Status::OnHold,
        reason: Some("We are waiting for the hall to confirm."),
        types: all_and_each,
    },
    Plan {
        title: "Open Boat Day",
        about: "Sail along, whatever the weather.",
        event_type: EventType::Sports,
        category: "Outdoors",
        begins_in: 15,
        evenings: 1,
        status: Status::Cancelled,
        reason: Some("Storm"),
        types: free,
    },
    Plan {
        title: "Silent Film with Piano",
        about: "Still being planned.",
        event_type: EventType::Theatre,
        category: "Film",
        begins_in: 120,
        evenings: 1,
        status: Status::Draft,
        reason: None,
        types: with_patrons,
    },
];

/// Makes all of them, in these venues by turns.
pub(super) async fn make(tx: &mut Tx, venues: &[Venue]) -> Result<()> {
    for (plan, venue) in PLANS.iter().zip(venues.iter().cycle()) {
        plan.make(tx, venue).await?;
    }
    Ok(())
}

impl Plan {
    async fn make(&self, tx: &mut Tx, venue: &Venue) -> Result<()> {
        let first = tx.now() + TimeDelta::days(self.begins_in);
        let sessions = (0..self.evenings).map(|day| NewSession {
            name: format!("Day {}", day + 1),
            starts_at: (first + TimeDelta::days(day)).into(),
            ends_at: (first + TimeDelta::days(day) + TimeDelta::hours(3)).into(),
            capacity: venue.capacity,
        });
        let for_few = self.title.ends_with("Initiated");
        let new = NewEvent {
            organization_id: Some(venue.organization_id),
            venue_id: Some(venue.id),
            short_description: Some(self.about.to_owned()),
            category: Some(self.category.to_owned()),
            time_zone: Some("Europe/Berlin".to_owned()),
            policies: Some("<p>Doors open an hour before. No flash, please.</p>".to_owned()),
            sessions: sessions.collect(),
            is_featured: self.category == "Music",
            is_sensitive: for_few,
            required_vetting_level: if for_few { 2 } else { 0 },
            ..NewEvent::named(self.title, self.event_type)
        };
        let id = events::create(tx, new).await?.event.id;
        for kind in (self.types)(self.evenings, tx.now()) {
            events::add_ticket_type(tx, id, kind).await?;
        }
        // What is postponed or on hold was on sale before.
        let before = match self.status {
            Status::Postponed | Status::OnHold => Some(Status::Published),
            _ => None,
        };
        for status in before.into_iter().chain([self.status]) {
            let to = StatusChange {
                version: None,
                status,
                reason: self.reason.map(str::to_owned),
            };
            events::set_status(tx, id, Expected::Any, to).await?;
        }
        Ok(())
    }
}

fn codes(evenings: i64) -> Vec<String> {
    (1..=evenings).map(|number| format!("S{number}")).collect()
}

fn free(evenings: i64, _: DateTime<Utc>) -> Vec<NewTicketType> {
    vec![NewTicketType::simple("Standard", 0, codes(evenings))]
}

fn with_patrons(evenings: i64, _: DateTime<Utc>) -> Vec<NewTicketType> {
    let patrons = NewTicketType {
        description: Some("A seat in front, and our thanks.".to_owned()),
        quantity: Some(10),
        ..NewTicketType::simple("Patron", 9_000, codes(evenings))
    };
    let standard = NewTicketType {
        member_price: Some(3_600),
        ..NewTicketType::simple("Standard", 4_500, codes(evenings))
    };
    vec![standard, patrons]
}

/// One type for all evenings, and one for each.
fn all_and_each(evenings: i64, _: DateTime<Utc>) -> Vec<NewTicketType> {
    let all = NewTicketType {
        original_price: Some(7_000 * evenings),
        ..NewTicketType::simple("All evenings", 6_000 * evenings, codes(evenings))
    };
    let each = codes(evenings).into_iter().map(|code| {
        let name = format!("Only {code}");
        NewTicketType::simple(&name, 7_000, vec![code])
    });
    std::iter::once(all).chain(each).collect()
}

/// With a window of sales, a limit for groups, and one that only the organizer sees.
fn festival(evenings: i64, now: DateTime<Utc>) -> Vec<NewTicketType> {
    let in_days = |days| now + TimeDelta::days(days);
    let early = NewTicketType {
        quantity: Some(200),
        sales_end: Some(in_days(14).into()),
        original_price: Some(12_000),
        ..NewTicketType::simple("Early bird, all days", 9_000, codes(evenings))
    };
    let late = NewTicketType {
        sales_start: Some(in_days(14).into()),
        ..NewTicketType::simple("All days", 12_000, codes(evenings))
    };
    let group = NewTicketType {
        min_per_order: 4,
        max_per_order: Some(8),
        ..NewTicketType::simple("Group, first day", 3_500, codes(1))
    };
    let crew = NewTicketType {
        hidden: true,
        quantity: Some(40),
        ..NewTicketType::simple("Crew", 0, codes(evenings))
    };
    vec![early, late, group, crew]
}
