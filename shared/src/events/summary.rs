//! An event as lists show it, and the numbers that go with it.

use chrono::{DateTime, Utc};
use poem_openapi::Object;
use serde::Serialize;

use super::EventDetails;
use super::event::EventType;
use super::status::Status;
use crate::clock::Time;
use crate::ids::{EventId, OrganizationId, UserId, VenueId};
use crate::page::Paging;
use crate::shown::{Last, Shown};
use crate::stock::{Levels, LevelsOf};

/// An event as lists show it.
#[derive(Debug, Clone, PartialEq, Object)]
pub struct EventSummary {
    pub id: EventId,
    pub organization_id: OrganizationId,
    pub title: String,
    /// Its name in addresses.
    pub slug: String,
    pub short_description: Option<String>,
    pub event_type: EventType,
    pub category: Option<String>,
    pub venue_id: Option<VenueId>,
    pub venue_name: Option<String>,
    pub city: Option<String>,
    pub image_urls: Vec<String>,
    pub teacher_ids: Vec<UserId>,
    pub organizer_ids: Vec<UserId>,
    /// IANA name of the zone that its times are told in.
    pub time_zone: String,
    pub currency: String,
    pub status: Status,
    /// Why it is postponed, on hold or cancelled.
    pub status_reason: Option<String>,
    /// When the first of its sessions begins that take place.
    pub starts_at: Time,
    /// When the last of them ends.
    pub ends_at: Time,
    /// Of those that take place.
    pub session_count: i64,
    pub max_tickets_per_order: i32,
    pub required_vetting_level: i16,
    pub is_featured: bool,
    pub is_sensitive: bool,
    pub version: i64,
    pub created_at: Time,
    pub updated_at: Time,
    /// The numbers of this moment.
    #[oai(flatten)]
    pub live: Live,
}

/// What is true of an event at one moment only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Object)]
pub struct Live {
    /// Its own limit if it has one, else the places of its largest session.
    pub total_capacity: i32,
    /// The most tickets of one type that could be bought now.
    pub available_spots: i64,
    /// Something is on sale, and nothing of it is left.
    pub sold_out: bool,
    /// Of what is on sale now, in the minor unit of the currency.
    pub lowest_price: Option<i64>,
    pub highest_price: Option<i64>,
    /// It has not begun.
    pub upcoming: bool,
    /// It is over.
    pub past: bool,
}

/// One page of a list of events.
#[derive(Debug, Clone, Object)]
pub struct EventPage {
    pub items: Vec<EventSummary>,
    /// How many there are on all pages, counted up to 60 (your own up to 1000) or to the end of this page. What is sorted
    /// by relevance has no pages beyond that.
    pub total: i64,
    /// Whether `total` is all of them; `false` where there are more than were counted, to be shown like "60+".
    pub total_is_exact: bool,
    pub page: u32,
    pub limit: u32,
    pub has_more: bool,
}

/// A page without the numbers of a moment, but with everything they are made of.
pub struct Listing {
    pub(super) items: Vec<Listed>,
    pub(super) total: i64,
    pub(super) total_is_exact: bool,
    pub(super) paging: Paging,
    pub(super) has_more: bool,
    pub(super) last: Last<Vec<Live>, EventPage>,
}

/// An event, without its description, and where it takes place.
#[derive(Debug)]
pub(super) struct Listed {
    pub details: EventDetails,
    pub venue_name: Option<String>,
    pub city: Option<String>,
}

impl Listing {
    /// In kilobytes, as it is kept and as it was shown last.
    pub(super) fn weight(&self) -> u64 {
        let sizes = self.items.iter().map(|item| item.details.size());
        1 + (2 * sizes.sum::<usize>() / 1_024) as u64
    }

    pub(super) fn events(&self) -> Vec<EventId> {
        self.items
            .iter()
            .map(|item| item.details.event.id)
            .collect()
    }

    /// The page as it is at `now`, when this is left.
    pub(super) fn at(&self, levels: &LevelsOf, now: DateTime<Utc>) -> Shown<EventPage> {
        let nothing = Levels::new();
        let live = |item: &Listed| {
            let details = &item.details;
            details.live(levels.get(&details.event.id).unwrap_or(&nothing), now)
        };
        let numbers: Vec<Live> = self.items.iter().map(live).collect();
        self.last.show(numbers, |numbers| self.with(numbers))
    }

    fn with(&self, numbers: &[Live]) -> EventPage {
        let items = self.items.iter().zip(numbers);
        let (page, limit) = self.paging.place();
        EventPage {
            items: items.map(|(item, live)| item.with(*live)).collect(),
            total: self.total,
            total_is_exact: self.total_is_exact,
            page,
            limit,
            has_more: self.has_more,
        }
    }
}

impl Listed {
    fn with(&self, live: Live) -> EventSummary {
        let sessions = self.details.sessions.iter();
        let event = self.details.event.clone();
        EventSummary {
            id: event.id,
            organization_id: event.organization_id,
            title: event.title,
            slug: event.slug,
            short_description: event.short_description,
            event_type: event.event_type,
            category: event.category,
            venue_id: event.venue_id,
            venue_name: self.venue_name.clone(),
            city: self.city.clone(),
            image_urls: event.image_urls,
            teacher_ids: event.teacher_ids,
            organizer_ids: event.organizer_ids,
            time_zone: event.time_zone,
            currency: event.currency,
            status: event.status,
            status_reason: event.status_reason,
            starts_at: event.starts_at,
            ends_at: event.ends_at,
            session_count: sessions.map(|session| i64::from(session.active)).sum(),
            max_tickets_per_order: event.max_tickets_per_order,
            required_vetting_level: event.required_vetting_level,
            is_featured: event.is_featured,
            is_sensitive: event.is_sensitive,
            version: event.version,
            created_at: event.created_at,
            updated_at: event.updated_at,
            live,
        }
    }
}
