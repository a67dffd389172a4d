//! What others tell us by themselves.

use poem::Request;
use poem_openapi::param::Header;
use poem_openapi::{ApiResponse, OpenApi};
use secrecy::SecretString;
use shared::error::{Code, Fault, Result};
use shared::orders;
use stripe_api::webhook::{self, Rejected};

use crate::http::allowed::Teller;
use crate::http::answer::Reply;
use crate::http::body::Raw;
use crate::http::tags::Tag;

/// It was heard.
#[derive(ApiResponse)]
enum Noted {
    /// It is written down, and will be seen to.
    #[oai(status = 200)]
    Noted,
}

pub struct Webhooks;

#[derive(Debug, thiserror::Error)]
#[error("This is not taken for an event of Stripe: {0}.")]
struct NotStripe(Rejected);

impl Fault for NotStripe {
    fn code(&self) -> Code {
        Code::MalformedRequest
    }
}

#[OpenApi(tag = "Tag::Sales")]
impl Webhooks {
    /// Hear an event of Stripe
    ///
    /// Signed by Stripe. What it says is looked up at Stripe before anything is done. Told twice, it is done once. A
    /// call without a good signature counts against the limit of its network, as one without an account does; a good
    /// signature is heard whatever has been counted.
    ///
    /// Errors: MALFORMED_REQUEST
    #[oai(
        path = "/webhooks/stripe",
        method = "post",
        operation_id = "hear_stripe"
    )]
    async fn stripe(
        &self,
        request: &Request,
        teller: Teller,
        /// `t=…,v1=…`
        #[oai(name = "Stripe-Signature")]
        signature: Header<Option<String>>,
        body: Raw,
    ) -> Reply<Noted> {
        let event = verified(&teller, &body.0, signature.0.as_deref().unwrap_or_default());
        if event.is_err() {
            teller.count_stranger(request).await?;
        }
        let event = event?;
        teller
            .change(async |tx| orders::hear(tx, &event).await)
            .await?;
        Ok(Noted::Noted)
    }
}

fn verified(teller: &Teller, body: &[u8], signature: &str) -> Result<webhook::Event> {
    let stripe = &teller.config().stripe;
    let secrets: &[SecretString] = &stripe.webhook_secrets.0;
    let (now, tolerance) = (teller.now().timestamp(), stripe.webhook_tolerance.0);
    let event = webhook::verify(body, signature, secrets, now, tolerance);
    Ok(event.map_err(NotStripe)?)
}
