//! The one place where a failure becomes a status code and a body, whoever raised it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::FutureExt as _;
use percent_encoding::percent_decode_str;
use poem::error::{MethodNotAllowedError, NotFoundError};
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, PathPattern, Request, Response};
use poem_openapi::error as openapi;
use serde_json::json;
use shared::App;
use shared::error::{Code, Error, Fault, Invalid, Kind};

use super::body::BodyError;
use super::described;
use super::observe::RequestId;

/// How long a client waits before it asks again, when we do not know better.
const RETRY_AFTER: &str = "2";

#[must_use]
pub fn status_of(code: Code) -> StatusCode {
    match code.kind() {
        Kind::Malformed => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
        Kind::Gone => StatusCode::GONE,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::WrongMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::PaymentRequired => StatusCode::PAYMENT_REQUIRED,
        Kind::VersionRequired => StatusCode::PRECONDITION_REQUIRED,
        Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What the web server itself refuses.
#[derive(Debug, thiserror::Error)]
enum WebError {
    #[error("There is nothing at this path.")]
    NoSuchPath,
    #[error("This path does not know the method {0}.")]
    WrongMethod(Method),
    #[error("The request could not be read.")]
    Unreadable,
}

impl Fault for WebError {
    fn code(&self) -> Code {
        match self {
            Self::NoSuchPath => Code::NotFound,
            Self::WrongMethod(_) => Code::MethodNotAllowed,
            Self::Unreadable => Code::MalformedRequest,
        }
    }
}

/// What of a request is still needed once it has failed.
struct Asked {
    method: Method,
    path: String,
    query: String,
    id: RequestId,
    app: App,
}

/// Turns every failure, a panic included, into the one body.
pub async fn render<E: Endpoint>(next: Arc<E>, request: Request) -> poem::Result<Response>
where
    E::Output: IntoResponse,
{
    let asked = Asked {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        id: request
            .data::<RequestId>()
            .cloned()
            .expect("every request has an id"),
        app: request
            .data::<App>()
            .cloned()
            .expect("the app is given to every request"),
    };
    let outcome = AssertUnwindSafe(next.call(request)).catch_unwind().await;
    Ok(match outcome {
        Ok(Ok(answer)) => answer.into_response(),
        Ok(Err(error)) if error.is_from_response() => error.into_response(),
        Ok(Err(error)) => {
            let pattern = error.data::<PathPattern>().cloned();
            let mut response = asked.answer(&asked.understand(error));
            if let Some(pattern) = pattern {
                response.set_data(pattern);
            }
            response
        }
        Err(_panic) => asked.answer(&Error::Internal("the handler panicked".into())),
    })
}

/// A failure as it is sent.
pub(super) fn body(error: &Error, now: DateTime<Utc>, id: &RequestId) -> Response {
    let body = json!({"error": {
        "code": error.code().as_str(),
        "message": error.message(),
        "details": error.details(),
        "timestamp": now.to_rfc3339_opts(SecondsFormat::Secs, true),
        "request_id": id.0,
    }});
    let mut response = poem::web::Json(body).into_response();
    response.set_status(status_of(error.code()));
    response
}

impl Asked {
    /// The failure in our own terms.
    fn understand(&self, error: poem::Error) -> Error {
        let error = match error.downcast::<Error>() {
            Ok(ours) => return ours,
            Err(other) => other,
        };
        if let Some(parameter) = error.downcast_ref::<openapi::ParseParamError>() {
            return self.bad_parameters(parameter.name, &parameter.reason);
        }
        if let Some(parameter) = error.downcast_ref::<openapi::ParsePathError>() {
            return self.bad_parameters(parameter.name, &parameter.reason);
        }
        if error.is::<openapi::ContentTypeError>() {
            return BodyError::NotJsonType.into();
        }
        if error.is::<NotFoundError>() {
            return WebError::NoSuchPath.into();
        }
        if error.is::<MethodNotAllowedError>() {
            return WebError::WrongMethod(self.method.clone()).into();
        }
        if percent_decode_str(&self.path).decode_utf8().is_err() {
            return Invalid::field("path", "must be text in UTF-8").into();
        }
        match error.status() {
            status if status.is_client_error() => WebError::Unreadable.into(),
            _ => Error::Internal(error.to_string().into()),
        }
    }

    /// Parsing stops at the first bad parameter; the document knows them all.
    fn bad_parameters(&self, name: &str, reason: &str) -> Error {
        let mut invalid = Invalid::default();
        let bad = described::bad_parameters(self.method.as_str(), &self.path, &self.query);
        if bad.is_empty() {
            invalid.push(name, reason);
        }
        for (name, message) in bad {
            invalid.push(name, message);
        }
        invalid.into()
    }

    fn answer(&self, error: &Error) -> Response {
        match error {
            Error::Internal(cause) => tracing::error!(%cause, "request failed"),
            Error::Unavailable(cause) => tracing::warn!(%cause, "a dependency is away"),
            Error::Fault(_) => tracing::debug!(%error, "request refused"),
        }
        let mut response = body(error, self.app.clock.now(), &self.id);
        self.headers_for(error, &mut response);
        response
    }

    fn headers_for(&self, error: &Error, response: &mut Response) {
        let headers = response.headers_mut();
        match error.code().kind() {
            Kind::Unauthenticated => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer, ApiKey"),
                );
            }
            Kind::TooMany => {
                if let Some(seconds) = error.details()["retry_after"].as_i64() {
                    headers.insert(header::RETRY_AFTER, seconds.into());
                }
            }
            Kind::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
            }
            Kind::WrongMethod => {
                let methods = described::methods_of(&self.path).join(", ");
                if let Ok(methods) = HeaderValue::from_str(&methods) {
                    headers.insert(header::ALLOW, methods);
                }
            }
            _ => {}
        }
    }
}
