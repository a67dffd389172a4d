//! What Stripe tells by itself: written down with its job, then asked after.
//!
//! Events come twice, late and in any order, so what they say counts for nothing but a hint where to look: the job asks
//! Stripe how things are now, and settles with that.

use chrono::TimeDelta;
use stripe_api::webhook::Event;

use super::disputes;
use super::jobs;
use super::pay;
use super::refunds;
use super::store;
use super::stray_payments;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ids::OrderId;
use crate::tx::Tx;

/// What is kept of an event.
struct Kept {
    kind: String,
    object_id: Option<String>,
    order_id: Option<OrderId>,
    payment_id: Option<String>,
}

/// Writes an event down, once, with the job that sees to it.
pub async fn hear(tx: &mut Tx, event: &Event) -> Result<()> {
    let order_id = event.object["metadata"]["order_id"].as_str();
    let order_id = order_id.and_then(|id| id.parse().ok()).map(OrderId);
    let payment_id = event.object["payment_intent"].as_str();
    let now = tx.now();
    let new = sqlx::query!(
        "insert into stripe_events (id, kind, object_id, order_id, payment_id, received_at)
         values ($1, $2, $3, $4, $5, $6) on conflict (id) do nothing",
        event.id,
        event.kind,
        event.object_id,
        order_id as _,
        payment_id,
        now,
    );
    let new = new.execute(&mut **tx).await?.rows_affected() > 0;
    if new && matters(&event.kind) {
        tx.enqueue(&jobs::Heard {
            event_id: event.id.clone(),
        });
    }
    Ok(())
}

/// Stripe tries to tell for some days; after that nothing is told a second time.
const KEPT: TimeDelta = TimeDelta::days(60);

/// Forgets what was told long ago; at most `limit` at a time.
pub async fn forget_heard(tx: &mut Tx, limit: i64) -> Result<u64> {
    let before = tx.now() - KEPT;
    let old = sqlx::query!(
        "delete from stripe_events where id in (select id from stripe_events where received_at < $1 limit $2)",
        before,
        limit,
    );
    Ok(old.execute(&mut **tx).await?.rows_affected())
}

fn matters(kind: &str) -> bool {
    ["payment_intent.", "checkout.session.", "refund.", "charge."]
        .iter()
        .any(|start| kind.starts_with(start))
}

/// Sees to an event.
pub async fn heard(app: &App, event_id: &str) -> Result<()> {
    let heard = sqlx::query_as!(
        Kept,
        r#"select kind, object_id, order_id as "order_id: OrderId", payment_id from stripe_events where id = $1"#,
        event_id,
    );
    let Some(heard) = heard.fetch_optional(&mut *app.read().await?).await? else {
        return Ok(());
    };
    let (kind, object) = (
        heard.kind.as_str(),
        heard.object_id.as_deref().unwrap_or_default(),
    );
    if kind.starts_with("payment_intent.") {
        match heard.order_id {
            Some(order_id) => payment(app, order_id, object).await,
            None => Ok(()),
        }
    } else if kind.starts_with("checkout.session.") {
        checkout(app, &heard, object).await
    } else if kind.starts_with("refund.") || kind == "charge.refund.updated" {
        refunds::heard(app, object).await
    } else if kind == "charge.refunded" {
        match &heard.payment_id {
            Some(payment) => refunds::heard_of_payment(app, payment).await,
            None => Ok(()),
        }
    } else if kind.starts_with("charge.dispute.") {
        disputes::see_to(app, object).await
    } else {
        Ok(())
    }
}

/// The order whose payment this is, by the ledger. What is told of a payment may be heard before the payment itself: it is
/// counted then, and where that cannot be yet, what was told waits. Nothing for a payment of some other shop.
pub(super) async fn order_paid_by(app: &App, payment_id: &str) -> Result<Option<OrderId>> {
    if let Some(order_id) = store::paid_by(&mut *app.read().await?, payment_id).await? {
        return Ok(Some(order_id));
    }
    let named = app.stripe.payment(payment_id).await?;
    let named = named.metadata.get("order_id");
    let Some(order_id) = named.and_then(|id| id.parse().ok()).map(OrderId) else {
        return Ok(None);
    };
    if store::due(&mut *app.read().await?, order_id)
        .await?
        .is_none()
    {
        return Ok(None);
    }
    payment(app, order_id, payment_id).await?;
    if stray_payments::is_stray(&mut *app.read().await?, payment_id).await? {
        return Ok(None);
    }
    let order_id = store::paid_by(&mut *app.read().await?, payment_id).await?;
    let uncounted = || Error::Unavailable(format!("{payment_id} is not counted yet").into());
    order_id.map(Some).ok_or_else(uncounted)
}

async fn payment(app: &App, order_id: OrderId, payment_id: &str) -> Result<()> {
    let Some(due) = store::due(&mut *app.read().await?, order_id).await? else {
        return Ok(());
    };
    // The payment of a checkout is the checkout's until it has taken money.
    let payment = app.stripe.payment(payment_id).await?;
    if let Some(outcome) = pay::outcome_of(&payment, due.method) {
        pay::end(app, order_id, outcome).await?;
    }
    Ok(())
}

async fn checkout(app: &App, heard: &Kept, checkout_id: &str) -> Result<()> {
    let Some(order_id) = heard.order_id else {
        return Ok(());
    };
    let checkout = app.stripe.checkout(checkout_id).await?;
    // What an event says counts for nothing: a checkout that is not this order's ends nothing.
    if checkout.metadata.get("order_id") != Some(&order_id.to_string()) {
        return Ok(());
    }
    if let Some(outcome) = pay::look_at_checkout(app, &checkout).await?.outcome {
        pay::end(app, order_id, outcome).await?;
    }
    Ok(())
}
