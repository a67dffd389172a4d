//! The rights of whoever is changing something, as they are at that moment.
//!
//! Letting a request in asks what is kept in memory. Handing rights on asks Postgres again, inside the change
//! and behind the lock of the organization: somebody who has just lost a right must not give it to another.

use std::collections::BTreeSet;

use super::{AccessError, Actor, Grants, Right, rights};
use crate::error::Result;
use crate::ids::OrganizationId;
use crate::tx::Tx;

/// What the actor of a change may do in one organization.
#[derive(Debug)]
pub struct Held {
    everything: bool,
    rights: BTreeSet<String>,
}

impl Held {
    /// The rights of the actor of this change. The organization should be locked.
    pub async fn by_actor(tx: &mut Tx, organization_id: OrganizationId) -> Result<Self> {
        let rights = match tx.actor() {
            Actor::System => return Ok(Self::everything()),
            Actor::Stranger => BTreeSet::new(),
            Actor::User(user_id) => {
                let grants = rights::read(tx, user_id).await?;
                if grants.everything {
                    return Ok(Self::everything());
                }
                of_person(&grants, organization_id)
            }
            Actor::ApiKey(key_id) => {
                let scopes = sqlx::query_scalar!(
                    r#"select scope as "scope!" from api_keys, unnest(scopes) as scope
                       where id = $1 and organization_id = $2 and revoked_at is null"#,
                    key_id as _,
                    organization_id as _,
                );
                scopes.fetch_all(&mut **tx).await?.into_iter().collect()
            }
        };
        Ok(Self {
            everything: false,
            rights,
        })
    }

    fn everything() -> Self {
        Self {
            everything: true,
            rights: BTreeSet::new(),
        }
    }

    /// Fails unless the actor still holds this right.
    pub fn require(&self, right: Right) -> Result<()> {
        if self.everything || self.rights.contains(&right.to_string()) {
            return Ok(());
        }
        Err(AccessError::Forbidden.into())
    }

    /// Fails unless the actor holds every one of these, so that they may give or take them.
    pub fn cover(&self, rights: &[String]) -> Result<()> {
        let beyond = rights.iter().filter(|right| !self.rights.contains(*right));
        let beyond: Vec<String> = beyond.cloned().collect();
        if self.everything || beyond.is_empty() {
            return Ok(());
        }
        Err(AccessError::Beyond { rights: beyond }.into())
    }
}

fn of_person(grants: &Grants, organization_id: OrganizationId) -> BTreeSet<String> {
    let here = grants
        .list
        .iter()
        .filter(|grant| grant.organization_id == organization_id);
    here.map(|grant| format!("{}:{}", grant.resource, grant.action))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn nobody_hands_on_what_they_do_not_have() {
        let held = Held {
            everything: false,
            rights: BTreeSet::from(["events:read".to_owned()]),
        };
        held.cover(&["events:read".to_owned()]).expect("theirs");
        held.cover(&[]).expect("nothing is everybody's");
        let rights = ["events:read".to_owned(), "events:write".to_owned()];
        let refused = held.cover(&rights).expect_err("one too many");
        assert_eq!(refused.code(), Code::Forbidden);
        assert_eq!(refused.details()["rights"][0], "events:write");
        Held::everything().cover(&rights).expect("everything");
    }
}
