//! Routes of tickets.

use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::{Binary, Json, PlainText};
use poem_openapi::{ApiResponse, Object, OpenApi};
use shared::access::{AccessError, Caller, Right, Scope};
use shared::error::{Invalid, Result};
use shared::ids::{TicketId, UserId};
use shared::orders::{self, Back, Cancellation, Reader, Seen, TicketDetails, TicketStatus, Wallet};
use shared::page::{Page, Paging};

use crate::http::allowed::{Allowed, Permission, Public, Scheme};
use crate::http::answer::{Found, Reply, Versioned};
use crate::http::body::Body;
use crate::http::tags::Tag;
use crate::orders::CONTACT;

const READ: Right = Right {
    resource: "registrations",
    action: "read",
};
const REFUND: Right = Right {
    resource: "refunds",
    action: "create",
};

/// Whoever has a picture of a code can enter: nobody on the way keeps a copy.
const KEEP_NONE: &str = "private, no-store";

/// For people, about their own tickets, and for whoever may see who comes to an organization's events.
struct ReadWallets;

impl Permission for ReadWallets {
    const SCHEMES: &'static [Scheme] = &[Scheme::Bearer, Scheme::ApiKey];

    fn scope(caller: &Caller) -> Result<Scope> {
        match (caller.person(), caller.scope(READ)) {
            (Ok(_), scope) => Ok(scope.unwrap_or_else(|_| Scope::nothing())),
            (Err(_), scope) => scope,
        }
    }
}

impl Versioned for TicketDetails {
    fn version(&self) -> i64 {
        self.ticket.version
    }
}

#[derive(ApiResponse)]
enum Svg {
    /// The code as a picture.
    #[oai(status = 200, content_type = "image/svg+xml")]
    Picture(
        PlainText<String>,
        /// `private, no-store`.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

#[derive(ApiResponse)]
enum Png {
    /// The code as a picture.
    #[oai(status = 200, content_type = "image/png")]
    Picture(
        Binary<Vec<u8>>,
        /// `private, no-store`.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

#[derive(Object)]
#[oai(deny_unknown_fields)]
struct CancelTicket {
    /// For the feed, and for whoever asks later.
    #[oai(validator(max_length = 500))]
    reason: Option<String>,
}

pub struct Tickets;

#[OpenApi(tag = "Tag::Sales")]
impl Tickets {
    /// Read a ticket
    ///
    /// For whoever has it, by account or by the secret of its order, and for who may see the registrations of the
    /// organization. Those see how to reach the attendee if they may see contact data, and of who comes to a sensitive
    /// event the initials.
    ///
    /// Errors: TICKET_NOT_FOUND
    #[oai(
        path = "/tickets/:ticket_id",
        method = "get",
        operation_id = "read_ticket"
    )]
    async fn read(
        &self,
        public: Public,
        ticket_id: Path<TicketId>,
        /// What opens the order to a guest; may stand in the header `Order-Secret` instead.
        secret: Query<Option<String>>,
        #[oai(name = "Order-Secret")] order_secret: Header<Option<String>>,
    ) -> Reply<Found<TicketDetails>> {
        let secret = secret.0.or(order_secret.0);
        let seen = find(&public, secret.as_deref(), ticket_id.0).await?;
        Ok(Found::with_more(seen.ticket))
    }

    /// Show a ticket's QR code
    ///
    /// As SVG. A ticket that was given back has none.
    ///
    /// Errors: TICKET_NOT_FOUND, TICKET_NOT_VALID
    #[oai(
        path = "/tickets/:ticket_id/qr.svg",
        method = "get",
        operation_id = "read_ticket_qr_svg"
    )]
    async fn svg(
        &self,
        public: Public,
        ticket_id: Path<TicketId>,
        /// What opens the order to a guest.
        #[oai(name = "Order-Secret")]
        order_secret: Header<Option<String>>,
    ) -> Reply<Svg> {
        let secret = public.order_secret(order_secret.0);
        let seen = find(&public, secret.as_deref(), ticket_id.0).await?;
        let picture = PlainText(seen.ticket.ticket.svg()?);
        Ok(Svg::Picture(picture, KEEP_NONE.into()))
    }

    /// Show a ticket's QR code as PNG
    ///
    /// A ticket that was given back has none.
    ///
    /// Errors: TICKET_NOT_FOUND, TICKET_NOT_VALID
    #[oai(
        path = "/tickets/:ticket_id/qr.png",
        method = "get",
        operation_id = "read_ticket_qr_png"
    )]
    async fn png(
        &self,
        public: Public,
        ticket_id: Path<TicketId>,
        /// What opens the order to a guest.
        #[oai(name = "Order-Secret")]
        order_secret: Header<Option<String>>,
    ) -> Reply<Png> {
        let secret = public.order_secret(order_secret.0);
        let seen = find(&public, secret.as_deref(), ticket_id.0).await?;
        let picture = Binary(seen.ticket.ticket.png()?);
        Ok(Png::Picture(picture, KEEP_NONE.into()))
    }

    /// See what giving a ticket back would bring
    ///
    /// To its buyer by the policy that was frozen with the order; to an organizer who may give refunds, what it cost.
    ///
    /// Errors: TICKET_NOT_FOUND
    #[oai(
        path = "/tickets/:ticket_id/cancellation",
        method = "get",
        operation_id = "quote_ticket_cancellation"
    )]
    async fn cancellation(
        &self,
        public: Public,
        ticket_id: Path<TicketId>,
        /// What opens the order to a guest; may stand in the header `Order-Secret` instead.
        secret: Query<Option<String>>,
        #[oai(name = "Order-Secret")] order_secret: Header<Option<String>>,
    ) -> Reply<Json<Cancellation>> {
        let secret = secret.0.or(order_secret.0);
        let seen = find(&public, secret.as_deref(), ticket_id.0).await?;
        let (order_id, only) = (seen.ticket.ticket.order_id, Some(ticket_id.0));
        // Whoever may only look sees what its buyer would get.
        let back = terms(&public, &seen).unwrap_or(Back::ByPolicy);
        let (now, mut db) = (public.now(), public.read().await?);
        let quote = orders::cancellation(&mut db, order_id, only, back, now).await?;
        Ok(Json(quote))
    }

    /// Give a ticket back
    ///
    /// Its place is on sale again at once, and its code opens no door any more. What `cancellation` says goes back.
    /// Giving it back again changes nothing, and is answered in the same way.
    ///
    /// Errors: TICKET_NOT_FOUND, ORDER_NOT_MODIFIABLE, CANCELLATION_CLOSED, FORBIDDEN
    #[oai(
        path = "/tickets/:ticket_id/cancel",
        method = "put",
        operation_id = "cancel_ticket"
    )]
    async fn cancel(
        &self,
        public: Public,
        ticket_id: Path<TicketId>,
        /// What opens the order to a guest; may stand in the header `Order-Secret` instead.
        secret: Query<Option<String>>,
        #[oai(name = "Order-Secret")] order_secret: Header<Option<String>>,
        cancel: Body<CancelTicket>,
    ) -> Reply<Found<TicketDetails>> {
        let (id, secret) = (ticket_id.0, secret.0.or(order_secret.0));
        let seen = find(&public, secret.as_deref(), id).await?;
        let back = terms(&public, &seen)?;
        let by = if back == Back::Whole {
            "organizer"
        } else {
            "buyer"
        };
        let reason = cancel.content.reason.as_deref().unwrap_or(by);
        orders::check_reason(reason)?;
        public
            .change(async |tx| orders::give_up_ticket(tx, id, back, reason).await)
            .await?;
        let seen = find(&public, secret.as_deref(), id).await?;
        Ok(Found::with_more(seen.ticket))
    }

    /// List the tickets of an account
    ///
    /// What comes next first, then what is over. `me` stands for the caller; platform administrators see those of
    /// anybody, and who may see the registrations of an organization those for its events.
    #[oai(
        path = "/users/:user_id/tickets",
        method = "get",
        operation_id = "list_user_tickets"
    )]
    async fn wallet(
        &self,
        caller: Allowed<ReadWallets>,
        user_id: Path<String>,
        /// `true`: for events that are not over; `false`: for those that are.
        upcoming: Query<Option<bool>>,
        status: Query<Option<TicketStatus>>,
        page: Query<Option<u32>>,
        limit: Query<Option<u32>>,
    ) -> Reply<Json<Page<TicketDetails>>> {
        let paging = Paging::new(page.0, limit.0)?;
        let (user_id, within) = whose(&caller, &user_id.0)?;
        let wallet = Wallet {
            user_id,
            upcoming: upcoming.0,
            status: status.0,
            within,
        };
        let (contact, now) = (caller.reach(CONTACT), caller.now());
        let cipher = &caller.app().cipher;
        let mut db = caller.read().await?;
        let tickets = orders::wallet(&mut db, cipher, &wallet, &contact, now, paging).await?;
        Ok(Json(tickets))
    }
}

/// A ticket, if the caller has it, or may see those of the organization or give refunds there.
async fn find(public: &Public, secret: Option<&str>, id: TicketId) -> Result<Seen> {
    let reader = Reader {
        user_id: public.user_id(),
        secret,
        scope: either(public.reach(READ), public.reach(REFUND)),
        contact: public.reach(CONTACT),
        placed: None,
    };
    let mut db = public.read().await?;
    orders::ticket(&mut db, &public.app().cipher, &reader, id).await
}

fn either(one: Scope, other: Scope) -> Scope {
    match (one, other) {
        (Scope::Organizations(mut one), Scope::Organizations(other)) => {
            one.extend(other);
            Scope::Organizations(one)
        }
        _ => Scope::Everything,
    }
}

/// How much of its price the caller may have given back for a ticket.
fn terms(public: &Public, seen: &Seen) -> Result<Back> {
    let organizer = public.reach(REFUND).require(seen.organization_id).is_ok();
    match (organizer, seen.own) {
        (true, _) => Ok(Back::Whole),
        (false, true) => Ok(Back::ByPolicy),
        (false, false) => Err(AccessError::Forbidden.into()),
    }
}

/// Whose wallet a path means, and the bounds within which it is seen; none for one's own.
fn whose(caller: &Allowed<ReadWallets>, name: &str) -> Result<(UserId, Option<Scope>)> {
    let me = caller.user_id();
    let id = match (name, me) {
        ("me", Some(me)) => me,
        ("me", None) => return Err(AccessError::NoPerson.into()),
        _ => {
            let id = name.parse().map(UserId);
            id.map_err(|_| Invalid::field("user_id", "must be `me` or a valid uuid"))?
        }
    };
    if Some(id) == me {
        return Ok((id, None));
    }
    match caller.scope() {
        Scope::Organizations(ids) if ids.is_empty() => Err(AccessError::Forbidden.into()),
        bounds => Ok((id, Some(bounds.clone()))),
    }
}
