//! Which web pages may call the API. A page that may not is not refused here: its browser does that, seeing
//! no permission in the answer. Calls that are no web page's are none of this module's business.

use std::sync::{Arc, LazyLock};

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};
use shared::config::List;

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// Every request header that the API reads from a web page. A header that is missing here cannot be sent by one.
pub const REQUEST_HEADERS: [&str; 11] = [
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "order-secret",
    "prefer",
    "traceparent",
    "x-api-key",
    "x-envelope",
    "x-request-id",
];

/// Every response header that a web page may read beside those that browsers always show.
pub const EXPOSED_HEADERS: [&str; 9] = [
    "etag",
    "location",
    "retry-after",
    "idempotent-replayed",
    "x-request-id",
    "x-client-request-id",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
];

static ALLOW_HEADERS: LazyLock<HeaderValue> = LazyLock::new(|| joined(&REQUEST_HEADERS));
static EXPOSE_HEADERS: LazyLock<HeaderValue> = LazyLock::new(|| joined(&EXPOSED_HEADERS));

fn joined(names: &[&str]) -> HeaderValue {
    HeaderValue::from_str(&names.join(", ")).expect("names of headers are plain ASCII")
}

#[derive(Clone)]
pub struct Cors(Arc<[String]>);

impl Cors {
    #[must_use]
    pub fn new(origins: &List) -> Self {
        Self(origins.0.as_slice().into())
    }

    fn allows(&self, origin: &str) -> bool {
        self.0
            .iter()
            .any(|allowed| allowed == "*" || allowed == origin)
    }
}

pub async fn answer<E: Endpoint>(
    next: Arc<E>,
    request: Request,
    cors: Cors,
) -> poem::Result<Response>
where
    E::Output: IntoResponse,
{
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.filter(|origin| origin.to_str().is_ok_and(|origin| cors.allows(origin)));
    let Some(origin) = allowed else {
        return next.call(request).await.map(IntoResponse::into_response);
    };
    let asks_first = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks_first {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(METHODS),
        );
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS.clone());
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("3600"),
        );
        response
    } else {
        next.call(request).await?.into_response()
    };
    permit(response.headers_mut(), origin);
    Ok(response)
}

fn permit(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        EXPOSE_HEADERS.clone(),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}
