//! Logging in: [`look_up`], then a comparison of passwords with no transaction open, then [`settle`].
//!
//! A stranger learns nothing but whether address and password belong together: the same is done, and the same
//! is answered, for an account that does not exist, is deactivated or has no password.

use secrecy::SecretString;
use serde_json::json;
use sqlx::PgConnection;

use super::attempts::{self, Attempt};
use super::passwords::{Turn, Verdict};
use super::sessions::{self, Device, Opened};
use super::{AccountError, line, normal_email, store};
use crate::app::App;
use crate::config;
use crate::error::Result;
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

    /// Compares the password, once there was no pause to wait for.
    pub async fn prove(
        &self,
        app: &App,
        turn: &Turn<'_>,
        password: &SecretString,
        address: &str,
    ) -> Result<Option<Verdict>> {
        let config = &app.config.auth;
        let attempt =
            Attempt::begin(&app.redis, &self.email, address, app.clock.now(), config).await?;
        let kept = self.account.as_ref().map(|(_, kept)| kept.as_str());
        let verdict = app.passwords.verify(turn, password, kept).await?;
        if !verdict.right {
            return Ok(None);
        }
        attempt.succeeded(&app.redis).await?;
        Ok(Some(verdict))
    }
}

/// What came of a login. A failure is written down as well, so it must be committed, and then answered.
#[derive(Debug)]
pub enum Outcome {
    LoggedIn(Opened),
    Refused,
}

impl Outcome {
    pub fn opened(self) -> Result<Opened, AccountError> {
        match self {
            Self::LoggedIn(opened) => Ok(opened),
            Self::Refused => Err(AccountError::WrongCredentials),
        }
    }
}

/// Opens a session, or writes down that somebody has tried.
pub async fn settle(
    tx: &mut Tx,
    claim: &Claim,
    verdict: Option<Verdict>,
    device: &Device,
    config: &config::Auth,
) -> Result<Outcome> {
    let (Some((user_id, compared)), Some(verdict)) = (&claim.account, verdict) else {
        refuse(tx, claim);
        return Ok(Outcome::Refused);
    };
    let now = tx.now();
    let account = store::lock_credentials(tx, *user_id).await?;
    // It may have been deactivated, or have another password, since we compared.
    let unchanged = account.is_some_and(|account| {
        account.is_active && account.password_hash.as_ref() == Some(compared)
    });
    if !unchanged {
        refuse(tx, claim);
        return Ok(Outcome::Refused);
    }
    tx.authenticated(*user_id);
    if let Some(anew) = verdict.rehashed {
        store::set_password(tx, *user_id, &anew).await?;
    }
    store::logged_in(tx, *user_id, now).await?;
    let opened = sessions::open(tx, *user_id, device, config).await?;
    let data = json!({ "session_id": opened.session_id });
    tx.record(line(*user_id, "user.logged_in", data));
    Ok(Outcome::LoggedIn(opened))
}

/// Tells of the account if there is one; else of an address that is recognised only by its hash.
fn refuse(tx: &mut Tx, claim: &Claim) {
    let activity = if let Some((user_id, _)) = &claim.account {
        line(*user_id, "user.login_failed", json!({}))
    } else {
        let nobody = UserId(ids::fresh(tx.now()));
        let data = json!({ "email_hash": attempts::hash(&claim.email) });
        line(nobody, "user.login_failed", data)
    };
    tx.record(activity);
}
