//! Where the commands meet the rest of the workspace: every call into it is made here.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::bail;
use shared::config::Config;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Who can log in after `seed`, as name and password.
pub const DEMO_ACCOUNTS: &[(&str, &str)] = &[];

/// Serves the API until `stop`, then finishes what it has begun.
#[expect(clippy::unused_async, reason = "the API is not there yet")]
pub async fn api(
    _config: Arc<Config>,
    _listener: TcpListener,
    _stop: CancellationToken,
) -> anyhow::Result<()> {
    bail!("the API is not there yet")
}

/// Runs jobs until `stop`, then finishes what it has begun.
#[expect(clippy::unused_async, reason = "the worker is not there yet")]
pub async fn worker(_config: Arc<Config>, _stop: CancellationToken) -> anyhow::Result<()> {
    bail!("the worker is not there yet")
}

/// Brings the database to the current schema.
#[expect(clippy::unused_async, reason = "the migrations are not there yet")]
pub async fn migrate(_config: &Config) -> anyhow::Result<()> {
    bail!("the migrations are not there yet")
}

/// How many migrations the database still lacks.
#[expect(clippy::unused_async, reason = "the migrations are not there yet")]
pub async fn missing_migrations(_config: &Config) -> anyhow::Result<usize> {
    bail!("the migrations are not there yet")
}

/// Fills in the demo data, where it is not there yet.
#[expect(clippy::unused_async, reason = "the demo data is not there yet")]
pub async fn seed(_config: Arc<Config>) -> anyhow::Result<()> {
    bail!("the demo data is not there yet")
}

/// Catches mails on one address and shows them on the other, until it is dropped.
#[expect(clippy::unused_async, reason = "the mail catcher is not there yet")]
pub async fn inbox(_smtp: SocketAddr, _web: SocketAddr) -> anyhow::Result<Inbox> {
    bail!("the mail catcher is not there yet")
}

/// The mail catcher, for as long as it lives.
pub struct Inbox;

/// A request that shows something at once.
pub fn first_request(api: &str) -> String {
    format!("curl -s {api}/health/ready")
}
