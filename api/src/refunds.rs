//! Routes of what becomes of an order later: calling it off, giving money back, marking it paid.

use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use shared::access::Right;
use shared::error::{Invalid, Result};
use shared::ids::{OrderId, TicketId};
use shared::orders::refunds::Refund;
use shared::orders::{self, Back, Given, Order, OrderError, OrderStatus, Reader};

use crate::http::allowed::{Allowed, Permission, Public, permissions};
use crate::http::answer::{Created, Found, Made, Once, Reply};
use crate::http::body::Body;
use crate::http::tags::Tag;
use crate::orders::{CONTACT, reader};

permissions! {
    TakePayments: "orders" "write";
    GiveRefunds: "refunds" "create";
}

const REFUND: Right = Right {
    resource: "refunds",
    action: "create",
};
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct CancelOrder {
    /// For the feed, and for whoever asks later.
    #[oai(validator(max_length = 500))]
    reason: Option<String>,
}

/// Money to give back: for some tickets, some amount, or everything.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct NewRefund {
    /// Tickets to take back: what they cost goes back, and their places are on sale again.
    #[oai(validator(max_items = 1000))]
    items: Option<Vec<TicketId>>,
    /// In the minor unit of the currency. The tickets stay good, unless nothing of what was paid is left.
    #[oai(validator(minimum(value = "1")))]
    amount: Option<i64>,
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

/// Money that came by hand.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct NewManualPayment {
    /// What is on the bank statement or the receipt.
    #[oai(validator(max_length = 200))]
    reference: Option<String>,
}

pub struct Refunds;

#[OpenApi(tag = "Tag::Sales")]
impl Refunds {
    /// Cancel an order
    ///
    /// One that waits is called off. Of a paid one all tickets are given back: by its buyer, what the policy that was
    /// frozen with the order says comes back; by the organizer, everything. The places are on sale again at once.
    ///
    /// Errors: ORDER_NOT_FOUND, ORDER_NOT_MODIFIABLE, CANCELLATION_CLOSED
    #[oai(
        path = "/orders/:order_id/cancel",
        method = "put",
        operation_id = "cancel_order"
    )]
    async fn cancel(
        &self,
        public: Public,
        order_id: Path<OrderId>,
        /// What opens the order to a guest; may stand in the header `Order-Secret` instead.
        secret: Query<Option<String>>,
        #[oai(name = "Order-Secret")] order_secret: Header<Option<String>>,
        cancel: Body<CancelOrder>,
    ) -> Reply<Found<Order>> {
        let (app, id) = (public.app(), order_id.0);
        let secret = secret.0.or(order_secret.0);
        let reader = Reader {
            scope: public.reach(REFUND),
            ..reader(&public, secret.as_deref())
        };
        let order = orders::read(app, &reader, id).await?;
        let by_organizer = reader.scope.require(order.organization_id).is_ok();
        let (back, by) = if by_organizer {
            (Back::Whole, "organizer")
        } else {
            (Back::ByPolicy, "buyer")
        };
        let reason = cancel.content.reason.as_deref().unwrap_or(by);
        orders::check_reason(reason)?;
        orders::pay::call_off(app, id, reason).await?;
        let order = orders::read(app, &reader, id).await?;
        if matches!(order.status, OrderStatus::Cancelled | OrderStatus::Refunded) {
            return Ok(Found::new(order));
        }
        public
            .change(async |tx| orders::give_up(tx, id, &Given::All, back, reason).await)
            .await?;
        Ok(Found::new(orders::read(app, &reader, id).await?))
    }

    /// List the refunds of an order
    ///
    /// Errors: ORDER_NOT_FOUND
    #[oai(
        path = "/orders/:order_id/refunds",
        method = "get",
        operation_id = "list_refunds"
    )]
    async fn refunds(
        &self,
        public: Public,
        order_id: Path<OrderId>,
        /// What opens the order to a guest; may stand in the header `Order-Secret` instead.
        secret: Query<Option<String>>,
        #[oai(name = "Order-Secret")] order_secret: Header<Option<String>>,
    ) -> Reply<Json<Vec<Refund>>> {
        let secret = secret.0.or(order_secret.0);
        let reader = reader(&public, secret.as_deref());
        orders::read(public.app(), &reader, order_id.0).await?;
        let mut db = public.read().await?;
        Ok(Json(orders::refunds::list(&mut db, order_id.0).await?))
    }

    /// Give money back
    ///
    /// For the tickets in `items`, or the `amount`, or everything if neither is named. It is on its way when this is
    /// answered: the list of refunds tells how far.
    ///
    /// Errors: ORDER_NOT_FOUND, TICKET_NOT_FOUND, ORDER_NOT_MODIFIABLE, REFUND_EXCEEDS_PAYMENT
    #[oai(
        path = "/orders/:order_id/refunds",
        method = "post",
        operation_id = "refund_order"
    )]
    async fn refund(
        &self,
        caller: Allowed<GiveRefunds>,
        order_id: Path<OrderId>,
        new: Body<NewRefund>,
    ) -> Reply<Once<Made<Refund>>> {
        let (given, back) = meant(&new.content)?;
        orders::check_reason(&new.content.reason)?;
        orders::read(caller.app(), &organizer(&caller), order_id.0).await?;
        caller
            .once(&new, async |tx| {
                let reason = &new.content.reason;
                let refund = orders::give_up(tx, order_id.0, &given, back, reason).await?;
                let refund = refund.ok_or(OrderError::NothingToRefund)?;
                Ok(Made::at(&format!("/orders/{}/refunds", order_id.0), refund))
            })
            .await
    }

    /// Mark an order as paid by hand
    ///
    /// Of one that is paid by bank transfer or at the door. Marking it twice counts the money once. One that has expired
    /// is paid after all if its places can still be had.
    ///
    /// Errors: ORDER_NOT_FOUND, ORDER_NOT_MODIFIABLE
    #[oai(
        path = "/orders/:order_id/payments",
        method = "post",
        operation_id = "mark_order_paid"
    )]
    async fn pay(
        &self,
        caller: Allowed<TakePayments>,
        order_id: Path<OrderId>,
        new: Body<NewManualPayment>,
    ) -> Reply<Once<Created<Order>>> {
        let (app, id, reader) = (caller.app(), order_id.0, organizer(&caller));
        orders::read(app, &reader, id).await?;
        caller
            .once_elsewhere(&new, async || {
                orders::mark_paid(app, id, new.content.reference.clone()).await?;
                let order = orders::read(app, &reader, id).await?;
                Ok(Created::at(&format!("/orders/{id}"), order))
            })
            .await
    }
}

fn organizer<P: Permission>(caller: &Allowed<P>) -> Reader<'static> {
    Reader {
        user_id: None,
        secret: None,
        scope: caller.scope().clone(),
        contact: caller.reach(CONTACT),
        placed: None,
    }
}

fn meant(new: &NewRefund) -> Result<(Given, Back)> {
    match (&new.items, new.amount) {
        (Some(_), Some(_)) => {
            Err(Invalid::field("amount", "cannot be named beside `items`").into())
        }
        (Some(items), None) => Ok((Given::These(items.clone()), Back::Whole)),
        (None, Some(amount)) => Ok((Given::None, Back::Amount(amount))),
        (None, None) => Ok((Given::All, Back::Everything)),
    }
}
