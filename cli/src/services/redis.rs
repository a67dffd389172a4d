//! A private Redis: its start on a free port, its stop, with an append-only file where the data is to be kept.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;
use tokio::time::timeout;

use super::account::Account;
use super::place::Place;
use super::programs::RedisProgram;
use super::server::{NotStarted, PORT_ATTEMPTS, Server, free_port, stop_stranger};

const ALWAYS: &str =
    "bind 127.0.0.1\nprotected-mode yes\ndaemonize no\nsave \"\"\nmaxmemory-policy noeviction\n";
/// From a port of a cluster's node to the one where it talks with the others.
const TO_OTHER_NODES: u16 = 10_000;
/// Which port the server of a place has, for whoever finds the place after us.
const PORT_FILE: &str = "redis.port";

/// What is to become of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Durable,
    Throwaway,
    /// The same as part of a cluster, which whoever starts it puts together.
    ClusterNode,
}

pub struct Redis {
    server: Server,
    files: Files,
    program: RedisProgram,
    password: String,
    port: u16,
}

/// Where a server has its things, and as whom it runs.
struct Files {
    folder: PathBuf,
    config: PathBuf,
    log: PathBuf,
    account: Account,
}

impl Redis {
    pub async fn start(place: &Place, program: RedisProgram, kind: Kind) -> anyhow::Result<Self> {
        let folder = place.servers.join("redis");
        if !folder.exists() {
            std::fs::create_dir(&folder)?;
            place.account.own(&folder)?;
        }
        let password = place.password()?;
        let mut attempt = 1;
        loop {
            let port = kind.free_port()?;
            let files = Files::write(place, kind, &password, port)?;
            match server(&files, &program, &password, port).await {
                Ok(server) => {
                    return Ok(Self {
                        server,
                        files,
                        program,
                        password,
                        port,
                    });
                }
                Err(NotStarted::InTheWay(_)) if attempt < PORT_ATTEMPTS => attempt += 1,
                Err(not_started) => return Err(not_started.into_error()),
            }
        }
    }

    /// Starts it on the same port with the data that it left behind, once it has been stopped or killed.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let started = server(&self.files, &self.program, &self.password, self.port).await;
        self.server = started.map_err(NotStarted::into_error)?;
        Ok(())
    }

    #[must_use]
    pub fn url(&self) -> String {
        url(self.port, &self.password)
    }

    #[must_use]
    pub fn describe(&self) -> String {
        format!("Redis {} on port {}", self.program.version, self.port)
    }

    /// Stops it; the append-only file, where there is one, is complete before it ends.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.server.stop(Signal::TERM).await.map(drop)
    }

    /// Ends it as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.server.stop(Signal::KILL).await.map(drop)
    }

    /// Ends only when the server does, and says why.
    pub async fn ends(&mut self) -> anyhow::Error {
        self.server.ends().await
    }
}

impl Kind {
    fn config(self) -> &'static str {
        match self {
            Self::Durable => "appendonly yes\nappendfsync everysec\n",
            Self::Throwaway => "appendonly no\n",
            Self::ClusterNode => "appendonly no\ncluster-enabled yes\n",
        }
    }

    fn free_port(self) -> anyhow::Result<u16> {
        loop {
            let port = free_port()?;
            let second = port.checked_add(TO_OTHER_NODES);
            let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
            if self != Self::ClusterNode || second.is_some_and(free) {
                return Ok(port);
            }
        }
    }
}

impl Files {
    fn write(place: &Place, kind: Kind, password: &str, port: u16) -> anyhow::Result<Self> {
        place.write(PORT_FILE, &port.to_string())?;
        let kind = kind.config();
        // In a file, because everybody can read the arguments of a process.
        let config = place.write(
            "redis.conf",
            &format!("{ALWAYS}{kind}port {port}\nrequirepass {password}\n"),
        )?;
        Ok(Self {
            folder: place.servers.join("redis"),
            config,
            log: place.servers.join("redis.log"),
            account: place.account,
        })
    }
}

async fn server(
    files: &Files,
    program: &RedisProgram,
    password: &str,
    port: u16,
) -> Result<Server, NotStarted> {
    let mut command = program.command();
    command.arg(&files.config);
    // It works in its current folder.
    files.account.apply(&mut command, &files.folder);
    let spawned = Server::spawn("Redis", &mut command, files.log.clone());
    let mut server = spawned.map_err(NotStarted::Broken)?;
    server
        .ready(async || ping(port, password).await.map(drop))
        .await?;
    Ok(server)
}

fn url(port: u16, password: &str) -> String {
    format!("redis://:{password}@127.0.0.1:{port}/")
}

/// The process id of the server that answers there to our password.
async fn ping(port: u16, password: &str) -> anyhow::Result<i32> {
    let client = redis::Client::open(url(port, password))?;
    let patience = Duration::from_secs(5);
    let mut connection = timeout(patience, client.get_multiplexed_async_connection()).await??;
    // Refused while the append-only file is being loaded.
    let pong: String = timeout(patience, redis::cmd("PING").query_async(&mut connection)).await??;
    ensure!(pong == "PONG", "it answers {pong}");
    let info: redis::InfoDict = timeout(
        patience,
        redis::cmd("INFO")
            .arg("server")
            .query_async(&mut connection),
    )
    .await??;
    info.get("process_id")
        .ok_or_else(|| anyhow::anyhow!("it does not tell its process id"))
}

/// Stops a server that a killed process left running on the data of this place.
pub async fn stop_orphan(place: &Place) -> anyhow::Result<()> {
    let Ok(port) = std::fs::read_to_string(place.servers.join(PORT_FILE)) else {
        return Ok(());
    };
    let Ok(port) = port.trim().parse() else {
        return Ok(());
    };
    match ping(port, &place.password()?).await {
        Ok(pid) => stop_stranger("Redis", pid, Signal::TERM).await,
        Err(_) => Ok(()),
    }
}
