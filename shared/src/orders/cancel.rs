//! Giving tickets back: their places are on sale again in the instant of the commit, and the money goes back by the
//! policy that was frozen with the order, or as the organizer says.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use poem_openapi::Object;
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::jobs::PayBack;
use super::refunds::{self, NewRefund, Refund};
use super::status::{OrderStatus, Outcome, Provider, Received};
use super::store::{self, Locked};
use super::tickets::{self, Returnable};
use super::{OrderError, pay};
use crate::activity::Activity;
use crate::app::App;
use crate::clock::Time;
use crate::error::Result;
use crate::events::RefundPolicy;
use crate::ids::{EventId, OrderId, RefundId, TicketId};
use crate::stock::Places;
use crate::tx::Tx;

/// What giving tickets back would bring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
pub struct Cancellation {
    /// Whether they can be given back at all: until the event begins.
    pub possible: bool,
    /// How much of their price comes back now, in percent.
    pub percent: i64,
    /// In the minor unit of the currency.
    pub refund_amount: i64,
    pub currency: String,
    /// Until then everything comes back.
    pub full_until: Option<Time>,
    /// After that nothing does.
    pub anything_until: Option<Time>,
}

/// Which tickets are given back.
#[derive(Debug, Clone)]
pub enum Given {
    All,
    These(Vec<TicketId>),
    None,
}

/// How much money goes back for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// What the order's policy says at this moment.
    ByPolicy,
    /// What they cost.
    Whole,
    /// Whatever has not gone back yet.
    Everything,
    Amount(i64),
}

/// What giving these tickets back would bring now.
pub async fn cancellation(
    db: &mut PgConnection,
    order_id: OrderId,
    only: Option<TicketId>,
    now: DateTime<Utc>,
) -> Result<Cancellation> {
    let terms = Terms::of(db, order_id).await?;
    let tickets = tickets::returnable(db, order_id).await?;
    let meant = tickets.iter().filter(|t| only.is_none_or(|id| id == t.id));
    let prices: Vec<i64> = meant.map(|ticket| ticket.price).collect();
    Ok(terms.cancellation(&prices, now))
}

/// What was agreed on about giving back.
struct Terms {
    policy: RefundPolicy,
    begins: DateTime<Utc>,
    currency: String,
    is_sold: bool,
    /// What has not gone back yet.
    left: i64,
}

impl Terms {
    async fn of(db: &mut PgConnection, order_id: OrderId) -> Result<Self> {
        let terms = sqlx::query!(
            r#"select o.refund_policy as "policy: sqlx::types::Json<RefundPolicy>", e.starts_at, o.currency, o.paid,
                      o.refunded, o.status as "status: OrderStatus"
               from orders o join events e on e.id = o.event_id where o.id = $1"#,
            order_id as _,
        );
        let terms = terms
            .fetch_optional(db)
            .await?
            .ok_or(OrderError::NotFound)?;
        Ok(Self {
            policy: terms.policy.0,
            begins: terms.starts_at,
            currency: terms.currency,
            is_sold: terms.status.is_sold(),
            left: terms.paid - terms.refunded,
        })
    }

    fn back(&self, prices: &[i64], now: DateTime<Utc>) -> i64 {
        let each = prices
            .iter()
            .map(|price| self.policy.refund(self.begins, now, *price, 0));
        each.sum::<i64>().min(self.left)
    }

    fn cancellation(&self, prices: &[i64], now: DateTime<Utc>) -> Cancellation {
        Cancellation {
            possible: self.is_sold && !prices.is_empty() && now < self.begins,
            percent: self.policy.percent(self.begins, now),
            refund_amount: self.back(prices, now),
            currency: self.currency.clone(),
            full_until: self.policy.full_until(self.begins).map(Time::from),
            anything_until: self.policy.anything_until(self.begins).map(Time::from),
        }
    }
}

/// Takes tickets of a paid order back and has the money returned. Nothing may come back twice: the order is locked, and
/// what was given back before is not found again.
pub async fn give_up(
    tx: &mut Tx,
    order_id: OrderId,
    given: &Given,
    back: Back,
    reason: &str,
) -> Result<Option<Refund>> {
    let order = lock(tx, order_id).await?;
    if !order.status.is_sold() {
        return Err(OrderError::NotPossible {
            status: order.status,
        }
        .into());
    }
    give_up_locked(tx, &order, given, back, reason).await
}

/// The same where an order without tickets is none of our business.
pub async fn give_up_if_sold(
    tx: &mut Tx,
    order_id: OrderId,
    given: &Given,
    back: Back,
    reason: &str,
) -> Result<()> {
    let order = lock(tx, order_id).await?;
    if order.status.is_sold() {
        give_up_locked(tx, &order, given, back, reason).await?;
    }
    Ok(())
}

async fn give_up_locked(
    tx: &mut Tx,
    order: &Locked,
    given: &Given,
    back: Back,
    reason: &str,
) -> Result<Option<Refund>> {
    let order_id = order.id;
    store::keep_pools(tx, &[order.event_id.0]).await?;
    let valid = tickets::returnable(tx, order_id).await?;
    let terms = Terms::of(tx, order_id).await?;
    let meant = meant(&valid, given, back, terms.left)?;
    let prices: Vec<i64> = meant.iter().map(|ticket| ticket.price).collect();
    let amount = match back {
        Back::ByPolicy if tx.now() >= terms.begins => return Err(OrderError::TooLate.into()),
        Back::ByPolicy => terms.back(&prices, tx.now()),
        Back::Whole => prices.iter().sum::<i64>().min(terms.left),
        Back::Everything => terms.left,
        Back::Amount(amount) => amount,
    };
    if !meant.is_empty() {
        take_back(tx, order, &meant, meant.len() == valid.len(), reason).await?;
    }
    let refund = match amount {
        0 => None,
        amount => Some(pay_back(tx, order, amount, reason).await?),
    };
    tx.announce(order_id);
    Ok(refund)
}

async fn lock(tx: &mut Tx, order_id: OrderId) -> Result<Locked> {
    let locked = store::lock(tx, &[order_id]).await?;
    Ok(locked.into_iter().next().ok_or(OrderError::NotFound)?)
}

/// The tickets that are to be taken back. Whoever gets everything back keeps no ticket.
fn meant<'a>(
    valid: &'a [Returnable],
    given: &Given,
    back: Back,
    left: i64,
) -> Result<Vec<&'a Returnable>> {
    match given {
        Given::None if back == Back::Amount(left) => Ok(valid.iter().collect()),
        Given::None => Ok(Vec::new()),
        Given::All => Ok(valid.iter().collect()),
        Given::These(ids) => {
            let find = |id: &TicketId| valid.iter().find(|ticket| ticket.id == *id);
            let found: Option<Vec<_>> = ids.iter().map(find).collect();
            Ok(found.ok_or(OrderError::TicketNotFound)?)
        }
    }
}

async fn take_back(
    tx: &mut Tx,
    order: &Locked,
    meant: &[&Returnable],
    all: bool,
    reason: &str,
) -> Result<()> {
    tickets::cancel(tx, meant).await?;
    let mut places: BTreeMap<Uuid, i32> = BTreeMap::new();
    for pool in meant.iter().flat_map(|ticket| &ticket.pools) {
        *places.entry(*pool).or_default() -= 1;
    }
    let (pools, numbers): (Vec<Uuid>, Vec<i32>) = places.into_iter().unzip();
    store::lock_pools(tx, &pools).await?;
    let pools = store::move_places(tx, &pools, &numbers).await?;
    tx.tell_places(Places::Moved {
        event_id: order.event_id,
        holds: Vec::new(),
        pools,
    });
    if all {
        store::end(tx, order.id, OrderStatus::Cancelled, reason).await?;
    }
    let ids: Vec<TicketId> = meant.iter().map(|ticket| ticket.id).collect();
    tx.record(Activity {
        organization_id: Some(order.organization_id),
        kind: if all {
            "order.cancelled"
        } else {
            "order.tickets_cancelled"
        },
        subject: order.id.into(),
        data: json!({ "tickets": ids, "reason": reason }),
    });
    Ok(())
}

async fn pay_back(tx: &mut Tx, order: &Locked, amount: i64, reason: &str) -> Result<Refund> {
    let new = NewRefund {
        order_id: order.id,
        payment_id: store::payment_of(tx, order.id).await?,
        amount,
        reason: reason.to_owned(),
    };
    let refund_id: RefundId = refunds::insert(tx, &new).await?;
    tx.enqueue(&PayBack { refund_id });
    tx.record(Activity {
        organization_id: Some(order.organization_id),
        kind: "order.refund_requested",
        subject: order.id.into(),
        data: json!({ "refund_id": refund_id, "amount": amount, "reason": reason }),
    });
    refunds::get(tx, refund_id).await
}

/// The organizer has the money of an order that is paid by hand. Saying it twice counts it once. One that has expired
/// is paid after all if its places can still be had.
pub async fn mark_paid(app: &App, order_id: OrderId, reference: Option<String>) -> Result<()> {
    let due = store::due(&mut *app.read().await?, order_id).await?;
    let due = due.ok_or(OrderError::NotFound)?;
    let possible =
        due.attempt.is_none() && (due.status.waits() || due.status == OrderStatus::Expired);
    if due.status == OrderStatus::Paid && due.attempt.is_none() {
        return Ok(());
    }
    if !possible {
        return Err(OrderError::NotPossible { status: due.status }.into());
    }
    let outcome = Outcome::Paid(Received {
        provider: Provider::Manual,
        reference: format!("{order_id} {}", reference.unwrap_or_default())
            .trim_end()
            .to_owned(),
        amount: due.total,
    });
    let settled = pay::end(app, order_id, outcome).await?;
    match settled {
        Some(settled) if settled.status == OrderStatus::Paid => Ok(()),
        settled => Err(OrderError::NotPossible {
            status: settled.map_or(due.status, |settled| settled.status),
        }
        .into()),
    }
}

/// The next orders of an event that are paid or may still be, by their ids.
pub async fn open_of(
    db: &mut PgConnection,
    event_id: EventId,
    after: Option<OrderId>,
    limit: i64,
) -> Result<Vec<OrderId>> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id: OrderId" from orders
           where event_id = $1 and status in ('paid', 'partially_refunded', 'pending', 'requires_action')
                 and ($2::uuid is null or id > $2)
           order by id limit $3"#,
        event_id as _,
        after as _,
        limit,
    );
    Ok(ids.fetch_all(db).await?)
}
