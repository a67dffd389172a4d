//! What the operator asks for: is it alive, is it ready, what are the figures; and the document to read.

use std::sync::LazyLock;

use poem::http::header;
use poem::web::{Data, Html};
use poem::{Endpoint, EndpointExt as _, IntoResponse, Request, Response, Route, handler};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, OpenApiService};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use shared::App;
use shared::access::AccessError;
use shared::config::{self, Mode};
use tokio_util::sync::CancellationToken;

use crate::http::address::Address;
use crate::http::answer::Failure;
use crate::http::document::document;
use crate::http::tags::Tag;

pub(crate) fn service() -> OpenApiService<Ops, ()> {
    OpenApiService::new(Ops, "Holdfast", env!("CARGO_PKG_VERSION"))
}

/// Everything outside the API itself.
pub(crate) fn routes(config: &config::Http, stop: CancellationToken) -> Route {
    let health = Route::new().nest("/", service().data(stop));
    let health = match config.metrics_listen {
        Some(_) => health,
        None => health.at("/metrics", figures(config, Listener::Shared)),
    };
    health
        .at("/docs", poem::get(docs))
        .at("/openapi.json", poem::get(json))
        .at("/openapi.yaml", poem::get(yaml))
}

/// What a listener answers that is there for health and figures alone.
pub(crate) fn health(config: &config::Http, stop: CancellationToken) -> Route {
    let health = Route::new().nest("/", service().data(stop));
    health.at("/metrics", figures(config, Listener::Own))
}

/// Where figures are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listener {
    /// Where everybody asks for everything else.
    Shared,
    Own,
}

fn figures(config: &config::Http, listener: Listener) -> impl Endpoint + use<> {
    let token = config.metrics_token.clone();
    poem::get(metrics).data(token).data(listener)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
enum State {
    Ok,
    Away,
    Pending,
}

#[derive(Debug, Object)]
struct Alive {
    status: String,
}

/// Each dependency by itself.
#[derive(Debug, Object)]
pub struct Readiness {
    /// `ready`, `not_ready` or `draining`.
    status: String,
    database: State,
    redis: State,
    /// `pending` when the database has not seen all migrations of this version.
    migrations: State,
}

#[derive(ApiResponse)]
enum Ready {
    /// Ready for requests.
    #[oai(status = 200)]
    Yes(Json<Readiness>),
    /// Not now; send requests elsewhere.
    #[oai(status = 503)]
    No(Json<Readiness>),
}

pub struct Ops;

#[OpenApi(tag = "Tag::Operations")]
impl Ops {
    /// Is the process alive
    #[oai(path = "/healthz", method = "get", operation_id = "healthz")]
    #[expect(
        clippy::unused_async,
        reason = "an operation is async, even one that waits for nothing"
    )]
    async fn healthz(&self) -> Json<Alive> {
        Json(Alive {
            status: "healthy".into(),
        })
    }

    /// Is it ready for requests
    ///
    /// Tells Postgres, Redis and migrations apart. A stopping process says `draining`.
    #[oai(path = "/health/ready", method = "get", operation_id = "ready")]
    async fn ready(&self, app: Data<&App>, stop: Data<&CancellationToken>) -> Ready {
        let (migrations, redis) = tokio::join!(app.pending_migrations(), app.redis.ping());
        let database = if migrations.is_ok() {
            State::Ok
        } else {
            database_state(&app).await
        };
        let migrations = match migrations {
            Ok(0) => State::Ok,
            Ok(_) => State::Pending,
            Err(_) if database == State::Ok => State::Pending,
            Err(_) => State::Away,
        };
        let redis = if redis.is_ok() {
            State::Ok
        } else {
            State::Away
        };
        let well = [database, redis, migrations] == [State::Ok; 3];
        let status = match (stop.is_cancelled(), well) {
            (true, _) => "draining",
            (false, true) => "ready",
            (false, false) => "not_ready",
        };
        let readiness = Json(Readiness {
            status: status.into(),
            database,
            redis,
            migrations,
        });
        if status == "ready" {
            Ready::Yes(readiness)
        } else {
            Ready::No(readiness)
        }
    }
}

async fn database_state(app: &App) -> State {
    if app.read().await.is_ok() {
        State::Ok
    } else {
        State::Away
    }
}

/// The document and its page never change while the process runs.
static JSON: LazyLock<String> = LazyLock::new(|| document().to_string());
static YAML: LazyLock<String> =
    LazyLock::new(|| serde_yaml::to_string(document()).unwrap_or_default());

/// The reading page has everything inside: it works without internet.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let page = service()
        .swagger_ui_html()
        .replace(&service().spec(), &JSON);
    page.replace("<title>Swagger UI</title>", "<title>Holdfast API</title>")
});

const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                           img-src data:; connect-src 'self'; frame-ancestors 'none'";

#[handler]
fn json() -> Response {
    JSON.as_str()
        .with_content_type("application/json; charset=utf-8")
        .into_response()
}

#[handler]
fn yaml() -> Response {
    YAML.as_str()
        .with_content_type("application/yaml")
        .into_response()
}

#[handler]
fn docs() -> Response {
    let page = Html(PAGE.as_str());
    page.with_header(header::CONTENT_SECURITY_POLICY, PAGE_POLICY)
        .into_response()
}

/// For callers that know the token. Without one, for callers on this machine, and in production only on a listener of its
/// own: beside the API a proxy may make every caller look like one on this machine.
#[handler]
fn metrics(
    Data(app): Data<&App>,
    Data(token): Data<&Option<SecretString>>,
    Data(listener): Data<&Listener>,
    request: &Request,
) -> poem::Result<Response> {
    let given = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    let welcome = if let Some(token) = token {
        given.is_some_and(|given| same(given, token.expose_secret()))
    } else {
        let apart = *listener == Listener::Own || app.config.general.mode == Mode::Development;
        apart && Address::of(request, &app.config.http).is_this_machine()
    };
    if !welcome {
        return Err(Failure::from(AccessError::Missing).into());
    }
    let figures = shared::telemetry::metrics().render();
    Ok(figures
        .with_content_type("text/plain; version=0.0.4")
        .into_response())
}

/// Compares without telling by its time how far the two agree.
fn same(given: &str, expected: &str) -> bool {
    Sha256::digest(given) == Sha256::digest(expected)
}
