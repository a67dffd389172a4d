//! The harness of the end-to-end tests: a world of its own for every test.
//!
//! A world is the whole product on real servers: a database cloned from a migrated template, a part of Redis
//! of its own, an API listening on a port, a mail catcher, and a clock that only the test moves. When the
//! test is over the books must balance: [`world`] runs the invariants and fails a test that leaves work undone.

mod client;
mod database;
pub mod queue;
mod watch;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, TimeZone as _, Utc};
use futures_util::FutureExt as _;
use sandbox::stripe::{Delivery, Options, Target};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use shared::access::{self, Actor, Person, Scope};
use shared::accounts::sessions::{self, Device};
use shared::accounts::{self, NewAccount};
use shared::activity::{self, Verdict};
use shared::clock::Clock;
use shared::config::{Config, Source};
use shared::ids::{LoginSessionId, OrganizationId, UserId};
use shared::{App, Tx, orders, organizations, stock};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use client::{Answer, Client, Events};
pub use database::{Database, env, migrate};

/// What must be true of the database at the end of every test, at the time `$1`; a row is a breach, by name and subject.
pub const INVARIANTS: &str = include_str!("../invariants.sql");

/// Nobody listens there: for the tests of what goes on without Redis.
pub const NO_REDIS: &str = "redis://127.0.0.1:1";

/// What signs the webhooks of a world's Stripe.
pub const WEBHOOK_SECRET: &str = "whsec_world";

/// One test's own product.
pub struct World {
    pub app: App,
    settings: BTreeMap<String, String>,
    hands: worker::Hands,
    pub base: String,
    pub inbox: sandbox::Inbox,
    stripe: sandbox::Stripe,
    stop: CancellationToken,
    dead_jobs_expected: std::sync::atomic::AtomicI64,
}

/// An organization with a key for each of two roles.
pub struct Organizer {
    pub id: OrganizationId,
    /// May do everything an organizer may.
    pub organizer: Client,
    /// May only look.
    pub member: Client,
}

/// A person who is signed in.
pub struct SignedIn {
    pub id: UserId,
    pub session_id: LoginSessionId,
    pub client: Client,
}

/// Runs a test in a world of its own and balances the books afterwards.
pub async fn world(test: impl AsyncFnOnce(&World)) {
    world_with(&[], test).await;
}

/// The same with settings that differ, by the names of their environment variables.
pub async fn world_with(settings: &[(&str, &str)], test: impl AsyncFnOnce(&World)) {
    let database = Database::from_template().await;
    let world = World::start(&database, settings).await;
    // As workers do each second. A world may be without Redis or Postgres.
    drop(stock::compare_after_change(&world.app).await);
    let outcome = AssertUnwindSafe(async {
        test(&world).await;
        world.balance().await;
    });
    let outcome = outcome.catch_unwind().await;
    world.stop.cancel();
    world.app.pool().close().await;
    database.remove().await;
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure);
    }
}

impl World {
    async fn start(database: &Database, settings: &[(&str, &str)]) -> Self {
        let inbox = sandbox::Inbox::start(([127, 0, 0, 1], 0).into(), None)
            .await
            .expect("a free port");
        let smtp = format!("smtp://{}?tls=none", inbox.smtp_addr());
        let clock = Clock::manual(start_of_time());
        let stripe = stripe(clock.clone());
        let stripe_url = stripe.url();
        let redis = env("REDIS_URL");
        let defaults = [
            ("DATABASE_URL", database.url.as_str()),
            ("REDIS_URL", &redis),
            ("HOLDFAST_REDIS_PREFIX", &database.name),
            ("HOLDFAST_GENERAL_MODE", "development"),
            ("HOLDFAST_MAIL_SMTP_URL", &smtp),
            ("HOLDFAST_STRIPE_SECRET_KEY", "sk_test_world"),
            ("HOLDFAST_STRIPE_URL", &stripe_url),
            ("HOLDFAST_STRIPE_WEBHOOK_SECRETS", WEBHOOK_SECRET),
            ("HOLDFAST_DATABASE_MAX_CONNECTIONS", "10"),
            // Tests are about everything around hashing.
            ("HOLDFAST_AUTH_HASH_MEMORY_KIB", "64"),
            ("HOLDFAST_AUTH_HASH_ROUNDS", "1"),
            ("HOLDFAST_AUTH_REFUSALS_TAKE", "10ms"),
            // Those about sessions set what is usual; all others let hours pass with one.
            ("HOLDFAST_AUTH_ADMIN_SESSION_IDLE", "14d"),
            ("HOLDFAST_AUTH_ADMIN_SESSION_LONGEST", "90d"),
            ("HOLDFAST_LIMITS_SIGN_IN_PER_MINUTE", "0"),
        ];
        let env: BTreeMap<String, String> = defaults
            .iter()
            .chain(settings)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let config = Config::read(&Source {
            env: env.clone(),
            file: toml::Table::new(),
        })
        .expect("the test's settings");
        let app = App::new(Arc::new(config), clock).expect("an app");

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        stripe.send_webhooks_to(Some(Target {
            url: format!("{base}/api/v1/webhooks/stripe"),
            secret: WEBHOOK_SECRET.to_owned(),
        }));
        let stop = CancellationToken::new();
        tokio::spawn(api::serve(app.clone(), listener, stop.clone()));
        let hands = worker::Hands::new(app.clone()).expect("the hands of a worker");
        Self {
            app,
            settings: env,
            hands,
            base,
            inbox,
            stripe,
            stop,
            dead_jobs_expected: 0.into(),
        }
    }

    /// Another process of the same installation; where it listens.
    pub async fn another_process(&self) -> String {
        let app = App::new(self.app.config.clone(), self.app.clock.clone()).expect("an app");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(api::serve(app, listener, self.stop.clone()));
        base
    }

    /// The same, with a process of its own: what `test_process` is to be told.
    #[must_use]
    pub fn settings(&self) -> String {
        serde_json::to_string(&self.settings).expect("text")
    }

    /// Stripe, which goes by the test's clock. What it tells by itself waits until the test has it delivered:
    /// `world.stripe().deliver_webhooks(…)`.
    #[must_use]
    pub fn stripe(&self) -> &sandbox::Stripe {
        &self.stripe
    }

    /// Moves the test's clock.
    pub fn pass(&self, time: TimeDelta) {
        self.app.clock.advance(time);
    }

    /// Somebody without credentials.
    #[must_use]
    pub fn stranger(&self) -> Client {
        Client::new(&self.base, None)
    }

    /// A service that presents this key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Client {
        Client::new(&self.base, Some(key))
    }

    /// A change made by the product itself.
    pub async fn change<T>(&self, work: impl AsyncFnOnce(&mut Tx) -> shared::Result<T>) -> T {
        let mut tx = self
            .app
            .begin(Actor::System, Scope::Everything)
            .await
            .expect("a transaction");
        let done = work(&mut tx).await.expect("the change is made");
        tx.commit().await.expect("a commit");
        done
    }

    /// A change by a process that dies before it can say so: no other process hears of it, and neither does Redis.
    pub async fn change_unheard<T>(
        &self,
        work: impl AsyncFnOnce(&mut Tx) -> shared::Result<T>,
    ) -> T {
        let mut config = Config::clone(&self.app.config);
        config.redis.prefix.push_str("-elsewhere");
        let app = App::new(Arc::new(config), self.app.clock.clone()).expect("an app");
        let tx = app.begin(Actor::System, Scope::Everything).await;
        let mut tx = tx.expect("a transaction");
        let done = work(&mut tx).await.expect("the change is made");
        tx.commit().await.expect("a commit");
        done
    }

    /// A service of ours, with a key of the scope `internal` of this organization.
    pub async fn internal(&self, organization_id: OrganizationId) -> Client {
        let scopes = [access::INTERNAL.to_owned()];
        let key = self
            .change(async |tx| {
                let now = tx.now();
                access::create_api_key(tx, organization_id, "internal", &scopes, now).await
            })
            .await;
        self.with_key(&key)
    }

    /// A new organization and keys to act for it.
    pub async fn organizer(&self, slug: &str) -> Organizer {
        let (id, organizer, member) = self
            .change(async |tx| {
                let id = organizations::create(tx, slug, slug).await?;
                let organizer = key_of_role(tx, id, "organizer").await?;
                let member = key_of_role(tx, id, "member").await?;
                Ok((id, organizer, member))
            })
            .await;
        Organizer {
            id,
            organizer: self.with_key(&organizer),
            member: self.with_key(&member),
        }
    }

    /// Somebody with an account who is signed in.
    pub async fn person(&self, name: &str) -> SignedIn {
        let config = &self.app.config.auth;
        let new = NewAccount {
            email: format!("{name}@example.org"),
            full_name: name.to_owned(),
            phone: None,
            locale: "en".to_owned(),
            password_hash: None,
        };
        let opened = self
            .change(async |tx| {
                let id = accounts::create(tx, &new).await?;
                sessions::open(tx, id, &Device::default(), config).await
            })
            .await;
        let person = Person {
            user_id: opened.user_id,
            session_id: opened.session_id,
        };
        let now = self.app.clock.now();
        let token = self.app.tokens.issue(person, now, opened.expires_at);
        SignedIn {
            id: opened.user_id,
            session_id: opened.session_id,
            client: self.with_token(&token.expect("a token").token),
        }
    }

    /// The same person some time later, with an access token of that time.
    pub fn again(&self, somebody: &SignedIn) -> Client {
        let person = Person {
            user_id: somebody.id,
            session_id: somebody.session_id,
        };
        let now = self.app.clock.now();
        let token = self
            .app
            .tokens
            .issue(person, now, now + TimeDelta::hours(1));
        self.with_token(&token.expect("a token").token)
    }

    /// Somebody who belongs to an organization, in one of the built-in roles.
    pub async fn member(&self, of: OrganizationId, role: &str) -> SignedIn {
        let person = self.person(&format!("{role}.{}", of.0.simple())).await;
        self.join(person.id, of, role).await;
        person
    }

    /// Makes somebody a member, in one of the built-in roles.
    pub async fn join(&self, user_id: UserId, organization_id: OrganizationId, role: &str) {
        self.change(async |tx| {
            let role_id = access::built_in_role(tx, role).await?;
            organizations::add_member(tx, organization_id, user_id, role_id).await
        })
        .await;
    }

    /// Whoever presents this access token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Client {
        self.stranger()
            .with("authorization", &format!("Bearer {token}"))
    }

    /// Does all the work that is due, as workers would.
    pub async fn run_jobs(&self) -> usize {
        worker::run_due(&self.hands).await.expect("the queue works")
    }

    /// The test is about a job that dies.
    pub fn expect_dead_jobs(&self, number: i64) {
        self.dead_jobs_expected
            .store(number, std::sync::atomic::Ordering::SeqCst);
    }

    /// What was recorded about a thing, oldest first: who, what, and the data.
    pub async fn activity_of(&self, subject: &Value) -> Vec<(String, String, Value)> {
        let subject: uuid::Uuid = subject
            .as_str()
            .and_then(|id| id.parse().ok())
            .expect("an id");
        sqlx::query_as(
            "select actor_kind, kind, data from activities where subject_id = $1 order by seq",
        )
        .bind(subject)
        .fetch_all(self.app.pool())
        .await
        .expect("activities")
    }

    /// No work left undone, no invariant broken, every chain of activities whole.
    async fn balance(&self) {
        self.come_to_rest().await;
        let (waiting, dead): (i64, i64) = sqlx::query_as(
            "select count(*) filter (where status in ('Pending', 'Queued', 'Running')
                                     or (status = 'Failed' and attempts < max_attempts)),
                    count(*) filter (where status = 'Killed'
                                     or (status = 'Failed' and attempts >= max_attempts))
             from apalis.jobs",
        )
        .fetch_one(self.app.pool())
        .await
        .expect("the queue");
        assert_eq!(waiting, 0, "jobs were left behind");
        let expected = self
            .dead_jobs_expected
            .load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(dead, expected, "jobs died");

        let breaches: Vec<(String, String)> = sqlx::query_as(INVARIANTS)
            .bind(self.app.clock.now())
            .fetch_all(self.app.pool())
            .await
            .expect("invariants");
        assert!(breaches.is_empty(), "broken invariants: {breaches:?}");
        self.books_agree().await;
        self.places_agree().await;
        self.chains_are_whole().await;
    }

    /// Stripe tells what it has not told yet, and orders are asked after once more, as happens each minute.
    async fn come_to_rest(&self) {
        self.run_jobs().await;
        let orders: i64 = sqlx::query_scalar("select count(*) from orders")
            .fetch_one(self.app.pool())
            .await
            .expect("orders");
        if orders == 0 {
            return;
        }
        self.stripe
            .deliver_webhooks(sandbox::stripe::Order::AsMade)
            .await;
        self.run_jobs().await;
        self.pass(TimeDelta::minutes(1));
        let chased = self.change(async |tx| {
            tx.enqueue(&orders::jobs::Chase {});
            Ok(())
        });
        chased.await;
        self.run_jobs().await;
    }

    /// What Stripe has taken, given back and lost to banks for each order is what the ledger says.
    async fn books_agree(&self) {
        let lines: Vec<(uuid::Uuid, i64, i64, i64)> = sqlx::query_as(
            "select o.id,
                    coalesce((select sum(l.amount) from ledger l
                              where l.order_id = o.id and l.kind = 'payment' and l.provider = 'stripe'), 0)::bigint,
                    coalesce((select sum(r.amount) from refunds r
                              where r.order_id = o.id and r.payment_id is not null
                                    and r.status in ('processing', 'succeeded')), 0)::bigint,
                    coalesce((select sum(l.amount) from ledger l
                              where l.order_id = o.id and l.kind = 'dispute'), 0)::bigint
             from orders o",
        )
        .fetch_all(self.app.pool())
        .await
        .expect("the ledger");
        let ours = lines.into_iter();
        let ours: BTreeMap<String, (i64, i64, i64)> = ours
            .map(|(id, paid, back, disputed)| (id.to_string(), (paid, back, disputed)))
            .collect();
        let nothing = ours.keys().map(|id| (id.clone(), (0, 0, 0)));
        let mut theirs: BTreeMap<String, (i64, i64, i64)> = nothing.collect();
        let strays: Vec<String> = sqlx::query_scalar("select payment_id from stray_payments")
            .fetch_all(self.app.pool())
            .await
            .expect("stray payments");
        for payment in self.stripe.payments() {
            if strays.contains(&payment.id) {
                assert_eq!(
                    payment.refunded, payment.amount,
                    "a stray payment goes back"
                );
                continue;
            }
            let order = payment.metadata.get("order_id");
            // A payment of some other shop, or for an order that was planted, is none of ours.
            if let Some((paid, back, disputed)) = order.and_then(|id| theirs.get_mut(id)) {
                let charges = i64::try_from(payment.charges).expect("a few charges");
                *paid += payment.amount * charges;
                *back += payment.refunded;
                *disputed += payment.disputed;
            }
        }
        assert_eq!(
            ours, theirs,
            "the ledger and Stripe's books differ: (paid, back, disputed)"
        );
    }

    /// A world without any Redis has nothing to compare.
    async fn places_agree(&self) {
        if self.app.config.redis.url.expose_secret() == NO_REDIS {
            return;
        }
        let drift = stock::reconcile(&self.app).await.expect("both sides");
        let found = (drift.places, drift.missing);
        assert_eq!(found, (0, 0), "Redis and Postgres differ at rest");
    }

    async fn chains_are_whole(&self) {
        self.change(async |tx| {
            while activity::seal(tx, 1_000).await? > 0 {}
            let chains: Vec<Option<uuid::Uuid>> =
                sqlx::query_scalar("select distinct organization_id from activities")
                    .fetch_all(&mut **tx)
                    .await?;
            for chain in chains {
                let verdict = activity::verify(tx, chain.map(OrganizationId)).await?;
                assert!(
                    matches!(verdict, Verdict::Whole { .. }),
                    "{chain:?}: {verdict:?}"
                );
            }
            Ok(())
        })
        .await;
    }
}

fn stripe(clock: Clock) -> sandbox::Stripe {
    let options = Options {
        now: Arc::new(move || clock.now().timestamp()),
        public_url: None,
        webhooks: None,
        delivery: Delivery::WhenTold,
    };
    sandbox::Stripe::start(([127, 0, 0, 1], 0).into(), options).expect("a free port")
}

/// A key that may do what a built-in role may.
async fn key_of_role(
    tx: &mut Tx,
    organization_id: OrganizationId,
    role: &str,
) -> shared::Result<String> {
    let role_id = access::built_in_role(tx, role).await?;
    let scopes = access::rights_of_role(tx, role_id).await?;
    let now = tx.now();
    access::create_api_key(tx, organization_id, "test", &scopes, now).await
}

/// Lets this process and those it starts have a thousand connections with both of their ends.
pub fn many_connections() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(10_000);
    if limit.current.is_some_and(|current| current < most) {
        let more = rustix::process::Rlimit {
            current: Some(most),
            ..limit
        };
        setrlimit(Resource::Nofile, more).expect("more open files");
    }
}

/// When every test begins.
#[must_use]
pub fn start_of_time() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 15, 10, 30, 0)
        .single()
        .expect("a time")
}

/// An event as a client describes it: one session, two hours long, in less than a month.
#[must_use]
pub fn workshop() -> Value {
    json!({
        "title": "Rope Basics", "event_type": "class", "category": "Workshops",
        "starts_at": "2026-02-10T18:00:00Z", "ends_at": "2026-02-10T20:00:00Z", "capacity": 20,
    })
}

/// Puts an event with one ticket type on sale; answers it as it is then.
pub async fn on_sale(organizer: &Client, event: &Value, ticket_type: &Value) -> Value {
    let event = organizer.post("/events", event).await.expect(201);
    let place = format!("/events/{}", event["id"].as_str().expect("an id"));
    let types = format!("{place}/ticket-types");
    organizer.post(&types, ticket_type).await.expect(201);
    let publish = json!({"status": "published", "version": 1});
    organizer
        .put(&format!("{place}/status"), &publish)
        .await
        .expect(200)
}

/// A ticket type as a client describes it, of the first session.
#[must_use]
pub fn standard() -> Value {
    json!({"name": "Standard", "price": 4500, "included_sessions": ["S1"]})
}

/// A venue as a client describes it.
#[must_use]
pub fn harbour_hall() -> Value {
    json!({
        "name": "Harbour Hall", "address": "Am Kai 3", "city": "Hamburg", "country": "DE",
        "postal_code": "20457", "capacity": 1200, "layout": {"rows": [{"name": "A", "seats": 20}]},
        "contact": "Box office +49 40 1234",
    })
}
