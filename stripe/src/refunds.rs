//! Money that goes back.

use serde::Deserialize;
use stripe_core::refund::{CreateRefund, ListRefund, RetrieveRefund};

use crate::client::id;
use crate::page::{PAGE, WirePage};
use crate::payments::{Named, or_default, pairs};
use crate::{Client, Metadata, Page, Result};

/// A refund to be made.
#[derive(Debug, Clone, Default)]
pub struct NewRefund {
    pub payment: String,
    pub amount_minor: i64,
    pub metadata: Metadata,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Wire")]
pub struct Refund {
    pub id: String,
    pub status: RefundStatus,
    pub amount: i64,
    pub currency: String,
    pub payment: Option<String>,
    pub failure_reason: Option<String>,
    pub metadata: Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    Pending,
    RequiresAction,
    Succeeded,
    Failed,
    Canceled,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    status: RefundStatus,
    amount: i64,
    currency: String,
    payment_intent: Option<Named>,
    failure_reason: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
}

impl From<Wire> for Refund {
    fn from(wire: Wire) -> Self {
        Self {
            id: wire.id,
            status: wire.status,
            amount: wire.amount,
            currency: wire.currency,
            payment: wire.payment_intent.map(Named::id),
            failure_reason: wire.failure_reason,
            metadata: wire.metadata,
        }
    }
}

impl Refund {
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self.status, RefundStatus::Failed | RefundStatus::Canceled)
    }
}

impl Client {
    /// Stripe refuses to give back more than came in, by the codes `charge_already_refunded` and `amount_too_large`.
    pub async fn refund(&self, new: &NewRefund, key: &str) -> Result<Refund> {
        let request = CreateRefund::new()
            .payment_intent(id(&new.payment)?)
            .amount(new.amount_minor)
            .metadata(pairs(&new.metadata));
        let answer = self.change("refund", &request, key).await?;
        answer.or_error()
    }

    /// The refunds of a payment: one page, from the newest or after the last page's `next`.
    pub async fn refunds_of(&self, payment: &str, after: Option<&str>) -> Result<Page<Refund>> {
        let mut request = ListRefund::new().payment_intent(payment).limit(PAGE);
        if let Some(after) = after {
            request = request.starting_after(id(after)?);
        }
        let page: WirePage<Refund> = self.look("refunds_of", &request).await?;
        Ok(page.page(|refund| &refund.id))
    }

    pub async fn refund_status(&self, refund: &str) -> Result<Refund> {
        let request = RetrieveRefund::new(id(refund)?);
        self.look("refund_status", &request).await
    }
}
