use std::time::Duration;

use super::*;

/// The defaults, for development.
pub(crate) fn development() -> Config {
    Config::read(&source(&[], "")).expect("valid")
}

/// The defaults with these settings, of which later ones win.
pub(crate) fn with_settings(settings: &[(&str, &str)]) -> Config {
    Config::read(&source(settings, "")).expect("valid")
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
            ("HOLDFAST_STRIPE_TIMEOUT", "2m"),
            ("HOLDFAST_STRIPE_ATTEMPTS", "0"),
            ("HOLDFAST_STRIPE_WEBHOOK_TOLERANCE", "0s"),
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
        "STRIPE_TIMEOUT",
        "STRIPE_ATTEMPTS",
        "STRIPE_WEBHOOK_TOLERANCE",
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
fn keys_that_sign_tokens_have_a_name_each_and_a_long_secret() {
    let read = |keys: &str| Config::read(&source(&[("HOLDFAST_AUTH_TOKEN_KEYS", keys)], ""));
    let long = "0123456789abcdef0123456789abcdef";
    let twice = format!("a:{long},a:{long}");
    for bad in ["2026a:short", long, &twice] {
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
fn keys_that_encrypt_secrets_have_a_name_each_and_a_long_secret() {
    let long = "0123456789abcdef0123456789abcdef";
    let read = |keys: &str| {
        let given = [("HOLDFAST_AUTH_ENCRYPTION_KEYS", keys)];
        Config::read(&source(&given, ""))
    };
    for bad in ["2026a:short", long] {
        let message = read(bad).expect_err("invalid").to_string();
        assert!(
            message.contains("HOLDFAST_AUTH_ENCRYPTION_KEYS"),
            "{message}"
        );
        assert!(!message.contains(long), "{message}");
    }
    read(&format!("new:{long}")).expect("valid");
}

#[test]
fn a_key_of_stripe_is_a_secret_one() {
    for bad in ["pk_live_hunter2", "sk_", "sk_live_hunter2 x", "hunter2"] {
        let bad = source(&[("HOLDFAST_STRIPE_SECRET_KEY", bad)], "");
        let message = Config::read(&bad).expect_err("invalid").to_string();
        assert!(message.contains("HOLDFAST_STRIPE_SECRET_KEY"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    let file = "[stripe]\nwebhook_secrets = [\"whsec_hunter2\", \"whsec_new\"]";
    let given = [("HOLDFAST_STRIPE_SECRET_KEY", "rk_live_hunter2")];
    let config = Config::read(&source(&given, file)).expect("valid");
    assert!(
        config
            .stripe
            .secret_key
            .as_ref()
            .is_some_and(StripeKey::is_live)
    );
    assert_eq!(config.stripe.webhook_secrets.0.len(), 2);
    assert!(!format!("{config:?}").contains("hunter2"));
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

/// A call that takes longer than an ended order is waited for could charge for what is not sold any more.
#[test]
fn a_call_to_stripe_ends_within_the_time_that_is_waited_for_it() {
    let settings = |timeout, attempts| {
        [
            ("HOLDFAST_STRIPE_TIMEOUT", timeout),
            ("HOLDFAST_STRIPE_ATTEMPTS", attempts),
        ]
    };
    for (timeout, attempts) in [("10s", "4"), ("25s", "4"), ("7s", "10")] {
        Config::read(&source(&settings(timeout, attempts), "")).expect("in time");
    }
    for (timeout, attempts) in [("27s", "4"), ("8s", "10"), ("1m", "2")] {
        let bad = Config::read(&source(&settings(timeout, attempts), "")).expect_err("too long");
        let told = bad
            .0
            .iter()
            .any(|it| it.starts_with("HOLDFAST_STRIPE_ATTEMPTS"));
        assert!(told, "{timeout} {attempts}: {:?}", bad.0);
    }
}
