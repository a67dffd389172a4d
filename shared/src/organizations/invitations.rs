//! Invitations: how somebody comes to belong to an organization.
//!
//! An invitation is for the account with the address it was mailed to. The link proves the address: whoever has it can
//! register that address, but an account with another one is not let in. It works once, for a week. Inviting the same address again mails a new link and ends the old one.

use chrono::TimeDelta;
use poem_openapi::Object;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::members::{self, Member, MemberError, Membership};
use super::{Organization, OrganizationInList, lock, store};
use crate::access::{Actor, Held, Right};
use crate::accounts;
use crate::activity::Activity;
use crate::config::Config;
use crate::error::{Code, Fault, Result};
use crate::ids::{self, InvitationId, OrganizationId, RoleId, UserId};
use crate::jobs::{Job, Queue};
use crate::mail::{self, Letter};
use crate::roles;
use crate::tx::Tx;

const CREATE: Right = Right {
    resource: "members",
    action: "create",
};
const LASTS: TimeDelta = TimeDelta::days(7);
/// After this long, one that was never accepted leaves no address behind.
const KEPT: TimeDelta = TimeDelta::days(30);

#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    #[error("There is no such invitation. It may have been accepted, replaced or withdrawn.")]
    NotFound,
    #[error("The invitation was not accepted in time. Ask for another.")]
    Expired,
    #[error("The invitation was sent to another mail address than yours.")]
    ForAnother,
}

impl Fault for InvitationError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::InvitationNotFound,
            Self::Expired => Code::InvitationExpired,
            Self::ForAnother => Code::InvitationForAnother,
        }
    }
}

/// An invitation to be sent.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct NewInvitation {
    #[oai(validator(max_length = 254, pattern = r"^\s*[^@\s]+@[^@\s]+\.[^@\s]+\s*$"))]
    pub email: String,
    /// One of the organization's roles.
    pub role_id: RoleId,
    /// How well the organization knows them.
    #[oai(default, validator(minimum(value = "0"), maximum(value = "9")))]
    pub vetting_level: i16,
}

/// An invitation that can be accepted.
pub(super) struct Invitation {
    pub id: InvitationId,
    pub organization_id: OrganizationId,
    pub email: String,
    pub role_id: RoleId,
    pub vetting_level: i16,
    pub expires_at: chrono::DateTime<chrono::Utc>,
}

/// Removes invitations that nobody accepted.
#[derive(Debug, Serialize, Deserialize)]
pub struct ForgetInvitations {}

impl Job for ForgetInvitations {
    const KIND: &'static str = "invitations.forget";
    const QUEUE: Queue = Queue::Background;
}

/// Mails somebody a link by which they can join.
pub async fn invite(
    tx: &mut Tx,
    id: OrganizationId,
    new: NewInvitation,
    config: &Config,
) -> Result<Member> {
    let organization = lock(tx, id).await?;
    tx.require(id)?;
    let held = Held::by_actor(tx, id).await?;
    held.require(CREATE)?;
    let role = roles::may_give(tx, &held, id, new.role_id).await?;
    let new = NewInvitation {
        email: accounts::valid_email("email", &new.email)?,
        ..new
    };
    if store::is_member_by_email(tx, id, &new.email).await? {
        return Err(MemberError::Already.into());
    }
    let (token, now) = (ids::url_token(), tx.now());
    // What was offered before ends with this, so it is taken like anything else.
    if let Some(open) = store::open_invitation_of(tx, id, &new.email, now).await? {
        take_back(tx, &held, &open).await?;
    }
    let invitation_id = InvitationId::fresh(now);
    let hash = hash(&token);
    store::put_invitation(tx, invitation_id, &new, id, &hash, [now, now + LASTS]).await?;
    let link = format!(
        "{}/accept-invitation?token={token}",
        config.general.public_url.0
    );
    write(tx, &organization, invitation_id, &new.email, &role, &link).await?;
    let data = json!({ "role_id": new.role_id, "vetting_level": new.vetting_level });
    record(tx, id, invitation_id, "invitation.sent", data);
    members::get(tx, id, invitation_id.0, true).await
}

async fn write(
    tx: &mut Tx,
    organization: &Organization,
    id: InvitationId,
    email: &str,
    role: &str,
    link: &str,
) -> Result<()> {
    let inviter = match tx.actor() {
        Actor::User(user_id) => store::person(tx, user_id).await?.map(|it| it.full_name),
        _ => None,
    };
    let until = tx.now() + LASTS;
    let letter = Letter {
        organization_id: Some(organization.id),
        cause: format!("invitation:{id}"),
        recipient: email.to_owned(),
        template: "invitation",
        locale: "en".into(),
        params: json!({
            "organization": organization.name,
            "inviter": inviter.as_ref().unwrap_or(&organization.name),
            "role": role,
            "link": link,
            "until": until.format("%-d %B %Y, %H:%M UTC").to_string(),
        }),
    };
    mail::write(tx, letter).await?;
    Ok(())
}

/// Withdraws an open invitation; false if there is none of this id. The organization must be locked.
pub(super) async fn withdraw(
    tx: &mut Tx,
    held: &Held,
    organization_id: OrganizationId,
    id: Uuid,
) -> Result<bool> {
    let Some(invitation) = store::invitation_by_id(tx, organization_id, id).await? else {
        return Ok(false);
    };
    take_back(tx, held, &invitation).await?;
    Ok(true)
}

async fn take_back(tx: &mut Tx, held: &Held, invitation: &Invitation) -> Result<()> {
    roles::may_take(tx, held, invitation.role_id).await?;
    store::delete_invitation(tx, invitation.id).await?;
    let (id, kind) = (invitation.organization_id, "invitation.withdrawn");
    record(tx, id, invitation.id, kind, json!({}));
    Ok(())
}

/// Makes the person who follows the link a member.
pub async fn accept(
    tx: &mut Tx,
    token: &SecretString,
    user_id: UserId,
) -> Result<OrganizationInList> {
    accounts::hold(tx, user_id).await?;
    let hash = hash(token.expose_secret());
    let found = store::invitation(tx, &hash).await?;
    let found = found.ok_or(InvitationError::NotFound)?;
    let organization = lock(tx, found.organization_id).await?;
    // Now that nobody else decides who belongs here: is it still open?
    let invitation = store::invitation(tx, &hash).await?;
    let invitation = invitation.ok_or(InvitationError::NotFound)?;
    let person = store::person(tx, user_id).await?;
    if person.is_none_or(|person| person.email != invitation.email) {
        return Err(InvitationError::ForAnother.into());
    }
    if invitation.expires_at <= tx.now() {
        return Err(InvitationError::Expired.into());
    }
    store::delete_invitation(tx, invitation.id).await?;
    let to_be = Membership {
        role_id: invitation.role_id,
        vetting_level: invitation.vetting_level,
    };
    members::add_as(tx, organization.id, user_id, &to_be).await?;
    let data = json!({ "user_id": user_id });
    let kind = "invitation.accepted";
    record(tx, organization.id, invitation.id, kind, data);
    Ok(OrganizationInList {
        id: organization.id,
        name: organization.name,
        slug: organization.slug,
        role_id: Some(invitation.role_id),
        role: Some(roles::name_of(tx, invitation.role_id).await?),
        vetting_level: Some(invitation.vetting_level),
    })
}

/// Removes invitations that expired long ago; at most `limit`.
pub async fn forget(tx: &mut Tx, limit: i64) -> Result<u64> {
    let before = tx.now() - KEPT;
    store::forget_invitations(tx, before, limit).await
}

/// A token has 256 random bits: it needs no slow hash, only one that cannot be turned around.
fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// Without the address: a line cannot be erased.
fn record(
    tx: &mut Tx,
    organization_id: OrganizationId,
    id: InvitationId,
    kind: &'static str,
    data: Value,
) {
    tx.record(Activity {
        organization_id: Some(organization_id),
        kind,
        subject: id.into(),
        data,
    });
}
