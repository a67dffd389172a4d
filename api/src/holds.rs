//! Routes of holds.

use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use shared::error::Error;
use shared::holds::{self, Hold, Wanted};
use shared::ids::EventId;

use crate::events::find;
use crate::http::allowed::Public;
use crate::http::answer::{Gone, Made, Once, Reply};
use crate::http::body::Body;
use crate::http::tags::Tag;

/// So often an event may be changed while places of it are being held.
const MOST_TRIES: usize = 5;

/// What somebody wants to buy.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct NewHold {
    event_id: EventId,
    /// Each ticket type once.
    #[oai(validator(min_items = 1, max_items = 50))]
    items: Vec<Wanted>,
}

pub struct Holds;

#[OpenApi(tag = "Tag::Sales")]
impl Holds {
    /// Hold places
    ///
    /// Sets them aside until `expires_at`, all or none; an order on the hold costs what is said here. The hold of a
    /// caller with an account is that account's; any other is whoever's that has the token.
    ///
    /// Errors: EVENT_NOT_FOUND, TICKET_TYPE_NOT_FOUND, INSUFFICIENT_CAPACITY, EVENT_NOT_ON_SALE, SALES_NOT_OPEN,
    /// SALES_ENDED, QUANTITY_LIMIT, TOO_MANY_HOLDS
    #[oai(path = "/holds", method = "post", operation_id = "place_hold")]
    async fn place(&self, public: Public, new: Body<NewHold>) -> Reply<Once<Made<Hold>>> {
        let (app, event_id) = (public.app(), new.content.event_id.to_string());
        let (buyer, items) = (public.buyer(), &new.content.items);
        let mut event = find(&public, &event_id).await?;
        public
            .once_elsewhere(&new, async || {
                for _ in 0..MOST_TRIES {
                    if let Some(hold) = holds::place(app, &event, &buyer, items).await? {
                        return Ok(Made::at(&format!("/holds/{}", hold.token), hold));
                    }
                    event = find(&public, &event_id).await?;
                }
                Err(Error::Unavailable("the event is being changed".into()))
            })
            .await
    }

    /// Read a hold
    ///
    /// Errors: HOLD_EXPIRED, HOLD_ALREADY_USED
    #[oai(path = "/holds/:token", method = "get", operation_id = "read_hold")]
    async fn read(&self, public: Public, token: Path<String>) -> Reply<Json<Hold>> {
        Ok(Json(
            holds::read(public.app(), &public.buyer(), &token.0).await?,
        ))
    }

    /// Extend a hold
    ///
    /// By as long as it was made for, once.
    ///
    /// Errors: HOLD_EXPIRED, HOLD_ALREADY_USED, HOLD_ALREADY_EXTENDED
    #[oai(
        path = "/holds/:token/extend",
        method = "post",
        operation_id = "extend_hold"
    )]
    async fn extend(&self, public: Public, token: Path<String>) -> Reply<Json<Hold>> {
        Ok(Json(
            holds::extend(public.app(), &public.buyer(), &token.0).await?,
        ))
    }

    /// Give a hold back
    ///
    /// Its places are on sale again at once.
    ///
    /// Errors: HOLD_EXPIRED, HOLD_ALREADY_USED
    #[oai(
        path = "/holds/:token",
        method = "delete",
        operation_id = "release_hold"
    )]
    async fn release(&self, public: Public, token: Path<String>) -> Reply<Gone> {
        holds::release(public.app(), &public.buyer(), &token.0).await?;
        Ok(Gone::Gone)
    }
}
