//! Orders: from held places to paid tickets.
//!
//! | part | what |
//! |---|---|
//! | this file | what can go wrong, and reading an order |
//! | `prepare` | what is wanted, looked at and held: nothing is written |
//! | `placing` | writing it, together with those that are placed at the same moment |
//! | `status` | where an order stands, and what an outcome of its payment makes of it: pure |
//! | `pay` | the conversation with Stripe, without a transaction |
//! | `secure` | whether an order still has the places it is about to be charged for |
//! | `settle` | the one place where orders end, however one hears of their payment |
//! | `cancel`, `undoing` | calling off, and giving tickets back; how far it is for a whole event |
//! | `wallet` | a ticket as its owner and its organizer see it |
//! | `confirm`, `news`, `letter` | the mails: with the tickets, and of what became of them |
//! | `refunds` | money on its way back |
//! | `plain` | secrets that the version before has written in plain |
//! | `heard`, `disputes` | what Stripe tells by itself |
//! | `chase` | asking after all that wait |
//! | `waiting` | those who wait for an order's end |
//!
//! An order has the id of its hold, so one hold makes one order. Placing it touches no hot row: its places are held in
//! Redis, do not lapse any more, and are taken from the pools when it is paid.

pub mod audit;
mod cancel;
mod chase;
mod confirm;
mod disputes;
mod heard;
pub mod jobs;
mod letter;
mod list;
mod news;
mod order;
pub mod pay;
mod placing;
mod plain;
mod prepare;
pub mod refunds;
mod secure;
mod settle;
mod status;
mod store;
pub mod stray_payments;
mod tickets;
mod undoing;
mod waiting;
mod wallet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use cancel::{
    Back, Cancellation, Given, cancellation, give_up, give_up_if_sold, give_up_ticket, mark_paid,
    open_of,
};
pub use chase::{Chased, chase};
pub use confirm::confirm;
pub use heard::{forget_heard, hear, heard};
pub use list::{Filter, OrderInList, list};
pub use news::tell;
pub use order::{Attendee, NewOrder, NewPayment, Order, PaymentMethod};
pub(crate) use placing::Placing;
pub use placing::{place, place_together};
pub use plain::encrypt_plain;
pub use prepare::{PlacedOrder, prepare};
pub use settle::{Settled, Settlement, settle};
pub use status::{Claim, OrderStatus, Outcome, Provider, Received};
pub use tickets::{Ticket, TicketStatus};
pub use undoing::{EventCancellation, undoing};
pub use waiting::wait;
pub(crate) use waiting::{Waiting, announce};
pub use wallet::{Seen, TicketDetails, TicketEvent, TicketSession, Wallet, ticket, wallet};

use crate::access::Scope;
use crate::app::App;
use crate::encryption::Place;
use crate::error::{Code, Fault, Invalid, Result};
use crate::ids::{EventId, OrderId, TicketTypeId, UserId};
use crate::stock::{self, NewHold, Proof};
use crate::tx::Tx;

/// Why an order is over whose event does not take place.
pub const EVENT_CANCELLED: &str = "event_cancelled";

const SOLD_OUT: &str = "sold_out";
const PAID_LATE: &str = "paid_late";

/// What somebody says of why they give an order back must not be taken for what we say ourselves.
pub fn check_reason(reason: &str) -> Result<()> {
    if [EVENT_CANCELLED, SOLD_OUT, PAID_LATE].contains(&reason.trim()) {
        return Err(Invalid::field("reason", "has a meaning of its own; use other words").into());
    }
    Ok(())
}

fn had(already: Option<i64>) -> String {
    already.map_or_else(String::new, |already| {
        format!(", and has {already} already")
    })
}

#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("There is no such order, or it is not yours.")]
    NotFound,
    #[error("There is no such ticket, or it is not yours.")]
    TicketNotFound,
    #[error("The ticket was given back.")]
    TicketNotValid { status: TicketStatus },
    #[error("There is an order on the hold already.")]
    HoldUsed { order_id: OrderId },
    #[error("One buyer may have {most} of them{}.", had(*already))]
    BuyerLimit {
        ticket_type_id: TicketTypeId,
        most: i32,
        /// How many they have, for a buyer whose own address it is; others are told nothing of what an address has bought.
        already: Option<i64>,
    },
    #[error("The payment was declined.")]
    Declined {
        order_id: OrderId,
        decline_code: String,
    },
    #[error("More would go back than was paid.")]
    RefundExceedsPayment,
    #[error("Nothing that was paid for it is left to give back.")]
    NothingToRefund,
    #[error("The order is {}: this cannot be done any more.", .status.name())]
    NotPossible { status: OrderStatus },
    #[error("The time in which it could be given back is over.")]
    TooLate,
    #[error("Your bank wants the payment back: ask the organizer.")]
    Disputed,
    #[error("The order was not written in time; nothing came of it. Send it again.")]
    TooSlow,
    #[error("The event was changed in this very moment.")]
    OfferChanged { current: i64 },
}

impl Fault for OrderError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::OrderNotFound,
            Self::TicketNotFound => Code::TicketNotFound,
            Self::TicketNotValid { .. } => Code::TicketNotValid,
            Self::HoldUsed { .. } => Code::HoldAlreadyUsed,
            Self::BuyerLimit { .. } => Code::QuantityLimit,
            Self::Declined { .. } => Code::PaymentDeclined,
            Self::RefundExceedsPayment | Self::NothingToRefund => Code::RefundExceedsPayment,
            Self::NotPossible { .. } | Self::Disputed => Code::OrderNotModifiable,
            Self::TooLate => Code::CancellationClosed,
            Self::OfferChanged { .. } | Self::TooSlow => Code::ConcurrentUpdate,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::HoldUsed { order_id } => json!({ "order_id": order_id }),
            Self::BuyerLimit {
                ticket_type_id,
                most,
                already,
            } => {
                let mut details = json!({ "ticket_type_id": ticket_type_id, "max": most });
                if let Some(already) = already {
                    details["already"] = json!(already);
                }
                details
            }
            Self::Declined {
                order_id,
                decline_code,
            } => json!({ "decline_code": decline_code, "order_id": order_id }),
            Self::TicketNotValid { status } => json!({ "status": status }),
            Self::NotPossible { status } => json!({ "status": status }),
            Self::OfferChanged { current } => json!({ "current_version": current }),
            _ => json!({}),
        }
    }
}

/// What Redis needs to hold an order's places again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptHold {
    pub buyer: String,
    /// As they were when it was placed; what its ticket types draw on now decides.
    pub parts: Vec<(Uuid, i32)>,
    pub items: Vec<(TicketTypeId, i32)>,
    pub proof: Proof,
}

/// What the orders of an event that wait for their payment hold.
pub(crate) async fn waiting_of(
    db: &mut PgConnection,
    event_id: EventId,
) -> Result<Vec<stock::Waiting>> {
    let orders = store::waiting_of(db, event_id).await?.into_iter();
    let waiting = orders.map(|(id, deadline, kept)| stock::Waiting {
        id,
        buyer: kept.buyer,
        deadline: deadline.timestamp_millis(),
        items: kept.items,
        proof: kept.proof,
        sale: String::new(),
    });
    Ok(waiting.collect())
}

impl KeptHold {
    fn of(hold: &NewHold) -> Self {
        Self {
            buyer: hold.buyer.clone(),
            parts: hold.parts.clone(),
            items: hold.items.clone(),
            proof: hold.proof.clone(),
        }
    }

    fn hold(
        self,
        id: OrderId,
        event_id: EventId,
        now: DateTime<Utc>,
        parts: Vec<(Uuid, i32)>,
    ) -> NewHold {
        NewHold {
            event_id,
            id,
            buyer: self.buyer,
            deadline: now,
            ordered: true,
            parts,
            items: self.items,
            proof: self.proof,
            sale: String::new(),
            most_holds: u32::MAX,
            writer: None,
        }
    }
}

/// Who asks for an order.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    pub user_id: Option<UserId>,
    /// What opens it to a guest.
    pub secret: Option<&'a str>,
    /// Where the caller may read all orders.
    pub scope: Scope,
    /// Where they may also see how to reach people.
    pub contact: Scope,
    /// Placed it in this very request.
    pub placed: Option<OrderId>,
}

/// An order, if it is the reader's, or of an organization whose orders they may read. Those see of the people what they
/// may see.
pub async fn read(app: &App, reader: &Reader<'_>, id: OrderId) -> Result<Order> {
    let found = store::read(&mut *app.read().await?, &app.cipher, id).await?;
    let kept = found.ok_or(OrderError::NotFound)?;
    let mut order = kept.order;
    let theirs = reader.user_id.is_some() && reader.user_id == order.user_id;
    let opened = reader.secret.is_some_and(|told| kept.secret.is(told));
    let guest = opened || reader.placed == Some(order.id);
    if theirs || guest {
        if guest && order.user_id.is_none() {
            let place = Place::OrderSecret(order.id.0);
            order.secret = Some(kept.secret.reveal(&app.cipher, place)?);
        }
        return Ok(order);
    }
    let seen = reader.scope.require(order.organization_id);
    seen.map_err(|_| OrderError::NotFound)?;
    let contact = reader.contact.require(order.organization_id).is_ok();
    order.email = order.email.filter(|_| contact);
    for ticket in &mut order.tickets {
        ticket.attendee.backstage(contact, kept.is_sensitive);
    }
    Ok(order)
}

/// The orders that wait and have not been asked after since `before`, marked as asked after now.
pub async fn to_ask(tx: &mut Tx, before: DateTime<Utc>, limit: i64) -> Result<Vec<OrderId>> {
    let now = tx.now();
    store::to_ask(tx, now, before, limit).await
}

/// Ended orders whose payment is to be looked for again, because it may have been made while they ended; at most `limit`.
pub async fn ended_to_ask(
    db: &mut PgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<OrderId>> {
    store::ended_to_ask(db, now, limit).await
}
