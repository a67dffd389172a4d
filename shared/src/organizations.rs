//! Organizations: who sells. Everything below belongs to one.

use serde_json::json;

use crate::access::{self, Whose};
use crate::activity::Activity;
use crate::error::{Code, Fault, Result};
use crate::ids::{OrganizationId, RoleId, UserId};
use crate::tx::Tx;

/// Makes an organization.
pub async fn create(tx: &mut Tx, name: &str, slug: &str) -> Result<OrganizationId> {
    let id = OrganizationId::fresh(tx.now());
    let now = tx.now();
    sqlx::query!(
        "insert into organizations (id, name, slug, created_at) values ($1, $2, $3, $4)",
        id as _,
        name,
        slug,
        now,
    )
    .execute(&mut **tx)
    .await?;
    tx.record(Activity {
        organization_id: Some(id),
        kind: "organization.created",
        subject: id.into(),
        data: json!({ "name": name }),
    });
    Ok(id)
}

/// Makes somebody a member, with what their role may do.
pub async fn add_member(
    tx: &mut Tx,
    id: OrganizationId,
    user_id: UserId,
    role_id: RoleId,
) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "insert into members (organization_id, user_id, role_id, created_at) values ($1, $2, $3, $4)",
        id as _,
        user_id as _,
        role_id as _,
        now,
    )
    .execute(&mut **tx)
    .await?;
    access::changed(tx, Whose::User(user_id));
    tx.record(Activity {
        organization_id: Some(id),
        kind: "member.added",
        subject: user_id.into(),
        data: json!({ "role_id": role_id }),
    });
    Ok(())
}

#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    #[error("The account does not belong to this organization, or the role is none of its roles.")]
    NotAMember,
    #[error("The organization would be left without an owner. Make somebody else an owner first.")]
    LastOwner,
}

impl Fault for MemberError {
    fn code(&self) -> Code {
        match self {
            Self::NotAMember => Code::NotAMember,
            Self::LastOwner => Code::LastOwner,
        }
    }
}

/// Gives a member another role: a built-in one, or one of the organization's own.
pub async fn set_role(
    tx: &mut Tx,
    id: OrganizationId,
    user_id: UserId,
    role_id: RoleId,
) -> Result<()> {
    tx.require(id)?;
    // One at a time, so that two owners cannot make way for each other.
    sqlx::query!(
        "select from organizations where id = $1 for update",
        id as _
    )
    .execute(&mut **tx)
    .await?;
    let before = sqlx::query_scalar!(
        "select role_id from members where organization_id = $1 and user_id = $2",
        id as _,
        user_id as _,
    );
    let before = before.fetch_optional(&mut **tx).await?;
    let before = before.ok_or(MemberError::NotAMember)?;
    if before == role_id {
        return Ok(());
    }
    let owner = access::built_in_role(tx, "owner").await?;
    if before == owner && owners(tx, id, owner).await? < 2 {
        return Err(MemberError::LastOwner.into());
    }
    let changed = sqlx::query!(
        "update members set role_id = $3
         where organization_id = $1 and user_id = $2
           and exists (select from roles where id = $3 and (organization_id is null or organization_id = $1))",
        id as _,
        user_id as _,
        role_id as _,
    );
    if changed.execute(&mut **tx).await?.rows_affected() == 0 {
        return Err(MemberError::NotAMember.into());
    }
    access::changed(tx, Whose::User(user_id));
    tx.record(Activity {
        organization_id: Some(id),
        kind: "member.role_changed",
        subject: user_id.into(),
        data: json!({ "role_id": [before, role_id] }),
    });
    Ok(())
}

async fn owners(db: &mut sqlx::PgConnection, id: OrganizationId, owner: RoleId) -> Result<i64> {
    let owners = sqlx::query_scalar!(
        r#"select count(*) as "count!" from members where organization_id = $1 and role_id = $2"#,
        id as _,
        owner as _,
    );
    Ok(owners.fetch_one(db).await?)
}

/// A slug for a name: what of it fits into an address, and a few characters more if that is taken.
pub async fn free_slug(tx: &mut Tx, name: &str) -> Result<String> {
    let slug = slug_of(name);
    if by_slug(tx, &slug).await?.is_none() {
        return Ok(slug);
    }
    let random = crate::ids::fresh(tx.now()).simple().to_string();
    Ok(format!("{slug}-{}", &random[24..]))
}

fn slug_of(name: &str) -> String {
    let kept = name.to_lowercase();
    let kept = kept
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let kept: String = kept.collect();
    let words: Vec<&str> = kept.split('-').filter(|word| !word.is_empty()).collect();
    let slug: String = words.join("-").chars().take(60).collect();
    if slug.is_empty() {
        "organization".to_owned()
    } else {
        slug.trim_end_matches('-').to_owned()
    }
}

/// The organization with this slug, if there is one.
pub async fn by_slug(db: &mut sqlx::PgConnection, slug: &str) -> Result<Option<OrganizationId>> {
    let id = sqlx::query_scalar!("select id from organizations where slug = $1", slug);
    Ok(id.fetch_optional(db).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_what_of_a_name_fits_into_an_address() {
        for (name, slug) in [
            ("Lighthouse Events", "lighthouse-events"),
            ("  Café & Küche! ", "caf-k-che"),
            ("Музей", "organization"),
            ("-", "organization"),
        ] {
            assert_eq!(slug_of(name), slug);
        }
        assert_eq!(slug_of(&"ab ".repeat(100)).len(), 59);
    }
}
