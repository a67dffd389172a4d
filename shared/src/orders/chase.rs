//! Asking Stripe after every order that waits, now.

use futures_util::stream::{self, StreamExt as _};

use super::{pay, to_ask};
use crate::access::{Actor, Scope};
use crate::app::App;
use crate::error::Result;
use crate::ids::OrderId;

/// So many are written down as asked after at a time, and so many asked after at once.
const BATCH: i64 = 500;
const AT_ONCE: usize = 8;

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chased {
    pub asked: usize,
    /// Those that came to an end, or now wait for something else.
    pub settled: usize,
    /// Those that nobody could say anything about.
    pub unanswered: usize,
}

/// Asks after every order that waits; one that cannot be asked after keeps the others from nothing.
pub async fn chase(app: &App) -> Result<Chased> {
    let (mut chased, before) = (Chased::default(), app.clock.now());
    loop {
        let mut tx = app.begin(Actor::System, Scope::Everything).await?;
        let orders = to_ask(&mut tx, before, BATCH).await?;
        tx.commit().await?;
        if orders.is_empty() {
            return Ok(chased);
        }
        let asking = orders.into_iter().map(|id| ask(app, id));
        let answers: Vec<Option<bool>> = stream::iter(asking)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        chased.asked += answers.len();
        chased.settled += answers
            .iter()
            .filter(|answer| **answer == Some(true))
            .count();
        chased.unanswered += answers.iter().filter(|answer| answer.is_none()).count();
    }
}

/// Whether that changed something; none if nobody knows.
async fn ask(app: &App, order_id: OrderId) -> Option<bool> {
    match pay::ask(app, order_id).await {
        Ok(settled) => Some(settled.is_some_and(|settled| settled.changed)),
        Err(error) => {
            tracing::warn!(%order_id, %error, "an order could not be asked after");
            None
        }
    }
}
