//! What can come of a call that is no answer.

use serde::Deserialize;

/// None of these repeats a key, a secret or what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Worth a later try with the same key: whether it was done or not, the key makes it happen once.
    #[error("Stripe is not available: {0}")]
    Unavailable(String),
    /// Stripe understood and will not: trying again changes nothing.
    #[error("Stripe refuses ({code}): {message}")]
    Refused { code: String, message: String },
    /// The idempotency key was used before, with other parameters.
    #[error("the idempotency key has been used for something else")]
    KeyReused,
    #[error("Stripe knows no such thing")]
    NotFound,
    /// Stripe has answered; the answer makes no sense to us.
    #[error("the answer of Stripe cannot be read: {0}")]
    Undecodable(String),
}

/// Stripe's own words.
#[derive(Debug, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) error: Told,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Told {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) decline_code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) payment_intent: Option<serde_json::Value>,
}

impl Told {
    pub(crate) fn refused(self) -> Error {
        let code = self.code.or(self.kind);
        Error::Refused {
            code: code.unwrap_or_else(|| "unknown".to_owned()),
            message: self.message.unwrap_or_default(),
        }
    }

    pub(crate) fn is(&self, kind: &str, code: &str) -> bool {
        self.kind.as_deref() == Some(kind) || self.code.as_deref() == Some(code)
    }
}
