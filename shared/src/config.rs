//! Every setting there is: its name, its meaning, its default and its check, declared once.
//!
//! A value comes from the environment (`HOLDFAST_HTTP_LISTEN`), else from the file (`[http] listen = …`),
//! else from its default. All bad values are reported together, each by its name; a name nobody knows is
//! a bad value too. This module is handed the environment and the file: it reads neither.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

/// A setting as the documentation tells it.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub section: &'static str,
    pub key: &'static str,
    /// `None` for a setting that must be given.
    pub default: Option<&'static str>,
    pub doc: &'static str,
    /// What it is read as, for a reader.
    pub kind: &'static str,
}

impl Setting {
    /// The name of its environment variable. The two addresses that every host hands out keep their usual names.
    #[must_use]
    pub fn env(&self) -> String {
        match (self.section, self.key) {
            ("database", "url") => "DATABASE_URL".into(),
            ("redis", "url") => "REDIS_URL".into(),
            (section, key) => format!("HOLDFAST_{section}_{key}").to_uppercase(),
        }
    }

    /// Whether a variable looks like one of the same section. Others that begin with our name may be somebody
    /// else's: orchestrators make up `HOLDFAST_PORT` for a service of that name.
    fn is_beside(&self, variable: &str) -> bool {
        let section = format!("HOLDFAST_{}_", self.section.to_uppercase());
        variable.starts_with(&section)
    }

    fn name(&self) -> String {
        format!("{} ([{}] {})", self.env(), self.section, self.key)
    }
}

/// What is wrong with a configuration, all of it, in words.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadConfig(pub Vec<String>);

/// Where values come from. The caller has read the environment and the file.
#[derive(Debug, Default)]
pub struct Source {
    pub env: BTreeMap<String, String>,
    pub file: toml::Table,
}

impl Source {
    /// The value given for a setting, in the one spelling that all of them are parsed from.
    fn given(&self, setting: &Setting) -> Option<String> {
        if let Some(value) = self.env.get(&setting.env()) {
            return Some(value.clone());
        }
        let value = self.file.get(setting.section)?.get(setting.key)?;
        Some(match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(items) => items
                .iter()
                .map(|item| {
                    item.as_str()
                        .map_or_else(|| item.to_string(), str::to_owned)
                })
                .collect::<Vec<_>>()
                .join(","),
            other => other.to_string(),
        })
    }

    fn read<T: FromSetting>(&self, section: &str, key: &str) -> Result<T, String> {
        let setting = Config::SETTINGS
            .iter()
            .find(|s| s.section == section && s.key == key)
            .expect("every field is declared as a setting");
        let text = self
            .given(setting)
            .or_else(|| setting.default.map(str::to_owned))
            .ok_or_else(|| format!("{} is missing: {}", setting.name(), setting.doc.trim()))?;
        T::from_setting(text.trim()).map_err(|expected| {
            // The value itself may be a secret: it is not repeated.
            format!("{} has a bad value: {expected}", setting.name())
        })
    }

    /// Names that look like ours and are none of ours: a typo must not be a silent default.
    fn unknown(&self) -> impl Iterator<Item = String> + '_ {
        let env = self
            .env
            .keys()
            .filter(|name| {
                Config::SETTINGS
                    .iter()
                    .any(|setting| setting.is_beside(name))
            })
            .filter(|name| !Config::SETTINGS.iter().any(|s| s.env() == **name))
            .map(|name| format!("{name} is no setting of Holdfast"));
        let file = self.file.iter().flat_map(|(section, body)| {
            let keys: Vec<Option<&String>> = match body.as_table() {
                Some(table) => table.keys().map(Some).collect(),
                None => vec![None],
            };
            keys.into_iter()
                .filter(move |key| {
                    !Config::SETTINGS
                        .iter()
                        .any(|s| s.section == section && Some(s.key) == key.map(String::as_str))
                })
                .map(move |key| match key {
                    Some(key) => format!("[{section}] {key} is no setting of Holdfast"),
                    None => format!("`{section}` stands outside any section of the file"),
                })
        });
        env.chain(file)
    }
}

/// How a type is read from the text of a setting.
pub trait FromSetting: Sized {
    const KIND: &'static str;
    /// A sentence on what was expected instead.
    fn from_setting(text: &str) -> Result<Self, String>;
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $type:ident {$(
            $(#[doc = $doc:literal])+
            $key:ident: $value:ty $(= $default:literal)?,
        )+}
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone)]
            pub struct $type {$(
                $(#[doc = $doc])+
                pub $key: $value,
            )+}
        )+

        /// The whole configuration, checked.
        #[derive(Debug, Clone)]
        pub struct Config {
            $(pub $section: $type,)+
        }

        impl Config {
            /// Every setting, in the order of the documentation.
            pub const SETTINGS: &'static [Setting] = &[$($(
                Setting {
                    section: stringify!($section),
                    key: stringify!($key),
                    default: settings!(@default $($default)?),
                    doc: concat!($($doc),+),
                    kind: <$value as FromSetting>::KIND,
                },
            )+)+];

            /// Every bad, missing or unknown setting, by name.
            pub fn read(source: &Source) -> Result<Self, BadConfig> {
                let mut problems: Vec<String> = source.unknown().collect();
                $($(
                    let value = source.read::<$value>(stringify!($section), stringify!($key));
                    problems.extend(value.err());
                )+)+
                if !problems.is_empty() {
                    return Err(BadConfig(problems));
                }
                let config = Self {$(
                    $section: $type {$(
                        $key: source
                            .read(stringify!($section), stringify!($key))
                            .expect("read without a problem a moment ago"),
                    )+},
                )+};
                config.fits_together()
            }
        }
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}

settings! {
    /// What kind of installation this is.
    general: General {
        /// `development` allows demo data and fixed passwords; `production` refuses them.
        mode: Mode = "production",
        /// Where people reach the API, for links in mails.
        public_url: Url = "http://127.0.0.1:8080",
    }

    /// The HTTP server.
    http: Http {
        /// Address and port the API listens on.
        listen: SocketAddr = "127.0.0.1:8080",
        /// Address and port the worker answers health and metrics on.
        worker_listen: SocketAddr = "127.0.0.1:8081",
        /// Largest request body in bytes; uploads have their own limit.
        body_limit: usize = "1048576",
        /// Web origins whose pages may call the API, separated by commas; `*` for all, empty for none.
        cors_origins: List = "",
        /// Take the caller's address from `X-Forwarded-For`. Only behind a proxy that sets it.
        trust_forwarded: bool = "false",
        /// How long a stopping API still takes requests while it says that it is not ready, so that a load balancer turns away first.
        notice: Span = "0s",
        /// How long a stopping process may finish what it has begun, after the notice.
        drain: Span = "20s",
        /// Bearer token that `/metrics` asks for; empty answers this machine only.
        metrics_token: Option<SecretString> = "",
    }

    /// Postgres, where everything lives that must not be lost.
    database: Database {
        /// Connection string, `postgres://user:password@host/name`.
        url: SecretString,
        /// Most connections one process keeps; the job engine has 6 more of its own.
        max_connections: u32 = "20",
        /// How long to wait for a free connection before answering UNAVAILABLE.
        acquire_timeout: Span = "3s",
        /// How long a statement may wait for a lock.
        lock_timeout: Span = "5s",
        /// How long a statement may run.
        statement_timeout: Span = "30s",
    }

    /// Redis, where places are held and limits counted.
    redis: Redis {
        /// Connection string, `redis://host:6379`.
        url: SecretString,
        /// What every key and channel begins with, so that installations can share a server.
        prefix: String = "holdfast",
    }

    /// How many requests a caller may make.
    limits: Limits {
        /// Requests a minute from one address without an account; 0 for no limit.
        anonymous_per_minute: u32 = "600",
        /// Requests a minute of one account or key; 0 for no limit.
        account_per_minute: u32 = "3000",
        /// Requests a minute from one address to sign in, to register or to have a link mailed; 0 for no limit.
        sign_in_per_minute: u32 = "30",
    }

    /// Signing in.
    auth: Auth {
        /// Keys that sign access tokens, `name:secret` separated by commas, each secret of at least 32 characters. The first signs, all verify: put a new one in front, and take the old one away when its tokens have expired. Must be given in production.
        token_keys: TokenKeys = "",
        /// Who issues the access tokens; stands in each as `iss`.
        token_issuer: String = "holdfast",
        /// Who the access tokens are for; stands in each as `aud`.
        token_audience: String = "holdfast",
        /// How long an access token is good for.
        access_ttl: Span = "1h",
        /// A session that is not refreshed for this long is over.
        session_idle: Span = "14d",
        /// A session is over after this long, however busy it is.
        session_longest: Span = "90d",
        /// Two refreshes with one token within this time are a client that asked twice, not a thief.
        refresh_grace: Span = "10s",
        /// How long a link to set a new password works.
        reset_link: Span = "1h",
        /// How long a link to confirm a mail address works.
        verify_link: Span = "3d",
        /// Failed logins to one account before it answers more slowly.
        failures_per_account: u32 = "5",
        /// Failed logins from one address before it is answered more slowly.
        failures_per_address: u32 = "50",
        /// The longest pause after failed logins. Each failure doubles the pause, from a second on.
        longest_pause: Span = "5m",
        /// When a wrong password is answered, counted from when it began to be compared; whoever takes longer is answered at the next multiple. Longer than comparing with any hash that is kept takes, those of an import included, so that the time tells nothing.
        refusals_take: Span = "500ms",
        /// Memory that hashing one password takes, in KiB.
        hash_memory_kib: u32 = "19456",
        /// How often hashing goes through that memory.
        hash_rounds: u32 = "2",
        /// Passwords hashed at a time by one process: half of its cores leaves the rest for everything else.
        hashes_at_once: usize = "1",
        /// Passwords that may wait to be hashed before more are answered UNAVAILABLE.
        hashes_waiting: usize = "256",
    }

    /// The job engine.
    jobs: Jobs {
        /// Jobs of one queue that a worker runs at the same time.
        concurrency: usize = "64",
        /// How often a worker looks for due jobs without being woken.
        poll: Span = "250ms",
        /// How often a worker says that it is alive; after five missed times its jobs go to another.
        heartbeat: Span = "1s",
        /// How long finished jobs are kept.
        keep: Span = "7d",
    }

    /// Outgoing mail.
    mail: Mail {
        /// `smtp://user:password@host:587` (STARTTLS), `smtps://…` (TLS), `smtp://host:25?tls=none` (plain); empty writes .eml files instead.
        smtp_url: Option<SecretString> = "",
        /// Where .eml files go when there is no SMTP server.
        folder: PathBuf = ".holdfast/mail",
        /// Sender of every mail.
        from: Mailbox = "Holdfast <tickets@localhost.localdomain>",
        /// A mail that could not be sent for this long is given up.
        give_up: Span = "1d",
    }

    /// What the operator sees.
    telemetry: Telemetry {
        /// Filter of the log, `info` or `info,shared=debug`.
        log: String = "info",
        /// `pretty` for people, `json` for machines.
        format: LogFormat = "pretty",
        /// OpenTelemetry collector (gRPC), `http://host:4317`; empty exports nothing.
        otlp_endpoint: Option<Url> = "",
    }
}

impl Config {
    /// What no setting can say by itself.
    fn fits_together(self) -> Result<Self, BadConfig> {
        let mut problems = self.out_of_bounds();
        if self.general.mode == Mode::Production && self.auth.token_keys.0.is_empty() {
            let missing = "HOLDFAST_AUTH_TOKEN_KEYS ([auth] token_keys) is missing: production needs a key that signs \
                           access tokens, like `2026a:` and 32 or more random characters";
            problems.push(missing.into());
        }
        if problems.is_empty() {
            Ok(self)
        } else {
            Err(BadConfig(problems))
        }
    }

    /// What can be read and can still not be meant.
    fn out_of_bounds(&self) -> Vec<String> {
        let endless = |span: Span| span.0 > LONGEST;
        let nothing = |span: Span| span.0.is_zero();
        let checks = [
            (
                self.database.max_connections == 0,
                "database",
                "max_connections",
                "at least 1",
            ),
            (
                self.jobs.concurrency == 0,
                "jobs",
                "concurrency",
                "at least 1",
            ),
            (nothing(self.jobs.poll), "jobs", "poll", "more than nothing"),
            (
                nothing(self.jobs.heartbeat),
                "jobs",
                "heartbeat",
                "more than nothing",
            ),
            (
                nothing(self.auth.refusals_take) || self.auth.refusals_take.0 > SLOWEST_REFUSAL,
                "auth",
                "refusals_take",
                "more than nothing and at most 10s",
            ),
            (endless(self.jobs.keep), "jobs", "keep", "at most ten years"),
            (
                endless(self.mail.give_up),
                "mail",
                "give_up",
                "at most ten years",
            ),
            (
                !self.database.is_address(),
                "database",
                "url",
                "postgres://user:password@host/name",
            ),
            (
                !self.redis.is_address(),
                "redis",
                "url",
                "redis://host:6379",
            ),
        ];
        let bad = checks.into_iter().filter(|(bad, ..)| *bad);
        bad.map(|(_, section, key, expected)| {
            let setting = Self::SETTINGS
                .iter()
                .find(|s| s.section == section && s.key == key);
            let name = setting.expect("a declared setting").name();
            format!("{name} has a bad value: expected {expected}")
        })
        .collect()
    }
}

impl Database {
    fn is_address(&self) -> bool {
        let url = self.url.expose_secret();
        let ours = url.starts_with("postgres://") || url.starts_with("postgresql://");
        ours && sqlx::postgres::PgConnectOptions::from_str(url).is_ok()
    }
}

impl Redis {
    fn is_address(&self) -> bool {
        redis::Client::open(self.url.expose_secret()).is_ok()
    }
}

/// Nobody waits longer to hear that a password was wrong.
const SLOWEST_REFUSAL: Duration = Duration::from_secs(10);

/// Longer than anything is meant to last, and short enough for every calendar.
const LONGEST: Duration = Duration::from_hours(3_653 * 24);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Development,
    Production,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Pretty,
    Json,
}

/// A span of time, written `250ms`, `20s`, `5m`, `12h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Values separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List(pub Vec<String>);

/// An `http` or `https` address without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(pub String);

/// A name and an address, as a mail's sender has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox(pub lettre::message::Mailbox);

/// Named secrets, the one in use first.
#[derive(Debug, Clone)]
pub struct TokenKeys(pub Vec<(String, SecretString)>);

/// Settings whose text one `FromStr` reads.
macro_rules! from_str_setting {
    ($($type:ty: $kind:literal),+ $(,)?) => {$(
        impl FromSetting for $type {
            const KIND: &'static str = $kind;
            fn from_setting(text: &str) -> Result<Self, String> {
                Self::from_str(text).map_err(|_| format!("expected {}", Self::KIND))
            }
        }
    )+};
}

from_str_setting! {
    SocketAddr: "an address and port",
    bool: "true or false",
    u32: "a whole number",
    usize: "a whole number",
    PathBuf: "a path",
}

impl FromSetting for String {
    const KIND: &'static str = "text";
    fn from_setting(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected some text".into());
        }
        Ok(text.to_owned())
    }
}

impl FromSetting for SecretString {
    const KIND: &'static str = "text (secret)";
    fn from_setting(text: &str) -> Result<Self, String> {
        String::from_setting(text).map(Self::from)
    }
}

impl<T: FromSetting> FromSetting for Option<T> {
    const KIND: &'static str = T::KIND;
    fn from_setting(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        T::from_setting(text).map(Some)
    }
}

impl FromSetting for TokenKeys {
    const KIND: &'static str =
        "name:secret pairs separated by commas, each secret of at least 32 characters (secret)";
    fn from_setting(text: &str) -> Result<Self, String> {
        let expected = || format!("expected {}, each name once", Self::KIND);
        let mut keys: Vec<(String, SecretString)> = Vec::new();
        for pair in text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            let (name, secret) = pair.split_once(':').ok_or_else(expected)?;
            let known = keys.iter().any(|(known, _)| known == name);
            if name.is_empty() || secret.len() < 32 || known {
                return Err(expected());
            }
            keys.push((name.to_owned(), secret.into()));
        }
        Ok(Self(keys))
    }
}

impl FromSetting for Mode {
    const KIND: &'static str = "development or production";
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "development" => Ok(Self::Development),
            "production" => Ok(Self::Production),
            _ => Err(format!("expected {}", Self::KIND)),
        }
    }
}

impl FromSetting for LogFormat {
    const KIND: &'static str = "pretty or json";
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(format!("expected {}", Self::KIND)),
        }
    }
}

impl FromSetting for Span {
    const KIND: &'static str = "a span of time like 250ms, 20s, 5m, 12h or 7d";
    fn from_setting(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let millis_per_unit: u64 = match &text[digits.len()..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(format!("expected {}", Self::KIND)),
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(millis_per_unit))
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| format!("expected {}", Self::KIND))
    }
}

impl Span {
    /// The span as the calendar counts it.
    #[must_use]
    pub fn delta(self) -> chrono::TimeDelta {
        chrono::TimeDelta::from_std(self.0).unwrap_or(chrono::TimeDelta::MAX)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

impl FromSetting for List {
    const KIND: &'static str = "values separated by commas";
    fn from_setting(text: &str) -> Result<Self, String> {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        Ok(Self(items.map(str::to_owned).collect()))
    }
}

impl FromSetting for Url {
    const KIND: &'static str = "an http or https address";
    fn from_setting(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        match rest {
            Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err(format!("expected {}", Self::KIND)),
        }
    }
}

impl FromSetting for Mailbox {
    const KIND: &'static str = "a mail address like Name <name@example.org>";
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("expected {}", Self::KIND))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The defaults, for development.
    pub(crate) fn development() -> Config {
        Config::read(&source(&[], "")).expect("valid")
    }

    fn source(env: &[(&str, &str)], file: &str) -> Source {
        let required = [
            ("DATABASE_URL", "postgres://x"),
            ("REDIS_URL", "redis://x"),
            ("HOLDFAST_GENERAL_MODE", "development"),
        ];
        let env = required.iter().chain(env);
        Source {
            env: env
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            file: file.parse().expect("TOML"),
        }
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let file = "[limits]\nanonymous_per_minute = 7\naccount_per_minute = 8\n[http]\ncors_origins = [\"https://a\", \"https://b\"]";
        let config = Config::read(&source(
            &[("HOLDFAST_LIMITS_ACCOUNT_PER_MINUTE", "9")],
            file,
        ))
        .expect("valid");
        assert_eq!(
            (
                config.limits.anonymous_per_minute,
                config.limits.account_per_minute
            ),
            (7, 9)
        );
        assert_eq!(config.http.cors_origins.0, ["https://a", "https://b"]);
        assert_eq!(config.jobs.poll.0, Duration::from_millis(250));
    }

    #[test]
    fn every_bad_value_is_named_at_once_and_no_value_is_repeated() {
        let bad = source(
            &[
                ("HOLDFAST_HTTP_LISTEN", "hunter2"),
                ("HOLDFAST_HTTP_LISTN", "x"),
                ("DATABASE_URL", ""),
            ],
            "[mail]\ncolour = 1\n[jobs]\npoll = \"soon\"",
        );
        let message = Config::read(&bad).expect_err("invalid").to_string();
        for name in [
            "HOLDFAST_HTTP_LISTEN ",
            "HOLDFAST_HTTP_LISTN",
            "DATABASE_URL",
            "[mail] colour",
            "HOLDFAST_JOBS_POLL",
        ] {
            assert!(message.contains(name), "{name} is not named in: {message}");
        }
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let bad = source(
            &[
                ("HOLDFAST_JOBS_CONCURRENCY", "0"),
                ("HOLDFAST_JOBS_POLL", "0s"),
                ("HOLDFAST_MAIL_GIVE_UP", "99999999d"),
                ("DATABASE_URL", "mysql://hunter2"),
                ("REDIS_URL", "hunter2"),
                ("HOLDFAST_PORT", "tcp://10.0.0.1:80"),
            ],
            "",
        );
        let message = Config::read(&bad).expect_err("invalid").to_string();
        for name in [
            "JOBS_CONCURRENCY",
            "JOBS_POLL",
            "MAIL_GIVE_UP",
            "DATABASE_URL",
            "REDIS_URL",
        ] {
            assert!(message.contains(name), "{name} is not named in: {message}");
        }
        assert!(
            !message.contains("hunter2") && !message.contains("HOLDFAST_PORT"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_setting_is_named_with_its_meaning() {
        let message = Config::read(&Source::default())
            .expect_err("invalid")
            .to_string();
        assert!(
            message.contains("DATABASE_URL ([database] url) is missing: Connection string"),
            "{message}"
        );
    }

    #[test]
    fn production_needs_a_key_that_signs_tokens() {
        let production = ("HOLDFAST_GENERAL_MODE", "production");
        let read = |keys: &str| {
            Config::read(&source(
                &[production, ("HOLDFAST_AUTH_TOKEN_KEYS", keys)],
                "",
            ))
        };
        let long = "0123456789abcdef0123456789abcdef";
        let twice = format!("a:{long},a:{long}");
        for bad in ["", "2026a:short", long, &twice] {
            let message = read(bad).expect_err("invalid").to_string();
            assert!(message.contains("HOLDFAST_AUTH_TOKEN_KEYS"), "{message}");
            assert!(!message.contains(long), "{message}");
        }
        let config = read(&format!("new:{long}, old:{long}")).expect("valid");
        let names: Vec<_> = config
            .auth
            .token_keys
            .0
            .iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["new", "old"]);
        assert!(!format!("{config:?}").contains(long));
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = Config::read(&source(
            &[("HOLDFAST_MAIL_SMTP_URL", "smtp://u:hunter2@h")],
            "",
        ))
        .expect("valid");
        let printed = format!("{config:?}");
        assert!(
            !printed.contains("hunter2") && !printed.contains("postgres://x"),
            "{printed}"
        );
    }
}
