//! Routes of lists of orders.

use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use shared::error::{Invalid, Result};
use shared::events;
use shared::ids::{EventId, UserId};
use shared::orders::{self, EventCancellation, Filter, OrderInList, OrderStatus};
use shared::page::{Page, Paging};

use crate::http::allowed::{Allowed, SignedIn, permissions};
use crate::http::answer::Reply;
use crate::http::tags::Tag;
use crate::orders::CONTACT;

permissions! {
    ReadOrders: "orders" "read";
}

pub struct OrderLists;

#[OpenApi(tag = "Tag::Sales")]
impl OrderLists {
    /// List the orders of an event
    ///
    /// The newest first. Mail addresses are shown to who may see contact data.
    ///
    /// Errors: EVENT_NOT_FOUND
    #[oai(
        path = "/events/:event_id/orders",
        method = "get",
        operation_id = "list_event_orders"
    )]
    async fn of_event(
        &self,
        caller: Allowed<ReadOrders>,
        event_id: Path<EventId>,
        status: Query<Option<OrderStatus>>,
        /// Part of a mail address.
        email: Query<Option<String>>,
        page: Query<Option<u32>>,
        limit: Query<Option<u32>>,
    ) -> Reply<Json<Page<OrderInList>>> {
        let paging = Paging::new(page.0, limit.0)?;
        let mut db = caller.read().await?;
        let organization_id = events::organization_of(&mut db, event_id.0).await?;
        caller.scope().require(organization_id)?;
        let contact = caller.reach(CONTACT).require(organization_id).is_ok();
        let filter = Filter {
            event_id: Some(event_id.0),
            status: status.0,
            email: email.0.filter(|_| contact),
            user_id: None,
        };
        let mut orders = orders::list(&mut db, &filter, paging).await?;
        if !contact {
            orders.items.iter_mut().for_each(|order| order.email = None);
        }
        Ok(Json(orders))
    }

    /// How far it is with a cancelled event
    ///
    /// Cancelling an event calls off the orders that wait, takes all tickets back and returns what they cost: by a job that
    /// goes on where it was cut off. This says how far it has come.
    ///
    /// Errors: EVENT_NOT_FOUND
    #[oai(
        path = "/events/:event_id/cancellation",
        method = "get",
        operation_id = "read_event_cancellation"
    )]
    async fn cancellation(
        &self,
        caller: Allowed<ReadOrders>,
        event_id: Path<EventId>,
    ) -> Reply<Json<EventCancellation>> {
        let mut db = caller.read().await?;
        let undoing = orders::undoing(&mut db, caller.scope(), event_id.0).await?;
        Ok(Json(undoing))
    }

    /// List the orders of an account
    ///
    /// One's own, by `me` or the id; of anybody for platform administrators. The newest first.
    #[oai(
        path = "/users/:user_id/orders",
        method = "get",
        operation_id = "list_user_orders"
    )]
    async fn of_user(
        &self,
        caller: SignedIn,
        user_id: Path<String>,
        status: Query<Option<OrderStatus>>,
        page: Query<Option<u32>>,
        limit: Query<Option<u32>>,
    ) -> Reply<Json<Page<OrderInList>>> {
        let filter = Filter {
            user_id: Some(account(&caller, &user_id.0)?),
            status: status.0,
            ..Filter::default()
        };
        let mut db = caller.read().await?;
        let paging = Paging::new(page.0, limit.0)?;
        Ok(Json(orders::list(&mut db, &filter, paging).await?))
    }
}

/// Whose account a path means.
pub(crate) fn account(caller: &SignedIn, name: &str) -> Result<UserId> {
    let me = caller.person()?.user_id;
    if name == "me" {
        return Ok(me);
    }
    let id = name.parse().map(UserId);
    let id = id.map_err(|_| Invalid::field("user_id", "must be `me` or a valid uuid"))?;
    if id != me {
        caller.must_be_admin()?;
    }
    Ok(id)
}
