//! What happened: audit, outbox and feed in one table that can only grow.
//!
//! Lines are written by the transaction of the change they tell of. A moment later they are *sealed*: each
//! gets its position in the chain of its organization and a hash over itself and the line before it, so that
//! a line changed, lost or slipped in afterwards is found by [`verify`]. Sealing happens apart from writing
//! because a chain has one end: chaining inside the change would let an organization sell no faster than one
//! transaction at a time. The database itself refuses to change or delete a line.

pub mod feed;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::access::Actor;
use crate::error::Result;
use crate::ids::{ActivityId, OrganizationId};
use crate::jobs::{Job, Queue};
use crate::tx::Tx;

/// A line to be written.
#[derive(Debug, Clone)]
pub struct Activity {
    /// `None` for what concerns the whole installation.
    pub organization_id: Option<OrganizationId>,
    /// The noun and what happened to it, `venue.created`.
    pub kind: &'static str,
    /// Which one it happened to.
    pub subject: Uuid,
    /// What a reader wants to know; ids rather than personal data, since a line cannot be erased.
    pub data: Value,
}

/// The fields in which two states of a thing differ, `{"name": ["old", "new"]}`; empty if they are the same. Of the
/// `quiet` fields only the names are told: those that are large, or about people.
pub fn changes<T: Serialize>(before: &T, after: &T, quiet: &[&str]) -> Result<Map<String, Value>> {
    let (Value::Object(before), Value::Object(after)) =
        (serde_json::to_value(before)?, serde_json::to_value(after)?)
    else {
        return Ok(Map::new());
    };
    let differing = after.into_iter().filter_map(|(field, new)| {
        let old = before.get(&field).cloned().unwrap_or_default();
        (old != new).then(|| {
            let told = if quiet.contains(&field.as_str()) {
                json!("changed")
            } else {
                json!([old, new])
            };
            (field, told)
        })
    });
    Ok(differing.collect())
}

/// Who acts, and the request or job that asks for it.
#[derive(Debug, Clone)]
pub struct By {
    pub actor: Actor,
    pub cause: Option<String>,
}

pub(crate) async fn insert(
    db: &mut PgConnection,
    now: DateTime<Utc>,
    activities: &[(By, Activity)],
) -> Result<()> {
    if activities.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = activities
        .iter()
        .map(|_| ActivityId::fresh(now).0)
        .collect();
    let organizations: Vec<Option<Uuid>> = activities
        .iter()
        .map(|(_, line)| line.organization_id.map(Uuid::from))
        .collect();
    let kinds: Vec<&str> = activities.iter().map(|(_, line)| line.kind).collect();
    let subjects: Vec<Uuid> = activities.iter().map(|(_, line)| line.subject).collect();
    let data: Vec<Value> = activities
        .iter()
        .map(|(_, line)| line.data.clone())
        .collect();
    let actors: Vec<&str> = activities.iter().map(|(by, _)| by.actor.kind()).collect();
    let actor_ids: Vec<Option<Uuid>> = activities.iter().map(|(by, _)| by.actor.id()).collect();
    let causes: Vec<Option<&str>> = activities
        .iter()
        .map(|(by, _)| by.cause.as_deref())
        .collect();
    sqlx::query!(
        "insert into activities (id, organization_id, kind, subject_id, data, actor_kind, actor_id, cause, at)
         select id, organization_id, kind, subject_id, data, actor_kind, actor_id, cause, $9
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::jsonb[], $6::text[], $7::uuid[], $8::text[])
              as line (id, organization_id, kind, subject_id, data, actor_kind, actor_id, cause)",
        &ids,
        &organizations as &[Option<Uuid>],
        &kinds as _,
        &subjects,
        &data,
        &actors as _,
        &actor_ids as &[Option<Uuid>],
        &causes as _,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Seals what has been written since the last time.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seal {}

impl Job for Seal {
    const KIND: &'static str = "activity.seal";
    const QUEUE: Queue = Queue::Background;
}

/// A line as it is hashed: every column that says something, in a fixed order.
struct Line {
    seq: i64,
    chain_id: Uuid,
    content: String,
}

/// Seals at most `limit` lines; answers how many it did. Sealers queue up behind one another.
pub async fn seal(tx: &mut Tx, limit: i64) -> Result<usize> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('activity.seal'))")
        .execute(&mut **tx)
        .await?;
    let lines = unsealed(tx, limit).await?;
    let chains: Vec<Uuid> = lines.iter().map(|line| line.chain_id).collect();
    let mut ends = ends_of(tx, &chains).await?;
    let (mut seqs, mut positions, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for line in &lines {
        let (position, hash) = ends.entry(line.chain_id).or_default();
        *position += 1;
        *hash = link(hash, *position, &line.content);
        seqs.push(line.seq);
        positions.push(*position);
        hashes.push(hash.clone());
    }
    write_seals(tx, &seqs, &positions, &hashes).await?;
    move_ends(tx, &ends).await?;
    Ok(lines.len())
}

/// What is wrong with a chain, or nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Whole { lines: i64 },
    Broken { at: i64 },
}

/// Recomputes the chain of an organization (of the installation for `None`) from its first line to its end.
///
/// What is sealed meanwhile is left for the next time. The hashes have no key: they find what was changed behind the
/// back of the product, not by somebody who also recomputes the whole chain.
pub async fn verify(
    db: &mut PgConnection,
    organization_id: Option<OrganizationId>,
) -> Result<Verdict> {
    const AT_ONCE: i64 = 5_000;
    let chain_id = organization_id.map_or(Uuid::nil(), Uuid::from);
    // The end is kept apart, so that lines cut off at the end are missed too.
    let ends = ends_of(db, &[chain_id]).await?;
    let (end, last_hash) = ends.get(&chain_id).cloned().unwrap_or_default();
    let (mut position, mut hash) = (0_i64, Vec::new());
    while position < end {
        let lines = sqlx::query!(
            r#"select position as "position!", hash as "hash!", content as "content!"
               from activity_lines
               where chain_id = $1 and position > $2 and position <= $3
               order by position limit $4"#,
            chain_id,
            position,
            end,
            AT_ONCE,
        )
        .fetch_all(&mut *db)
        .await?;
        if lines.is_empty() {
            break;
        }
        for line in &lines {
            position += 1;
            hash = link(&hash, position, &line.content);
            if line.position != position || line.hash != hash {
                return Ok(Verdict::Broken { at: position });
            }
        }
    }
    if (position, hash) == (end, last_hash) {
        Ok(Verdict::Whole { lines: end })
    } else {
        Ok(Verdict::Broken { at: position + 1 })
    }
}

/// Every chain there is.
pub async fn chains(db: &mut PgConnection) -> Result<Vec<Option<OrganizationId>>> {
    let ids = sqlx::query_scalar!("select chain_id from activity_chains order by chain_id");
    let ids = ids.fetch_all(db).await?.into_iter();
    Ok(ids
        .map(|id| (!id.is_nil()).then_some(OrganizationId(id)))
        .collect())
}

/// Goes over every chain once a night.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verify {}

impl Job for Verify {
    const KIND: &'static str = "activity.verify";
    const QUEUE: Queue = Queue::Background;
}

fn link(previous: &[u8], position: i64, content: &str) -> Vec<u8> {
    let hasher = Sha256::new()
        .chain_update(previous)
        .chain_update(position.to_be_bytes());
    hasher.chain_update(content).finalize().to_vec()
}

async fn unsealed(db: &mut PgConnection, limit: i64) -> Result<Vec<Line>> {
    let lines = sqlx::query_as!(
        Line,
        r#"select seq as "seq!", chain_id as "chain_id!", content as "content!"
           from activity_lines where position is null order by seq limit $1"#,
        limit,
    );
    Ok(lines.fetch_all(db).await?)
}

type Ends = BTreeMap<Uuid, (i64, Vec<u8>)>;

async fn ends_of(db: &mut PgConnection, chains: &[Uuid]) -> Result<Ends> {
    let rows = sqlx::query!(
        "select chain_id, position, hash from activity_chains where chain_id = any($1)",
        chains
    );
    let rows = rows.fetch_all(db).await?.into_iter();
    Ok(rows
        .map(|row| (row.chain_id, (row.position, row.hash)))
        .collect())
}

async fn write_seals(
    db: &mut PgConnection,
    seqs: &[i64],
    positions: &[i64],
    hashes: &[Vec<u8>],
) -> Result<()> {
    sqlx::query!(
        "update activities a set position = s.position, hash = s.hash
         from unnest($1::bigint[], $2::bigint[], $3::bytea[]) as s (seq, position, hash)
         where a.seq = s.seq",
        seqs,
        positions,
        hashes,
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn move_ends(db: &mut PgConnection, ends: &Ends) -> Result<()> {
    let chains: Vec<Uuid> = ends.keys().copied().collect();
    let (positions, hashes): (Vec<i64>, Vec<Vec<u8>>) = ends.values().cloned().unzip();
    sqlx::query!(
        "insert into activity_chains (chain_id, position, hash)
         select * from unnest($1::uuid[], $2::bigint[], $3::bytea[])
         on conflict (chain_id) do update set position = excluded.position, hash = excluded.hash",
        &chains,
        &positions,
        &hashes,
    )
    .execute(db)
    .await?;
    Ok(())
}
