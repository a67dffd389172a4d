//! The engine: the lanes that run jobs, and what keeps them going: the heart, the ledger, the wakes, the ticks.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use apalis_core::error::WorkerError;
use futures_util::StreamExt as _;
use shared::app::trusting_pool;
use shared::config;
use shared::jobs::{self, Queue};
use shared::redis_connection::RedisConnection;
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::heart::Held;
use crate::queue::{Claims, Lanes, PAUSE, Rush, run_lane};
use crate::recurring::{self, Recurring, database_now};
use crate::registry::Registry;
use crate::{gauges, heart, ledger};

/// All that running jobs takes.
#[derive(Debug)]
pub struct Engine<S> {
    pub pool: PgPool,
    pub redis: RedisConnection,
    /// What the channels of this installation begin with.
    pub prefix: String,
    pub settings: config::Jobs,
    /// How long it may take to stop. Jobs that run longer are interrupted and given back.
    pub drain: Duration,
    pub registry: Registry<S>,
    pub recurring: Vec<Recurring>,
    pub state: S,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the job engine cannot start")]
    Start(#[from] sqlx::Error),
    /// What must not happen, and must not go unnoticed: nobody would run jobs any more.
    #[error("a part of the job engine ended by itself: {0}")]
    Ended(String),
}

impl<S: Clone + Send + Sync + 'static> Engine<S> {
    /// Runs jobs until `stop`; then the running ones finish and nothing stays behind.
    pub async fn run(self, stop: CancellationToken) -> Result<(), EngineError> {
        let drain = self.drain;
        // The parts have a token of their own: if one of them fails, the others stop, but not the caller.
        let lanes_stop = stop.child_token();
        let mut running = self.start(&lanes_stop).await?;
        let outcome = tokio::select! {
            biased; // After the stop it is only right that the parts end.
            () = stop.cancelled() => Ok(()),
            ended = running.part_ended() => Err(ended),
        };
        lanes_stop.cancel();
        running.drain(drain).await;
        outcome
    }

    async fn start(self, stop: &CancellationToken) -> Result<Running, EngineError> {
        // Connections of the engine's own: jobs that use up the pool must not make their worker look dead.
        // What they write is made up for should Postgres crash and forget its last moments, so nothing waits for a disk.
        let options = self.pool.connect_options().as_ref().clone();
        let options = options.options([("synchronous_commit", "off")]);
        let pool = trusting_pool()
            .max_connections(6)
            .connect_with(options)
            .await?;
        // A name is never used twice, or the heart would beat for what an earlier life left behind.
        let name = format!(
            "worker-{}",
            jobs::fresh_id(database_now(&mut *pool.acquire().await?).await?)
        );
        heart::beat(&pool, &name).await?;
        let (registry, prune) =
            recurring::housekeeping(self.registry, self.pool, self.settings.keep.delta());
        let hands = Arc::new((registry, self.state));
        let wakes: Wakes = Queue::ALL
            .into_iter()
            .map(|queue| (queue, Arc::default()))
            .collect();

        let held = Held::default();
        let (ends, written) = mpsc::channel(1024);
        let ledger = tokio::spawn(ledger::keep(
            pool.clone(),
            name.clone(),
            held.clone(),
            written,
        ));
        let mut helpers = JoinSet::new();
        helpers.spawn(heart::keep_beating(
            pool.clone(),
            name.clone(),
            held.clone(),
            self.settings.heartbeat.0,
        ));
        helpers.spawn(recurring::keep_ticking(
            pool.clone(),
            self.recurring.into_iter().chain([prune]).collect(),
        ));
        helpers.spawn(gauges::keep_looking(pool.clone()));
        helpers.spawn(listen(
            self.redis,
            jobs::wake_channel(&self.prefix),
            wakes.clone(),
        ));
        let ours = Lanes {
            pool: pool.clone(),
            name: name.clone(),
            held,
            rush: Rush::default(),
            stop: stop.clone(),
        };
        let mut lanes = JoinSet::new();
        for (queue, wake) in wakes {
            let claims = Claims::new(ours.clone(), queue, &self.settings, wake);
            lanes.spawn(run_lane(claims, Arc::clone(&hands), ends.clone()));
        }
        tracing::info!(worker = name, "job engine runs");
        Ok(Running {
            pool,
            name,
            lanes,
            helpers,
            ledger,
        })
    }
}

/// The parts of an engine.
struct Running {
    pool: PgPool,
    name: String,
    lanes: JoinSet<Result<(), WorkerError>>,
    helpers: JoinSet<()>,
    ledger: JoinHandle<()>,
}

impl Running {
    async fn part_ended(&mut self) -> EngineError {
        EngineError::Ended(tokio::select! {
            ended = self.lanes.join_next() => format!("lane: {ended:?}"),
            ended = self.helpers.join_next() => format!("helper: {ended:?}"),
            ended = &mut self.ledger => format!("ledger: {ended:?}"),
        })
    }

    /// Most of `limit` is for the jobs, the rest to write down how they ended.
    async fn drain(mut self, limit: Duration) {
        let all_lanes = async { while self.lanes.join_next().await.is_some() {} };
        if timeout(limit * 3 / 4, all_lanes).await.is_err() {
            tracing::warn!("jobs are interrupted: they took too long to finish");
        }
        self.lanes.shutdown().await;
        // The lanes were the ones to write to it, so it ends once all is written; without Postgres that is never.
        if timeout(limit / 8, &mut self.ledger).await.is_err() {
            self.ledger.abort();
        }
        self.helpers.shutdown().await;
        let given_back = timeout(limit / 8, heart::give_back(&self.pool, &self.name)).await;
        if let Ok(Ok(given_back)) = given_back {
            tracing::info!(worker = self.name, given_back, "job engine stopped");
        } else {
            tracing::warn!(
                worker = self.name,
                "job engine stopped; others will take over what it did not finish"
            );
        }
    }
}

/// What wakes each queue.
type Wakes = BTreeMap<Queue, Arc<Notify>>;

/// Passes on what [`jobs::wake`] says. While Redis is away, `settings.poll` is what there is.
async fn listen(redis: RedisConnection, channel: String, wakes: Wakes) {
    loop {
        if let Err(error) = pass_on(&redis, &channel, &wakes).await {
            tracing::warn!(%error, "not woken through Redis");
        }
        sleep(PAUSE).await;
    }
}

async fn pass_on(
    redis: &RedisConnection,
    channel: &str,
    wakes: &Wakes,
) -> Result<(), redis::RedisError> {
    let mut replaced = pin!(redis.replaced());
    let mut subscription = redis.client().get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    // Something may have been said before we heard it.
    for wake in wakes.values() {
        wake.notify_one();
    }
    let mut messages = subscription.on_message();
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = &mut replaced => None,
        };
        let Some(message) = message else {
            return Ok(());
        };
        let queue = Queue::named(&message.get_payload::<String>().unwrap_or_default());
        if let Some(wake) = queue.and_then(|queue| wakes.get(&queue)) {
            wake.notify_one();
        }
    }
}
