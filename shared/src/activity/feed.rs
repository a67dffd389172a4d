//! What happened in an organization, for those who follow it.
//!
//! The feed has the sealed lines, in the order of the chain: their positions have no gaps and never change, so
//! whoever goes on from the last position they have seen misses nothing. A line is sealed some seconds after
//! it was written.

use poem_openapi::Object;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::ids::{ActivityId, OrganizationId};
use crate::page::{Feed, Following};

/// Something that happened.
#[derive(Debug, Object)]
pub struct Happening {
    pub id: ActivityId,
    /// Its place in the organization's chain, counted from 1 without a gap.
    pub position: i64,
    pub at: Time,
    /// The noun and what happened to it, `venue.created`.
    pub kind: String,
    /// Which one it happened to.
    pub subject_id: Uuid,
    /// `user`, `api_key`, `system` or `stranger`.
    pub actor_kind: String,
    pub actor_id: Option<Uuid>,
    /// The request or job that asked for it.
    pub cause: Option<String>,
    /// What there is to know of it; of a change, each field with what it was and what it is.
    pub data: Value,
}

/// What came after a position, oldest first.
pub async fn follow(
    db: &mut PgConnection,
    organization_id: OrganizationId,
    following: Following,
) -> Result<Feed<Happening>> {
    let lines = sqlx::query_as!(
        Happening,
        r#"select id as "id: ActivityId", position as "position!", at as "at: Time", kind, subject_id,
                  actor_kind, actor_id, cause, data
           from activities
           where organization_id = $1 and position > $2
           order by position
           limit $3"#,
        organization_id as _,
        following.after,
        following.limit(),
    );
    let lines = lines.fetch_all(db).await?;
    let last = lines.last().map(|line| line.position);
    Ok(following.of(lines, last))
}
