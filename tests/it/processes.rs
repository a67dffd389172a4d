//! The product in processes of their own, to be killed.

use std::process::Stdio;

use tests::World;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// An API, and where it listens.
pub async fn api(world: &World) -> (Child, String) {
    started("api", &world.settings()).await
}

/// A worker with all handlers, whose death is noticed after a second.
pub async fn worker(world: &World) -> Child {
    let mut settings: serde_json::Value =
        serde_json::from_str(&world.settings()).expect("settings");
    settings["HOLDFAST_JOBS_HEARTBEAT"] = "200ms".into();
    started("worker", &settings.to_string()).await.0
}

/// The process, and the first thing that it says.
async fn started(kind: &str, settings: &str) -> (Child, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_test_process"))
        .args([kind, settings])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a process");
    let output = process.stdout.take().expect("its output");
    let mut lines = BufReader::new(output).lines();
    let line = lines.next_line().await.expect("its output");
    (process, line.expect("it says that it is there"))
}
