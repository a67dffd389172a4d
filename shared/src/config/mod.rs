//! Every setting there is: its name, its meaning, its default and its check, declared once.
//!
//! A value comes from the environment (`HOLDFAST_HTTP_LISTEN`), else from the file (`[http] listen = …`),
//! else from its default. All bad values are reported together, each by its name; a name nobody knows is
//! a bad value too. This module is handed the environment and the file: it reads neither.
//!
//! | file | holds |
//! |---|---|
//! | `source` | where a value comes from |
//! | `values` | what values there can be, and how each is read |
//! | `checks` | what no value can say by itself |

mod checks;
pub(crate) use checks::PAYMENT_GRACE;
mod source;
#[cfg(test)]
pub(crate) mod tests;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;

pub use source::{BadConfig, Source};
pub use values::{
    ForwardedHeader, FromSetting, List, LogFormat, Mailbox, Mode, Networks, Secrets, Span,
    StripeKey, TokenKeys, Url,
};

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
        /// Address and port for `/metrics` and health alone; the API's own listener has no `/metrics` then.
        metrics_listen: Option<SocketAddr> = "",
        /// Address and port for `/internal` alone; the API's own listener has no `/internal` then.
        internal_listen: Option<SocketAddr> = "",
        /// Most connections that one process has at a time on each listener. A connection beyond them is refused at once.
        connections: usize = "10000",
        /// Most connections of one network at a time, this machine and the trusted proxies excepted; 0 for no limit.
        connections_per_network: usize = "1000",
        /// How long a caller may take to send the head of a request, from the start of the connection or from its first byte.
        head_timeout: Span = "10s",
        /// How long a caller may take to send the body of a request.
        body_timeout: Span = "30s",
        /// How long a connection may wait for its next request, and how long an answer may wait for its reader.
        idle_timeout: Span = "75s",
        /// How long a stream lasts; its client connects again then.
        stream_longest: Span = "15m",
        /// Streams that one account or key may follow at a time in one process; 0 for no limit.
        streams_per_caller: usize = "50",
        /// Streams that one network may follow at a time in one process; 0 for no limit.
        streams_per_network: usize = "500",
        /// Largest request body in bytes; uploads have their own limit.
        body_limit: usize = "1048576",
        /// Web origins whose pages may call the API, separated by commas; `*` for all, empty for none.
        cors_origins: List = "",
        /// Networks of our own reverse proxies. Only they are believed when they name in a header who they pass on; empty believes nobody.
        trusted_proxies: Networks = "",
        /// The header in which these proxies name the hop before them. They must add to it, or replace it, in every request.
        forwarded_header: ForwardedHeader = "x-forwarded-for",
        /// How long a stopping API still takes requests while it says that it is not ready, so that a load balancer turns away first.
        notice: Span = "0s",
        /// How long a stopping process may finish what it has begun, after the notice.
        drain: Span = "20s",
        /// Bearer token that `/metrics` asks for. Without one, only this machine is answered, and in production no caller of the API's own listener.
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
        /// Requests a minute of all accounts and keys of one network together; 0 for no limit. A network is an IPv4 address or 64 bits of an IPv6 address.
        network_per_minute: u32 = "12000",
        /// Requests a minute from one address to sign in, to register or to have a link mailed; 0 for no limit.
        sign_in_per_minute: u32 = "30",
    }

    /// Holding places.
    holds: Holds {
        /// Holds that one account may have of one event at a time.
        per_account: u32 = "5",
        /// Holds that one address may have of one event at a time without an account. Many people can share an address.
        per_address: u32 = "50",
    }

    /// Ordering.
    orders: Orders {
        /// How long a buyer has to pay. Stripe's own page stays open for half an hour at the least.
        payment_within: Span = "30m",
        /// How long an order waits for a bank transfer, or for cash.
        manual_payment_within: Span = "7d",
    }

    /// Signing in.
    auth: Auth {
        /// Keys that sign access tokens, `name:secret` separated by commas, each secret of at least 32 characters. The first signs, all verify: put a new one in front, and take the old one away when its tokens have expired. Must be given in production.
        token_keys: TokenKeys = "",
        /// Keys that encrypt what the database keeps of secrets (secrets of orders, codes of tickets, links in mails), `name:secret` separated by commas, each secret of at least 32 random characters. The first encrypts, all decrypt: put a new one in front, and keep the old ones. Must be given in production, and kept apart from backups of the database.
        encryption_keys: TokenKeys = "",
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
        /// The same for platform administrators and owners of organizations. Their access tokens are good for no longer either.
        admin_session_idle: Span = "30m",
        /// A session of theirs is over after this long.
        admin_session_longest: Span = "12h",
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
        /// Passwords hashed at a time by one process; 0 for half of its cores, at least one, which leaves the rest for everything else.
        hashes_at_once: usize = "0",
        /// Passwords that may wait to be hashed before more are answered UNAVAILABLE.
        hashes_waiting: usize = "256",
    }

    /// The job engine.
    jobs: Jobs {
        /// Purchases that a worker runs at the same time. What ends at the same time is written together.
        concurrency: usize = "128",
        /// Mails, and jobs in the background, that it runs at the same time, of each. Few, so that purchases come first.
        concurrency_beside: usize = "16",
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

    /// Stripe, which takes the money.
    stripe: Stripe {
        /// Secret key, `sk_…` or, better, a restricted one, `rk_…`; empty lets nobody pay by card.
        secret_key: Option<StripeKey> = "",
        /// Let production start with a key of Stripe's test mode, for a rehearsal: no money moves.
        allow_test_keys: bool = "false",
        /// Where Stripe's API is. Production needs https.
        url: Url = "https://api.stripe.com",
        /// Secrets that sign what Stripe sends to `/api/v1/webhooks/stripe`, `whsec_…` separated by commas. Any of them will do, so that one can be changed without a gap.
        webhook_secrets: Secrets = "",
        /// How old what Stripe sends may be. Longer gives whoever has recorded it more time to repeat it.
        webhook_tolerance: Span = "5m",
        /// How long one attempt to reach Stripe may take.
        timeout: Span = "10s",
        /// Attempts at one call, with growing pauses between them, before its job is put off.
        attempts: u32 = "4",
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
