//! Every request has an id, a span in the log, its place in the figures, and safe headers on its answer.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use poem::http::{HeaderName, HeaderValue, Method, header};
use poem::{Endpoint, IntoResponse, PathPattern, Request, Response};
use shared::App;
use shared::ids;
use tracing::{Instrument as _, Span};

use super::caching;
use super::limits::Standing;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The caller's own `X-Request-Id`, told back to them.
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");

/// Names one request in the log, in the answer, in the activities and in the jobs it causes. It is always made here: a
/// caller who could choose it could make two requests look like one.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Where the caller stands with their limit; filled in while the request is handled.
pub type SharedStanding = Arc<OnceLock<Standing>>;

pub async fn observe<E: Endpoint>(next: Arc<E>, mut request: Request) -> poem::Result<Response>
where
    E::Output: IntoResponse,
{
    let started = Instant::now();
    let (id, client_id) = (request_id(&request), client_request_id(&request));
    let standing = SharedStanding::default();
    request.set_data(id.clone());
    request.set_data(standing.clone());
    let method = request.method().clone();
    // A path may hold a secret: the span and the log carry the route's pattern, which routing fills in.
    let span = tracing::info_span!(
        "request",
        request_id = %id.0,
        client_request_id = tracing::field::Empty,
        %method,
        route = tracing::field::Empty
    );
    if let Some(client_id) = &client_id {
        span.record("client_request_id", client_id.as_str());
    }
    let carries_credentials = caching::carries_credentials(&request);
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
    for (name, id) in [
        (REQUEST_ID, Some(&id.0)),
        (CLIENT_REQUEST_ID, client_id.as_ref()),
    ] {
        if let Some(id) = id.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(name, id);
        }
    }
    if let Some(standing) = standing.get() {
        standing.tell(headers);
    }
    make_safe(headers);
    caching::apply(headers, &method, &labels[1].1, carries_credentials);
    Ok(response)
}

/// Writes the pattern of the route that was found into the span of the request.
pub fn record_route(request: &Request) {
    if let Some(pattern) = request.data::<PathPattern>() {
        Span::current().record("route", &*pattern.0);
    }
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

fn request_id(request: &Request) -> RequestId {
    let app: &App = request.data().expect("the app is given to every request");
    RequestId(ids::fresh(app.clock.now()).to_string())
}

/// What the caller calls the request, if that can stand in a log.
fn client_request_id(request: &Request) -> Option<String> {
    let sane =
        |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let given = request.header(REQUEST_ID.as_str());
    given.filter(sane).map(str::to_owned)
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
}
