//! The engine: everything we had to learn about apalis, in one place.
//!
//! apalis gives us its table, the statement that claims jobs (`apalis.get_jobs`, SKIP LOCKED) and the worker that
//! calls a handler for each. Between the two stands a backend of our own, [`Lane`], because that of apalis-postgres 1.0.0
//!
//! * looks for work when told by NOTIFY, which halves the rate of commits and loses events, or on a timer that can
//!   stall. We look when woken through Redis and, whatever happens, every `settings.poll` ([`Claims`]);
//! * claims a batch and runs it by and by, with no heartbeat meanwhile: a busy worker looks dead and its jobs run
//!   twice. We claim only what can begin at once, and the heart beats apart from everything else ([`crate::heart`]);
//! * ends the whole worker at one payload it cannot decode, and keeps a batch for ever that has one id which is no
//!   ULID. We take rows as they are and judge each by itself ([`crate::attempt`]);
//! * lets panics through, runs a failed job again at once, forgets results it could not write ([`crate::ledger`]);
//! * ends the worker when Postgres restarts, and the process sits there doing nothing. Our loops outlive that, and
//!   should one end all the same, the engine does too, with an error.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::error::{BoxDynError, WorkerError};
use apalis_core::layers::Identity;
use apalis_core::task::Task;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use shared::config;
use shared::jobs::{self, Queue};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::attempt::{Claimed, attempt};
use crate::ledger::{self, End};
use crate::recurring::{self, Recurring, database_now};
use crate::registry::Registry;
use crate::{gauges, heart};

/// How long to leave Postgres or Redis alone after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// All that running jobs takes.
#[derive(Debug)]
pub struct Engine<S> {
    pub pool: PgPool,
    pub redis: redis::Client,
    /// What the channels of this installation begin with.
    pub prefix: String,
    pub settings: config::Jobs,
    /// How long running jobs may go on after the stop.
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
        let options = self.pool.connect_options().as_ref().clone();
        let pool = PgPoolOptions::new()
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

        let (ends, written) = mpsc::channel(1024);
        let ledger = tokio::spawn(ledger::keep(pool.clone(), name.clone(), written));
        let mut helpers = JoinSet::new();
        helpers.spawn(heart::keep_beating(
            pool.clone(),
            name.clone(),
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
        let mut lanes = JoinSet::new();
        for (queue, wake) in wakes {
            let claims = Claims::new(
                pool.clone(),
                &name,
                queue,
                &self.settings,
                wake,
                stop.clone(),
            );
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
        })
    }

    async fn drain(mut self, limit: Duration) {
        if timeout(limit, async {
            while self.lanes.join_next().await.is_some() {}
        })
        .await
        .is_err()
        {
            tracing::warn!("jobs are interrupted: they took too long to finish");
        }
        self.lanes.shutdown().await;
        // The lanes were the ones to write to it, so it ends once all is written; without Postgres that is never.
        if timeout(4 * PAUSE, &mut self.ledger).await.is_err() {
            self.ledger.abort();
        }
        self.helpers.shutdown().await;
        match timeout(4 * PAUSE, heart::give_back(&self.pool, &self.name)).await {
            Ok(Ok(given_back)) => {
                tracing::info!(worker = self.name, given_back, "job engine stopped");
            }
            failed => tracing::warn!(
                ?failed,
                "job engine stopped; others will take over what it did not finish"
            ),
        }
    }
}

/// A claimed job and the slot it occupies while it runs.
struct Work {
    row: Claimed,
    slot: OwnedSemaphorePermit,
}

/// A worker of apalis that runs one queue, until its claims end.
fn run_lane<S>(
    claims: Claims,
    hands: Arc<(Registry<S>, S)>,
    ends: mpsc::Sender<End>,
) -> impl Future<Output = Result<(), WorkerError>> + Send
where
    S: Clone + Send + Sync + 'static,
{
    let worker = WorkerBuilder::new(format!("{}-{}", claims.worker, claims.queue.name()));
    let handle = move |work: Work| {
        let (hands, ends) = (Arc::clone(&hands), ends.clone());
        async move {
            let (registry, state) = &*hands;
            if let Some(end) = attempt(registry, state, work.row).await {
                // While Postgres is away this waits, and so does the next claim.
                ends.send(end).await?;
            }
            drop(work.slot);
            Ok::<(), BoxDynError>(())
        }
    };
    worker.backend(Lane::new(claims)).build(handle).run()
}

/// Hands claimed jobs to apalis.
struct Lane {
    work: BoxStream<'static, Work>,
}

impl Lane {
    fn new(claims: Claims) -> Self {
        let batches = stream::unfold(claims, async |mut claims| {
            Some((claims.next().await?, claims))
        });
        Self {
            work: batches.flat_map(stream::iter).boxed(),
        }
    }
}

impl Backend for Lane {
    type Task = Task<Work>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Task<Work>, Infallible>>> {
        let work = ready!(self.work.poll_next_unpin(cx));
        if work.is_none() {
            // A worker whose backend has ended waits to be told to stop. It cannot fail: it is running.
            let _ = worker.stop();
        }
        Poll::Ready(work.map(|work| Ok(Task::new(work))))
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Lane {
    type Args = Work;
    type Id = String;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}

/// Claims the jobs of one queue, as many as can begin at once.
struct Claims {
    pool: PgPool,
    worker: String,
    queue: Queue,
    slots: Arc<Semaphore>,
    batch: usize,
    wake: Arc<Notify>,
    poll: Interval,
    stop: CancellationToken,
}

impl Claims {
    fn new(
        pool: PgPool,
        worker: &str,
        queue: Queue,
        settings: &config::Jobs,
        wake: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        let mut look = interval(settings.poll.0);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let slots = Arc::new(Semaphore::new(settings.concurrency));
        Self {
            pool,
            worker: worker.to_owned(),
            queue,
            slots,
            batch: settings.batch,
            wake,
            poll: look,
            stop,
        }
    }

    /// The next jobs, at least one; `None` after the stop.
    async fn next(&mut self) -> Option<Vec<Work>> {
        loop {
            let mut slots = tokio::select! {
                () = self.stop.cancelled() => return None,
                slots = free_slots(&self.slots, self.batch) => slots,
            };
            // Not interrupted by the stop: what is claimed must begin, or somebody would have to give it back.
            match self.claim(slots.num_permits()).await {
                Ok(rows) if !rows.is_empty() => {
                    let slot = |row| slots.split(1).map(|slot| Work { row, slot });
                    return Some(rows.into_iter().filter_map(slot).collect());
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, queue = self.queue.name(), "cannot claim jobs, trying again");
                    sleep(PAUSE).await;
                }
            }
            // A wake that came while we looked is not lost: the next wait returns at once.
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = self.wake.notified() => {}
                _ = self.poll.tick() => {}
            }
        }
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Claimed>, sqlx::Error> {
        sqlx::query_as!(
            Claimed,
            r#"select id as "id!", job_type as "queue!", job as "payload!", attempts as "attempts!",
                      max_attempts as "max_attempts!"
               from apalis.get_jobs($1, $2, $3)"#,
            self.worker,
            self.queue.name(),
            i32::try_from(limit).unwrap_or(i32::MAX),
        )
        .fetch_all(&self.pool)
        .await
    }
}

/// Waits until a job can begin, and takes as many slots as are free then.
async fn free_slots(slots: &Arc<Semaphore>, at_most: usize) -> OwnedSemaphorePermit {
    let mut taken = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("nobody closes it");
    let more = slots.available_permits().min(at_most.saturating_sub(1));
    // Nobody else takes slots, so these are still free.
    if let Ok(more) =
        Arc::clone(slots).try_acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX))
    {
        taken.merge(more);
    }
    taken
}

/// What wakes each queue.
type Wakes = BTreeMap<Queue, Arc<Notify>>;

/// Passes on what [`jobs::wake`] says. While Redis is away, `settings.poll` is what there is.
async fn listen(redis: redis::Client, channel: String, wakes: Wakes) {
    loop {
        if let Err(error) = pass_on(&redis, &channel, &wakes).await {
            tracing::warn!(%error, "not woken through Redis");
        }
        sleep(PAUSE).await;
    }
}

async fn pass_on(
    redis: &redis::Client,
    channel: &str,
    wakes: &Wakes,
) -> Result<(), redis::RedisError> {
    let mut subscription = redis.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    // Something may have been said before we heard it.
    for wake in wakes.values() {
        wake.notify_one();
    }
    let mut messages = subscription.on_message();
    while let Some(message) = messages.next().await {
        let queue = Queue::named(&message.get_payload::<String>().unwrap_or_default());
        if let Some(wake) = queue.and_then(|queue| wakes.get(&queue)) {
            wake.notify_one();
        }
    }
    Ok(())
}
