//! Writing orders: those that are placed at the same moment in one transaction, where each is followed by the work that
//! it asks for.

mod statements;

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{Order, OrderError, PaymentMethod, PlacedOrder, jobs, store};
use crate::access::{Actor, Scope};
use crate::accounts;
use crate::activity::{Activity, By};
use crate::app::App;
use crate::cache::Changed;
use crate::error::{Code, Result};
use crate::holds::HoldError;
use crate::ids::EventId;
use crate::stock;
use crate::telemetry;
use crate::together::Piece;
use crate::tx::Tx;

/// An order to be written, for whom, and the trace of the request.
#[derive(Clone)]
pub(crate) struct Placing {
    order: PlacedOrder,
    by: By,
    trace: Option<String>,
}

impl Piece for Placing {
    type Done = Order;

    fn subject(&self) -> Uuid {
        self.order.id.0
    }

    async fn do_all(app: &App, pieces: &[Self]) -> Result<Vec<Order>> {
        let mut tx = app.begin(Actor::System, Scope::Everything).await?;
        let orders: Vec<&PlacedOrder> = pieces.iter().map(|piece| &piece.order).collect();
        let now = tx.now();
        write(app, &mut tx, &orders).await?;
        for piece in pieces {
            tx.on_behalf_of(piece.by.clone());
            follow_up(&mut tx, &piece.order, piece.trace.clone());
        }
        tx.commit().await?;
        Ok(orders.iter().map(|order| order.placed(now)).collect())
    }
}

/// Writes the order and the job that brings it to its end.
pub async fn place(app: &App, tx: &mut Tx, order: &PlacedOrder) -> Result<Order> {
    if let (true, Some(most)) = (order.method.waits_for_the_buyer(), order.most_waiting) {
        keeps_few_waiting(tx, order, most).await?;
    }
    if !order.limits.is_empty() {
        within_buyer_limits(tx, order).await?;
    }
    write(app, tx, &[order]).await?;
    follow_up(tx, order, telemetry::current_traceparent());
    Ok(order.placed(tx.now()))
}

/// The same in a transaction that it shares with whatever else is placed now.
pub async fn place_together(app: &App, order: &PlacedOrder, by: By) -> Result<Order> {
    if !order.goes_with_others() {
        let tx = app.begin(by.actor, Scope::Everything).await?;
        let mut tx = by.cause.into_iter().fold(tx, Tx::caused_by);
        let placed = place(app, &mut tx, order).await?;
        tx.commit().await?;
        return Ok(placed);
    }
    let placing = Placing {
        order: order.clone(),
        by,
        trace: telemetry::current_traceparent(),
    };
    match app.placing.run(app, placing).await {
        // Postgres was gone in the moment of the commit, and the second try found what the first had written.
        Err(error)
            if matches!(error.code(), Code::HoldAlreadyUsed | Code::ConcurrentUpdate)
                && store::has_secret(&mut *app.read().await?, order.id, &order.secret).await? =>
        {
            Ok(order.placed(app.clock.now()))
        }
        placed => placed,
    }
}

impl PlacedOrder {
    /// Its hold may be taken for one that nobody came back for, and go to others, before it is written.
    fn is_late(&self, now: DateTime<Utc>) -> bool {
        now > self.held_at + stock::ORDERED_WITHIN
    }

    /// Nothing is to be looked at before it is written, and nothing stands in its way.
    fn goes_with_others(&self) -> bool {
        self.fresh && self.limits.is_empty() && !self.method.waits_for_the_buyer()
    }
}

/// Prepared from memory, orders are written only if nothing has changed since then: neither a price, nor whether an event is on
/// sale. What has changed is forgotten, so that whoever prepares it again sees it as it is.
async fn write(app: &App, tx: &mut Tx, orders: &[&PlacedOrder]) -> Result<()> {
    // The transaction has begun: from here on Postgres sees to it that it does not take long.
    let at = tx.now();
    if orders.iter().any(|order| order.is_late(at)) {
        return Err(OrderError::TooSlow.into());
    }
    let events: BTreeSet<Uuid> = orders.iter().map(|order| order.event_id.0).collect();
    let events: Vec<Uuid> = events.into_iter().collect();
    let kept = store::keep_events(tx, &events).await?;
    let now: HashMap<EventId, i64> = kept.into_iter().map(|e| (e.id, e.version)).collect();
    let current = |order: &PlacedOrder| now.get(&order.event_id).copied();
    let is_old = |order: &&&PlacedOrder| current(order) != Some(order.seen.event_version);
    let mut old: Vec<&&PlacedOrder> = orders.iter().filter(is_old).collect();
    if old.is_empty() && !statements::insert(tx, &app.cipher, orders, at).await? {
        // It is not told of which of them.
        old = orders.iter().collect();
    }
    let Some(first) = old.first() else {
        return Ok(());
    };
    let changed: Vec<Changed> = old.iter().map(|o| Changed::Event(o.event_id)).collect();
    app.caches.forget(&changed);
    let current = current(first).unwrap_or_default();
    Err(OrderError::OfferChanged { current }.into())
}

async fn within_buyer_limits(tx: &mut Tx, order: &PlacedOrder) -> Result<()> {
    statements::lock_buyer(tx, order.event_id, order.user_id, &order.email).await?;
    let bought = statements::bought_by(tx, order.event_id, order.user_id, &order.email).await?;
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
                already: is_own(tx, order).await?.then_some(already),
            }
            .into());
        }
    }
    Ok(())
}

/// Whether the buyer has shown that the address of the order is theirs.
async fn is_own(tx: &mut Tx, order: &PlacedOrder) -> Result<bool> {
    match order.user_id {
        Some(user_id) => accounts::has_verified(tx, user_id, &order.email).await,
        None => Ok(false),
    }
}

fn follow_up(tx: &mut Tx, order: &PlacedOrder, trace: Option<String>) {
    tx.record(Activity {
        organization_id: Some(order.organization_id),
        kind: "order.placed",
        subject: order.id.into(),
        data: json!({ "event_id": order.event_id, "total": order.sale.total(), "method": order.method }),
    });
    let order_id = order.id;
    match order.method {
        PaymentMethod::Manual => {
            let news = jobs::News::ToPay;
            tx.enqueue_with(&jobs::Tell { order_id, news }, |job| job.trace(trace));
        }
        PaymentMethod::Free => tx.enqueue_with(&jobs::GiveOut { order_id }, |job| job.trace(trace)),
        _ => tx.enqueue_with(&jobs::Purchase { order_id }, |job| job.trace(trace)),
    }
}

/// An order that waits for its buyer keeps its places for long: nobody has an event sold out by promises.
async fn keeps_few_waiting(tx: &mut Tx, order: &PlacedOrder, most: u32) -> Result<()> {
    let buyer = &order.hold.buyer;
    statements::lock_buyer(tx, order.event_id, None, buyer).await?;
    let waiting = statements::kept_waiting(tx, order.event_id, buyer).await?;
    if waiting >= i64::from(most) {
        return Err(HoldError::TooMany.into());
    }
    Ok(())
}
