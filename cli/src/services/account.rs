//! Who runs the private servers. Postgres refuses to run as root, so root runs them as somebody else.

use std::path::Path;

use anyhow::{Context as _, bail};
use tokio::process::Command;

/// The owner of the private servers and of their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// Whoever started us.
    Own,
    /// Another user, because we are root.
    Other { uid: u32, gid: u32 },
}

impl Account {
    pub async fn for_servers() -> anyhow::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        for name in ["postgres", "nobody"] {
            if let (Ok(uid), Ok(gid)) = (id_of("-u", name).await, id_of("-g", name).await) {
                return Ok(Self::Other { uid, gid });
            }
        }
        bail!(
            "PostgreSQL does not run as root, and neither the user `postgres` nor `nobody` exists to run it as"
        )
    }

    /// Lets a command run as this account, and away from a folder that it may not be allowed to see.
    pub fn apply<'a>(&self, command: &'a mut Command, folder: &Path) -> &'a mut Command {
        if let Self::Other { uid, gid } = self {
            command.uid(*uid).gid(*gid);
        }
        command.current_dir(folder)
    }

    /// Hands a file or folder over to this account.
    pub fn own(&self, path: &Path) -> anyhow::Result<()> {
        if let Self::Other { uid, gid } = self {
            std::os::unix::fs::chown(path, Some(*uid), Some(*gid))
                .with_context(|| format!("{} cannot be handed over", path.display()))?;
        }
        Ok(())
    }

    /// Whether this account gets as far as this folder: its parents may be closed to it.
    pub async fn reaches(&self, folder: &Path) -> bool {
        let mut test = Command::new("test");
        self.apply(test.arg("-w").arg(folder), folder);
        test.status().await.is_ok_and(|status| status.success())
    }
}

async fn id_of(flag: &str, name: &str) -> anyhow::Result<u32> {
    let output = Command::new("id").arg(flag).arg(name).output().await?;
    if !output.status.success() {
        bail!("there is no user `{name}`");
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
