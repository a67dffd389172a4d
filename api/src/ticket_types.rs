//! Routes of what is on sale of an event.

use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use shared::events::{
    self, EventError, NewTicketType, Part, TicketType, TicketTypeChange, TicketTypeNow,
};
use shared::ids::{EventId, TicketTypeId};
use shared::page::All;

use crate::events::find;
use crate::http::allowed::{Allowed, Public, permissions};
use crate::http::answer::{Created, Found, Gone, Listed, Once, Reply, Versioned};
use crate::http::body::Body;
use crate::http::tags::Tag;

permissions! {
    CreateTicketTypes: "ticket_types" "create";
    WriteTicketTypes: "ticket_types" "write";
    DeleteTicketTypes: "ticket_types" "delete";
}

impl Versioned for TicketType {
    fn version(&self) -> i64 {
        self.version
    }
}

impl Versioned for TicketTypeNow {
    const TELLS_MORE: bool = true;

    fn version(&self) -> i64 {
        self.ticket_type.version
    }
}

pub struct TicketTypes;

#[OpenApi(tag = "Tag::Events")]
impl TicketTypes {
    /// List what is on sale of an event
    ///
    /// With what can be bought of each right now. Hidden types are shown to those who may read the events of the
    /// organization.
    ///
    /// Errors: EVENT_NOT_FOUND
    #[oai(
        path = "/events/:event_id/ticket-types",
        method = "get",
        operation_id = "list_ticket_types"
    )]
    async fn ticket_types(
        &self,
        public: Public,
        event_id: Path<String>,
    ) -> Reply<Listed<All<TicketTypeNow>>> {
        let event = find(&public, &event_id.0).await?;
        let items = events::ticket_types(public.app(), &event).await?;
        Ok(Listed::new(All { items }))
    }

    /// Put something on sale
    ///
    /// Errors: EVENT_NOT_FOUND, EVENT_NOT_MODIFIABLE
    #[oai(
        path = "/events/:event_id/ticket-types",
        method = "post",
        operation_id = "add_ticket_type"
    )]
    async fn add_ticket_type(
        &self,
        caller: Allowed<CreateTicketTypes>,
        event_id: Path<EventId>,
        new: Body<NewTicketType>,
    ) -> Reply<Once<Created<TicketType>>> {
        caller
            .once(&new, async |tx| {
                let made = events::add_ticket_type(tx, event_id.0, new.content.clone()).await?;
                let place = format!("/events/{}/ticket-types/{}", event_id.0, made.id);
                Ok(Created::at(&place, made))
            })
            .await
    }

    /// Read a ticket type
    ///
    /// With what can be bought of it right now.
    ///
    /// Errors: EVENT_NOT_FOUND, TICKET_TYPE_NOT_FOUND
    #[oai(
        path = "/events/:event_id/ticket-types/:ticket_type_id",
        method = "get",
        operation_id = "read_ticket_type"
    )]
    async fn ticket_type(
        &self,
        public: Public,
        event_id: Path<String>,
        ticket_type_id: Path<TicketTypeId>,
    ) -> Reply<Found<TicketTypeNow>> {
        let event = find(&public, &event_id.0).await?;
        let mut types = events::ticket_types(public.app(), &event)
            .await?
            .into_iter();
        let kind = types.find(|kind| kind.ticket_type.id == ticket_type_id.0);
        Ok(Found::new(kind.ok_or(EventError::TicketTypeNotFound)?))
    }

    /// Change a ticket type
    ///
    /// Errors: EVENT_NOT_FOUND, TICKET_TYPE_NOT_FOUND, EVENT_NOT_MODIFIABLE, CAPACITY_BELOW_SOLD,
    /// TICKET_TYPE_HAS_SALES, CONCURRENT_UPDATE, VERSION_REQUIRED
    #[oai(
        path = "/events/:event_id/ticket-types/:ticket_type_id",
        method = "put",
        operation_id = "change_ticket_type"
    )]
    async fn change_ticket_type(
        &self,
        caller: Allowed<WriteTicketTypes>,
        event_id: Path<EventId>,
        ticket_type_id: Path<TicketTypeId>,
        change: Body<TicketTypeChange>,
    ) -> Reply<Found<TicketType>> {
        let seen = caller.seen(change.content.version)?;
        let change = change.content;
        let (event_id, id) = (event_id.0, ticket_type_id.0);
        let quantity = change.quantity.named().flatten();
        let part = Part::TicketType(id);
        let aside = caller.set_aside(event_id, part, quantity).await?;
        let changed = caller
            .change_having(aside, async |tx| {
                events::change_ticket_type(tx, event_id, id, seen, change, aside).await
            })
            .await?;
        Ok(Found::new(changed))
    }

    /// Delete a ticket type
    ///
    /// Only if none of it is sold. An event on sale keeps at least one.
    ///
    /// Errors: EVENT_NOT_FOUND, TICKET_TYPE_NOT_FOUND, EVENT_NOT_MODIFIABLE, EVENT_NOT_READY,
    /// TICKET_TYPE_HAS_SALES, CONCURRENT_UPDATE
    #[oai(
        path = "/events/:event_id/ticket-types/:ticket_type_id",
        method = "delete",
        operation_id = "delete_ticket_type"
    )]
    async fn delete_ticket_type(
        &self,
        caller: Allowed<DeleteTicketTypes>,
        event_id: Path<EventId>,
        ticket_type_id: Path<TicketTypeId>,
    ) -> Reply<Gone> {
        let seen = caller.seen_or_any(None)?;
        let (event_id, id) = (event_id.0, ticket_type_id.0);
        caller
            .change(async |tx| events::delete_ticket_type(tx, event_id, id, seen).await)
            .await?;
        Ok(Gone::Gone)
    }
}
