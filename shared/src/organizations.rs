//! Organizations: who sells. Everything below belongs to one.

use serde_json::json;

use crate::access::{self, Whose};
use crate::activity::Activity;
use crate::error::Result;
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

/// The organization with this slug, if there is one.
pub async fn by_slug(db: &mut sqlx::PgConnection, slug: &str) -> Result<Option<OrganizationId>> {
    let id = sqlx::query_scalar!("select id from organizations where slug = $1", slug);
    Ok(id.fetch_optional(db).await?)
}
