//! `holdfast api`, `worker` and `sandbox`: processes that run until they are asked to stop.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use shared::config::Config;
use shared::production::SANDBOX_WEBHOOK_SECRET;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::run::{self, StripeStandIn};
use crate::signals::StopRequests;

#[derive(clap::Args)]
pub struct Serve {
    /// Stop when standard input closes, which is when the starting process is gone
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

#[derive(clap::Args)]
pub struct Sandbox {
    /// Where mails are taken in
    #[arg(long, default_value = "127.0.0.1:1025")]
    smtp: SocketAddr,
    /// Where they can be read
    #[arg(long, default_value = "127.0.0.1:8025")]
    web: SocketAddr,
    /// Where the stand-in for Stripe answers
    #[arg(long, default_value = "127.0.0.1:12111")]
    stripe: SocketAddr,
    /// Where browsers reach the stand-in for Stripe, if not there
    #[arg(long)]
    stripe_public_url: Option<String>,
    /// Where the stand-in for Stripe sends its webhooks: `http://…/api/v1/webhooks/stripe`
    #[arg(long)]
    webhooks: Option<String>,
    /// What its webhooks are signed with
    #[arg(long, default_value = SANDBOX_WEBHOOK_SECRET)]
    webhook_secret: String,
}

pub async fn api(options: Serve, config: Config) -> anyhow::Result<ExitCode> {
    let stop = options.stop()?;
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen).await;
    let listener = listener.with_context(|| format!("the API cannot listen on {listen}"))?;
    run::api(Arc::new(config), listener, stop).await?;
    Ok(ExitCode::SUCCESS)
}

pub async fn worker(options: Serve, config: Config) -> anyhow::Result<ExitCode> {
    let stop = options.stop()?;
    run::worker(Arc::new(config), stop).await?;
    Ok(ExitCode::SUCCESS)
}

pub async fn sandbox(options: Sandbox) -> anyhow::Result<ExitCode> {
    let mut requests = StopRequests::listen()?;
    let _inbox = run::inbox(options.smtp, options.web).await?;
    let secret = options.webhook_secret;
    let stripe = run::stripe(StripeStandIn {
        listen: options.stripe,
        public_url: options.stripe_public_url,
        webhooks: options.webhooks.map(|url| (url, secret)),
    });
    let stripe = stripe.with_context(|| format!("nothing can listen on {}", options.stripe))?;
    println!(
        "Mails are taken in on {} and shown on http://{}",
        options.smtp, options.web
    );
    println!("Payments are taken on {}", stripe.url());
    requests.next().await;
    Ok(ExitCode::SUCCESS)
}

impl Serve {
    /// Cancelled with the first request to stop.
    fn stop(&self) -> anyhow::Result<CancellationToken> {
        let stop = CancellationToken::new();
        let mut requests = StopRequests::listen()?;
        let asked = stop.clone();
        tokio::spawn(async move {
            requests.next().await;
            asked.cancel();
        });
        if self.until_stdin_closes {
            let abandoned = stop.clone();
            std::thread::spawn(move || {
                // Nobody writes here; the end is all there is to read.
                let _closed = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                abandoned.cancel();
            });
        }
        Ok(stop)
    }
}
