//! Folders of private servers: `.holdfast/up` for development, `.holdfast/throwaway-…` for one run of the tests.
//!
//! A place belongs to one process at a time, by a lock that the kernel gives back when that process ends, however it
//! ends. What a killed process left behind is therefore recognised and cleared away by the next one.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rand::RngExt as _;

use super::account::Account;

/// Where development and tests keep everything, within the project.
pub const HOME: &str = ".holdfast";
const THROWAWAY: &str = "throwaway-";

pub struct Place {
    root: PathBuf,
    /// Where the servers keep their files. Not always inside the project: see `reachable_folder`.
    pub servers: PathBuf,
    pub account: Account,
    _lock: File,
}

impl Place {
    /// Takes the place of that name, or says who has it.
    pub async fn claim(home: &Path, name: &str) -> anyhow::Result<Self> {
        let root = home.join(name);
        make_folder(&root)?;
        let root = root.canonicalize()?;
        let lock = lock(&root.join("lock"))?;
        let account = Account::for_servers().await?;
        let servers = reachable_folder(&root, account).await?;
        Ok(Self {
            root,
            servers,
            account,
            _lock: lock,
        })
    }

    /// A new place that nobody else has.
    pub async fn throwaway(home: &Path) -> anyhow::Result<Self> {
        let _guard = gate(home)?;
        let pid = std::process::id();
        for attempt in 0..100 {
            let name = format!("{THROWAWAY}{pid}-{attempt}");
            if !home.join(&name).exists() {
                return Self::claim(home, &name).await;
            }
        }
        bail!(
            "{} is full of folders that nobody cleared away",
            home.display()
        )
    }

    /// The throwaway places whose process is gone.
    pub async fn abandoned(home: &Path) -> anyhow::Result<Vec<Self>> {
        let _guard = gate(home)?;
        let mut places = Vec::new();
        for entry in fs::read_dir(home)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with(THROWAWAY)) else {
                continue;
            };
            // One that cannot be claimed is in use.
            places.extend(Self::claim(home, name).await.ok());
        }
        Ok(places)
    }

    /// Removes the place's folders with all that is in them.
    pub fn clear(&self) -> anyhow::Result<()> {
        for folder in [&self.servers, &self.root] {
            if folder.exists() {
                fs::remove_dir_all(folder)
                    .with_context(|| format!("{} cannot be removed", folder.display()))?;
            }
        }
        Ok(())
    }

    /// The password of both servers: whoever else is on this machine shall not be their superuser.
    pub fn password(&self) -> anyhow::Result<String> {
        let path = self.password_file();
        if !path.exists() {
            self.write("password", &token())?;
        }
        Ok(fs::read_to_string(&path)?)
    }

    #[must_use]
    pub fn password_file(&self) -> PathBuf {
        self.servers.join("password")
    }

    /// Writes a file that the servers' account can read, and nobody else.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.servers.join(name);
        let mut file =
            File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        self.account.own(&path)?;
        Ok(path)
    }
}

/// Text that nobody can guess.
fn token() -> String {
    hex::encode(rand::rng().random::<[u8; 16]>())
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| {
        format!(
            "the folder {} cannot be made; does it belong to another user?",
            path.display()
        )
    })
}

fn open(path: &Path) -> anyhow::Result<File> {
    let opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    opened.with_context(|| {
        format!(
            "{} cannot be opened; does it belong to another user?",
            path.display()
        )
    })
}

/// Lets one process at a time make or clear places, so that none is cleared in the moment it is made.
fn gate(home: &Path) -> anyhow::Result<File> {
    make_folder(home)?;
    let gate = open(&home.join("gate"))?;
    gate.lock()?;
    Ok(gate)
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let mut file = open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(path).unwrap_or_default();
            bail!(
                "process {} is already running here ({})",
                holder.trim(),
                path.display()
            )
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// A folder that the account can get at. A project below `/root` is closed to the user that runs Postgres for root;
/// its servers live in `/var/tmp` then, and a link in the project says where.
async fn reachable_folder(root: &Path, account: Account) -> anyhow::Result<PathBuf> {
    let inside = root.join("servers");
    if let Ok(outside) = fs::read_link(&inside) {
        if outside.exists() {
            return Ok(outside);
        }
        fs::remove_file(&inside)?;
    }
    private_folder(&inside, account)?;
    if account.reaches(&inside).await {
        return Ok(inside);
    }
    fs::remove_dir_all(&inside)?;
    // An unguessable name: nobody can have put something there for us to fall into.
    let outside = PathBuf::from("/var/tmp").join(format!("holdfast-{}", token()));
    private_folder(&outside, account)?;
    std::os::unix::fs::symlink(&outside, &inside)?;
    if !account.reaches(&outside).await {
        bail!(
            "neither {} nor /var/tmp can be reached by the user that PostgreSQL runs as",
            root.display()
        );
    }
    Ok(outside)
}

fn private_folder(path: &Path, account: Account) -> anyhow::Result<()> {
    if !path.exists() {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        account.own(path)?;
    }
    Ok(())
}
