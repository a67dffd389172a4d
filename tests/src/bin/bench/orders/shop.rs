//! An installation with one API, one worker and the stand-ins, each a process of the binary that people run.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::App;
use shared::clock::Clock;
use shared::config::{Config, Source};
use shared::seed::{self, DEMO_KEY};
use sqlx::PgPool;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::client::Client;
use crate::{drop_database, fresh_prefix, sql};

const START: Duration = Duration::from_secs(20);
/// For what a burst leaves to do.
const PATIENCE: Duration = Duration::from_mins(5);

pub struct Shop {
    pub database: String,
    pub stripe: String,
    pub api: SocketAddr,
    pub pool: PgPool,
    /// Where ends of orders are told.
    pub told: (redis::Client, String),
    name: String,
    mails: PathBuf,
    settings: BTreeMap<String, String>,
    worker_health: SocketAddr,
    worker: Option<Child>,
    _others: [Child; 2],
}

/// A ticket type on sale, and the pool that it draws on.
#[derive(Clone)]
pub struct Offer {
    event_id: Value,
    ticket_type_id: Value,
    pub pool: uuid::Uuid,
    pub price: i64,
}

impl Offer {
    /// What a buyer sends.
    pub fn order(&self, buyer: usize) -> String {
        let mut order = json!({
            "event_id": self.event_id, "items": [{"ticket_type_id": self.ticket_type_id, "quantity": 1}],
            "attendees": [{"name": "Ada Lovelace"}], "email": format!("buyer{buyer}@example.org"),
        });
        if self.price > 0 {
            order["payment"] = json!({"method": "card", "token": "pm_card_visa"});
        }
        order.to_string()
    }
}

impl Shop {
    pub async fn open(server: &str, redis: &str) -> anyhow::Result<Self> {
        let name = fresh_prefix();
        sql(server, format!("create database {name}")).await?;
        let (place, _) = server.rsplit_once('/').context("a database URL")?;
        let database = format!("{place}/{name}");
        let [api, worker_health, stripe, smtp, web] = free_ports()?;
        let mails = std::env::temp_dir().join(&name);
        tokio::fs::create_dir(&mails).await?;
        let settings = settings(&[
            ("DATABASE_URL", &database),
            ("REDIS_URL", redis),
            ("HOLDFAST_REDIS_PREFIX", &name),
            ("HOLDFAST_HTTP_LISTEN", &api.to_string()),
            ("HOLDFAST_HTTP_WORKER_LISTEN", &worker_health.to_string()),
            ("HOLDFAST_STRIPE_URL", &format!("http://{stripe}")),
            ("HOLDFAST_MAIL_FOLDER", &mails.to_string_lossy()),
        ]);
        let config = Config::read(&Source {
            env: settings.clone(),
            ..Source::default()
        })?;
        let app = App::new(Arc::new(config), Clock::System)?;
        app.migrate().await?;
        seed::demo(&app).await?;
        let webhooks = format!("http://{api}/api/v1/webhooks/stripe");
        let (smtp, web, at) = (smtp.to_string(), web.to_string(), stripe.to_string());
        let sandbox = [
            "sandbox",
            "--smtp",
            &smtp,
            "--web",
            &web,
            "--stripe",
            &at,
            "--webhooks",
            &webhooks,
            "--webhook-secret",
            "whsec_bench",
        ];
        let others = [
            start(&settings, &["api", "--until-stdin-closes"])?,
            start(&settings, &sandbox)?,
        ];
        let mut shop = Self {
            database,
            stripe: format!("http://{stripe}"),
            api,
            pool: app.pool().clone(),
            told: (app.redis.client().clone(), app.redis.key("orders")),
            name,
            mails,
            settings,
            worker_health,
            worker: None,
            _others: others,
        };
        ready(api).await?;
        shop.start_worker().await?;
        Ok(shop)
    }

    pub async fn start_worker(&mut self) -> anyhow::Result<()> {
        self.worker = Some(start(&self.settings, &["worker", "--until-stdin-closes"])?);
        ready(self.worker_health).await
    }

    pub async fn stop_worker(&mut self) -> anyhow::Result<()> {
        if let Some(mut worker) = self.worker.take() {
            // The end of its input is what it waits for.
            drop(worker.stdin.take());
            worker.wait().await?;
        }
        Ok(())
    }

    /// Puts an event on sale that has nothing but tickets at this price.
    pub async fn offer(&self, price: i64) -> anyhow::Result<Offer> {
        let organizer = tests::Client::new(&format!("http://{}", self.api), Some(DEMO_KEY));
        let begins = Clock::System.now() + TimeDelta::days(30);
        let text = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut event = tests::workshop();
        event["starts_at"] = json!(text(begins));
        event["ends_at"] = json!(text(begins + TimeDelta::hours(2)));
        event["capacity"] = json!(500_000);
        let mut kind = tests::standard();
        kind["price"] = json!(price);
        let event = tests::on_sale(&organizer, &event, &kind).await;
        let session = event["sessions"][0]["id"].as_str().context("a session")?;
        Ok(Offer {
            event_id: event["id"].clone(),
            ticket_type_id: event["ticket_types"][0]["id"].clone(),
            pool: session.parse()?,
            price,
        })
    }

    /// How many places of an offer are sold by now.
    pub async fn sold(&self, offer: &Offer) -> anyhow::Result<usize> {
        let sold = sqlx::query_scalar::<_, i32>("select sold from pools where id = $1");
        let sold = sold.bind(offer.pool).fetch_one(&self.pool).await?;
        Ok(usize::try_from(sold)?)
    }

    pub async fn tickets(&self, offer: &Offer) -> anyhow::Result<usize> {
        let tickets = "select count(*) from tickets t join ticket_type_pools p using (ticket_type_id) where p.pool_id = $1";
        let tickets = sqlx::query_scalar::<_, i64>(tickets).bind(offer.pool);
        Ok(usize::try_from(tickets.fetch_one(&self.pool).await?)?)
    }

    /// Until so many places are sold.
    pub async fn until_sold(&self, offer: &Offer, places: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.sold(offer).await? < places {
            ensure!(Instant::now() < deadline, "it takes too long to sell them");
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Until no job is left to do now.
    pub async fn until_done(&self) -> anyhow::Result<()> {
        let left = "select count(*) from apalis.jobs where status <> 'Done' and run_at <= now()";
        let deadline = Instant::now() + PATIENCE;
        while sqlx::query_scalar::<_, i64>(left)
            .fetch_one(&self.pool)
            .await?
            > 0
        {
            ensure!(Instant::now() < deadline, "jobs are left over");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    pub async fn setting(&self, show: &'static str) -> anyhow::Result<String> {
        Ok(sqlx::query_scalar(show).fetch_one(&self.pool).await?)
    }

    pub async fn close(mut self, server: &str) -> anyhow::Result<()> {
        self.stop_worker().await?;
        self.pool.close().await;
        drop_database(server, &self.name).await?;
        Ok(tokio::fs::remove_dir_all(&self.mails).await?)
    }
}

fn settings(own: &[(&str, &str)]) -> BTreeMap<String, String> {
    let all = [
        ("HOLDFAST_GENERAL_MODE", "development"),
        ("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "0"),
        ("HOLDFAST_LIMITS_NETWORK_PER_MINUTE", "0"),
        ("HOLDFAST_HOLDS_PER_ADDRESS", "1000000"),
        ("HOLDFAST_STRIPE_SECRET_KEY", "sk_test_bench"),
        ("HOLDFAST_STRIPE_WEBHOOK_SECRETS", "whsec_bench"),
        ("HOLDFAST_TELEMETRY_LOG", "warn"),
    ];
    let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    all.iter().chain(own).map(text).collect()
}

/// A process of the binary next to this one.
fn start(settings: &BTreeMap<String, String>, arguments: &[&str]) -> anyhow::Result<Child> {
    let holdfast = std::env::current_exe()?.with_file_name("holdfast");
    let process = Command::new(&holdfast)
        .args(arguments)
        .envs(settings)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    process.with_context(|| format!("{} cannot be started", holdfast.display()))
}

async fn ready(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    loop {
        let asked = async {
            Client::connect(address)
                .await?
                .get("/health/ready")
                .await
                .map(drop)
        };
        match asked.await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Free at this moment.
fn free_ports<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let mut addresses = [([127, 0, 0, 1], 0).into(); N];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}
