//! What moved on the account, to compare with our own books.

use std::ops::Range;

use serde::Deserialize;
use stripe_core::balance_transaction::{ListBalanceTransaction, RetrieveBalanceTransaction};

use crate::client::id;
use crate::page::{PAGE, Page, WirePage, created};
use crate::payments::{Named, or_default};
use crate::{Client, Result};

/// Money that moved.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire")]
pub struct BalanceTransaction {
    pub id: String,
    /// `charge`, `refund`, `adjustment`, `payout` and others.
    pub kind: String,
    /// Negative when it left.
    pub amount: i64,
    pub fee: i64,
    pub net: i64,
    pub currency: String,
    /// The charge, refund or dispute it belongs to.
    pub source: Option<String>,
    /// Seconds since 1970.
    pub created: i64,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    amount: i64,
    #[serde(default, deserialize_with = "or_default")]
    fee: i64,
    net: i64,
    currency: String,
    source: Option<Named>,
    created: i64,
}

impl From<Wire> for BalanceTransaction {
    fn from(wire: Wire) -> Self {
        Self {
            id: wire.id,
            kind: wire.kind,
            amount: wire.amount,
            fee: wire.fee,
            net: wire.net,
            currency: wire.currency,
            source: wire.source.map(Named::id),
            created: wire.created,
        }
    }
}

impl Client {
    pub async fn balance_transaction(&self, transaction: &str) -> Result<BalanceTransaction> {
        let request = RetrieveBalanceTransaction::new(id(transaction)?);
        self.look("balance_transaction", &request).await
    }

    /// What moved within a span, in seconds since 1970: one page, from the newest or after the last page's `next`.
    pub async fn balance_transactions(
        &self,
        within: Range<i64>,
        after: Option<&str>,
    ) -> Result<Page<BalanceTransaction>> {
        let mut request = ListBalanceTransaction::new()
            .created(created(&within))
            .limit(PAGE);
        if let Some(after) = after {
            request = request.starting_after(id(after)?);
        }
        let page: WirePage<BalanceTransaction> =
            self.look("balance_transactions", &request).await?;
        Ok(page.page(|transaction| &transaction.id))
    }
}
