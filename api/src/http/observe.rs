//! Every request has an id, a span in the log, its place in the figures, and safe headers on its answer.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use poem::http::{HeaderName, HeaderValue, Method, header};
use poem::{Addr, Endpoint, IntoResponse, PathPattern, Request, Response};
use shared::App;
use shared::ids;
use tracing::Instrument as _;

use super::limits::Standing;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names one request in the log, in the answer and in the jobs it causes.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Where the caller stands with their limit; filled in while the request is handled.
pub type SharedStanding = Arc<OnceLock<Standing>>;

pub async fn observe<E: Endpoint>(next: Arc<E>, mut request: Request) -> poem::Result<Response>
where
    E::Output: IntoResponse,
{
    let started = Instant::now();
    let id = request_id(&request);
    let standing = SharedStanding::default();
    request.set_data(id.clone());
    request.set_data(standing.clone());
    let method = request.method().clone();
    let span = tracing::info_span!("request", request_id = %id.0, %method, path = without_secrets(request.uri().path()));
    if let Some(trace) = request.header("traceparent") {
        shared::telemetry::continue_trace(&span, trace);
    }
    let mut response = next.get_response(request).instrument(span.clone()).await;

    let status = response.status().as_u16();
    let route = response
        .data::<PathPattern>()
        .map_or("none".to_owned(), |pattern| pattern.0.to_string());
    let seconds = started.elapsed().as_secs_f64();
    span.in_scope(|| tracing::info!(status, route, ms = seconds * 1_000.0, "answered"));
    let labels = [
        ("method", known(&method).to_owned()),
        ("route", route),
        ("status", status.to_string()),
    ];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_duration_seconds", &labels[..2]).record(seconds);

    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id.0) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(standing) = standing.get() {
        standing.tell(headers);
    }
    make_safe(headers);
    Ok(response)
}

/// The path as it may be written down: what stands behind `invitations` is a secret.
fn without_secrets(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    if let Some(at) = parts.iter().position(|part| *part == "invitations")
        && let Some(secret) = parts.get_mut(at + 1)
    {
        *secret = "{token}";
    }
    parts.join("/")
}

/// A caller can make up methods, and each would be a figure of its own.
fn known(method: &Method) -> &str {
    let standard = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    if standard.contains(&method.as_str()) {
        method.as_str()
    } else {
        "other"
    }
}

/// The caller's own id if it is a sane one, else a fresh one.
fn request_id(request: &Request) -> RequestId {
    let sane =
        |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let given = request
        .header(REQUEST_ID.as_str())
        .filter(sane)
        .map(str::to_owned);
    let app: &App = request.data().expect("the app is given to every request");
    RequestId(given.unwrap_or_else(|| ids::fresh(app.clock.now()).to_string()))
}

/// Where the request comes from. The last hop named by our own proxy is believed, if there is such a proxy.
pub fn address(request: &Request, trust_forwarded: bool) -> IpAddr {
    let mut lines = request.headers().get_all("x-forwarded-for").iter();
    let forwarded = lines
        .next_back()
        .and_then(|line| line.to_str().ok())
        .filter(|_| trust_forwarded);
    let named = forwarded.and_then(|hops| hops.rsplit(',').next()?.trim().parse().ok());
    named.unwrap_or_else(|| match &**request.remote_addr() {
        Addr::SocketAddr(peer) => peer.ip(),
        _ => IpAddr::from([0, 0, 0, 0]),
    })
}

fn make_safe(headers: &mut poem::http::HeaderMap) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // The reading page brings its own policy, since it has scripts.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
    headers.append(
        header::VARY,
        HeaderValue::from_static(
            "accept-encoding, authorization, order-secret, x-api-key, x-envelope",
        ),
    );
    // Answers may be private; what may be kept says so itself.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-cache"));
}
