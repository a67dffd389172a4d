//! Where the commands meet the rest of the workspace: every call into it is made here.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chrono::NaiveDate;
use sandbox::stripe::{Delivery, Options, Target};
use sandbox::{Inbox, Stripe};
use secrecy::SecretString;
use shared::App;
use shared::access::{Actor, Scope};
use shared::accounts::{self, NewAccount, passwords};
use shared::clock::Clock;
use shared::config::{Config, Mode};
use shared::ids;
use shared::production::{self, Obstacle};
use shared::seed::{self, DEMO_ADMIN, DEMO_KEY, DEMO_ORGANIZER, DEMO_PASSWORD};
use shared::{orders, stock, telemetry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::fitness::Look;

/// Serves the API until `stop`, then finishes what it has begun.
pub async fn api(
    config: Arc<Config>,
    listener: TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(&config.telemetry, "api")?;
    let (app, stop) = (App::new(config, Clock::System)?, stop.child_token());
    let look = Look::begin(&app, &stop).await?;
    let served = api::serve(app, listener, stop.clone()).await;
    stop.cancel();
    look.end().await?;
    served
}

/// Runs jobs until `stop`, then finishes what it has begun. Health and figures are answered meanwhile.
pub async fn worker(config: Arc<Config>, stop: CancellationToken) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(&config.telemetry, "worker")?;
    let listen = config.http.worker_listen;
    let listener = TcpListener::bind(listen).await;
    let listener =
        listener.with_context(|| format!("the worker cannot answer for its health on {listen}"))?;
    let app = App::new(config, Clock::System)?;
    // Whichever of the two ends takes the other with it; the health is told to the end.
    let (stop, over) = (stop.child_token(), CancellationToken::new());
    let look = Look::begin(&app, &stop).await?;
    let working = async {
        let worked = worker::run(app.clone(), stop.clone()).await;
        over.cancel();
        worked
    };
    let serving = async {
        let served = api::serve_health(app.clone(), listener, stop.clone(), over.clone()).await;
        stop.cancel();
        served
    };
    let (worked, served) = Box::pin(async { tokio::join!(working, serving) }).await;
    stop.cancel();
    look.end().await?;
    worked.and(served)
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

/// Asks Stripe after every order that waits, then makes Redis what Postgres says; tells what came of it.
pub async fn reconcile(config: Arc<Config>) -> anyhow::Result<ExitCode> {
    let app = app(&config)?;
    let chased = orders::chase(&app).await?;
    println!(
        "{} orders that wait were asked after: {} went on, {} could not be asked after.",
        chased.asked, chased.settled, chased.unanswered
    );
    let drift = stock::reconcile(&app).await?;
    println!(
        "{} events compared: {} differed, by {} places and {} lost holds of orders; they are repaired.",
        drift.events, drift.drifted, drift.places, drift.missing
    );
    Ok(ExitCode::from(u8::from(chased.unanswered > 0)))
}

/// Compares our books of a day with Stripe's; tells what differs.
pub async fn audit(config: Arc<Config>, day: Option<NaiveDate>) -> anyhow::Result<ExitCode> {
    let app = app(&config)?;
    let yesterday = app.clock.now().date_naive().pred_opt();
    let Some(day) = day.or(yesterday) else {
        bail!("there is no day before this one");
    };
    let report = orders::audit::audit(&app, day).await?;
    println!(
        "{} movements at Stripe on {day}: {} differ from the ledger.",
        report.compared,
        report.differences.len()
    );
    for difference in &report.differences {
        println!("{difference}");
    }
    Ok(ExitCode::from(u8::from(!report.differences.is_empty())))
}

fn app(config: &Config) -> anyhow::Result<App> {
    App::new(Arc::new(config.clone()), Clock::System)
}

/// Catches mails on one address and shows them on the other, until it is dropped.
pub async fn inbox(smtp: SocketAddr, web: SocketAddr) -> anyhow::Result<Inbox> {
    Ok(Inbox::start(smtp, Some(web)).await?)
}

/// A stand-in for Stripe.
pub struct StripeStandIn {
    pub listen: SocketAddr,
    /// Where browsers reach it, if not there.
    pub public_url: Option<String>,
    /// Where its webhooks go, and what signs them.
    pub webhooks: Option<(String, String)>,
}

/// Payments that want to be told of at the same time.
const WEBHOOKS_AT_ONCE: usize = 8;

/// Answers as Stripe would, until it is dropped.
pub fn stripe(stand_in: StripeStandIn) -> anyhow::Result<Stripe> {
    let options = Options {
        now: Arc::new(|| Clock::System.now().timestamp()),
        public_url: stand_in.public_url,
        webhooks: stand_in
            .webhooks
            .map(|(url, secret)| Target { url, secret }),
        delivery: Delivery::Background {
            at_once: WEBHOOKS_AT_ONCE,
        },
    };
    Ok(Stripe::start(stand_in.listen, options)?)
}

/// What keeps production from starting, as far as the database says.
pub async fn obstacles_in_database(config: &Config) -> anyhow::Result<Vec<Obstacle>> {
    Ok(production::in_database(&app(config)?).await?)
}

/// Whether Stripe answers and takes the key.
pub async fn ask_stripe(config: &Config) -> anyhow::Result<()> {
    Ok(app(config)?.stripe.check().await?)
}

/// How the people and services of the demo data are let in: what it is, whose, and the secret.
pub const DEMO_ACCOUNTS: &[(&str, &str, &str)] = &[
    ("Admin", DEMO_ADMIN, DEMO_PASSWORD),
    ("Owner", DEMO_ORGANIZER, DEMO_PASSWORD),
    (
        "Attendee",
        "attendee1@holdfast.example (to 10)",
        DEMO_PASSWORD,
    ),
    ("API key", "Lighthouse Events", DEMO_KEY),
];

/// What came of making an administrator.
pub enum MadeAdmin {
    /// The account was there.
    Promoted,
    /// The password, if it was made up here.
    New { made_up: Option<SecretString> },
}

/// Makes a platform administrator of the account with this address, and the account if there is none.
pub async fn make_admin(
    config: Arc<Config>,
    email: &str,
    name: &str,
    given: Option<SecretString>,
) -> anyhow::Result<MadeAdmin> {
    let app = App::new(config, Clock::System)?;
    let email = accounts::valid_email("--email", email)?;
    if let Some(id) = accounts::by_email(&mut *app.read().await?, &email).await? {
        let mut tx = app.begin(Actor::System, Scope::Everything).await?;
        let account = accounts::get(&mut tx, id).await?;
        // Anybody can register any address: an account that nobody has confirmed may be a stranger's.
        if account.email_verified_at.is_none() && !account.is_platform_admin {
            bail!(
                "{email} has an account whose address was never confirmed; have its owner confirm it first"
            );
        }
        accounts::make_platform_admin(&mut tx, id).await?;
        tx.commit().await?;
        return Ok(MadeAdmin::Promoted);
    }
    let made_up = match given {
        Some(_) => None,
        None => Some(SecretString::from(ids::url_token())),
    };
    let password = given.as_ref().or(made_up.as_ref());
    let password = password.context("there is a password by now")?;
    passwords::accept("password", password, &email)?;
    let turn = app.passwords.turn().await?;
    let new = NewAccount {
        email,
        full_name: name.to_owned(),
        phone: None,
        locale: "en".to_owned(),
        password_hash: Some(app.passwords.hash(&turn, password).await?),
    };
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    let id = accounts::create(&mut tx, &new).await?;
    accounts::make_platform_admin(&mut tx, id).await?;
    tx.commit().await?;
    Ok(MadeAdmin::New { made_up })
}

/// A request that shows something at once.
pub fn first_request(api: &str) -> String {
    format!("curl -s {api}/api/v1/venues")
}
