//! The places of an order before it is paid for: who has none is not charged.
//!
//! Between the placing of an order and its payment, Redis may have lost the hold and let others have its places. So
//! the hold is placed again first, which changes nothing where it stands. Where Redis is away or has promised more
//! than there is, Postgres decides: of the orders that wait, those that were placed first have the places. Holds without an
//! order come last.

use super::pay;
use super::settle::Settled;
use super::store::{self, Attempt, Due};
use crate::app::App;
use crate::error::Result;
use crate::ids::OrderId;
use crate::stock;

/// Whether an order that waits has the places that are about to be paid for.
pub(super) async fn has_places(app: &App, order_id: OrderId) -> Result<bool> {
    let now = app.clock.now();
    let hold = store::hold_again(&mut *app.read().await?, order_id, now).await?;
    let Some((_, hold)) = hold else {
        return Ok(true);
    };
    let is_held = !hold.parts.is_empty() && stock::hold_again(app, &hold).await?;
    Ok(is_held || store::has_room(&mut *app.read().await?, order_id).await?)
}

/// Ends an order that has no places.
pub(super) async fn refuse(app: &App, due: &Due, attempt: &Attempt) -> Result<Option<Settled>> {
    tracing::warn!(order_id = %due.order_id, "an order has lost its places and is not charged");
    metrics::counter!("holdfast_orders_without_places_total").increment(1);
    pay::end_uncharged(app, due, attempt).await
}
