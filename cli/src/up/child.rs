//! A process of this same binary that is kept running, its log prefixed by its name.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The first pause before a restart; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A process that ran for this long was fine: the pauses begin anew.
const FINE: Duration = Duration::from_mins(1);

/// What to run, and how its lines are marked.
pub struct Role {
    pub name: &'static str,
    /// An ANSI colour of its own.
    pub colour: u8,
    pub env: BTreeMap<String, String>,
    /// How long it may take to stop.
    pub patience: Duration,
}

/// Keeps the role running until `stop`, then lets it finish; `hurry` ends the waiting.
pub async fn keep_running(role: Role, stop: CancellationToken, hurry: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let started = Instant::now();
        match spawn(&role) {
            // The pipe is held out of `child`, whose `wait` would close it.
            Ok((mut child, _pipe)) => {
                tokio::select! {
                    status = child.wait() => role.say(&ended(status)),
                    () = stop.cancelled() => return finish(&role, child, &hurry).await,
                }
            }
            Err(error) => role.say(&format!("!!! cannot be started: {error:#}")),
        }
        if started.elapsed() > FINE {
            pause = FIRST_PAUSE;
        }
        role.say(&format!("!!! starting again in {pause:?}"));
        tokio::select! {
            () = sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
            () = stop.cancelled() => {}
        }
    }
}

fn ended(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("!!! ended unexpectedly ({status})"),
        Err(error) => format!("!!! cannot be watched: {error}"),
    }
}

fn spawn(role: &Role) -> anyhow::Result<(Child, Option<ChildStdin>)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([role.name, "--until-stdin-closes"])
        .envs(&role.env)
        // Closed by the system when we are gone, however that happens: the child then stops by itself.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C in the terminal is for us alone, so that we stop things in their order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    tokio::spawn(forward(
        role.mark(),
        child.stdout.take().context("its output is piped")?,
    ));
    tokio::spawn(forward(
        role.mark(),
        child.stderr.take().context("its output is piped")?,
    ));
    let pipe = child.stdin.take();
    Ok((child, pipe))
}

async fn finish(role: &Role, mut child: Child, hurry: &CancellationToken) {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        let _ended_meanwhile = rustix::process::kill_process(pid, Signal::TERM);
    }
    let ended = tokio::select! {
        ended = timeout(role.patience, child.wait()) => ended.is_ok(),
        () = hurry.cancelled() => false,
    };
    if !ended {
        role.say("!!! did not stop in time and is killed");
        let _ended_meanwhile = child.kill().await;
    }
}

impl Role {
    fn mark(&self) -> String {
        mark(
            self.name,
            std::io::stdout().is_terminal().then_some(self.colour),
        )
    }

    fn say(&self, line: &str) {
        print(&self.mark(), line.as_bytes());
    }
}

/// What stands before each line of a process. All names are of one width, so that the lines stay aligned.
fn mark(name: &str, colour: Option<u8>) -> String {
    match colour {
        Some(colour) => format!("\x1b[{colour}m{name:<6} |\x1b[0m "),
        None => format!("{name:<6} | "),
    }
}

async fn forward(mark: String, output: impl AsyncRead + Unpin) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    // Bytes, not text: a line that is no UTF-8 must not end the forwarding.
    while output
        .read_until(b'\n', &mut line)
        .await
        .is_ok_and(|read| read > 0)
    {
        print(&mark, line.trim_ascii_end());
        line.clear();
    }
}

/// One write per line, so that the lines of two processes do not mix.
fn print(mark: &str, line: &[u8]) {
    let whole = [mark.as_bytes(), line, b"\n"].concat();
    // Nobody reads any more; that is no reason to fall over.
    let _nobody_reads = std::io::stdout().write_all(&whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_of_one_width_and_coloured_for_a_terminal_alone() {
        assert_eq!(mark("api", None), "api    | ");
        assert_eq!(mark("worker", None), "worker | ");
        assert_eq!(mark("api", Some(36)), "\x1b[36mapi    |\x1b[0m ");
    }
}
