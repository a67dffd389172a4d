//! A server process that is ours: started with its log in a file, awaited until it answers, stopped by its own id.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// How long a server may take until it answers. Recovery after a crash is part of it.
const START: Duration = Duration::from_mins(1);
/// How long a server may take to end when it was asked to.
const STOP: Duration = Duration::from_secs(30);
/// How often a port is tried again that somebody took between our choice and the server's start.
pub const PORT_ATTEMPTS: u32 = 10;

pub struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// Why a server did not start.
pub enum NotStarted {
    /// Something passing is in the way; another attempt, on another port, may go better.
    InTheWay(anyhow::Error),
    Broken(anyhow::Error),
}

impl NotStarted {
    #[must_use]
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Self::InTheWay(error) | Self::Broken(error) => error,
        }
    }
}

impl Server {
    /// Starts a server. It gets a process group of its own: a Ctrl-C in the terminal is for us alone, so that we
    /// stop things in their order.
    pub fn spawn(name: &'static str, command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let output =
            File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name, child, log })
    }

    /// Waits until `answers` says yes, the server ends, or its time is up.
    pub async fn ready(
        &mut self,
        mut answers: impl AsyncFnMut() -> anyhow::Result<()>,
    ) -> Result<(), NotStarted> {
        let deadline = Instant::now() + START;
        loop {
            let Err(reason) = answers().await else {
                return Ok(());
            };
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.ended(status));
            }
            if Instant::now() > deadline {
                let name = self.name;
                let error = anyhow!(
                    "{name} does not answer after {START:?}: {reason:#}\n{}",
                    self.log_tail()
                );
                return Err(NotStarted::Broken(error));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn ended(&self, status: ExitStatus) -> NotStarted {
        let tail = self.log_tail();
        let error = anyhow!(
            "{} ended while starting ({status}). Its log ends so:\n{tail}",
            self.name
        );
        let passing = ["Address already in use", "pre-existing shared memory block"];
        if passing.iter().any(|sign| tail.contains(sign)) {
            NotStarted::InTheWay(error)
        } else {
            NotStarted::Broken(error)
        }
    }

    /// Asks the server to end, and makes it end when it does not.
    pub async fn stop(&mut self, signal: Signal) -> anyhow::Result<ExitStatus> {
        self.signal(signal);
        if let Ok(status) = timeout(STOP, self.child.wait()).await {
            return Ok(status?);
        }
        eprintln!(
            "holdfast: {} did not stop within {STOP:?} and is killed",
            self.name
        );
        self.child.kill().await?;
        Ok(self.child.wait().await?)
    }

    fn signal(&self, signal: Signal) {
        // Without an id it has ended already.
        if let Some(pid) = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
        {
            let _ended_meanwhile = rustix::process::kill_process(pid, signal);
        }
    }

    /// Ends only when the server does.
    pub async fn ends(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => anyhow!(
                "{} ended ({status}). Its log ends so:\n{}",
                self.name,
                self.log_tail()
            ),
            Err(error) => error.into(),
        }
    }

    fn log_tail(&self) -> String {
        tail(&self.log, 20)
    }
}

/// Stops a server that is not our child any more, and waits until it is gone.
pub async fn stop_stranger(name: &str, pid: i32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid).context("a process id is never zero")?;
    eprintln!(
        "holdfast: stopping {name} (process {}), left over from a start that was killed",
        pid.as_raw_nonzero()
    );
    let _ended_meanwhile = rustix::process::kill_process(pid, signal);
    let deadline = Instant::now() + STOP;
    while rustix::process::test_kill_process(pid).is_ok() {
        ensure!(
            Instant::now() < deadline,
            "{name} (process {}) does not stop; please end it",
            pid.as_raw_nonzero()
        );
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn tail(log: &Path, lines: usize) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A port that nobody uses at this moment.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_last_lines_of_a_log_and_nothing_of_a_missing_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        assert_eq!(tail(&log, 2), "");
        std::fs::write(&log, "one\ntwo\nthree\n").expect("written");
        assert_eq!(tail(&log, 2), "two\nthree");
        assert_eq!(tail(&log, 9), "one\ntwo\nthree");
    }

    #[tokio::test]
    async fn a_server_that_ends_while_starting_shows_the_end_of_its_log() {
        let folder = tempfile::tempdir().expect("a folder");
        for (says, passing) in [
            ("no room left", false),
            ("bind: Address already in use", true),
        ] {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("echo '{says}'; exit 3"));
            let mut server = Server::spawn("The server", &mut command, folder.path().join("log"))
                .expect("started");
            let not_started = server
                .ready(async || anyhow::bail!("no answer"))
                .await
                .expect_err("it ends");
            assert_eq!(matches!(not_started, NotStarted::InTheWay(_)), passing);
            let message = not_started.into_error().to_string();
            assert!(
                message.contains("The server ended") && message.contains(says),
                "{message}"
            );
        }
    }
}
