//! `holdfast admin create` on real servers.

use std::process::{Command, Output};

use tempfile::TempDir;

const HOLDFAST: &str = env!("CARGO_BIN_EXE_holdfast");

/// Runs commands one after the other beside servers of their own, with the program as `$HOLDFAST`.
fn run(script: &str) -> Output {
    let folder = TempDir::new().expect("a folder");
    let run = Command::new(HOLDFAST)
        .args(["with-services", "--", "sh", "-ec", script])
        .current_dir(folder.path())
        .env_remove("DATABASE_URL")
        .env_remove("REDIS_URL")
        .env("HOLDFAST", HOLDFAST)
        .env("HOLDFAST_GENERAL_MODE", "development")
        .env("HOLDFAST_TELEMETRY_LOG", "off")
        .output();
    run.expect("the binary runs")
}

#[test]
fn a_platform_administrator_is_made_once_and_promoted_afterwards() {
    let output = run(r#"
        "$HOLDFAST" migrate
        "$HOLDFAST" admin create --email Root@Example.org --name "Robin Harbour"
        "$HOLDFAST" admin create --email root@example.org
        echo "correct horse battery" | "$HOLDFAST" admin create --email other@example.org --password-stdin
    "#);
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert!(output.status.success(), "{text}");
    let [made, promoted, other] = lines[..] else {
        panic!("three lines: {text}")
    };
    let (_, password) = made
        .split_once("which is shown only here: ")
        .expect("a password");
    assert_eq!(password.len(), 43, "{password}");
    assert!(promoted.contains("with the password it had"), "{promoted}");
    assert_eq!(other, "other@example.org is a platform administrator.");
}

#[test]
fn a_bad_address_or_password_makes_nobody_an_administrator() {
    let output = run(r#"
        "$HOLDFAST" migrate
        ! "$HOLDFAST" admin create --email nobody
        ! echo "password123" | "$HOLDFAST" admin create --email root@example.org --password-stdin
        ! "$HOLDFAST" admin create --email root@example.org --password-stdin < /dev/null
    "#);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    for reason in [
        "`--email` must be a mail address",
        "commonest passwords",
        "no password came",
    ] {
        assert!(text.contains(reason), "{reason} is not in {text}");
    }
}
