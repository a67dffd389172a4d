//! A reader who already has this version is told so, without the body.

use std::sync::Arc;

use poem::http::{Method, StatusCode, header};
use poem::{Body, Endpoint, IntoResponse, Request, Response};

pub async fn not_modified<E: Endpoint>(next: Arc<E>, request: Request) -> poem::Result<Response>
where
    E::Output: IntoResponse,
{
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let known = request
        .header(header::IF_NONE_MATCH.as_str())
        .filter(|_| reading)
        .map(str::to_owned);
    let mut response = next.call(request).await?.into_response();
    let current = response
        .headers()
        .get(header::ETAG)
        .and_then(|tag| tag.to_str().ok());
    if let (Some(known), Some(current)) = (known, current)
        && response.status() == StatusCode::OK
        && matches(&known, current)
    {
        response.set_status(StatusCode::NOT_MODIFIED);
        response.set_body(Body::empty());
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    Ok(response)
}

/// Weak comparison, as RFC 9110 asks of `If-None-Match`.
fn matches(known: &str, current: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    known.trim() == "*" || known.split(',').any(|tag| bare(tag) == bare(current))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn any_of_several_tags_matches() {
        assert!(matches("\"1\", W/\"2\"", "\"2\""));
        assert!(matches("*", "\"2\""));
        assert!(!matches("\"1\"", "\"2\""));
    }
}
