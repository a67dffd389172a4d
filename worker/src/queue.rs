//! Everything we had to learn about apalis, in one place.
//!
//! apalis gives us its tables and the worker that calls a handler for each job. Between the two stands a backend of
//! our own, [`Lane`], because that of apalis-postgres 1.0.0
//!
//! * reads the whole table for each claim, finished jobs and all. Ours is in `claim.sql`;
//! * looks for work when told by NOTIFY, which halves the rate of commits and loses events, or on a timer that can
//!   stall. We look when woken through Redis and, whatever happens, every `settings.poll` ([`Claims`]);
//! * claims a batch and runs it by and by, with no heartbeat meanwhile: a busy worker looks dead and its jobs run
//!   twice. We claim only what can begin at once, and the heart beats apart from everything else ([`crate::heart`]);
//! * ends the whole worker at one payload it cannot decode, and keeps a batch for ever that has one id which is no
//!   ULID. We take rows as they are and judge each by itself ([`crate::attempt`]);
//! * lets panics through, runs a failed job again at once, forgets results it could not write ([`crate::ledger`]);
//! * ends the worker when Postgres restarts, and the process sits there doing nothing. Our loops outlive that, and
//!   should one end all the same, so does the engine, with an error ([`crate::engine`]).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
use shared::jobs::Queue;
use sqlx::PgPool;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::attempt::{Claimed, attempt};
use crate::heart::Held;
use crate::ledger::End;
use crate::registry::Registry;

/// While there are more jobs than can begin, slots gather for so long before they are filled together; and claims that find
/// all there is are at least so far apart, so that under load one finds several.
const GATHER: Duration = Duration::from_millis(5);
/// While there are more purchases than can begin, the other queues claim a few jobs every so long.
const GIVE_WAY: Duration = Duration::from_millis(50);
const FEW: usize = 2;

/// How long to leave Postgres or Redis alone after a failure.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// A claimed job and the slot it occupies while it runs.
struct Work {
    row: Claimed,
    slot: OwnedSemaphorePermit,
}

/// A worker of apalis that runs one queue, until its claims end.
pub(crate) fn run_lane<S>(
    claims: Claims,
    hands: Arc<(Registry<S>, S)>,
    ends: mpsc::Sender<End>,
) -> impl Future<Output = Result<(), WorkerError>> + Send
where
    S: Clone + Send + Sync + 'static,
{
    let worker = WorkerBuilder::new(format!("{}-{}", claims.ours.name, claims.queue.name()));
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

/// What the lanes of one worker have in common.
#[derive(Clone)]
pub(crate) struct Lanes {
    pub pool: PgPool,
    pub name: String,
    pub held: Held,
    pub rush: Rush,
    pub stop: CancellationToken,
}

/// Whether there are more purchases than this worker can begin: how many lanes of purchases have more than they can.
#[derive(Clone, Default)]
pub(crate) struct Rush(Arc<AtomicUsize>);

impl Rush {
    fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// Claims the jobs of one queue, as many as can begin at once.
pub(crate) struct Claims {
    ours: Lanes,
    queue: Queue,
    at_once: usize,
    slots: Arc<Semaphore>,
    wake: Arc<Notify>,
    timer: Interval,
    /// The last claim found as many as it could take: there are more.
    more: bool,
    /// Until then, jobs that come one by one gather.
    next: Instant,
}

impl Claims {
    pub(crate) fn new(
        ours: Lanes,
        queue: Queue,
        settings: &config::Jobs,
        wake: Arc<Notify>,
    ) -> Self {
        let mut timer = interval(settings.poll.0);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let at_once = if comes_first(queue) {
            settings.concurrency
        } else {
            settings.concurrency_beside
        };
        Self {
            ours,
            queue,
            at_once,
            slots: Arc::new(Semaphore::new(at_once)),
            wake,
            timer,
            more: false,
            next: Instant::now(),
        }
    }

    /// The next jobs, at least one; `None` after the stop.
    async fn next(&mut self) -> Option<Vec<Work>> {
        loop {
            let mut slots = tokio::select! {
                () = self.ours.stop.cancelled() => return None,
                slots = self.room() => slots,
            };
            let most = slots.num_permits();
            self.next = Instant::now() + GATHER;
            // Not interrupted by the stop: what is claimed must begin, or somebody would have to give it back.
            let claimed = self.claim(most).await;
            self.note(claimed.as_ref().is_ok_and(|rows| rows.len() == most));
            match claimed {
                Ok(rows) if !rows.is_empty() => {
                    self.ours.held.take(rows.iter().map(|row| &row.id));
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
                () = self.ours.stop.cancelled() => return None,
                () = self.wake.notified() => {}
                _ = self.timer.tick() => {}
            }
        }
    }

    /// Waits until jobs can begin, and takes the slots for them.
    async fn room(&self) -> OwnedSemaphorePermit {
        let mut slots = free_slots(&self.slots).await;
        if !comes_first(self.queue) && self.ours.rush.is_on() {
            sleep(GIVE_WAY).await;
            let few = FEW.min(slots.num_permits());
            return slots.split(few).unwrap_or(slots);
        }
        if self.more && slots.num_permits() < self.at_once {
            sleep(GATHER).await;
        } else if !self.more {
            sleep_until(self.next).await;
        }
        all_free(&self.slots, slots)
    }

    /// Whether there are more than were claimed; for the others, if these come first.
    fn note(&mut self, more: bool) {
        if comes_first(self.queue) {
            match (self.more, more) {
                (false, true) => drop(self.ours.rush.0.fetch_add(1, Ordering::Relaxed)),
                (true, false) => drop(self.ours.rush.0.fetch_sub(1, Ordering::Relaxed)),
                _ => {}
            }
        }
        self.more = more;
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Claimed>, sqlx::Error> {
        sqlx::query_as(include_str!("claim.sql"))
            .bind(&self.ours.name)
            .bind(self.queue.name())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            // A plan made while there were no jobs would be kept when there are many, and read all of them.
            .persistent(false)
            .fetch_all(&self.ours.pool)
            .await
    }
}

/// The others wait for these.
fn comes_first(queue: Queue) -> bool {
    matches!(queue, Queue::Purchase | Queue::Payment)
}

/// Waits until a job can begin, and takes as many slots as are free then.
async fn free_slots(slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let one = Arc::clone(slots).acquire_owned().await;
    all_free(slots, one.expect("nobody closes it"))
}

/// What is taken, and whatever else is free.
fn all_free(slots: &Arc<Semaphore>, mut taken: OwnedSemaphorePermit) -> OwnedSemaphorePermit {
    let more = slots.available_permits();
    // Nobody else takes slots, so these are still free.
    if let Ok(more) =
        Arc::clone(slots).try_acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX))
    {
        taken.merge(more);
    }
    taken
}
