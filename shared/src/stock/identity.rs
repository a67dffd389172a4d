//! Whether Redis and Postgres are the servers that were compared last, in the state that follows from it.
//!
//! A Redis that was restarted may have lost its last second, and one that took over in a failover what had not reached
//! it; a Postgres that took over may have lost commits. Each of them tells by its identity that this may have happened. Redis
//! keeps for which identities everything was compared, so all processes know, and a Redis that has lost
//! everything has lost that too.

use std::time::Duration;

use redis::InfoDict;
use sqlx::PgConnection;
use tokio::time::MissedTickBehavior;

use super::reconcile::{Drift, reconcile};
use super::{NewHold, Placed, Stock, place};
use crate::app::App;
use crate::error::{Error, Result};
use crate::redis_connection::RedisConnection;

/// How often the watch looks.
const EVERY: Duration = Duration::from_secs(1);
/// So long, one process compares everything alone; and so long it waits after it could not.
const ALONE: Duration = Duration::from_secs(10);

/// What Redis is, and what it was compared as.
struct Seen {
    redis: String,
    compared: [Option<String>; 2],
}

/// Compares everything as soon as Redis or Postgres is not what it was, until the process ends.
pub async fn watch(app: App) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = compare_after_change(&app).await {
            tracing::debug!(%error, "Redis and Postgres cannot be compared now");
        }
    }
}

/// Compares everything if Redis or Postgres is not what it was when that was done last. Nothing if it is, or if
/// another process compares.
pub async fn compare_after_change(app: &App) -> Result<Option<Drift>> {
    let seen = app.stock.identity().await?;
    let postgres = identity(&mut *app.read().await?).await?;
    if seen.compared.iter().flatten().eq([&seen.redis, &postgres]) {
        return Ok(None);
    }
    if !app.stock.may_compare().await? {
        return Ok(None);
    }
    tracing::warn!(redis = seen.redis, %postgres, "Redis or Postgres has changed: all places are compared");
    let drift = reconcile(app).await?;
    app.stock.note_compared(&seen.redis, &postgres).await?;
    Ok(Some(drift))
}

/// Holds the places of an order again. False if Redis cannot be trusted with the answer: it is away, has lost something, or
/// has promised more than there is. The event has been compared then, as far as that can be done.
pub(crate) async fn hold_again(app: &App, hold: &NewHold) -> Result<bool> {
    match held_for_sure(app, hold).await {
        Ok(true) => return Ok(true),
        Ok(false) => {}
        Err(Error::Unavailable(cause)) => {
            tracing::debug!(order_id = %hold.id, %cause, "Postgres alone says who has places");
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    match super::reconcile::compare(app, hold.event_id).await {
        Err(error) if !matches!(error, Error::Unavailable(_)) => Err(error),
        _ => Ok(false),
    }
}

async fn held_for_sure(app: &App, hold: &NewHold) -> Result<bool> {
    let placed = place(app, hold).await?;
    let is_sure = matches!(
        placed,
        Placed::Placed {
            overdrawn: false,
            ..
        }
    );
    // Asked afterwards: whatever Redis was restarted before, it has answered since.
    Ok(is_sure && app.stock.identity().await?.is_compared())
}

/// Fails on a standby: it may be behind, and its numbers are no reason to take anything back.
pub(super) async fn require_primary(db: &mut PgConnection) -> Result<()> {
    let standby = sqlx::query_scalar!(r#"select pg_is_in_recovery() as "standby!""#);
    if standby.fetch_one(db).await? {
        return Err(Error::Unavailable("Postgres is a standby".into()));
    }
    Ok(())
}

/// The cluster, its timeline, which a failover and a restored backup change, and when it was started.
async fn identity(db: &mut PgConnection) -> Result<String> {
    require_primary(&mut *db).await?;
    let identity = sqlx::query_scalar!(
        r#"select concat_ws(' ', (select system_identifier from pg_control_system()),
                            left(pg_walfile_name(pg_current_wal_lsn()), 8),
                            extract(epoch from pg_postmaster_start_time())) as "identity!""#
    );
    Ok(identity.fetch_one(db).await?)
}

impl Seen {
    fn is_compared(&self) -> bool {
        self.compared[0].as_ref() == Some(&self.redis)
    }
}

impl Stock<RedisConnection> {
    async fn identity(&self) -> Result<Seen> {
        let mut pipe = redis::pipe();
        // A write, so that a server that has become a replica is noticed even where nothing else is written.
        let watched = format!("{}:stock:watched", self.prefix);
        pipe.cmd("SET").arg(watched).arg(1).ignore();
        pipe.cmd("INFO").arg("server");
        pipe.cmd("INFO").arg("replication");
        let fields = ["redis", "postgres"];
        pipe.cmd("HMGET").arg(self.compared_key()).arg(&fields);
        let (server, replication, compared): (InfoDict, InfoDict, [Option<String>; 2]) =
            pipe.query_async(&mut self.connection.clone()).await?;
        let told = |info: &InfoDict, name: &str| info.get::<String>(name).unwrap_or_default();
        let run = told(&server, "run_id");
        let history = told(&replication, "master_replid");
        Ok(Seen {
            redis: format!("{run} {history}"),
            compared,
        })
    }

    async fn may_compare(&self) -> Result<bool> {
        let alone = format!("{}:stock:comparing", self.prefix);
        let mut set = redis::cmd("SET");
        set.arg(alone).arg(1).arg("NX").arg("PX");
        set.arg(u64::try_from(ALONE.as_millis()).unwrap_or(u64::MAX));
        let set: Option<String> = set.query_async(&mut self.connection.clone()).await?;
        Ok(set.is_some())
    }

    async fn note_compared(&self, redis: &str, postgres: &str) -> Result<()> {
        let mut pipe = redis::pipe();
        let fields = [("redis", redis), ("postgres", postgres)];
        pipe.hset_multiple(self.compared_key(), &fields).ignore();
        pipe.del(format!("{}:stock:comparing", self.prefix))
            .ignore();
        pipe.exec_async(&mut self.connection.clone()).await?;
        Ok(())
    }

    fn compared_key(&self) -> String {
        format!("{}:stock:compared", self.prefix)
    }
}
