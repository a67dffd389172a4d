//! `holdfast doctor`: looks at the settings and at everything they point to, and says in words what is wrong.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use shared::App;
use shared::config::{Config, Mode};
use shared::production::{self, Obstacle};
use sqlx::{Connection as _, PgConnection};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{run, settings};

const PATIENCE: Duration = Duration::from_secs(5);
/// As the server counts its versions.
const OLDEST_POSTGRES: i32 = 150_000;
const OLDEST_REDIS: u32 = 7;

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Fine(String),
    /// It works, and somebody should know. What, and what to do.
    Doubtful(String, String),
    /// It will not work. What, and what to do.
    Wrong(String, String),
}
use Finding::{Doubtful, Fine, Wrong};

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fine(what) => write!(f, "fine      {what}"),
            Doubtful(what, advice) => write!(f, "doubtful  {what}\n          {advice}"),
            Wrong(what, advice) => write!(f, "WRONG     {what}\n          {advice}"),
        }
    }
}

/// Fails when something is wrong.
pub async fn doctor() -> anyhow::Result<ExitCode> {
    let findings = match Config::read(&settings::source()?) {
        Ok(config) => examine(&config).await,
        Err(bad) => {
            let advice = "docs/operations.md lists every setting";
            bad.0
                .into_iter()
                .map(|what| Wrong(what, advice.into()))
                .collect()
        }
    };
    for finding in &findings {
        println!("{finding}");
    }
    let wrong = findings
        .iter()
        .filter(|finding| matches!(finding, Wrong(..)))
        .count();
    println!(
        "{}",
        if wrong == 0 {
            "Nothing is wrong.".to_owned()
        } else {
            format!("{wrong} wrong.")
        }
    );
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Fine("the settings are valid".into())];
    if config.general.mode == Mode::Production {
        findings.extend(production::in_settings(config).into_iter().map(stops));
    }
    findings.extend(postgres(config).await);
    findings.extend(redis(config).await);
    findings.push(mail(config).await);
    findings.extend(stripe(config).await);
    findings
}

/// What keeps production from starting.
fn stops(obstacle: Obstacle) -> Finding {
    Wrong(obstacle.what, obstacle.remedy)
}

async fn postgres(config: &Config) -> Vec<Finding> {
    let mut connection = match timeout(
        PATIENCE,
        PgConnection::connect(config.database.url.expose_secret()),
    )
    .await
    {
        Ok(Ok(connection)) => connection,
        failed => {
            let why = failed.map_or_else(
                |_| format!("no answer within {PATIENCE:?}"),
                |result| reason(result.err()),
            );
            let advice = "Is the server running, and are host, port, user and password in DATABASE_URL right?";
            return vec![Wrong(
                format!("Postgres cannot be reached: {why}"),
                advice.into(),
            )];
        }
    };
    let missing = run::missing_migrations(config).await;
    let mut findings = match facts(&mut connection).await {
        Ok(facts) => facts.judge(config.general.mode, matches!(missing, Ok(0))),
        Err(error) => vec![Wrong(
            format!("Postgres does not answer a simple question: {error}"),
            "Its log says more.".into(),
        )],
    };
    if config.general.mode == Mode::Production && matches!(missing, Ok(0)) {
        findings.extend(match run::obstacles_in_database(config).await {
            Ok(obstacles) => obstacles.into_iter().map(stops).collect(),
            Err(error) => vec![Wrong(
                format!("the database cannot be searched for demo data: {error:#}"),
                "Its log says more.".into(),
            )],
        });
    }
    findings.push(match missing {
        Ok(0) => Fine("the database has the current schema".into()),
        Ok(missing) => Wrong(
            format!("the database lacks {missing} migrations"),
            "Run `holdfast migrate`.".into(),
        ),
        Err(error) => Wrong(
            format!("the schema cannot be judged: {error:#}"),
            "Run `holdfast migrate`.".into(),
        ),
    });
    findings
}

fn reason(error: Option<sqlx::Error>) -> String {
    error.map(|error| error.to_string()).unwrap_or_default()
}

/// What Postgres tells about itself.
#[derive(sqlx::FromRow)]
struct PostgresFacts {
    number: i32,
    version: String,
    /// Extensions that are there to be used.
    extensions: Vec<String>,
    can_create: bool,
    superuser: bool,
    recovering: bool,
}

async fn facts(connection: &mut PgConnection) -> sqlx::Result<PostgresFacts> {
    sqlx::query_as(
        "select current_setting('server_version_num')::int as number,
                current_setting('server_version') as version,
                array(select name::text from pg_available_extensions) as extensions,
                has_database_privilege(current_database(), 'create') as can_create,
                (select rolsuper from pg_roles where rolname = current_user) as superuser,
                pg_is_in_recovery() as recovering",
    )
    .fetch_one(connection)
    .await
}

impl PostgresFacts {
    /// The role of the API and of workers need not own the database: migrations can have one of their own.
    fn judge(&self, mode: Mode, is_migrated: bool) -> Vec<Finding> {
        let mut findings = vec![if self.number >= OLDEST_POSTGRES {
            Fine(format!("Postgres {} answers", self.version))
        } else {
            Wrong(
                format!("Postgres is {}", self.version),
                "Version 15 or newer is needed.".into(),
            )
        }];
        for needed in App::extensions_needed() {
            if !self.extensions.contains(&needed) {
                findings.push(Wrong(
                    format!("Postgres has no extension {needed}"),
                    "Install the package of its additional modules (postgresql-contrib).".into(),
                ));
            }
        }
        if !self.can_create && !is_migrated {
            findings.push(Wrong(
                "the role of DATABASE_URL may not create a schema".into(),
                "Run `holdfast migrate` as the role that owns the database.".into(),
            ));
        }
        if self.superuser && mode == Mode::Production {
            findings.push(Doubtful(
                "the role of DATABASE_URL is a superuser, who may read files and run programs of the server".into(),
                "Give the API and workers a role of their own: see docker/postgres/roles.sql.".into(),
            ));
        }
        if self.recovering {
            findings.push(Wrong(
                "Postgres is a read-only replica".into(),
                "Let DATABASE_URL point to the primary.".into(),
            ));
        }
        findings
    }
}

async fn redis(config: &Config) -> Vec<Finding> {
    match timeout(PATIENCE, redis_info(config.redis.url.expose_secret())).await {
        Ok(Ok(info)) => judge_redis(&info),
        failed => {
            let why = failed.map_or_else(
                |_| format!("no answer within {PATIENCE:?}"),
                |result| {
                    result
                        .err()
                        .map(|error| error.to_string())
                        .unwrap_or_default()
                },
            );
            let advice =
                "Is the server running, and are host, port and password in REDIS_URL right?";
            vec![Wrong(
                format!("Redis cannot be reached: {why}"),
                advice.into(),
            )]
        }
    }
}

async fn redis_info(url: &str) -> redis::RedisResult<redis::InfoDict> {
    let mut connection = redis::Client::open(url)?
        .get_multiplexed_async_connection()
        .await?;
    redis::cmd("INFO").query_async(&mut connection).await
}

fn judge_redis(info: &redis::InfoDict) -> Vec<Finding> {
    let text = |name: &str| info.get::<String>(name).unwrap_or_default();
    let version = text("redis_version");
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    let mut findings = vec![if major.is_some_and(|major| major >= OLDEST_REDIS) {
        Fine(format!("Redis {version} answers"))
    } else {
        Wrong(
            format!("Redis is {version}"),
            "Version 7 or newer is needed.".into(),
        )
    }];
    if text("aof_enabled") != "1" {
        findings.push(Doubtful(
            "Redis keeps no append-only file, so a restart of it forgets every hold".into(),
            "Set `appendonly yes`, with `appendfsync everysec`.".into(),
        ));
    }
    let policy = text("maxmemory_policy");
    if policy != "noeviction" {
        findings.push(Wrong(
            format!("Redis may drop keys when its memory is full (maxmemory-policy {policy})"),
            "Set `maxmemory-policy noeviction`: a dropped hold is a place sold twice.".into(),
        ));
    }
    if text("role") != "master" {
        findings.push(Wrong(
            "Redis is a read-only replica".into(),
            "Let REDIS_URL point to the primary.".into(),
        ));
    }
    findings
}

async fn mail(config: &Config) -> Finding {
    let Some(url) = &config.mail.smtp_url else {
        let folder = config.mail.folder.display();
        return Doubtful(
            format!("no mail server is set; mails become files in {folder}"),
            "Set HOLDFAST_MAIL_SMTP_URL to send them.".into(),
        );
    };
    match timeout(PATIENCE, greeting(url.expose_secret())).await {
        Ok(Ok(host)) => Fine(format!("the mail server {host} answers")),
        failed => {
            let why = failed.map_or_else(
                |_| format!("no answer within {PATIENCE:?}"),
                |result| {
                    result
                        .err()
                        .map(|error| format!("{error:#}"))
                        .unwrap_or_default()
                },
            );
            Wrong(
                format!("the mail server cannot be reached: {why}"),
                "See HOLDFAST_MAIL_SMTP_URL.".into(),
            )
        }
    }
}

/// Connects, and waits for the server's first word where that is not encrypted.
async fn greeting(url: &str) -> anyhow::Result<String> {
    let (host, port, encrypted) = mail_server(url)?;
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.with_context(|| format!("nothing listens on {host}:{port}"))?;
    if !encrypted {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        anyhow::ensure!(
            line.starts_with("220"),
            "{host}:{port} does not greet as a mail server does"
        );
    }
    Ok(format!("{host}:{port}"))
}

/// Host, port, and whether the connection is encrypted from its first byte.
fn mail_server(url: &str) -> anyhow::Result<(String, u16, bool)> {
    // What cannot be read may hold a password, so it is not repeated.
    let url = url::Url::parse(url)
        .ok()
        .context("its address cannot be read")?;
    let encrypted = match url.scheme() {
        "smtp" => false,
        "smtps" => true,
        _ => anyhow::bail!("its address begins neither with smtp:// nor with smtps://"),
    };
    let host = url.host_str().context("its address has no host")?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let usual = if encrypted { 465 } else { 587 };
    Ok((host, url.port().unwrap_or(usual), encrypted))
}

async fn stripe(config: &Config) -> Vec<Finding> {
    let mut findings = judge_stripe(config);
    if config.stripe.secret_key.is_none() {
        return findings;
    }
    let url = &config.stripe.url.0;
    findings.push(match timeout(PATIENCE, run::ask_stripe(config)).await {
        Ok(Ok(())) => Fine(format!("Stripe answers on {url} and takes the key")),
        failed => {
            let why = failed.map_or_else(
                |_| format!("no answer within {PATIENCE:?}"),
                |result| {
                    result
                        .err()
                        .map(|error| format!("{error:#}"))
                        .unwrap_or_default()
                },
            );
            Wrong(
                format!("nobody can pay by card through {url}: {why}"),
                "See HOLDFAST_STRIPE_SECRET_KEY and HOLDFAST_STRIPE_URL.".into(),
            )
        }
    });
    findings
}

/// What can be said without asking Stripe.
fn judge_stripe(config: &Config) -> Vec<Finding> {
    let Some(key) = &config.stripe.secret_key else {
        return vec![Doubtful(
            "no key of Stripe is set, so nobody can pay by card".into(),
            "Set HOLDFAST_STRIPE_SECRET_KEY and HOLDFAST_STRIPE_WEBHOOK_SECRETS.".into(),
        )];
    };
    let mut findings = Vec::new();
    match (config.general.mode, key.is_live()) {
        // Where they are not allowed, that is an obstacle of its own.
        (Mode::Production, false) if config.stripe.allow_test_keys => findings.push(Doubtful(
            "the key of Stripe is for tests, so no money moves".into(),
            "Set HOLDFAST_STRIPE_SECRET_KEY to a live key.".into(),
        )),
        (Mode::Development, true) => findings.push(Doubtful(
            "the key of Stripe is live, so real money moves in development".into(),
            "Set HOLDFAST_STRIPE_SECRET_KEY to a test key.".into(),
        )),
        _ => {}
    }
    if config.stripe.webhook_secrets.0.is_empty() {
        findings.push(Doubtful(
            "no secret of Stripe's webhooks is set, so payments in the browser are noticed late"
                .into(),
            "Let Stripe send events to /api/v1/webhooks/stripe and set HOLDFAST_STRIPE_WEBHOOK_SECRETS."
                .into(),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use shared::config::Source;

    use super::*;

    fn wrong(findings: &[Finding]) -> Vec<&str> {
        let wrong = findings.iter().filter_map(|finding| match finding {
            Wrong(what, _) => Some(what.as_str()),
            _ => None,
        });
        wrong.collect()
    }

    #[test]
    fn postgres_is_judged_by_age_extensions_rights_and_role() {
        let good = PostgresFacts {
            number: 150_018,
            version: "15.18".into(),
            extensions: App::extensions_needed().into_iter().collect(),
            can_create: true,
            superuser: false,
            recovering: false,
        };
        assert_eq!(
            good.judge(Mode::Production, true),
            [Fine("Postgres 15.18 answers".into())]
        );
        let bad = PostgresFacts {
            number: 140_005,
            version: "14.5".into(),
            extensions: vec!["btree_gist".into(), "hstore".into(), "unaccent".into()],
            can_create: false,
            superuser: true,
            recovering: true,
        };
        assert_eq!(
            wrong(&bad.judge(Mode::Development, false)),
            [
                "Postgres is 14.5",
                "Postgres has no extension pg_trgm",
                "Postgres has no extension pgcrypto",
                "the role of DATABASE_URL may not create a schema",
                "Postgres is a read-only replica",
            ]
        );
    }

    #[test]
    fn redis_is_judged_by_age_persistence_eviction_and_role() {
        let good = "redis_version:7.0.15\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n";
        assert_eq!(
            judge_redis(&redis::InfoDict::new(good)),
            [Fine("Redis 7.0.15 answers".into())]
        );
        let bad = "redis_version:6.2.1\r\naof_enabled:0\r\nmaxmemory_policy:allkeys-lru\r\nrole:slave\r\n";
        let findings = judge_redis(&redis::InfoDict::new(bad));
        assert_eq!(wrong(&findings).len(), 3);
        assert!(
            findings
                .iter()
                .any(|finding| matches!(finding, Doubtful(..)))
        );
    }

    #[test]
    fn a_mail_server_is_read_from_its_address_and_a_bad_address_is_not_repeated() {
        let read = |url| mail_server(url).expect("readable");
        assert_eq!(
            read("smtp://u:p%40w@mail.example:25?tls=none"),
            ("mail.example".into(), 25, false)
        );
        assert_eq!(
            read("smtp://mail.example"),
            ("mail.example".into(), 587, false)
        );
        assert_eq!(read("smtps://[::1]"), ("::1".into(), 465, true));
        let message = format!("{:#}", mail_server("hunter2").expect_err("no address"));
        assert!(!message.contains("hunter2"), "{message}");
    }

    fn with_settings(given: &[(&str, &str)]) -> Config {
        let required = [("DATABASE_URL", "postgres://x"), ("REDIS_URL", "redis://x")];
        let development = ("HOLDFAST_GENERAL_MODE", "development");
        let env = required.iter().chain([&development]).chain(given);
        let env = env.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let file = toml::Table::new();
        let source = Source {
            env: env.collect(),
            file,
        };
        Config::read(&source).expect("valid")
    }

    #[test]
    fn stripe_is_judged_by_its_key_the_mode_and_its_webhooks() {
        let about = |given: &[(&str, &str)]| {
            let findings = judge_stripe(&with_settings(given));
            let what = findings.into_iter().filter_map(|finding| match finding {
                Doubtful(what, _) => Some(what),
                _ => None,
            });
            what.collect::<Vec<_>>().join("; ")
        };
        let (key, secrets) = (
            "HOLDFAST_STRIPE_SECRET_KEY",
            "HOLDFAST_STRIPE_WEBHOOK_SECRETS",
        );
        let production = [
            ("HOLDFAST_GENERAL_MODE", "production"),
            (
                "HOLDFAST_AUTH_TOKEN_KEYS",
                "a:0123456789abcdef0123456789abcdef",
            ),
            (
                "HOLDFAST_AUTH_ENCRYPTION_KEYS",
                "a:0123456789abcdef0123456789abcdef",
            ),
            (secrets, "whsec_1"),
        ];
        let allowed = ("HOLDFAST_STRIPE_ALLOW_TEST_KEYS", "true");
        let in_production = |value| about(&[&production[..], &[allowed, (key, value)]].concat());
        assert!(about(&[]).contains("no key of Stripe"));
        assert!(about(&[(key, "sk_test_1")]).contains("noticed late"));
        assert_eq!(about(&[(key, "sk_test_1"), (secrets, "whsec_1")]), "");
        assert!(about(&[(key, "rk_live_1")]).contains("real money"));
        assert!(in_production("sk_test_1").contains("no money moves"));
        assert_eq!(in_production("rk_live_1"), "");
    }

    #[tokio::test]
    async fn stripe_is_asked_and_a_silent_one_is_wrong() {
        let nobody = ("HOLDFAST_STRIPE_URL", "http://127.0.0.1:1");
        let settings = [
            nobody,
            ("HOLDFAST_STRIPE_SECRET_KEY", "sk_test_1"),
            ("HOLDFAST_STRIPE_ATTEMPTS", "1"),
        ];
        let findings = stripe(&with_settings(&settings)).await;
        assert_eq!(wrong(&findings).len(), 1, "{findings:?}");

        let stand_in = run::stripe(run::StripeStandIn {
            listen: ([127, 0, 0, 1], 0).into(),
            public_url: None,
            webhooks: None,
        })
        .expect("a free port");
        let url = stand_in.url();
        let settings = [
            ("HOLDFAST_STRIPE_URL", url.as_str()),
            ("HOLDFAST_STRIPE_SECRET_KEY", "sk_test_1"),
        ];
        let findings = stripe(&with_settings(&settings)).await;
        assert!(findings.contains(&Fine(format!("Stripe answers on {url} and takes the key"))));
    }
}
