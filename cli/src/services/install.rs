//! Brings the server programs onto a machine that lacks them, with the machine's own package manager.
//!
//! What is installed is the programs alone: no database cluster is made, no service is started or enabled, and
//! nothing that exists is touched.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use tokio::process::Command;

use super::programs::{self, OLDEST_POSTGRES, PostgresPrograms, RedisProgram};
use crate::settings;

/// Postgres' programs, installed first if need be.
pub async fn postgres() -> anyhow::Result<PostgresPrograms> {
    if let Some(found) = programs::find_postgres().await {
        return Ok(found);
    }
    let wanted =
        format!("PostgreSQL {OLDEST_POSTGRES} or newer (the server, with its additional modules)");
    match PackageManager::of_this_machine() {
        Some(PackageManager::Apt) => apt_postgres()
            .await
            .with_context(|| format!("{wanted} is missing"))?,
        Some(PackageManager::Brew) => brew("postgresql@17").await?,
        None => bail!(
            "{wanted} is missing: neither on the search path nor where packages put it. Please install it"
        ),
    }
    programs::find_postgres()
        .await
        .with_context(|| format!("{wanted} is still missing after the installation"))
}

/// Redis' server, installed first if need be.
pub async fn redis() -> anyhow::Result<RedisProgram> {
    if let Some(found) = programs::find_redis().await {
        return Ok(found);
    }
    match PackageManager::of_this_machine() {
        Some(PackageManager::Apt) => apt_redis().await.context("redis-server is missing")?,
        Some(PackageManager::Brew) => brew("redis").await?,
        None => bail!("redis-server is missing on the search path. Please install Redis"),
    }
    programs::find_redis()
        .await
        .context("redis-server is still missing after the installation")
}

enum PackageManager {
    Apt,
    Brew,
}

impl PackageManager {
    fn of_this_machine() -> Option<Self> {
        if on_path("apt-get") {
            Some(Self::Apt)
        } else if on_path("brew") {
            Some(Self::Brew)
        } else {
            None
        }
    }
}

fn on_path(program: &str) -> bool {
    settings::program_folders()
        .iter()
        .any(|folder| folder.join(program).exists())
}

async fn brew(package: &str) -> anyhow::Result<()> {
    run("brew", &["install", package]).await
}

async fn apt_postgres() -> anyhow::Result<()> {
    apt_get(&["update", "-qq"]).await?;
    let offered = apt_offers().await?;
    ensure!(
        offered >= OLDEST_POSTGRES,
        "this system's packages offer version {offered} at most. \
         The packages of https://apt.postgresql.org have newer ones; please install one of them"
    );
    // Debian makes and starts a cluster with the first server package of a version, unless it is told not to.
    apt_install("postgresql-common").await?;
    let settings = Path::new("/etc/postgresql-common/createcluster.conf");
    let before = std::fs::read_to_string(settings).unwrap_or_default();
    let without_cluster = format!("{before}\ncreate_main_cluster = false\n");
    write_as_root(settings, &without_cluster).await?;
    let installed = apt_install(&format!("postgresql-{offered}")).await;
    write_as_root(settings, &before).await?;
    installed
}

/// The server without its system service: it is part of the tools too.
async fn apt_redis() -> anyhow::Result<()> {
    apt_get(&["update", "-qq"]).await?;
    apt_install("redis-tools").await
}

/// The version that the package `postgresql` stands for.
async fn apt_offers() -> anyhow::Result<u32> {
    let output = Command::new("apt-cache")
        .args(["show", "--no-all-versions", "postgresql"])
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout);
    parse_offer(&said).context("this system's packages have no PostgreSQL; please install it")
}

fn parse_offer(said: &str) -> Option<u32> {
    let version = said
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))?;
    version
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

async fn apt_install(package: &str) -> anyhow::Result<()> {
    apt_get(&["install", "-y", "-qq", "--no-install-recommends", package]).await
}

async fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let command: Vec<&str> = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    let (program, arguments) = as_root(&command)?;
    run(program, &arguments).await
}

/// The same command with the rights to install something.
fn as_root<'a>(command: &[&'a str]) -> anyhow::Result<(&'a str, Vec<&'a str>)> {
    if rustix::process::geteuid().is_root() {
        return Ok((command[0], command[1..].to_vec()));
    }
    ensure!(
        on_path("sudo"),
        "installing it needs root or sudo, and there is neither: please install it"
    );
    Ok(("sudo", command.to_vec()))
}

async fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let line = format!("{program} {}", arguments.join(" "));
    eprintln!("holdfast: a server program is missing, so this installs it: {line}");
    // What it says is for the screen; our standard output may be somebody's data.
    let status = Command::new(program)
        .args(arguments)
        .stdout(std::io::stderr())
        .status()
        .await;
    let status = status.with_context(|| format!("{program} cannot be run"))?;
    ensure!(
        status.success(),
        "`{line}` failed ({status}). Please install it by hand"
    );
    Ok(())
}

async fn write_as_root(path: &Path, text: &str) -> anyhow::Result<()> {
    use tokio::io::AsyncWriteExt as _;
    let path = path.to_str().context("a path of ours is plain")?;
    let (program, arguments) = as_root(&["tee", path])?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().context("its input is piped")?;
    stdin.write_all(text.as_bytes()).await?;
    drop(stdin);
    ensure!(child.wait().await?.success(), "{path} cannot be written");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_a_package_stands_for_is_read_from_apt() {
        assert_eq!(
            parse_offer("Package: postgresql\nSource: x\nVersion: 15+248+deb12u1\n"),
            Some(15)
        );
        assert_eq!(
            parse_offer("Package: postgresql\nVersion: 17+278\n"),
            Some(17)
        );
        assert_eq!(parse_offer(""), None);
    }
}
