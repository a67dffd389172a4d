//! What a storm of logins does to those who only look: a list asked for at a steady rate, without and with 200
//! logins at the same moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;
use shared::access::{Actor, Scope};
use shared::accounts::{self, NewAccount};
use shared::clock::Clock;
use shared::config::{Config, Source};
use shared::{App, seed};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const LOGINS: usize = 200;
/// Requests a second of those who look.
const RATE: u32 = 200;
const CALM: Duration = Duration::from_secs(5);
const PASSWORD: &str = "correct horse battery";

#[derive(Serialize)]
pub struct Report {
    logins: usize,
    hashes_at_once: usize,
    storm_seconds: f64,
    logins_per_second: f64,
    calm: Look,
    storm: Look,
}

/// How long those who look have waited.
#[derive(Serialize)]
struct Look {
    requests: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

pub async fn measure(database: &str, redis: &str, prefix: &str) -> anyhow::Result<Report> {
    let app = App::new(Arc::new(config(database, redis, prefix)?), Clock::System)?;
    app.migrate().await?;
    seed::demo(&app).await?;
    people(&app).await?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let base = format!("http://{}/api/v1", listener.local_addr()?);
    let stop = CancellationToken::new();
    // On threads of its own: those who ask are elsewhere in life, and must not wait in the same line as its work.
    let runtime = Runtime::new()?;
    let server = runtime.spawn(serve(app.config.clone(), listener, stop.clone()));
    let http = reqwest::Client::builder().no_proxy().build()?;

    let calm = look_while(&http, &base, tokio::time::sleep(CALM)).await?;
    let begun = Instant::now();
    let mut storm_seconds = 0.0;
    let storm = look_while(&http, &base, async {
        log_in_all(&http, &base).await;
        storm_seconds = begun.elapsed().as_secs_f64();
    })
    .await?;
    stop.cancel();
    server.await??;
    runtime.shutdown_background();
    app.pool().close().await;
    #[expect(clippy::cast_precision_loss, reason = "two hundred")]
    let logins_per_second = LOGINS as f64 / storm_seconds;
    Ok(Report {
        logins: LOGINS,
        hashes_at_once: app.passwords.at_once(),
        storm_seconds,
        logins_per_second,
        calm,
        storm,
    })
}

pub async fn serve(
    config: Arc<Config>,
    listener: std::net::TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let app = App::new(config, Clock::System)?;
    api::serve(app, TcpListener::from_std(listener)?, stop).await
}

/// An installation with the settings it has by itself, save for limits on one address.
pub fn config(database: &str, redis: &str, prefix: &str) -> anyhow::Result<Config> {
    let env = [
        ("DATABASE_URL", database),
        ("REDIS_URL", redis),
        ("HOLDFAST_REDIS_PREFIX", prefix),
        ("HOLDFAST_GENERAL_MODE", "development"),
        ("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "0"),
        ("HOLDFAST_LIMITS_NETWORK_PER_MINUTE", "0"),
        ("HOLDFAST_LIMITS_SIGN_IN_PER_MINUTE", "0"),
        ("HOLDFAST_AUTH_FAILURES_PER_ADDRESS", "1000"),
    ];
    let env: BTreeMap<_, _> = env
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    Ok(Config::read(&Source {
        env,
        ..Source::default()
    })?)
}

async fn people(app: &App) -> anyhow::Result<()> {
    let turn = app.passwords.turn().await?;
    let password = SecretString::from(PASSWORD);
    let hash = app.passwords.hash(&turn, &password).await?;
    drop(turn);
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    for number in 0..LOGINS {
        let new = NewAccount {
            email: format!("person{number}@example.org"),
            full_name: "Person".to_owned(),
            phone: None,
            locale: "en".to_owned(),
            password_hash: Some(hash.clone()),
        };
        accounts::create(&mut tx, &new).await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn log_in_all(http: &reqwest::Client, base: &str) {
    let mut logins = JoinSet::new();
    for number in 0..LOGINS {
        let body = json!({"email": format!("person{number}@example.org"), "password": PASSWORD});
        let login = http.post(format!("{base}/auth/login"));
        let login = login
            .header("content-type", "application/json")
            .body(body.to_string());
        logins.spawn(async move {
            let answer = login.send().await.expect("an answer");
            assert_eq!(answer.status(), 200, "a login");
        });
    }
    while let Some(login) = logins.join_next().await {
        login.expect("a login");
    }
}

/// Asks at a steady rate, however long the answers take, until `meanwhile` is over.
async fn look_while(
    http: &reqwest::Client,
    base: &str,
    meanwhile: impl Future<Output = ()>,
) -> anyhow::Result<Look> {
    let mut looks = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    tokio::pin!(meanwhile);
    loop {
        tokio::select! {
            () = &mut meanwhile => break,
            due = tick.tick() => {
                let look = http.get(format!("{base}/events"));
                looks.spawn(async move {
                    let answer = look.send().await?.error_for_status()?;
                    answer.bytes().await?;
                    // From when it was due: a generator that is late itself must not hide it.
                    Ok::<_, reqwest::Error>(due.elapsed())
                });
            }
        }
    }
    let mut waits = Vec::new();
    while let Some(wait) = looks.join_next().await {
        waits.push(wait??);
    }
    ensure!(!waits.is_empty(), "nobody looked");
    waits.sort_unstable();
    let percentile =
        |percent: usize| waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
    Ok(Look {
        requests: waits.len(),
        p50_ms: percentile(50),
        p99_ms: percentile(99),
        max_ms: percentile(100),
    })
}

pub fn print(report: &Report) -> anyhow::Result<()> {
    println!(
        "Storm of {} logins, {} hashed at a time, beside {RATE} GET /events a second",
        report.logins, report.hashes_at_once
    );
    println!(
        "  logins                {:>9.1} a second, all within {:.1} s",
        report.logins_per_second, report.storm_seconds
    );
    for (name, look) in [
        ("before", &report.calm),
        ("during the storm", &report.storm),
    ] {
        println!(
            "  looking, {name:<12} {:>7.1} ms p50, {:.1} ms p99, {:.1} ms at most, {} requests",
            look.p50_ms, look.p99_ms, look.max_ms, look.requests
        );
    }
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}
