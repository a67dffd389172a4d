//! Keys that let a service act for an organization, by the rights that the key's scopes name.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, PgConnection};

use super::{AccessError, Actor, Caller, Grant, Grants, Right};
use crate::activity::{self, Activity, By};
use crate::error::Result;
use crate::ids::{self, ApiKeyId, OrganizationId};

/// The scope that opens the paths between services, and nothing else.
pub const INTERNAL: &str = "internal";

/// How it stands among the rights of a caller.
pub(super) const INTERNAL_RIGHT: Right = Right {
    resource: INTERNAL,
    action: "",
};

/// The service that presents this key. That it was used is written down, by the name of the request.
pub async fn by_api_key(
    db: &mut PgConnection,
    key: &str,
    cause: &str,
    now: DateTime<Utc>,
) -> Result<Caller> {
    let row = sqlx::query!(
        "select id, organization_id, last_used_at, scopes from api_keys
         where hash = $1 and revoked_at is null and (expires_at is null or expires_at > $2)",
        hash(key),
        now,
    );
    let row = row.fetch_optional(&mut *db).await?;
    let row = row.ok_or(AccessError::UnknownKey)?;
    if row
        .last_used_at
        .is_none_or(|at| now - at >= TimeDelta::minutes(1))
    {
        touch(db, row.id, row.organization_id, cause, now).await?;
    }
    Ok(service(row.id, row.organization_id, row.scopes))
}

/// The service of a key, if it counts: neither a stream that goes on nor a pass presents the key again.
pub(super) async fn by_id(
    db: &mut PgConnection,
    id: ApiKeyId,
    now: DateTime<Utc>,
) -> Result<Caller> {
    let row = sqlx::query!(
        "select organization_id, scopes from api_keys
         where id = $1 and revoked_at is null and (expires_at is null or expires_at > $2)",
        id as _,
        now,
    );
    let row = row.fetch_optional(db).await?;
    let row = row.ok_or(AccessError::UnknownKey)?;
    Ok(service(id, row.organization_id, row.scopes))
}

fn service(id: ApiKeyId, organization_id: OrganizationId, scopes: Vec<String>) -> Caller {
    let grants = scopes.into_iter().map(|scope| {
        let (resource, action) = scope.split_once(':').unwrap_or((&scope, ""));
        Grant {
            organization_id,
            resource: resource.to_owned(),
            action: action.to_owned(),
        }
    });
    Caller {
        actor: Actor::ApiKey(id),
        session: None,
        grants: Arc::new(Grants {
            everything: false,
            owns: false,
            organizations: vec![organization_id],
            list: grants.collect(),
        }),
    }
}

/// Whether somebody who presents this key is let in.
pub async fn key_counts(db: &mut PgConnection, key: &str, now: DateTime<Utc>) -> Result<bool> {
    let counts = sqlx::query_scalar!(
        r#"select exists(
               select from api_keys
               where hash = $1 and revoked_at is null and (expires_at is null or expires_at > $2)
           ) as "counts!""#,
        hash(key),
        now,
    );
    Ok(counts.fetch_one(db).await?)
}

/// Last use is kept to the minute, so that a busy key is neither a busy row nor all of the feed.
async fn touch(
    db: &mut PgConnection,
    id: ApiKeyId,
    organization_id: OrganizationId,
    cause: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut tx = db.begin().await?;
    let touched = sqlx::query!(
        "update api_keys set last_used_at = $2
         where id = $1 and (last_used_at is null or last_used_at <= $2::timestamptz - interval '1 minute')",
        id as _,
        now,
    );
    // Of several requests at the same moment one was the first, and tells.
    if touched.execute(&mut *tx).await?.rows_affected() > 0 {
        let used = Activity {
            organization_id: Some(organization_id),
            kind: "api_key.used",
            subject: id.into(),
            data: json!({}),
        };
        let by = By {
            actor: Actor::ApiKey(id),
            cause: Some(cause.to_owned()),
        };
        activity::insert(&mut tx, now, &[(by, used)]).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Makes a key for a service of an organization. The key itself is told once, here; we keep its hash.
pub async fn create_api_key(
    db: &mut PgConnection,
    organization_id: OrganizationId,
    name: &str,
    scopes: &[String],
    now: DateTime<Utc>,
) -> Result<String> {
    let key = ids::secret_token("hf_");
    store_api_key(db, organization_id, name, scopes, &key, now).await?;
    Ok(key)
}

pub(crate) async fn store_api_key(
    db: &mut PgConnection,
    organization_id: OrganizationId,
    name: &str,
    scopes: &[String],
    key: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into api_keys (id, organization_id, name, scopes, hash, created_at)
         values ($1, $2, $3, $4, $5, $6) on conflict (hash) do nothing",
        ApiKeyId::fresh(now) as _,
        organization_id as _,
        name,
        scopes,
        hash(key),
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A key has 256 random bits: it needs no slow hash, only one that cannot be turned around.
pub(crate) fn hash(key: &str) -> Vec<u8> {
    Sha256::digest(key.as_bytes()).to_vec()
}
