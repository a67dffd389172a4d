//! Payments.

use std::ops::Range;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use stripe_core::payment_intent::{
    CancelPaymentIntent, CreatePaymentIntent, CreatePaymentIntentAutomaticPaymentMethods,
    CreatePaymentIntentAutomaticPaymentMethodsAllowRedirects, ListPaymentIntent,
    RetrievePaymentIntent,
};

use stripe_types::Currency;

use crate::client::{Answer, id};
use crate::error::Told;
use crate::page::{PAGE, Page, WirePage, created};
use crate::{Client, Error, Metadata, Result};

/// A payment to be made.
#[derive(Debug, Clone, Default)]
pub struct NewPayment {
    /// In the smallest unit. Stripe takes none below about half a euro.
    pub amount_minor: i64,
    pub currency: String,
    /// The token of a card.
    pub method: Option<String>,
    /// Whether it is to be paid at once with that card.
    pub confirm: bool,
    pub metadata: Metadata,
    pub description: Option<String>,
    /// Where a bank that asks the buyer sends them afterwards. Without it, the browser shows the question itself.
    pub return_url: Option<String>,
}

/// A payment as it stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Wire")]
pub struct Payment {
    pub id: String,
    pub status: PaymentStatus,
    pub amount: i64,
    pub amount_received: i64,
    pub currency: String,
    /// With it a browser confirms this one payment.
    pub client_secret: Option<SecretString>,
    /// Where the buyer has to answer their bank, if they have to and there is such a page.
    pub action_url: Option<SecretString>,
    /// The last charge, whether it took money or not.
    pub charge: Option<String>,
    /// Why the last attempt to pay failed.
    pub decline: Option<Decline>,
    pub metadata: Metadata,
    pub created: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    Succeeded,
    Processing,
    RequiresAction,
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresCapture,
    Canceled,
}

/// Why a card was not charged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Decline {
    #[serde(deserialize_with = "or_default")]
    pub code: String,
    /// What the bank said, where it said something.
    pub decline_code: Option<String>,
    /// For the buyer.
    #[serde(deserialize_with = "or_default")]
    pub message: String,
}

/// What we need of Stripe's payment; all else may be missing.
#[derive(Deserialize)]
struct Wire {
    id: String,
    status: PaymentStatus,
    amount: i64,
    #[serde(default, deserialize_with = "or_default")]
    amount_received: i64,
    currency: String,
    client_secret: Option<SecretString>,
    next_action: Option<NextAction>,
    latest_charge: Option<Named>,
    last_payment_error: Option<Decline>,
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    created: i64,
}

#[derive(Deserialize)]
struct NextAction {
    redirect_to_url: Option<Redirect>,
    use_stripe_sdk: Option<Value>,
}

#[derive(Deserialize)]
struct Redirect {
    url: Option<String>,
}

/// Something that is named by its id, or told in full.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Named {
    Id(String),
    Whole { id: String },
}

impl Named {
    pub(crate) fn id(self) -> String {
        match self {
            Self::Id(id) | Self::Whole { id } => id,
        }
    }
}

/// Stripe writes null for what is not there.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl NextAction {
    fn url(self) -> Option<SecretString> {
        let elsewhere = self.redirect_to_url.and_then(|redirect| redirect.url);
        let inside = || {
            self.use_stripe_sdk?["stripe_js"]
                .as_str()
                .map(str::to_owned)
        };
        elsewhere.or_else(inside).map(SecretString::from)
    }
}

impl From<Wire> for Payment {
    fn from(wire: Wire) -> Self {
        Self {
            id: wire.id,
            status: wire.status,
            amount: wire.amount,
            amount_received: wire.amount_received,
            currency: wire.currency,
            client_secret: wire.client_secret,
            action_url: wire.next_action.and_then(NextAction::url),
            charge: wire.latest_charge.map(Named::id),
            decline: wire.last_payment_error,
            metadata: wire.metadata,
            created: wire.created,
        }
    }
}

impl Client {
    /// Makes a payment, and pays it if it is to be confirmed. A decline is an answer: the payment then asks for
    /// another card.
    pub async fn create_payment(&self, new: &NewPayment, key: &str) -> Result<Payment> {
        let mut ways = CreatePaymentIntentAutomaticPaymentMethods::new(true);
        if new.confirm && new.return_url.is_none() {
            // Stripe would insist on a page to come back to.
            ways.allow_redirects =
                Some(CreatePaymentIntentAutomaticPaymentMethodsAllowRedirects::Never);
        }
        let mut request = CreatePaymentIntent::new(new.amount_minor, currency(&new.currency))
            .automatic_payment_methods(ways)
            .metadata(pairs(&new.metadata));
        if let Some(method) = &new.method {
            request = request.payment_method(method);
        }
        if new.confirm {
            request = request.confirm(true);
        }
        if let Some(description) = &new.description {
            request = request.description(description);
        }
        if let Some(url) = new.return_url.as_ref().filter(|_| new.confirm) {
            request = request.return_url(url);
        }
        let answer = self.change("create_payment", &request, key).await?;
        as_payment(answer, Told::is_decline)
    }

    pub async fn payment(&self, payment: &str) -> Result<Payment> {
        let request = RetrievePaymentIntent::new(id(payment)?);
        self.look("payment", &request).await
    }

    /// Payments that were made within a span, in seconds since 1970: one page, from the newest or after the last
    /// page's `next`. For when no answer told the id of a payment: its metadata say whose it is.
    pub async fn payments(&self, within: Range<i64>, after: Option<&str>) -> Result<Page<Payment>> {
        let mut request = ListPaymentIntent::new()
            .created(created(&within))
            .limit(PAGE);
        if let Some(after) = after {
            request = request.starting_after(id(after)?);
        }
        let page: WirePage<Payment> = self.look("payments", &request).await?;
        Ok(page.page(|payment| &payment.id))
    }

    /// Takes back what was not paid. What can no longer be cancelled is returned as it is: paid, or cancelled
    /// before.
    pub async fn cancel_payment(&self, payment: &str, key: &str) -> Result<Payment> {
        let request = CancelPaymentIntent::new(id(payment)?);
        let answer = self.change("cancel_payment", &request, key).await?;
        as_payment(answer, |told| {
            told.code.as_deref() == Some("payment_intent_unexpected_state")
        })
    }
}

impl Told {
    fn is_decline(&self) -> bool {
        self.kind.as_deref() == Some("card_error")
    }
}

/// The payment itself, or the one that such an error carries.
fn as_payment(answer: Answer<Payment>, expected: impl Fn(&Told) -> bool) -> Result<Payment> {
    match answer {
        Answer::Told(_, mut told) if expected(&told) && told.payment_intent.is_some() => {
            let found = told.payment_intent.take().unwrap_or_default();
            let found = serde_json::from_value::<Payment>(found);
            let mut payment =
                found.map_err(|_| Error::Undecodable("the payment of an error".to_owned()))?;
            if payment.decline.is_none() && told.is_decline() {
                payment.decline = Some(Decline {
                    code: told.code.unwrap_or_default(),
                    decline_code: told.decline_code,
                    message: told.message.unwrap_or_default(),
                });
            }
            Ok(payment)
        }
        other => other.or_error(),
    }
}

pub(crate) fn pairs(metadata: &Metadata) -> std::collections::HashMap<String, String> {
    metadata.clone().into_iter().collect()
}

/// As the library wants it: in small letters. What is none is for Stripe to refuse.
pub(crate) fn currency(name: &str) -> Currency {
    let Ok(currency) = name.to_ascii_lowercase().parse();
    currency
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_payment_with_next_to_nothing_is_read() {
        let bare = json!({"id": "pi_1", "status": "processing", "amount": 5, "currency": "eur",
                          "metadata": null, "unheard_of": [1]});
        let payment: Payment = serde_json::from_value(bare).expect("enough");
        assert_eq!(
            (payment.status, payment.amount_received),
            (PaymentStatus::Processing, 0)
        );
    }

    #[test]
    fn a_charge_is_named_or_told_in_full_and_secrets_are_not_printed() {
        for charge in [json!("ch_1"), json!({"id": "ch_1", "object": "charge"})] {
            let whole = json!({"id": "pi_1", "status": "requires_action", "amount": 5, "currency": "eur",
                "latest_charge": charge, "client_secret": "pi_1_secret_hunter2",
                "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {"stripe_js": "https://x/hunter2"}}});
            let payment: Payment = serde_json::from_value(whole).expect("a payment");
            assert_eq!(payment.charge.as_deref(), Some("ch_1"));
            let page = payment.action_url.as_ref().map(ExposeSecret::expose_secret);
            assert_eq!(page, Some("https://x/hunter2"));
            assert!(!format!("{payment:?}").contains("hunter2"));
        }
    }
}
