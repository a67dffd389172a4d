//! An API process for tests to kill: `test_api SETTINGS`, which are JSON. It says where it listens.
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
    let Some(settings) = std::env::args().nth(1) else {
        anyhow::bail!("usage: test_api SETTINGS");
    };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(9);
    });
    let config = Config::read(&Source {
        env: serde_json::from_str(&settings)?,
        file: toml::Table::new(),
    });
    let config = config.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let app = App::new(Arc::new(config), Clock::manual(tests::start_of_time()))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    api::serve(app, listener, CancellationToken::new()).await
}
