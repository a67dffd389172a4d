//! `docker-compose.yml` and `dev.env`, read as Compose would read them: who has which secret, and what runs where.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_yaml::Value;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands in a file of settings for Compose.
fn development() -> BTreeMap<String, String> {
    let text = file("dev.env");
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let pairs = lines.map(|line| line.split_once('=').expect("NAME=value"));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Every `${NAME…}` of a text: its name and what stands behind that.
fn variables(text: &str) -> Vec<(String, String)> {
    let parts = text.split("${").skip(1);
    let inside = parts.map(|part| part.split_once('}').expect("it ends").0);
    inside
        .map(|inside| {
            let end = inside.find([':', '?', '-', '+']).unwrap_or(inside.len());
            (inside[..end].to_owned(), inside[end..].to_owned())
        })
        .collect()
}

/// As Compose puts the values in; a required variable that is missing is an error with its name.
fn interpolated(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let mut done = text.to_owned();
    for (name, rest) in variables(text) {
        let given = values.get(&name).filter(|value| !value.is_empty());
        let value = match (given, rest.strip_prefix(":-")) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => default.to_owned(),
            (None, None) => return Err(name),
        };
        done = done.replace(&format!("${{{name}{rest}}}"), &value);
    }
    Ok(done)
}

/// The file without its comments, which name variables as well.
fn compose() -> String {
    let text = file("docker-compose.yml");
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

fn services(text: &str) -> BTreeMap<String, Value> {
    let mut whole: Value = serde_yaml::from_str(text).expect("YAML");
    whole.apply_merge().expect("its anchors fit");
    serde_yaml::from_value(whole["services"].clone()).expect("services by name")
}

fn text(value: &Value) -> String {
    serde_yaml::to_string(value).expect("YAML")
}

#[test]
fn every_secret_must_be_given_and_development_gives_them_all() {
    let compose = compose();
    let secret = |name: &str| {
        ["PASSWORD", "SECRET", "KEYS"]
            .iter()
            .any(|part| name.contains(part))
    };
    let mut secrets: Vec<_> = variables(&compose);
    secrets.retain(|(name, _)| secret(name));
    assert!(secrets.len() >= 8, "{secrets:?}");
    for (name, rest) in &secrets {
        assert!(rest.starts_with(":?"), "${{{name}{rest}}} has a default");
        let mut without = development();
        without.remove(name);
        assert_eq!(interpolated(&compose, &without), Err(name.clone()));
    }
    interpolated(&compose, &development()).expect("development needs nothing else");
}

#[test]
fn the_sandbox_is_for_development_alone_and_every_service_has_limits() {
    let services = services(&interpolated(&compose(), &development()).expect("complete"));
    for (name, service) in &services {
        let profiles = &service["profiles"];
        match name.as_str() {
            "sandbox" => assert_eq!(profiles[0], "dev"),
            "seed" => assert_eq!(profiles[0], "demo"),
            _ => assert!(profiles.is_null(), "{name} {profiles:?}"),
        }
        for limit in ["mem_limit", "cpus", "pids_limit"] {
            assert!(!service[limit].is_null(), "{name} has no {limit}");
        }
        let needs_sandbox = text(&service["depends_on"]).contains("sandbox");
        assert!(!needs_sandbox, "{name} cannot start without the sandbox");
    }
    assert!(services.contains_key("api") && services.contains_key("worker"));
}

#[test]
fn each_role_of_the_database_is_known_to_those_who_need_it() {
    let services = services(&compose());
    for (name, service) in &services {
        let all = text(service);
        let known = [
            ("HOLDFAST_POSTGRES_PASSWORD", &["postgres"][..]),
            ("HOLDFAST_DB_OWNER_PASSWORD", &["migrate", "postgres"]),
            (
                "HOLDFAST_DB_PASSWORD",
                &["api", "postgres", "seed", "worker"],
            ),
            ("HOLDFAST_STRIPE_SECRET_KEY", &["api", "seed", "worker"]),
        ];
        for (secret, who) in known {
            let told = all.contains(&format!("${{{secret}:?"));
            assert_eq!(told, who.contains(&name.as_str()), "{name} and {secret}");
        }
    }
    let user = |name: &str| {
        let url = services[name]["environment"]["DATABASE_URL"].as_str();
        let url = url.expect("an address");
        let (user, _) = url["postgres://".len()..].split_once(':').expect("a user");
        user.to_owned()
    };
    assert_eq!(user("migrate"), "holdfast_owner");
    assert_eq!(
        (user("api"), user("worker")),
        ("holdfast_app".into(), "holdfast_app".into())
    );
}

#[test]
fn production_does_not_start_with_the_settings_of_development() {
    let services = services(&interpolated(&compose(), &development()).expect("complete"));
    // What is left empty is nothing to YAML and an empty text to Compose, which puts values in after reading.
    let settings: BTreeMap<String, Option<String>> =
        serde_yaml::from_value(services["api"]["environment"].clone()).expect("text by name");
    let settings = settings
        .into_iter()
        .map(|(name, value)| (name, value.unwrap_or_default()));
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_holdfast"), "worker"])
        .env_clear()
        .envs(settings)
        .env("HOLDFAST_GENERAL_MODE", "production")
        .env("HOLDFAST_HTTP_WORKER_LISTEN", "127.0.0.1:0")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output();
    let output = output.expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for name in [
        "DATABASE_URL",
        "REDIS_URL",
        "HOLDFAST_AUTH_TOKEN_KEYS",
        "HOLDFAST_AUTH_ENCRYPTION_KEYS",
        "HOLDFAST_MAIL_SMTP_URL",
        "HOLDFAST_STRIPE_URL",
        "HOLDFAST_STRIPE_SECRET_KEY",
        "HOLDFAST_STRIPE_WEBHOOK_SECRETS",
    ] {
        assert!(said.contains(&format!("- {name}")), "{name}: {said}");
    }
}
