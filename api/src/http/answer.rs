//! What an operation answers: a thing with its version, a thing just made, or a failure.

use poem::IntoResponse;
use poem_openapi::payload::Json;
use poem_openapi::registry::{MetaResponses, Registry};
use poem_openapi::types::{ParseFromJSON, ToJSON, Type};
use poem_openapi::{ApiResponse, Object};
use shared::error::Error;
use shared::shown::Shown;

use super::rendered::Rendered;

/// What every handler returns.
pub type Reply<T> = Result<T, Failure>;

/// A failure on its way to the one place that renders failures.
#[derive(Debug)]
pub struct Failure(pub Error);

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<Failure> for poem::Error {
    fn from(failure: Failure) -> Self {
        let status = super::errors::status_of(failure.0.code());
        Self::new(failure.0, status)
    }
}

/// Which failures an operation knows is said by its `Errors:` line and put into the document there.
impl ApiResponse for Failure {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: Vec::new(),
        }
    }

    fn register(registry: &mut Registry) {
        ErrorBody::register(registry);
    }
}

/// The body of every failure.
#[derive(Debug, Object)]
pub struct ErrorBody {
    pub error: ErrorContent,
}

#[derive(Debug, Object)]
pub struct ErrorContent {
    /// Stable; programs act on it.
    pub code: String,
    /// For a person.
    pub message: String,
    /// What a program needs to act on it.
    pub details: serde_json::Value,
    pub timestamp: shared::clock::Time,
    /// Quote it when you ask for help.
    pub request_id: String,
}

/// Something that clients change by version.
pub trait Versioned {
    /// Its answers also tell what changes without its version: parts with versions of their own, numbers of the moment.
    const TELLS_MORE: bool = false;

    fn version(&self) -> i64;
}

/// The version, for whoever changes the thing; and what tells apart two answers of one version, for whoever reads it.
fn etag<T: Versioned + ToJSON>(version: i64, rendered: &Rendered<T>) -> String {
    if T::TELLS_MORE {
        return with_more(version, rendered);
    }
    format!("\"{version}\"")
}

fn with_more<T: ToJSON>(version: i64, rendered: &Rendered<T>) -> String {
    format!("\"{version}-{}\"", rendered.digest())
}

/// The version in a tag like those.
#[must_use]
pub fn version_in(etag: &str) -> Option<i64> {
    let tag = etag.trim_start_matches("W/").trim_matches('"');
    let (version, _) = tag.split_once('-').unwrap_or((tag, ""));
    version.parse().ok()
}

/// A thing and, as `ETag`, its version.
#[derive(ApiResponse)]
pub enum Found<T: Type + ParseFromJSON + ToJSON> {
    /// As it is now.
    #[oai(status = 200)]
    Found(
        Rendered<T>,
        /// For `If-Match` and `If-None-Match`. It begins with the version; where the answer tells more than that is
        /// of, the rest changes with the content.
        #[oai(header = "ETag")]
        String,
    ),
}

impl<T: Type + ParseFromJSON + ToJSON + Versioned> Found<T> {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a handler gives its answer away"
    )]
    pub fn new(thing: T) -> Self {
        let rendered = Rendered::of(&thing);
        let etag = etag(thing.version(), &rendered);
        Self::Found(rendered, etag)
    }

    /// What is written out already.
    pub fn shown(version: i64, shown: Shown<T>) -> Self {
        let rendered = Rendered::from(shown);
        let etag = etag(version, &rendered);
        Self::Found(rendered, etag)
    }
}

impl<T: Type + ParseFromJSON + ToJSON + Versioned> Found<T> {
    /// The same where the answer also shows what changes without the thing: the tag is that of the whole answer, and
    /// begins with the version.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a handler gives its answer away"
    )]
    pub fn with_more(thing: T) -> Self {
        let rendered = Rendered::of(&thing);
        let etag = with_more(thing.version(), &rendered);
        Self::Found(rendered, etag)
    }
}

/// A list and, as `ETag`, what tells it from every other.
#[derive(ApiResponse)]
pub enum Listed<T: Type + ParseFromJSON + ToJSON> {
    /// As it is now.
    #[oai(status = 200)]
    Listed(
        Rendered<T>,
        /// Changes with the content, for `If-None-Match`.
        #[oai(header = "ETag")]
        String,
    ),
}

impl<T: Type + ParseFromJSON + ToJSON> Listed<T> {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a handler gives its answer away"
    )]
    pub fn new(list: T) -> Self {
        Self::shown(Shown::of(&list))
    }

    /// What is written out already.
    pub fn shown(shown: Shown<T>) -> Self {
        let tag = format!("\"{}\"", shown.digest);
        Self::Listed(shown.into(), tag)
    }
}

/// A thing that was just made.
#[derive(ApiResponse)]
pub enum Created<T: Type + ParseFromJSON + ToJSON> {
    /// It was made.
    #[oai(status = 201)]
    Created(
        Rendered<T>,
        /// Where it is from now on.
        #[oai(header = "Location")]
        String,
        /// Its version.
        #[oai(header = "ETag")]
        String,
    ),
}

impl<T: Type + ParseFromJSON + ToJSON + Versioned> Created<T> {
    /// `path` is the canonical one, without the prefix.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a handler gives its answer away"
    )]
    pub fn at(path: &str, thing: T) -> Self {
        let rendered = Rendered::of(&thing);
        let etag = etag(thing.version(), &rendered);
        Self::Created(rendered, format!("{}{path}", crate::PREFIX), etag)
    }
}

/// A thing that was just made and has no version.
#[derive(ApiResponse)]
pub enum Made<T: Type + ParseFromJSON + ToJSON> {
    /// It was made.
    #[oai(status = 201)]
    Made(
        Json<T>,
        /// Where it is from now on.
        #[oai(header = "Location")]
        String,
    ),
}

impl<T: Type + ParseFromJSON + ToJSON> Made<T> {
    /// `path` is the canonical one, without the prefix.
    pub fn at(path: &str, thing: T) -> Self {
        Self::Made(Json(thing), format!("{}{path}", crate::PREFIX))
    }
}

/// An answer that holds secrets: no cache on the way may keep a copy.
#[derive(ApiResponse)]
pub enum Secret<T: Type + ParseFromJSON + ToJSON> {
    /// For the caller alone.
    #[oai(status = 200)]
    Secret(
        Json<T>,
        /// `no-store`.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

impl<T: Type + ParseFromJSON + ToJSON> Secret<T> {
    pub fn new(secret: T) -> Self {
        Self::Secret(Json(secret), NO_STORE.into())
    }
}

/// The same for a thing that was just made.
#[derive(ApiResponse)]
pub enum NewSecret<T: Type + ParseFromJSON + ToJSON> {
    /// It was made. What it says is for the caller alone.
    #[oai(status = 201)]
    Made(
        Json<T>,
        /// Where it is from now on.
        #[oai(header = "Location")]
        String,
        /// `no-store`.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

impl<T: Type + ParseFromJSON + ToJSON> NewSecret<T> {
    /// `path` is the canonical one, without the prefix.
    pub fn at(path: &str, secret: T) -> Self {
        let place = format!("{}{path}", crate::PREFIX);
        Self::Made(Json(secret), place, NO_STORE.into())
    }
}

const NO_STORE: &str = "no-store";

/// It will be seen to.
#[derive(ApiResponse)]
pub enum Accepted {
    /// It will be seen to.
    #[oai(status = 202)]
    Accepted,
}

/// It is done or gone.
#[derive(ApiResponse)]
pub enum Gone {
    /// It is done, and there is nothing to show.
    #[oai(status = 204)]
    Gone,
}

/// An answer that may have been given before, see [`super::once`].
pub struct Once<R> {
    pub(super) response: poem::Response,
    pub(super) answers_like: std::marker::PhantomData<R>,
}

impl<R: Send> IntoResponse for Once<R> {
    fn into_response(self) -> poem::Response {
        self.response
    }
}

impl<R: ApiResponse> ApiResponse for Once<R> {
    fn meta() -> MetaResponses {
        R::meta()
    }

    fn register(registry: &mut Registry) {
        R::register(registry);
    }
}
