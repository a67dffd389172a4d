//! Money on its way back: a row first, then a job, then Stripe's word.
//!
//! What goes back is counted into the order when it is asked for, so two refunds at once can never pass what was paid:
//! the constraint `orders_refunds_within_payment` has the last word. One that fails is counted out again.

use chrono::{DateTime, TimeDelta, Utc};
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use stripe_api::RefundStatus as AtStripe;

use super::OrderError;
use super::heard::order_paid_by;
use super::jobs::{News, PayBack, Tell};
use super::status::{OrderStatus, Provider};
use super::store::{self, Entry};
use crate::access::{Actor, Scope};
use crate::activity::Activity;
use crate::app::App;
use crate::clock::Time;
use crate::error::{OnConstraint as _, Result};
use crate::ids::{OrderId, RefundId};
use crate::tx::Tx;

/// One that is older may have been asked for before.
const FRESH: TimeDelta = TimeDelta::minutes(1);

const CAME_BACK: &str = " came back";

/// Money that goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
pub struct Refund {
    pub id: RefundId,
    pub order_id: OrderId,
    /// In the minor unit of the order's currency.
    pub amount: i64,
    pub reason: String,
    pub status: RefundStatus,
    /// What Stripe said when it failed.
    pub failure: Option<String>,
    pub created_at: Time,
}

/// Where a refund stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Enum, sqlx::Type)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum RefundStatus {
    Requested,
    /// Stripe has it; the bank takes its time.
    Processing,
    Succeeded,
    Failed,
}

impl RefundStatus {
    /// Even money that has gone out may come back, from an account that is closed.
    fn leads_to(self, next: Self) -> bool {
        match self {
            Self::Requested => true,
            Self::Processing => next != Self::Requested,
            Self::Succeeded => next == Self::Failed,
            Self::Failed => false,
        }
    }
}

/// A refund to be asked for.
pub(super) struct NewRefund {
    pub order_id: OrderId,
    /// Stripe's payment; none for what was paid by hand.
    pub payment_id: Option<String>,
    pub amount: i64,
    pub reason: String,
}

/// Writes it down and counts it into its order, which is locked.
pub(super) async fn insert(tx: &mut Tx, new: &NewRefund) -> Result<RefundId> {
    let (id, now) = (RefundId::fresh(tx.now()), tx.now());
    sqlx::query!(
        "update orders set refunded = refunded + $2, version = version + 1 where id = $1",
        new.order_id as _,
        new.amount,
    )
    .execute(&mut **tx)
    .await
    .on_constraint("orders_refunds_within_payment", || {
        OrderError::RefundExceedsPayment
    })?;
    sqlx::query!(
        "insert into refunds (id, order_id, payment_id, amount, reason, status, created_at, updated_at, asked_at)
         values ($1, $2, $3, $4, $5, 'requested', $6, $6, $6)",
        id as _,
        new.order_id as _,
        new.payment_id,
        new.amount,
        new.reason,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(id)
}

/// The same, and has it paid back.
pub(super) async fn request(tx: &mut Tx, new: &NewRefund) -> Result<RefundId> {
    let refund_id = insert(tx, new).await?;
    tx.enqueue_one(&PayBack { refund_id }, refund_id);
    Ok(refund_id)
}

pub(super) async fn get(db: &mut PgConnection, id: RefundId) -> Result<Refund> {
    let refund = sqlx::query_as!(
        Refund,
        r#"select id as "id: RefundId", order_id as "order_id: OrderId", amount, reason,
                  status as "status: RefundStatus", failure, created_at as "created_at: Time"
           from refunds where id = $1"#,
        id as _,
    );
    Ok(refund.fetch_one(db).await?)
}

pub async fn list(db: &mut PgConnection, order_id: OrderId) -> Result<Vec<Refund>> {
    let refunds = sqlx::query_as!(
        Refund,
        r#"select id as "id: RefundId", order_id as "order_id: OrderId", amount, reason,
                  status as "status: RefundStatus", failure, created_at as "created_at: Time"
           from refunds where order_id = $1 order by created_at, id"#,
        order_id as _,
    );
    Ok(refunds.fetch_all(db).await?)
}

/// Whether the organizer sees to it, because it was paid by hand.
pub(super) async fn is_by_hand(db: &mut PgConnection, id: RefundId) -> Result<bool> {
    let by_hand = sqlx::query_scalar!(
        r#"select payment_id is null as "by_hand!" from refunds where id = $1"#,
        id as _,
    );
    Ok(by_hand.fetch_one(db).await?)
}

struct Open {
    order_id: OrderId,
    payment_id: Option<String>,
    provider_id: Option<String>,
    amount: i64,
    created_at: DateTime<Utc>,
}

async fn open(db: &mut PgConnection, id: RefundId) -> Result<Option<Open>> {
    let open = sqlx::query_as!(
        Open,
        r#"select order_id as "order_id: OrderId", payment_id, provider_id, amount, created_at
           from refunds
           where id = $1 and status in ('requested', 'processing')"#,
        id as _,
    );
    Ok(open.fetch_optional(db).await?)
}

/// What became of a refund at whoever pays it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundOutcome {
    pub provider: Provider,
    pub reference: String,
    pub status: RefundStatus,
    pub failure: Option<String>,
}

/// Asks Stripe to pay it back, or how far it is. Nothing if there is nothing left to do.
pub async fn ask(app: &App, id: RefundId) -> Result<Option<RefundOutcome>> {
    let Some(open) = open(&mut *app.read().await?, id).await? else {
        return Ok(None);
    };
    let Some(payment) = open.payment_id else {
        // Paid by hand, paid back by hand: the organizer sees to it.
        return Ok(Some(RefundOutcome {
            provider: Provider::Manual,
            reference: id.to_string(),
            status: RefundStatus::Succeeded,
            failure: None,
        }));
    };
    let known = match open.provider_id {
        None if app.clock.now() - open.created_at > FRESH => {
            asked_before(app, &payment, id).await?
        }
        known => known,
    };
    let refund = if let Some(known) = known {
        app.stripe.refund_status(&known).await
    } else {
        let new = stripe_api::NewRefund {
            payment,
            amount_minor: open.amount,
            metadata: [
                ("order_id".to_owned(), open.order_id.to_string()),
                ("refund_id".to_owned(), id.to_string()),
            ]
            .into(),
        };
        app.stripe.refund(&new, &id.to_string()).await
    };
    let refund = match refund {
        Err(stripe_api::Error::Refused { code, message }) => {
            return Ok(Some(RefundOutcome {
                provider: Provider::Stripe,
                reference: String::new(),
                status: RefundStatus::Failed,
                failure: Some(format!("{code}: {message}")),
            }));
        }
        refund => refund?,
    };
    Ok(Some(refund.into()))
}

/// A refund that Stripe was asked for, and whose answer was never heard: found by what it carries. Stripe forgets the key
/// after a day, and keeps a failure of its own under it.
async fn asked_before(app: &App, payment: &str, id: RefundId) -> Result<Option<String>> {
    let id = id.to_string();
    let mut after: Option<String> = None;
    loop {
        let page = app.stripe.refunds_of(payment, after.as_deref()).await?;
        let mut refunds = page.items.into_iter();
        let ours = refunds.find(|refund| refund.metadata.get("refund_id") == Some(&id));
        if ours.is_some() || page.next.is_none() {
            return Ok(ours.map(|refund| refund.id));
        }
        after = page.next;
    }
}

impl From<stripe_api::Refund> for RefundOutcome {
    fn from(refund: stripe_api::Refund) -> Self {
        Self {
            provider: Provider::Stripe,
            status: match refund.status {
                AtStripe::Succeeded => RefundStatus::Succeeded,
                AtStripe::Failed | AtStripe::Canceled => RefundStatus::Failed,
                AtStripe::Pending | AtStripe::RequiresAction => RefundStatus::Processing,
            },
            reference: refund.id,
            failure: refund.failure_reason,
        }
    }
}

/// Sees to a refund that Stripe tells of by itself: ours, or one that was made at Stripe, which becomes ours.
pub async fn heard(app: &App, reference: &str) -> Result<()> {
    take_up(app, app.stripe.refund_status(reference).await?).await
}

/// Sees to all refunds of a payment of which Stripe tells that money of it went back.
pub(super) async fn heard_of_payment(app: &App, payment: &str) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = app.stripe.refunds_of(payment, after.as_deref()).await?;
        for refund in page.items {
            take_up(app, refund).await?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn take_up(app: &App, refund: stripe_api::Refund) -> Result<()> {
    let told = refund
        .metadata
        .get("refund_id")
        .and_then(|id| id.parse().ok());
    let told = told.map(RefundId);
    let (reference, payment, amount) = (refund.id.clone(), refund.payment.clone(), refund.amount);
    let outcome = RefundOutcome::from(refund);
    let known_before = known(&mut *app.read().await?, told, &reference).await?;
    let order_id = match payment.as_ref() {
        Some(payment) if known_before.is_none() && outcome.status != RefundStatus::Failed => {
            order_paid_by(app, payment).await?
        }
        _ => None,
    };
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    let id = match (known_before, order_id, payment) {
        (Some(id), ..) => Some(id),
        (None, Some(order_id), Some(payment)) => {
            Some(adopt(&mut tx, order_id, payment, &reference, amount).await?)
        }
        _ => None,
    };
    if let Some(id) = id {
        settle(&mut tx, id, &outcome).await?;
    }
    tx.commit().await
}

async fn known(
    db: &mut PgConnection,
    told: Option<RefundId>,
    reference: &str,
) -> Result<Option<RefundId>> {
    let id = sqlx::query_scalar!(
        r#"select id as "id: RefundId" from refunds where provider_id = $2 or id = $1 and provider_id is null"#,
        told as _,
        reference,
    );
    Ok(id.fetch_optional(db).await?)
}

/// Writes down a refund of an order's payment that was made at Stripe itself.
async fn adopt(
    tx: &mut Tx,
    order_id: OrderId,
    payment: String,
    reference: &str,
    amount: i64,
) -> Result<RefundId> {
    store::lock(tx, &[order_id]).await?;
    // Two events of one refund may be seen to at once: the second finds what the first wrote.
    if let Some(id) = known(tx, None, reference).await? {
        return Ok(id);
    }
    let new = NewRefund {
        order_id,
        payment_id: Some(payment),
        amount,
        reason: "made_at_stripe".to_owned(),
    };
    insert(tx, &new).await
}

/// Writes down what became of it; the same again changes nothing.
pub async fn settle(tx: &mut Tx, id: RefundId, outcome: &RefundOutcome) -> Result<()> {
    let order_id = sqlx::query_scalar!(
        r#"select order_id as "order_id: OrderId" from refunds where id = $1"#,
        id as _
    );
    let order_id = order_id.fetch_one(&mut **tx).await?;
    let orders = store::lock(tx, &[order_id]).await?;
    let (order, now) = (
        orders.into_iter().next().ok_or(OrderError::NotFound)?,
        tx.now(),
    );
    let (before, amount) = standing(tx, id).await?;
    if !before.leads_to(outcome.status) {
        return Ok(());
    }
    let reference = Some(&outcome.reference).filter(|reference| !reference.is_empty());
    sqlx::query!(
        "update refunds set status = $2, provider_id = coalesce($3, provider_id), failure = $4, updated_at = $5
         where id = $1",
        id as _,
        outcome.status as _,
        reference,
        outcome.failure,
        now,
    )
    .execute(&mut **tx)
    .await?;
    let entry = |amount, reference: String| Entry {
        organization_id: order.organization_id,
        event_id: order.event_id,
        order_id,
        kind: "refund",
        amount,
        currency: order.currency.clone(),
        provider: outcome.provider.name(),
        reference,
    };
    let kind = match outcome.status {
        RefundStatus::Requested | RefundStatus::Processing => return Ok(()),
        RefundStatus::Failed => {
            uncount(tx, order_id, amount).await?;
            if before == RefundStatus::Succeeded {
                let back = entry(amount, came_back(&outcome.reference));
                store::insert_entries(tx, &[back], now).await?;
            }
            tracing::error!(%order_id, refund_id = %id, "a refund failed: somebody must see to it");
            let news = News::RefundFailed { refund_id: id };
            tx.enqueue(&Tell { order_id, news });
            "order.refund_failed"
        }
        RefundStatus::Succeeded => {
            let gone = entry(-amount, outcome.reference.clone());
            store::insert_entries(tx, &[gone], now).await?;
            "order.refunded"
        }
    };
    tx.record(Activity {
        organization_id: Some(order.organization_id),
        kind,
        subject: order_id.into(),
        data: json!({ "refund_id": id, "amount": amount, "failure": outcome.failure }),
    });
    if outcome.status == RefundStatus::Succeeded {
        let news = News::Refunded { refund_id: id };
        tx.enqueue(&Tell { order_id, news });
        follow(tx, &order).await?;
    }
    tx.announce(order_id);
    Ok(())
}

/// How the ledger names the money of a refund that the bank sent back.
pub(super) fn came_back(reference: &str) -> String {
    format!("{reference}{CAME_BACK}")
}

/// The refund whose money came back, if that is what the ledger names.
pub(super) fn returned(reference: &str) -> Option<&str> {
    reference.strip_suffix(CAME_BACK)
}

async fn standing(db: &mut PgConnection, id: RefundId) -> Result<(RefundStatus, i64)> {
    let refund = sqlx::query!(
        r#"select status as "status: RefundStatus", amount from refunds where id = $1"#,
        id as _,
    );
    let refund = refund.fetch_one(db).await?;
    Ok((refund.status, refund.amount))
}

async fn uncount(db: &mut PgConnection, order_id: OrderId, amount: i64) -> Result<()> {
    sqlx::query!(
        "update orders set refunded = refunded - $2, version = version + 1 where id = $1",
        order_id as _,
        amount,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The order says how much of its money has gone back for good.
async fn follow(tx: &mut Tx, order: &store::Locked) -> Result<()> {
    let gone = sqlx::query!(
        r#"select coalesce(sum(amount), 0)::bigint as "back!",
                  exists (select from tickets where order_id = $1 and status = 'valid') as "good_tickets!"
           from refunds where order_id = $1 and status = 'succeeded'"#,
        order.id as _,
    );
    let gone = gone.fetch_one(&mut **tx).await?;
    let kept = order.paid - gone.back;
    let status = match order.status {
        // Tickets that are still good, because they were free or out of goodwill, keep it alive.
        _ if kept == 0 && !gone.good_tickets => OrderStatus::Refunded,
        // What was paid twice and given back once is simply paid.
        OrderStatus::Paid if kept < order.total => OrderStatus::PartiallyRefunded,
        status => status,
    };
    if status == order.status {
        return Ok(());
    }
    sqlx::query!(
        "update orders set status = $2, version = version + 1 where id = $1",
        order.id as _,
        status as _,
    )
    .execute(&mut **tx)
    .await?;
    tx.record(Activity {
        organization_id: Some(order.organization_id),
        kind: "order.status_changed",
        subject: order.id.into(),
        data: json!({ "status": [order.status, status], "payment": {} }),
    });
    Ok(())
}

/// The open refunds that have not been asked after since `before`, marked as asked after now: those that were not asked
/// after for longest, so that many which stay open keep no other from its turn.
pub async fn to_ask(tx: &mut Tx, before: DateTime<Utc>, limit: i64) -> Result<Vec<RefundId>> {
    let now = tx.now();
    let ids = sqlx::query_scalar!(
        r#"update refunds set asked_at = $1
           where id in (select id from refunds
                        where status in ('requested', 'processing') and asked_at < $2
                        order by asked_at limit $3 for update skip locked)
           returning id as "id: RefundId""#,
        now,
        before,
        limit,
    );
    Ok(ids.fetch_all(&mut **tx).await?)
}
