//! HTTP, with everything that a well-behaved server hides: connections that are cut, requests never answered.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::Ordering;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::refusal::Refusal;
use super::{API_VERSION, Shared, api, control, pages};

const LARGEST_BODY: usize = 1 << 20;

/// What the API says.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
    replayed: bool,
}

impl Answer {
    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self {
            status,
            body: value.to_string().into(),
            replayed: false,
        }
    }

    pub(super) fn of(refusal: &Refusal) -> Self {
        Self::json(refusal.status, &refusal.json())
    }

    pub(super) fn replayed(status: u16, body: Bytes) -> Self {
        Self {
            status,
            body,
            replayed: true,
        }
    }
}

/// What becomes of a request.
pub(super) enum Outcome {
    Answered(Answer),
    /// The connection is cut without a word.
    Cut,
    /// The client waits until it gives up.
    Never,
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Answered(answer)
    }
}

/// Makes hyper hang up.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("told to cut the connection")
    }
}

impl std::error::Error for Cut {}

pub(super) type Page = Response<Full<Bytes>>;

/// Returns when every connection is closed.
pub(super) async fn serve(listener: TcpListener, shared: Shared, stop: CancellationToken) {
    let connections = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let connection = connection(stream, shared.clone());
        connections.spawn(stop.clone().run_until_cancelled_owned(connection));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, shared: Shared) {
    shared.connections.fetch_add(1, Ordering::Relaxed);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| respond(shared.clone(), request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(ended) = connection.await {
        tracing::trace!("a connection ended: {ended}");
    }
}

async fn respond(shared: Shared, request: Request<Incoming>) -> Result<Page, Cut> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST_BODY).collect().await else {
        return Ok(plain(StatusCode::BAD_REQUEST, "The body cannot be read"));
    };
    let body = body.to_bytes();
    let path = head.uri.path();
    if path.starts_with("/_control/") {
        return Ok(json_page(control::answer(&shared, &head, &body).await));
    }
    if !path.starts_with("/v1/") {
        return Ok(pages::answer(&shared, &head, &body));
    }
    let key = head.headers.get("idempotency-key").cloned();
    match api::answer(&shared, head, body).await {
        Outcome::Answered(answer) => Ok(api_page(&shared, answer, key)),
        Outcome::Cut => Err(Cut),
        Outcome::Never => match std::future::pending::<Infallible>().await {},
    }
}

fn json_page(answer: Answer) -> Page {
    let mut page = Response::new(Full::new(answer.body));
    *page.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let json = HeaderValue::from_static("application/json");
    page.headers_mut().insert(header::CONTENT_TYPE, json);
    page
}

fn api_page(shared: &Shared, answer: Answer, key: Option<HeaderValue>) -> Page {
    let replayed = answer.replayed;
    let status = answer.status;
    let mut page = json_page(answer);
    let headers = page.headers_mut();
    headers.insert("stripe-version", HeaderValue::from_static(API_VERSION));
    let id = HeaderValue::from_str(&format!("req_{:014}", shared.next_request()));
    headers.extend(
        id.ok()
            .map(|id| (header::HeaderName::from_static("request-id"), id)),
    );
    if let Some(key) = key {
        headers.insert("idempotency-key", key);
    }
    if replayed {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    if status == 409 || status == 429 {
        headers.insert("stripe-should-retry", HeaderValue::from_static("true"));
    }
    page
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Page {
    let mut page = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *page.status_mut() = status;
    page
}
