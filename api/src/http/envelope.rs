//! `X-Envelope: 1` puts every JSON answer into `{"success", "data", "message", "error"}`, for clients that
//! expect it. Without the header answers are bare.

use std::sync::Arc;

use poem::http::{StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};
use serde_json::{Value, json};

pub async fn wrap<E: Endpoint>(next: Arc<E>, request: Request) -> poem::Result<Response>
where
    E::Output: IntoResponse,
{
    let wanted = request.header("x-envelope") == Some("1");
    let response = next.call(request).await?.into_response();
    if !wanted || !wrappable(&response) {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let bytes = body.into_bytes().await.unwrap_or_default();
    let content: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if parts.status == StatusCode::NO_CONTENT {
        // An answer without content has no room for an envelope.
        parts.status = StatusCode::OK;
    }
    let enveloped = envelope(parts.status, content);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json; charset=utf-8"),
    );
    Ok(Response::from_parts(parts, enveloped.to_string().into()))
}

/// JSON and empty answers are; files, streams and redirects are not.
fn wrappable(response: &Response) -> bool {
    let json = response
        .content_type()
        .is_some_and(|kind| kind.starts_with("application/json"));
    json || response.status() == StatusCode::NO_CONTENT
}

fn envelope(status: StatusCode, content: Value) -> Value {
    if status.is_success() {
        return json!({"success": true, "data": content, "message": null, "error": null});
    }
    let error = content.get("error").cloned().unwrap_or(content);
    json!({"success": false, "data": null, "message": error.get("message"), "error": error})
}
