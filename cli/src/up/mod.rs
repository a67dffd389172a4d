//! `holdfast up`: the whole product on one machine, for development.
//!
//! It starts what it needs, from the servers to the demo data, and stops it in the opposite order. The data stays.

mod child;
mod ports;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use shared::config::{Config, Source};
use shared::production::{SANDBOX_STRIPE_KEY, SANDBOX_WEBHOOK_SECRET};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::run::StripeStandIn;
use crate::services::{HOME, Place, Promise, Services};
use crate::signals::StopRequests;
use crate::{health, run, settings};
use child::Role;
use ports::Ports;

const PLACE: &str = "up";
/// How long the API may take until it answers.
const START: Duration = Duration::from_mins(1);

pub async fn up() -> anyhow::Result<ExitCode> {
    let mut requests = StopRequests::listen()?;
    let place = claim().await?;
    let mut services = Services::of(place).await?;
    let outcome = product(&mut services, &mut requests).await;
    eprintln!("holdfast: stopping the servers");
    let stopped = services.stop().await;
    outcome?;
    stopped?;
    eprintln!("holdfast: stopped; the data is in {HOME}/ for the next start");
    Ok(ExitCode::SUCCESS)
}

/// Throws away what `up` has kept.
pub async fn clean_data() -> anyhow::Result<ExitCode> {
    Services::of(claim().await?).await?.remove().await?;
    eprintln!("holdfast: the data in {HOME}/ is gone");
    Ok(ExitCode::SUCCESS)
}

async fn claim() -> anyhow::Result<Place> {
    let place = Place::claim(Path::new(HOME), PLACE).await;
    place.context("`holdfast up` cannot have the folder for its data")
}

/// Everything between the start of the servers and their stop.
async fn product(services: &mut Services, requests: &mut StopRequests) -> anyhow::Result<()> {
    let mut source = settings::source()?;
    let mut chosen = Chosen::default();
    chosen.addresses(&source)?;
    chosen.servers(&source, services).await?;
    source.env.extend(chosen.env.clone());
    let config = Arc::new(Config::read(&source)?);

    run::migrate(&config).await?;
    run::seed(config.clone()).await?;
    drop(chosen.ports);
    let _inbox = match chosen.inbox {
        Some(inbox) => Some(run::inbox(inbox.smtp, inbox.web).await?),
        None => None,
    };
    let _stripe = match chosen.stripe {
        Some(listen) => Some(run::stripe(stand_in(listen, &config))?),
        None => None,
    };

    let stop = CancellationToken::new();
    let hurry = CancellationToken::new();
    let mut children = JoinSet::new();
    for (name, colour) in [("api", 36), ("worker", 35)] {
        let patience = config.http.drain.0 + Duration::from_secs(5);
        let role = Role {
            name,
            colour,
            env: chosen.env.clone(),
            patience,
        };
        children.spawn(child::keep_running(role, stop.clone(), hurry.clone()));
    }
    let outcome = tokio::select! {
        _ = requests.next() => Ok(()),
        error = services.end() => Err(error),
        never = welcome(&config, chosen.inbox, chosen.stripe) => match never {},
    };
    eprintln!("holdfast: stopping; once more Ctrl-C does not wait for what is under way");
    stop.cancel();
    while !children.is_empty() {
        tokio::select! {
            _ = children.join_next() => {}
            _ = requests.next() => hurry.cancel(),
        }
    }
    outcome
}

/// Settings that nobody gave, chosen for development.
#[derive(Default)]
struct Chosen {
    env: BTreeMap<String, String>,
    inbox: Option<InboxAddresses>,
    /// Where the stand-in for Stripe is.
    stripe: Option<SocketAddr>,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct InboxAddresses {
    smtp: SocketAddr,
    web: SocketAddr,
}

impl Chosen {
    fn addresses(&mut self, source: &Source) -> anyhow::Result<()> {
        self.unless_given(source, "general", "mode", |_| Ok("development".into()))?;
        self.unless_given(source, "http", "listen", |ports| {
            Ok(told(8080, "the API", ports)?.to_string())
        })?;
        self.unless_given(source, "http", "worker_listen", |ports| {
            Ok(ports.from(8081)?.to_string())
        })?;
        if let Some(listen) = self.env.get(&env_name("http", "listen")).cloned() {
            self.unless_given(source, "general", "public_url", |_| {
                Ok(format!("http://{listen}"))
            })?;
        }
        if !settings::is_given(source, "mail", "smtp_url") {
            let web = told(8025, "the inbox", &mut self.ports)?;
            let smtp = self.ports.from(1025)?;
            self.inbox = Some(InboxAddresses { smtp, web });
            self.env.insert(
                env_name("mail", "smtp_url"),
                format!("smtp://{smtp}?tls=none"),
            );
        }
        let told_of_stripe = ["secret_key", "url"]
            .iter()
            .any(|key| settings::is_given(source, "stripe", key));
        if !told_of_stripe {
            let listen = told(12_111, "the stand-in for Stripe", &mut self.ports)?;
            self.stripe = Some(listen);
            for (key, value) in [
                ("secret_key", SANDBOX_STRIPE_KEY.to_owned()),
                ("url", format!("http://{listen}")),
                ("webhook_secrets", SANDBOX_WEBHOOK_SECRET.to_owned()),
            ] {
                self.env.insert(env_name("stripe", key), value);
            }
        }
        Ok(())
    }

    async fn servers(&mut self, source: &Source, services: &mut Services) -> anyhow::Result<()> {
        if settings::is_given(source, "database", "url") {
            eprintln!("holdfast: using the Postgres that DATABASE_URL gives");
        } else {
            let postgres = services.start_postgres(Promise::Durable).await?;
            eprintln!("holdfast: {}", postgres.describe());
            self.env.insert(env_name("database", "url"), postgres.url());
        }
        if settings::is_given(source, "redis", "url") {
            eprintln!("holdfast: using the Redis that REDIS_URL gives");
        } else {
            let redis = services.start_redis(Promise::Durable).await?;
            eprintln!("holdfast: {}", redis.describe());
            self.env.insert(env_name("redis", "url"), redis.url());
        }
        Ok(())
    }

    fn unless_given(
        &mut self,
        source: &Source,
        section: &str,
        key: &str,
        choose: impl FnOnce(&mut Ports) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        if !settings::is_given(source, section, key) {
            self.env
                .insert(env_name(section, key), choose(&mut self.ports)?);
        }
        Ok(())
    }
}

fn stand_in(listen: SocketAddr, config: &Config) -> StripeStandIn {
    let api = health::reachable(config.http.listen);
    let webhooks = format!("http://{api}/api/v1/webhooks/stripe");
    StripeStandIn {
        listen,
        public_url: None,
        webhooks: Some((webhooks, SANDBOX_WEBHOOK_SECRET.to_owned())),
    }
}

/// A port near the usual one, with a word when it is another.
fn told(usual: u16, what: &str, ports: &mut Ports) -> anyhow::Result<SocketAddr> {
    let address = ports.from(usual)?;
    if address.port() != usual {
        eprintln!(
            "holdfast: port {usual} is taken, so {what} is on {}",
            address.port()
        );
    }
    Ok(address)
}

fn env_name(section: &str, key: &str) -> String {
    let setting = Config::SETTINGS
        .iter()
        .find(|s| s.section == section && s.key == key);
    setting
        .expect("only declared settings are chosen here")
        .env()
}

/// Says where everything is as soon as the API answers, and then stays silent for ever.
async fn welcome(
    config: &Config,
    inbox: Option<InboxAddresses>,
    stripe: Option<SocketAddr>,
) -> Infallible {
    let deadline = Instant::now() + START;
    while let Err(reason) = health::ask(config.http.listen).await {
        if Instant::now() > deadline {
            eprintln!("holdfast: !!! the API is not ready after {START:?}: {reason:#}");
            return std::future::pending().await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    println!("{}", greeting(config, inbox, stripe));
    std::future::pending().await
}

fn greeting(config: &Config, inbox: Option<InboxAddresses>, stripe: Option<SocketAddr>) -> String {
    let api = format!("http://{}", health::reachable(config.http.listen));
    let mut lines = vec![
        String::new(),
        "Holdfast is up. Ctrl-C stops it.".into(),
        format!("  API      {api}/api/v1"),
        format!("  Docs     {api}/docs"),
    ];
    lines.extend(inbox.map(|inbox| format!("  Inbox    http://{}", inbox.web)));
    lines.extend(stripe.map(|address| {
        format!("  Stripe   http://{address} (a stand-in: test cards work, no money moves)")
    }));
    lines.extend(
        run::DEMO_ACCOUNTS
            .iter()
            .map(|(what, whose, secret)| format!("  {what:<8} {secret} ({whose})")),
    );
    lines.push(format!("  Try      {}", run::first_request(&api)));
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_gave_is_not_chosen_for_them() {
        let source = Source {
            env: BTreeMap::from([
                (
                    "HOLDFAST_MAIL_SMTP_URL".to_owned(),
                    "smtp://mail.example".to_owned(),
                ),
                (
                    "HOLDFAST_STRIPE_SECRET_KEY".to_owned(),
                    "sk_test_mine".to_owned(),
                ),
            ]),
            file: "[http]\nlisten = \"127.0.0.1:9\"".parse().expect("TOML"),
        };
        let mut chosen = Chosen::default();
        chosen.addresses(&source).expect("ports are free");
        let names: Vec<&str> = chosen.env.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["HOLDFAST_GENERAL_MODE", "HOLDFAST_HTTP_WORKER_LISTEN"]
        );
        assert!(chosen.inbox.is_none() && chosen.stripe.is_none());
    }

    #[test]
    fn what_nobody_gave_is_chosen_and_is_valid() {
        let mut source = Source::default();
        let mut chosen = Chosen::default();
        chosen.addresses(&source).expect("ports are free");
        chosen
            .env
            .insert("DATABASE_URL".into(), "postgres://x".into());
        chosen.env.insert("REDIS_URL".into(), "redis://x".into());
        source.env.extend(chosen.env.clone());
        let config = Config::read(&source).expect("valid");
        assert_eq!(
            config.general.public_url.0,
            format!("http://{}", config.http.listen)
        );
        let inbox = chosen.inbox.expect("mails are caught");
        let stripe = chosen.stripe.expect("payments are caught");
        assert_eq!(config.stripe.url.0, format!("http://{stripe}"));
        let text = greeting(&config, Some(inbox), Some(stripe));
        for address in [config.http.listen, inbox.web, stripe] {
            assert!(
                text.contains(&format!("http://{address}")),
                "{address} is missing in {text}"
            );
        }
    }
}
