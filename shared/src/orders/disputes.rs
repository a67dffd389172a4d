//! Payments that a buyer's bank wants back.
//!
//! The order is marked while nobody knows who keeps the money, and stays marked where the bank has given it to the
//! buyer: whoever has their money from the bank does not get it from us as well.

use serde_json::json;
use stripe_api::{Dispute, DisputeStatus};

use super::jobs::{News, Tell};
use super::store;
use crate::access::{Actor, Scope};
use crate::activity::Activity;
use crate::app::App;
use crate::error::Result;
use crate::ids::OrderId;
use crate::tx::Tx;

/// Sees to a dispute that Stripe tells of, as it stands now.
pub(super) async fn heard(app: &App, dispute_id: &str) -> Result<()> {
    let dispute = app.stripe.dispute(dispute_id).await?;
    let Some(order_id) = order_of(app, &dispute).await? else {
        return Ok(());
    };
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    mark(&mut tx, order_id, &dispute).await?;
    tx.commit().await
}

async fn order_of(app: &App, dispute: &Dispute) -> Result<Option<OrderId>> {
    let Some(payment) = &dispute.payment else {
        return Ok(None);
    };
    let payment = app.stripe.payment(payment).await?;
    let order_id = payment.metadata.get("order_id");
    Ok(order_id.and_then(|id| id.parse().ok()).map(OrderId))
}

async fn mark(tx: &mut Tx, order_id: OrderId, dispute: &Dispute) -> Result<()> {
    let Some(order) = store::lock(tx, &[order_id]).await?.pop() else {
        return Ok(());
    };
    let disputed = dispute.status != DisputeStatus::Won;
    if disputed {
        // Told once, however often Stripe tells us.
        let (dispute_id, amount) = (dispute.id.clone(), dispute.amount);
        let news = News::Disputed { dispute_id, amount };
        tx.enqueue(&Tell { order_id, news });
    }
    if order.disputed == disputed {
        return Ok(());
    }
    sqlx::query!(
        "update orders set disputed = $2, version = version + 1 where id = $1",
        order_id as _,
        disputed,
    )
    .execute(&mut **tx)
    .await?;
    tx.record(Activity {
        organization_id: Some(order.organization_id),
        kind: "order.disputed",
        subject: order_id.into(),
        data: json!({ "disputed": disputed, "dispute_id": dispute.id }),
    });
    tx.announce(order_id);
    Ok(())
}
