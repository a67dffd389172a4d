//! What production does not start with: secrets that everybody can read in our repository, and data that opens to them.
//!
//! All of it is named at once, by the settings and the rows that it is found in; no secret is repeated.

use std::net::IpAddr;
use std::str::FromStr as _;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::access;
use crate::accounts;
use crate::app::App;
use crate::config::{Config, StripeKey, TokenKeys};
use crate::encryption;
use crate::error::Result;
use crate::seed;

/// Signs the webhooks of the stand-in for Stripe unless something else is said.
pub const SANDBOX_WEBHOOK_SECRET: &str = "whsec_sandbox";
/// The key that `up` and the containers give the stand-in for Stripe, which takes any.
pub const SANDBOX_STRIPE_KEY: &str = "sk_test_sandbox";

/// Where the mail catcher of `holdfast sandbox` listens unless something else is said.
const SANDBOX_SMTP_PORT: u16 = 1025;
/// What it is called among containers.
const SANDBOX_HOST: &str = "sandbox";
/// A relay on the same machine is no catcher.
const SMTP_PORTS: [u16; 3] = [25, 465, 587];

/// Those of our own examples, and those that are tried first.
const KNOWN_PASSWORDS: [&str; 13] = [
    "development-only",
    "holdfast",
    "holdfast_owner",
    "postgres",
    "redis",
    "password",
    "secret",
    "changeme",
    "change-me",
    "admin",
    "root",
    "test",
    "default",
];
/// Random text of 32 characters has more different ones than this.
const FEWEST_CHARACTERS: usize = 8;
/// A real secret of Stripe's has 32 characters and more behind `whsec_`.
const SHORTEST_WEBHOOK_SECRET: usize = 20;

/// Something that production does not start with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    pub what: String,
    pub remedy: String,
}

impl Obstacle {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// What stands in the settings.
#[must_use]
pub fn in_settings(config: &Config) -> Vec<Obstacle> {
    let mut found = keys(config);
    found.extend(stripe(config));
    found.extend(mail(config));
    let database = config.database.url.expose_secret();
    let remedy = "Give the role a password of its own.";
    let why = password_of_database(database).and_then(|password| bad(&password));
    found.extend(why.map(|why| Obstacle::new(format!("DATABASE_URL {why}"), remedy)));
    let remedy = "Set `requirepass`, or give the user a password of its own.";
    let why = password_of_redis(config.redis.url.expose_secret());
    let why = why.and_then(|password| bad(&password));
    found.extend(why.map(|why| Obstacle::new(format!("REDIS_URL {why}"), remedy)));
    found
}

/// What stands in the database. Costs a few readings, and comparing passwords only where there are demo accounts.
pub async fn in_database(app: &App) -> Result<Vec<Obstacle>> {
    let mut found = Vec::new();
    let emails = seed::demo_emails();
    let known = SecretString::from(seed::DEMO_PASSWORD);
    let open = accounts::with_password(app, &emails, &known).await?;
    if !open.is_empty() {
        found.push(Obstacle::new(
            format!(
                "the database has demo accounts with the demo password: {}",
                open.join(", ")
            ),
            "Deactivate them, or begin with an empty database.",
        ));
    }
    let mut db = app.read().await?;
    if accounts::is_admin(&mut db, seed::DEMO_ADMIN).await? {
        found.push(Obstacle::new(
            format!(
                "the demo account {} is a platform administrator",
                seed::DEMO_ADMIN
            ),
            "Deactivate it, and make one with `holdfast admin create`.",
        ));
    }
    if access::key_counts(&mut db, seed::DEMO_KEY, app.clock.now()).await? {
        found.push(Obstacle::new(
            "the database has the demo API key",
            "Revoke the key `Demo`.",
        ));
    }
    Ok(found)
}

fn keys(config: &Config) -> Vec<Obstacle> {
    let auth = &config.auth;
    let tokens = of_keys("token_keys", &auth.token_keys, access::DEVELOPMENT_KEY);
    let encryption = of_keys(
        "encryption_keys",
        &auth.encryption_keys,
        encryption::DEVELOPMENT_KEY,
    );
    tokens.into_iter().chain(encryption).collect()
}

fn of_keys(key: &str, given: &TokenKeys, development: &str) -> Vec<Obstacle> {
    let remedy = "Set a name and 32 or more random characters, like `2026a:…`.";
    let setting = format!("HOLDFAST_AUTH_{} ([auth] {key})", key.to_uppercase());
    if given.0.is_empty() {
        let missing = format!("{setting} is missing: the key of development would be used");
        return vec![Obstacle::new(missing, remedy)];
    }
    let weak = given.0.iter().filter_map(|(name, secret)| {
        let secret = secret.expose_secret();
        let why = if secret == development {
            "is the key of development"
        } else if different_characters(secret) < FEWEST_CHARACTERS {
            "is no random text"
        } else {
            return None;
        };
        Some(Obstacle::new(format!("{setting}: `{name}` {why}"), remedy))
    });
    weak.collect()
}

fn different_characters(text: &str) -> usize {
    let mut characters: Vec<char> = text.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    characters.len()
}

fn stripe(config: &Config) -> Vec<Obstacle> {
    let stripe = &config.stripe;
    let mut found = Vec::new();
    if !stripe.url.0.starts_with("https://") {
        found.push(Obstacle::new(
            "HOLDFAST_STRIPE_URL ([stripe] url) is no https address: the sandbox, or a connection that others can read",
            "Leave it out, which means https://api.stripe.com.",
        ));
    }
    let is_for_tests = |key: &StripeKey| !key.is_live();
    if stripe.secret_key.as_ref().is_some_and(is_for_tests) && !stripe.allow_test_keys {
        found.push(Obstacle::new(
            "HOLDFAST_STRIPE_SECRET_KEY ([stripe] secret_key) is no live key, so no money moves",
            "Set a live key, or HOLDFAST_STRIPE_ALLOW_TEST_KEYS=true for a rehearsal.",
        ));
    }
    let guessable = |secret: &SecretString| {
        let secret = secret.expose_secret();
        secret == SANDBOX_WEBHOOK_SECRET || secret.len() < SHORTEST_WEBHOOK_SECRET
    };
    if stripe.webhook_secrets.0.iter().any(guessable) {
        found.push(Obstacle::new(
            "HOLDFAST_STRIPE_WEBHOOK_SECRETS ([stripe] webhook_secrets) has the secret of the sandbox, or one that can \
             be guessed",
            "Set the one that Stripe shows for the endpoint.",
        ));
    }
    found
}

fn mail(config: &Config) -> Option<Obstacle> {
    let url = Url::parse(config.mail.smtp_url.as_ref()?.expose_secret()).ok()?;
    let (host, port) = (url.host_str()?, url.port());
    let on_this_machine = is_loopback(host);
    let catches = host == SANDBOX_HOST
        || port == Some(SANDBOX_SMTP_PORT)
        || (on_this_machine && port.is_some_and(|port| !SMTP_PORTS.contains(&port)));
    catches.then(|| {
        Obstacle::new(
            "HOLDFAST_MAIL_SMTP_URL ([mail] smtp_url) leads to the mail catcher of the sandbox, so no mail arrives",
            "Set the address of a mail server.",
        )
    })
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address = IpAddr::from_str(address).ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// What a server is opened with.
struct Opening {
    /// Whoever can reach the server is on this machine.
    is_here: bool,
    user: Option<String>,
    password: Option<String>,
}

/// Nothing where the server asks for no password but a certificate.
fn password_of_database(url: &str) -> Option<Opening> {
    let options = PgConnectOptions::from_str(url).ok()?;
    let url = Url::parse(url).ok()?;
    let named = |name: &str| {
        let mut pairs = url.query_pairs();
        pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
    };
    if named("sslcert").is_some() {
        return None;
    }
    Some(Opening {
        is_here: options.get_socket().is_some() || is_loopback(options.get_host()),
        user: Some(options.get_username().to_owned()),
        password: url.password().map(decoded).or_else(|| named("password")),
    })
}

fn password_of_redis(url: &str) -> Option<Opening> {
    let url = Url::parse(url).ok()?;
    let user = Some(decoded(url.username())).filter(|user| !user.is_empty());
    Some(Opening {
        is_here: url.host_str().is_none_or(is_loopback),
        user,
        password: url.password().map(decoded),
    })
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

fn bad(opening: &Opening) -> Option<&'static str> {
    match opening.password.as_deref().filter(|it| !it.is_empty()) {
        None if opening.is_here => None,
        None => Some("has no password, and the server is on another machine"),
        Some(password)
            if KNOWN_PASSWORDS.contains(&password.to_lowercase().as_str())
                || opening.user.as_deref() == Some(password) =>
        {
            Some("has a password that everybody knows")
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::with_settings;

    /// Production with everything as it should be, but for these settings.
    #[track_caller]
    fn found(settings: &[(&str, &str)]) -> Vec<String> {
        let good = [
            ("HOLDFAST_GENERAL_MODE", "production"),
            (
                "HOLDFAST_AUTH_TOKEN_KEYS",
                "one:k7Qd2vXw9mZr4tYb8nLc3pHs6jFg1aEu",
            ),
            (
                "HOLDFAST_AUTH_ENCRYPTION_KEYS",
                "one:Xw9mZr4tYk7Qd2vLc3pHsb8n6jFg1aEu",
            ),
            ("HOLDFAST_STRIPE_SECRET_KEY", "rk_live_51Habcdef"),
            (
                "HOLDFAST_STRIPE_WEBHOOK_SECRETS",
                "whsec_k7Qd2vXw9mZr4tYb8nLc",
            ),
            ("HOLDFAST_MAIL_SMTP_URL", "smtp://mail.example:587"),
            ("DATABASE_URL", "postgres://app:k7Qd2vXw9mZr@db.example/app"),
            ("REDIS_URL", "redis://:k7Qd2vXw9mZr@redis.example/"),
        ];
        let config = with_settings(&[&good[..], settings].concat());
        let obstacles = in_settings(&config).into_iter();
        obstacles.map(|obstacle| obstacle.what).collect()
    }

    #[test]
    fn passwords_that_everybody_knows_and_none_for_another_machine_are_found() {
        assert_eq!(found(&[]), [] as [&str; 0]);
        let fine = [
            ("DATABASE_URL", "postgres://app@localhost/app"),
            ("DATABASE_URL", "postgres:///app?host=/run/postgresql"),
            (
                "DATABASE_URL",
                "postgres://app@db.example/app?sslcert=a.pem",
            ),
            (
                "DATABASE_URL",
                "postgres://app@db.example/app?password=k7Qd2",
            ),
            ("REDIS_URL", "redis://127.0.0.1:6379"),
            ("REDIS_URL", "redis://[::1]:6379"),
        ];
        for setting in fine {
            assert_eq!(found(&[setting]), [] as [&str; 0], "{setting:?}");
        }
        let bad = [
            ("DATABASE_URL", "postgres://app@db.example/app"),
            ("DATABASE_URL", "postgres://app:app@db.example/app"),
            (
                "DATABASE_URL",
                "postgres://app:Development%2Donly@localhost/app",
            ),
            (
                "DATABASE_URL",
                "postgres://app@db.example/app?password=postgres",
            ),
            ("REDIS_URL", "redis://redis.example:6379"),
            ("REDIS_URL", "redis://:development-only@127.0.0.1:6379"),
            ("REDIS_URL", "rediss://shop:shop@redis.example:6379"),
        ];
        for setting in bad {
            let found = found(&[setting]);
            assert_eq!(found.len(), 1, "{setting:?}: {found:?}");
            assert!(found[0].starts_with(setting.0), "{found:?}");
        }
    }

    #[test]
    fn mail_catchers_are_told_from_mail_servers() {
        for fine in [
            "smtp://localhost:25?tls=none",
            "smtps://[::1]",
            "smtps://m.example:465",
        ] {
            assert_eq!(found(&[("HOLDFAST_MAIL_SMTP_URL", fine)]), [] as [&str; 0]);
        }
        for bad in [
            "smtp://sandbox:1025?tls=none",
            "smtp://sandbox:2525",
            "smtp://127.0.0.1:1026?tls=none",
            "smtp://10.0.0.7:1025?tls=none",
        ] {
            assert_eq!(found(&[("HOLDFAST_MAIL_SMTP_URL", bad)]).len(), 1, "{bad}");
        }
    }

    #[test]
    fn keys_that_can_be_guessed_are_found_and_not_repeated() {
        let development = format!("one:{}", access::DEVELOPMENT_KEY);
        let encrypting = format!("one:{}", encryption::DEVELOPMENT_KEY);
        for keys in ["", &encrypting] {
            let found = found(&[("HOLDFAST_AUTH_ENCRYPTION_KEYS", keys)]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains("HOLDFAST_AUTH_ENCRYPTION_KEYS"));
        }
        let same = format!("one:{}", "ab".repeat(16));
        for keys in ["", &development, &same] {
            let found = found(&[("HOLDFAST_AUTH_TOKEN_KEYS", keys)]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains("HOLDFAST_AUTH_TOKEN_KEYS"), "{found:?}");
            assert!(!found[0].contains("abab"), "{found:?}");
        }
        let good = "two:k7Qd2vXw9mZr4tYb8nLc3pHs6jFg1aEu";
        let both = format!("{good},{development}");
        assert_eq!(found(&[("HOLDFAST_AUTH_TOKEN_KEYS", &both)]).len(), 1);
    }

    #[test]
    fn test_keys_of_stripe_are_found_unless_they_are_allowed() {
        for key in ["sk_test_1", "rk_test_1", "sk_1", SANDBOX_STRIPE_KEY] {
            let key = ("HOLDFAST_STRIPE_SECRET_KEY", key);
            assert_eq!(found(&[key]).len(), 1, "{key:?}");
            let allowed = ("HOLDFAST_STRIPE_ALLOW_TEST_KEYS", "true");
            assert_eq!(found(&[key, allowed]), [] as [&str; 0]);
        }
        for secrets in [
            SANDBOX_WEBHOOK_SECRET,
            "whsec_1",
            "whsec_k7Qd2vXw9mZr4tYb8nLc,whsec_sandbox",
        ] {
            let secrets = ("HOLDFAST_STRIPE_WEBHOOK_SECRETS", secrets);
            assert_eq!(found(&[secrets]).len(), 1, "{secrets:?}");
        }
        let sandbox = ("HOLDFAST_STRIPE_URL", "http://127.0.0.1:12111");
        assert_eq!(found(&[sandbox]).len(), 1);
    }
}
