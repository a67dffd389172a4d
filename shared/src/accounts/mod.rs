//! Accounts: people, how they prove who they are, and where they are signed in.
//!
//! An address is one account, however it is typed. Passwords and tokens are kept as hashes only. What a
//! stranger asks is answered the same, and takes the same, whether an account exists or not; the one exception
//! is registering, which has to say that an address is taken.
//!
//! | file | holds |
//! |---|---|
//! | [`user`] | what an account is, and what may be changed of it |
//! | [`passwords`] | which passwords are accepted, and how they are kept |
//! | [`login`] | from address and password to a session |
//! | [`attempts`] | the pause after too many failures |
//! | [`sessions`] | where somebody is signed in, and the refresh tokens that keep them so |
//! | [`links`] | mailed links: new password, confirmed address |
//! | `notices` | mails of what has happened to an account |

pub mod attempts;
pub mod jobs;
pub mod links;
pub mod login;
mod notices;
pub mod passwords;
pub mod sessions;
mod store;
pub mod user;

use poem_openapi::Enum;
use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::access::{self, Person, Whose};
use crate::activity::{self, Activity};
use crate::app::App;
use crate::config::Config;
use crate::error::{Code, Fault, Invalid, OnConstraint as _, Result};
use crate::ids::{OrganizationId, UserId};
use crate::mail::{self, Letter};
use crate::organizations::{self, NewOrganization};
use crate::page::{Page, Paging};
use crate::patch::Patch;
use crate::tx::Tx;
use crate::version::Expected;

pub use user::{Membership, Profile, ProfileChange, RoleIn, User, UserChange};

use sessions::EndedBy;

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("There is no such account.")]
    NotFound,
    #[error("There is an account with this address already.")]
    EmailTaken,
    #[error("E-mail and password do not belong together.")]
    WrongCredentials,
    #[error("The refresh token is not good any more. Log in again.")]
    BadRefreshToken,
    #[error(
        "Another request has used this refresh token a moment ago. Go on with what that one was answered."
    )]
    AlreadyRefreshed,
    #[error("You have no such session.")]
    SessionNotFound,
    #[error("The link is not known, has been used, or has expired. Ask for another.")]
    LinkNotFound,
}

impl Fault for AccountError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::UserNotFound,
            Self::EmailTaken => Code::EmailTaken,
            Self::WrongCredentials | Self::BadRefreshToken => Code::InvalidCredentials,
            Self::AlreadyRefreshed => Code::AlreadyRefreshed,
            Self::SessionNotFound => Code::LoginSessionNotFound,
            Self::LinkNotFound => Code::LinkNotFound,
        }
    }
}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// As [`normal_email`] writes it.
    pub email: String,
    pub full_name: String,
    pub phone: Option<String>,
    pub locale: String,
    /// A PHC string; `None` until its owner chooses a password by link.
    pub password_hash: Option<String>,
}

/// Which accounts to list, and in which order.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// Part of the name or the address.
    pub q: Option<String>,
    pub active: Option<bool>,
    pub organization_id: Option<OrganizationId>,
    pub sort: UserSort,
    pub descending: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum UserSort {
    #[default]
    Name,
    Email,
    Created,
}

impl UserSort {
    fn column(self) -> &'static str {
        match self {
            Self::Name => "lower(full_name)",
            Self::Email => "email",
            Self::Created => "created_at",
        }
    }
}

/// The one way in which an address is written and compared.
#[must_use]
pub fn normal_email(typed: &str) -> String {
    typed.trim().to_lowercase()
}

/// The normal form of an address that mail can be sent to.
pub fn valid_email(field: &str, typed: &str) -> Result<String> {
    match mail::address(typed) {
        Some(address) => Ok(normal_email(address)),
        None => Err(Invalid::field(field, "must be a mail address").into()),
    }
}

/// Makes an account, without a word to its owner.
pub async fn create(tx: &mut Tx, new: &NewAccount) -> Result<UserId> {
    let (id, now) = (UserId::fresh(tx.now()), tx.now());
    store::insert(tx, id, new, now)
        .await
        .on_constraint("users_email_key", || AccountError::EmailTaken)?;
    tx.record(line(id, "user.created", json!({})));
    Ok(id)
}

/// Whether an account has shown that this address is its own.
pub async fn has_verified(db: &mut PgConnection, id: UserId, email: &str) -> Result<bool> {
    store::has_verified(db, id, &normal_email(email)).await
}

/// Fails early, before a password is hashed for nothing; the constraint decides in the end.
pub async fn is_free(db: &mut PgConnection, email: &str) -> Result<()> {
    match store::id_by_email(db, email).await? {
        Some(_) => Err(AccountError::EmailTaken.into()),
        None => Ok(()),
    }
}

/// Makes the account of whoever asks for it, welcomes them, and mails a link that confirms the address.
pub async fn register(tx: &mut Tx, new: &NewAccount, config: &Config) -> Result<UserId> {
    let id = create(tx, new).await?;
    tx.authenticated(id);
    let user = get(tx, id).await?;
    let welcome = Letter {
        organization_id: None,
        cause: format!("welcome:{id}"),
        recipient: user.email.clone(),
        template: "welcome",
        locale: user.locale.clone(),
        params: json!({ "name": user.full_name, "installation": config.general.public_url.0 }),
    };
    mail::write(tx, welcome).await?;
    links::mail_verify(tx, &user, &user.email, config).await?;
    Ok(id)
}

/// The same, and an organization that they own.
pub async fn register_organizer(
    tx: &mut Tx,
    new: &NewAccount,
    organization: &str,
    config: &Config,
) -> Result<UserId> {
    let id = register(tx, new, config).await?;
    organizations::found(tx, NewOrganization::named(organization), id).await?;
    Ok(id)
}

pub async fn get(db: &mut PgConnection, id: UserId) -> Result<User> {
    Ok(store::get(db, id).await?.ok_or(AccountError::NotFound)?)
}

/// An account and what it belongs to.
pub async fn profile(db: &mut PgConnection, id: UserId) -> Result<Profile> {
    let user = get(db, id).await?;
    let organizations = store::memberships(db, id).await?;
    Ok(Profile {
        user,
        organizations,
    })
}

pub async fn list(
    db: &mut PgConnection,
    filter: &UserFilter,
    paging: Paging,
) -> Result<Page<User>> {
    store::list(db, filter, paging).await
}

/// Somebody who is signed in has proved their password once more.
#[derive(Debug)]
pub struct Proved {
    /// What it was compared with: if that is another by now, the proof is none.
    pub compared: Option<String>,
    /// What to keep of the password that replaces it.
    pub new_hash: Option<String>,
}

/// Changes what a person names of their own account. Another password or address needs the password of today: a session
/// left open somewhere is not enough to take the account.
pub async fn change_own(
    tx: &mut Tx,
    person: Person,
    seen: Expected,
    mut change: ProfileChange,
    proved: Option<Proved>,
    config: &Config,
) -> Result<()> {
    let before = lock(tx, person.user_id).await?;
    seen.check(before.version)?;
    if let Some(proved) = &proved
        && store::password_of(tx, person.user_id).await? != proved.compared
    {
        let message = "is not right any more";
        return Err(Invalid::field("old_password", message).into());
    }
    if proved.is_none() && change.needs_proof(&before) {
        return Err(Invalid::field("old_password", "is missing").into());
    }
    let email = std::mem::take(&mut change.email);
    let mut user = change.applied_to(before.clone());
    if let Some(hash) = proved.and_then(|proved| proved.new_hash) {
        set_password(tx, person, &hash).await?;
        notices::of_password(tx, &before).await?;
        // A new password ends what somebody else may have begun with the old one.
        user.pending_email = None;
        links::forget_links(tx, user.id).await?;
    }
    if let Patch::Set(email) = email {
        move_to(tx, &mut user, &valid_email("email", &email)?, config).await?;
    }
    save(tx, &before, user).await
}

/// Has the address confirmed by whoever reads mail there, before it counts, and tells the old one. That an address is
/// taken is said as plainly as in registering: both are counted against the same limit.
async fn move_to(tx: &mut Tx, user: &mut User, email: &str, config: &Config) -> Result<()> {
    let own = user.email == email;
    let moves = !own && user.pending_email.as_deref() != Some(email);
    user.pending_email = (!own).then(|| email.to_owned());
    if own && user.email_verified_at.is_some() {
        return Ok(());
    }
    if !own {
        is_free(tx, email).await?;
    }
    match links::pause_before_verify(tx, user, email).await? {
        Some(pause) if moves => return Err(pause.into()),
        // The link that was mailed a moment ago does.
        Some(_) => return Ok(()),
        None => {}
    }
    if moves {
        links::warn_of_move(tx, user).await?;
    }
    tx.record(line(user.id, "user.verify_link_mailed", json!({})));
    links::mail_verify(tx, user, email, config).await
}

async fn set_password(tx: &mut Tx, person: Person, hash: &str) -> Result<()> {
    store::set_password(tx, person.user_id, hash).await?;
    tx.record(line(person.user_id, "user.password_changed", json!({})));
    sessions::end_all(
        tx,
        person.user_id,
        Some(person.session_id),
        EndedBy::Password,
    )
    .await
}

/// Changes an account by the right of an administrator.
pub async fn change(tx: &mut Tx, id: UserId, seen: Expected, mut change: UserChange) -> Result<()> {
    let before = lock(tx, id).await?;
    seen.check(before.version)?;
    let role = change.role.take();
    let decided = role.as_ref().map(|role| role.organization_id);
    if change.is_active == Patch::Set(false) {
        organizations::members::keep_owners_without(tx, id, decided).await?;
    }
    if let Some(role) = role {
        organizations::set_role(tx, role.organization_id, id, role.role_id).await?;
    }
    let user = change.applied_to(before.clone());
    if !user.is_active {
        // Also when it was so before: asking again tells Redis again.
        switched_off(tx, id).await?;
    }
    save(tx, &before, user).await
}

/// Ends all sessions of an account and lets nobody log in to it. Doing so again changes nothing. The last owner of an
/// organization stays: somebody else must become one first.
pub async fn deactivate(tx: &mut Tx, id: UserId) -> Result<()> {
    let before = lock(tx, id).await?;
    organizations::members::keep_owners_without(tx, id, None).await?;
    let user = User {
        is_active: false,
        ..before.clone()
    };
    switched_off(tx, id).await?;
    save(tx, &before, user).await
}

async fn switched_off(tx: &mut Tx, id: UserId) -> Result<()> {
    access::changed(tx, Whose::User(id));
    sessions::end_all(tx, id, None, EndedBy::Deactivated).await
}

/// Makes somebody a platform administrator; only the command line of the server does.
pub async fn make_platform_admin(tx: &mut Tx, id: UserId) -> Result<()> {
    let before = lock(tx, id).await?;
    let user = User {
        is_platform_admin: true,
        is_active: true,
        ..before.clone()
    };
    access::changed(tx, Whose::User(id));
    save(tx, &before, user).await
}

/// The account with this address, if there is one.
pub async fn by_email(db: &mut PgConnection, email: &str) -> Result<Option<UserId>> {
    store::id_by_email(db, &normal_email(email)).await
}

/// Whether the account with this address is active and a platform administrator.
pub async fn is_admin(db: &mut PgConnection, email: &str) -> Result<bool> {
    let Some(id) = by_email(db, email).await? else {
        return Ok(false);
    };
    let user = get(db, id).await?;
    Ok(user.is_active && user.is_platform_admin)
}

/// Those of these addresses whose account is active and opens with this password. Accounts that were made together may
/// share a hash, which is compared once.
pub async fn with_password(
    app: &App,
    emails: &[String],
    password: &SecretString,
) -> Result<Vec<String>> {
    let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut db = app.read().await?;
    for email in emails {
        let found = store::credentials_by_email(&mut db, email).await?;
        let hash = found
            .filter(|it| it.is_active)
            .and_then(|it| it.password_hash);
        if let Some(hash) = hash {
            kept.entry(hash).or_default().push(email.clone());
        }
    }
    drop(db);
    let mut open = Vec::new();
    for (hash, emails) in kept {
        let turn = app.passwords.turn().await?;
        if app
            .passwords
            .verify(&turn, password, Some(&hash))
            .await?
            .right
        {
            open.extend(emails);
        }
    }
    Ok(open)
}

/// Until the end of the transaction nobody deactivates the account, or brings it back; answers whether it is in use. To be
/// called by whatever gives a role: people are locked before organizations, and organizations in the order of their ids.
pub(crate) async fn hold(tx: &mut Tx, id: UserId) -> Result<bool> {
    let user = store::lock(tx, id).await?;
    Ok(user.is_some_and(|user| user.is_active))
}

async fn lock(tx: &mut Tx, id: UserId) -> Result<User> {
    Ok(store::lock(tx, id).await?.ok_or(AccountError::NotFound)?)
}

/// Writes down what is different. The feed is told which fields, and the values of those that name nobody.
async fn save(tx: &mut Tx, before: &User, mut user: User) -> Result<()> {
    let mut changes = activity::changes(before, &user, &[])?;
    if changes.is_empty() {
        return Ok(());
    }
    for (field, values) in &mut changes {
        if !matches!(field.as_str(), "is_active" | "is_platform_admin" | "locale") {
            *values = Value::Null;
        }
    }
    user.version += 1;
    user.updated_at = tx.now().into();
    store::update(tx, &user)
        .await
        .on_constraint("users_email_key", || AccountError::EmailTaken)?;
    tx.record(line(user.id, "user.changed", Value::Object(changes)));
    Ok(())
}

/// What happens to an account concerns no organization.
fn line(user_id: UserId, kind: &'static str, data: Value) -> Activity {
    Activity {
        organization_id: None,
        kind,
        subject: user_id.into(),
        data,
    }
}
