//! `holdfast with-services -- CMD`: runs a command beside a Postgres and a Redis of its own, which end with it.

use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::migrations;
use crate::services::{HOME, Promise, Services};
use crate::settings;
use crate::signals::StopRequests;

/// How long the command may take to end after a request to stop.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(clap::Args)]
pub struct WithServices {
    /// Force every commit to disk, as in production. For measurements.
    #[arg(long)]
    durable: bool,
    /// Run the migrations of the project's folder first. Never uses servers that the environment gives.
    #[arg(long)]
    migrated: bool,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// The exit code is the command's own, whatever becomes of the servers.
pub async fn with_services(options: WithServices) -> anyhow::Result<ExitCode> {
    let mut requests = StopRequests::listen()?;
    let mut services = Services::throwaway(Path::new(HOME)).await?;
    let outcome = beside(&mut services, &options, &mut requests).await;
    let removed = services.remove().await;
    let status = outcome?;
    removed?;
    Ok(exit_code(status))
}

async fn beside(
    services: &mut Services,
    options: &WithServices,
    requests: &mut StopRequests,
) -> anyhow::Result<ExitStatus> {
    let addresses = start(services, options).await?;
    if options.migrated {
        let [(_, database), _] = &addresses;
        migrations::run(database)
            .await
            .context("the migrations do not run")?;
    }
    let child = Group::spawn(&options.command, &addresses)?;
    child.wait(requests).await
}

/// Starts what the environment does not already give, and tells both addresses.
async fn start(
    services: &mut Services,
    options: &WithServices,
) -> anyhow::Result<[(&'static str, String); 2]> {
    let given = settings::env();
    let given = |name: &str| given.get(name).filter(|_| !options.migrated).cloned();
    let promise = if options.durable {
        Promise::Durable
    } else {
        Promise::Fast
    };
    let (database, about_postgres) = if let Some(url) = given("DATABASE_URL") {
        (url, "the Postgres that DATABASE_URL gives".to_owned())
    } else {
        let postgres = services.start_postgres(promise).await?;
        (postgres.url(), postgres.describe())
    };
    let (redis, about_redis) = if let Some(url) = given("REDIS_URL") {
        (url, "the Redis that REDIS_URL gives".to_owned())
    } else {
        let redis = services.start_redis(promise).await?;
        (redis.url(), redis.describe())
    };
    eprintln!("holdfast: {about_postgres}, {about_redis}");
    Ok([("DATABASE_URL", database), ("REDIS_URL", redis)])
}

/// The command with all that it starts in turn, so that a request to stop reaches the whole of it.
struct Group {
    child: Child,
    /// In a terminal the command stays in our own process group: it may read from the keyboard, and Ctrl-C reaches
    /// it without us.
    shares_terminal: bool,
}

impl Group {
    fn spawn(command: &[String], env: &[(&str, String)]) -> anyhow::Result<Self> {
        let shares_terminal = std::io::stdin().is_terminal();
        let mut process = Command::new(&command[0]);
        process
            .args(&command[1..])
            .envs(env.iter().map(|(name, value)| (name, value)));
        for name in settings::env()
            .keys()
            .filter(|name| is_about_our_build(name))
        {
            process.env_remove(name);
        }
        if !shares_terminal {
            process.process_group(0);
        }
        let child = process
            .spawn()
            .with_context(|| format!("`{}` cannot be run", command[0]))?;
        Ok(Self {
            child,
            shares_terminal,
        })
    }

    /// Waits for its end, and passes requests to stop on to it.
    async fn wait(mut self, requests: &mut StopRequests) -> anyhow::Result<ExitStatus> {
        let signal = tokio::select! {
            status = self.child.wait() => return Ok(status?),
            signal = requests.next() => signal,
        };
        if !(self.shares_terminal && signal == Signal::INT) {
            self.signal(signal);
        }
        if let Ok(status) = timeout(PATIENCE, self.child.wait()).await {
            return Ok(status?);
        }
        eprintln!("holdfast: the command did not stop within {PATIENCE:?} and is killed");
        self.signal(Signal::KILL);
        Ok(self.child.wait().await?)
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
        else {
            return;
        };
        let _ended_meanwhile = if self.shares_terminal {
            rustix::process::kill_process(pid, signal)
        } else {
            rustix::process::kill_process_group(pid, signal)
        };
    }
}

/// What `cargo run` tells a program about its own package. A cargo below us would take it for a change, and compile
/// everything anew that looks at these, such as `ring` with all that needs it: minutes, each time.
fn is_about_our_build(variable: &str) -> bool {
    const ONES: [&str; 2] = ["CARGO_BIN_NAME", "CARGO_PRIMARY_PACKAGE"];
    const KINDS: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];
    ONES.contains(&variable) || KINDS.iter().any(|kind| variable.starts_with(kind))
}

/// A command that a signal ended counts as 128 and the signal's number, as in a shell.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cargo_below_us_does_not_hear_of_our_package_and_keeps_its_own_settings() {
        for variable in [
            "CARGO_PKG_NAME",
            "CARGO_PKG_VERSION_MAJOR",
            "CARGO_MANIFEST_DIR",
            "CARGO_MANIFEST_PATH",
        ] {
            assert!(is_about_our_build(variable), "{variable}");
        }
        for variable in [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_TERM_COLOR",
            "SQLX_OFFLINE",
            "PATH",
        ] {
            assert!(!is_about_our_build(variable), "{variable}");
        }
    }

    #[test]
    fn a_signal_counts_as_in_a_shell() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), ExitCode::from(7));
        assert_eq!(exit_code(ExitStatus::from_raw(15)), ExitCode::from(143));
    }
}
