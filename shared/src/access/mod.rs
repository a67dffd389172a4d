//! Who is calling, and what they may do. Rights are rows of the database, not code.
//!
//! A role is a set of rights, and a person has a role in each organization they belong to; a key has rights
//! of its own. What the rights are asked for is declared by the operation that needs them. A platform
//! administrator holds every right everywhere.
//!
//! | file | holds |
//! |---|---|
//! | `people` | who presents an access token: is the session alive, and what may they do |
//! | `rights` | the rights of people, kept in memory until they change |
//! | `held` | the rights of whoever is changing something, as they are at that moment |
//! | `keys` | keys of services |
//! | [`passes`] | one-time tokens for addresses that a browser opens by itself |
//! | `tokens` | access tokens: signed, and read without asking anybody |

mod held;
mod keys;
pub mod passes;
mod people;
mod rights;
mod tokens;

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::error::{Code, Fault, Invalid, Result};
use crate::ids::{ApiKeyId, LoginSessionId, OrganizationId, RoleId, UserId};

pub use held::Held;
pub use keys::{INTERNAL, by_api_key, create_api_key, key_counts};
pub(crate) use keys::{hash as hash_of_key, store_api_key};
pub use people::by_access_token;
pub(crate) use people::sessions_ended;
pub(crate) use rights::RightsInMemory;
pub use rights::{Whose, changed};
pub(crate) use tokens::DEVELOPMENT_KEY;
pub use tokens::{AccessToken, Tokens};

/// Something one can be allowed to do, as the rows of `role_rights` spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    pub resource: &'static str,
    pub action: &'static str,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.resource, self.action)
    }
}

/// Who changes something; it stands in every line of the activity feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The product itself: a job, a command of the operator, the demo data.
    System,
    /// A person who is signed in.
    User(UserId),
    /// A service with a key of an organization.
    ApiKey(ApiKeyId),
    /// Somebody without credentials.
    Stranger,
}

impl Actor {
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User(_) => "user",
            Self::ApiKey(_) => "api_key",
            Self::Stranger => "stranger",
        }
    }

    #[must_use]
    pub fn id(self) -> Option<Uuid> {
        match self {
            Self::User(id) => Some(id.0),
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
    /// Of those who act for themselves, or for nobody.
    #[must_use]
    pub fn nothing() -> Self {
        Self::Organizations(Vec::new())
    }

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
    #[error(
        "This needs credentials: an access token as `Authorization: Bearer`, or an API key as `X-Api-Key`."
    )]
    Missing,
    #[error("Send one kind of credentials, not two.")]
    TwoKinds,
    #[error("The API key is not known, has expired or was revoked.")]
    UnknownKey,
    #[error("The access token is none of ours, or was not made for this server.")]
    BadToken,
    #[error("The token in the address is not known, was used, or has expired. Ask for another.")]
    BadPass,
    #[error("The access token has expired. Refresh it.")]
    TokenExpired,
    #[error("This session is over. Log in again.")]
    SessionOver,
    #[error("This is for people who are signed in, not for services.")]
    NoPerson,
    #[error("You have no right to do this.")]
    Forbidden,
    #[error("You can neither give nor take rights that you do not have: {}.", .rights.join(", "))]
    Beyond { rights: Vec<String> },
    #[error("There is no such organization.")]
    OutsideOrganization,
}

impl Fault for AccessError {
    fn code(&self) -> Code {
        match self {
            Self::Missing
            | Self::TwoKinds
            | Self::UnknownKey
            | Self::BadToken
            | Self::BadPass
            | Self::SessionOver => Code::Unauthenticated,
            Self::TokenExpired => Code::TokenExpired,
            Self::NoPerson | Self::Forbidden | Self::Beyond { .. } => Code::Forbidden,
            Self::OutsideOrganization => Code::OrganizationNotFound,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::Beyond { rights } => json!({ "rights": rights }),
            _ => json!({}),
        }
    }
}

/// Who is calling, with everything they have been granted.
#[derive(Debug, Clone)]
pub struct Caller {
    pub actor: Actor,
    session: Option<LoginSessionId>,
    grants: Arc<Grants>,
}

/// A person who is signed in, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    pub user_id: UserId,
    pub session_id: LoginSessionId,
}

/// Everything somebody may do.
#[derive(Debug, Default)]
struct Grants {
    everything: bool,
    /// Is an owner of an organization.
    owns: bool,
    /// Where they belong, with rights or without.
    organizations: Vec<OrganizationId>,
    list: Vec<Grant>,
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
            session: None,
            grants: Arc::default(),
        }
    }

    /// Whether nobody said who is calling.
    #[must_use]
    pub fn is_stranger(&self) -> bool {
        self.actor == Actor::Stranger
    }

    /// Where the caller holds this right.
    pub fn scope(&self, right: Right) -> Result<Scope> {
        self.known()?;
        if self.grants.everything {
            return Ok(Scope::Everything);
        }
        let holds =
            |grant: &&Grant| grant.resource == right.resource && grant.action == right.action;
        let held = self.grants.list.iter().filter(holds);
        let organizations: Vec<_> = held.map(|grant| grant.organization_id).collect();
        if organizations.is_empty() {
            return Err(AccessError::Forbidden.into());
        }
        Ok(Scope::Organizations(organizations))
    }

    /// The organizations that the caller belongs to, with rights or without.
    pub fn belonging(&self) -> Result<Scope> {
        self.known()?;
        if self.grants.everything {
            return Ok(Scope::Everything);
        }
        Ok(Scope::Organizations(self.grants.organizations.clone()))
    }

    /// Narrows a scope to one organization. To those who do not belong to it, it does not exist.
    pub fn within(&self, organization_id: OrganizationId, scope: Result<Scope>) -> Result<Scope> {
        self.known()?;
        if !self.grants.everything && !self.grants.organizations.contains(&organization_id) {
            return Err(AccessError::OutsideOrganization.into());
        }
        let scope = scope?;
        scope.require(organization_id)?;
        Ok(match scope {
            Scope::Everything => Scope::Everything,
            Scope::Organizations(_) => Scope::Organizations(vec![organization_id]),
        })
    }

    /// The person who is calling; a service is none.
    pub fn person(&self) -> Result<Person> {
        self.known()?;
        match (self.actor, self.session) {
            (Actor::User(user_id), Some(session_id)) => Ok(Person {
                user_id,
                session_id,
            }),
            _ => Err(AccessError::NoPerson.into()),
        }
    }

    /// The scope of a platform administrator, which is everything.
    pub fn platform_admin(&self) -> Result<Scope> {
        self.known()?;
        if self.grants.everything {
            Ok(Scope::Everything)
        } else {
            Err(AccessError::Forbidden.into())
        }
    }

    /// The scope of a key that was made for the paths between services.
    pub fn internal(&self) -> Result<Scope> {
        match self.actor {
            Actor::ApiKey(_) => self.scope(keys::INTERNAL_RIGHT),
            Actor::Stranger => Err(AccessError::Missing.into()),
            Actor::User(_) | Actor::System => Err(AccessError::Forbidden.into()),
        }
    }

    /// A platform administrator, or an owner of an organization.
    fn is_powerful(&self) -> bool {
        self.grants.everything || self.grants.owns
    }

    fn known(&self) -> Result<()> {
        if self.actor == Actor::Stranger {
            return Err(AccessError::Missing.into());
        }
        Ok(())
    }
}

/// The same caller as of now. Fails when their session is over or their key does not count any more.
pub async fn again(app: &App, caller: &Caller) -> Result<Caller> {
    match (caller.actor, caller.session) {
        (Actor::User(user_id), Some(session_id)) => {
            let person = Person {
                user_id,
                session_id,
            };
            people::by_session(app, person).await
        }
        (Actor::ApiKey(id), _) => keys::by_id(&mut *app.read().await?, id, app.clock.now()).await,
        _ => Ok(caller.clone()),
    }
}

/// One of the roles every organization has from the start.
pub async fn built_in_role(db: &mut PgConnection, name: &str) -> Result<RoleId> {
    let role = sqlx::query_scalar!(
        "select id from roles where organization_id is null and name = $1",
        name
    );
    Ok(role.fetch_one(db).await?)
}

/// What a role may do, each right as the scope of a key would say it: `events:read`.
pub async fn rights_of_role(db: &mut PgConnection, role_id: RoleId) -> Result<Vec<String>> {
    let rights = sqlx::query_scalar!(
        r#"select resource || ':' || action as "right!" from role_rights where role_id = $1 order by 1"#,
        role_id as _,
    );
    Ok(rights.fetch_all(db).await?)
}
