//! Who is calling, found out from a request and counted against their limit.

use std::sync::Arc;

use poem::Request;
use poem::http::Method;
use poem::http::header::AUTHORIZATION;
use shared::App;
use shared::access::passes::{self, Bearer};
use shared::access::{self, AccessError, Caller};
use shared::config::Mode;
use shared::error::{Code, Invalid, Result};
use shared::seed::DEMO_KEY;
use tokio_util::sync::CancellationToken;

use super::address::Address;
use super::limits::Limiter;
use super::observe::{self, RequestId};
use super::streams::Streams;

/// Who is calling, and what every request may carry.
pub(super) struct Access {
    pub app: App,
    pub caller: Caller,
    /// The secret of an order that a pass stands for.
    pub order_secret: Option<String>,
    pub method: String,
    pub path: String,
    pub request_id: RequestId,
    pub idempotency_key: Option<String>,
    pub address: String,
    /// What limits count an address by.
    pub network: String,
    pub streams: Arc<Streams>,
    pub user_agent: Option<String>,
    pub if_match: Option<String>,
    pub stop: CancellationToken,
}

/// What a request says about who sent it.
enum Credentials {
    None,
    /// A pass, and the path that it is presented for.
    Pass(String, String),
    Token(String),
    Key(String),
}

impl Credentials {
    fn of(request: &Request) -> Result<Self> {
        let key = header(request, "X-Api-Key")?;
        let Some(authorization) = header(request, AUTHORIZATION.as_str())? else {
            return match (key, pass_in_query(request)) {
                (Some(_), Some(_)) => Err(AccessError::TwoKinds.into()),
                (Some(key), None) => Ok(Self::Key(key)),
                (None, Some((pass, path))) => Ok(Self::Pass(pass, path)),
                (None, None) => Ok(Self::None),
            };
        };
        if key.is_some() {
            return Err(AccessError::TwoKinds.into());
        }
        match authorization.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(Self::Token(token.trim().to_owned()))
            }
            _ => Err(AccessError::BadToken.into()),
        }
    }

    async fn bearer(self, app: &App, cause: &RequestId) -> Result<Bearer> {
        let caller = match self {
            Self::Pass(pass, path) => return passes::redeem(app, &pass, &path).await,
            Self::None => Ok(Caller::stranger()),
            Self::Token(token) => access::by_access_token(app, &token).await,
            // Everybody knows it, and a database may come out of development with it.
            Self::Key(key) if key == DEMO_KEY && app.config.general.mode == Mode::Production => {
                Err(AccessError::UnknownKey.into())
            }
            Self::Key(key) => {
                let mut db = app.read().await?;
                access::by_api_key(&mut db, &key, &cause.0, app.clock.now()).await
            }
        };
        caller.map(Bearer::from)
    }
}

/// A browser that opens a stream or a picture by its address cannot set a header.
fn pass_in_query(request: &Request) -> Option<(String, String)> {
    let uri = request.uri();
    let path = below_prefix(uri.path());
    let reads = *request.method() == Method::GET;
    let query = uri.query().filter(|_| reads && opens_by_pass(path))?;
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let (_, pass) = pairs.find(|(name, _)| name == PASS_IN_QUERY)?;
    Some((pass.into_owned(), path.to_owned()))
}

/// What a pass is called in an address.
pub(crate) const PASS_IN_QUERY: &str = "token";

/// Whether a browser opens what is at this path by itself: a stream or a picture. The path is without the prefix.
pub(crate) fn opens_by_pass(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    matches!(
        parts.as_slice(),
        ["orders", _, "stream"]
            | ["events", _, "availability", "stream"]
            | ["tickets", _, "qr.svg" | "qr.png"]
    )
}

/// A path of the current version, however it was written.
pub(crate) fn below_prefix(path: &str) -> &str {
    let path = path.strip_prefix(crate::PREFIX).unwrap_or(path);
    match path.strip_prefix("/api/") {
        Some(_) => &path["/api".len()..],
        None => path,
    }
}

impl Access {
    /// Finds out who is calling and counts the call.
    pub async fn of(request: &Request, tight: bool, counted: bool) -> Result<Self> {
        let app: &App = request.data().expect("the app is given to every request");
        observe::record_route(request);
        let (path, query) = (request.uri().path(), request.uri().query());
        for (place, text) in [("path", path), ("query", query.unwrap_or_default())] {
            if text.contains("%00") {
                return Err(Invalid::field(place, "must not contain the character NUL").into());
            }
        }
        let address = Address::of(request, &app.config.http);
        let bearer = if counted {
            counted_bearer(request, app, tight).await?
        } else {
            Caller::stranger().into()
        };
        Ok(Self {
            app: app.clone(),
            caller: bearer.caller,
            order_secret: bearer.order_secret,
            request_id: id_of(request).clone(),
            method: request.method().to_string(),
            path: request.uri().to_string(),
            idempotency_key: header(request, "Idempotency-Key")?,
            address: address.to_string(),
            network: address.network(),
            streams: request.data().cloned().expect("every request has them"),
            user_agent: request.header("user-agent").map(str::to_owned),
            if_match: header(request, "If-Match")?,
            stop: request.data().cloned().unwrap_or_default(),
        })
    }
}

async fn counted_bearer(request: &Request, app: &App, tight: bool) -> Result<Bearer> {
    let limiter: &Arc<Limiter> = request
        .data()
        .expect("the limiter is given to every request");
    let address = Address::of(request, &app.config.http);
    let now = app.clock.now();
    if tight {
        limiter.count_sign_in(request, address, now).await?;
    }
    let bearer = match Credentials::of(request) {
        Ok(credentials) => credentials.bearer(app, id_of(request)).await,
        Err(refusal) => Err(refusal),
    };
    match bearer.as_ref().map(|bearer| &bearer.caller) {
        // Guessing at credentials counts against the address.
        Err(error) if error.code() == Code::Unavailable => {}
        Err(_) => limiter.count_address(request, address, now).await?,
        Ok(caller) if caller.actor == access::Actor::Stranger => {
            limiter.count_address(request, address, now).await?;
        }
        Ok(caller) => {
            limiter.count_account(request, caller.actor, now).await?;
            // An account costs nothing: a hundred of them must not have a hundred times the limit.
            limiter.count_network(request, address, now).await?;
        }
    }
    bearer
}

fn id_of(request: &Request) -> &RequestId {
    request.data().expect("every request has an id")
}

/// A header that is given once and can be read. One that cannot be read must not count as not given.
fn header(request: &Request, name: &str) -> Result<Option<String>> {
    let mut given = request.headers().get_all(name).iter();
    let (first, second) = (given.next(), given.next());
    let Some(value) = first else { return Ok(None) };
    match (value.to_str(), second) {
        (Ok(value), None) => Ok(Some(value.trim().to_owned())),
        _ => Err(Invalid::field(name, "must be given once, in plain ASCII").into()),
    }
}
