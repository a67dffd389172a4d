//! Roles: what those who have one may do. Each is a set of rights, and a right is a resource and an action.
//!
//! Five are built in and the same everywhere; an organization adds its own. Nobody makes, changes or removes
//! a role that may do more than they may themselves. What changes about a role holds for everybody who has it
//! from their next request on.

use std::collections::BTreeSet;

use poem_openapi::Object;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::access::{self, Held, Right, Whose};
use crate::activity::{self, Activity};
use crate::error::{Code, Fault, Invalid, OnConstraint as _, Result};
use crate::ids::{OrganizationId, RoleId};
use crate::organizations;
use crate::page::All;
use crate::patch::Patch;
use crate::tx::Tx;

const ACTIONS: [&str; 4] = ["read", "write", "create", "delete"];

#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error("The organization has no such role.")]
    NotFound,
    #[error(
        "This role is built in: every organization has it as it is. Make one of your own instead."
    )]
    BuiltIn,
    #[error("There is a role of this name already.")]
    NameTaken,
    #[error(
        "{members} members and {invitations} open invitations have this role. Give them another first."
    )]
    InUse { members: i64, invitations: i64 },
}

impl Fault for RoleError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::RoleNotFound,
            Self::BuiltIn => Code::RoleBuiltIn,
            Self::NameTaken => Code::RoleNameTaken,
            Self::InUse { .. } => Code::RoleInUse,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::InUse {
                members,
                invitations,
            } => json!({ "members": members, "invitations": invitations }),
            _ => json!({}),
        }
    }
}

/// What those who have it may do.
#[derive(Debug, Clone, PartialEq, Serialize, Object)]
pub struct Role {
    pub id: RoleId,
    pub name: String,
    /// Every organization has it; it cannot be changed.
    pub built_in: bool,
    /// Each a resource and an action, `events:read`.
    pub rights: Vec<String>,
}

/// A role to be made.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct NewRole {
    #[oai(validator(min_length = 1, max_length = 100, pattern = r"\S"))]
    pub name: String,
    /// Each a resource and an action (`read`, `write`, `create`, `delete`), `events:read`.
    #[oai(validator(max_items = 200))]
    pub rights: Vec<String>,
}

/// What is to be different; what is left out stays as it is.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields)]
pub struct RoleChange {
    #[oai(validator(min_length = 1, max_length = 100, pattern = r"\S"))]
    pub name: Patch<String>,
    /// All that the role may do from now on.
    #[oai(validator(max_items = 200))]
    pub rights: Patch<Vec<String>>,
}

/// The built-in ones, then those of the organization by name.
pub async fn list(db: &mut PgConnection, organization_id: OrganizationId) -> Result<All<Role>> {
    organizations::get(db, organization_id).await?;
    let roles = sqlx::query_as!(
        Role,
        r#"select id, name, organization_id is null as "built_in!",
                  array(select resource || ':' || action from role_rights where role_id = roles.id order by 1)
                      as "rights!"
           from roles where organization_id is null or organization_id = $1
           order by organization_id is not null, case when organization_id is null then id end, lower(name), id"#,
        organization_id as _,
    );
    Ok(All {
        items: roles.fetch_all(db).await?,
    })
}

pub async fn create(tx: &mut Tx, organization_id: OrganizationId, new: NewRole) -> Result<Role> {
    let held = begin(tx, organization_id, "create").await?;
    let role = Role {
        id: RoleId::fresh(tx.now()),
        name: new.name,
        built_in: false,
        rights: check(tx, "rights", new.rights, &[]).await?,
    };
    held.cover(&role.rights)?;
    must_be_free(tx, organization_id, &role).await?;
    sqlx::query!(
        "insert into roles (id, organization_id, name) values ($1, $2, $3)",
        role.id as _,
        organization_id as _,
        role.name,
    )
    .execute(&mut **tx)
    .await
    .on_constraint("roles_name_key", || RoleError::NameTaken)?;
    write_rights(tx, &role).await?;
    let data = json!({ "name": role.name, "rights": role.rights });
    record(tx, organization_id, role.id, "role.created", data);
    Ok(role)
}

pub async fn change(
    tx: &mut Tx,
    organization_id: OrganizationId,
    id: RoleId,
    change: RoleChange,
) -> Result<Role> {
    let held = begin(tx, organization_id, "write").await?;
    let before = own(tx, organization_id, id).await?;
    let mut role = before.clone();
    change.name.apply(&mut role.name);
    if let Patch::Set(rights) = change.rights {
        role.rights = check(tx, "rights", rights, &[]).await?;
    }
    // A name alone matters too: others choose a role by it.
    held.cover(&before.rights)?;
    held.cover(&role.rights)?;
    // Also when all is as it was: asking again tells Redis again.
    access::changed(tx, Whose::Everybody);
    let changes = activity::changes(&before, &role, &[])?;
    if changes.is_empty() {
        return Ok(before);
    }
    must_be_free(tx, organization_id, &role).await?;
    sqlx::query!(
        "update roles set name = $2 where id = $1",
        id as _,
        role.name
    )
    .execute(&mut **tx)
    .await
    .on_constraint("roles_name_key", || RoleError::NameTaken)?;
    write_rights(tx, &role).await?;
    let data = Value::Object(changes);
    record(tx, organization_id, id, "role.changed", data);
    Ok(role)
}

/// Removes a role that nobody has.
pub async fn delete(tx: &mut Tx, organization_id: OrganizationId, id: RoleId) -> Result<()> {
    let held = begin(tx, organization_id, "delete").await?;
    let role = own(tx, organization_id, id).await?;
    held.cover(&role.rights)?;
    let now = tx.now();
    let uses = sqlx::query!(
        r#"select (select count(*) from members where role_id = $1) as "members!",
                  (select count(*) from invitations where role_id = $1 and expires_at > $2) as "invitations!""#,
        id as _,
        now,
    );
    let uses = uses.fetch_one(&mut **tx).await?;
    if uses.members > 0 || uses.invitations > 0 {
        let (members, invitations) = (uses.members, uses.invitations);
        return Err(RoleError::InUse {
            members,
            invitations,
        }
        .into());
    }
    sqlx::query!("delete from roles where id = $1", id as _)
        .execute(&mut **tx)
        .await?;
    let data = json!({ "name": role.name });
    record(tx, organization_id, id, "role.deleted", data);
    Ok(())
}

/// Fails unless this is a role of the organization that the actor may give. Answers its name.
pub(crate) async fn may_give(
    tx: &mut Tx,
    held: &Held,
    organization_id: OrganizationId,
    id: RoleId,
) -> Result<String> {
    let role = find(tx, organization_id, id).await?;
    let role = role.ok_or_else(|| {
        Invalid::field(
            "role_id",
            "must be the id of one of the organization's roles",
        )
    })?;
    held.cover(&role.rights)?;
    Ok(role.name)
}

/// Fails unless the actor may take this role from somebody.
pub(crate) async fn may_take(tx: &mut Tx, held: &Held, id: RoleId) -> Result<()> {
    held.cover(&access::rights_of_role(tx, id).await?)
}

pub(crate) async fn name_of(db: &mut PgConnection, id: RoleId) -> Result<String> {
    let name = sqlx::query_scalar!("select name from roles where id = $1", id as _);
    Ok(name.fetch_one(db).await?)
}

/// Each right once and in order, if all of them are some; `others` are names that are allowed besides.
pub(crate) async fn check(
    db: &mut PgConnection,
    field: &str,
    rights: Vec<String>,
    others: &[&str],
) -> Result<Vec<String>> {
    let resources = sqlx::query_scalar!("select name from resources")
        .fetch_all(db)
        .await?;
    let mut invalid = Invalid::default();
    for (at, right) in rights.iter().enumerate() {
        if !is_right(right, &resources) && !others.contains(&right.as_str()) {
            let message = "must be a resource and an action, like events:read";
            invalid.push(format!("{field}[{at}]"), message);
        }
    }
    invalid.check()?;
    let rights: BTreeSet<String> = rights.into_iter().collect();
    Ok(rights.into_iter().collect())
}

fn is_right(right: &str, resources: &[String]) -> bool {
    right.split_once(':').is_some_and(|(resource, action)| {
        ACTIONS.contains(&action) && resources.iter().any(|known| known == resource)
    })
}

/// Locks the organization; answers what the actor holds there, the right to do this included.
async fn begin(tx: &mut Tx, organization_id: OrganizationId, action: &'static str) -> Result<Held> {
    organizations::lock(tx, organization_id).await?;
    tx.require(organization_id)?;
    let held = Held::by_actor(tx, organization_id).await?;
    held.require(Right {
        resource: "roles",
        action,
    })?;
    Ok(held)
}

async fn find(
    db: &mut PgConnection,
    organization_id: OrganizationId,
    id: RoleId,
) -> Result<Option<Role>> {
    let role = sqlx::query_as!(
        Role,
        r#"select id, name, organization_id is null as "built_in!",
                  array(select resource || ':' || action from role_rights where role_id = roles.id order by 1)
                      as "rights!"
           from roles where id = $1 and (organization_id is null or organization_id = $2)"#,
        id as _,
        organization_id as _,
    );
    Ok(role.fetch_optional(db).await?)
}

/// A role that the organization has made itself.
async fn own(db: &mut PgConnection, organization_id: OrganizationId, id: RoleId) -> Result<Role> {
    let role = find(db, organization_id, id).await?;
    let role = role.ok_or(RoleError::NotFound)?;
    if role.built_in {
        return Err(RoleError::BuiltIn.into());
    }
    Ok(role)
}

/// Two roles that read alike would be given by mistake. The organization must be locked.
async fn must_be_free(
    db: &mut PgConnection,
    organization_id: OrganizationId,
    role: &Role,
) -> Result<()> {
    let taken = sqlx::query_scalar!(
        r#"select exists(
               select from roles
               where (organization_id is null or organization_id = $1) and lower(name) = lower($2) and id <> $3
           ) as "taken!""#,
        organization_id as _,
        role.name,
        role.id as _,
    );
    if taken.fetch_one(db).await? {
        return Err(RoleError::NameTaken.into());
    }
    Ok(())
}

async fn write_rights(db: &mut PgConnection, role: &Role) -> Result<()> {
    sqlx::query!("delete from role_rights where role_id = $1", role.id as _)
        .execute(&mut *db)
        .await?;
    sqlx::query!(
        "insert into role_rights (role_id, resource, action)
         select $1, split_part(name, ':', 1), split_part(name, ':', 2) from unnest($2::text[]) as name",
        role.id as _,
        &role.rights,
    )
    .execute(db)
    .await?;
    Ok(())
}

fn record(
    tx: &mut Tx,
    organization_id: OrganizationId,
    id: RoleId,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_a_known_resource_and_an_action() {
        let resources = ["events".to_owned()];
        assert!(is_right("events:read", &resources));
        for other in [
            "events",
            "events:",
            "events:fly",
            "moons:read",
            "events:read:read",
            ":read",
        ] {
            assert!(!is_right(other, &resources), "{other}");
        }
    }
}
