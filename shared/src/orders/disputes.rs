//! Payments that a buyer's bank wants back.
//!
//! An order is marked while one of its disputes is open, and stays marked where the bank has given the money to the buyer:
//! a buyer who has the money from the bank does not get it from us as well. A payment can be disputed more than once, so
//! each dispute is kept by its id.

use serde_json::json;
use stripe_api::{Dispute, DisputeStatus};

use super::heard::order_paid_by;
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
pub(super) async fn see_to(app: &App, dispute_id: &str) -> Result<()> {
    let dispute = app.stripe.dispute(dispute_id).await?;
    let Some(payment) = &dispute.payment else {
        return Ok(());
    };
    let Some(order_id) = order_paid_by(app, payment).await? else {
        return Ok(());
    };
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    mark(&mut tx, order_id, &dispute).await?;
    tx.commit().await
}

/// The order that the payment of a dispute names; nothing for one of some other shop on the same account.
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

/// Keeps how a dispute stands; whether the order is disputed then. Of two jobs at once, the later may have asked Stripe
/// earlier: a dispute that was decided is not open again.
async fn keep(tx: &mut Tx, order_id: OrderId, dispute: &Dispute) -> Result<bool> {
    let (status, now) = (name(dispute.status), tx.now());
    sqlx::query!(
        "insert into disputes (id, order_id, status, heard_at) values ($1, $2, $3, $4)
         on conflict (id) do update set status = excluded.status, heard_at = excluded.heard_at
         where excluded.status <> 'open'",
        dispute.id,
        order_id as _,
        status,
        now,
    )
    .execute(&mut **tx)
    .await?;
    let disputed = sqlx::query_scalar!(
        r#"select exists (select from disputes where order_id = $1 and status <> 'won') as "disputed!""#,
        order_id as _,
    );
    Ok(disputed.fetch_one(&mut **tx).await?)
}

const fn name(status: DisputeStatus) -> &'static str {
    match status {
        DisputeStatus::Open => "open",
        DisputeStatus::Won => "won",
        DisputeStatus::Lost => "lost",
    }
}

async fn mark(tx: &mut Tx, order_id: OrderId, dispute: &Dispute) -> Result<()> {
    let Some(order) = store::lock(tx, &[order_id]).await?.pop() else {
        return Ok(());
    };
    count(tx, &order, dispute).await?;
    let disputed = keep(tx, order_id, dispute).await?;
    if dispute.status != DisputeStatus::Won {
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
