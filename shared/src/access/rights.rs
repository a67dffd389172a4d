//! What people may do, kept in memory until it changes.
//!
//! Redis holds two stamps: one for each person, one for everybody. Whatever changes memberships or roles sets
//! a new one with its commit ([`changed`]); what is kept in memory counts only while both are the same as
//! when it was read. The stamps come with the question whether the session is alive, so they cost nothing,
//! and a change holds from the next request on, in every process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{Grant, Grants};
use crate::app::{App, Redis};
use crate::error::Result;
use crate::ids::{self, UserId};
use crate::tx::Tx;

/// People remembered at a time; beyond that we start over.
const MOST_PEOPLE: usize = 20_000;
/// Read again after this long, in case Redis has lost a stamp.
const KEPT: TimeDelta = TimeDelta::minutes(5);
/// Longer than anybody remembers what it was read with.
const STAMP_KEPT: Duration = Duration::from_mins(15);

/// Whose rights have changed.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    /// A membership of theirs was made, changed or removed.
    User(UserId),
    /// A role was changed: those who have it are everywhere.
    Everybody,
}

/// To be called by whatever changes memberships, roles or administrators, before it commits.
pub fn changed(tx: &mut Tx, whose: Whose) {
    let key = match whose {
        Whose::User(id) => personal_key(tx.redis(), id),
        Whose::Everybody => common_key(tx.redis()),
    };
    let stamp = ids::fresh(tx.now()).to_string();
    tx.tell_redis(key, stamp, STAMP_KEPT);
}

/// Which state of somebody's rights is the current one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    pub personal: Option<String>,
    pub common: Option<String>,
}

/// Where the stamps of a person are.
pub(super) fn stamp_keys(redis: &Redis, user_id: UserId) -> [String; 2] {
    [personal_key(redis, user_id), common_key(redis)]
}

fn personal_key(redis: &Redis, user_id: UserId) -> String {
    redis.key(&format!("rights:{user_id}"))
}

fn common_key(redis: &Redis) -> String {
    redis.key("rights")
}

/// One for the whole process.
#[derive(Default)]
pub(crate) struct RightsInMemory {
    people: Mutex<HashMap<UserId, Remembered>>,
}

#[derive(Clone)]
struct Remembered {
    stamp: Stamp,
    read_at: DateTime<Utc>,
    grants: Arc<Grants>,
}

impl RightsInMemory {
    /// What this person may do by the state that `stamp` stands for. The stamp must have been read before.
    pub(super) async fn of(&self, app: &App, user_id: UserId, stamp: Stamp) -> Result<Arc<Grants>> {
        let now = app.clock.now();
        if let Some(known) = self.remembered(user_id)
            && known.stamp == stamp
            && now - known.read_at < KEPT
        {
            return Ok(known.grants);
        }
        let grants = Arc::new(read(&mut *app.read().await?, user_id).await?);
        let remembered = Remembered {
            stamp,
            read_at: now,
            grants: Arc::clone(&grants),
        };
        let mut people = self.people.lock().expect("nobody panics while looking");
        if people.len() >= MOST_PEOPLE {
            people.clear();
        }
        people.insert(user_id, remembered);
        Ok(grants)
    }

    fn remembered(&self, user_id: UserId) -> Option<Remembered> {
        let people = self.people.lock().expect("nobody panics while looking");
        people.get(&user_id).cloned()
    }
}

/// As it is now, whatever is kept in memory.
pub(super) async fn read(db: &mut PgConnection, user_id: UserId) -> Result<Grants> {
    let everything = sqlx::query_scalar!(
        "select is_platform_admin from users where id = $1 and is_active",
        user_id as _
    );
    let everything = everything.fetch_optional(&mut *db).await?.unwrap_or(false);
    let rows = sqlx::query!(
        r#"select m.organization_id, r.resource as "resource?", r.action as "action?",
                  held.organization_id is null and held.name = 'owner' as "owns!"
           from members m join roles held on held.id = m.role_id left join role_rights r on r.role_id = m.role_id
           where m.user_id = $1
           order by m.organization_id"#,
        user_id as _,
    );
    let rows = rows.fetch_all(db).await?;
    let mut organizations: Vec<_> = rows.iter().map(|row| row.organization_id).collect();
    organizations.dedup();
    let owns = rows.iter().any(|row| row.owns);
    let list = rows.into_iter().filter_map(|row| {
        Some(Grant {
            organization_id: row.organization_id,
            resource: row.resource?,
            action: row.action?,
        })
    });
    Ok(Grants {
        everything,
        owns,
        organizations,
        list: list.collect(),
    })
}
