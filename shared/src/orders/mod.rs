//! Orders: from held places to paid tickets.
//!
//! | part | what |
//! |---|---|
//! | this file | preparing an order, reading it |
//! | `placing` | writing it, together with those that are placed at the same moment |
//! | `status` | where an order stands, and what an outcome of its payment makes of it: pure |
//! | `pay` | the conversation with Stripe, without a transaction |
//! | `settle` | the one place where orders end, however one hears of their payment |
//! | `cancel`, `undoing` | calling off, and giving tickets back; how far it is for a whole event |
//! | `wallet` | a ticket as its owner and its organizer see it |
//! | `confirm`, `news`, `letter` | the mails: with the tickets, and of what became of them |
//! | `refunds` | money on its way back |
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
pub mod refunds;
mod settle;
mod status;
mod store;
mod tickets;
mod undoing;
mod waiting;
mod wallet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
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
pub use settle::{Settled, Settlement, settle};
pub use status::{OrderStatus, Outcome, Provider, Received};
pub use tickets::{Ticket, TicketStatus};
pub use undoing::{EventCancellation, undoing};
pub use waiting::wait;
pub(crate) use waiting::{Waiting, announce};
pub use wallet::{Seen, TicketDetails, TicketEvent, TicketSession, Wallet, ticket, wallet};

use crate::access::Scope;
use crate::app::App;
use crate::error::{Code, Error, Fault, Invalid, Result};
use crate::events::{EventDetails, RefundPolicy};
use crate::holds::{self, Buyer, HoldError, Sale};
use crate::ids::{self, EventId, OrderId, OrganizationId, TicketTypeId, UserId};
use crate::stock::{self, HoldToken, NewHold, Placed, Proof};
use crate::tx::Tx;

/// In bytes. They are written on every ticket, of which one order may have a thousand.
const LONGEST_ANSWERS: usize = 10_000;

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
    #[error("One buyer may have {most} of them, and has {already} already.")]
    BuyerLimit {
        ticket_type_id: TicketTypeId,
        most: i32,
        already: i64,
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
            Self::OfferChanged { .. } => Code::ConcurrentUpdate,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::HoldUsed { order_id } => json!({ "order_id": order_id }),
            Self::BuyerLimit {
                ticket_type_id,
                most,
                already,
            } => json!({ "ticket_type_id": ticket_type_id, "max": most, "already": already }),
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

    fn hold(self, id: OrderId, event_id: EventId, now: DateTime<Utc>) -> NewHold {
        NewHold {
            event_id,
            id,
            buyer: self.buyer,
            deadline: now,
            ordered: true,
            parts: self.parts,
            items: self.items,
            proof: self.proof,
            sale: String::new(),
            most_holds: u32::MAX,
        }
    }
}

/// An order whose places are held for it, about to be written.
#[derive(Debug, Clone)]
pub struct PlacedOrder {
    id: OrderId,
    organization_id: OrganizationId,
    event_id: EventId,
    user_id: Option<UserId>,
    email: String,
    secret: String,
    method: PaymentMethod,
    token: Option<String>,
    return_url: Option<String>,
    sale: Sale,
    seen: Offer,
    limits: Vec<(TicketTypeId, i32)>,
    attendees: Vec<Attendee>,
    refund_policy: RefundPolicy,
    hold: KeptHold,
    payment_deadline: DateTime<Utc>,
    /// So many orders may wait for this buyer to pay; none for who sells for the organizer.
    most_waiting: Option<u32>,
    /// The places were not held for an order before, and go back if this one does not come about.
    fresh: bool,
}

/// What was on offer when the order was prepared, from memory: it must be so still when it is written.
#[derive(Debug, Clone)]
struct Offer {
    event_version: i64,
    types: Vec<OfferedType>,
}

#[derive(Debug, Clone)]
struct OfferedType {
    id: TicketTypeId,
    version: i64,
    /// Of all sessions that it includes together: none of them changes without it.
    sessions: i64,
}

impl Offer {
    fn of(event: &EventDetails, sale: &Sale) -> Self {
        let types = sale.items.iter().filter_map(|item| {
            let kind = event.kind(item.ticket_type_id)?;
            let included = event.sessions.iter();
            let included = included.filter(|s| kind.included_sessions.contains(&s.code));
            Some(OfferedType {
                id: kind.id,
                version: kind.version,
                sessions: included.map(|session| session.version).sum(),
            })
        });
        Self {
            event_version: event.event.version,
            types: types.collect(),
        }
    }

    /// The version of a type, and of its sessions; none that there ever was if it was not on offer.
    fn versions_of(&self, id: TicketTypeId) -> (i64, i64) {
        let kind = self.types.iter().find(|kind| kind.id == id);
        kind.map_or((0, 0), |kind| (kind.version, kind.sessions))
    }
}

/// Checks what is to be ordered, and takes the hold for it or holds what is wanted. After that it is written by
/// [`place`], or given up by [`PlacedOrder::withdraw`]. What comes from the same `seed` holds its places once. Who sells
/// for the organizer may have more orders waiting to be paid than a buyer.
pub async fn prepare(
    app: &App,
    event: &EventDetails,
    buyer: &Buyer,
    sells: bool,
    new: NewOrder,
    seed: Option<[u8; 32]>,
) -> Result<PlacedOrder> {
    let email = email_of(app, buyer, &new).await?;
    let wish = Wish::of(app, event, buyer, &new, seed).await?;
    let (method, card) = payment(&new, wish.sale.total())?;
    attendees_fit(&new.attendees, wish.sale.tickets())?;
    let fresh = wish.take(app, event).await?;
    let within = match method {
        PaymentMethod::Manual => &app.config.orders.manual_payment_within,
        _ => &app.config.orders.payment_within,
    };
    let limits = wish.sale.items.iter().filter_map(|item| {
        let kind = event.kind(item.ticket_type_id)?;
        Some((item.ticket_type_id, kind.max_per_buyer?))
    });
    Ok(PlacedOrder {
        id: wish.hold.id,
        organization_id: event.event.organization_id,
        event_id: event.event.id,
        user_id: buyer.user_id,
        email,
        secret: ids::url_token(),
        method,
        token: card,
        return_url: new.payment.and_then(|payment| payment.return_url),
        limits: limits.collect(),
        attendees: new.attendees,
        refund_policy: event.event.refund_policy.clone(),
        hold: KeptHold::of(&wish.hold),
        payment_deadline: app.clock.now() + within.delta(),
        most_waiting: (!sells).then(|| buyer.most(&app.config.holds)),
        fresh,
        seen: Offer::of(event, &wish.sale),
        sale: wish.sale,
    })
}

/// What is about to be ordered.
struct Wish {
    sale: Sale,
    hold: NewHold,
    /// Of the hold that the buyer has, if it is to stand on one.
    token: Option<HoldToken>,
}

impl Wish {
    async fn of(
        app: &App,
        event: &EventDetails,
        buyer: &Buyer,
        new: &NewOrder,
        seed: Option<[u8; 32]>,
    ) -> Result<Self> {
        if let Some(token) = &new.hold_token {
            let token = HoldToken::decode(token).ok_or(HoldError::Expired)?;
            let sale = match holds::sale_of(app, buyer, &token).await {
                Err(error) => return Err(used(app, &token).await?.unwrap_or(error)),
                sale => sale?,
            };
            // What was allowed when it was held must be allowed still; the price is that of the hold.
            holds::offer(app, event, buyer, &sale.wanted()).await?;
            return Ok(Self {
                hold: holds::new_hold(event, &token, buyer, &sale)?,
                sale,
                token: Some(token),
            });
        }
        let sale = holds::offer(app, event, buyer, &new.items).await?;
        let event_id = event.event.id;
        let token = seed.map_or_else(
            || HoldToken::fresh(event_id, app.clock.now()),
            |seed| HoldToken::from_seed(event_id, &seed),
        );
        Ok(Self {
            hold: holds::new_hold(event, &token, buyer, &sale)?,
            sale,
            token: None,
        })
    }

    /// Has the places held for the order; answers whether they were not before.
    async fn take(&self, app: &App, event: &EventDetails) -> Result<bool> {
        if let Some(token) = &self.token {
            let (now, proof) = (app.clock.now(), token.proof());
            let attached = app.stock.attach(now, token.event_id, token.id, &proof);
            return Ok(attached.await?.ok_or(HoldError::Expired)?);
        }
        match stock::place(app, &self.hold).await? {
            Placed::Placed { .. } => Ok(true),
            Placed::Short { short } => Err(self.sale.refusal(event, &short).into()),
            Placed::TooMany | Placed::Cold => Err(HoldError::TooMany.into()),
        }
    }
}

/// The order that came of a hold which is no more, for whoever has its token.
async fn used(app: &App, token: &HoldToken) -> Result<Option<Error>> {
    let order = store::hold(&mut *app.read().await?, token.id).await?;
    let theirs = order.filter(|(_, _, kept)| kept.proof == token.proof());
    Ok(theirs.map(|_| OrderError::HoldUsed { order_id: token.id }.into()))
}

async fn email_of(app: &App, buyer: &Buyer, new: &NewOrder) -> Result<String> {
    let known = match (&new.email, buyer.user_id) {
        (Some(email), _) => Some(email.trim().to_owned()),
        (None, Some(user_id)) => {
            let profile = crate::accounts::profile(&mut *app.read().await?, user_id).await?;
            Some(profile.user.email)
        }
        (None, None) => None,
    };
    let parsed = known.filter(|email| email.parse::<lettre::Address>().is_ok());
    parsed.ok_or_else(|| Invalid::field("email", "must be a mail address").into())
}

/// How it is paid: not at all if nothing is to be paid.
fn payment(new: &NewOrder, total: i64) -> Result<(PaymentMethod, Option<String>)> {
    if total == 0 {
        return Ok((PaymentMethod::Free, None));
    }
    let Some(payment) = &new.payment else {
        return Err(Invalid::field("payment", "is needed: something is to be paid").into());
    };
    let back = payment.return_url.as_deref().map(url::Url::parse);
    if back.is_some_and(|url| !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https"))) {
        return Err(
            Invalid::field("payment.return_url", "must be an http or https address").into(),
        );
    }
    match (payment.method, &payment.token) {
        (PaymentMethod::Free, _) => Err(Invalid::field(
            "payment.method",
            "cannot be `free`: something is to be paid",
        )
        .into()),
        (PaymentMethod::Card, None) => {
            Err(Invalid::field("payment.token", "is needed for a card").into())
        }
        (PaymentMethod::Card, Some(token)) => Ok((PaymentMethod::Card, Some(token.clone()))),
        (_, Some(_)) => Err(Invalid::field("payment.token", "is for `card` only").into()),
        (method, None) => Ok((method, None)),
    }
}

fn attendees_fit(attendees: &[Attendee], tickets: i32) -> Result<()> {
    let number = i32::try_from(attendees.len()).unwrap_or(i32::MAX);
    if number > 1 && number != tickets {
        let message =
            format!("must be one for each of the {tickets} tickets, one for all, or none");
        return Err(Invalid::field("attendees", message).into());
    }
    let mut invalid = Invalid::default();
    for (at, attendee) in attendees.iter().enumerate() {
        let email = attendee.email.as_deref();
        if email.is_some_and(|email| email.parse::<lettre::Address>().is_err()) {
            invalid.push(format!("attendees[{at}].email"), "must be a mail address");
        }
        let answers = attendee.answers.as_ref().map(ToString::to_string);
        if answers.is_some_and(|answers| answers.len() > LONGEST_ANSWERS) {
            let message = format!("must be at most {LONGEST_ANSWERS} bytes");
            invalid.push(format!("attendees[{at}].answers"), message);
        }
    }
    invalid.check()
}

async fn within_buyer_limits(tx: &mut Tx, order: &PlacedOrder) -> Result<()> {
    store::lock_buyer(tx, order.event_id, order.user_id, &order.email).await?;
    let bought = store::bought_by(tx, order.event_id, order.user_id, &order.email).await?;
    for &(ticket_type_id, most) in &order.limits {
        let already = bought.iter().find(|(id, _)| *id == ticket_type_id);
        let already = already.map_or(0, |(_, number)| *number);
        let items = order.sale.items.iter();
        let wanted: i32 = items
            .filter(|item| item.ticket_type_id == ticket_type_id)
            .map(|item| item.quantity)
            .sum();
        if already + i64::from(wanted) > i64::from(most) {
            return Err(OrderError::BuyerLimit {
                ticket_type_id,
                most,
                already,
            }
            .into());
        }
    }
    Ok(())
}

impl PlacedOrder {
    #[must_use]
    pub fn id(&self) -> OrderId {
        self.id
    }

    /// As it is right after it was placed.
    fn placed(&self, now: DateTime<Utc>) -> Order {
        Order {
            id: self.id,
            organization_id: self.organization_id,
            event_id: self.event_id,
            user_id: self.user_id,
            email: Some(self.email.clone()),
            secret: self.user_id.is_none().then(|| self.secret.clone()),
            status: OrderStatus::Pending,
            reason: None,
            method: self.method,
            currency: self.sale.currency.clone(),
            items: self.sale.items.clone(),
            total: self.sale.total(),
            paid: 0,
            refunded: 0,
            payment_deadline: self.payment_deadline.into(),
            payment_url: None,
            client_secret: None,
            disputed: false,
            placed_at: now.into(),
            version: 1,
            tickets: Vec::new(),
        }
    }

    /// The order was there already. If it was over as well, its places were taken again, for nobody.
    async fn put_right(&self, app: &App) -> Result<()> {
        let order = store::hold(&mut *app.read().await?, self.id).await?;
        if order.is_some_and(|(status, ..)| !status.waits()) {
            stock::release_of_the_ended(app, self.event_id, self.id).await?;
        }
        Ok(())
    }

    /// Gives the hold back to its buyer, or its places back to everybody: the order did not come about. If that is not
    /// certain, or Redis cannot be told, it is found out within a minute.
    pub async fn withdraw(&self, app: &App, because: Option<&Error>) {
        let Some(because) = because else {
            if let Err(error) = self.put_right(app).await {
                tracing::warn!(order_id = %self.id, %error, "places are put right within a minute");
            }
            return;
        };
        let uncertain = matches!(
            because.code(),
            Code::HoldAlreadyUsed | Code::IdempotencyInFlight | Code::Unavailable | Code::Internal
        );
        if !self.fresh || uncertain {
            return;
        }
        let (now, proof) = (app.clock.now(), &self.hold.proof);
        let told = app.stock.detach(now, self.event_id, self.id, proof).await;
        if let Err(error) = told {
            tracing::warn!(order_id = %self.id, %error, "a hold goes back within a minute");
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
    let found = store::read(&mut *app.read().await?, id).await?;
    let kept = found.ok_or(OrderError::NotFound)?;
    let mut order = kept.order;
    let theirs = reader.user_id.is_some() && reader.user_id == order.user_id;
    let opened = reader.secret.is_some_and(|told| same(told, &kept.secret));
    let guest = opened || reader.placed == Some(order.id);
    if theirs || guest {
        order.secret = Some(kept.secret).filter(|_| guest && order.user_id.is_none());
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

/// In a time that does not tell how much of it is right.
fn same(told: &str, secret: &str) -> bool {
    let digest = |text: &str| Sha256::digest(text);
    digest(told) == digest(secret)
}

/// The orders that wait and have not been asked after since `before`, marked as asked after now.
pub async fn to_ask(tx: &mut Tx, before: DateTime<Utc>, limit: i64) -> Result<Vec<OrderId>> {
    let now = tx.now();
    store::to_ask(tx, now, before, limit).await
}
