//! Logging in: [`look_up`], then a comparison of passwords with no transaction open, then [`settle`].
//!
//! A stranger learns nothing but whether address and password belong together: the same is done, and the same
//! is answered, for an account that does not exist, is deactivated or has no password. What is kept of passwords
//! is not of one kind and takes more or less time to compare with, so a refusal waits for its time
//! ([`Proof::wait`]).

use std::time::Duration;

use secrecy::SecretString;
use serde_json::json;
use sqlx::PgConnection;
use tokio::time::Instant;

use super::attempts::{self, Attempt, TooManyFailures};
use super::passwords::{Turn, Verdict};
use super::sessions::{self, Device, Opened};
use super::{AccountError, line, normal_email, notices, store};
use crate::app::App;
use crate::config;
use crate::error::{Invalid, Result};
use crate::ids::{self, UserId};
use crate::tx::Tx;

/// Whoever says that an account is theirs.
#[derive(Debug)]
pub struct Claim {
    email: String,
    account: Option<(UserId, String)>,
}

/// Whose password the caller's is to be compared with.
pub async fn look_up(db: &mut PgConnection, email: &str) -> Result<Claim> {
    let email = normal_email(email);
    let found = store::credentials_by_email(db, &email).await?;
    let account = found
        .filter(|account| account.is_active)
        .and_then(|account| Some((account.id, account.password_hash?)));
    Ok(Claim { email, account })
}

/// The same for somebody who is signed in, and is to prove it once more.
pub async fn of_person(db: &mut PgConnection, user_id: UserId) -> Result<Claim> {
    let email = super::get(db, user_id).await?.email;
    let kept = store::password_of(db, user_id).await?;
    Ok(Claim {
        email,
        account: kept.map(|kept| (user_id, kept)),
    })
}

impl Claim {
    #[must_use]
    pub fn email(&self) -> &str {
        &self.email
    }

    /// What the password is compared with.
    #[must_use]
    pub fn compared(&self) -> Option<String> {
        self.account.as_ref().map(|(_, kept)| kept.clone())
    }

    /// Compares the password, unless there is a pause to wait for.
    pub async fn prove(
        &self,
        app: &App,
        turn: &Turn<'_>,
        password: &SecretString,
        address: &str,
    ) -> Result<Proof> {
        let config = &app.config.auth;
        let begun = Attempt::begin(&app.redis, &self.email, address, app.clock.now(), config);
        let attempt = match begun.await? {
            Ok(attempt) => attempt,
            Err(pause) => return Ok(Proof::Paused(pause)),
        };
        let kept = self.account.as_ref().map(|(_, kept)| kept.as_str());
        let verdict = app.passwords.verify(turn, password, kept).await?;
        if verdict.right {
            attempt.succeeded(&app.redis).await?;
        }
        Ok(Proof::Compared(verdict))
    }
}

/// What came of comparing a password.
#[derive(Debug)]
pub enum Proof {
    Compared(Verdict),
    /// It was not compared, since that has failed too often.
    Paused(TooManyFailures),
}

impl Proof {
    /// Waits until a refusal is due. Whoever measures it learns nothing of what the password was compared with.
    pub async fn wait(&self, config: &config::Auth) {
        if let Self::Compared(verdict) = self {
            let due = due(verdict.begun, Instant::now(), config.refusals_take.0);
            tokio::time::sleep_until(due).await;
        }
    }

    /// Whoever is signed in has proved who they are once more, or is told why not.
    pub fn accepted(self) -> Result<()> {
        match self {
            Self::Compared(verdict) if verdict.right => Ok(()),
            Self::Compared(_) => Err(Invalid::field("old_password", "is not right").into()),
            Self::Paused(pause) => Err(pause.into()),
        }
    }

    #[must_use]
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Compared(verdict) if verdict.right)
    }

    /// What the feed is told of a failure.
    fn why(&self) -> &'static str {
        match self {
            Self::Compared(_) => "wrong",
            Self::Paused(_) => "paused",
        }
    }
}

/// The first of the moments, one `step` apart from `begun` on, that is not over yet. Whatever takes longer than a
/// step tells in which step it ended, and no more.
fn due(begun: Instant, now: Instant, step: Duration) -> Instant {
    let step = step.as_nanos().max(1);
    let steps = (now - begun).as_nanos().div_ceil(step).max(1);
    begun + Duration::from_nanos(u64::try_from(steps * step).unwrap_or(u64::MAX))
}

/// What came of a login. A failure is written down as well, so it must be committed, and then answered.
#[derive(Debug)]
pub enum Outcome {
    LoggedIn(Opened),
    Refused(Proof),
}

impl Outcome {
    /// Whoever is let in; whoever is not hears so when it is time.
    pub async fn opened(self, config: &config::Auth) -> Result<Opened> {
        match self {
            Self::LoggedIn(opened) => Ok(opened),
            Self::Refused(Proof::Paused(pause)) => Err(pause.into()),
            Self::Refused(proof) => {
                proof.wait(config).await;
                Err(AccountError::WrongCredentials.into())
            }
        }
    }
}

/// Opens a session, or writes down that somebody has tried.
pub async fn settle(
    tx: &mut Tx,
    claim: &Claim,
    proof: Proof,
    device: &Device,
    config: &config::Auth,
) -> Result<Outcome> {
    let (true, Some((user_id, compared))) = (proof.is_right(), &claim.account) else {
        return Ok(refuse(tx, claim, proof));
    };
    let now = tx.now();
    let account = store::lock_credentials(tx, *user_id).await?;
    // It may have been deactivated, or have another password, since we compared.
    let unchanged = account.is_some_and(|account| {
        account.is_active && account.password_hash.as_ref() == Some(compared)
    });
    if !unchanged {
        return Ok(refuse(tx, claim, proof));
    }
    tx.authenticated(*user_id);
    if let Proof::Compared(Verdict {
        rehashed: Some(anew),
        ..
    }) = &proof
    {
        store::set_password(tx, *user_id, anew).await?;
    }
    store::logged_in(tx, *user_id, now).await?;
    let opened = sessions::open(tx, *user_id, device, config).await?;
    notices::of_login(tx, *user_id, opened.session_id, device).await?;
    let data = json!({ "session_id": opened.session_id });
    tx.record(line(*user_id, "user.logged_in", data));
    Ok(Outcome::LoggedIn(opened))
}

/// Tells of the account if there is one; else of an address that is recognised only by its hash.
fn refuse(tx: &mut Tx, claim: &Claim, proof: Proof) -> Outcome {
    let mut data = json!({ "why": proof.why() });
    let subject = if let Some((user_id, _)) = &claim.account {
        *user_id
    } else {
        data["email_hash"] = json!(attempts::hash(&claim.email));
        UserId(ids::fresh(tx.now()))
    };
    tx.record(line(subject, "user.login_failed", data));
    Outcome::Refused(proof)
}

/// Somebody who is signed in did not know the password of the account: maybe it is not theirs.
pub async fn proof_failed(tx: &mut Tx, user_id: UserId, proof: &Proof) -> Result<()> {
    let why = json!({ "why": proof.why() });
    tx.record(line(user_id, "user.proof_failed", why));
    // Or they have changed it a moment ago, and only Redis was not told what that ended.
    sessions::tell_again(tx, user_id).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_refusal_is_due_at_a_fixed_time_and_after_that_at_multiples_of_it() {
        let begun = Instant::now();
        for (took, due_after) in [
            (0, 500),
            (1, 500),
            (60, 500),
            (500, 500),
            (501, 1_000),
            (1_700, 2_000),
        ] {
            let due = due(begun, begun + millis(took), millis(500));
            assert_eq!(due - begun, millis(due_after), "{took}");
        }
    }

    #[tokio::test]
    async fn no_refusal_comes_before_it_is_due() {
        let mut auth = config::tests::development().auth;
        auth.refusals_take.0 = millis(80);
        for took in [0, 30] {
            let begun = Instant::now() - millis(took);
            let (right, rehashed) = (false, None);
            let verdict = Verdict {
                right,
                rehashed,
                begun,
            };
            let refused = Outcome::Refused(Proof::Compared(verdict));
            refused.opened(&auth).await.expect_err("refused");
            assert!(begun.elapsed() >= millis(80), "{took}");
        }
    }
}
