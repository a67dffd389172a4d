//! The one place where an order ends, whoever tells of its payment: the worker, Stripe's webhook, or whoever asked.
//!
//! Orders that end together do so in one transaction, set by set: the row of a hot pool is locked once for all of
//! them, while each order still succeeds or fails by itself. Nothing is done twice: an order's row is locked, and a
//! payment that was counted is not counted again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::json;
use uuid::Uuid;

use super::jobs::{Confirm, News, Tell};
use super::order::Attendee;
use super::refunds::{self, NewRefund};
use super::status::{Ask, Asked, Mismatch, OrderStatus, Outcome, Provider, Received, Step};
use super::store::{self, Entry, Line, Locked, Move, NewTicket};
use super::stray_payments;
use super::{EVENT_CANCELLED, PAID_LATE, SOLD_OUT};
use crate::access::{Actor, Scope};
use crate::activity::Activity;
use crate::app::App;
use crate::error::Result;
use crate::ids::{self, AttemptId, EventId, OrderId, RefundId, TicketId};
use crate::stock::{Places, Told};
use crate::together::Piece;
use crate::tx::Tx;

/// What became of an order's payment.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub order_id: OrderId,
    pub outcome: Outcome,
    /// The places of an order that had given them up are held for it again.
    pub reclaimed: bool,
}

/// What that made of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    pub status: OrderStatus,
    /// It was done just now, not before.
    pub changed: bool,
}

impl Piece for Settlement {
    type Done = Option<Settled>;

    fn subject(&self) -> Uuid {
        self.order_id.0
    }

    async fn do_all(app: &App, batch: &[Self]) -> Result<Vec<Option<Settled>>> {
        let mut tx = app.begin(Actor::System, Scope::Everything).await?;
        let ends = settle(&mut tx, batch).await?;
        tx.commit().await?;
        Ok(ends)
    }
}

impl App {
    /// Settles an order, together with whatever else is to be settled now.
    pub async fn settle(&self, settlement: Settlement) -> Result<Option<Settled>> {
        self.settling.run(self, settlement).await
    }
}

/// Settles orders, each at most once in a batch. Answers in their order; nothing for an order that does not exist.
pub async fn settle(tx: &mut Tx, batch: &[Settlement]) -> Result<Vec<Option<Settled>>> {
    let orders: Vec<OrderId> = batch.iter().map(|settlement| settlement.order_id).collect();
    let locked = store::lock(tx, &orders).await?;
    let locked: HashMap<OrderId, Locked> = locked.into_iter().map(|o| (o.id, o)).collect();
    let counted = counted_before(tx, batch).await?;
    let attempts = attempts_of_paid(tx, batch).await?;
    let mut plan = Plan::default();
    for settlement in batch {
        let Some(order) = locked.get(&settlement.order_id) else {
            continue;
        };
        let known =
            matches!(&settlement.outcome, Outcome::Paid(r) if counted.contains(&r.reference));
        let step = if known {
            Step::Nothing
        } else {
            let asked = Asked {
                order_id: order.id,
                total: order.total,
                currency: &order.currency,
                attempts: attempts.get(&order.id).map_or(&[], Vec::as_slice),
            };
            let (outcome, reclaimed) = (&settlement.outcome, settlement.reclaimed);
            order.status.step(outcome, &asked, reclaimed)
        };
        plan.steps
            .push((order.clone(), settlement.outcome.clone(), step));
    }
    plan.sell(tx).await?;
    plan.carry_out(tx).await?;
    let ends: HashMap<OrderId, Settled> = plan.ends.into_iter().collect();
    Ok(orders.iter().map(|id| ends.get(id).copied()).collect())
}

/// The tries to be paid of those orders of a batch for which money has come in at Stripe.
async fn attempts_of_paid(
    tx: &mut Tx,
    batch: &[Settlement],
) -> Result<HashMap<OrderId, Vec<AttemptId>>> {
    let at_stripe = |outcome: &Outcome| matches!(outcome, Outcome::Paid(received) if received.provider == Provider::Stripe);
    let paid = batch.iter().filter(|it| at_stripe(&it.outcome));
    let orders: Vec<Uuid> = paid.map(|settlement| settlement.order_id.0).collect();
    let mut attempts: HashMap<OrderId, Vec<AttemptId>> = HashMap::new();
    if !orders.is_empty() {
        for (order_id, attempt_id) in store::attempts(tx, &orders).await? {
            attempts.entry(order_id).or_default().push(attempt_id);
        }
    }
    Ok(attempts)
}

async fn counted_before(tx: &mut Tx, batch: &[Settlement]) -> Result<HashSet<String>> {
    let references = batch
        .iter()
        .filter_map(|settlement| match &settlement.outcome {
            Outcome::Paid(received) => Some(received.reference.clone()),
            _ => None,
        });
    let references: Vec<String> = references.collect();
    if references.is_empty() {
        return Ok(HashSet::new());
    }
    Ok(store::counted(tx, "payment", &references)
        .await?
        .into_iter()
        .collect())
}

/// What is to be done about each order of a batch.
#[derive(Default)]
struct Plan {
    steps: Vec<(Locked, Outcome, Step)>,
    lines: HashMap<OrderId, Vec<Line>>,
    pools: Vec<Told>,
    /// These events do not take place: nothing of them is sold any more.
    off: Vec<EventId>,
    ends: Vec<(OrderId, Settled)>,
}

impl Plan {
    /// Takes the places of every order that is to be sold; one that does not fit any more, or whose event is cancelled, gets
    /// its money back.
    async fn sell(&mut self, tx: &mut Tx) -> Result<()> {
        let selling: Vec<OrderId> = self.selling().map(|order| order.id).collect();
        if selling.is_empty() {
            return Ok(());
        }
        let events: BTreeSet<Uuid> = self.selling().map(|order| order.event_id.0).collect();
        let events: Vec<Uuid> = events.into_iter().collect();
        let kept = store::keep_events(tx, &events).await?.into_iter();
        self.off = kept
            .filter(|event| event.is_cancelled)
            .map(|event| event.id)
            .collect();
        for (order, _, step) in &mut self.steps {
            if *step == Step::Sell && self.off.contains(&order.event_id) {
                *step = Step::GiveBack;
            }
        }
        let selling: Vec<OrderId> = self.selling().map(|order| order.id).collect();
        for line in store::lines(tx, &selling).await? {
            self.lines.entry(line.order_id).or_default().push(line);
        }
        let pools: HashSet<Uuid> = self
            .lines
            .values()
            .flatten()
            .flat_map(|l| l.pools.clone())
            .collect();
        let pools: Vec<Uuid> = pools.into_iter().collect();
        let mut rest: HashMap<Uuid, i32> = HashMap::new();
        for pool in store::lock_pools(tx, &pools).await? {
            rest.insert(pool.id, pool.capacity - pool.sold);
        }
        let mut taken: BTreeMap<Uuid, i32> = BTreeMap::new();
        for (order, _, step) in &mut self.steps {
            if *step != Step::Sell {
                continue;
            }
            let wanted = store::places(self.lines.get(&order.id).map_or(&[], Vec::as_slice));
            let fits = wanted
                .iter()
                .all(|(pool, n)| rest.get(pool).is_some_and(|rest| rest >= n));
            if !fits || wanted.is_empty() {
                tracing::error!(order_id = %order.id, "an oversale was prevented: the money goes back");
                metrics::counter!("oversell_prevented_total").increment(1);
                *step = Step::GiveBack;
                continue;
            }
            for (pool, n) in wanted {
                *rest.entry(pool).or_default() -= n;
                *taken.entry(pool).or_default() += n;
            }
        }
        let (pools, places): (Vec<Uuid>, Vec<i32>) = taken.into_iter().unzip();
        self.pools = store::move_places(tx, &pools, &places).await?;
        Ok(())
    }

    fn selling(&self) -> impl Iterator<Item = &Locked> {
        let selling = self.steps.iter().filter(|(_, _, step)| *step == Step::Sell);
        selling.map(|(order, _, _)| order)
    }

    async fn carry_out(&mut self, tx: &mut Tx) -> Result<()> {
        let (mut moves, mut tickets, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        let (mut sold, mut given_back) = (Vec::new(), Vec::new());
        let mut refused: Vec<(Locked, Received, Mismatch)> = Vec::new();
        let mut unpaid: Vec<Uuid> = Vec::new();
        let mut over: BTreeMap<EventId, Vec<OrderId>> = BTreeMap::new();
        let now = tx.now();
        for (order, outcome, step) in &self.steps {
            let before = order.status;
            let (changed, status) = match (step, outcome) {
                (Step::Sell, Outcome::Paid(received)) => {
                    tickets.extend(self.tickets_of(order, now));
                    entries.push(entry(order, received));
                    moves.push(paid(order, received, OrderStatus::Paid));
                    sold.push(order.id);
                    (true, OrderStatus::Paid)
                }
                (Step::GiveBack, Outcome::Paid(received)) => {
                    let (status, reason) = if !before.waits() {
                        (before, PAID_LATE)
                    } else if self.off.contains(&order.event_id) {
                        (OrderStatus::Cancelled, EVENT_CANCELLED)
                    } else {
                        (OrderStatus::Failed, SOLD_OUT)
                    };
                    entries.push(entry(order, received));
                    moves.push(Move {
                        reason: Some(reason.into()),
                        ..paid(order, received, status)
                    });
                    given_back.push((order.clone(), received.clone(), reason));
                    (true, status)
                }
                (Step::Ask, Outcome::NeedsBuyer(ask)) => {
                    moves.push(asked(order, ask));
                    (true, OrderStatus::RequiresAction)
                }
                (Step::End(status), outcome) => {
                    if is_off(outcome) {
                        tell_of_cancelled(tx, order.id, None);
                    }
                    if *outcome == Outcome::NoPlaces {
                        tell_of_sold_out(tx, order.id);
                    }
                    moves.push(ended(order, outcome, *status));
                    unpaid.push(order.id.0);
                    (true, *status)
                }
                (Step::Refuse(mismatch), Outcome::Paid(received)) => {
                    refused.push((order.clone(), received.clone(), *mismatch));
                    (false, before)
                }
                _ => (false, before),
            };
            if changed && !status.waits() {
                over.entry(order.event_id).or_default().push(order.id);
                metrics::counter!("holdfast_orders_total", "status" => status.name()).increment(1);
            }
            if changed && status != before {
                record(tx, order, status, outcome);
            }
            if changed {
                tx.announce(order.id);
            }
            self.ends.push((order.id, Settled { status, changed }));
        }
        if !tickets.is_empty() {
            let cipher = tx.cipher();
            store::insert_tickets(tx, &cipher, &tickets, now).await?;
        }
        if !entries.is_empty() {
            store::insert_entries(tx, &entries, now).await?;
        }
        if !moves.is_empty() {
            store::apply(tx, &moves).await?;
        }
        if !unpaid.is_empty() {
            store::ask_again_after_the_end(tx, &unpaid, now).await?;
        }
        for (order, received, mismatch) in refused {
            stray_payments::write_down(tx, &order, &received, mismatch).await?;
        }
        for (order, received, reason) in given_back {
            give_back(tx, &order, &received, reason).await?;
        }
        if !sold.is_empty() {
            tx.enqueue(&Confirm { orders: sold });
        }
        self.tell(tx, over);
        Ok(())
    }

    /// Redis hears which holds have done their work, and what is sold now.
    fn tell(&mut self, tx: &mut Tx, over: BTreeMap<EventId, Vec<OrderId>>) {
        let mut pools_of: HashMap<EventId, HashSet<Uuid>> = HashMap::new();
        for (order, _, _) in &self.steps {
            let lines = self.lines.get(&order.id).into_iter().flatten();
            let pools = lines.flat_map(|line| line.pools.iter().copied());
            pools_of.entry(order.event_id).or_default().extend(pools);
        }
        for (event_id, holds) in over {
            let of_event = pools_of.remove(&event_id).unwrap_or_default();
            let pools = self.pools.iter().filter(|pool| of_event.contains(&pool.id));
            let pools = pools.cloned().collect();
            tx.tell_places(Places::Moved {
                event_id,
                holds,
                pools,
            });
        }
    }

    /// One for each place of each line, with who comes on it.
    fn tickets_of(&self, order: &Locked, now: chrono::DateTime<chrono::Utc>) -> Vec<NewTicket> {
        let lines = self.lines.get(&order.id).into_iter().flatten();
        let each: Vec<&Line> = lines
            .flat_map(|line| (0..line.quantity).map(move |_| line))
            .collect();
        // In the order of the attendees, by which tickets are listed.
        let mut ids: Vec<TicketId> = each.iter().map(|_| TicketId::fresh(now)).collect();
        ids.sort_unstable();
        let tickets = each
            .into_iter()
            .zip(ids)
            .enumerate()
            .map(|(at, (line, id))| NewTicket {
                id,
                order_id: order.id,
                event_id: order.event_id,
                organization_id: order.organization_id,
                ticket_type_id: line.ticket_type_id,
                user_id: order.user_id,
                code: ids::ticket_code(),
                price: line.price,
                attendee: attendee(&order.attendees, at),
            });
        tickets.collect()
    }
}

/// One for each ticket, or one for all.
fn attendee(attendees: &[Attendee], at: usize) -> Attendee {
    let only = attendees.first().filter(|_| attendees.len() == 1);
    only.or_else(|| attendees.get(at))
        .cloned()
        .unwrap_or_default()
}

fn entry(order: &Locked, received: &Received) -> Entry {
    Entry {
        organization_id: order.organization_id,
        event_id: order.event_id,
        order_id: order.id,
        kind: "payment",
        amount: received.amount,
        currency: order.currency.clone(),
        provider: received.provider.name(),
        reference: received.reference.clone(),
    }
}

fn paid(order: &Locked, received: &Received, status: OrderStatus) -> Move {
    let by_stripe = received.provider == Provider::Stripe;
    Move {
        id: order.id.0,
        status: status.name(),
        paid: received.amount,
        attempt: "paid",
        payment_id: by_stripe.then(|| received.reference.clone()),
        ..Move::default()
    }
}

fn asked(order: &Locked, ask: &Ask) -> Move {
    Move {
        id: order.id.0,
        status: OrderStatus::RequiresAction.name(),
        client_secret: ask.client_secret.clone(),
        payment_url: ask.payment_url.clone(),
        attempt: "open",
        payment_id: ask.payment.clone(),
        checkout_id: ask.checkout.clone(),
        ..Move::default()
    }
}

/// What a buyer is told of a decline. A precise reason would tell who tries stolen cards which of them work; it stands in the
/// activities, for the organizer.
fn told_of_decline(code: &str) -> &str {
    match code {
        // Those about the amount say nothing of the card.
        "insufficient_funds" | "amount_too_small" | "amount_too_large" => code,
        "authentication_required" | "payment_intent_authentication_failure" => {
            "authentication_required"
        }
        _ => "declined",
    }
}

fn ended(order: &Locked, outcome: &Outcome, status: OrderStatus) -> Move {
    let (reason, attempt, payment_id) = match outcome {
        Outcome::Declined { code, payment } => {
            let told = told_of_decline(code).to_owned();
            (told, "failed", payment.clone())
        }
        Outcome::Cancelled { reason } => (reason.clone(), "cancelled", None),
        Outcome::NoPlaces => (SOLD_OUT.to_owned(), "cancelled", None),
        _ => ("not_paid_in_time".to_owned(), "cancelled", None),
    };
    Move {
        id: order.id.0,
        status: status.name(),
        reason: Some(reason),
        attempt,
        payment_id,
        ..Move::default()
    }
}

fn is_off(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Cancelled { reason } if reason == EVENT_CANCELLED)
}

fn tell_of_cancelled(tx: &mut Tx, order_id: OrderId, refund_id: Option<RefundId>) {
    let news = News::EventCancelled { refund_id };
    tx.enqueue(&Tell { order_id, news });
}

/// The order ends without anything having been paid.
fn tell_of_sold_out(tx: &mut Tx, order_id: OrderId) {
    let news = News::SoldOut;
    tx.enqueue(&Tell { order_id, news });
}

/// Money that has nothing to pay for goes back in full, once.
async fn give_back(tx: &mut Tx, order: &Locked, received: &Received, reason: &str) -> Result<()> {
    if received.amount == 0 {
        if reason == EVENT_CANCELLED {
            tell_of_cancelled(tx, order.id, None);
        } else if reason == SOLD_OUT {
            tell_of_sold_out(tx, order.id);
        }
        return Ok(());
    }
    let refund_id = refunds::request(
        tx,
        &NewRefund {
            order_id: order.id,
            payment_id: (received.provider == Provider::Stripe).then(|| received.reference.clone()),
            amount: received.amount,
            reason: reason.to_owned(),
        },
    )
    .await?;
    if reason == EVENT_CANCELLED {
        tell_of_cancelled(tx, order.id, Some(refund_id));
    } else {
        let order_id = order.id;
        let news = News::NotWanted { refund_id };
        tx.enqueue(&Tell { order_id, news });
    }
    Ok(())
}

fn record(tx: &mut Tx, order: &Locked, status: OrderStatus, outcome: &Outcome) {
    let detail = match outcome {
        Outcome::Paid(received) => {
            let (amount, provider) = (received.amount, received.provider.name());
            json!({ "amount": amount, "provider": provider, "note": received.note })
        }
        Outcome::Declined { code, .. } => json!({ "code": code }),
        Outcome::Cancelled { reason } => json!({ "reason": reason }),
        Outcome::NoPlaces => json!({ "reason": SOLD_OUT }),
        _ => json!({}),
    };
    tx.record(Activity {
        organization_id: Some(order.organization_id),
        kind: "order.status_changed",
        subject: order.id.into(),
        data: json!({ "status": [order.status, status], "payment": detail }),
    });
}
