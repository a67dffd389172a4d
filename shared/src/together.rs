//! Pieces of work of one kind that come in at the same moment, done in one transaction.
//!
//! While one batch commits, and for a moment after it began, whatever comes in makes up the next. Alone, a piece waits for
//! nobody. Each still succeeds or fails by itself: what cannot be done together is done one by one.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::app::App;
use crate::error::{Error, Result};

/// Transactions of a kind begin at least so far apart: a few milliseconds nobody notices, and under load the work of several
/// takes the place of many small ones that would keep Postgres busy with beginning and ending.
const PACE: Duration = Duration::from_millis(5);
/// More in one transaction gains nothing.
const MOST_TOGETHER: usize = 256;

/// One piece of work.
pub(crate) trait Piece: Clone + Send + Sync + 'static {
    type Done: Send + 'static;

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
        let mut seen = HashSet::new();
        let together = std::mem::take(&mut waiting).into_iter();
        let (batch, again) = together.partition(|r| seen.insert(r.piece.subject()));
        waiting = again;
        do_together(batch).await;
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
            join_all(batch.into_iter().map(do_alone)).await;
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
