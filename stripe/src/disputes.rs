//! Payments that a buyer's bank wants back.

use serde::Deserialize;
use stripe_core::dispute::RetrieveDispute;

use crate::client::id;
use crate::payments::{Named, or_default};
use crate::{BalanceTransaction, Client, Result};

#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Wire")]
pub struct Dispute {
    pub id: String,
    pub status: DisputeStatus,
    pub amount: i64,
    pub payment: Option<String>,
    /// What the bank took for it, and what it brought back.
    pub moved: Vec<BalanceTransaction>,
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
    #[serde(default, deserialize_with = "or_default")]
    balance_transactions: Vec<BalanceTransaction>,
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
            moved: wire.balance_transactions,
        }
    }
}

impl Client {
    pub async fn dispute(&self, dispute: &str) -> Result<Dispute> {
        let request = RetrieveDispute::new(id(dispute)?);
        self.look("dispute", &request).await
    }
}
