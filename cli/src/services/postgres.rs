//! A private Postgres: its data folder, its start on a free port, its stop.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::account::Account;
use super::place::Place;
use super::programs::PostgresPrograms;
use super::server::{NotStarted, PORT_ATTEMPTS, Server, free_port, stop_stranger};

/// Sorting and upper case behave the same on every machine.
const LOCALE: &str = if cfg!(target_os = "macos") {
    "en_US.UTF-8"
} else {
    "C.UTF-8"
};
/// Role and database. The role owns the database and may make others, and is no superuser, as in production.
const NAME: &str = "holdfast";

const ALWAYS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "timezone=UTC",
    "log_timezone=UTC",
    "jit=off",
];
/// A crash of the machine may lose everything, and that is fine: nothing outlives the run.
const THROWAWAY: &[&str] = &[
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_connections=300",
    "checkpoint_timeout=30min",
    "max_wal_size=2GB",
];
const DURABLE: &[&str] = &[
    "max_connections=300",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
];

pub struct Postgres {
    server: Server,
    start: Start,
}

/// All that is needed to start it, once more if need be.
struct Start {
    programs: PostgresPrograms,
    data: PathBuf,
    log: PathBuf,
    account: Account,
    settings: Vec<&'static str>,
    password: String,
    port: u16,
}

impl Postgres {
    pub async fn start(
        place: &Place,
        programs: PostgresPrograms,
        durable: bool,
    ) -> anyhow::Result<Self> {
        let data = place.servers.join("postgres");
        if data.exists() {
            same_version(&data, &programs)?;
        } else {
            create(place, &programs, &data, durable).await?;
        }
        let mut start = Start {
            programs,
            data,
            log: place.servers.join("postgres.log"),
            account: place.account,
            settings: [ALWAYS, if durable { DURABLE } else { THROWAWAY }].concat(),
            password: place.password()?,
            port: free_port()?,
        };
        let mut attempt = 1;
        let server = loop {
            match start.server().await {
                Ok(server) => break server,
                Err(NotStarted::InTheWay(_)) if attempt < PORT_ATTEMPTS => {
                    attempt += 1;
                    // Leftovers of a killed server are gone within moments.
                    sleep(Duration::from_millis(500)).await;
                    start.port = free_port()?;
                }
                Err(not_started) => return Err(not_started.into_error()),
            }
        };
        Ok(Self { server, start })
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "postgres://{NAME}:{}@127.0.0.1:{}/{NAME}",
            self.start.password, self.start.port
        )
    }

    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "PostgreSQL {} on port {}",
            self.start.programs.version, self.start.port
        )
    }

    /// Stops it the way an operator would: sessions are cut, everything committed is kept.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.server.stop(Signal::INT).await.map(drop)
    }

    /// Stops it at once; only a start with recovery would bring the data back.
    pub async fn abandon(&mut self) -> anyhow::Result<()> {
        self.server.stop(Signal::QUIT).await.map(drop)
    }

    /// Starts it again on the same port with the same data.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server = self.start.server().await.map_err(NotStarted::into_error)?;
        Ok(())
    }

    /// Ends only when the server does, and says why.
    pub async fn ends(&mut self) -> anyhow::Error {
        self.server.ends().await
    }
}

impl Start {
    async fn server(&self) -> Result<Server, NotStarted> {
        let mut command = self.programs.command("postgres");
        command
            .arg("-D")
            .arg(&self.data)
            .arg("-p")
            .arg(self.port.to_string());
        for setting in &self.settings {
            command.arg("-c").arg(setting);
        }
        self.account.apply(&mut command, &self.data);
        command.env("LC_ALL", LOCALE);
        let mut server = Server::spawn("PostgreSQL", &mut command, self.log.clone())
            .map_err(NotStarted::Broken)?;
        server
            .ready(async || connect(self.port, &self.password).await.map(drop))
            .await?;
        Ok(server)
    }
}

async fn connect(port: u16, password: &str) -> anyhow::Result<PgConnection> {
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(NAME)
        .password(password)
        .database(NAME)
        .ssl_mode(sqlx::postgres::PgSslMode::Disable);
    Ok(timeout(Duration::from_secs(5), options.connect()).await??)
}

/// Makes the data folder. It gets its name only when it is complete, so an interrupted first start leaves nothing.
async fn create(
    place: &Place,
    programs: &PostgresPrograms,
    data: &Path,
    durable: bool,
) -> anyhow::Result<()> {
    let password = place.password()?;
    let unfinished = data.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    let mut initdb = programs.command("initdb");
    initdb
        .arg("-D")
        .arg(&unfinished)
        .arg("--pwfile")
        .arg(place.password_file());
    // Plain passwords over the loopback: a salted handshake per connection costs the tests more than it protects.
    initdb
        .args(["--username=postgres", "--auth=password", "--encoding=UTF8"])
        .arg(format!("--locale={LOCALE}"));
    if !durable {
        initdb.arg("--no-sync");
    }
    run(place, &mut initdb, "")
        .await
        .context("the data folder of PostgreSQL cannot be made")?;

    let mut single = programs.command("postgres");
    single
        .arg("--single")
        .arg("-D")
        .arg(&unfinished)
        .arg("postgres");
    let bootstrap = format!(
        "create role {NAME} login createdb password '{password}'\ncreate database {NAME} owner {NAME}\n"
    );
    run(place, &mut single, &bootstrap)
        .await
        .context("the first database cannot be made")?;
    Ok(std::fs::rename(&unfinished, data)?)
}

/// Runs one of Postgres' programs to its end as the account of the place.
async fn run(place: &Place, command: &mut Command, input: &str) -> anyhow::Result<()> {
    place.account.apply(command, &place.servers);
    let mut child = command
        .env("LC_ALL", LOCALE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("its input is piped")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // The single-user mode reports a failed statement and still ends well.
    ensure!(
        output.status.success() && !said.contains("ERROR:"),
        "{}: {}",
        output.status,
        said.trim()
    );
    Ok(())
}

fn same_version(data: &Path, programs: &PostgresPrograms) -> anyhow::Result<()> {
    let made_by = std::fs::read_to_string(data.join("PG_VERSION"))
        .with_context(|| format!("{} is no data folder of PostgreSQL", data.display()))?;
    let made_by = made_by.trim();
    if made_by != programs.version.major.to_string() {
        bail!(
            "the data in {} was made by PostgreSQL {made_by}, but version {} is installed now. \
             Install PostgreSQL {made_by} again, or start anew with `make clean-data`",
            data.display(),
            programs.version,
        );
    }
    Ok(())
}

/// Stops a server that a killed process left running on the data of this place.
pub async fn stop_orphan(place: &Place) -> anyhow::Result<()> {
    let data = place.servers.join("postgres");
    let Ok(pid_file) = std::fs::read_to_string(data.join("postmaster.pid")) else {
        return Ok(());
    };
    let Some((pid, port)) = pid_and_port(&pid_file) else {
        return Ok(());
    };
    let Ok(connection) = connect(port, &place.password()?).await else {
        return Ok(());
    };
    // Our password opened it, so the process id in the file is that of the server and of nobody else.
    connection.close().await?;
    stop_stranger("PostgreSQL", pid, Signal::INT).await
}

/// The id is on the first line of `postmaster.pid`, the port on the fourth.
fn pid_and_port(pid_file: &str) -> Option<(i32, u16)> {
    let mut lines = pid_file.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    Some((pid, lines.nth(2)?.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_of_postgres_gives_its_process_and_its_port() {
        let file = "4711\n/data\n1700000000\n54321\n\n127.0.0.1\n  1 2\nready\n";
        assert_eq!(pid_and_port(file), Some((4711, 54321)));
        assert_eq!(pid_and_port("4711\n/data\n"), None);
        assert_eq!(pid_and_port(""), None);
    }
}
