//! Passwords: which are accepted, and how they are kept.
//!
//! They are kept as PHC strings of Argon2id. Strings of PBKDF2-HMAC-SHA256, from an import, verify as well and
//! are replaced when their owner logs in. Hashing takes long on purpose, so it has threads of its own, few of
//! them, and a queue that is not endless: a storm of logins waits for itself and for nobody else. What is kept and
//! cannot be compared with, since it is broken or would take too much, is a password that nobody knows.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Argon2, Params};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use pbkdf2::Pbkdf2;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::config;
use crate::error::{Error, Invalid, Result};
use crate::ids;

/// In lower case, one a line; those of fewer characters than we accept are left out.
static COMMONEST: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

const SHORTEST: usize = 8;

#[derive(Debug, thiserror::Error)]
#[error("more passwords wait to be hashed than fit into the queue")]
struct Overloaded;

/// Fails, by the name of the field, unless this may be the password of an account with this address.
pub fn accept(field: &str, password: &SecretString, email: &str) -> Result<()> {
    let password = password.expose_secret();
    let lower = password.to_lowercase();
    let (name, _) = email.split_once('@').unwrap_or((email, ""));
    let message = if password.chars().count() < SHORTEST {
        format!("must have at least {SHORTEST} characters")
    } else if lower == email || lower == name {
        "must not be the e-mail address".to_owned()
    } else if COMMONEST.contains(lower.as_str()) {
        "is among the commonest passwords; choose another".to_owned()
    } else {
        return Ok(());
    };
    Err(Invalid::field(field, message).into())
}

/// What came of comparing a password with what is kept.
#[derive(Debug)]
pub struct Verdict {
    pub right: bool,
    /// What to keep instead from now on, where what was kept is not as we keep passwords today.
    pub rehashed: Option<String>,
    /// When the comparison began. Until then everybody waits alike.
    pub begun: Instant,
}

/// The right to do something about a password; to be held until all of it is done.
pub struct Turn<'a> {
    _place: SemaphorePermit<'a>,
    _turn: SemaphorePermit<'a>,
}

/// Requests that are on their way to or from a hash while another is being made: so many that hashing does not
/// wait for them, and so few that they do not take all connections to Postgres from everybody else.
const AROUND: usize = 2;

/// What an imported hash may ask for at most, so that comparing with it stays bounded: KiB of memory, KiB to go
/// through in all, and rounds of PBKDF2.
const MOST_MEMORY: u32 = 256 * 1_024;
const MOST_WORK: u64 = 2 * 1_024 * 1_024;
const MOST_ROUNDS: u32 = 2_000_000;

/// Hashes passwords. One for the whole process.
pub struct Passwords {
    argon: Argon2<'static>,
    at_once: usize,
    /// Hashes at a time.
    slots: Semaphore,
    /// Requests about passwords at a time.
    turns: Semaphore,
    /// Those, and the ones that wait for their turn.
    places: Semaphore,
    /// Takes as long to compare with as any other, and no password fits.
    nobodys: String,
    comparisons: AtomicU64,
}

impl Passwords {
    pub fn new(config: &config::Auth) -> anyhow::Result<Self> {
        let (memory, rounds) = (config.hash_memory_kib, config.hash_rounds);
        let params = Params::new(memory, rounds, 1, None)
            .map_err(|error| anyhow::anyhow!("[auth] hash_memory_kib and hash_rounds: {error}"))?;
        let random = |bytes| STANDARD_NO_PAD.encode(&ids::random_bytes()[..bytes]);
        let (salt, output) = (random(16), random(32));
        let at_once = at_once(config.hashes_at_once);
        Ok(Self {
            argon: params.into(),
            at_once,
            slots: Semaphore::new(at_once),
            turns: Semaphore::new(at_once + AROUND),
            places: Semaphore::new(at_once + AROUND + config.hashes_waiting),
            nobodys: format!("$argon2id$v=19$m={memory},t={rounds},p=1${salt}${output}"),
            comparisons: AtomicU64::new(0),
        })
    }

    /// How many passwords are hashed at a time.
    pub fn at_once(&self) -> usize {
        self.at_once
    }

    /// Waits for one's turn, before anything else is done about a password. Fails at once when too many wait.
    pub async fn turn(&self) -> Result<Turn<'_>> {
        let Ok(place) = self.places.try_acquire() else {
            metrics::counter!("password_hashes_refused_total").increment(1);
            return Err(Error::Unavailable(Overloaded.into()));
        };
        let turn = self.turns.acquire().await;
        let turn = turn.map_err(|closed| Error::Internal(closed.into()))?;
        Ok(Turn {
            _place: place,
            _turn: turn,
        })
    }

    /// What to keep of a password.
    pub async fn hash(self: &Arc<Self>, _: &Turn<'_>, password: &SecretString) -> Result<String> {
        let password = password.clone();
        self.run(move |this| this.hash_now(&password)).await?.0
    }

    /// Whether the password is the one that `kept` was made of. Takes its time when there is none, too.
    pub async fn verify(
        self: &Arc<Self>,
        _: &Turn<'_>,
        password: &SecretString,
        kept: Option<&str>,
    ) -> Result<Verdict> {
        let password = password.clone();
        let kept = kept.map(str::to_owned);
        let (compared, begun) = self
            .run(move |this| this.verify_now(&password, kept.as_deref()))
            .await?;
        let (right, rehashed) = compared?;
        Ok(Verdict {
            right,
            rehashed,
            begun,
        })
    }

    /// How many passwords have been compared so far, with an account's or with nobody's.
    pub fn comparisons(&self) -> u64 {
        self.comparisons.load(Ordering::SeqCst)
    }

    /// Does the work on a thread of its own, when there is a slot for it; tells when that was.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<(T, Instant)> {
        let _slot = self
            .slots
            .acquire()
            .await
            .map_err(|closed| Error::Internal(closed.into()))?;
        metrics::counter!("password_hashes_total").increment(1);
        let begun = Instant::now();
        let (this, (told, heard)) = (Arc::clone(self), oneshot::channel());
        std::thread::Builder::new()
            .name("password".into())
            .spawn(move || {
                stand_back();
                // Nobody may be listening any more, and that is all right.
                let _ = told.send(work(&this));
            })
            .map_err(|error| Error::Unavailable(error.into()))?;
        let done = heard.await;
        let done = done.map_err(|panicked| Error::Internal(panicked.into()))?;
        Ok((done, begun))
    }

    fn hash_now(&self, password: &SecretString) -> Result<String> {
        let hash = self
            .argon
            .hash_password(password.expose_secret().as_bytes());
        Ok(hash.map_err(broken)?.to_string())
    }

    /// Whether it is right, and what to keep instead.
    fn verify_now(
        &self,
        password: &SecretString,
        kept: Option<&str>,
    ) -> Result<(bool, Option<String>)> {
        self.comparisons.fetch_add(1, Ordering::SeqCst);
        let nobodys = PasswordHash::new(&self.nobodys).map_err(broken)?;
        let kept = match kept.map(readable) {
            Some(Some(kept)) => kept,
            Some(None) => {
                tracing::warn!("a password is kept in a way that cannot be compared with");
                nobodys
            }
            None => nobodys,
        };
        let bytes = password.expose_secret().as_bytes();
        let right = match kept.algorithm.as_str() {
            "pbkdf2-sha256" => Pbkdf2::SHA256.verify_password(bytes, &kept).is_ok(),
            _ => self.argon.verify_password(bytes, &kept).is_ok(),
        };
        let rehashed = if right && !self.is_ours(&kept) {
            Some(self.hash_now(password)?)
        } else {
            None
        };
        Ok((right, rehashed))
    }

    fn is_ours(&self, kept: &PasswordHash) -> bool {
        let ours = self.argon.params();
        kept.algorithm.as_str() == "argon2id"
            && Params::try_from(kept).is_ok_and(|params| {
                (params.m_cost(), params.t_cost(), params.p_cost())
                    == (ours.m_cost(), ours.t_cost(), ours.p_cost())
            })
    }
}

/// As many as are asked for, else half of the cores that this process may use.
fn at_once(asked: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    if asked > 0 {
        asked
    } else {
        (cores() / 2).max(1)
    }
}

/// What is kept, if it can be compared with at a bearable price.
fn readable(kept: &str) -> Option<PasswordHash> {
    let kept = PasswordHash::new(kept).ok()?;
    let bearable = match kept.algorithm.as_str() {
        "pbkdf2-sha256" => {
            let rounds = kept.params.get_decimal("i");
            rounds.is_none_or(|rounds| rounds <= MOST_ROUNDS)
        }
        "argon2id" | "argon2i" | "argon2d" => Params::try_from(&kept).is_ok_and(|params| {
            let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
            params.m_cost() <= MOST_MEMORY && work <= MOST_WORK
        }),
        _ => false,
    };
    bearable.then_some(kept)
}

/// Leaves the processor to whoever else wants it: a thread of its own may be slow.
fn stand_back() {
    // Elsewhere this would slow down the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!(%error, "hashing goes on at full priority");
    }
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("a password could not be hashed: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap(rounds: u32) -> Arc<Passwords> {
        let mut config = config::tests::development().auth;
        (config.hash_memory_kib, config.hash_rounds) = (64, rounds);
        Arc::new(Passwords::new(&config).expect("settings"))
    }

    #[test]
    fn short_common_and_personal_passwords_are_refused() {
        let accept = |password: &str| accept("password", &password.into(), "ada.byron@example.org");
        for bad in [
            "short12",
            "Password1",
            "12345678",
            "ada.byron@example.org",
            "Ada.Byron",
        ] {
            accept(bad).expect_err(bad);
        }
        for good in ["correct horse", "ключ-от-дома", "ada.byron@example.com"] {
            accept(good).expect(good);
        }
    }

    #[test]
    fn the_list_has_what_people_use_and_nothing_that_is_refused_anyway() {
        assert!(COMMONEST.len() > 900, "{}", COMMONEST.len());
        for word in COMMONEST.iter() {
            assert!(
                word.chars().count() >= SHORTEST && *word == word.to_lowercase(),
                "{word}"
            );
        }
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_and_no_other() {
        let passwords = cheap(1);
        let turn = passwords.turn().await.expect("nobody else");
        let kept = passwords
            .hash(&turn, &"correct horse".into())
            .await
            .expect("a hash");
        assert!(kept.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{kept}");
        let right = passwords
            .verify(&turn, &"correct horse".into(), Some(&kept))
            .await;
        let right = right.expect("a verdict");
        assert!(right.right && right.rehashed.is_none());
        for (password, kept) in [("correct horsf", Some(kept.as_str())), ("anything", None)] {
            let verdict = passwords
                .verify(&turn, &password.into(), kept)
                .await
                .expect("a verdict");
            assert!(!verdict.right && verdict.rehashed.is_none());
        }
        assert_eq!(passwords.comparisons(), 3);
    }

    #[tokio::test]
    async fn what_was_kept_in_another_way_is_kept_anew() {
        let (passwords, cheaper) = (cheap(2), cheap(1));
        let turn = passwords.turn().await.expect("nobody else");
        // By Python: hashlib.pbkdf2_hmac("sha256", b"correct horse", b"0123456789abcdef", 1000).
        let imported = "$pbkdf2-sha256$i=1000$MDEyMzQ1Njc4OWFiY2RlZg$cBg8D2DungRB9k76szThf5ehfyBz991ay6PT8Srwk4M";
        let weaker = cheaper.hash(&turn, &"correct horse".into()).await;
        let weaker = weaker.expect("a hash");
        for kept in [imported, weaker.as_str()] {
            let verdict = passwords
                .verify(&turn, &"correct horse".into(), Some(kept))
                .await;
            let verdict = verdict.expect("a verdict");
            let anew = verdict.rehashed.expect("another hash");
            assert!(
                verdict.right && anew.starts_with("$argon2id$v=19$m=64,t=2,p=1$"),
                "{anew}"
            );
            let wrong = passwords
                .verify(&turn, &"wrong horse".into(), Some(kept))
                .await;
            assert!(!wrong.expect("a verdict").right);
        }
    }

    #[test]
    fn hashing_leaves_half_of_the_cores_to_everything_else() {
        let cores = std::thread::available_parallelism().expect("a number");
        assert_eq!(at_once(3), 3);
        assert!(at_once(0) >= 1 && at_once(0) <= usize::from(cores).div_ceil(2));
    }

    #[tokio::test]
    async fn a_full_queue_turns_away_at_once() {
        let mut config = config::tests::development().auth;
        (config.hashes_at_once, config.hashes_waiting) = (1, 2);
        let passwords = Arc::new(Passwords::new(&config).expect("settings"));
        let storm = (0..20).map(|_| {
            let passwords = Arc::clone(&passwords);
            tokio::spawn(async move {
                let turn = passwords.turn().await?;
                passwords.verify(&turn, &"x".into(), None).await
            })
        });
        let storm: Vec<_> = storm.collect();
        let (mut done, mut refused) = (0, 0);
        for one in storm {
            match one.await.expect("no panic") {
                Ok(_) => done += 1,
                Err(error) => {
                    assert_eq!(error.code(), crate::error::Code::Unavailable);
                    refused += 1;
                }
            }
        }
        assert!(done >= 3 && refused >= 1, "{done} done, {refused} refused");
    }
}
