//! Money at Stripe in the name of an order that is not what the order asks for.
//!
//! A payment sells something only if it names the order and one of its tries, in the order's currency and with the whole amount
//! (`status.rs`). Any other money is written down here, shown to operators and refunded in full. It never enters the order or
//! the ledger.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;

use super::status::{Mismatch, Received};
use super::store::Locked;
use crate::access::{Actor, Scope};
use crate::activity::Activity;
use crate::app::App;
use crate::error::Result;
use crate::ids::{self, OrderId};
use crate::jobs::{Job, Queue};
use crate::tx::Tx;

/// Refunds a stray payment.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReturnStrayPayment {
    pub payment_id: String,
}

impl Job for ReturnStrayPayment {
    const KIND: &'static str = "orders.return_stray_payment";
    const QUEUE: Queue = Queue::Payment;
}

/// A payment that pays for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrayPayment {
    pub payment_id: String,
    pub order_id: OrderId,
    /// In the minor unit of the currency.
    pub amount: i64,
    pub currency: String,
    /// What differs from what the order asks for: `attempt`, `currency` or `amount`.
    pub mismatch: String,
    pub refund_id: Option<String>,
    /// Why Stripe refuses to refund it.
    pub failure: Option<String>,
}

/// Writes a payment down, once, with the job that refunds it.
pub(super) async fn write_down(
    tx: &mut Tx,
    order: &Locked,
    received: &Received,
    mismatch: Mismatch,
) -> Result<()> {
    let currency = received.claim.as_ref().map(|claim| claim.currency.clone());
    let (payment_id, amount, now) = (&received.reference, received.amount, tx.now());
    let new = sqlx::query!(
        "insert into stray_payments (payment_id, order_id, amount, currency, mismatch, noted_at)
         values ($1, $2, $3, $4, $5, $6) on conflict (payment_id) do nothing",
        payment_id,
        order.id as _,
        amount,
        currency.unwrap_or_default(),
        mismatch.name(),
        now,
    );
    if new.execute(&mut **tx).await?.rows_affected() == 0 {
        return Ok(());
    }
    let (order_id, mismatch) = (order.id, mismatch.name());
    tracing::error!(%order_id, payment_id, amount, mismatch, "a payment is not what its order asks for and goes back");
    metrics::counter!("holdfast_stray_payments_total", "mismatch" => mismatch).increment(1);
    tx.record(Activity {
        organization_id: Some(order.organization_id),
        kind: "order.stray_payment",
        subject: order_id.into(),
        data: json!({ "payment_id": payment_id, "amount": amount, "mismatch": mismatch }),
    });
    tx.enqueue(&ReturnStrayPayment {
        payment_id: payment_id.clone(),
    });
    Ok(())
}

/// Whether a payment was found to be a stray one.
pub(super) async fn is_stray(db: &mut PgConnection, payment_id: &str) -> Result<bool> {
    let there = sqlx::query_scalar!(
        r#"select exists (select from stray_payments where payment_id = $1) as "there!""#,
        payment_id,
    );
    Ok(there.fetch_one(db).await?)
}

/// Stray payments whose money is still here, for an operator to look at.
pub async fn open(db: &mut PgConnection, limit: i64) -> Result<Vec<StrayPayment>> {
    let open = sqlx::query_as!(
        StrayPayment,
        r#"select payment_id, order_id as "order_id: OrderId", amount, currency, mismatch, refund_id, failure
           from stray_payments where refund_id is null order by noted_at limit $1"#,
        limit,
    );
    Ok(open.fetch_all(db).await?)
}

async fn get(db: &mut PgConnection, payment_id: &str) -> Result<Option<StrayPayment>> {
    let stray = sqlx::query_as!(
        StrayPayment,
        r#"select payment_id, order_id as "order_id: OrderId", amount, currency, mismatch, refund_id, failure
           from stray_payments where payment_id = $1"#,
        payment_id,
    );
    Ok(stray.fetch_optional(db).await?)
}

/// Refunds a stray payment in full. Stripe refunds no payment beyond its amount, so asking twice returns the money once.
pub async fn return_money(app: &App, payment_id: &str) -> Result<()> {
    let stray = get(&mut *app.read().await?, payment_id).await?;
    let Some(stray) = stray.filter(|stray| stray.refund_id.is_none()) else {
        return Ok(());
    };
    let made = app.stripe.refunds_of(payment_id, None).await?;
    let made = made.items.into_iter().find(|refund| !refund.has_failed());
    let refund = if let Some(refund) = made {
        Ok(refund)
    } else {
        let new = stripe_api::NewRefund {
            payment: payment_id.to_owned(),
            amount_minor: stray.amount,
            metadata: [("stray_payment".to_owned(), payment_id.to_owned())].into(),
        };
        // A key of its own for each try: Stripe repeats a failure under the same key for a day.
        let key = ids::fresh_key("stray", app.clock.now());
        app.stripe.refund(&new, &key).await
    };
    let (refund_id, failure) = match refund {
        Ok(refund) => (Some(refund.id), None),
        Err(stripe_api::Error::Refused { code, message }) => {
            let order_id = stray.order_id;
            tracing::error!(%order_id, payment_id, code, "Stripe refuses to refund a stray payment");
            (None, Some(format!("{code}: {message}")))
        }
        Err(error) => return Err(error.into()),
    };
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    sqlx::query!(
        "update stray_payments set refund_id = $2, failure = $3 where payment_id = $1",
        payment_id,
        refund_id,
        failure,
    )
    .execute(&mut *tx as &mut PgConnection)
    .await?;
    tx.commit().await
}
