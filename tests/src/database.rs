//! A database for every test, cloned from one that was migrated once.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use shared::App;
use shared::clock::Clock;
use shared::config::{Config, Source};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tokio::sync::OnceCell;

use crate::watch::Watched;

pub struct Database {
    pub name: String,
    pub url: String,
    _watched: Watched,
}

/// A setting that `make test` hands to the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests are told by the environment where the servers are"
)]
pub fn env(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run the tests by `make test`"))
}

impl Database {
    /// A fresh one, migrated.
    pub async fn from_template() -> Self {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE.get_or_init(make_template).await;
        let database = Self::named(&format!("test_{}", uuid_text()));
        let clone = format!(
            "create database {} template {template} strategy file_copy",
            database.name
        );
        maintain(&clone).await;
        database
    }

    /// A fresh one with nothing in it.
    pub async fn empty() -> Self {
        let database = Self::named(&format!("test_{}", uuid_text()));
        maintain(&format!("create database {}", database.name)).await;
        database
    }

    fn named(name: &str) -> Self {
        let url = env("DATABASE_URL");
        let (server, _) = url
            .rsplit_once('/')
            .expect("a database URL ends with the name of a database");
        Self {
            name: name.to_owned(),
            url: format!("{server}/{name}"),
            _watched: Watched::new(),
        }
    }

    /// Autovacuum may be at work in it, which only a superuser may cut off: then it is let finish.
    pub async fn remove(self) {
        let drop = format!("drop database {} with (force)", self.name);
        for _ in 0..40 {
            let dropped = connect(&env("DATABASE_URL"))
                .await
                .execute(AssertSqlSafe(drop.as_str()))
                .await;
            if dropped.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        maintain(&drop).await;
    }
}

async fn make_template() -> String {
    let template = Database::named(&format!("template_{}", uuid_text()));
    maintain(&format!("create database {}", template.name)).await;
    migrate(&template.url).await;
    template.name
}

/// Brings the schema of a database up to date.
pub async fn migrate(url: &str) {
    let env = [
        ("DATABASE_URL", url.to_owned()),
        ("REDIS_URL", env("REDIS_URL")),
        ("HOLDFAST_GENERAL_MODE", "development".to_owned()),
    ];
    let env = env
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let config = Config::read(&Source {
        env,
        file: toml::Table::new(),
    })
    .expect("settings");
    let app = App::new(Arc::new(config), Clock::System).expect("an app");
    app.migrate().await.expect("migrations");
    app.pool().close().await;
}

async fn maintain(sql: &str) {
    let mut connection = connect(&env("DATABASE_URL")).await;
    connection
        .execute(AssertSqlSafe(sql))
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn connect(url: &str) -> PgConnection {
    let options = PgConnectOptions::from_str(url).expect("a database URL");
    options.connect().await.expect("Postgres answers")
}

fn uuid_text() -> String {
    shared::ids::fresh(Clock::System.now()).simple().to_string()
}
