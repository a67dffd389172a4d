//! Work on orders that is done later.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::ids::{OrderId, RefundId, TicketId};
use crate::jobs::{Job, Queue};

/// Brings an order for which nothing is to be paid to its tickets.
#[derive(Debug, Serialize, Deserialize)]
pub struct GiveOut {
    pub order_id: OrderId,
}

impl Job for GiveOut {
    const KIND: &'static str = "orders.give_out";
    const QUEUE: Queue = Queue::Purchase;
}

/// Brings an order to its payment, and to its tickets.
#[derive(Debug, Serialize, Deserialize)]
pub struct Purchase {
    pub order_id: OrderId,
}

impl Job for Purchase {
    const KIND: &'static str = "orders.purchase";
    const QUEUE: Queue = Queue::Payment;
}

/// Asks what became of a payment that nobody told of.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ask {
    pub order_id: OrderId,
}

impl Job for Ask {
    const KIND: &'static str = "orders.ask";
    const QUEUE: Queue = Queue::Payment;
}

/// Finds the orders and the open refunds to ask after.
#[derive(Debug, Serialize, Deserialize)]
pub struct Chase {}

impl Job for Chase {
    const KIND: &'static str = "orders.chase";
    const QUEUE: Queue = Queue::Background;
}

/// Looks for the payment of an order that has ended without a known one.
#[derive(Debug, Serialize, Deserialize)]
pub struct AskAfterEnd {
    pub order_id: OrderId,
}

impl Job for AskAfterEnd {
    const KIND: &'static str = "orders.ask_after_end";
    const QUEUE: Queue = Queue::Payment;
}

/// Mails the tickets of orders that were paid together.
#[derive(Debug, Serialize, Deserialize)]
pub struct Confirm {
    pub orders: Vec<OrderId>,
}

impl Job for Confirm {
    const KIND: &'static str = "orders.confirm";
    const QUEUE: Queue = Queue::Background;
}

/// Mails the buyer or the organizer what became of an order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tell {
    pub order_id: OrderId,
    pub news: News,
}

impl Job for Tell {
    const KIND: &'static str = "orders.tell";
    const QUEUE: Queue = Queue::Background;
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// Money came when there was nothing left to pay for, and goes back.
    NotWanted {
        refund_id: RefundId,
    },
    /// Money has gone back.
    Refunded {
        refund_id: RefundId,
    },
    /// Its places were gone before it was paid.
    SoldOut,
    GivenBack {
        tickets: Vec<TicketId>,
        refund_id: Option<RefundId>,
    },
    EventCancelled {
        refund_id: Option<RefundId>,
    },
    /// It waits for money by hand.
    ToPay,
    /// For the organizer: the buyer's bank wants the payment back.
    Disputed {
        dispute_id: String,
        amount: i64,
    },
    /// For the organizer: money that was to go back is still there.
    RefundFailed {
        refund_id: RefundId,
    },
}

/// Gives money back.
#[derive(Debug, Serialize, Deserialize)]
pub struct PayBack {
    pub refund_id: RefundId,
}

impl Job for PayBack {
    const KIND: &'static str = "orders.pay_back";
    const QUEUE: Queue = Queue::Payment;
}

/// Sees to what Stripe told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Heard {
    pub event_id: String,
}

impl Job for Heard {
    const KIND: &'static str = "stripe.heard";
    const QUEUE: Queue = Queue::Payment;
}

/// Forgets what Stripe told long ago.
#[derive(Debug, Serialize, Deserialize)]
pub struct ForgetHeard {}

impl Job for ForgetHeard {
    const KIND: &'static str = "stripe.forget_heard";
    const QUEUE: Queue = Queue::Background;
}

/// Refunds everybody who bought for an event that is cancelled, some at a time.
#[derive(Debug, Serialize, Deserialize)]
pub struct RefundAll {
    pub event_id: crate::ids::EventId,
}

impl Job for RefundAll {
    const KIND: &'static str = "orders.refund_all";
    const QUEUE: Queue = Queue::Background;
}

/// Compares a day of the ledger with what Stripe has counted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Audit {
    pub day: NaiveDate,
}

impl Job for Audit {
    const KIND: &'static str = "orders.audit";
    const QUEUE: Queue = Queue::Background;
}
