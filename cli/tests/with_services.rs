//! `holdfast with-services` on real servers: whatever happens to it, nothing of them is left.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_mins(1);

/// A run in a folder of its own, beside no servers but its own.
struct Run {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Run {
    fn start(folder: &Path, command: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .args(["with-services", "--"])
            .args(command)
            .current_dir(folder)
            .env_remove("DATABASE_URL")
            .env_remove("REDIS_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, output }
    }

    /// Waits for the addresses that the command prints first, and gives their ports.
    fn ports(&mut self) -> [u16; 2] {
        [(); 2].map(|()| {
            let mut line = String::new();
            self.output
                .read_line(&mut line)
                .expect("the command prints");
            let after_host = line.rsplit(':').next().expect("an address");
            let port = after_host.split('/').next().expect("a port");
            port.parse()
                .unwrap_or_else(|_| panic!("no port in {line:?}"))
        })
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn code(mut self) -> Option<i32> {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("text");
        self.child.wait().expect("it ends").code()
    }
}

const PRINT_ADDRESSES: &str = "echo $DATABASE_URL; echo $REDIS_URL";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[track_caller]
fn assert_nothing_is_left(folder: &Path, ports: [u16; 2]) {
    let left: Vec<_> = std::fs::read_dir(folder.join(".holdfast"))
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").file_name())
        .filter(|name| name != "gate")
        .collect();
    assert!(left.is_empty(), "left over: {left:?}");
    for port in ports {
        assert!(!listens(port), "something still listens on port {port}");
    }
}

#[test]
fn the_command_has_both_servers_and_its_exit_code_is_passed_on() {
    let folder = folder();
    let mut run = Run::start(
        folder.path(),
        &["sh", "-c", &format!("{PRINT_ADDRESSES}; read wait; exit 7")],
    );
    let ports = run.ports();
    assert_eq!(run.code(), Some(7));
    assert_nothing_is_left(folder.path(), ports);
}

#[test]
fn a_command_that_does_not_exist_is_named() {
    let folder = folder();
    let run = Run::start(folder.path(), &["no-such-program-anywhere"]);
    assert_eq!(run.code(), Some(1));
    assert_nothing_is_left(folder.path(), [0, 0]);
}

#[test]
fn a_request_to_stop_reaches_the_command_and_the_servers_go_with_it() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let folder = folder();
        let mut run = Run::start(
            folder.path(),
            &["sh", "-c", &format!("{PRINT_ADDRESSES}; sleep 600")],
        );
        let ports = run.ports();
        assert!(
            ports.into_iter().all(listens),
            "the servers run while the command does"
        );
        run.signal(signal);
        assert_eq!(run.code(), Some(code));
        assert_nothing_is_left(folder.path(), ports);
    }
}

#[test]
fn what_a_killed_run_left_behind_is_cleared_away_by_the_next_one() {
    let folder = folder();
    // Ends when it is told to, so that it does not outlive the test.
    let wait = format!("{PRINT_ADDRESSES}; while [ ! -e done ]; do sleep 0.1; done");
    let mut killed = Run::start(folder.path(), &["sh", "-c", &wait]);
    let ports = killed.ports();
    killed.signal(Signal::KILL);
    killed.child.wait().expect("it ends");
    assert!(
        ports.into_iter().all(listens),
        "a kill leaves the servers running"
    );
    std::fs::write(folder.path().join("done"), "").expect("written");

    let next = Run::start(folder.path(), &["true"]);
    assert_eq!(next.code(), Some(0));
    let deadline = Instant::now() + PATIENCE;
    while ports.into_iter().any(listens) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_nothing_is_left(folder.path(), ports);
}

#[test]
fn two_runs_in_one_folder_do_not_disturb_each_other() {
    let folder = folder();
    let wait = format!("{PRINT_ADDRESSES}; while [ ! -e done ]; do sleep 0.1; done");
    let mut first = Run::start(folder.path(), &["sh", "-c", &wait]);
    let ports = first.ports();
    let second = Run::start(folder.path(), &["true"]);
    assert_eq!(second.code(), Some(0));
    assert!(
        ports.into_iter().all(listens),
        "the first run keeps its servers"
    );
    std::fs::write(folder.path().join("done"), "").expect("written");
    assert_eq!(first.code(), Some(0));
    assert_nothing_is_left(folder.path(), ports);
}
