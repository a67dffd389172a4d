//! Which answers a cache may keep: those of the reviewed list below, to callers without credentials. Every other answer
//! is `no-store`, so that a new operation is private until it is put on the list.

use poem::Request;
use poem::http::header::{AUTHORIZATION, CACHE_CONTROL};
use poem::http::{HeaderMap, HeaderValue, Method};

/// The patterns of the routes that show public data, the same to every caller without credentials. An answer of these may
/// be kept, and is asked for again by its `ETag` before it is shown.
pub const PUBLIC_DATA: [&str; 17] = [
    "/api/v1/events",
    "/api/v1/events/featured",
    "/api/v1/events/:event_id",
    "/api/v1/events/:event_id/availability",
    "/api/v1/events/:event_id/availability/stream",
    "/api/v1/events/:event_id/sessions",
    "/api/v1/events/:event_id/sessions/:code",
    "/api/v1/events/:event_id/ticket-types",
    "/api/v1/events/:event_id/ticket-types/:ticket_type_id",
    "/api/v1/ticket-types/:ticket_type_id/availability",
    "/api/v1/venues",
    "/api/v1/venues/:venue_id",
    "/docs",
    "/openapi.json",
    "/openapi.yaml",
    "/healthz",
    "/health/ready",
];

const PRIVATE: HeaderValue = HeaderValue::from_static("no-store");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// What shows a caller to be somebody: the answer may be theirs alone.
pub fn carries_credentials(request: &Request) -> bool {
    let headers = request.headers();
    let in_query = |query: &str| query.split('&').any(|pair| pair.starts_with("token="));
    headers.contains_key(AUTHORIZATION)
        || headers.contains_key("x-api-key")
        || headers.contains_key("order-secret")
        || request.uri().query().is_some_and(in_query)
}

/// Sets the `Cache-Control` of an answer. What an answer says itself stays, unless it lets a cache keep what is private.
pub fn apply(headers: &mut HeaderMap, method: &Method, route: &str, carries_credentials: bool) {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let public = reads && !carries_credentials && PUBLIC_DATA.iter().any(|it| same(it, route));
    let said = headers.get(CACHE_CONTROL).and_then(|it| it.to_str().ok());
    let said = said.is_some_and(|said| public || said.contains("no-store"));
    if !said {
        headers.insert(CACHE_CONTROL, if public { ASK_AGAIN } else { PRIVATE });
    }
}

/// Whether a route has this pattern, whatever its parameters are called: the router has names of its own for them.
fn same(pattern: &str, route: &str) -> bool {
    let (mut expected, mut parts) = (pattern.split('/'), route.split('/'));
    loop {
        match (expected.next(), parts.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) if one.starts_with(':') && other.starts_with(':') => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_recognised_by_the_places_of_its_parameters() {
        assert!(same(
            "/events/:event_id/sessions",
            "/events/:param0/sessions"
        ));
        assert!(!same("/events/:event_id", "/events/featured"));
        assert!(!same("/events/:event_id", "/events/:param0/orders"));
        assert!(!same("/events/:event_id/orders", "/events/:param0"));
    }

    #[test]
    fn what_an_answer_says_itself_cannot_make_it_public() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        apply(
            &mut headers,
            &Method::GET,
            "/api/v1/orders/:param0/stream",
            false,
        );
        assert_eq!(headers[CACHE_CONTROL], "no-store");
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        apply(&mut headers, &Method::GET, "/openapi.json", false);
        assert_eq!(headers[CACHE_CONTROL], "max-age=60");
    }
}
