//! What the operator asks for: is it alive, is it ready, what are the figures; and the document to read.

use poem::http::{HeaderValue, StatusCode, header};
use poem::web::{Data, Html};
use poem::{EndpointExt as _, IntoResponse, Response, Route, handler};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, OpenApiService};
use secrecy::{ExposeSecret as _, SecretString};
use shared::App;
use shared::config;
use tokio_util::sync::CancellationToken;

use crate::http::document::document;
use crate::http::tags::Tag;

pub(crate) fn service() -> OpenApiService<Ops, ()> {
    OpenApiService::new(Ops, "Holdfast", env!("CARGO_PKG_VERSION"))
}

/// Everything outside the API itself.
pub(crate) fn routes(config: &config::Http, stop: CancellationToken) -> Route {
    health(config, stop)
        .at("/docs", poem::get(docs))
        .at("/openapi.json", poem::get(json))
        .at("/openapi.yaml", poem::get(yaml))
}

/// What every process answers for.
pub(crate) fn health(config: &config::Http, stop: CancellationToken) -> Route {
    Route::new().nest("/", service().data(stop)).at(
        "/metrics",
        poem::get(metrics).data(config.metrics_token.clone()),
    )
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

#[handler]
fn json() -> Response {
    poem::web::Json(document()).into_response()
}

#[handler]
fn yaml() -> Response {
    let text = serde_yaml::to_string(document()).unwrap_or_default();
    text.with_content_type("application/yaml").into_response()
}

/// The reading page has everything inside: it works without internet.
#[handler]
fn docs() -> Response {
    let page = service()
        .swagger_ui_html()
        .replace(&service().spec(), &document().to_string());
    let page = page.replace("<title>Swagger UI</title>", "<title>Holdfast API</title>");
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                  connect-src 'self'; frame-ancestors 'none'";
    let mut response = Html(page).into_response();
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(policy),
    );
    response
}

#[handler]
fn metrics(Data(token): Data<&Option<SecretString>>, request: &poem::Request) -> Response {
    if let Some(token) = token {
        let given = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "));
        if !given.is_some_and(|given| same(given, token.expose_secret())) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
    }
    shared::telemetry::metrics()
        .render()
        .with_content_type("text/plain; version=0.0.4")
        .into_response()
}

/// Compares without telling by its time how far the two agree.
fn same(given: &str, expected: &str) -> bool {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(given) == Sha256::digest(expected)
}
