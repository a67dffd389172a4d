//! What many ask for is kept in memory for a while, in every process, and forgotten when it changes.
//!
//! A change names what it touches ([`Tx::changed`](crate::Tx)). Its own process forgets that with the commit, the
//! others when they hear of it through Redis. Nothing is lost silently: a process sends itself a beat through the same
//! channel, and trusts its memory only while it has heard one that it sent less than a second ago. All that was said
//! before that beat has been heard too. While Redis is away, everybody reads from Postgres; whoever comes back starts
//! with an empty memory. Rights, vetting and what is left are never kept here.

use std::hash::Hash;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::app::{App, Redis};
use crate::error::Result;
use crate::events::cache::Events;
use crate::ids::{self, EventId, OrganizationId, VenueId};
use crate::page::{Page, Paging};
use crate::venues::{self, Venue, VenueFilter};

const BEAT: Duration = Duration::from_millis(200);
/// Memory is trusted so long after the sending of the last beat that was heard.
const TRUSTED: Duration = Duration::from_millis(900);
/// Between attempts to be told again, and to tell.
const PAUSE: Duration = Duration::from_millis(200);
/// After this nobody remembers what they were not told about.
const LONGEST: Duration = Duration::from_mins(15);

/// Far enough back for every comparison.
const NEVER: i64 = i64::MIN / 2;

/// What a change has touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    Event(EventId),
    Venue(VenueId),
    Organization(OrganizationId),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Changed(Vec<Changed>),
    /// Of which process, and how long it ran when it sent it.
    Beat(String, i64),
}

/// Everything that is kept. One for the whole process.
pub struct Caches {
    pub(crate) events: Events,
    pub(crate) venues: Shelf<VenueId, Venue>,
    /// For how long each organization holds places: asked for with every hold.
    pub(crate) hold_minutes: Shelf<OrganizationId, i32>,
    pub(crate) venue_lists: Shelf<(VenueFilter, Paging), Page<Venue>>,
    trust: Trust,
}

/// Whether, and since when, what is in memory can be believed.
struct Trust {
    name: String,
    started: Instant,
    /// When the last beat that came back was sent, in milliseconds since the start; negative while nobody listens.
    beat: AtomicI64,
    /// Counts what was forgotten, so that nothing is kept that was read before.
    forgotten: AtomicU64,
    /// Held while something is put in memory, and while something is forgotten.
    turn: RwLock<()>,
}

impl Caches {
    pub(crate) fn new(now: DateTime<Utc>) -> Self {
        Self {
            events: Events::default(),
            venues: Shelf::new(2_000, TimeDelta::minutes(15), |_| 1),
            hold_minutes: Shelf::new(10_000, TimeDelta::minutes(5), |_| 1),
            venue_lists: Shelf::new(20_000, TimeDelta::minutes(15), venues::weight),
            trust: Trust {
                name: ids::fresh(now).to_string(),
                started: Instant::now(),
                beat: AtomicI64::new(NEVER),
                forgotten: AtomicU64::new(0),
                turn: RwLock::default(),
            },
        }
    }

    /// Forgets what has changed. To be called once the change is committed.
    pub(crate) fn forget(&self, changed: &[Changed]) {
        if changed.is_empty() {
            return;
        }
        let _turn = self.trust.turn.write().expect("nobody panics in between");
        self.trust.forgotten.fetch_add(1, Ordering::SeqCst);
        for what in changed {
            match what {
                Changed::Event(id) => self.events.forget(*id),
                Changed::Venue(id) => {
                    self.venues.forget(id);
                    self.venue_lists.forget_everything();
                    // Lists show its name.
                    self.events.forget_lists();
                }
                Changed::Organization(id) => self.hold_minutes.forget(id),
            }
        }
    }

    fn forget_everything(&self) {
        let _turn = self.trust.turn.write().expect("nobody panics in between");
        self.trust.forgotten.fetch_add(1, Ordering::SeqCst);
        self.events.forget_everything();
        self.venues.forget_everything();
        self.venue_lists.forget_everything();
        self.hold_minutes.forget_everything();
    }

    /// Whether what is in memory counts at this moment.
    #[must_use]
    pub fn trusted(&self) -> bool {
        self.trust.since_start() - self.trust.beat.load(Ordering::SeqCst) < millis(TRUSTED)
    }

    /// What is kept under a key, or what `load` brings. Of many who ask at once, one loads.
    pub(crate) async fn get<K, V>(
        &self,
        place_for: &Shelf<K, V>,
        key: K,
        now: DateTime<Utc>,
        load: impl AsyncFnOnce() -> Result<V>,
    ) -> Result<Arc<V>>
    where
        K: Eq + Hash + Clone,
    {
        if !self.trusted() {
            return Ok(Arc::new(load().await?));
        }
        place_for.kept.remove_if(&key, |kept| now >= kept.until);
        let place = match place_for.kept.get_value_or_guard_async(&key).await {
            Ok(kept) => return Ok(kept.value),
            Err(place) => place,
        };
        let before = self.trust.forgotten.load(Ordering::SeqCst);
        let value = Arc::new(load().await?);
        let _turn = self.trust.turn.read().expect("nobody panics in between");
        if before == self.trust.forgotten.load(Ordering::SeqCst) {
            // Only an emptied place refuses, and then there is nothing to keep.
            let _ = place.insert(Kept {
                until: now + place_for.longest,
                value: Arc::clone(&value),
            });
        }
        Ok(value)
    }
}

impl Trust {
    fn since_start(&self) -> i64 {
        millis(self.started.elapsed())
    }
}

/// Things of one kind, bounded by what they weigh together.
pub(crate) struct Shelf<K, V> {
    kept: Cache<K, Kept<V>, Weight<V>>,
    longest: TimeDelta,
}

struct Kept<V> {
    value: Arc<V>,
    /// By the clock of the product.
    until: DateTime<Utc>,
}

impl<V> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            until: self.until,
        }
    }
}

struct Weight<V>(fn(&V) -> u64);

impl<V> Clone for Weight<V> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<K, V> Weighter<K, Kept<V>> for Weight<V> {
    fn weight(&self, _: &K, kept: &Kept<V>) -> u64 {
        (self.0)(&kept.value)
    }
}

impl<K: Eq + Hash + Clone, V> Shelf<K, V> {
    pub(crate) fn new(most: u64, longest: TimeDelta, weight: fn(&V) -> u64) -> Self {
        Self {
            kept: Cache::with_weighter(1_000, most, Weight(weight)),
            longest,
        }
    }

    pub(crate) fn forget(&self, key: &K) {
        self.kept.remove(key);
    }

    pub(crate) fn forget_everything(&self) {
        self.kept.clear();
    }
}

/// Tells all processes what has changed, until it could be told, or until nobody remembers it any more.
pub(crate) async fn tell(redis: &Redis, changed: Vec<Changed>) {
    if changed.is_empty() {
        return;
    }
    let message = Message::Changed(changed);
    if publish(redis, &message).await.is_ok() {
        return;
    }
    let redis = redis.clone();
    tokio::spawn(timeout(LONGEST, async move {
        while publish(&redis, &message).await.is_err() {
            sleep(PAUSE).await;
        }
    }));
}

async fn publish(redis: &Redis, message: &Message) -> Result<()> {
    let message = serde_json::to_string(message)?;
    redis::cmd("PUBLISH")
        .arg(redis.key("changed"))
        .arg(message)
        .query_async::<()>(&mut redis.connection())
        .await?;
    Ok(())
}

/// Hears what changes, and forgets it, until the process ends. Without it nothing is kept.
pub async fn follow(app: App) {
    loop {
        if let Err(error) = hear(&app).await {
            tracing::warn!(%error, "nothing is kept in memory: changes are not heard through Redis");
        }
        app.caches.trust.beat.store(NEVER, Ordering::SeqCst);
        sleep(PAUSE).await;
    }
}

async fn hear(app: &App) -> Result<()> {
    let (caches, redis) = (&app.caches, &app.redis);
    let connection = redis.connection();
    let mut replaced = pin!(connection.replaced());
    let mut channel = redis.client().get_async_pubsub().await?;
    channel.subscribe(redis.key("changed")).await?;
    // Nobody knows what was said meanwhile.
    caches.forget_everything();
    let mut messages = channel.on_message();
    let mut beats = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            _ = beats.tick() => {
                let beat = Message::Beat(caches.trust.name.clone(), caches.trust.since_start());
                publish(redis, &beat).await?;
            }
            () = &mut replaced => return Ok(()),
            message = messages.next() => {
                let Some(message) = message else { return Ok(()) };
                take(caches, &message.get_payload::<String>()?)?;
            }
        }
    }
}

fn take(caches: &Caches, message: &str) -> Result<()> {
    match serde_json::from_str(message)? {
        Message::Changed(changed) => caches.forget(&changed),
        Message::Beat(name, sent) if name == caches.trust.name => {
            caches.trust.beat.store(sent, Ordering::SeqCst);
        }
        Message::Beat(..) => {}
    }
    Ok(())
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
