//! What lists cost as work grows: each kind of list among 2,000 and among 200,000 events, asked for in turns, and how
//! many of one list a process answers beside a constant answer.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::clock::Clock;
use shared::{App, organizations};
use sqlx::AssertSqlSafe;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::{drop_database, fresh_prefix, logins, sql};

const EVENTS: [i32; 2] = [2_000, 200_000];
const VENUES: i32 = 1_000;
const AT_ONCE: i32 = 10_000;
const REQUESTS: usize = 400;
const CLIENTS: usize = 16;
const SPAN: Duration = Duration::from_secs(4);

/// What is asked for over and over, as somebody who waits for a sale to begin would.
const RATES: [(&str, &str); 4] = [
    ("constant answer", "/healthz"),
    ("GET /events", "/api/v1/events"),
    ("GET /events/{slug}", "/api/v1/events/event-1"),
    (
        "GET .../availability",
        "/api/v1/events/event-1/availability",
    ),
];

/// What is asked for, by its name in the report.
const KINDS: [(&str, &str); 15] = [
    ("plain", ""),
    ("city", "city=city+7"),
    ("type", "event_type=concert"),
    ("category", "category=music"),
    (
        "city, type and dates",
        // Few enough that both have a page of them.
        "city=city+7&event_type=concert&date_to=2100-01-01T00:00:00Z&limit=3",
    ),
    ("a word of every 2nd", "q=evening"),
    ("a word of every 8th", "q=harbour"),
    ("both", "q=evening+harbour"),
    ("a word in a city", "q=harbour&city=city+7"),
    ("a word of ten in all", "q=zanzibar"),
    ("a typo in it", "q=zanzibra"),
    ("a typo in a common word", "q=evennig"),
    ("prices from and to", "price_min=2000&price_max=3000"),
    ("prices up to", "price_max=1500"),
    ("available", "available=true"),
];

#[derive(Serialize)]
pub struct Report {
    lists: Vec<Kind>,
    rates: Vec<Rate>,
}

/// How many requests a second one process answers, and what part of a constant answer's that is.
#[derive(Serialize)]
struct Rate {
    name: &'static str,
    per_second: f64,
    to_constant: f64,
}

/// Milliseconds for one of a kind, among few events and among many. Fresh ones are asked of Postgres; the others are
/// remembered, but for the numbers of the moment.
#[derive(Serialize)]
struct Kind {
    name: &'static str,
    fresh_p95_ms: [f64; 2],
    fresh_p50_ms: [f64; 2],
    remembered_p95_ms: [f64; 2],
    ratio: f64,
}

/// A product with its events.
struct Shop {
    prefix: String,
    address: SocketAddr,
    stop: CancellationToken,
    runtime: Runtime,
}

pub async fn measure(server: &str, redis: &str) -> anyhow::Result<Report> {
    let mut shops = Vec::new();
    for events in EVENTS {
        shops.push(Shop::open(server, redis, events).await?);
    }
    let (mut lists, mut all) = (Vec::new(), Waits::default());
    for (name, query) in KINDS {
        let mut waits = compare(&shops, query).await?;
        lists.push(waits.report(name));
        all.add(&waits);
    }
    lists.push(all.report("all of these"));
    let mut rates: Vec<Rate> = Vec::new();
    for (name, path) in RATES {
        let per_second = rate(shops[0].address, path).await?;
        let constant = rates.first().map_or(per_second, |rate| rate.per_second);
        rates.push(Rate {
            name,
            per_second,
            to_constant: per_second / constant,
        });
    }
    for shop in shops {
        shop.close(server).await?;
    }
    Ok(Report { lists, rates })
}

impl Shop {
    async fn open(server: &str, redis: &str, events: i32) -> anyhow::Result<Self> {
        let prefix = fresh_prefix();
        sql(server, format!("create database {prefix}")).await?;
        let (place, _) = server.rsplit_once('/').context("a database URL")?;
        let config = logins::config(&format!("{place}/{prefix}"), redis, &prefix)?;
        let app = App::new(Arc::new(config), Clock::System)?;
        app.migrate().await?;
        stock_up(&app, events).await?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (stop, runtime) = (CancellationToken::new(), Runtime::new()?);
        let server = logins::serve(app.config.clone(), listener, stop.clone());
        runtime.spawn(server);
        app.pool().close().await;
        Ok(Self {
            prefix,
            address,
            stop,
            runtime,
        })
    }

    async fn close(self, server: &str) -> anyhow::Result<()> {
        self.stop.cancel();
        self.runtime.shutdown_background();
        drop_database(server, &self.prefix).await
    }
}

async fn stock_up(app: &App, events: i32) -> anyhow::Result<()> {
    use shared::access::{Actor, Scope};
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    organizations::create(&mut tx, "Bench", "bench").await?;
    tx.commit().await?;
    let mut db = app.pool().acquire().await?;
    sqlx::raw_sql("set statement_timeout = 0")
        .execute(&mut *db)
        .await?;
    let now: DateTime<Utc> = app.clock.now();
    sqlx::query(include_str!("venues.sql"))
        .bind(VENUES)
        .bind(now)
        .execute(&mut *db)
        .await?;
    for first in (1..=events).step_by(AT_ONCE.unsigned_abs() as usize) {
        sqlx::query(include_str!("catalogue.sql"))
            .bind(first)
            .bind((first + AT_ONCE - 1).min(events))
            .bind(now)
            .bind(VENUES)
            .execute(&mut *db)
            .await?;
    }
    for table in [
        "events",
        "event_sessions",
        "ticket_types",
        "ticket_type_sessions",
        "pools",
        "venues",
    ] {
        let vacuum = AssertSqlSafe(format!("vacuum analyze {table}"));
        sqlx::raw_sql(vacuum).execute(&mut *db).await?;
    }
    Ok(())
}

/// How long requests took, among few events and among many.
#[derive(Default)]
struct Waits {
    fresh: [Vec<Duration>; 2],
    remembered: [Vec<Duration>; 2],
}

impl Waits {
    fn add(&mut self, more: &Self) {
        for at in 0..2 {
            self.fresh[at].extend(&more.fresh[at]);
            self.remembered[at].extend(&more.remembered[at]);
        }
    }

    fn report(&mut self, name: &'static str) -> Kind {
        let both = |waits: &mut [Vec<Duration>; 2], percent| {
            waits.each_mut().map(|waits| percentile(waits, percent))
        };
        let fresh_p95_ms = both(&mut self.fresh, 95);
        Kind {
            name,
            fresh_p95_ms,
            fresh_p50_ms: both(&mut self.fresh, 50),
            remembered_p95_ms: both(&mut self.remembered, 95),
            ratio: fresh_p95_ms[1] / fresh_p95_ms[0],
        }
    }
}

/// Asks both in turns, so that whatever else the machine does befalls both.
async fn compare(shops: &[Shop], query: &str) -> anyhow::Result<Waits> {
    let mut clients = Vec::new();
    for shop in shops {
        clients.push(Client::connect(shop.address).await?);
    }
    let mut waits = Waits::default();
    for number in 0..REQUESTS + 10 {
        for (at, client) in clients.iter_mut().enumerate() {
            // Different each time, and true of every event.
            let since = DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(i64::try_from(number)?);
            let since = since.format("%Y-%m-%dT%H:%M:%SZ");
            let unlike = format!("/api/v1/events?{query}&date_from={since}");
            let alike = format!("/api/v1/events?{query}");
            for (path, taken) in [
                (unlike, &mut waits.fresh[at]),
                (alike, &mut waits.remembered[at]),
            ] {
                let begun = Instant::now();
                client.get(&path).await?;
                // The first ones find everything cold.
                if number >= 10 {
                    taken.push(begun.elapsed());
                }
            }
        }
    }
    Ok(waits)
}

fn percentile(waits: &mut [Duration], percent: usize) -> f64 {
    waits.sort_unstable();
    waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1_000.0
}

/// Requests a second of one path, by clients that do next to nothing themselves.
#[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
async fn rate(address: SocketAddr, path: &'static str) -> anyhow::Result<f64> {
    let until = Instant::now() + SPAN;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut client = Client::connect(address).await?;
            let mut requests = 0_usize;
            while Instant::now() < until {
                client.get(path).await?;
                requests += 1;
            }
            anyhow::Ok(requests)
        });
    }
    let mut requests = 0;
    while let Some(done) = clients.join_next().await {
        requests += done??;
    }
    Ok(requests as f64 / SPAN.as_secs_f64())
}

pub fn print(report: &Report) -> anyhow::Result<()> {
    let mut table = format!(
        "Lists among {} and {} events, one at a time, ms\n  {:<24}{:>20}{:>20}{:>8}{:>20}\n",
        EVENTS[0], EVENTS[1], "", "fresh p50", "fresh p95", "ratio", "remembered p95"
    );
    for kind in &report.lists {
        let pair = |of: [f64; 2]| format!("{:.1} / {:.1}", of[0], of[1]);
        writeln!(
            table,
            "  {:<24}{:>20}{:>20}{:>8.2}{:>20}",
            kind.name,
            pair(kind.fresh_p50_ms),
            pair(kind.fresh_p95_ms),
            kind.ratio,
            pair(kind.remembered_p95_ms)
        )?;
    }
    println!("{table}");
    for rate in &report.rates {
        println!(
            "  {:<24}{:>10.0} requests/s, {:>4.0} %",
            rate.name,
            rate.per_second,
            rate.to_constant * 100.0
        );
    }
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}
