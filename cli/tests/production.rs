//! What production does not start with, asked of the program itself.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

const HOLDFAST: &str = env!("CARGO_BIN_EXE_holdfast");
const PATIENCE: Duration = Duration::from_mins(1);

/// Everything as it should be. Nothing answers there, and a process starts all the same.
const GOOD: [(&str, &str); 11] = [
    ("HOLDFAST_GENERAL_MODE", "production"),
    (
        "DATABASE_URL",
        "postgres://app:k7Qd2vXw9mZr@127.0.0.1:1/app",
    ),
    ("REDIS_URL", "redis://127.0.0.1:1"),
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
    ("HOLDFAST_HTTP_LISTEN", "127.0.0.1:0"),
    ("HOLDFAST_HTTP_WORKER_LISTEN", "127.0.0.1:0"),
    ("HOLDFAST_TELEMETRY_LOG", "info"),
];

/// What each cause is named by, and the settings that make it.
const BAD: [(&str, &[(&str, &str)]); 8] = [
    (
        "HOLDFAST_STRIPE_WEBHOOK_SECRETS",
        &[("HOLDFAST_STRIPE_WEBHOOK_SECRETS", "whsec_sandbox")],
    ),
    (
        "HOLDFAST_STRIPE_SECRET_KEY",
        &[("HOLDFAST_STRIPE_SECRET_KEY", "sk_test_sandbox")],
    ),
    (
        "HOLDFAST_STRIPE_URL",
        &[("HOLDFAST_STRIPE_URL", "http://127.0.0.1:12111")],
    ),
    (
        "HOLDFAST_AUTH_TOKEN_KEYS",
        &[(
            "HOLDFAST_AUTH_TOKEN_KEYS",
            "a:holdfast-development-key-that-everybody-knows",
        )],
    ),
    (
        "HOLDFAST_AUTH_ENCRYPTION_KEYS",
        &[("HOLDFAST_AUTH_ENCRYPTION_KEYS", "")],
    ),
    (
        "HOLDFAST_MAIL_SMTP_URL",
        &[("HOLDFAST_MAIL_SMTP_URL", "smtp://127.0.0.1:1025?tls=none")],
    ),
    (
        "DATABASE_URL",
        &[(
            "DATABASE_URL",
            "postgres://holdfast:development-only@127.0.0.1:1/holdfast",
        )],
    ),
    ("REDIS_URL", &[("REDIS_URL", "redis://redis.invalid:6379")]),
];

fn holdfast(command: &str, settings: &[(&str, &str)]) -> Command {
    let mut process = Command::new(HOLDFAST);
    process
        .arg(command)
        .env_clear()
        .envs(GOOD)
        .envs(settings.iter().copied())
        .stdin(Stdio::null());
    process
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr]
        .map(String::from_utf8_lossy)
        .concat()
}

/// Fails as a command does that does not start; says why.
#[track_caller]
fn refused(command: &str, settings: &[(&str, &str)]) -> String {
    let folder = TempDir::new().expect("a folder");
    let output = holdfast(command, settings)
        .current_dir(folder.path())
        .output();
    let output = output.expect("the binary runs");
    let said = text(&output);
    assert!(!output.status.success(), "{command} {settings:?}: {said}");
    said
}

/// Runs until it is stopped, since it has begun to listen.
fn starts(settings: &[(&str, &str)]) {
    let folder = TempDir::new().expect("a folder");
    let mut child = holdfast("api", settings)
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let log = BufReader::new(child.stderr.take().expect("piped"));
    let (tell, told) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        let lines: Vec<String> = log
            .lines()
            .map_while(Result::ok)
            .inspect(|line| {
                if line.contains("listening") {
                    let _nobody_waits_any_more = tell.send(());
                }
            })
            .collect();
        lines.join("\n")
    });
    let listens = told.recv_timeout(PATIENCE);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let said = reading.join().expect("read");
    assert!(listens.is_ok(), "{settings:?}: {said}");
}

#[test]
fn production_starts_when_nothing_is_wrong() {
    starts(&[]);
}

#[test]
fn each_thing_that_everybody_knows_keeps_production_from_starting() {
    for (name, settings) in BAD {
        let said = refused("api", settings);
        assert!(said.contains("production does not start"), "{said}");
        assert!(said.contains(name), "{name} is not named: {said}");
        for (other, _) in BAD.iter().filter(|(other, _)| *other != name) {
            assert!(!said.contains(&format!("- {other}")), "{other}: {said}");
        }
    }
    let missing = refused("api", &[("HOLDFAST_AUTH_TOKEN_KEYS", "")]);
    assert!(missing.contains("HOLDFAST_AUTH_TOKEN_KEYS"), "{missing}");
}

#[test]
fn all_causes_are_named_at_once_by_whatever_talks_with_stripe_and_by_the_doctor() {
    let all: Vec<_> = BAD
        .iter()
        .flat_map(|(_, bad)| bad.iter().copied())
        .collect();
    for command in ["api", "worker", "reconcile", "audit", "doctor"] {
        let said = refused(command, &all);
        for (name, _) in BAD {
            assert!(
                said.contains(name),
                "{command} does not name {name}: {said}"
            );
        }
        for secret in ["development-only", "whsec_sandbox", "everybody-knows"] {
            assert!(!said.contains(secret), "{command}: {said}");
        }
    }
    let development = [&all[..], &[("HOLDFAST_GENERAL_MODE", "development")]].concat();
    starts(&development);
}

#[test]
fn a_key_for_tests_starts_where_it_is_allowed() {
    for key in ["sk_test_51Habcdef", "rk_test_51Habcdef"] {
        let key = ("HOLDFAST_STRIPE_SECRET_KEY", key);
        let said = refused("worker", &[key]);
        assert!(said.contains("HOLDFAST_STRIPE_ALLOW_TEST_KEYS"), "{said}");
        starts(&[key, ("HOLDFAST_STRIPE_ALLOW_TEST_KEYS", "true")]);
    }
}

/// Runs commands one after the other beside servers of their own, with the program as `$HOLDFAST`.
fn beside_servers(script: &str) -> Output {
    let folder = TempDir::new().expect("a folder");
    let run = Command::new(HOLDFAST)
        .args(["with-services", "--", "sh", "-ec", script])
        .current_dir(folder.path())
        .env_remove("DATABASE_URL")
        .env_remove("REDIS_URL")
        .envs(
            GOOD.iter()
                .filter(|(name, _)| !name.ends_with("_URL") || name.contains("MAIL"))
                .copied(),
        )
        .env("HOLDFAST", HOLDFAST)
        .output();
    run.expect("the binary runs")
}

/// Tries everything that a database from development brings along, and then without it.
const DEMO_DATA: &str = r#"
    "$HOLDFAST" migrate
    HOLDFAST_GENERAL_MODE=development "$HOLDFAST" seed
    for command in "api" "worker" "doctor"; do
        if timeout 60 "$HOLDFAST" $command; then echo "$command starts"; exit 1; fi
    done
    HOLDFAST_GENERAL_MODE=production HOLDFAST_STRIPE_WEBHOOK_SECRETS=whsec_sandbox timeout 60 "$HOLDFAST" api || echo "both"
"#;

#[test]
fn demo_data_keeps_production_from_starting_and_is_named_with_the_rest() {
    let output = beside_servers(DEMO_DATA);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let told = [
        "the database has demo accounts with the demo password: admin@holdfast.example, \
         organizer@holdfast.example, attendee1@holdfast.example",
        "the demo account admin@holdfast.example is a platform administrator",
        "the database has the demo API key",
    ];
    for obstacle in told {
        assert_eq!(said.matches(obstacle).count(), 4, "{obstacle}: {said}");
    }
    assert!(said.contains("HOLDFAST_STRIPE_WEBHOOK_SECRETS"), "{said}");
    assert!(!said.contains("demo-lighthouse"), "{said}");
}

/// Passes on what comes to an address, from now on.
fn pass_on(from: SocketAddr, to: SocketAddr) {
    let listener = TcpListener::bind(from).expect("nothing listens there yet");
    std::thread::spawn(move || {
        for caller in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(to).expect("the server is there");
            for (mut reader, mut writer) in [
                (
                    caller.try_clone().expect("a handle"),
                    server.try_clone().expect("a handle"),
                ),
                (server, caller),
            ] {
                std::thread::spawn(move || {
                    let _either_hung_up = std::io::copy(&mut reader, &mut writer);
                });
            }
        }
    });
}

#[test]
fn a_process_ends_that_finds_demo_data_when_the_database_is_back() {
    let folder = TempDir::new().expect("a folder");
    let mut servers = Command::new(HOLDFAST)
        .args([
            "with-services",
            "--",
            "sh",
            "-c",
            "echo $DATABASE_URL; echo $REDIS_URL; cat",
        ])
        .current_dir(folder.path())
        .env_remove("DATABASE_URL")
        .env_remove("REDIS_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let told = BufReader::new(servers.stdout.take().expect("piped"));
    let mut told = told.lines().map_while(Result::ok);
    let [url, redis] = [(); 2].map(|()| told.next().expect("an address"));
    for command in ["migrate", "seed"] {
        let settings = [
            ("DATABASE_URL", url.as_str()),
            ("REDIS_URL", redis.as_str()),
            ("HOLDFAST_GENERAL_MODE", "development"),
        ];
        let done = holdfast(command, &settings)
            .current_dir(folder.path())
            .output();
        let done = done.expect("the binary runs");
        assert!(done.status.success(), "{command}: {}", text(&done));
    }

    let port = url
        .rsplit(':')
        .next()
        .and_then(|rest| rest.split('/').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("a port");
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let away = free.local_addr().expect("an address");
    drop(free);
    let by_way = url.replace(&format!(":{port}/"), &format!(":{}/", away.port()));
    let child = holdfast("api", &[("DATABASE_URL", &by_way)])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("the binary runs");
    let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut said = Vec::new();
    // It has started without a database, and ends by itself once that can be looked at.
    for line in log.by_ref().map_while(Result::ok) {
        if line.contains("listening") && !line.contains("stopped") {
            pass_on(away, ([127, 0, 0, 1], port).into());
        }
        said.push(line);
    }
    let ended = child.wait().expect("it ends");
    drop(servers.stdin.take());
    servers.wait().expect("the servers end");
    let said = said.join("\n");
    assert!(!ended.success(), "{said}");
    assert!(said.contains("the database has the demo API key"), "{said}");
}
