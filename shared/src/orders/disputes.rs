//! Payments that a buyer's bank wants back.
//!
//! The order is marked while nobody knows who keeps the money, and stays marked where the bank has given it to the
//! buyer: whoever has their money from the bank does not get it from us as well.

use serde_json::json;
use stripe_api::{Dispute, DisputeStatus};

use super::jobs::{News, Tell};
use super::status::Provider;
use super::store::{self, Entry};
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

/// The order that a dispute is about; nothing for one of some other shop on the same account.
pub(super) async fn order_of(app: &App, dispute: &Dispute) -> Result<Option<OrderId>> {
    let Some(payment) = &dispute.payment else {
        return Ok(None);
    };
    let payment = app.stripe.payment(payment).await?;
    let order_id = payment.metadata.get("order_id");
    Ok(order_id.and_then(|id| id.parse().ok()).map(OrderId))
}

/// The ledger has what the bank took, and what it brought back.
async fn count(tx: &mut Tx, order: &store::Locked, dispute: &Dispute) -> Result<()> {
    let moved: Vec<String> = dispute.moved.iter().map(|moved| moved.id.clone()).collect();
    let counted = store::counted(tx, "dispute", &moved).await?;
    let new = dispute.moved.iter().filter(|m| !counted.contains(&m.id));
    let entries: Vec<Entry> = new
        .map(|moved| Entry {
            organization_id: order.organization_id,
            event_id: order.event_id,
            order_id: order.id,
            kind: "dispute",
            amount: moved.amount,
            currency: moved.currency.to_uppercase(),
            provider: Provider::Stripe.name(),
            reference: moved.id.clone(),
        })
        .collect();
    if entries.is_empty() {
        return Ok(());
    }
    let now = tx.now();
    store::insert_entries(tx, &entries, now).await
}

async fn mark(tx: &mut Tx, order_id: OrderId, dispute: &Dispute) -> Result<()> {
    let Some(order) = store::lock(tx, &[order_id]).await?.pop() else {
        return Ok(());
    };
    count(tx, &order, dispute).await?;
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
