//! What a running process has in its hands: configuration, clock, Postgres, Redis, Stripe.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Row as _};

use crate::access::{Actor, RightsInMemory, Scope, Tokens};
use crate::accounts::passwords::Passwords;
use crate::cache::Caches;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::encryption::Cipher;
use crate::error::Result;
use crate::events::Watches;
use crate::mail;
use crate::orders::{Placing, Settlement, Waiting};
use crate::redis_connection::RedisConnection;
use crate::stock::{FARTHEST_CLOCK, Looks, Stock};
use crate::together::Together;
use crate::tx::Tx;

/// The migrations of our own tables; the job engine brings its own.
static MIGRATIONS: LazyLock<sqlx::migrate::Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!("../migrations");
    migrations.set_ignore_missing(true);
    migrations
});

/// A connection that was not used for this long may be gone.
const STALE: Duration = Duration::from_millis(500);

/// Cheap to clone: everything inside is shared.
#[derive(Clone)]
pub struct App {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub redis: Redis,
    pub stock: Stock,
    pub(crate) looks: Looks,
    pub(crate) watches: Watches,
    pub tokens: Arc<Tokens>,
    pub cipher: Arc<Cipher>,
    pub passwords: Arc<Passwords>,
    pub stripe: stripe_api::Client,
    pub(crate) rights: Arc<RightsInMemory>,
    pub(crate) placing: Together<Placing>,
    pub(crate) settling: Together<Settlement>,
    pub(crate) mails_begun: Together<mail::Begun>,
    pub(crate) mails_ended: Together<mail::Ended>,
    pub(crate) waiting: Waiting,
    pub caches: Arc<Caches>,
    db: PgPool,
}

impl App {
    /// Prepares the connections without making any: a process starts, and says it is not ready, while
    /// Postgres or Redis is still away.
    pub fn new(config: Arc<Config>, clock: Clock) -> anyhow::Result<Self> {
        let redis = Redis::new(&config.redis)?;
        Ok(Self {
            stock: Stock::new(redis.connection(), redis.prefix())
                .with_farthest_clock(clock.is_of_the_system().then_some(FARTHEST_CLOCK)),
            looks: Looks::default(),
            watches: Watches::default(),
            redis,
            tokens: Arc::new(Tokens::new(&config.auth)),
            cipher: Cipher::new(&config.auth),
            passwords: Arc::new(Passwords::new(&config.auth)?),
            stripe: stripe(&config.stripe)?,
            rights: Arc::default(),
            placing: Together::default(),
            settling: Together::default(),
            mails_begun: Together::default(),
            mails_ended: Together::default(),
            waiting: Waiting::default(),
            caches: Arc::new(Caches::new(clock.now())),
            db: pool(&config.database)?,
            config,
            clock,
        })
    }

    /// Opens a change to the business. Whoever opens it commits it.
    pub async fn begin(&self, actor: Actor, scope: Scope) -> Result<Tx> {
        Tx::begin(self, actor, scope).await
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<Reader> {
        Ok(Reader(self.db.acquire().await?))
    }

    /// For the job engine and for looking at the machinery; business goes through [`App::begin`].
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.db
    }

    /// Brings the schema up to date. Safe to run by several at once, with the previous version still running, and
    /// by the previous version once a newer one has run.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        // A connection without our limits: a migration may wait for another, or build an index for minutes.
        let options: PgConnectOptions = self.config.database.url.expose_secret().parse()?;
        let patient = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await?;
        crate::jobs::install(&patient).await?;
        MIGRATIONS.run(&patient).await?;
        patient.close().await;
        Ok(())
    }

    /// The extensions of Postgres that the migrations create, ours and those of the job engine.
    #[must_use]
    pub fn extensions_needed() -> BTreeSet<String> {
        let engine = crate::jobs::migrations();
        let all = MIGRATIONS.iter().chain(engine.iter());
        all.flat_map(|migration| created_extensions(migration.sql.as_str()))
            .collect()
    }

    /// How many migrations this version has that the database has not seen.
    pub async fn pending_migrations(&self) -> Result<usize> {
        let applied: Vec<i64> =
            sqlx::query_scalar("select version from _sqlx_migrations where success")
                .fetch_all(&self.db)
                .await?;
        let known = MIGRATIONS.iter().map(|migration| migration.version);
        Ok(known.filter(|version| !applied.contains(version)).count())
    }
}

fn created_extensions(sql: &str) -> Vec<String> {
    const CREATE: &str = "create extension if not exists ";
    let sql = sql.to_lowercase();
    let names = sql.split(CREATE).skip(1);
    let names = names.filter_map(|rest| {
        rest.split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
    });
    names.map(str::to_owned).collect()
}

fn pool(config: &config::Database) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = config.url.expose_secret().parse()?;
    let options = options.options([
        ("lock_timeout", config.lock_timeout.to_string()),
        ("statement_timeout", config.statement_timeout.to_string()),
        // A process that dies in the middle of a transaction must not keep its locks.
        ("idle_in_transaction_session_timeout", "60s".to_owned()),
        ("timezone", "UTC".to_owned()),
        // Postgres reckons with a disk that turns. What is looked for here lies in memory or on flash, where an index that leads
        // to the rows in their order costs less than one that brings all of them first.
        ("random_page_cost", "1.1".to_owned()),
        // How near to a title something mistyped must be: one wrong letter in five, or two swapped ones in seven.
        ("pg_trgm.word_similarity_threshold", "0.45".to_owned()),
    ]);
    Ok(trusting_pool()
        .max_connections(config.max_connections)
        .acquire_timeout(config.acquire_timeout.0)
        .connect_lazy_with(options))
}

/// A pool whose connections are asked nothing before they are used again, where they were of use a moment ago: that would be a
/// round trip each. None of them leads to a standby.
#[must_use]
pub fn trusting_pool() -> PgPoolOptions {
    PgPoolOptions::new()
        .test_before_acquire(false)
        .after_connect(|connection, _| Box::pin(require_primary(connection)))
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for > STALE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

/// After a failover, the old primary may be back as a standby before the address leads to the new primary. Connections to it
/// would be kept for half an hour, refuse every write, and read what is old. A primary becomes a standby only
/// by a restart, so a connection is asked once.
async fn require_primary(connection: &mut PgConnection) -> sqlx::Result<()> {
    let standby = sqlx::raw_sql("select pg_is_in_recovery()");
    if standby.fetch_one(connection).await?.try_get(0)? {
        return Err(sqlx::Error::Protocol("Postgres is a standby".into()));
    }
    Ok(())
}

fn stripe(config: &config::Stripe) -> anyhow::Result<stripe_api::Client> {
    let settings = stripe_api::Settings {
        secret_key: config.secret_key.as_ref().map(|key| key.0.clone()),
        url: config.url.0.clone(),
        timeout: config.timeout.0,
        attempts: config.attempts,
    };
    Ok(stripe_api::Client::new(settings)?)
}

/// A connection to read with; goes back to the others when dropped.
pub struct Reader(PoolConnection<Postgres>);

impl Deref for Reader {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

/// Redis by one multiplexed connection that comes back by itself, and our part of its key space.
#[derive(Clone)]
pub struct Redis {
    connection: RedisConnection,
    prefix: Arc<str>,
}

impl Redis {
    fn new(config: &config::Redis) -> anyhow::Result<Self> {
        let client = redis::Client::open(config.url.expose_secret())?;
        Ok(Self {
            connection: RedisConnection::new(client)?,
            prefix: config.prefix.as_str().into(),
        })
    }

    /// For commands and scripts.
    #[must_use]
    pub fn connection(&self) -> RedisConnection {
        self.connection.clone()
    }

    /// For subscriptions, which need a connection of their own. One ends when [`RedisConnection::replaced`] says so.
    #[must_use]
    pub fn client(&self) -> &redis::Client {
        self.connection.client()
    }

    pub async fn ping(&self) -> Result<()> {
        let mut connection = self.connection();
        redis::cmd("PING")
            .query_async::<()>(&mut connection)
            .await?;
        Ok(())
    }

    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }
}
