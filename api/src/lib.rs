//! The HTTP interface: one file per module, routes and wire types, and no SQL.
//!
//! A handler authorises, acts through a verb of `shared`, and answers. What every route shares is in
//! [`http`]; what the operator asks for is in [`ops`].

mod admin_users;
mod api_keys;
mod auth;
mod availability;
mod events;
mod holds;
pub mod http;
mod internal;
mod invitations;
mod members;
pub mod ops;
mod order_lists;
mod orders;
mod organizations;
mod passes;
mod refunds;
mod roles;
mod server;
mod sessions;
mod ticket_types;
mod tickets;
mod users;
mod venues;
mod webhooks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use poem::{Endpoint, EndpointExt as _, Route};
use poem_openapi::OpenApiService;
use shared::App;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::limits::Limiter;
use crate::http::streams::Streams;
use crate::http::{aliases, cors, envelope, errors, etag, observe};

/// Where the operations of the current version live; `/api` leads there too.
pub(crate) const PREFIX: &str = "/api/v1";

/// How long whoever asks for the health of an ending process may take to hear the answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where services of ours ask.
pub(crate) const INTERNAL_PREFIX: &str = "/internal";

// A tuple of more than sixteen is no interface.
type SignIn = (auth::Auth, passes::Passes);

type Catalogue = (
    events::Events,
    sessions::Sessions,
    ticket_types::TicketTypes,
    availability::AvailabilityPaths,
);

type Sales = (
    holds::Holds,
    orders::Orders,
    order_lists::OrderLists,
    refunds::Refunds,
    tickets::Tickets,
);

type Api = (
    SignIn,
    users::Users,
    admin_users::AdminUsers,
    organizations::Organizations,
    members::Members,
    invitations::Invitations,
    roles::Roles,
    api_keys::ApiKeys,
    venues::Venues,
    Catalogue,
    Sales,
    webhooks::Webhooks,
);

pub(crate) fn service() -> OpenApiService<Api, ()> {
    let api = (
        (auth::Auth, passes::Passes),
        users::Users,
        admin_users::AdminUsers,
        organizations::Organizations,
        members::Members,
        invitations::Invitations,
        roles::Roles,
        api_keys::ApiKeys,
        venues::Venues,
        (
            events::Events,
            sessions::Sessions,
            ticket_types::TicketTypes,
            availability::AvailabilityPaths,
        ),
        (
            holds::Holds,
            orders::Orders,
            order_lists::OrderLists,
            refunds::Refunds,
            tickets::Tickets,
        ),
        webhooks::Webhooks,
    );
    OpenApiService::new(api, "Holdfast", env!("CARGO_PKG_VERSION"))
}

pub(crate) fn internal_service() -> OpenApiService<internal::InternalPaths, ()> {
    OpenApiService::new(
        internal::InternalPaths,
        "Holdfast",
        env!("CARGO_PKG_VERSION"),
    )
}

/// Serves until told to stop, then finishes what it has begun.
pub async fn serve(app: App, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let config = Arc::clone(&app.config);
    let (http, notice) = (&config.http, config.http.notice.0);
    let internal = listen(http.internal_listen, "services of ours are answered").await?;
    let figures = listen(http.metrics_listen, "figures are told").await?;
    // Figures count from the first request on.
    let _figures = shared::telemetry::metrics();
    http::described::prepare();
    let following = tokio::spawn(shared::cache::follow(app.clone()));
    let close = async || {
        stop.cancelled().await;
        tokio::time::sleep(notice).await;
    };
    let part = match internal {
        Some(_) => Part::Public,
        None => Part::Whole,
    };
    let answered = async {
        let endpoint = endpoint(app.clone(), stop.clone(), part);
        server::serve(listener, endpoint, http, close(), http.drain.0).await
    };
    let internal = async {
        let Some(listener) = internal else {
            return Ok(());
        };
        let endpoint = endpoint(app.clone(), stop.clone(), Part::Internal);
        server::serve(listener, endpoint, http, close(), http.drain.0).await
    };
    let figures = async {
        let Some(listener) = figures else {
            return Ok(());
        };
        let endpoint = health(app.clone(), stop.clone());
        server::serve(listener, endpoint, http, close(), LAST_WORDS).await
    };
    tokio::try_join!(answered, internal, figures)?;
    following.abort();
    Ok(())
}

async fn listen(address: Option<SocketAddr>, what: &str) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("{what} on {address}, which cannot be had"))?;
    Ok(Some(listener))
}

/// Answers for the health and the figures of a process that serves nothing else, until it is `over`. From `stop` on
/// it says that the process is about to end.
pub async fn serve_health(
    app: App,
    listener: TcpListener,
    stop: CancellationToken,
    over: CancellationToken,
) -> anyhow::Result<()> {
    let _figures = shared::telemetry::metrics();
    let config = Arc::clone(&app.config);
    let endpoint = health(app, stop);
    let close = over.cancelled_owned();
    server::serve(listener, endpoint, &config.http, close, LAST_WORDS).await?;
    Ok(())
}

fn health(app: App, stop: CancellationToken) -> impl Endpoint + 'static {
    let endpoint = ops::health(&app.config.http, stop).around(errors::render);
    endpoint.around(observe::observe).data(app)
}

/// What of the interface a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// Everything but what is for services of ours.
    Public,
    Internal,
}

/// A part of the interface. What is wrapped last is asked first.
fn endpoint(app: App, stop: CancellationToken, part: Part) -> impl Endpoint + 'static {
    let limiter = Arc::new(Limiter::new(app.redis.clone(), &app.config.limits));
    let streams = Arc::new(Streams::new(&app.config.http));
    let cors = cors::Cors::new(&app.config.http.cors_origins);
    let mut routes = Route::new();
    if part != Part::Public {
        routes = routes.nest(INTERNAL_PREFIX, internal_service());
    }
    if part != Part::Internal {
        let operations = ops::routes(&app.config.http, stop.clone());
        routes = routes.nest(PREFIX, service()).nest("/", operations);
    }
    routes
        .around(etag::not_modified)
        // Each layer is part of the type of the next: the compiler gives up on all of them in one.
        .boxed()
        .around(errors::render)
        .around(aliases::rewrite)
        .around(envelope::wrap)
        .with(poem::middleware::Compression::new())
        .around(move |next, request| cors::answer(next, request, cors.clone()))
        .around(observe::observe)
        .data(limiter)
        .data(streams)
        .data(stop)
        .data(app)
}
