//! Payments that a buyer's bank wants back.

use serde::Deserialize;
use stripe_core::dispute::RetrieveDispute;

use crate::client::id;
use crate::payments::Named;
use crate::{Client, Result};

#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Wire")]
pub struct Dispute {
    pub id: String,
    pub status: DisputeStatus,
    pub amount: i64,
    pub payment: Option<String>,
}

/// Who has the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisputeStatus {
    /// That is not decided.
    Open,
    /// It is ours.
    Won,
    /// The bank has given it back to the buyer.
    Lost,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    status: String,
    amount: i64,
    payment_intent: Option<Named>,
}

impl From<Wire> for Dispute {
    fn from(wire: Wire) -> Self {
        Self {
            id: wire.id,
            status: match wire.status.as_str() {
                "won" | "warning_closed" | "prevented" => DisputeStatus::Won,
                "lost" => DisputeStatus::Lost,
                // What Stripe calls it while it goes on, now or some day.
                _ => DisputeStatus::Open,
            },
            amount: wire.amount,
            payment: wire.payment_intent.map(Named::id),
        }
    }
}

impl Client {
    pub async fn dispute(&self, dispute: &str) -> Result<Dispute> {
        let request = RetrieveDispute::new(id(dispute)?);
        self.look("dispute", &request).await
    }
}
