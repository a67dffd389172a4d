//! Links that prove, once and for a while, that an address is somebody's.

use chrono::TimeDelta;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use super::jobs::MailResetLink;
use super::sessions::{self, EndedBy};
use super::user::User;
use super::{AccountError, line, normal_email, notices, store};
use crate::clock::Time;
use crate::config::Config;
use crate::error::{Code, Fault, OnConstraint as _, Result};
use crate::ids::{self, UserId};
use crate::mail::{self, Letter};
use crate::tx::Tx;

/// Nobody is mailed another link of a kind within this time.
const PATIENCE: TimeDelta = TimeDelta::minutes(1);
/// Links to confirm an address that one account can have mailed within an hour, to whatever addresses.
const VERIFICATIONS_AN_HOUR: i64 = 5;

#[derive(Debug, thiserror::Error)]
#[error("A link was mailed a moment ago. Look there, or ask for another in {seconds} seconds.")]
pub struct MailedAlready {
    seconds: i64,
}

impl Fault for MailedAlready {
    fn code(&self) -> Code {
        Code::RateLimited
    }

    fn details(&self) -> serde_json::Value {
        json!({ "retry_after": self.seconds })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Reset,
    Verify,
}

impl Purpose {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Verify => "verify",
        }
    }
}

/// Asks for a link to set a new password. The same is done whether there is such an account or not: the
/// job finds out.
pub async fn ask_for_reset(tx: &mut Tx, email: &str) -> Result<()> {
    let user_id = store::id_by_email(tx, &normal_email(email)).await?;
    tx.enqueue(&MailResetLink { user_id });
    Ok(())
}

/// Mails the link, unless there is nobody to mail it to or it was mailed a moment ago.
pub async fn mail_reset(tx: &mut Tx, user_id: Option<UserId>, config: &Config) -> Result<()> {
    let Some(user_id) = user_id else {
        return Ok(());
    };
    let user = store::lock(tx, user_id).await?;
    let Some(user) = user.filter(|user| user.is_active) else {
        return Ok(());
    };
    let since = tx.now() - PATIENCE;
    if store::mailed_since(tx, user_id, Purpose::Reset, since).await? {
        return Ok(());
    }
    write(tx, &user, &user.email, Purpose::Reset, config).await?;
    tx.record(line(user_id, "user.reset_link_mailed", json!({})));
    Ok(())
}

/// Mails a link that confirms an address: the account's own, or the one it is to move to.
pub(super) async fn mail_verify(
    tx: &mut Tx,
    user: &User,
    email: &str,
    config: &Config,
) -> Result<()> {
    write(tx, user, email, Purpose::Verify, config).await
}

/// Why somebody who is signed in cannot have another such link mailed now, if they cannot: neither may an account flood
/// others, nor may an address be flooded.
pub(super) async fn pause_before_verify(
    tx: &mut Tx,
    user: &User,
    email: &str,
) -> Result<Option<MailedAlready>> {
    let (now, hour) = (tx.now(), TimeDelta::hours(1));
    let mailed = store::verifications(tx, user.id, email, now - PATIENCE, now - hour).await?;
    let again_at = if mailed.by_account >= VERIFICATIONS_AN_HOUR {
        mailed.first_by_account.map(|at| at + hour)
    } else {
        mailed.last_to_address.map(|at| at + PATIENCE)
    };
    Ok(again_at.map(|at| MailedAlready {
        seconds: (at - now).num_seconds().max(1),
    }))
}

/// Tells the address that an account has that it is to have another: its owner may know nothing of it.
pub(super) async fn warn_of_move(tx: &mut Tx, user: &User) -> Result<()> {
    let letter = Letter {
        organization_id: None,
        cause: format!("address-change:{}", ids::fresh(tx.now())),
        recipient: user.email.clone(),
        template: "address-change",
        locale: user.locale.clone(),
        params: json!({ "name": user.full_name }),
    };
    mail::write(tx, letter).await?;
    Ok(())
}

async fn write(
    tx: &mut Tx,
    user: &User,
    email: &str,
    purpose: Purpose,
    config: &Config,
) -> Result<()> {
    let (path, template, lasts) = match purpose {
        Purpose::Reset => ("reset-password", "password-reset", config.auth.reset_link),
        Purpose::Verify => ("verify-email", "verify-email", config.auth.verify_link),
    };
    let (token, now) = (ids::url_token(), tx.now());
    let expires_at = now + lasts.delta();
    store::insert_link(tx, &hash(&token), user.id, purpose, email, now, expires_at).await?;
    let letter = Letter {
        organization_id: None,
        cause: format!("account-link:{}", hex::encode(hash(&token))),
        recipient: email.to_owned(),
        template,
        locale: user.locale.clone(),
        params: json!({
            "name": user.full_name,
            "link": format!("{}/{path}?token={token}", config.general.public_url.0),
            "until": expires_at.format("%-d %B %Y, %H:%M UTC").to_string(),
        }),
    };
    mail::write(tx, letter).await?;
    Ok(())
}

/// Whose password a reset link may set. Fails if the link does not work.
pub async fn whose_reset(
    db: &mut PgConnection,
    token: &SecretString,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<User> {
    let link = store::link(db, &hash(token.expose_secret()), Purpose::Reset, now).await?;
    let link = link.ok_or(AccountError::LinkNotFound)?;
    let user = store::get(db, link.user_id).await?;
    // A link proves the address it was mailed to, and none that the account has moved to since.
    Ok(user
        .filter(|user| user.is_active && user.email == link.email)
        .ok_or(AccountError::LinkNotFound)?)
}

/// Tells Redis once more of the sessions that a link has ended, if it was used a moment ago: whoever asks again may do so
/// because Redis was away then.
pub async fn tell_of_reset(tx: &mut Tx, token: &SecretString) -> Result<()> {
    let token = hash(token.expose_secret());
    if let Some(user_id) = store::whose_used_link(tx, &token, Purpose::Reset).await? {
        sessions::tell_again(tx, user_id).await?;
    }
    Ok(())
}

/// Sets a new password by a link, which proves the address as well. Ends every session.
pub async fn reset_password(
    tx: &mut Tx,
    token: &SecretString,
    password_hash: &str,
) -> Result<UserId> {
    let now = tx.now();
    let found = whose_reset(tx, token, now).await?;
    store::lock(tx, found.id).await?;
    // Now that nobody else uses or ends a link of this account: does it still work?
    let mut user = whose_reset(tx, token, now).await?;
    tx.authenticated(user.id);
    store::set_password(tx, user.id, password_hash).await?;
    // Whoever asked for another address before may be who the password is changed against.
    forget_links(tx, user.id).await?;
    if user.email_verified_at.is_none() || user.pending_email.is_some() {
        user.pending_email = None;
        user.email_verified_at = user.email_verified_at.or(Some(Time(now)));
        user.version += 1;
        user.updated_at = now.into();
        store::update(tx, &user).await?;
    }
    notices::of_password(tx, &user).await?;
    sessions::end_all(tx, user.id, None, EndedBy::Password).await?;
    tx.record(line(user.id, "user.password_reset", json!({})));
    Ok(user.id)
}

/// Confirms an address by the link that was mailed there; moves the account to it where that was asked.
pub async fn verify_email(tx: &mut Tx, token: &SecretString) -> Result<()> {
    let now = tx.now();
    let hash = hash(token.expose_secret());
    let found = store::link(tx, &hash, Purpose::Verify, now).await?;
    let found = found.ok_or(AccountError::LinkNotFound)?;
    let user = store::lock(tx, found.user_id).await?;
    // Now that nobody else uses or ends a link of this account: does it still work?
    let link = store::link(tx, &hash, Purpose::Verify, now).await?;
    let link = link.ok_or(AccountError::LinkNotFound)?;
    let mut user = user
        .filter(|user| user.is_active)
        .ok_or(AccountError::LinkNotFound)?;
    if user.pending_email.as_ref() == Some(&link.email) {
        notices::of_address(tx, &user).await?;
        user.email = link.email;
        user.pending_email = None;
    } else if user.email != link.email {
        // The address was changed again meanwhile.
        return Err(AccountError::LinkNotFound.into());
    }
    tx.authenticated(user.id);
    user.email_verified_at = Some(Time(now));
    user.version += 1;
    user.updated_at = now.into();
    store::update(tx, &user)
        .await
        .on_constraint("users_email_key", || AccountError::EmailTaken)?;
    forget_links(tx, user.id).await?;
    tx.record(line(user.id, "user.email_verified", json!({})));
    Ok(())
}

/// Ends every link that was mailed for an account: what they were to prove is settled another way.
pub(super) async fn forget_links(tx: &mut Tx, user_id: UserId) -> Result<()> {
    let now = tx.now();
    store::use_up_links(tx, user_id, Purpose::Reset, now).await?;
    store::use_up_links(tx, user_id, Purpose::Verify, now).await
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
