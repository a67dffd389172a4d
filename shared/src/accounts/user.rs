//! What an account is, and what a person may change of theirs.

use std::collections::BTreeSet;

use poem_openapi::Object;
use serde::Serialize;

use super::normal_email;
use crate::clock::Time;
use crate::ids::{OrganizationId, RoleId, UserId};
use crate::patch::Patch;

/// A person's account.
#[derive(Debug, Clone, PartialEq, Serialize, Object, sqlx::FromRow)]
pub struct User {
    pub id: UserId,
    pub email: String,
    /// When its owner followed the link that was mailed there.
    pub email_verified_at: Option<Time>,
    /// Where the address moves once the link that was mailed there is followed.
    pub pending_email: Option<String>,
    pub full_name: String,
    pub phone: Option<String>,
    pub avatar_url: Option<String>,
    /// The language of mails, `en` or `pt-BR`.
    pub locale: String,
    pub is_platform_admin: bool,
    /// A deactivated account cannot log in.
    pub is_active: bool,
    pub version: i64,
    pub last_login_at: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// What somebody is to an organization.
#[derive(Debug, Clone, PartialEq, Serialize, Object)]
pub struct Membership {
    pub organization_id: OrganizationId,
    pub organization: String,
    pub role_id: RoleId,
    pub role: String,
    /// How well the organization knows them, from 0 to 9.
    pub vetting_level: i16,
    /// What the role may do, like `events:read`.
    pub permissions: Vec<String>,
}

/// An account and what it belongs to.
#[derive(Debug, Clone, PartialEq, Object)]
pub struct Profile {
    #[oai(flatten)]
    pub user: User,
    pub organizations: Vec<Membership>,
}

/// What is to be different about oneself; what is left out stays as it is. Passwords in it, so it is never printed.
#[derive(Clone, Default, Object)]
#[oai(deny_unknown_fields)]
pub struct ProfileChange {
    /// The version you have seen, if you care; or say it by `If-Match`.
    pub version: Option<i64>,
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub full_name: Patch<String>,
    #[oai(validator(max_length = 40))]
    pub phone: Patch<Option<String>>,
    /// Where the picture is, an `https` address.
    #[oai(validator(max_length = 2000, pattern = "^https?://"))]
    pub avatar_url: Patch<Option<String>>,
    /// The language of mails, `en` or `pt-BR`.
    #[oai(validator(pattern = "^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length = 35))]
    pub locale: Patch<String>,
    /// A new address needs `old_password`, is mailed a link, and counts once that is followed; the old one is told.
    /// Naming an unconfirmed one mails another link, at most once a minute.
    #[oai(validator(max_length = 254))]
    pub email: Patch<String>,
    /// Needed to set a new password or another address.
    #[oai(validator(max_length = 200))]
    pub old_password: Option<String>,
    /// Ends all other sessions.
    #[oai(validator(min_length = 8, max_length = 200))]
    pub new_password: Option<String>,
}

/// What an administrator makes different about an account; what is left out stays as it is.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields)]
pub struct UserChange {
    /// The version you have seen, if you care; or say it by `If-Match`.
    pub version: Option<i64>,
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub full_name: Patch<String>,
    #[oai(validator(max_length = 40))]
    pub phone: Patch<Option<String>>,
    #[oai(validator(pattern = "^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length = 35))]
    pub locale: Patch<String>,
    /// `false` ends all sessions, and lets nobody log in.
    pub is_active: Patch<bool>,
    /// Gives a role in an organization the account belongs to.
    pub role: Option<RoleIn>,
}

/// A role in an organization.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct RoleIn {
    pub organization_id: OrganizationId,
    pub role_id: RoleId,
}

impl Profile {
    /// What somebody is above all.
    #[must_use]
    pub fn role(&self) -> Option<String> {
        if self.user.is_platform_admin {
            return Some("platform_admin".to_owned());
        }
        self.organizations.first().map(|first| first.role.clone())
    }

    /// What the roles in all organizations allow.
    #[must_use]
    pub fn permissions(&self) -> Vec<String> {
        let all = self.organizations.iter();
        let all: BTreeSet<_> = all.flat_map(|member| member.permissions.clone()).collect();
        all.into_iter().collect()
    }
}

impl ProfileChange {
    /// Whether this would give the account to somebody else. Naming one's own address moves nothing.
    pub(super) fn needs_proof(&self, user: &User) -> bool {
        self.new_password.is_some() || self.moves_from(&user.email)
    }

    /// Whether another address than this is named.
    #[must_use]
    pub fn moves_from(&self, email: &str) -> bool {
        matches!(&self.email, Patch::Set(named) if normal_email(named) != email)
    }

    /// The plain part; address and password have rules of their own.
    pub(super) fn applied_to(self, mut user: User) -> User {
        self.full_name.apply(&mut user.full_name);
        self.phone.apply(&mut user.phone);
        self.avatar_url.apply(&mut user.avatar_url);
        self.locale.apply(&mut user.locale);
        user
    }
}

impl UserChange {
    pub(super) fn applied_to(self, mut user: User) -> User {
        self.full_name.apply(&mut user.full_name);
        self.phone.apply(&mut user.phone);
        self.locale.apply(&mut user.locale);
        self.is_active.apply(&mut user.is_active);
        user
    }
}
