//! What no value can say by itself: bounds, and what has to fit together.

use std::str::FromStr as _;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{BadConfig, Config, Database, Http, Redis, Span, Stripe};

impl Config {
    /// What no setting can say by itself.
    pub(super) fn fits_together(self) -> Result<Self, BadConfig> {
        let problems = self.out_of_bounds();
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
            (
                self.jobs.concurrency_beside == 0,
                "jobs",
                "concurrency_beside",
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
                nothing(self.stripe.timeout) || self.stripe.timeout.0 > LONGEST_CALL,
                "stripe",
                "timeout",
                "more than nothing and at most 1m",
            ),
            (
                self.stripe.longest_call() >= PAYMENT_GRACE,
                "stripe",
                "attempts",
                "so few that all of them, each as long as HOLDFAST_STRIPE_TIMEOUT, and the pauses between them take less than 2m",
            ),
            (
                !(1..=10).contains(&self.stripe.attempts),
                "stripe",
                "attempts",
                "1 to 10",
            ),
            (
                nothing(self.stripe.webhook_tolerance)
                    || self.stripe.webhook_tolerance.0 > LONGEST_TOLERANCE,
                "stripe",
                "webhook_tolerance",
                "more than nothing and at most 1h",
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
        let checks = checks.into_iter().chain(self.http.checks());
        let bad = checks.filter(|(bad, ..)| *bad);
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

/// After the deadline of an order, so long is waited for calls to Stripe that were under way. A call that could take longer might
/// charge an order that has ended.
pub(crate) const PAYMENT_GRACE: Duration = Duration::from_mins(2);

impl Stripe {
    /// With all attempts and the pauses between them.
    fn longest_call(&self) -> Duration {
        let pauses = stripe_api::LONGEST_PAUSE * self.attempts.saturating_sub(1);
        self.timeout.0.saturating_mul(self.attempts) + pauses
    }
}

/// Whether a setting is bad, its section and key, and what is expected.
type Check = (bool, &'static str, &'static str, &'static str);

impl Http {
    fn checks(&self) -> [Check; 5] {
        let time = |span: Span, key| (span.0.is_zero(), "http", key, "more than nothing");
        [
            (self.connections == 0, "http", "connections", "at least 1"),
            time(self.head_timeout, "head_timeout"),
            time(self.body_timeout, "body_timeout"),
            time(self.idle_timeout, "idle_timeout"),
            time(self.stream_longest, "stream_longest"),
        ]
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

/// A job holds its slot meanwhile.
const LONGEST_CALL: Duration = Duration::from_mins(1);
/// Stripe itself recommends five minutes.
const LONGEST_TOLERANCE: Duration = Duration::from_hours(1);

/// Longer than anything is meant to last, and short enough for every calendar.
const LONGEST: Duration = Duration::from_hours(3_653 * 24);
