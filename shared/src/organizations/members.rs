//! Members: who belongs to an organization, in which role, and how well it knows them.
//!
//! Nobody gives or takes a role that may do more than they may themselves. An organization never loses its
//! last owner; an owner whose account is out of use does not count.

use std::collections::BTreeSet;

use poem_openapi::{Enum, Object};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use chrono::{DateTime, Utc};

use super::{OWNER, invitations, lock, store};
use crate::access::{self, Actor, Held, Right, Whose};
use crate::accounts;
use crate::activity::{self, Activity};
use crate::clock::Time;
use crate::error::{Code, Fault, OnConstraint as _, Result};
use crate::ids::{OrganizationId, RoleId, UserId};
use crate::page::{Page, Paging};
use crate::patch::Patch;
use crate::roles;
use crate::tx::Tx;

const WRITE: Right = Right {
    resource: "members",
    action: "write",
};
pub(super) const DELETE: Right = Right {
    resource: "members",
    action: "delete",
};

#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    #[error("The organization has no such member or invitation.")]
    NotFound,
    #[error("They belong to the organization already.")]
    Already,
    #[error("The organization would be left without an owner. Make somebody else its owner first.")]
    LastOwner,
}

impl Fault for MemberError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::MemberNotFound,
            Self::Already => Code::AlreadyMember,
            Self::LastOwner => Code::LastOwner,
        }
    }
}

/// Somebody who belongs to an organization, or is invited to.
#[derive(Debug, Clone, PartialEq, Object)]
pub struct Member {
    /// Of a member, the id of the person; of an invitation, its own.
    pub id: Uuid,
    pub status: MemberStatus,
    /// None while they are only invited.
    pub full_name: Option<String>,
    /// Told to those only who may read contact data.
    pub email: Option<String>,
    /// Told to those only who may read contact data.
    pub phone: Option<String>,
    pub avatar_url: Option<String>,
    pub role_id: RoleId,
    pub role: String,
    /// How well the organization knows them, from 0 to 9.
    pub vetting_level: i16,
    /// When they joined or were invited.
    pub since: Time,
    /// Until when the invitation can be accepted.
    pub expires_at: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[oai(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum MemberStatus {
    Active,
    Invited,
}

/// What is to be different; what is left out stays as it is.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields)]
pub struct MemberChange {
    /// One of the organization's roles.
    pub role_id: Patch<RoleId>,
    /// How well the organization knows them.
    #[oai(validator(minimum(value = "0"), maximum(value = "9")))]
    pub vetting_level: Patch<i16>,
}

/// What somebody is to an organization.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Membership {
    pub role_id: RoleId,
    pub vetting_level: i16,
}

/// Makes somebody a member, with what their role may do.
pub async fn add(tx: &mut Tx, id: OrganizationId, user_id: UserId, role_id: RoleId) -> Result<()> {
    accounts::hold(tx, user_id).await?;
    let to_be = Membership {
        role_id,
        vetting_level: 0,
    };
    add_as(tx, id, user_id, &to_be).await
}

/// The account must be held.
pub(super) async fn add_as(
    tx: &mut Tx,
    id: OrganizationId,
    user_id: UserId,
    to_be: &Membership,
) -> Result<()> {
    let now = tx.now();
    store::insert_member(tx, id, user_id, to_be, now)
        .await
        .on_constraint("members_pkey", || MemberError::Already)?;
    access::changed(tx, Whose::User(user_id));
    record(tx, id, user_id, "member.added", json!(to_be));
    Ok(())
}

/// Members and open invitations; with contact data only for those who may read it.
pub async fn list(
    db: &mut PgConnection,
    id: OrganizationId,
    with_contact: bool,
    now: DateTime<Utc>,
    paging: Paging,
) -> Result<Page<Member>> {
    super::get(db, id).await?;
    let total = store::count_members(db, id, now).await?;
    let items = store::list_members(db, id, None, with_contact, now, paging).await?;
    Ok(paging.of(items, total))
}

/// One member or open invitation.
pub(super) async fn get(
    tx: &mut Tx,
    id: OrganizationId,
    member: Uuid,
    with_contact: bool,
) -> Result<Member> {
    let now = tx.now();
    let one = Paging::new(None, Some(1))?;
    let found = store::list_members(tx, id, Some(member), with_contact, now, one).await?;
    Ok(found.into_iter().next().ok_or(MemberError::NotFound)?)
}

/// Gives a member another role or vetting level.
pub async fn change(
    tx: &mut Tx,
    id: OrganizationId,
    user_id: UserId,
    change: MemberChange,
    with_contact: bool,
) -> Result<Member> {
    // Whoever becomes an owner here must not be on their way out of use meanwhile.
    accounts::hold(tx, user_id).await?;
    lock(tx, id).await?;
    tx.require(id)?;
    let held = Held::by_actor(tx, id).await?;
    held.require(WRITE)?;
    let before = membership(tx, id, user_id).await?;
    let after = change.applied_to(before.clone());
    if after.role_id != before.role_id {
        roles::may_give(tx, &held, id, after.role_id).await?;
        roles::may_take(tx, &held, before.role_id).await?;
        keep_an_owner(tx, id, user_id, &before).await?;
    }
    let changes = activity::changes(&before, &after, &[])?;
    // Also when all is as it was: asking again tells Redis again.
    access::changed(tx, Whose::User(user_id));
    if !changes.is_empty() {
        store::update_member(tx, id, user_id, &after).await?;
        record(tx, id, user_id, "member.changed", Value::Object(changes));
    }
    get(tx, id, user_id.0, with_contact).await
}

/// Gives a member another role, and nothing else.
pub async fn set_role(
    tx: &mut Tx,
    id: OrganizationId,
    user_id: UserId,
    role_id: RoleId,
) -> Result<()> {
    let to_be = MemberChange {
        role_id: Patch::Set(role_id),
        ..MemberChange::default()
    };
    change(tx, id, user_id, to_be, false).await?;
    Ok(())
}

/// What came of a removal. That there was nobody to remove is told to Redis again, so it must be committed, and then
/// answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    Done,
    Nobody,
}

impl Removal {
    pub fn done(self) -> Result<(), MemberError> {
        match self {
            Self::Done => Ok(()),
            Self::Nobody => Err(MemberError::NotFound),
        }
    }
}

/// Removes a member or withdraws an invitation. Everybody may leave, save the last owner.
pub async fn remove(tx: &mut Tx, id: OrganizationId, member: Uuid) -> Result<Removal> {
    lock(tx, id).await?;
    tx.require(id)?;
    let user_id = UserId(member);
    let leaves = tx.actor() == Actor::User(user_id);
    let held = Held::by_actor(tx, id).await?;
    if !leaves {
        held.require(DELETE)?;
        if invitations::withdraw(tx, &held, id, member).await? {
            return Ok(Removal::Done);
        }
    }
    access::changed(tx, Whose::User(user_id));
    let Some(before) = store::membership(tx, id, user_id).await? else {
        return Ok(Removal::Nobody);
    };
    if !leaves {
        roles::may_take(tx, &held, before.role_id).await?;
    }
    keep_an_owner(tx, id, user_id, &before).await?;
    store::delete_member(tx, id, user_id).await?;
    let kind = if leaves {
        "member.left"
    } else {
        "member.removed"
    };
    record(tx, id, user_id, kind, json!({ "role_id": before.role_id }));
    Ok(Removal::Done)
}

/// Fails if the organization has no owner but this one. The organization must be locked.
async fn keep_an_owner(
    tx: &mut Tx,
    id: OrganizationId,
    user_id: UserId,
    now: &Membership,
) -> Result<()> {
    let owner = access::built_in_role(tx, OWNER).await?;
    if now.role_id == owner && !store::has_another(tx, id, owner, user_id).await? {
        return Err(MemberError::LastOwner.into());
    }
    Ok(())
}

/// Fails if somebody is the last owner of an organization, whose account must stay in use then. The account must be held,
/// so that they become no owner meanwhile. Locks their organizations, and the one that is decided on besides.
pub(crate) async fn keep_owners_without(
    tx: &mut Tx,
    user_id: UserId,
    besides: Option<OrganizationId>,
) -> Result<()> {
    let owner = access::built_in_role(tx, OWNER).await?;
    let theirs = store::owned_by(tx, owner, user_id).await?;
    let all: BTreeSet<_> = theirs.iter().copied().chain(besides).collect();
    for id in all {
        lock(tx, id).await?;
        if theirs.contains(&id) && !store::has_another(tx, id, owner, user_id).await? {
            return Err(MemberError::LastOwner.into());
        }
    }
    Ok(())
}

async fn membership(
    db: &mut PgConnection,
    id: OrganizationId,
    user_id: UserId,
) -> Result<Membership> {
    let found = store::membership(db, id, user_id).await?;
    Ok(found.ok_or(MemberError::NotFound)?)
}

impl MemberChange {
    fn applied_to(self, mut membership: Membership) -> Membership {
        self.role_id.apply(&mut membership.role_id);
        self.vetting_level.apply(&mut membership.vetting_level);
        membership
    }
}

fn record(tx: &mut Tx, id: OrganizationId, user_id: UserId, kind: &'static str, data: Value) {
    tx.record(Activity {
        organization_id: Some(id),
        kind,
        subject: user_id.into(),
        data,
    });
}
