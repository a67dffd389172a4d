//! One call: its attempts, and how their outcome is read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::InvalidHeaderValue;
use hyper::http::HeaderValue;
use hyper::{Method, Request, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use stripe_client_core::{RequestBuilder, StripeMethod, StripeRequest};
use tracing::Instrument as _;

use crate::error::{Envelope, Told};
use crate::line::{Line, Reply};
use crate::{Error, Result, api_version};

/// The pause before the second attempt is up to this long, before the third up to twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between two attempts at a call.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How Stripe is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Without one every call is answered [`Error::Unavailable`].
    pub secret_key: Option<SecretString>,
    /// What stands before `/v1/…`.
    pub url: String,
    /// For each attempt.
    pub timeout: Duration,
    /// At least one.
    pub attempts: u32,
}

/// Cheap to clone: connections and settings are shared.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    line: Line,
    base: String,
    /// `Bearer` and the key.
    credentials: Option<HeaderValue>,
    timeout: Duration,
    attempts: u32,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = &self.0.base;
        f.debug_struct("Client")
            .field("base", base)
            .finish_non_exhaustive()
    }
}

/// The settings cannot be used. The key is not repeated.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadSettings(&'static str);

/// An answer that is not an error of the line: fine, or Stripe's refusal.
pub(crate) enum Answer<T> {
    Fine(T),
    Told(u16, Told),
}

impl<T> Answer<T> {
    /// Nothing but `Fine` will do.
    pub(crate) fn or_error(self) -> Result<T> {
        match self {
            Self::Fine(value) => Ok(value),
            Self::Told(status, told) => Err(as_error(status, told)),
        }
    }
}

impl Client {
    /// Connects to nobody yet.
    pub fn new(settings: Settings) -> std::result::Result<Self, BadSettings> {
        let url = settings.url.trim_end_matches('/');
        let parsed = url::Url::parse(url)
            .map_err(|_| BadSettings("the address of Stripe cannot be read"))?;
        if !["http", "https"].contains(&parsed.scheme()) {
            return Err(BadSettings(
                "the address of Stripe begins neither with https:// nor with http://",
            ));
        }
        let credentials = settings.secret_key.map(|key| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))?;
            value.set_sensitive(true);
            Ok::<_, InvalidHeaderValue>(value)
        });
        let credentials = credentials.transpose();
        Ok(Self(Arc::new(Inner {
            line: Line::new(),
            base: url.to_owned(),
            credentials: credentials
                .map_err(|_| BadSettings("the key of Stripe has characters that no key has"))?,
            timeout: settings.timeout,
            attempts: settings.attempts.max(1),
        })))
    }

    /// Whether there is a key at all.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.0.credentials.is_some()
    }

    /// Whether Stripe answers and takes our key. Asks for a payment that nobody has.
    pub async fn check(&self) -> Result<()> {
        match self.payment("pi_nobody").await {
            Ok(_) | Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends what changes something. The key makes it happen once, however often it is sent.
    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        name: &'static str,
        request: &impl StripeRequest,
        key: &str,
    ) -> Result<Answer<T>> {
        self.call(name, request.build(), Some(key)).await
    }

    /// Sends what only looks.
    pub(crate) async fn look<T: DeserializeOwned>(
        &self,
        name: &'static str,
        request: &impl StripeRequest,
    ) -> Result<T> {
        self.call(name, request.build(), None).await?.or_error()
    }

    async fn call<T: DeserializeOwned>(
        &self,
        name: &'static str,
        request: RequestBuilder,
        key: Option<&str>,
    ) -> Result<Answer<T>> {
        let span = tracing::info_span!(
            "stripe",
            call = name,
            attempts = tracing::field::Empty,
            status = tracing::field::Empty
        );
        let attempts = self.attempts(request, key);
        let reply = attempts.instrument(span).await?;
        if (200..300).contains(&reply.status) {
            return decode(&reply.body).map(Answer::Fine);
        }
        let told: Envelope = decode(&reply.body)?;
        Ok(Answer::Told(reply.status, told.error))
    }

    /// Tries until there is an answer that another attempt would not change.
    async fn attempts(&self, request: RequestBuilder, key: Option<&str>) -> Result<Reply> {
        let request = self.request(request, key)?;
        let span = tracing::Span::current();
        let mut attempt = 1;
        loop {
            let outcome = self.0.line.send(request.clone(), self.0.timeout).await;
            span.record("attempts", attempt);
            let (trouble, wish) = match outcome {
                Ok(reply) => {
                    span.record("status", reply.status);
                    if !worth_another(&reply) {
                        return Ok(reply);
                    }
                    (format!("it answers {}", reply.status), reply.retry_after)
                }
                Err(trouble) => (trouble, None),
            };
            if attempt >= self.0.attempts {
                return Err(Error::Unavailable(trouble));
            }
            tracing::debug!(attempt, trouble, "Stripe is tried again");
            tokio::time::sleep(pause(attempt, wish)).await;
            attempt += 1;
        }
    }

    fn request(&self, asked: RequestBuilder, key: Option<&str>) -> Result<Request<Full<Bytes>>> {
        let credentials = self.0.credentials.clone();
        let credentials =
            credentials.ok_or_else(|| Error::Unavailable("no key is set".to_owned()))?;
        let mut url = format!("{}/v1{}", self.0.base, asked.path);
        if let Some(query) = asked.query.filter(|query| !query.is_empty()) {
            url = format!("{url}?{query}");
        }
        let method = match asked.method {
            StripeMethod::Get => Method::GET,
            StripeMethod::Post => Method::POST,
            StripeMethod::Delete => Method::DELETE,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::AUTHORIZATION, credentials)
            .header(
                header::USER_AGENT,
                concat!("Holdfast/", env!("CARGO_PKG_VERSION")),
            )
            .header("stripe-version", api_version());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let body = asked.body.map(|body| in_order(&body));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = request.body(Full::from(body.unwrap_or_default()));
        request.map_err(|_| Error::Refused {
            code: "unsendable".to_owned(),
            message: "the request cannot be written as HTTP".to_owned(),
        })
    }
}

/// The library keeps metadata in an order of chance. The same request must look the same from every process.
fn in_order(body: &str) -> String {
    let mut pairs: Vec<&str> = body.split('&').collect();
    pairs.sort_unstable();
    pairs.join("&")
}

/// Stripe's own word counts first.
fn worth_another(reply: &Reply) -> bool {
    let by_status = matches!(reply.status, 409 | 424 | 429 | 500..);
    reply.should_retry.unwrap_or(by_status)
}

/// Somewhere between half and all of a span that doubles, so that those who failed together do not come back
/// together. Stripe's wish is heeded within reason.
fn pause(attempt: u32, wish: Option<Duration>) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(10));
    let span = doubled.min(LONGEST_PAUSE);
    let jittered = span.mul_f64(rand::random_range(0.5..=1.0));
    jittered.max(wish.unwrap_or_default().min(LONGEST_PAUSE))
}

pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    // What serde says names the field, never its value; a category and a place are all that is told.
    serde_json::from_slice(body).map_err(|error| {
        Error::Undecodable(format!(
            "{:?} at {}:{}",
            error.classify(),
            error.line(),
            error.column()
        ))
    })
}

fn as_error(status: u16, told: Told) -> Error {
    match status {
        // Somebody will put the key right; what waits for it is not to be given up.
        401 | 403 => {
            tracing::error!(status, "Stripe does not accept our key");
            Error::Unavailable("it does not accept our key".to_owned())
        }
        404 => Error::NotFound,
        400 if told.is("idempotency_error", "idempotency_error") => Error::KeyReused,
        409 | 424 | 429 | 500.. => Error::Unavailable(format!("it answers {status}")),
        _ => told.refused(),
    }
}

/// An id becomes part of a path: nothing else may.
pub(crate) fn id(text: &str) -> Result<&str> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !text.is_empty() && text.len() <= 255 && text.bytes().all(good) {
        Ok(text)
    } else {
        Err(Error::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, should_retry: Option<bool>) -> Reply {
        Reply {
            status,
            should_retry,
            retry_after: None,
            body: Bytes::new(),
        }
    }

    #[test]
    fn stripe_decides_whether_it_is_worth_another_try() {
        for status in [409, 424, 429, 500, 503] {
            assert!(worth_another(&reply(status, None)), "{status}");
            assert!(!worth_another(&reply(status, Some(false))), "{status}");
        }
        for status in [200, 400, 402, 404] {
            assert!(!worth_another(&reply(status, None)), "{status}");
        }
        assert!(worth_another(&reply(400, Some(true))));
    }

    #[test]
    fn pauses_grow_and_end_and_heed_a_wish() {
        for attempt in 1..40 {
            let pause = pause(attempt, None);
            assert!((FIRST_PAUSE / 2..=LONGEST_PAUSE).contains(&pause));
        }
        assert!(pause(1, Some(Duration::from_secs(2))) >= Duration::from_secs(2));
        assert_eq!(pause(1, Some(Duration::from_hours(1))), LONGEST_PAUSE);
    }

    #[test]
    fn the_same_request_looks_the_same() {
        assert_eq!(in_order("b=2&a[y]=1&a[x]=3"), in_order("a[x]=3&b=2&a[y]=1"));
    }

    #[test]
    fn an_id_is_no_path() {
        assert!(id("pi_3Qabc").is_ok());
        for bad in ["", "../v1/customers", "pi_1?expand=x", "pi 1", "pi_ä"] {
            assert_eq!(id(bad), Err(Error::NotFound), "{bad}");
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        let settings = Settings {
            secret_key: Some("sk_live_hunter2".into()),
            url: "https://api.stripe.com".to_owned(),
            timeout: Duration::from_secs(1),
            attempts: 1,
        };
        let client = Client::new(settings.clone()).expect("good settings");
        assert!(!format!("{settings:?}{client:?}").contains("hunter2"));
        let bad = Settings {
            secret_key: Some("hunter2\n".into()),
            ..settings
        };
        let message = Client::new(bad).expect_err("a line break").to_string();
        assert!(!message.contains("hunter2"), "{message}");
    }
}
