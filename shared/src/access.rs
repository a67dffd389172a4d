//! Who is calling, and what they may do. Rights are rows of the database, not code.
//!
//! A role is a set of rights; whoever acts does so through a role in an organization. What the rights are
//! asked for is declared by the operation that needs them.

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Code, Fault, Invalid, Result};
use crate::ids::{self, ApiKeyId, OrganizationId, RoleId};

/// Something one can be allowed to do, as the rows of `role_rights` spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    pub resource: &'static str,
    pub action: &'static str,
}

/// Who changes something; it stands in every line of the activity feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The product itself: a job, a command of the operator, the demo data.
    System,
    /// A service with a key of an organization.
    ApiKey(ApiKeyId),
    /// Somebody without credentials.
    Stranger,
}

impl Actor {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::ApiKey(_) => "api_key",
            Self::Stranger => "stranger",
        }
    }

    pub(crate) fn id(self) -> Option<Uuid> {
        match self {
            Self::ApiKey(id) => Some(id.0),
            Self::System | Self::Stranger => None,
        }
    }
}

/// The organizations in which an actor holds the right that it came in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Everything,
    Organizations(Vec<OrganizationId>),
}

impl Scope {
    /// Asked by every verb before it changes something of an organization.
    pub fn require(&self, organization_id: OrganizationId) -> Result<()> {
        match self {
            Self::Everything => Ok(()),
            Self::Organizations(ids) if ids.contains(&organization_id) => Ok(()),
            Self::Organizations(_) => Err(AccessError::Forbidden.into()),
        }
    }

    /// The organization that something new will belong to: the named one, or the only one there is.
    pub fn choose(&self, named: Option<OrganizationId>) -> Result<OrganizationId> {
        match (named, self) {
            (Some(id), _) => self.require(id).map(|()| id),
            (None, Self::Organizations(ids)) if ids.len() == 1 => Ok(ids[0]),
            (None, _) => {
                let message = "is needed, since you act for more than one organization";
                Err(Invalid::field("organization_id", message).into())
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("This needs credentials: send an API key as `X-Api-Key`.")]
    Missing,
    #[error("The API key is not known, has expired or was revoked.")]
    UnknownKey,
    #[error("You have no right to do this.")]
    Forbidden,
}

impl Fault for AccessError {
    fn code(&self) -> Code {
        match self {
            Self::Missing | Self::UnknownKey => Code::Unauthenticated,
            Self::Forbidden => Code::Forbidden,
        }
    }
}

/// Who is calling, with everything they have been granted.
#[derive(Debug, Clone)]
pub struct Caller {
    pub actor: Actor,
    grants: Vec<Grant>,
}

#[derive(Debug, Clone)]
struct Grant {
    organization_id: OrganizationId,
    resource: String,
    action: String,
}

impl Caller {
    #[must_use]
    pub fn stranger() -> Self {
        Self {
            actor: Actor::Stranger,
            grants: Vec::new(),
        }
    }

    /// Where the caller holds this right.
    pub fn scope(&self, right: Right) -> Result<Scope> {
        if self.actor == Actor::Stranger {
            return Err(AccessError::Missing.into());
        }
        let holds =
            |grant: &&Grant| grant.resource == right.resource && grant.action == right.action;
        let held = self
            .grants
            .iter()
            .filter(holds)
            .map(|grant| grant.organization_id);
        let organizations: Vec<_> = held.collect();
        if organizations.is_empty() {
            return Err(AccessError::Forbidden.into());
        }
        Ok(Scope::Organizations(organizations))
    }
}

/// The service that presents this key.
pub async fn by_api_key(db: &mut PgConnection, key: &str, now: DateTime<Utc>) -> Result<Caller> {
    let rows = sqlx::query!(
        "select k.id, k.organization_id, k.last_used_at, r.resource, r.action
         from api_keys k join role_rights r on r.role_id = k.role_id
         where k.hash = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > $2)",
        hash(key),
        now,
    )
    .fetch_all(&mut *db)
    .await?;
    let Some(first) = rows.first() else {
        return Err(AccessError::UnknownKey.into());
    };
    let (id, last_used_at) = (first.id, first.last_used_at);
    if last_used_at.is_none_or(|at| now - at >= TimeDelta::minutes(1)) {
        touch(db, id, now).await?;
    }
    let grants = rows.into_iter().map(|row| Grant {
        organization_id: row.organization_id,
        resource: row.resource,
        action: row.action,
    });
    Ok(Caller {
        actor: Actor::ApiKey(id),
        grants: grants.collect(),
    })
}

/// Last use is kept to the minute, so that a busy key is not a busy row.
async fn touch(db: &mut PgConnection, id: ApiKeyId, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "update api_keys set last_used_at = $2
         where id = $1 and (last_used_at is null or last_used_at <= $2::timestamptz - interval '1 minute')",
        id as _,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Makes a key for a service of an organization. The key itself is told once, here; we keep its hash.
pub async fn create_api_key(
    db: &mut PgConnection,
    organization_id: OrganizationId,
    role_id: RoleId,
    name: &str,
    now: DateTime<Utc>,
) -> Result<String> {
    let key = ids::secret_token("hf_");
    store_api_key(db, organization_id, role_id, name, &key, now).await?;
    Ok(key)
}

pub(crate) async fn store_api_key(
    db: &mut PgConnection,
    organization_id: OrganizationId,
    role_id: RoleId,
    name: &str,
    key: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into api_keys (id, organization_id, role_id, name, hash, created_at)
         values ($1, $2, $3, $4, $5, $6) on conflict (hash) do nothing",
        ApiKeyId::fresh(now) as _,
        organization_id as _,
        role_id as _,
        name,
        hash(key),
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// One of the roles every organization has from the start.
pub async fn built_in_role(db: &mut PgConnection, name: &str) -> Result<RoleId> {
    let role = sqlx::query_scalar!(
        "select id from roles where organization_id is null and name = $1",
        name
    );
    Ok(role.fetch_one(db).await?)
}

/// A key has 256 random bits: it needs no slow hash, only one that cannot be turned around.
fn hash(key: &str) -> Vec<u8> {
    Sha256::digest(key.as_bytes()).to_vec()
}
