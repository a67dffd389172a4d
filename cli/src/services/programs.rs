//! The server programs of this machine: on the search path, else where packages put them.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

use crate::settings;

/// The oldest Postgres that has all we use.
pub const OLDEST_POSTGRES: u32 = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[derive(Debug, Clone)]
pub struct PostgresPrograms {
    folder: PathBuf,
    pub version: Version,
}

impl PostgresPrograms {
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        Command::new(self.folder.join(program))
    }
}

#[derive(Debug, Clone)]
pub struct RedisProgram {
    path: PathBuf,
    pub version: Version,
}

impl RedisProgram {
    #[must_use]
    pub fn command(&self) -> Command {
        redis_command(&self.path)
    }
}

/// The first fitting Postgres: one on the search path, else the newest that a package brought.
pub async fn find_postgres() -> Option<PostgresPrograms> {
    let mut packaged = Vec::new();
    for folder in packaged_postgres() {
        packaged.extend(postgres_in(folder).await);
    }
    packaged.sort_by_key(|programs| std::cmp::Reverse(programs.version));
    for folder in settings::program_folders() {
        if let Some(found) = postgres_in(folder).await {
            return Some(found);
        }
    }
    packaged.into_iter().next()
}

async fn postgres_in(folder: PathBuf) -> Option<PostgresPrograms> {
    if !folder.join("initdb").exists() {
        return None;
    }
    let version = version_of(&mut Command::new(folder.join("postgres")))
        .await
        .ok()?;
    (version.major >= OLDEST_POSTGRES).then_some(PostgresPrograms { folder, version })
}

/// Debian and Ubuntu, Fedora's upstream packages, Homebrew on both kinds of Mac and on Linux.
fn packaged_postgres() -> Vec<PathBuf> {
    let brew = [
        "/opt/homebrew/opt",
        "/usr/local/opt",
        "/home/linuxbrew/.linuxbrew/opt",
    ];
    let mut folders: Vec<PathBuf> = ["/usr/lib/postgresql", "/usr"]
        .iter()
        .chain(&brew)
        .flat_map(|base| {
            let versions = std::fs::read_dir(base).into_iter().flatten().flatten();
            versions.map(|version| version.path().join("bin"))
        })
        .collect();
    folders.sort();
    folders
}

/// The first Redis on the search path or at Homebrew's places.
///
/// On Debian and Ubuntu the server is also there under the name of one of its tools, in the package `redis-tools`:
/// it is one program that looks at the name it was called by. That package brings no system service with it.
pub async fn find_redis() -> Option<RedisProgram> {
    let mut folders = settings::program_folders();
    folders.extend(
        [
            "/opt/homebrew/bin",
            "/usr/local/bin",
            "/home/linuxbrew/.linuxbrew/bin",
        ]
        .map(PathBuf::from),
    );
    for name in ["redis-server", "redis-check-rdb"] {
        for path in folders
            .iter()
            .map(|folder| folder.join(name))
            .filter(|path| path.exists())
        {
            if let Ok(version) = version_of(&mut redis_command(&path)).await {
                return Some(RedisProgram { path, version });
            }
        }
    }
    None
}

fn redis_command(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.arg0("redis-server");
    command
}

async fn version_of(command: &mut Command) -> anyhow::Result<Version> {
    let output = command.arg("--version").output().await?;
    parse_version(&String::from_utf8_lossy(&output.stdout)).context("its version cannot be read")
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-1)`, `postgres (PostgreSQL) 18beta1`, `Redis server v=7.0.15 sha=…`.
fn parse_version(said: &str) -> Option<Version> {
    let mut words = said
        .split_whitespace()
        .map(|word| word.trim_start_matches("v="));
    let number = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty());
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    Some(Version { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_servers_say() {
        let cases = [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)",
                Some((15, 18)),
            ),
            ("postgres (PostgreSQL) 17.2", Some((17, 2))),
            ("postgres (PostgreSQL) 18beta1", Some((18, 1))),
            (
                "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64",
                Some((7, 0)),
            ),
            ("command not found", None),
        ];
        for (said, expected) in cases {
            assert_eq!(
                parse_version(said).map(|v| (v.major, v.minor)),
                expected,
                "{said}"
            );
        }
    }
}
