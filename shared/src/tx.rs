//! The one value through which every change goes.
//!
//! A [`Tx`] has the database transaction, who acts, a fixed `now`, and takes the activity and the jobs that
//! the change causes; they commit together or not at all. A function that changes something takes
//! `&mut Tx`; one that only reads takes `&mut PgConnection`, which a `Tx` can stand in for.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, Transaction};

use crate::access::{Actor, Scope};
use crate::activity::{self, Activity, By};
use crate::app::{App, Redis};
use crate::cache::{self, Caches, Changed};
use crate::encryption::Cipher;
use crate::error::{Error, Result};
use crate::ids::{OrderId, OrganizationId, UserId};
use crate::jobs::{self, Job, NewJob};
use crate::orders;
use crate::stock::{Places, Stock};
use crate::telemetry;

/// Dropping it takes everything back.
pub struct Tx {
    db: Transaction<'static, Postgres>,
    redis: Redis,
    cipher: Arc<Cipher>,
    now: DateTime<Utc>,
    by: By,
    scope: Scope,
    activities: Vec<(By, Activity)>,
    jobs: Vec<NewJob>,
    notices: Vec<Notice>,
    stock: Stock,
    places: Vec<Places>,
    orders: Vec<OrderId>,
    caches: Arc<Caches>,
    changed: Vec<Changed>,
}

/// What Redis is told as soon as it is true.
struct Notice {
    key: String,
    value: String,
    kept: Duration,
}

impl Tx {
    pub(crate) async fn begin(app: &App, actor: Actor, scope: Scope) -> Result<Self> {
        Ok(Self {
            db: app.pool().begin().await?,
            redis: app.redis.clone(),
            cipher: Arc::clone(&app.cipher),
            now: app.clock.now(),
            by: By { actor, cause: None },
            scope,
            activities: Vec::new(),
            jobs: Vec::new(),
            notices: Vec::new(),
            stock: app.stock.clone(),
            places: Vec::new(),
            orders: Vec::new(),
            caches: Arc::clone(&app.caches),
            changed: Vec::new(),
        })
    }

    /// Names the request or job that asks for the change; its activity and its jobs carry the name.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.by.cause = Some(cause.into());
        self
    }

    /// From here on somebody else acts, because of a request of their own.
    pub(crate) fn on_behalf_of(&mut self, by: By) {
        self.by = by;
    }

    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    #[must_use]
    pub fn actor(&self) -> Actor {
        self.by.actor
    }

    /// Somebody has proved who they are: from here on they act, and no longer a stranger.
    pub(crate) fn authenticated(&mut self, user_id: UserId) {
        if self.by.actor == Actor::Stranger {
            self.by.actor = Actor::User(user_id);
        }
    }

    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Fails unless the actor came in with its right for this organization.
    pub fn require(&self, organization_id: OrganizationId) -> Result<()> {
        self.scope.require(organization_id)
    }

    /// Tells what happened. Written when the change commits.
    pub fn record(&mut self, activity: Activity) {
        self.activities.push((self.by.clone(), activity));
    }

    /// Leaves work for later. It exists when the change commits, and not before.
    pub fn enqueue<J: Job>(&mut self, job: &J) {
        self.enqueue_with(job, |job| job);
    }

    /// The same, with a time to wait for or a key that makes it once only.
    pub fn enqueue_with<J: Job>(&mut self, job: &J, adjust: impl FnOnce(NewJob) -> NewJob) {
        let job = NewJob::new(job, self.now)
            .cause(self.by.cause.clone())
            .trace(telemetry::current_traceparent());
        self.jobs.push(adjust(job));
    }

    /// The same, unless a job of this kind waits or runs for the subject already.
    pub fn enqueue_one<J: Job>(&mut self, job: &J, subject: impl fmt::Display) {
        self.enqueue_with(job, |job| job.one_at_a_time(subject));
    }

    /// Has every process forget this with the commit.
    pub(crate) fn changed(&mut self, what: Changed) {
        if !self.changed.contains(&what) {
            self.changed.push(what);
        }
    }

    /// Encrypts and decrypts the secrets that rows keep.
    pub(crate) fn cipher(&self) -> Arc<Cipher> {
        Arc::clone(&self.cipher)
    }

    pub(crate) fn redis(&self) -> &Redis {
        &self.redis
    }

    /// Has Redis keep a value for a while from the commit on, where others look before they ask Postgres.
    pub(crate) fn tell_redis(&mut self, key: String, value: String, kept: Duration) {
        self.notices.push(Notice { key, value, kept });
    }

    /// Has Redis hear of the places of an event as soon as it is true. If it cannot be told, that is made up for
    /// within a minute, and until then nothing is sold that Postgres does not have.
    pub(crate) fn tell_places(&mut self, places: Places) {
        if !self.places.contains(&places) {
            self.places.push(places);
        }
    }

    /// Wakes whoever waits for news of an order, with the commit.
    pub(crate) fn announce(&mut self, order_id: OrderId) {
        self.orders.push(order_id);
    }

    /// Makes it all true at once, tells Redis, then wakes the workers.
    ///
    /// When Redis cannot be told, the change is true all the same, and the caller hears UNAVAILABLE: whoever
    /// asked for an end must not be told that it has come before it has. Asking again tells Redis again.
    pub async fn commit(self) -> Result<()> {
        // On a task of its own: a client that hangs up in the middle must not keep Redis from being told.
        let finishing = tokio::spawn(self.finish());
        finishing
            .await
            .map_err(|error| Error::Internal(error.into()))?
    }

    async fn finish(mut self) -> Result<()> {
        activity::insert(&mut self.db, self.now, &self.activities).await?;
        let queues = jobs::insert(&mut self.db, &self.jobs).await?;
        let places = Places::read(&mut self.db, self.places).await?;
        self.db.commit().await?;
        self.caches.forget(&self.changed);
        cache::tell(&self.redis, self.changed).await;
        let told = tell(&self.redis, &self.notices).await;
        places.tell(&self.stock, self.now).await;
        orders::announce(&self.redis, &self.orders).await;
        jobs::wake(&self.redis.connection(), self.redis.prefix(), &queues).await;
        told
    }
}

async fn tell(redis: &Redis, notices: &[Notice]) -> Result<()> {
    if notices.is_empty() {
        return Ok(());
    }
    let mut pipe = redis::pipe();
    for notice in notices {
        let kept = u64::try_from(notice.kept.as_millis()).unwrap_or(u64::MAX);
        pipe.pset_ex(&notice.key, &notice.value, kept).ignore();
    }
    pipe.exec_async(&mut redis.connection()).await?;
    Ok(())
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.db
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.db
    }
}
