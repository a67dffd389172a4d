//! Our books of a day, held against Stripe's.
//!
//! What Stripe has moved for our orders must stand in the ledger, and what stands in the ledger must have been moved.
//! Payments at Stripe that carry no order of ours, of some other shop on the same account, are none of our business.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use stripe_api::{BalanceTransaction, Page};

use super::disputes::order_of;
use super::refunds::{came_back, returned};
use super::stray_payments::is_stray;
use crate::app::App;
use crate::error::Result;

/// Between our clock and Stripe's, and between a payment and our hearing of it.
const SLACK: TimeDelta = TimeDelta::hours(2);
/// A payment may wait this long for its buyer, and is charged then.
const LONGEST_PAYMENT: TimeDelta = TimeDelta::days(2);

/// What a day's comparison has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub day: NaiveDate,
    /// How many movements were compared.
    pub compared: usize,
    pub differences: Vec<Difference>,
}

/// Money that one side knows of and the other does not, or not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Stripe's payment or refund, or what moved for a dispute.
    pub reference: String,
    pub ours: Option<Amount>,
    pub theirs: Option<Amount>,
}

/// In the minor unit of the currency; below 0 for what was given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amount {
    pub amount: i64,
    pub currency: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |side: &Option<Amount>| match side {
            Some(side) => format!("{} {}", side.amount, side.currency),
            None => "nothing".to_owned(),
        };
        let (ours, theirs) = (shown(&self.ours), shown(&self.theirs));
        write!(
            f,
            "{}: the ledger says {ours}, Stripe says {theirs}",
            self.reference
        )
    }
}

/// Compares a day, from midnight to midnight in UTC.
pub async fn audit(app: &App, day: NaiveDate) -> Result<Report> {
    let begins = day.and_time(NaiveTime::MIN).and_utc();
    let ends = begins + TimeDelta::days(1);
    let theirs = moved_at_stripe(app, begins - SLACK, ends + SLACK).await?;
    let references: Vec<String> = theirs.keys().cloned().collect();
    let ours = ledger(app, begins - SLACK, ends + SLACK, &references).await?;
    let mut differences = Vec::new();
    let of_the_day = |at: DateTime<Utc>| (begins..ends).contains(&at);
    for (reference, (at, amount)) in &theirs {
        let known = ours.get(reference).map(|(_, amount)| amount);
        if of_the_day(*at) && known != Some(amount) {
            if known.is_none() && pays_for_nothing(app, reference).await? {
                continue;
            }
            differences.push(Difference {
                reference: reference.clone(),
                ours: known.cloned(),
                theirs: Some(amount.clone()),
            });
        }
    }
    for (reference, (at, amount)) in &ours {
        if of_the_day(*at) && !theirs.contains_key(reference) {
            // Stripe moves what goes back at once, and the ledger has it when the bank has it.
            let theirs = moved_some_other_day(app, reference).await?;
            if theirs.as_ref() == Some(amount) {
                continue;
            }
            differences.push(Difference {
                reference: reference.clone(),
                ours: Some(amount.clone()),
                theirs,
            });
        }
    }
    differences.sort_by(|one, other| one.reference.cmp(&other.reference));
    let days = theirs.values().filter(|(at, _)| of_the_day(*at));
    Ok(Report {
        day,
        compared: days.count(),
        differences,
    })
}

type Movements = HashMap<String, (DateTime<Utc>, Amount)>;

/// What Stripe has moved for us, by the names that our ledger has for it.
async fn moved_at_stripe(
    app: &App,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Movements> {
    let payments = ours_by_charge(app, from - LONGEST_PAYMENT, until).await?;
    let mut moved = Movements::new();
    let mut after = None;
    loop {
        let within = seconds(from, until);
        let page: Page<BalanceTransaction> = app
            .stripe
            .balance_transactions(within, after.as_deref())
            .await?;
        for transaction in page.items {
            let Some(reference) = reference(app, &transaction, &payments).await? else {
                continue;
            };
            let at = DateTime::from_timestamp(transaction.created, 0).unwrap_or(from);
            let amount = Amount {
                amount: transaction.amount,
                currency: transaction.currency.to_uppercase(),
            };
            moved.insert(reference, (at, amount));
        }
        after = page.next;
        if after.is_none() {
            return Ok(moved);
        }
    }
}

async fn reference(
    app: &App,
    moved: &BalanceTransaction,
    payments: &HashMap<String, String>,
) -> Result<Option<String>> {
    let Some(source) = moved.source.as_ref() else {
        return Ok(None);
    };
    Ok(match moved.kind.as_str() {
        "charge" | "payment" => payments.get(source).cloned(),
        "refund" | "payment_refund" => Some(source.clone()),
        "refund_failure" | "payment_failure_refund" => Some(came_back(source)),
        "adjustment" if source.starts_with("dp_") || source.starts_with("du_") => {
            let dispute = app.stripe.dispute(source).await?;
            let ours = order_of(app, &dispute).await?;
            ours.map(|_| moved.id.clone())
        }
        _ => None,
    })
}

/// Whether it is a stray payment, its refund, or a refund of a payment that carries no order of ours.
async fn pays_for_nothing(app: &App, reference: &str) -> Result<bool> {
    let refund = returned(reference).unwrap_or(reference);
    if !is_refund(refund) {
        return is_stray(&mut *app.read().await?, reference).await;
    }
    let Some(payment) = app.stripe.refund_status(refund).await?.payment else {
        return Ok(true);
    };
    if is_stray(&mut *app.read().await?, &payment).await? {
        return Ok(true);
    }
    let payment = app.stripe.payment(&payment).await?;
    Ok(!payment.metadata.contains_key("order_id"))
}

/// What Stripe says of something in our ledger that it did not move on that day.
async fn moved_some_other_day(app: &App, reference: &str) -> Result<Option<Amount>> {
    let found = if let Some(refund) = returned(reference) {
        let refund = app.stripe.refund_status(refund).await;
        refund.map(|refund| (refund.has_failed(), refund.amount, refund.currency))
    } else if is_refund(reference) {
        let refund = app.stripe.refund_status(reference).await;
        refund.map(|refund| (true, -refund.amount, refund.currency))
    } else if reference.starts_with("txn_") {
        let moved = app.stripe.balance_transaction(reference).await;
        moved.map(|moved| (true, moved.amount, moved.currency))
    } else {
        let payment = app.stripe.payment(reference).await;
        payment.map(|payment| {
            (
                payment.charge.is_some(),
                payment.amount_received,
                payment.currency,
            )
        })
    };
    match found {
        Ok((moved, amount, currency)) => Ok(moved.then(|| Amount {
            amount,
            currency: currency.to_uppercase(),
        })),
        Err(stripe_api::Error::NotFound | stripe_api::Error::Refused { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_refund(reference: &str) -> bool {
    reference.starts_with("re_") || reference.starts_with("pyr_")
}

/// Our payments by their charges.
async fn ours_by_charge(
    app: &App,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<HashMap<String, String>> {
    let mut payments = HashMap::new();
    let mut after = None;
    loop {
        let page = app
            .stripe
            .payments(seconds(from, until), after.as_deref())
            .await?;
        let ours = page
            .items
            .into_iter()
            .filter(|p| p.metadata.contains_key("order_id"));
        payments.extend(ours.filter_map(|payment| Some((payment.charge?, payment.id))));
        after = page.next;
        if after.is_none() {
            return Ok(payments);
        }
    }
}

fn seconds(from: DateTime<Utc>, until: DateTime<Utc>) -> Range<i64> {
    from.timestamp()..until.timestamp()
}

/// What our ledger says of these movements, and of this time.
async fn ledger(
    app: &App,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    references: &[String],
) -> Result<Movements> {
    let lines = sqlx::query!(
        r#"select reference as "reference!", at as "at!", amount as "amount!", currency as "currency!" from ledger
           where provider = 'stripe' and (at >= $1 and at < $2 or reference = any($3))
           union all
           -- Stripe has taken it from the account when it is still on its way to the buyer.
           select r.provider_id, r.created_at, -r.amount, o.currency from refunds r join orders o on o.id = r.order_id
           where r.status = 'processing' and r.provider_id = any($3)"#,
        from,
        until,
        references,
    );
    let lines = lines.fetch_all(&mut *app.read().await?).await?.into_iter();
    let ours = lines.map(|line| {
        let (amount, currency) = (line.amount, line.currency);
        (line.reference, (line.at, Amount { amount, currency }))
    });
    Ok(ours.collect())
}
