//! Connections to Stripe. They are kept: a new one costs a TLS handshake, which takes longer than the call.

use std::error::Error as _;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Shorter than Stripe keeps an idle connection.
const LONGEST_IDLE: Duration = Duration::from_secs(50);
const LARGEST_ANSWER: usize = 8 << 20;

#[derive(Clone)]
pub(crate) struct Line(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What came back, whatever it says.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// What Stripe itself thinks of another attempt.
    pub(crate) should_retry: Option<bool>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

impl Line {
    pub(crate) fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(LONGEST_IDLE));
        let tls = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(LONGEST_IDLE)
            .build(tls);
        Self(client)
    }

    /// One attempt. An error is in words, and holds nothing of the request.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Reply, String> {
        let exchange = async {
            let response = self.0.request(request).await;
            read(response.map_err(|error| because(&error))?).await
        };
        let in_time = tokio::time::timeout(patience, exchange).await;
        in_time.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
    }
}

async fn read(response: Response<Incoming>) -> Result<Reply, String> {
    let (head, body) = response.into_parts();
    let header = |name: &str| head.headers.get(name)?.to_str().ok();
    let should_retry = header("stripe-should-retry").and_then(|text| text.parse().ok());
    let retry_after = header("retry-after").and_then(|text| text.parse().ok());
    let body = Limited::new(body, LARGEST_ANSWER).collect().await;
    Ok(Reply {
        status: head.status.as_u16(),
        should_retry,
        retry_after: retry_after.map(Duration::from_secs),
        body: body
            .map_err(|_| "the answer breaks off".to_owned())?
            .to_bytes(),
    })
}

/// The whole story: hyper's own words name only the last step.
fn because(error: &hyper_util::client::legacy::Error) -> String {
    let mut story = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        story.push_str(": ");
        story.push_str(&cause.to_string());
        source = cause.source();
    }
    story
}
