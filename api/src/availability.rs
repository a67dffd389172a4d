//! Routes of what can be bought right now.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::payload::{EventStream, Json};
use shared::error::Code;
use shared::events::{self, Availability, EventError, TicketTypeAvailability};
use shared::ids::TicketTypeId;
use shared::stock;

use crate::events::find;
use crate::http::allowed::Public;
use crate::http::answer::Reply;
use crate::http::tags::Tag;

pub struct AvailabilityPaths;

#[OpenApi(tag = "Tag::Events")]
impl AvailabilityPaths {
    /// What is left of an event
    ///
    /// As it is at this moment: a hold gets what is told here. While the live numbers are away, `source` is `durable`.
    ///
    /// Errors: EVENT_NOT_FOUND
    #[oai(
        path = "/events/:event_id/availability",
        method = "get",
        operation_id = "read_availability"
    )]
    async fn read(&self, public: Public, event_id: Path<String>) -> Reply<Json<Availability>> {
        let details = find(&public, &event_id.0).await?;
        Ok(Json(events::availability(public.app(), &details).await?))
    }

    /// Follow what is left of an event
    ///
    /// Server-sent events: what is left now, then again whenever that has changed, at most four times a second. The
    /// stream ends when the event is no more, when the server or your session does, and after some minutes: connect again.
    /// A caller and a network may follow so many streams at a time and no more.
    ///
    /// Errors: EVENT_NOT_FOUND
    #[oai(
        path = "/events/:event_id/availability/stream",
        method = "get",
        operation_id = "follow_availability"
    )]
    async fn follow(
        &self,
        public: Public,
        event_id: Path<String>,
    ) -> Reply<EventStream<BoxStream<'static, Availability>>> {
        let details = find(&public, &event_id.0).await?;
        // Whoever joins others who watch already hears first what those know.
        let mut watched = events::watch(public.app(), details.event.id);
        watched.mark_changed();
        let news = stream::unfold(watched, |mut watched| async {
            watched.changed().await.ok()?;
            let latest = watched.borrow_and_update().clone();
            Some((latest, watched))
        });
        let news = news.filter_map(async |latest| latest.map(Arc::unwrap_or_clone));
        Ok(public.stream(&[], news)?)
    }

    /// What is left of a ticket type
    ///
    /// Errors: TICKET_TYPE_NOT_FOUND
    #[oai(
        path = "/ticket-types/:ticket_type_id/availability",
        method = "get",
        operation_id = "read_ticket_type_availability"
    )]
    async fn of_type(
        &self,
        public: Public,
        ticket_type_id: Path<TicketTypeId>,
    ) -> Reply<Json<TicketTypeAvailability>> {
        let mut db = public.read().await?;
        let event_id = events::of_ticket_type(&mut db, ticket_type_id.0).await?;
        drop(db);
        let details = find(&public, &event_id.to_string()).await;
        let details = details.map_err(|error| match error.code() {
            Code::EventNotFound => EventError::TicketTypeNotFound.into(),
            _ => error,
        })?;
        let mut kinds = details.ticket_types.iter();
        let kind = kinds.find(|kind| kind.id == ticket_type_id.0);
        let kind = kind.ok_or(EventError::TicketTypeNotFound)?;
        let (levels, _) = stock::levels(public.app(), event_id).await?;
        Ok(Json(details.availability_of(kind, &levels, public.now())))
    }
}
