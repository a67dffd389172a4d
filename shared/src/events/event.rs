//! An event, and what is said of one to make or change it.

use chrono::{DateTime, Utc};
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};

use super::EventError;
use super::refund_policy::RefundPolicy;
use super::session::{NewSession, Session, check_name};
use super::status::Status;
use super::summary::Live;
use super::ticket_type::{NewTicketType, TicketType};
use crate::clock::Time;
use crate::error::{Invalid, Result};
use crate::ids::{EventId, OrganizationId, UserId, VenueId};
use crate::organizations;
use crate::patch::Patch;
use crate::stock::Levels;
use crate::text::is_a_line;

const MOST_IMAGES: usize = 20;
pub(super) const MOST_SESSIONS: usize = 200;

/// Something that takes place.
#[derive(Debug, Clone, PartialEq, Serialize, Object, sqlx::FromRow)]
pub struct Event {
    pub id: EventId,
    pub organization_id: OrganizationId,
    pub title: String,
    /// Its name in addresses; it stays when the title changes.
    pub slug: String,
    pub short_description: Option<String>,
    /// HTML, without anything that could harm a reader.
    pub description: Option<String>,
    /// What visitors agree to, such as the rules of the house. HTML like the description.
    pub policies: Option<String>,
    pub event_type: EventType,
    pub category: Option<String>,
    pub venue_id: Option<VenueId>,
    pub image_urls: Vec<String>,
    /// Members of the organization who teach it.
    pub teacher_ids: Vec<UserId>,
    /// Members of the organization whose event it is in particular.
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
    /// Its own limit, if it was given one as `total_capacity`: no more tickets than that, of whatever type.
    pub own_capacity: Option<i32>,
    pub max_tickets_per_order: i32,
    /// Members vetted less than that, and strangers if it is above 0, do not see it.
    pub required_vetting_level: i16,
    pub is_featured: bool,
    /// It protects who comes.
    pub is_sensitive: bool,
    /// What buyers get back when they cancel.
    #[sqlx(json)]
    pub refund_policy: RefundPolicy,
    pub version: i64,
    pub created_at: Time,
    pub updated_at: Time,
    /// Cancelled before the public saw it.
    #[oai(skip)]
    #[serde(skip)]
    pub never_published: bool,
}

/// An event with its parts and with what is on sale.
#[derive(Debug, Clone, Serialize, Object)]
pub struct EventDetails {
    #[oai(flatten)]
    #[serde(flatten)]
    pub event: Event,
    pub sessions: Vec<Session>,
    pub ticket_types: Vec<TicketType>,
}

/// The same with the numbers of this moment.
#[derive(Debug, Clone, Serialize, Object)]
pub struct EventNow {
    #[oai(flatten)]
    #[serde(flatten)]
    pub details: EventDetails,
    #[oai(flatten)]
    #[serde(flatten)]
    pub live: Live,
}

impl EventNow {
    /// One that has just been made, of which nothing is on sale yet.
    #[must_use]
    pub fn draft(details: EventDetails, now: DateTime<Utc>) -> Self {
        let live = details.live(&Levels::new(), now);
        Self { details, live }
    }

    #[must_use]
    pub fn at(details: EventDetails, levels: &Levels, now: DateTime<Utc>) -> Self {
        let numbers = details.numbers(levels, now);
        Self::with(details, &numbers)
    }

    pub(super) fn with(mut details: EventDetails, numbers: &Numbers) -> Self {
        for (session, sold) in details.sessions.iter_mut().zip(&numbers.sold) {
            session.sold = *sold;
        }
        Self {
            details,
            live: numbers.live,
        }
    }
}

/// All that is true of an event at one moment only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Of each session, in their order.
    sold: Vec<i32>,
    live: Live,
}

impl EventDetails {
    /// Roughly, in bytes.
    pub(super) fn size(&self) -> usize {
        let Event {
            description,
            policies,
            short_description,
            image_urls,
            ..
        } = &self.event;
        let texts = [description, policies, short_description].into_iter();
        let texts = texts.flatten().chain(image_urls).map(String::len);
        let types = self.ticket_types.iter().map(|kind| {
            let text = kind.description.as_ref().map_or(0, String::len);
            400 + text + 30 * kind.included_sessions.len()
        });
        1_000 + texts.sum::<usize>() + 250 * self.sessions.len() + types.sum::<usize>()
    }

    pub(super) fn numbers(&self, levels: &Levels, now: DateTime<Utc>) -> Numbers {
        let sold = |session: &Session| {
            let level = levels.get(&session.id.0);
            let sold = level.and_then(|level| level.sold.try_into().ok());
            sold.unwrap_or(session.sold)
        };
        Numbers {
            sold: self.sessions.iter().map(sold).collect(),
            live: self.live(levels, now),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Enum, sqlx::Type)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum EventType {
    Class,
    SocialEvent,
    Concert,
    Conference,
    Festival,
    Sports,
    Theatre,
    Exhibition,
    Meetup,
    Other,
}

/// An event to be made. Say its sessions, or the beginning, end and capacity of the only one.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct NewEvent {
    /// Whose it is; needed only by those who act for more than one organization.
    pub organization_id: Option<OrganizationId>,
    #[oai(validator(min_length = 3, max_length = 200, pattern = r"\S"))]
    pub title: String,
    #[oai(validator(max_length = 500))]
    pub short_description: Option<String>,
    /// HTML; what could harm a reader is taken out.
    #[oai(validator(max_length = 100_000))]
    pub description: Option<String>,
    /// What visitors agree to; HTML too.
    #[oai(validator(max_length = 20_000))]
    pub policies: Option<String>,
    pub event_type: EventType,
    #[oai(validator(max_length = 100))]
    pub category: Option<String>,
    pub venue_id: Option<VenueId>,
    /// At most 20, each `http` or `https`.
    #[oai(default, validator(max_items = 20))]
    pub image_urls: Vec<String>,
    /// Members of the organization who teach it, at most 50.
    #[oai(default, validator(max_items = 50))]
    pub teacher_ids: Vec<UserId>,
    /// Members of the organization whose event it is in particular, at most 50.
    #[oai(default, validator(max_items = 50))]
    pub organizer_ids: Vec<UserId>,
    /// IANA name; that of the organization if left out.
    #[oai(validator(max_length = 60))]
    pub time_zone: Option<String>,
    /// That of the organization if left out.
    #[oai(validator(pattern = "^[A-Z]{3}$"))]
    pub currency: Option<String>,
    #[oai(default, validator(max_items = 200))]
    pub sessions: Vec<NewSession>,
    /// What is on sale from the beginning, at most 50; sessions have the codes S1, S2 and so on, in their order.
    #[oai(default, validator(max_items = 50))]
    pub ticket_types: Vec<NewTicketType>,
    /// Of its only session, if `sessions` is left out.
    pub starts_at: Option<Time>,
    /// Of its only session, if `sessions` is left out.
    pub ends_at: Option<Time>,
    /// Of its only session, if `sessions` is left out.
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub capacity: Option<i32>,
    /// A limit over all sessions and types.
    #[oai(validator(minimum(value = "1"), maximum(value = "100000000")))]
    pub total_capacity: Option<i32>,
    #[oai(
        default = "ten",
        validator(minimum(value = "1"), maximum(value = "1000"))
    )]
    pub max_tickets_per_order: i32,
    #[oai(default, validator(minimum(value = "0"), maximum(value = "9")))]
    pub required_vetting_level: i16,
    #[oai(default)]
    pub is_featured: bool,
    #[oai(default)]
    pub is_sensitive: bool,
    /// What buyers get back when they cancel; that of the organization if left out.
    pub refund_policy: Option<RefundPolicy>,
}

impl NewEvent {
    /// An event of which no more is said yet.
    #[must_use]
    pub fn named(title: &str, event_type: EventType) -> Self {
        Self {
            organization_id: None,
            title: title.to_owned(),
            short_description: None,
            description: None,
            policies: None,
            event_type,
            category: None,
            venue_id: None,
            image_urls: Vec::new(),
            teacher_ids: Vec::new(),
            organizer_ids: Vec::new(),
            time_zone: None,
            currency: None,
            sessions: Vec::new(),
            ticket_types: Vec::new(),
            starts_at: None,
            ends_at: None,
            capacity: None,
            total_capacity: None,
            max_tickets_per_order: ten(),
            required_vetting_level: 0,
            is_featured: false,
            is_sensitive: false,
            refund_policy: None,
        }
    }
}

fn ten() -> i32 {
    10
}

/// What is to be different; what is left out stays as it is.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields)]
pub struct EventChange {
    /// The version you have seen, unless you say it by `If-Match`.
    pub version: Option<i64>,
    #[oai(validator(min_length = 3, max_length = 200, pattern = r"\S"))]
    pub title: Patch<String>,
    #[oai(validator(max_length = 500))]
    pub short_description: Patch<Option<String>>,
    /// HTML; what could harm a reader is taken out.
    #[oai(validator(max_length = 100_000))]
    pub description: Patch<Option<String>>,
    /// What visitors agree to; HTML too.
    #[oai(validator(max_length = 20_000))]
    pub policies: Patch<Option<String>>,
    pub event_type: Patch<EventType>,
    #[oai(validator(max_length = 100))]
    pub category: Patch<Option<String>>,
    pub venue_id: Patch<Option<VenueId>>,
    /// At most 20, each `http` or `https`.
    #[oai(validator(max_items = 20))]
    pub image_urls: Patch<Vec<String>>,
    /// Members of the organization who teach it, at most 50.
    #[oai(validator(max_items = 50))]
    pub teacher_ids: Patch<Vec<UserId>>,
    /// Members of the organization whose event it is in particular, at most 50.
    #[oai(validator(max_items = 50))]
    pub organizer_ids: Patch<Vec<UserId>>,
    /// IANA name.
    #[oai(validator(max_length = 60))]
    pub time_zone: Patch<String>,
    /// A limit over all sessions and types.
    #[oai(validator(minimum(value = "1"), maximum(value = "100000000")))]
    pub total_capacity: Patch<Option<i32>>,
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub max_tickets_per_order: Patch<i32>,
    #[oai(validator(minimum(value = "0"), maximum(value = "9")))]
    pub required_vetting_level: Patch<i16>,
    pub is_featured: Patch<bool>,
    pub is_sensitive: Patch<bool>,
    /// The whole of it.
    pub refund_policy: Patch<RefundPolicy>,
}

impl EventChange {
    pub(super) fn applied_to(self, mut event: Event) -> Event {
        self.title.apply(&mut event.title);
        self.short_description.apply(&mut event.short_description);
        self.description.apply(&mut event.description);
        self.policies.apply(&mut event.policies);
        self.event_type.apply(&mut event.event_type);
        self.category.apply(&mut event.category);
        self.venue_id.apply(&mut event.venue_id);
        self.image_urls.apply(&mut event.image_urls);
        self.teacher_ids.apply(&mut event.teacher_ids);
        self.organizer_ids.apply(&mut event.organizer_ids);
        self.time_zone.apply(&mut event.time_zone);
        self.total_capacity.apply(&mut event.own_capacity);
        self.max_tickets_per_order
            .apply(&mut event.max_tickets_per_order);
        self.required_vetting_level
            .apply(&mut event.required_vetting_level);
        self.is_featured.apply(&mut event.is_featured);
        self.is_sensitive.apply(&mut event.is_sensitive);
        self.refund_policy.apply(&mut event.refund_policy);
        event.description = event.description.map(|html| ammonia::clean(&html));
        event.policies = event.policies.map(|html| ammonia::clean(&html));
        event
    }
}

/// Another status, and why.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct StatusChange {
    /// The version you have seen, unless you say it by `If-Match`.
    pub version: Option<i64>,
    pub status: Status,
    /// Needed to postpone, hold or cancel.
    #[oai(validator(min_length = 1, max_length = 500, pattern = r"\S"))]
    pub reason: Option<String>,
}

/// Calls an event off.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct Cancellation {
    /// The version you have seen, unless you say it by `If-Match`.
    pub version: Option<i64>,
    /// Told to those who look for the event.
    #[oai(validator(min_length = 1, max_length = 500, pattern = r"\S"))]
    pub reason: Option<String>,
}

/// An event was called off.
#[derive(Debug, Clone, Object)]
pub struct Cancelled {
    pub message: String,
    pub event_id: EventId,
    pub status: Status,
    pub version: i64,
}

impl From<Cancellation> for StatusChange {
    fn from(cancellation: Cancellation) -> Self {
        let reason = cancellation.reason;
        Self {
            version: cancellation.version,
            status: Status::Cancelled,
            reason: Some(reason.unwrap_or_else(|| "Cancelled by the organizer".to_owned())),
        }
    }
}

impl Event {
    /// What no field can say by itself.
    pub(super) fn check(&self, before: Option<&Self>, invalid: &mut Invalid) {
        let titled_anew = before.is_none_or(|before| before.title != self.title);
        if titled_anew && !is_a_line(&self.title) {
            invalid.push("title", "must be one line that can be read");
        }
        // What is made safe can become longer than what was given.
        let texts = |event: &Self| [event.description.clone(), event.policies.clone()];
        let before = before.map(texts).unwrap_or_default();
        let texts = [
            ("description", &self.description, 100_000),
            ("policies", &self.policies, 20_000),
        ];
        for ((field, html, most), before) in texts.into_iter().zip(&before) {
            if html == before {
                continue;
            }
            let length = html.as_ref().map_or(0, |html| html.chars().count());
            if length > most {
                let message = format!("is longer than {most} characters once it is made safe");
                invalid.push(field, message);
            }
        }
        organizations::check_time_zone(&self.time_zone, invalid);
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
        self.refund_policy.check("", invalid);
    }

    /// Only its organization sees it.
    pub(super) fn is_out_of_sight(&self) -> bool {
        self.status == Status::Draft || self.never_published
    }

    pub(super) fn must_be_open(&self, now: DateTime<Utc>) -> Result<()> {
        let begun = self.status == Status::Published && self.starts_at.0 <= now;
        if begun || !self.status.is_open() {
            return Err(EventError::NotModifiable.into());
        }
        Ok(())
    }
}

impl NewEvent {
    /// Its sessions, or the only one that it describes itself.
    pub(super) fn sessions_to_make(
        &self,
        now: DateTime<Utc>,
        invalid: &mut Invalid,
    ) -> Vec<NewSession> {
        if self.sessions.is_empty() {
            return self.only_session(now, invalid).into_iter().collect();
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
            let place = format!("sessions[{at}].");
            session.check(now, &place, invalid);
            check_name(&session.name, &place, invalid);
        }
        self.sessions.clone()
    }

    fn only_session(&self, now: DateTime<Utc>, invalid: &mut Invalid) -> Option<NewSession> {
        let (Some(starts_at), Some(ends_at), Some(capacity)) =
            (self.starts_at, self.ends_at, self.capacity)
        else {
            let message = "is needed, or `starts_at`, `ends_at` and `capacity` of the only session";
            invalid.push("sessions", message);
            return None;
        };
        let session = NewSession {
            name: self.title.clone(),
            starts_at,
            ends_at,
            capacity,
        };
        session.check(now, "", invalid);
        Some(session)
    }
}
