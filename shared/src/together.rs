//! Pieces of work of one kind that come in at the same moment, done in one transaction.
//!
//! While one batch commits, and for a moment after it began, whatever comes in makes up the next. Alone, a piece waits for
//! nobody. Each still succeeds or fails by itself: what cannot be done together is done one by one.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use crate::app::App;
use crate::error::{Error, Result};

/// Transactions of a kind begin at least so far apart: a few milliseconds nobody notices, and under load the work of several
/// takes the place of many small ones that would keep Postgres busy with beginning and ending.
const PACE: Duration = Duration::from_millis(5);
/// More in one transaction gains nothing.
const MOST_TOGETHER: usize = 256;
/// So many are done at once that cannot be done together: the connections are not for them alone.
const MOST_BESIDE: usize = 4;

/// One piece of work.
pub(crate) trait Piece: Clone + Send + Sync + 'static {
    type Done: Send + 'static;

    /// A batch that takes longer is given up, and those in it hear that it was: on a connection that has gone silent it would
    /// keep all others waiting for as long as TCP hopes.
    const PATIENCE: Duration = Duration::from_secs(15);

    /// What it is about. Two pieces about the same are done one after the other.
    fn subject(&self) -> Uuid;

    /// Does all of them in one transaction; answers in their order.
    fn do_all(app: &App, pieces: &[Self]) -> impl Future<Output = Result<Vec<Self::Done>>> + Send;
}

/// The door to the one task of this process that does the pieces of a kind. It begins with the first.
#[derive(Clone)]
pub(crate) struct Together<P: Piece>(Arc<OnceLock<mpsc::Sender<Request<P>>>>);

struct Request<P: Piece> {
    app: App,
    piece: P,
    answer: oneshot::Sender<Result<P::Done>>,
}

impl<P: Piece> Default for Together<P> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<P: Piece> Together<P> {
    /// Does a piece of work, together with whatever else is to be done now.
    pub async fn run(&self, app: &App, piece: P) -> Result<P::Done> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            app: app.clone(),
            piece,
            answer,
        };
        let door = self.0.get_or_init(|| {
            let (sender, requests) = mpsc::channel(4 * MOST_TOGETHER);
            tokio::spawn(work(requests));
            sender
        });
        let gone = || Error::Unavailable("nobody does it any more".into());
        door.send(request).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn work<P: Piece>(mut requests: mpsc::Receiver<Request<P>>) {
    let mut waiting: Vec<Request<P>> = Vec::new();
    let mut next = Instant::now();
    loop {
        if waiting.is_empty() {
            let Some(first) = requests.recv().await else {
                return;
            };
            waiting.push(first);
        }
        sleep_until(next).await;
        next = Instant::now() + PACE;
        while waiting.len() < MOST_TOGETHER {
            let Ok(next) = requests.try_recv() else { break };
            waiting.push(next);
        }
        // Whoever has hung up is not done behind their back.
        waiting.retain(|request| !request.answer.is_closed());
        let mut seen = HashSet::new();
        let together = std::mem::take(&mut waiting).into_iter();
        let (batch, again) = together.partition(|r| seen.insert(r.piece.subject()));
        waiting = again;
        // On a task of its own: should it panic, those in it hear that nobody did it, and the next are done.
        let mut done = tokio::spawn(do_together(batch));
        match timeout(P::PATIENCE, &mut done).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what was to be done together was not done"),
            Err(_) => {
                done.abort();
                tracing::error!("what was to be done together took too long");
            }
        }
    }
}

async fn do_together<P: Piece>(batch: Vec<Request<P>>) {
    let pieces: Vec<P> = batch.iter().map(|request| request.piece.clone()).collect();
    let Some(app) = batch.first().map(|request| request.app.clone()) else {
        return;
    };
    match P::do_all(&app, &pieces).await {
        Ok(done) => {
            for (request, done) in batch.into_iter().zip(done) {
                let _ = request.answer.send(Ok(done));
            }
        }
        // One that cannot be done must not keep the others from it.
        Err(error) if pieces.len() > 1 => {
            tracing::warn!(%error, "what cannot be done together is done one by one");
            let alone = stream::iter(batch).map(do_alone);
            alone.buffer_unordered(MOST_BESIDE).collect::<()>().await;
        }
        Err(error) => {
            if let Some(request) = batch.into_iter().next() {
                let _ = request.answer.send(Err(error));
            }
        }
    }
}

async fn do_alone<P: Piece>(request: Request<P>) {
    let alone = std::slice::from_ref(&request.piece);
    let done = P::do_all(&request.app, alone).await;
    let done = done.and_then(|done| {
        let first = done.into_iter().next();
        first.ok_or_else(|| Error::Internal("a piece of work has no end".into()))
    });
    let _ = request.answer.send(done);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::{join, join_all};

    use super::*;
    use crate::clock::Clock;
    use crate::config::{Config, Source};

    /// Answers itself.
    #[derive(Clone, Debug, PartialEq)]
    enum Number {
        Of(u128),
        /// Cannot be done.
        Bad,
        Panics,
        /// Is never done.
        Hangs,
        /// Is noted when it is done.
        Noted,
    }

    static NOTED: AtomicUsize = AtomicUsize::new(0);

    impl Piece for Number {
        type Done = u128;

        const PATIENCE: Duration = Duration::from_millis(200);

        fn subject(&self) -> Uuid {
            match self {
                Self::Of(number) => Uuid::from_u128(*number),
                Self::Bad | Self::Panics | Self::Hangs | Self::Noted => Uuid::nil(),
            }
        }

        async fn do_all(_: &App, pieces: &[Self]) -> Result<Vec<u128>> {
            let subjects: HashSet<Uuid> = pieces.iter().map(Self::subject).collect();
            assert_eq!(subjects.len(), pieces.len(), "two about the same");
            if pieces.contains(&Self::Hangs) {
                std::future::pending::<()>().await;
            }
            let done = pieces.iter().map(|piece| match piece {
                Self::Of(number) => Ok(*number),
                Self::Noted => Ok(NOTED.fetch_add(1, Ordering::SeqCst) as u128),
                Self::Bad => Err(Error::Unavailable("bad".into())),
                Self::Panics | Self::Hangs => panic!("it panics"),
            });
            done.collect()
        }
    }

    /// Of servers that are not there: nobody asks them.
    fn app() -> App {
        let env = [
            ("DATABASE_URL", "postgres://nobody@127.0.0.1:9/nothing"),
            ("REDIS_URL", "redis://127.0.0.1:9"),
            ("HOLDFAST_GENERAL_MODE", "development"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::read(&Source {
            env: env.into(),
            ..Source::default()
        });
        App::new(Arc::new(config.expect("settings")), Clock::System).expect("an app")
    }

    async fn all(numbers: impl IntoIterator<Item = Number>) -> Vec<Result<u128>> {
        let (app, together) = (app(), Together::default());
        let runs = numbers.into_iter().map(|number| together.run(&app, number));
        join_all(runs).await
    }

    #[tokio::test]
    async fn each_gets_its_own_answer() {
        let numbers = (0..1_000).map(|number| Number::Of(number % 300));
        for (at, done) in (0..).zip(all(numbers).await) {
            assert_eq!(done.expect("done"), at % 300);
        }
    }

    #[tokio::test]
    async fn one_that_cannot_be_done_keeps_no_other_from_it() {
        let numbers = (1..20).map(Number::Of).chain([Number::Bad]);
        let mut done = all(numbers).await;
        let bad = done.pop().expect("the last");
        assert!(bad.is_err());
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }

    #[tokio::test]
    async fn one_that_panics_is_not_the_end() {
        let (app, together) = (app(), Together::default());
        let panicked = together.run(&app, Number::Panics).await;
        assert!(panicked.is_err());
        let next = together.run(&app, Number::Of(7)).await;
        assert_eq!(next.expect("done"), 7);
    }

    #[tokio::test]
    async fn one_that_hangs_is_not_the_end() {
        let (app, together) = (app(), Together::default());
        let hangs = together.run(&app, Number::Hangs);
        let (hung, next) = join(hangs, together.run(&app, Number::Of(7))).await;
        assert!(hung.is_err() && next.is_err(), "they were in one batch");
        let next = together.run(&app, Number::Of(7)).await;
        assert_eq!(next.expect("done"), 7);
    }

    #[tokio::test]
    async fn whoever_has_hung_up_is_not_served() {
        let (app, together) = (app(), Together::default());
        let moment = Number::PATIENCE / 4;
        let gives_up = async {
            // Its turn would come when that of the other is over.
            tokio::time::sleep(moment).await;
            timeout(moment, together.run(&app, Number::Noted)).await
        };
        let (hung, waited) = join(together.run(&app, Number::Hangs), gives_up).await;
        assert!(hung.is_err() && waited.is_err());
        let next = together.run(&app, Number::Of(7)).await;
        assert_eq!(next.expect("done"), 7);
        assert_eq!(NOTED.load(Ordering::SeqCst), 0);
    }
}
