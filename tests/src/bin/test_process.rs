//! A process of the product for tests to kill: `test_process api|worker SETTINGS`, which are JSON. An API says where it
//! listens, a worker that it has begun. It writes a log if the settings name one.
//!
//! Its clock stands still. It does not outlive its test: when the other end of its input is gone, it goes.

use std::io::Read as _;
use std::sync::Arc;

use shared::App;
use shared::clock::Clock;
use shared::config::{Config, Source};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, settings] = arguments.as_slice() else {
        anyhow::bail!("usage: test_process api|worker SETTINGS");
    };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(9);
    });
    let config = Config::read(&Source {
        env: serde_json::from_str(settings)?,
        file: toml::Table::new(),
    });
    let config = config.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let _telemetry = if settings.contains("HOLDFAST_TELEMETRY_LOG") {
        Some(shared::telemetry::init(&config.telemetry, "test")?)
    } else {
        None
    };
    let app = App::new(Arc::new(config), Clock::manual(tests::start_of_time()))?;
    if kind == "worker" {
        println!("working");
        return worker::run(app, CancellationToken::new()).await;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    api::serve(app, listener, CancellationToken::new()).await
}
