//! Money on its way back: a row first, then a job, then Stripe's word.
//!
//! What goes back is counted into the order when it is asked for, so two refunds at once can never pass what was paid:
//! the constraint `orders_refunds_within_payment` has the last word. One that fails is counted out again.

use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use stripe_api::RefundStatus as AtStripe;

use super::OrderError;
use super::jobs::{News, Tell};
use super::status::{OrderStatus, Provider};
use super::store::{self, Entry};
use crate::activity::Activity;
use crate::app::App;
use crate::clock::Time;
use crate::error::{OnConstraint as _, Result};
use crate::ids::{OrderId, RefundId};
use crate::tx::Tx;

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
        "update orders set refunded = refunded + $2 where id = $1",
        new.order_id as _,
        new.amount,
    )
    .execute(&mut **tx)
    .await
    .on_constraint("orders_refunds_within_payment", || {
        OrderError::RefundExceedsPayment
    })?;
    sqlx::query!(
        "insert into refunds (id, order_id, payment_id, amount, reason, status, created_at, updated_at)
         values ($1, $2, $3, $4, $5, 'requested', $6, $6)",
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
}

async fn open(db: &mut PgConnection, id: RefundId) -> Result<Option<Open>> {
    let open = sqlx::query_as!(
        Open,
        r#"select order_id as "order_id: OrderId", payment_id, provider_id, amount from refunds
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
    let refund = if let Some(known) = open.provider_id {
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
    Ok(Some(RefundOutcome {
        provider: Provider::Stripe,
        status: match refund.status {
            AtStripe::Succeeded => RefundStatus::Succeeded,
            AtStripe::Failed | AtStripe::Canceled => RefundStatus::Failed,
            AtStripe::Pending | AtStripe::RequiresAction => RefundStatus::Processing,
        },
        reference: refund.id,
        failure: refund.failure_reason,
    }))
}

/// Writes down what became of it; the same again changes nothing.
pub async fn settle(tx: &mut Tx, id: RefundId, outcome: &RefundOutcome) -> Result<()> {
    let order_id = sqlx::query_scalar!(
        r#"select order_id as "order_id: OrderId" from refunds where id = $1"#,
        id as _
    );
    let order_id = order_id.fetch_one(&mut **tx).await?;
    let orders = store::lock(tx, &[order_id]).await?;
    let Some(open) = open(tx, id).await? else {
        return Ok(());
    };
    let (order, now) = (
        orders.into_iter().next().ok_or(OrderError::NotFound)?,
        tx.now(),
    );
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
    let status = match outcome.status {
        RefundStatus::Requested | RefundStatus::Processing => return Ok(()),
        RefundStatus::Failed => {
            uncount(tx, order_id, open.amount).await?;
            tracing::error!(%order_id, refund_id = %id, "a refund failed: somebody must see to it");
            "order.refund_failed"
        }
        RefundStatus::Succeeded => {
            let entry = Entry {
                organization_id: order.organization_id,
                event_id: order.event_id,
                order_id,
                kind: "refund",
                amount: -open.amount,
                currency: order.currency.clone(),
                provider: outcome.provider.name(),
                reference: outcome.reference.clone(),
            };
            store::insert_entries(tx, &[entry], now).await?;
            "order.refunded"
        }
    };
    tx.record(Activity {
        organization_id: Some(order.organization_id),
        kind: status,
        subject: order_id.into(),
        data: json!({ "refund_id": id, "amount": open.amount, "failure": outcome.failure }),
    });
    if outcome.status == RefundStatus::Succeeded {
        let news = News::Refunded { refund_id: id };
        tx.enqueue(&Tell { order_id, news });
        follow(tx, &order).await?;
    }
    tx.announce(order_id);
    Ok(())
}

async fn uncount(db: &mut PgConnection, order_id: OrderId, amount: i64) -> Result<()> {
    sqlx::query!(
        "update orders set refunded = refunded - $2 where id = $1",
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

/// The refund that Stripe knows by this name.
pub async fn by_reference(db: &mut PgConnection, reference: &str) -> Result<Option<RefundId>> {
    let id = sqlx::query_scalar!(
        r#"select id as "id: RefundId" from refunds where provider_id = $1"#,
        reference
    );
    Ok(id.fetch_optional(db).await?)
}

/// Refunds that were left lying since before `before`.
pub async fn lying(
    db: &mut PgConnection,
    before: chrono::DateTime<chrono::Utc>,
    limit: i64,
) -> Result<Vec<RefundId>> {
    let ids = sqlx::query_scalar!(
        r#"select id as "id: RefundId" from refunds
           where status in ('requested', 'processing') and updated_at < $1 order by updated_at limit $2"#,
        before,
        limit,
    );
    Ok(ids.fetch_all(db).await?)
}
