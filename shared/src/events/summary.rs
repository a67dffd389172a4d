//! An event as lists show it, and the numbers that go with it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use poem_openapi::Object;
use sqlx::PgConnection;
use uuid::Uuid;

use super::event::EventType;
use super::status::Status;
use crate::clock::Time;
use crate::error::Result;
use crate::ids::{EventId, OrganizationId, UserId, VenueId};

/// An event as lists show it.
#[derive(Debug, Clone, PartialEq, Object, sqlx::FromRow)]
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
    /// When its first session begins.
    pub starts_at: Time,
    /// When its last session ends.
    pub ends_at: Time,
    pub session_count: i64,
    /// Its own limit if it has one, else the places of its largest session.
    pub total_capacity: i32,
    /// Of what is on sale now, in the minor unit of the currency.
    pub lowest_price: Option<i64>,
    pub highest_price: Option<i64>,
    pub max_tickets_per_order: i32,
    pub required_vetting_level: i16,
    pub is_featured: bool,
    pub is_sensitive: bool,
    pub version: i64,
    pub created_at: Time,
    pub updated_at: Time,
    /// The numbers of this moment.
    #[oai(flatten)]
    #[sqlx(skip)]
    pub live: Live,
}

/// What is true of an event at one moment only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, Object)]
pub struct Live {
    /// The most tickets of one type that could be bought now.
    pub available_spots: i32,
    /// Something is on sale, and nothing of it is left.
    pub sold_out: bool,
    /// It has not begun.
    pub upcoming: bool,
    /// It is over.
    pub past: bool,
}

/// One page of a list of events.
#[derive(Debug, Clone, Object)]
pub struct EventPage {
    pub items: Vec<EventSummary>,
    /// How many there are on all pages, counted up to 1000.
    pub total: i64,
    /// Whether `total` is all of them; `false` where there are more than were counted.
    pub total_is_exact: bool,
    pub page: u32,
    pub limit: u32,
    pub has_more: bool,
}

/// What is left of an event, and whether anything of it is on sale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    pub spots: i32,
    pub on_sale: bool,
}

impl Live {
    #[must_use]
    pub fn at(now: DateTime<Utc>, starts_at: Time, ends_at: Time, left: Left) -> Self {
        Self {
            available_spots: left.spots,
            sold_out: left.on_sale && left.spots == 0,
            upcoming: starts_at.0 > now,
            past: ends_at.0 <= now,
        }
    }
}

/// Puts the numbers of this moment into summaries, whenever those were read.
pub async fn tell_live(
    db: &mut PgConnection,
    events: &mut [EventSummary],
    now: DateTime<Utc>,
) -> Result<()> {
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    let left = left(db, &ids, now).await?;
    for event in events {
        let left = left.get(&event.id).copied().unwrap_or_default();
        event.live = Live::at(now, event.starts_at, event.ends_at, left);
    }
    Ok(())
}

/// What is left of each of these events by what is durably sold; those that are gone are missing.
pub async fn left(
    db: &mut PgConnection,
    events: &[EventId],
    now: DateTime<Utc>,
) -> Result<HashMap<EventId, Left>> {
    let ids: Vec<Uuid> = events.iter().map(|id| id.0).collect();
    let rows = sqlx::query_file!("src/events/left.sql", &ids, now);
    let rows = rows.fetch_all(db).await?.into_iter();
    Ok(rows
        .map(|row| {
            let left = Left {
                spots: row.spots,
                on_sale: row.on_sale,
            };
            (EventId(row.id), left)
        })
        .collect())
}
