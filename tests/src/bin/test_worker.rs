//! A worker process for tests to kill: `test_worker DATABASE_URL REDIS_URL PREFIX CONCURRENCY`.
//!
//! SIGTERM drains it. It does not outlive its test: when the other end of its input is gone, it goes.

use std::io::Read as _;

use sqlx::postgres::PgPoolOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, redis, prefix, concurrency] = arguments.as_slice() else {
        anyhow::bail!("usage: test_worker DATABASE_URL REDIS_URL PREFIX CONCURRENCY");
    };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(9);
    });
    let _telemetry = shared::telemetry::init(&tests::queue::config().telemetry, "test")?;
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .connect(database)
        .await?;
    let mut settings = tests::queue::config().jobs;
    settings.concurrency = concurrency.parse()?;
    settings.concurrency_beside = settings.concurrency;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let stopper = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        stopper.cancel();
    });
    tests::queue::engine(pool, redis, prefix, settings)
        .run(stop)
        .await?;
    Ok(())
}
