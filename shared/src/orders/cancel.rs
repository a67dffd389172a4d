//! Giving tickets back: their places are on sale again in the instant of the commit, and the money goes back by the
//! policy that was frozen with the order, or as the organizer says.
//!
//! What the policy gives back for all tickets of an order is split among them by the largest remainder, so a ticket
//! has a share of its own, whatever was given back before: one by one comes to exactly what all at once does. A share is
//! a multiple of what can be paid in the currency, which of some is more than its minor unit.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use poem_openapi::Object;
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::jobs::{News, Tell};
use super::order::PaymentMethod;
use super::refunds::{self, NewRefund, Refund};
use super::status::{OrderStatus, Outcome, Provider, Received};
use super::store::{self, Locked};
use super::tickets::{self, Returnable};
use super::{OrderError, pay};
use crate::activity::Activity;
use crate::app::App;
use crate::clock::Time;
use crate::error::{Invalid, Result};
use crate::events::RefundPolicy;
use crate::ids::{EventId, OrderId, RefundId, TicketId};
use crate::money;
use crate::stock::Places;
use crate::tx::Tx;

/// What giving tickets back would bring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
#[oai(rename = "CancellationQuote")]
pub struct Cancellation {
    /// Whether they can be given back at all: until the event begins and unless the payment is disputed, by the organizer
    /// in any case.
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

impl Back {
    /// Whether it is about what was paid, rather than about tickets.
    const fn is_money(self) -> bool {
        matches!(self, Self::Everything | Self::Amount(_))
    }
}

/// What giving these tickets back would bring now. The one who asks gives them back by the policy, or whole.
pub async fn cancellation(
    db: &mut PgConnection,
    order_id: OrderId,
    only: Option<TicketId>,
    back: Back,
    now: DateTime<Utc>,
) -> Result<Cancellation> {
    let terms = Terms::of(db, order_id).await?;
    let tickets = tickets::returnable(db, order_id).await?;
    let valid = tickets.iter().filter(|ticket| ticket.valid);
    let meant: Vec<_> = valid.filter(|t| only.is_none_or(|id| id == t.id)).collect();
    Ok(terms.cancellation(&tickets, &meant, back, now))
}

/// What was agreed on about giving back.
struct Terms {
    policy: RefundPolicy,
    begins: DateTime<Utc>,
    currency: String,
    is_sold: bool,
    /// The bank may give the buyer the money back, or has.
    disputed: bool,
    /// What has not gone back yet.
    left: i64,
}

impl Terms {
    async fn of(db: &mut PgConnection, order_id: OrderId) -> Result<Self> {
        let terms = sqlx::query!(
            r#"select o.refund_policy as "policy: sqlx::types::Json<RefundPolicy>", e.starts_at, o.currency, o.paid,
                      o.refunded, o.disputed, o.status as "status: OrderStatus"
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
            disputed: terms.disputed,
            left: terms.paid - terms.refunded,
        })
    }

    /// How much goes back for some of the order's tickets.
    fn back(
        &self,
        all: &[Returnable],
        meant: &[&Returnable],
        back: Back,
        now: DateTime<Utc>,
    ) -> i64 {
        let worth = match back {
            Back::ByPolicy => {
                let percent = self.policy.percent(self.begins, now);
                let prices: Vec<i64> = all.iter().map(|ticket| ticket.price).collect();
                let shares = shares(&prices, percent, &self.currency);
                let shares = all.iter().map(|t| t.id).zip(shares);
                let meant = |id: &TicketId| meant.iter().any(|ticket| ticket.id == *id);
                shares
                    .filter(|(id, _)| meant(id))
                    .map(|(_, share)| share)
                    .sum()
            }
            Back::Whole => meant.iter().map(|ticket| ticket.price).sum::<i64>(),
            Back::Everything => self.left,
            Back::Amount(amount) => return amount,
        };
        worth.min(self.left)
    }

    fn cancellation(
        &self,
        all: &[Returnable],
        meant: &[&Returnable],
        back: Back,
        now: DateTime<Utc>,
    ) -> Cancellation {
        let by_policy = back == Back::ByPolicy;
        let allowed = !by_policy || now < self.begins && !self.disputed;
        let possible = self.is_sold && !meant.is_empty() && allowed;
        Cancellation {
            possible,
            percent: if by_policy {
                self.policy.percent(self.begins, now)
            } else {
                100
            },
            refund_amount: if possible {
                self.back(all, meant, back, now)
            } else {
                0
            },
            currency: self.currency.clone(),
            full_until: self.policy.full_until(self.begins).map(Time::from),
            anything_until: self.policy.anything_until(self.begins).map(Time::from),
        }
    }
}

/// What each ticket of an order is worth when so much of the prices comes back: none more than it cost, and together
/// exactly what comes back for all of them, rounded down to what can be paid.
fn shares(prices: &[i64], percent: i64, currency: &str) -> Vec<i64> {
    if percent == 100 {
        return prices.to_vec();
    }
    let whole = prices.iter().map(|price| i128::from(*price)).sum::<i128>();
    let back = i64::try_from(whole * i128::from(percent) / 100);
    let back = back.expect("orders are far smaller than that");
    let weights = prices.iter().map(|price| u32::try_from(*price));
    let weights: Result<Vec<u32>, _> = weights.collect();
    money::split(
        back - back % money::smallest_payment(currency),
        &weights.expect("a price has at most eight digits"),
        currency,
    )
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
    // Money of an order that is over may still be with us: the policy kept it, or the bank sent it back.
    let owed = back.is_money() && order.paid > order.refunded;
    if !order.status.is_sold() && !owed {
        return Err(OrderError::NotPossible {
            status: order.status,
        }
        .into());
    }
    give_up_locked(tx, &order, given, back, reason, gone_back).await
}

/// The same of one ticket. One that was given back before is given back: whoever asks again hears the same.
pub async fn give_up_ticket(tx: &mut Tx, id: TicketId, back: Back, reason: &str) -> Result<()> {
    let order_id = tickets::order_of(tx, id).await?;
    let order_id = order_id.ok_or(OrderError::TicketNotFound)?;
    let order = lock(tx, order_id).await?;
    if tickets::is_given_back(tx, id).await? {
        return Ok(());
    }
    if !order.status.is_sold() {
        return Err(OrderError::NotPossible {
            status: order.status,
        }
        .into());
    }
    give_up_locked(tx, &order, &Given::These(vec![id]), back, reason, gone_back).await?;
    Ok(())
}

/// The same because the event does not take place. An order without tickets is none of our business.
pub async fn give_up_if_sold(
    tx: &mut Tx,
    order_id: OrderId,
    given: &Given,
    back: Back,
    reason: &str,
) -> Result<()> {
    let order = lock(tx, order_id).await?;
    let cancelled = |_, refund_id| News::EventCancelled { refund_id };
    if order.status.is_sold() {
        give_up_locked(tx, &order, given, back, reason, cancelled).await?;
    }
    Ok(())
}

fn gone_back(tickets: Vec<TicketId>, refund_id: Option<RefundId>) -> News {
    News::GivenBack { tickets, refund_id }
}

fn tell(tx: &mut Tx, order_id: OrderId, news: News) {
    tx.enqueue(&Tell { order_id, news });
}

async fn give_up_locked(
    tx: &mut Tx,
    order: &Locked,
    given: &Given,
    back: Back,
    reason: &str,
    news: impl FnOnce(Vec<TicketId>, Option<RefundId>) -> News,
) -> Result<Option<Refund>> {
    let order_id = order.id;
    store::keep_events(tx, &[order.event_id.0]).await?;
    let tickets = tickets::returnable(tx, order_id).await?;
    let valid: Vec<_> = tickets.iter().filter(|ticket| ticket.valid).collect();
    let terms = Terms::of(tx, order_id).await?;
    let meant = meant(&valid, given, back, terms.left)?;
    if back == Back::ByPolicy && terms.disputed {
        return Err(OrderError::Disputed.into());
    }
    if back == Back::ByPolicy && tx.now() >= terms.begins {
        return Err(OrderError::TooLate.into());
    }
    if let Back::Amount(amount) = back
        && amount != terms.left
    {
        let mut invalid = Invalid::default();
        money::check_payable(amount, &terms.currency, "amount", &mut invalid);
        invalid.check()?;
    }
    let amount = terms.back(&tickets, &meant, back, tx.now());
    if !meant.is_empty() {
        take_back(tx, order, &meant, meant.len() == valid.len(), reason).await?;
    }
    let refund = match amount {
        0 => None,
        amount => Some(pay_back(tx, order, amount, reason).await?),
    };
    if !meant.is_empty() {
        let ids = meant.iter().map(|ticket| ticket.id).collect();
        tell(
            tx,
            order_id,
            news(ids, refund.as_ref().map(|refund| refund.id)),
        );
    }
    changed(tx, order_id).await?;
    Ok(refund)
}

/// Whoever has read the order before reads it again.
async fn changed(tx: &mut Tx, order_id: OrderId) -> Result<()> {
    sqlx::query!(
        "update orders set version = version + 1 where id = $1",
        order_id as _,
    )
    .execute(&mut **tx)
    .await?;
    tx.announce(order_id);
    Ok(())
}

async fn lock(tx: &mut Tx, order_id: OrderId) -> Result<Locked> {
    let locked = store::lock(tx, &[order_id]).await?;
    Ok(locked.into_iter().next().ok_or(OrderError::NotFound)?)
}

/// The tickets that are to be taken back. Whoever gets everything back keeps no ticket.
fn meant<'a>(
    valid: &[&'a Returnable],
    given: &Given,
    back: Back,
    left: i64,
) -> Result<Vec<&'a Returnable>> {
    match given {
        Given::None if back == Back::Amount(left) => Ok(valid.to_vec()),
        Given::None => Ok(Vec::new()),
        Given::All => Ok(valid.to_vec()),
        Given::These(ids) => {
            let ids: BTreeSet<&TicketId> = ids.iter().collect();
            let find = |id: &TicketId| valid.iter().copied().find(|ticket| ticket.id == *id);
            let found: Option<Vec<_>> = ids.into_iter().map(find).collect();
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
    let refund_id: RefundId = refunds::request(tx, &new).await?;
    tx.record(Activity {
        organization_id: Some(order.organization_id),
        kind: "order.refund_requested",
        subject: order.id.into(),
        data: json!({ "refund_id": refund_id, "amount": amount, "reason": reason }),
    });
    refunds::get(tx, refund_id).await
}

/// The organizer has the money of an order that is paid by hand. Saying it twice counts it once, whatever is said of the
/// bank statement. One that has expired is paid after all if its places can still be had.
pub async fn mark_paid(app: &App, order_id: OrderId, note: Option<String>) -> Result<()> {
    let due = store::due(&mut *app.read().await?, order_id).await?;
    let due = due.ok_or(OrderError::NotFound)?;
    let possible = due.method == PaymentMethod::Manual
        && (due.status.waits() || due.status == OrderStatus::Expired);
    if due.status == OrderStatus::Paid && due.method == PaymentMethod::Manual {
        return Ok(());
    }
    if !possible {
        return Err(OrderError::NotPossible { status: due.status }.into());
    }
    let outcome = Outcome::Paid(Received {
        provider: Provider::Manual,
        reference: order_id.to_string(),
        amount: due.total,
        note,
        claim: None,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BEGINS: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn tickets(prices: &[i64]) -> Vec<Returnable> {
        let each = prices.iter().map(|price| Returnable {
            id: TicketId::fresh(BEGINS),
            price: *price,
            valid: true,
            pools: Vec::new(),
        });
        each.collect()
    }

    /// Terms under which so many percent come back, of so much that has not gone back yet.
    fn terms(percent: i32, left: i64) -> Terms {
        Terms {
            policy: RefundPolicy {
                full_until_hours: None,
                partial_percent: percent,
                partial_until_hours: 0,
                keep_fees: false,
            },
            begins: BEGINS,
            currency: "EUR".into(),
            is_sold: true,
            disputed: false,
            left,
        }
    }

    /// Gives tickets back in turns, each under its percent; answers what came back for each turn.
    fn turns(tickets: &mut [Returnable], turns: &[(Vec<usize>, i32)], paid: i64) -> Vec<i64> {
        let mut left = paid;
        let give = |(which, percent): &(Vec<usize>, i32)| {
            let all = &*tickets;
            let meant: Vec<_> = which.iter().map(|at| &all[*at]).collect();
            let back = terms(*percent, left).back(all, &meant, Back::ByPolicy, BEGINS);
            for at in which {
                tickets[*at].valid = false;
            }
            left -= back;
            back
        };
        turns.iter().map(give).collect()
    }

    prop_compose! {
        /// Prices, and an order in which to give the tickets back.
        fn orders()(prices in prop::collection::vec(0i64..=99_999_999, 1..40))
            (turns in Just((0..prices.len()).collect::<Vec<_>>()).prop_shuffle(), prices in Just(prices))
            -> (Vec<i64>, Vec<usize>) {
            (prices, turns)
        }
    }

    proptest! {
        #[test]
        fn one_by_one_comes_to_what_all_at_once_does((prices, order) in orders(), percent in 0i32..=100, cut in 0usize..40) {
            let paid: i64 = prices.iter().sum();
            let one_by_one: Vec<_> = order.iter().map(|at| (vec![*at], percent)).collect();
            let (some, rest) = order.split_at(cut.min(order.len()));
            let in_two = [(some.to_vec(), percent), (rest.to_vec(), percent)];
            let total = |parts: &[(Vec<usize>, i32)]| turns(&mut tickets(&prices), parts, paid).iter().sum::<i64>();
            let expected = i128::from(paid) * i128::from(percent) / 100;
            prop_assert_eq!(i128::from(total(&[(order.clone(), percent)])), expected);
            prop_assert_eq!(i128::from(total(&one_by_one)), expected);
            prop_assert_eq!(i128::from(total(&in_two)), expected);
        }

        #[test]
        fn what_comes_back_can_be_paid_in_every_currency(
            (units, order) in orders(), percent in 0i32..=100,
            currency in prop::sample::select(vec!["ISK", "UGX", "BHD", "TND", "JPY"]),
        ) {
            let unit = money::smallest_payment(currency);
            let prices: Vec<i64> = units.iter().map(|price| price / 100 * unit).collect();
            let paid: i64 = prices.iter().sum();
            let all = tickets(&prices);
            let terms = Terms { currency: currency.into(), ..terms(percent, paid) };
            let back = |meant: &[&Returnable]| terms.back(&all, meant, Back::ByPolicy, BEGINS);
            let each: Vec<i64> = order.iter().map(|at| back(&[&all[*at]])).collect();
            for (at, share) in order.iter().zip(&each) {
                prop_assert_eq!(share % unit, 0);
                prop_assert!((0..=prices[*at]).contains(share));
            }
            let exact = i128::from(paid) * i128::from(percent) / 100;
            let together = i128::from(each.iter().sum::<i64>());
            prop_assert_eq!(together, exact - exact % i128::from(unit));
            prop_assert_eq!(i128::from(back(&all.iter().collect::<Vec<_>>())), together);
        }

        #[test]
        fn a_ticket_brings_what_it_cost_at_most(
            (prices, order) in orders(), percents in prop::collection::vec(0i32..=100, 40), gone in 0i64..=99_999_999,
        ) {
            let paid: i64 = prices.iter().sum();
            let left = (paid - gone).max(0);
            let parts: Vec<_> = order.iter().zip(&percents).map(|(at, percent)| (vec![*at], *percent)).collect();
            let back = turns(&mut tickets(&prices), &parts, left);
            for (at, amount) in order.iter().zip(&back) {
                prop_assert!((0..=prices[*at]).contains(amount));
            }
            prop_assert!(back.iter().sum::<i64>() <= left, "more than was left after refunds by amount");
        }

        #[test]
        fn whole_tickets_after_refunds_by_amount_bring_what_is_left((prices, order) in orders(), gone in 0i64..=99_999_999) {
            let paid: i64 = prices.iter().sum();
            let mut left = (paid - gone).max(0);
            let before = left;
            let all = tickets(&prices);
            for at in &order {
                left -= terms(0, left).back(&all, &[&all[*at]], Back::Whole, BEGINS);
            }
            prop_assert_eq!(left, 0);
            prop_assert_eq!(terms(0, before).back(&all, &all.iter().collect::<Vec<_>>(), Back::Whole, BEGINS), before);
        }
    }

    #[test]
    fn the_odd_cent_goes_back_with_one_of_the_tickets() {
        assert_eq!(shares(&[333, 333, 333], 50, "EUR"), [167, 166, 166]);
        assert_eq!(shares(&[0, 0], 50, "EUR"), [0, 0]);
        assert_eq!(shares(&[], 50, "EUR"), [] as [i64; 0]);
    }
}
