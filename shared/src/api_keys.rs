//! Keys of an organization, made for services.
//!
//! A key is told once, when it is made. It may do what its scopes say, which is never more than its maker may
//! at that time; from then on it stands for the organization and outlives its maker's membership, until it
//! expires or is revoked. Only people make keys: one that leaked must not be able to leave another behind.
//! How a service presents one is in [`crate::access`].

use poem_openapi::Object;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::access::{self, Held, Right};
use crate::activity::Activity;
use crate::clock::Time;
use crate::error::{Code, Fault, Invalid, Result};
use crate::ids::{self, ApiKeyId, OrganizationId};
use crate::organizations;
use crate::page::All;
use crate::roles;
use crate::tx::Tx;

#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    #[error("The organization has no such key.")]
    NotFound,
}

impl Fault for ApiKeyError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::ApiKeyNotFound,
        }
    }
}

/// A key, without the key.
#[derive(Debug, Clone, PartialEq, Object)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub name: String,
    /// What it may do, each a resource and an action, `events:read`.
    pub scopes: Vec<String>,
    /// After this it no longer works.
    pub expires_at: Option<Time>,
    /// To the minute.
    pub last_used_at: Option<Time>,
    pub created_at: Time,
}

/// A key to be made.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct NewApiKey {
    /// What it is for.
    #[oai(validator(min_length = 1, max_length = 100, pattern = r"\S"))]
    pub name: String,
    /// What it may do, each a resource and an action, `events:read`. `internal` opens the paths between services,
    /// and is for platform administrators to give.
    #[oai(validator(max_items = 200))]
    pub scopes: Vec<String>,
    /// After this it no longer works; left out, it works until it is revoked.
    pub expires_at: Option<Time>,
}

/// A key that was just made.
#[derive(Debug, Clone, Object)]
pub struct NewlyMadeApiKey {
    #[oai(flatten)]
    pub about: ApiKey,
    /// The key itself, told here and never again: the answer to a repeated request leaves it out.
    pub key: Option<String>,
}

/// Those that were not revoked, the oldest first.
pub async fn list(db: &mut PgConnection, organization_id: OrganizationId) -> Result<All<ApiKey>> {
    organizations::get(db, organization_id).await?;
    let keys = sqlx::query_as!(
        ApiKey,
        r#"select id, name, scopes, expires_at as "expires_at: Time", last_used_at as "last_used_at: Time",
                  created_at as "created_at: Time"
           from api_keys where organization_id = $1 and revoked_at is null
           order by created_at, id"#,
        organization_id as _,
    );
    Ok(All {
        items: keys.fetch_all(db).await?,
    })
}

pub async fn make(
    tx: &mut Tx,
    organization_id: OrganizationId,
    new: NewApiKey,
) -> Result<NewlyMadeApiKey> {
    let held = begin(tx, organization_id, "create").await?;
    let scopes = roles::check(tx, "scopes", new.scopes, &[access::INTERNAL]).await?;
    if scopes.is_empty() {
        return Err(Invalid::field("scopes", "must name something").into());
    }
    if new.expires_at.is_some_and(|at| at.0 <= tx.now()) {
        return Err(Invalid::field("expires_at", "must be in the future").into());
    }
    // No role has the scope `internal`, so this leaves it to platform administrators.
    held.cover(&scopes)?;
    let about = ApiKey {
        id: ApiKeyId::fresh(tx.now()),
        name: new.name,
        scopes,
        expires_at: new.expires_at,
        last_used_at: None,
        created_at: tx.now().into(),
    };
    let key = ids::secret_token("hf_");
    insert(tx, organization_id, &about, &key).await?;
    let data =
        json!({ "name": about.name, "scopes": about.scopes, "expires_at": about.expires_at });
    record(tx, organization_id, about.id, "api_key.made", data);
    Ok(NewlyMadeApiKey {
        about,
        key: Some(key),
    })
}

/// Ends a key that may do no more than whoever ends it. The next request with it is refused.
pub async fn revoke(tx: &mut Tx, organization_id: OrganizationId, id: ApiKeyId) -> Result<()> {
    let held = begin(tx, organization_id, "delete").await?;
    let now = tx.now();
    let revoked = sqlx::query_scalar!(
        "update api_keys set revoked_at = $3 where id = $1 and organization_id = $2 and revoked_at is null
         returning scopes",
        id as _,
        organization_id as _,
        now,
    );
    let scopes = revoked.fetch_optional(&mut **tx).await?;
    held.cover(&scopes.ok_or(ApiKeyError::NotFound)?)?;
    record(tx, organization_id, id, "api_key.revoked", json!({}));
    Ok(())
}

/// Locks the organization; answers what the actor holds there, the right to do this included.
async fn begin(tx: &mut Tx, organization_id: OrganizationId, action: &'static str) -> Result<Held> {
    organizations::lock(tx, organization_id).await?;
    tx.require(organization_id)?;
    let held = Held::by_actor(tx, organization_id).await?;
    held.require(Right {
        resource: "api_keys",
        action,
    })?;
    Ok(held)
}

async fn insert(
    db: &mut PgConnection,
    organization_id: OrganizationId,
    about: &ApiKey,
    key: &str,
) -> Result<()> {
    sqlx::query!(
        "insert into api_keys (id, organization_id, name, scopes, hash, expires_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        about.id as _,
        organization_id as _,
        about.name,
        &about.scopes,
        access::hash_of_key(key),
        about.expires_at.map(|at| at.0),
        about.created_at.0,
    )
    .execute(db)
    .await?;
    Ok(())
}

fn record(
    tx: &mut Tx,
    organization_id: OrganizationId,
    id: ApiKeyId,
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
