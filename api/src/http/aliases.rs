//! Older names of operations: one table, applied before routing.

use std::sync::Arc;

use poem::http::{Method, Uri};
use poem::{Endpoint, IntoResponse, Request, Response};

use crate::PREFIX;

/// (method, old path, path now), all without the prefix. `{…}` stands for one part of the path.
pub const ALIASES: &[(&str, &str, &str)] = &[
    ("GET", "/auth/me", "/users/me"),
    ("GET", "/users/profile", "/users/me"),
    ("PUT", "/users/profile", "/users/me"),
    ("GET", "/identity/profile", "/users/me"),
    ("PUT", "/identity/profile", "/users/me"),
    ("POST", "/identity/authenticate", "/auth/login"),
    ("POST", "/identity/refresh-token", "/auth/refresh"),
    ("POST", "/identity/register", "/auth/register"),
    ("POST", "/bookings", "/orders"),
    ("GET", "/bookings/{order_id}", "/orders/{order_id}"),
    (
        "PUT",
        "/bookings/{order_id}/cancel",
        "/orders/{order_id}/cancel",
    ),
    (
        "GET",
        "/users/{user_id}/bookings",
        "/users/{user_id}/orders",
    ),
    (
        "GET",
        "/events/{event_id}/bookings",
        "/events/{event_id}/orders",
    ),
    ("GET", "/users/tickets", "/users/me/tickets"),
    ("GET", "/admin/venues", "/venues"),
    ("POST", "/admin/venues", "/venues"),
    ("PUT", "/admin/venues/{venue_id}", "/venues/{venue_id}"),
    ("DELETE", "/admin/venues/{venue_id}", "/venues/{venue_id}"),
    ("POST", "/admin/events", "/events"),
    ("PUT", "/admin/events/{event_id}", "/events/{event_id}"),
];

pub async fn rewrite<E: Endpoint>(next: Arc<E>, mut request: Request) -> poem::Result<Response>
where
    E::Output: IntoResponse,
{
    if request.method() == Method::PATCH {
        // PUT leaves what is not named, so the two are one operation.
        request.set_method(Method::PUT);
    }
    if let Some(path) = canonical(request.method(), request.uri().path()) {
        let query = request
            .uri()
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        if let Ok(uri) = format!("{path}{query}").parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }
    next.call(request).await.map(IntoResponse::into_response)
}

/// The path to route by, if it is another than the one asked for.
fn canonical(method: &Method, path: &str) -> Option<String> {
    let versioned = path
        .strip_prefix(PREFIX)
        .filter(|rest| rest.starts_with('/'));
    let rest = match versioned {
        Some(rest) => rest,
        None => path
            .strip_prefix("/api")
            .filter(|rest| rest.starts_with('/'))?,
    };
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let alias = ALIASES.iter().find_map(|(old_method, old, now)| {
        (*old_method == method.as_str()).then(|| translate(rest, old, now))?
    });
    match alias {
        Some(now) => Some(format!("{PREFIX}{now}")),
        None if versioned.is_none() => Some(format!("{PREFIX}{rest}")),
        None => None,
    }
}

/// `path` in the shape of `now`, if it has the shape of `old`.
fn translate(path: &str, old: &str, now: &str) -> Option<String> {
    let (parts, shape): (Vec<_>, Vec<_>) = (path.split('/').collect(), old.split('/').collect());
    if parts.len() != shape.len() {
        return None;
    }
    let mut translated = now.to_owned();
    for (part, shape) in parts.into_iter().zip(shape) {
        if shape.starts_with('{') {
            translated = translated.replace(shape, part);
        } else if part != shape {
            return None;
        }
    }
    Some(translated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_lead_to_the_new_ones() {
        let canonical = |method: &str, path| canonical(&method.parse().expect("a method"), path);
        assert_eq!(
            canonical("PUT", "/api/v1/admin/venues/7").as_deref(),
            Some("/api/v1/venues/7")
        );
        assert_eq!(
            canonical("GET", "/api/admin/venues").as_deref(),
            Some("/api/v1/venues")
        );
        assert_eq!(
            canonical("GET", "/api/venues").as_deref(),
            Some("/api/v1/venues")
        );
        assert_eq!(canonical("PATCH", "/api/v1/admin/venues/7"), None);
        assert_eq!(canonical("GET", "/api/v1/venues"), None);
        assert_eq!(canonical("GET", "/apiary"), None);
        assert_eq!(canonical("GET", "/healthz"), None);
    }
}
