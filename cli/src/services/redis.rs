//! A private Redis: its start on a free port, its stop, with an append-only file where the data is to be kept.

use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;
use tokio::time::timeout;

use super::place::Place;
use super::programs::RedisProgram;
use super::server::{NotStarted, PORT_ATTEMPTS, Server, free_port, stop_stranger};

const ALWAYS: &str =
    "bind 127.0.0.1\nprotected-mode yes\ndaemonize no\nsave \"\"\nmaxmemory-policy noeviction\n";
const DURABLE: &str = "appendonly yes\nappendfsync everysec\n";
const THROWAWAY: &str = "appendonly no\n";
/// Which port the server of a place has, for whoever finds the place after us.
const PORT_FILE: &str = "redis.port";

pub struct Redis {
    server: Server,
    program: RedisProgram,
    password: String,
    port: u16,
}

impl Redis {
    pub async fn start(
        place: &Place,
        program: RedisProgram,
        durable: bool,
    ) -> anyhow::Result<Self> {
        let folder = place.servers.join("redis");
        if !folder.exists() {
            std::fs::create_dir(&folder)?;
            place.account.own(&folder)?;
        }
        let password = place.password()?;
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            match server(place, &program, durable, &password, port).await {
                Ok(server) => {
                    return Ok(Self {
                        server,
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

    /// Ends only when the server does, and says why.
    pub async fn ends(&mut self) -> anyhow::Error {
        self.server.ends().await
    }
}

async fn server(
    place: &Place,
    program: &RedisProgram,
    durable: bool,
    password: &str,
    port: u16,
) -> Result<Server, NotStarted> {
    let spawned = spawn(place, program, durable, password, port);
    let mut server = spawned.map_err(NotStarted::Broken)?;
    server
        .ready(async || ping(port, password).await.map(drop))
        .await?;
    Ok(server)
}

fn spawn(
    place: &Place,
    program: &RedisProgram,
    durable: bool,
    password: &str,
    port: u16,
) -> anyhow::Result<Server> {
    let folder = place.servers.join("redis");
    place.write(PORT_FILE, &port.to_string())?;
    let durability = if durable { DURABLE } else { THROWAWAY };
    // In a file, because everybody can read the arguments of a process.
    let config = place.write(
        "redis.conf",
        &format!("{ALWAYS}{durability}port {port}\nrequirepass {password}\n"),
    )?;
    let mut command = program.command();
    command.arg(config);
    // It works in its current folder.
    place.account.apply(&mut command, &folder);
    Server::spawn("Redis", &mut command, place.servers.join("redis.log"))
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
