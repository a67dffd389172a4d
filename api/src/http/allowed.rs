//! Permission is what hands out the data.
//!
//! Routes hold nothing. A handler that wants to read or change anything takes [`Allowed`] (a right, held by
//! the caller) or [`Public`] (nobody is asked who they are) as its first argument; whoever forgets has nothing
//! to work with. Both count the request against the caller's limit and put themselves into the document.

use std::marker::PhantomData;
use std::sync::Arc;

use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use shared::access::{self, Caller, Right, Scope};
use shared::app::Reader;
use shared::error::{Invalid, Result};
use shared::version::{Expected, VersionError};
use shared::{App, Tx};

use super::answer::Failure;
use super::limits::Limiter;
use super::observe::{self, RequestId};

/// A right that an operation asks for.
pub trait Permission: Send + Sync + 'static {
    const RIGHT: Right;
}

/// Declares the rights a module's operations ask for.
macro_rules! permissions {
    ($($name:ident: $resource:literal $action:literal;)+) => {$(
        pub struct $name;

        impl $crate::http::allowed::Permission for $name {
            const RIGHT: shared::access::Right =
                shared::access::Right { resource: $resource, action: $action };
        }
    )+};
}
pub(crate) use permissions;

/// Anybody may do this. Whoever does give credentials must give good ones.
pub struct Public(Access);

impl Public {
    pub async fn read(&self) -> Result<Reader> {
        self.0.app.read().await
    }
}

/// The caller holds the right `P`, in the organizations of its scope.
pub struct Allowed<P> {
    pub(super) access: Access,
    scope: Scope,
    right: PhantomData<P>,
}

/// Who is calling, and what every request may carry.
pub(super) struct Access {
    pub app: App,
    pub caller: Caller,
    pub method: String,
    pub path: String,
    pub request_id: RequestId,
    pub idempotency_key: Option<String>,
    if_match: Option<String>,
}

impl<P: Permission> Allowed<P> {
    /// Opens a change with the caller as its actor and the right's scope as its bounds.
    pub(super) async fn begin(&self) -> Result<Tx> {
        let Access {
            app,
            caller,
            request_id,
            ..
        } = &self.access;
        let tx = app.begin(caller.actor, self.scope.clone()).await?;
        Ok(tx.caused_by(request_id.0.clone()))
    }

    /// Does the work in one transaction.
    pub async fn change<T>(&self, work: impl AsyncFnOnce(&mut Tx) -> Result<T>) -> Result<T> {
        let mut tx = self.begin().await?;
        let done = work(&mut tx).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// The version the caller has seen, told by `If-Match` or in the body. Telling none is an error.
    pub fn seen(&self, in_body: Option<i64>) -> Result<Expected> {
        self.seen_if_told(in_body)?
            .ok_or_else(|| VersionError::Required.into())
    }

    /// The same where telling is up to the caller.
    pub fn seen_or_any(&self) -> Result<Expected> {
        Ok(self.seen_if_told(None)?.unwrap_or(Expected::Any))
    }

    fn seen_if_told(&self, in_body: Option<i64>) -> Result<Option<Expected>> {
        let Some(header) = &self.access.if_match else {
            return Ok(in_body.map(Expected::Exactly));
        };
        if header == "*" {
            return Ok(Some(Expected::Any));
        }
        let version = header.trim_start_matches("W/").trim_matches('"').parse();
        let version = version
            .map_err(|_| Invalid::field("If-Match", "must be the ETag of a reading, or *"))?;
        Ok(Some(Expected::Exactly(version)))
    }
}

impl Access {
    /// Finds out who is calling and counts the call.
    async fn of(request: &Request) -> Result<Self> {
        let app: &App = request.data().expect("the app is given to every request");
        if request
            .uri()
            .query()
            .is_some_and(|query| query.contains("%00"))
        {
            return Err(Invalid::field("query", "must not contain the character NUL").into());
        }
        let limiter: &Arc<Limiter> = request
            .data()
            .expect("the limiter is given to every request");
        let address = observe::address(request, app.config.http.trust_forwarded);
        let caller = match header(request, "x-api-key") {
            None => Caller::stranger(),
            Some(key) => {
                let mut db = app.read().await?;
                let known = access::by_api_key(&mut db, &key, app.clock.now()).await;
                if known.is_err() {
                    // Guessing keys counts against the address.
                    limiter
                        .count_address(request, address, app.clock.now())
                        .await?;
                }
                known?
            }
        };
        match caller.actor {
            access::Actor::Stranger => {
                limiter
                    .count_address(request, address, app.clock.now())
                    .await?;
            }
            actor => {
                limiter
                    .count_account(request, actor, app.clock.now())
                    .await?;
            }
        }
        Ok(Self {
            app: app.clone(),
            caller,
            request_id: request
                .data::<RequestId>()
                .cloned()
                .expect("every request has an id"),
            method: request.method().to_string(),
            path: request.uri().to_string(),
            idempotency_key: header(request, "idempotency-key"),
            if_match: header(request, "if-match"),
        })
    }
}

fn header(request: &Request, name: &str) -> Option<String> {
    request.header(name).map(|value| value.trim().to_owned())
}

impl<'a> ApiExtractor<'a> for Public {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::PoemExtractor];
    type ParamType = ();
    type ParamRawType = ();

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(Access::of(request).await.map_err(Failure)?))
    }
}

impl<'a, P: Permission> ApiExtractor<'a> for Allowed<P> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            "api_key",
            MetaSecurityScheme {
                ty: "apiKey",
                description: Some("A key of an organization, made for a service."),
                name: Some("X-Api-Key"),
                key_in: Some("header"),
                scheme: None,
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec!["api_key"]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let access = Access::of(request).await.map_err(Failure)?;
        let scope = access.caller.scope(P::RIGHT).map_err(Failure)?;
        Ok(Self {
            access,
            scope,
            right: PhantomData,
        })
    }
}
