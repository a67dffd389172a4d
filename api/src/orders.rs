//! Routes of orders.

use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::{EventStream, Json};
use poem_openapi::{ApiResponse, Object, OpenApi};
use shared::access::{Right, Scope};
use shared::error::{Code, Invalid, Result};
use shared::holds::{HoldError, Wanted};
use shared::ids::{EventId, OrderId, TicketTypeId, UserId};
use shared::orders::{
    self, Attendee, NewOrder, NewPayment, Order, OrderError, OrderStatus, PaymentMethod, Reader,
};
use shared::stock::HoldToken;
use shared::{App, Error};

use crate::events::find;
use crate::http::allowed::Public;
use crate::http::answer::{Found, Once, Reply, Versioned};
use crate::http::body::{Body, Digested};
use crate::http::tags::Tag;

const READ: Right = Right {
    resource: "orders",
    action: "read",
};
const SELL: Right = Right {
    resource: "orders",
    action: "write",
};
pub(crate) const CONTACT: Right = Right {
    resource: "contact_data",
    action: "read",
};
/// How long an answer is waited for at most, and by default.
const LONGEST_WAIT: u64 = 30;
const USUAL_WAIT: u64 = 10;

impl Versioned for Order {
    fn version(&self) -> i64 {
        self.version
    }
}

/// An order that was placed.
#[derive(ApiResponse)]
enum Placed {
    /// It is paid; these are its tickets.
    #[oai(status = 201)]
    Paid(
        Json<Order>,
        /// Where it is from now on.
        #[oai(header = "Location")]
        String,
    ),
    /// It stands, and has no tickets yet. Ask again at `Location`.
    #[oai(status = 202)]
    Waiting(
        Json<Order>,
        /// Where it is from now on.
        #[oai(header = "Location")]
        String,
    ),
}

impl Placed {
    fn of(order: Order) -> Self {
        let place = format!("{}/orders/{}", crate::PREFIX, order.id);
        if order.tickets.is_empty() {
            Self::Waiting(Json(order), place)
        } else {
            Self::Paid(Json(order), place)
        }
    }
}

/// Tickets of one type, held, ordered and paid in one call.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct PurchaseTickets {
    ticket_type_id: TicketTypeId,
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    quantity: i32,
    /// One for each ticket, or one for all.
    #[oai(validator(max_items = 1000))]
    #[oai(default)]
    attendees: Vec<Attendee>,
    /// Where the tickets go; that of the account unless said otherwise.
    #[oai(validator(max_length = 254))]
    email: Option<String>,
    /// Not needed for what is free.
    payment_method: Option<PaymentMethod>,
    /// For `card`: the PaymentMethod of Stripe, `pm_…`.
    #[oai(validator(max_length = 255))]
    payment_token: Option<String>,
}

pub struct Orders;

#[OpenApi(tag = "Tag::Sales")]
impl Orders {
    /// Place an order
    ///
    /// On a hold, or on `items` of an event, which are held and ordered in one call. It is paid and given its tickets a
    /// moment later: ask again at `Location`, or send `Prefer: wait=10` to hear the outcome at once. A hold makes one
    /// order. Whoever has no account names an `email`, and is told the `secret` that opens the order.
    ///
    /// Errors: EVENT_NOT_FOUND, TICKET_TYPE_NOT_FOUND, INSUFFICIENT_CAPACITY, EVENT_NOT_ON_SALE, SALES_NOT_OPEN,
    /// SALES_ENDED, QUANTITY_LIMIT, TOO_MANY_HOLDS, HOLD_EXPIRED, HOLD_ALREADY_USED, PAYMENT_DECLINED, CONCURRENT_UPDATE
    #[oai(path = "/orders", method = "post", operation_id = "place_order")]
    async fn place(
        &self,
        public: Public,
        /// `wait=10` waits so many seconds for the outcome, at most 30.
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        new: Body<NewOrder>,
    ) -> Reply<Once<Placed>> {
        let event_id = event_of(&new.content)?;
        let answer = place(&public, event_id, &new, new.content.clone()).await?;
        match waiting(prefer.0.as_deref()) {
            Some(at_most) => outcome(&public, answer, at_most).await,
            None => Ok(answer),
        }
    }

    /// Buy tickets in one call
    ///
    /// Holds, orders and pays, and waits for the outcome, 10 seconds unless `Prefer: wait` says otherwise.
    ///
    /// Errors: EVENT_NOT_FOUND, TICKET_TYPE_NOT_FOUND, INSUFFICIENT_CAPACITY, EVENT_NOT_ON_SALE, SALES_NOT_OPEN,
    /// SALES_ENDED, QUANTITY_LIMIT, TOO_MANY_HOLDS, PAYMENT_DECLINED, CONCURRENT_UPDATE
    #[oai(
        path = "/events/:event_id/tickets/purchase",
        method = "post",
        operation_id = "purchase_tickets"
    )]
    async fn purchase(
        &self,
        public: Public,
        event_id: Path<EventId>,
        /// `wait=10` waits so many seconds for the outcome, at most 30.
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        new: Body<PurchaseTickets>,
    ) -> Reply<Once<Placed>> {
        let order = order_of(event_id.0, &new.content);
        let answer = place(&public, event_id.0, &new, order).await?;
        let at_most = waiting(prefer.0.as_deref()).unwrap_or(Duration::from_secs(USUAL_WAIT));
        outcome(&public, answer, at_most).await
    }

    /// Read an order
    ///
    /// For its buyer by account or by secret, and for who may read the orders of the organization; how to reach people is
    /// shown to those who may see contact data, and of who comes to a sensitive event the initials. With `wait` the
    /// answer comes when the order is no longer `pending`, or no longer of the version in `If-None-Match`, or when so
    /// many seconds are over.
    ///
    /// Errors: ORDER_NOT_FOUND
    #[oai(
        path = "/orders/:order_id",
        method = "get",
        operation_id = "read_order"
    )]
    async fn read(
        &self,
        public: Public,
        order_id: Path<OrderId>,
        /// What opens the order to a guest; may stand in the header `Order-Secret` instead.
        secret: Query<Option<String>>,
        #[oai(name = "Order-Secret")] order_secret: Header<Option<String>>,
        /// In seconds.
        #[oai(validator(maximum(value = "30")))]
        wait: Query<Option<u64>>,
        #[oai(name = "If-None-Match")] seen: Header<Option<String>>,
    ) -> Reply<Found<Order>> {
        let secret = secret.0.or(order_secret.0);
        let reader = reader(&public, secret.as_deref());
        let at_most = Duration::from_secs(wait.0.unwrap_or(0));
        let seen: Option<i64> = seen.0.and_then(|tag| tag.trim_matches('"').parse().ok());
        let news = |order: &Order| match seen {
            Some(version) => order.version != version,
            None => order.status != OrderStatus::Pending,
        };
        let order = orders::wait(public.app(), &reader, order_id.0, at_most, news).await?;
        Ok(Found::new(order))
    }

    /// Follow an order
    ///
    /// Server-sent events: the order as it is, then again with every change, until it waits for nothing any more. The
    /// stream ends, too, when what let you see the order does (your session, your key, your rights), and after some minutes:
    /// connect again. A caller and a network may follow so many streams at a time and no more.
    ///
    /// Errors: ORDER_NOT_FOUND
    #[oai(
        path = "/orders/:order_id/stream",
        method = "get",
        operation_id = "follow_order"
    )]
    async fn follow(
        &self,
        public: Public,
        order_id: Path<OrderId>,
        /// What opens the order to a guest.
        #[oai(name = "Order-Secret")]
        order_secret: Header<Option<String>>,
    ) -> Reply<EventStream<BoxStream<'static, Order>>> {
        let secret = public.order_secret(order_secret.0);
        let following = Following {
            app: public.app().clone(),
            user_id: public.user_id(),
            scope: public.reach(READ),
            contact: public.reach(CONTACT),
            secret,
            order_id: order_id.0,
            seen: None,
            over: false,
        };
        // Whoever may not see it hears so at once.
        orders::read(&following.app, &following.reader(), order_id.0).await?;
        let news = stream::unfold(following, Following::next);
        Ok(public.stream(&[READ, CONTACT], news)?)
    }
}

pub(crate) fn reader<'a>(public: &Public, secret: Option<&'a str>) -> Reader<'a> {
    Reader {
        user_id: public.user_id(),
        secret,
        scope: public.reach(READ),
        contact: public.reach(CONTACT),
        placed: None,
    }
}

fn event_of(new: &NewOrder) -> Result<EventId> {
    match (&new.hold_token, new.event_id) {
        (Some(_), _) if !new.items.is_empty() => {
            Err(Invalid::field("items", "are those of the hold if `hold_token` is given").into())
        }
        (Some(token), named) => {
            let token = HoldToken::decode(token).ok_or(HoldError::Expired)?;
            if named.is_some_and(|named| named != token.event_id) {
                return Err(Invalid::field("event_id", "is another than that of the hold").into());
            }
            Ok(token.event_id)
        }
        (None, Some(event_id)) => Ok(event_id),
        (None, None) => {
            Err(Invalid::field("hold_token", "or `event_id` and `items` must be given").into())
        }
    }
}

fn order_of(event_id: EventId, new: &PurchaseTickets) -> NewOrder {
    NewOrder {
        hold_token: None,
        event_id: Some(event_id),
        items: vec![Wanted {
            ticket_type_id: new.ticket_type_id,
            quantity: new.quantity,
        }],
        attendees: new.attendees.clone(),
        email: new.email.clone(),
        payment: new.payment_method.map(|method| NewPayment {
            method,
            token: new.payment_token.clone(),
            return_url: None,
        }),
    }
}

async fn place(
    public: &Public,
    event_id: EventId,
    body: &impl Digested,
    new: NewOrder,
) -> Reply<Once<Placed>> {
    let changed = |answer: &Reply<_>| matches!(answer, Err(failure) if failure.0.code() == Code::ConcurrentUpdate);
    let answer = try_to_place(public, event_id, body, new.clone()).await;
    if changed(&answer) {
        // What we remembered of the event was no longer so; it is read anew now.
        return try_to_place(public, event_id, body, new).await;
    }
    answer
}

async fn try_to_place(
    public: &Public,
    event_id: EventId,
    body: &impl Digested,
    new: NewOrder,
) -> Reply<Once<Placed>> {
    let (app, buyer) = (public.app(), public.buyer());
    public
        .once_having(
            body,
            async |seed| {
                let event = find(public, &event_id.to_string()).await?;
                let organization_id = event.event.organization_id;
                let sells = public.reach(SELL).require(organization_id).is_ok();
                orders::prepare(app, &event, &buyer, sells, new, seed).await
            },
            async |tx, order| Ok(Placed::of(orders::place(app, tx, order).await?)),
            async |by, order| Ok(Placed::of(orders::place_together(app, order, by).await?)),
            async |order, because| order.withdraw(app, because).await,
        )
        .await
}

/// How long a caller prefers to wait for the end, if they do.
fn waiting(prefer: Option<&str>) -> Option<Duration> {
    let mut wishes = prefer?.split(',').map(str::trim);
    let wish = wishes.find_map(|wish| wish.strip_prefix("wait"))?;
    let seconds = wish
        .trim_start_matches([' ', '='])
        .parse()
        .unwrap_or(USUAL_WAIT);
    Some(Duration::from_secs(seconds.min(LONGEST_WAIT)))
}

/// The answer when it is known what becomes of the order, or as it is when the time is over.
async fn outcome(public: &Public, answer: Once<Placed>, at_most: Duration) -> Reply<Once<Placed>> {
    let Some(id) = answer.made().and_then(|id| id.parse().ok()).map(OrderId) else {
        return Ok(answer);
    };
    let placer = Reader {
        placed: Some(id),
        ..reader(public, None)
    };
    let settled = |order: &Order| order.status != OrderStatus::Pending;
    let order = orders::wait(public.app(), &placer, id, at_most, settled).await?;
    match (order.status, &order.reason) {
        (OrderStatus::Failed, Some(code)) if order.paid == 0 => {
            Err(Error::from(OrderError::Declined {
                order_id: id,
                decline_code: code.clone(),
            })
            .into())
        }
        _ => Ok(answer.instead(Placed::of(order))),
    }
}

/// Somebody who follows an order.
struct Following {
    app: App,
    user_id: Option<UserId>,
    scope: Scope,
    contact: Scope,
    secret: Option<String>,
    order_id: OrderId,
    seen: Option<i64>,
    over: bool,
}

impl Following {
    /// Nobody waits longer without hearing of the order anew.
    const PATIENCE: Duration = Duration::from_mins(5);

    fn reader(&self) -> Reader<'_> {
        Reader {
            user_id: self.user_id,
            secret: self.secret.as_deref(),
            scope: self.scope.clone(),
            contact: self.contact.clone(),
            placed: None,
        }
    }

    async fn next(mut self) -> Option<(Order, Self)> {
        if self.over {
            return None;
        }
        let seen = self.seen;
        let news = move |order: &Order| Some(order.version) != seen;
        let (reader, id) = (self.reader(), self.order_id);
        let order = orders::wait(&self.app, &reader, id, Self::PATIENCE, news)
            .await
            .ok()?;
        self.seen = Some(order.version);
        self.over = !order.status.waits();
        Some((order, self))
    }
}
