//! Where the commands meet the rest of the workspace: every call into it is made here.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use sandbox::Inbox;
use shared::App;
use shared::clock::Clock;
use shared::config::{Config, Mode};
use shared::seed::{self, DEMO_KEY};
use shared::telemetry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves the API until `stop`, then finishes what it has begun.
pub async fn api(
    config: Arc<Config>,
    listener: TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(&config.telemetry, "api")?;
    api::serve(App::new(config, Clock::System)?, listener, stop).await
}

/// Runs jobs until `stop`, then finishes what it has begun. Health and figures are answered meanwhile.
pub async fn worker(config: Arc<Config>, stop: CancellationToken) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(&config.telemetry, "worker")?;
    let listen = config.http.worker_listen;
    let listener = TcpListener::bind(listen).await;
    let listener =
        listener.with_context(|| format!("the worker cannot answer for its health on {listen}"))?;
    let app = App::new(config, Clock::System)?;
    // Whichever of the two ends takes the other with it.
    let over = stop.child_token();
    let (worked, served) = tokio::join!(
        Box::pin(ending(worker::run(app.clone(), over.clone()), &over)),
        Box::pin(ending(
            api::serve_health(app, listener, over.clone()),
            &over
        )),
    );
    worked.and(served)
}

async fn ending<T>(part: impl Future<Output = T>, over: &CancellationToken) -> T {
    let outcome = part.await;
    over.cancel();
    outcome
}

/// Brings the database to the current schema.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    app(config)?.migrate().await
}

/// How many migrations the database still lacks.
pub async fn missing_migrations(config: &Config) -> anyhow::Result<usize> {
    Ok(app(config)?.pending_migrations().await?)
}

/// Fills in the demo data, where it is not there yet.
pub async fn seed(config: Arc<Config>) -> anyhow::Result<()> {
    if config.general.mode != Mode::Development {
        bail!(
            "demo data has passwords that everybody knows: it is for HOLDFAST_GENERAL_MODE=development only"
        );
    }
    Ok(seed::demo(&app(&config)?).await?)
}

fn app(config: &Config) -> anyhow::Result<App> {
    App::new(Arc::new(config.clone()), Clock::System)
}

/// Catches mails on one address and shows them on the other, until it is dropped.
pub async fn inbox(smtp: SocketAddr, web: SocketAddr) -> anyhow::Result<Inbox> {
    Ok(Inbox::start(smtp, Some(web)).await?)
}

/// How the demo organizer is let in.
pub const DEMO_ACCOUNTS: &[(&str, &str)] = &[("Lighthouse Events", DEMO_KEY)];

/// A request that shows something at once.
pub fn first_request(api: &str) -> String {
    format!("curl -s {api}/api/v1/venues")
}
