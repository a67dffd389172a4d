//! Routes of events; those of their parts are in `sessions` and `ticket_types`.

use std::sync::Arc;

use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use shared::access::{Right, Scope};
use shared::clock::Time;
use shared::events::{
    self, Cancellation, Cancelled, EventChange, EventDetails, EventFilter, EventNow, EventPage,
    EventSort, EventType, KeptEvent, NewEvent, Part, Status, StatusChange, Viewer,
};
use shared::ids::{EventId, OrganizationId, UserId, VenueId};
use shared::page::Paging;
use shared::shown::Shown;

use crate::http::allowed::{Allowed, Permission, Public, permissions};
use crate::http::answer::{Created, Found, Gone, Listed, Once, Reply, Versioned};
use crate::http::body::Body;
use crate::http::tags::{Direction, Tag};

permissions! {
    ReadEvents: "events" "read";
    CreateEvents: "events" "create";
    WriteEvents: "events" "write";
    DeleteEvents: "events" "delete";
}

/// Opens what the public does not see.
const BACKSTAGE: Right = Right {
    resource: "events",
    action: "read",
};

impl Versioned for EventNow {
    const TELLS_MORE: bool = true;

    fn version(&self) -> i64 {
        self.details.event.version
    }
}

/// The same of the events one teaches.
const ASSIGNED: Right = Right {
    resource: "assigned_events",
    action: "read",
};

fn viewer<P: Permission>(caller: &Allowed<P>) -> Viewer {
    let backstage = caller.reach(BACKSTAGE);
    Viewer {
        like_a_stranger: backstage == Scope::nothing() && !caller.belongs_somewhere(),
        backstage,
        assigned: caller.reach(ASSIGNED),
        user_id: caller.user_id(),
    }
}

pub struct Events;

#[OpenApi(tag = "Tag::Events")]
impl Events {
    /// List events
    ///
    /// Those that are to come and not cancelled, as far as the caller may see them. All filters can be combined. `q`
    /// finds words of titles, descriptions, venues and cities, the last word also by its beginning; `"two words"` next
    /// to each other, `this or that`, `-without`. Where no event has the words, those are found whose title, venue or
    /// city is nearly what was typed.
    #[oai(path = "/events", method = "get", operation_id = "list_events")]
    #[expect(
        clippy::too_many_arguments,
        reason = "one for each filter that the document names"
    )]
    async fn list(
        &self,
        public: Public,
        #[oai(validator(max_length = 200))] q: Query<Option<String>>,
        /// Another name of `q`.
        #[oai(validator(max_length = 200))]
        search: Query<Option<String>>,
        event_type: Query<Option<EventType>>,
        #[oai(validator(max_length = 200))] category: Query<Option<String>>,
        #[oai(validator(max_length = 200))] city: Query<Option<String>>,
        venue_id: Query<Option<VenueId>>,
        organization_id: Query<Option<OrganizationId>>,
        /// A person who organizes it.
        organizer_id: Query<Option<UserId>>,
        /// Beginning then or later.
        date_from: Query<Option<Time>>,
        /// Beginning then or earlier.
        date_to: Query<Option<Time>>,
        /// In minor units: something on sale costs that or more. A window of sales that opens or closes is
        /// noticed within a minute.
        price_min: Query<Option<i64>>,
        /// In minor units: something on sale costs that or less; with `price_min`, something is in between.
        price_max: Query<Option<i64>>,
        /// Only where a ticket can be bought now.
        available: Query<Option<bool>>,
        /// Those that are over as well.
        show_past: Query<Option<bool>>,
        featured: Query<Option<bool>>,
        /// By relevance if there is a `q`, else by date. Of more than 60 matches the 60 soonest are put in order of
        /// relevance, after those that are titled just so.
        sort: Query<Option<EventSort>>,
        /// Upwards, but for the newest and the most relevant, which come first.
        order: Query<Option<Direction>>,
        page: Query<Option<u32>>,
        limit: Query<Option<u32>>,
    ) -> Reply<Listed<EventPage>> {
        let paging = Paging::new(page.0, limit.0)?;
        let filter = EventFilter {
            q: q.0.or(search.0),
            event_type: event_type.0,
            category: category.0,
            city: city.0,
            venue_id: venue_id.0,
            organization_id: organization_id.0,
            organizer_id: organizer_id.0,
            date_from: date_from.0.map(|time| time.0),
            date_to: date_to.0.map(|time| time.0),
            price_min: price_min.0,
            price_max: price_max.0,
            available: available.0.unwrap_or_default(),
            show_past: show_past.0.unwrap_or_default(),
            backstage: false,
            status: None,
            featured: featured.0,
            sort: sort.0,
            descending: order.0.map(|order| order == Direction::Desc),
        };
        Ok(Listed::shown(list_for(&public, &filter, paging).await?))
    }

    /// List the events to put forward
    #[oai(
        path = "/events/featured",
        method = "get",
        operation_id = "list_featured_events"
    )]
    async fn featured(
        &self,
        public: Public,
        page: Query<Option<u32>>,
        limit: Query<Option<u32>>,
    ) -> Reply<Listed<EventPage>> {
        let paging = Paging::new(page.0, limit.0)?;
        let filter = EventFilter {
            featured: Some(true),
            ..EventFilter::default()
        };
        Ok(Listed::shown(list_for(&public, &filter, paging).await?))
    }

    /// List my events
    ///
    /// All of them in the organizations where the caller may read events: drafts, cancelled ones and those that are
    /// over too.
    #[oai(
        path = "/admin/events",
        method = "get",
        operation_id = "list_my_events"
    )]
    #[expect(
        clippy::too_many_arguments,
        reason = "one for each filter that the document names"
    )]
    async fn mine(
        &self,
        caller: Allowed<ReadEvents>,
        #[oai(validator(max_length = 200))] q: Query<Option<String>>,
        organization_id: Query<Option<OrganizationId>>,
        status: Query<Option<Status>>,
        sort: Query<Option<EventSort>>,
        order: Query<Option<Direction>>,
        page: Query<Option<u32>>,
        limit: Query<Option<u32>>,
    ) -> Reply<Listed<EventPage>> {
        let paging = Paging::new(page.0, limit.0)?;
        let filter = EventFilter {
            q: q.0,
            organization_id: organization_id.0,
            show_past: true,
            backstage: true,
            status: status.0,
            sort: sort.0,
            descending: order.0.map(|order| order == Direction::Desc),
            ..EventFilter::default()
        };
        Ok(Listed::shown(list_for(&caller, &filter, paging).await?))
    }

    /// Create an event
    ///
    /// It is a draft. Say its sessions, or the beginning, end and capacity of the only one, which becomes S1.
    #[oai(path = "/events", method = "post", operation_id = "create_event")]
    async fn create(
        &self,
        caller: Allowed<CreateEvents>,
        new: Body<NewEvent>,
    ) -> Reply<Once<Created<EventNow>>> {
        caller
            .once(&new, async |tx| {
                let made = events::create(tx, new.content.clone()).await?;
                let place = format!("/events/{}", made.event.id);
                Ok(Created::at(&place, EventNow::draft(made, tx.now())))
            })
            .await
    }

    /// Read an event
    ///
    /// By its id or its slug, with its sessions and ticket types.
    ///
    /// Errors: EVENT_NOT_FOUND
    #[oai(
        path = "/events/:event_id",
        method = "get",
        operation_id = "read_event"
    )]
    async fn read(&self, public: Public, event_id: Path<String>) -> Reply<Found<EventNow>> {
        let event = find(&public, &event_id.0).await?;
        let shown = events::cache::shown(public.app(), &event, public.now()).await?;
        Ok(Found::shown(event.event.version, shown))
    }

    /// Change an event
    ///
    /// What is named is replaced, what is left out stays. PATCH is the same operation. Once it has begun or is
    /// cancelled, only the description can change.
    ///
    /// Errors: EVENT_NOT_FOUND, EVENT_NOT_MODIFIABLE, CAPACITY_BELOW_SOLD, CONCURRENT_UPDATE, VERSION_REQUIRED
    #[oai(
        path = "/events/:event_id",
        method = "put",
        operation_id = "change_event"
    )]
    async fn change(
        &self,
        caller: Allowed<WriteEvents>,
        event_id: Path<EventId>,
        change: Body<EventChange>,
    ) -> Reply<Found<EventNow>> {
        let (seen, id) = (caller.seen(change.content.version)?, event_id.0);
        let change = change.content;
        let capacity = change.total_capacity.named().flatten();
        let aside = caller.set_aside(id, Part::Event, capacity).await?;
        let event = caller
            .change_having(aside, async |tx| {
                events::change(tx, id, seen, change, aside).await
            })
            .await?;
        Ok(Found::new(at_this_moment(&caller, event).await?))
    }

    /// Delete an event
    ///
    /// Only if no place of it is sold; otherwise cancel it.
    ///
    /// Errors: EVENT_NOT_FOUND, EVENT_HAS_REGISTRATIONS, CONCURRENT_UPDATE
    #[oai(
        path = "/events/:event_id",
        method = "delete",
        operation_id = "delete_event"
    )]
    async fn delete(&self, caller: Allowed<DeleteEvents>, event_id: Path<EventId>) -> Reply<Gone> {
        let seen = caller.seen_or_any(None)?;
        caller
            .change(async |tx| events::delete(tx, event_id.0, seen).await)
            .await?;
        Ok(Gone::Gone)
    }

    /// Publish, postpone, hold or cancel an event
    ///
    /// It begins and ends by the clock. Publishing needs a session to come and a ticket type.
    ///
    /// Errors: EVENT_NOT_FOUND, EVENT_NOT_READY, STATUS_NOT_REACHABLE, CONCURRENT_UPDATE, VERSION_REQUIRED
    #[oai(
        path = "/events/:event_id/status",
        method = "put",
        operation_id = "change_event_status"
    )]
    async fn set_status(
        &self,
        caller: Allowed<WriteEvents>,
        event_id: Path<EventId>,
        to: Body<StatusChange>,
    ) -> Reply<Found<EventNow>> {
        let seen = caller.seen(to.content.version)?;
        let to = to.content;
        let event = caller
            .change(async |tx| events::set_status(tx, event_id.0, seen, to).await)
            .await?;
        Ok(Found::new(at_this_moment(&caller, event).await?))
    }

    /// Cancel an event
    ///
    /// The same as moving it to the status `cancelled`, for clients that know this path. Unlike deleting, it is
    /// possible with places sold. Without a reason, one is put in its place.
    ///
    /// Errors: EVENT_NOT_FOUND, STATUS_NOT_REACHABLE, CONCURRENT_UPDATE, VERSION_REQUIRED
    #[oai(
        path = "/admin/events/:event_id",
        method = "delete",
        operation_id = "cancel_event"
    )]
    async fn cancel(
        &self,
        caller: Allowed<WriteEvents>,
        event_id: Path<EventId>,
        cancellation: Body<Cancellation>,
    ) -> Reply<Json<Cancelled>> {
        let seen = caller.seen(cancellation.content.version)?;
        let to: StatusChange = cancellation.content.into();
        let cancelled = caller
            .change(async |tx| events::set_status(tx, event_id.0, seen, to).await)
            .await?;
        Ok(Json(Cancelled {
            message: "Event cancelled".to_owned(),
            event_id: event_id.0,
            status: cancelled.event.status,
            version: cancelled.event.version,
        }))
    }
}

/// One page of what this caller may see, with the numbers of this moment.
async fn list_for<P: Permission>(
    caller: &Allowed<P>,
    filter: &EventFilter,
    paging: Paging,
) -> shared::Result<Shown<EventPage>> {
    let (viewer, now) = (viewer(caller), caller.now());
    events::cache::list(caller.app(), &viewer, now, filter, paging).await
}

pub(crate) async fn at_this_moment<P: Permission>(
    caller: &Allowed<P>,
    details: EventDetails,
) -> shared::Result<EventNow> {
    events::cache::at_this_moment(caller.app(), caller.now(), details).await
}

/// The event as this caller may see it, from memory: whoever needs the numbers of this moment asks for them.
pub(crate) async fn find(public: &Public, name: &str) -> shared::Result<Arc<KeptEvent>> {
    events::cache::kept(public.app(), &viewer(public), public.now(), name).await
}
