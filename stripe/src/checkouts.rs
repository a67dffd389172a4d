//! Stripe's own page to pay on.

use serde::Deserialize;
use stripe_checkout::checkout_session::{
    CreateCheckoutSession, CreateCheckoutSessionLineItems, CreateCheckoutSessionLineItemsPriceData,
    CreateCheckoutSessionPaymentIntentData, ExpireCheckoutSession, ProductData,
    RetrieveCheckoutSession,
};
use stripe_shared::CheckoutSessionMode;

use crate::client::{Answer, id};
use crate::payments::{Named, currency, or_default, pairs};
use crate::{Client, Metadata, Result};

/// A checkout to be opened.
#[derive(Debug, Clone, Default)]
pub struct NewCheckout {
    pub amount_minor: i64,
    pub currency: String,
    /// What is bought, for the buyer to read.
    pub name: String,
    /// `{CHECKOUT_SESSION_ID}` in it becomes the id.
    pub success_url: String,
    pub cancel_url: String,
    /// Seconds since 1970. Stripe wants at least 30 minutes and at most 24 hours from now: what has to end sooner is
    /// ended with [`Client::expire_checkout`].
    pub expires_at: Option<i64>,
    /// Written on the checkout and on its payment.
    pub metadata: Metadata,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Wire")]
pub struct Checkout {
    pub id: String,
    pub status: CheckoutStatus,
    /// Where the buyer pays, while it is open.
    pub url: Option<String>,
    pub paid: bool,
    /// Its payment, once the buyer has tried to pay.
    pub payment: Option<String>,
    pub amount: i64,
    pub currency: Option<String>,
    pub expires_at: i64,
    pub metadata: Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckoutStatus {
    Open,
    Complete,
    Expired,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    status: CheckoutStatus,
    url: Option<String>,
    payment_status: Option<String>,
    payment_intent: Option<Named>,
    #[serde(default, deserialize_with = "or_default")]
    amount_total: i64,
    currency: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    expires_at: i64,
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
}

impl From<Wire> for Checkout {
    fn from(wire: Wire) -> Self {
        let paid = ["paid", "no_payment_required"];
        Self {
            id: wire.id,
            status: wire.status,
            url: wire.url,
            paid: wire
                .payment_status
                .is_some_and(|status| paid.contains(&status.as_str())),
            payment: wire.payment_intent.map(Named::id),
            amount: wire.amount_total,
            currency: wire.currency,
            expires_at: wire.expires_at,
            metadata: wire.metadata,
        }
    }
}

impl Client {
    pub async fn create_checkout(&self, new: &NewCheckout, key: &str) -> Result<Checkout> {
        let mut price = CreateCheckoutSessionLineItemsPriceData::new(currency(&new.currency));
        price.unit_amount = Some(new.amount_minor);
        price.product_data = Some(ProductData::new(&new.name));
        let mut item = CreateCheckoutSessionLineItems::new();
        item.price_data = Some(price);
        item.quantity = Some(1);
        let mut payment = CreateCheckoutSessionPaymentIntentData::new();
        payment.metadata = Some(pairs(&new.metadata));
        let mut request = CreateCheckoutSession::new()
            .mode(CheckoutSessionMode::Payment)
            .line_items(vec![item])
            .payment_intent_data(payment)
            .metadata(pairs(&new.metadata))
            .success_url(&new.success_url)
            .cancel_url(&new.cancel_url);
        if let Some(order) = new.metadata.get("order_id") {
            request = request.client_reference_id(order);
        }
        if let Some(expires_at) = new.expires_at {
            request = request.expires_at(expires_at);
        }
        let answer = self.change("create_checkout", &request, key).await?;
        answer.or_error()
    }

    pub async fn checkout(&self, checkout: &str) -> Result<Checkout> {
        let request = RetrieveCheckoutSession::new(id(checkout)?);
        self.look("checkout", &request).await
    }

    /// Nobody can pay it any more. What is no longer open is returned as it is: paid, or expired before.
    pub async fn expire_checkout(&self, checkout: &str, key: &str) -> Result<Checkout> {
        let request = ExpireCheckoutSession::new(id(checkout)?);
        match self.change("expire_checkout", &request, key).await? {
            Answer::Told(400, told) => {
                let found = self.checkout(checkout).await?;
                match found.status {
                    CheckoutStatus::Open => Answer::Told(400, told).or_error(),
                    CheckoutStatus::Complete | CheckoutStatus::Expired => Ok(found),
                }
            }
            other => other.or_error(),
        }
    }
}
