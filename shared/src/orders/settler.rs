//! Orders that are to be settled at the same moment, settled together.
//!
//! While one batch commits, whatever comes in makes up the next. Alone, an order waits for nobody.

use std::collections::HashSet;

use tokio::sync::{mpsc, oneshot};

use super::settle::{Settled, Settlement, settle};
use crate::access::{Actor, Scope};
use crate::app::App;
use crate::error::{Error, Result};

/// More in one transaction gains nothing.
const MOST_TOGETHER: usize = 256;

struct Request {
    app: App,
    settlement: Settlement,
    answer: oneshot::Sender<Result<Option<Settled>>>,
}

/// The door to the one task of this process that settles.
#[derive(Clone)]
pub struct Settler(mpsc::Sender<Request>);

impl Settler {
    fn start() -> Self {
        let (sender, requests) = mpsc::channel(4 * MOST_TOGETHER);
        tokio::spawn(work(requests));
        Self(sender)
    }
}

impl App {
    /// Settles an order, together with whatever else is to be settled now.
    pub async fn settle(&self, settlement: Settlement) -> Result<Option<Settled>> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            app: self.clone(),
            settlement,
            answer,
        };
        let settler = self.settler.get_or_init(Settler::start);
        let gone = || Error::Unavailable("nobody settles any more".into());
        settler.0.send(request).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn work(mut requests: mpsc::Receiver<Request>) {
    let mut waiting: Vec<Request> = Vec::new();
    loop {
        if waiting.is_empty() {
            let Some(first) = requests.recv().await else {
                return;
            };
            waiting.push(first);
        }
        while waiting.len() < MOST_TOGETHER {
            let Ok(next) = requests.try_recv() else { break };
            waiting.push(next);
        }
        // Two outcomes of one order are settled one after the other.
        let mut seen = HashSet::new();
        let together = std::mem::take(&mut waiting).into_iter();
        let (batch, again) = together.partition(|r| seen.insert(r.settlement.order_id));
        waiting = again;
        settle_together(batch).await;
    }
}

async fn settle_together(batch: Vec<Request>) {
    let settlements: Vec<Settlement> = batch.iter().map(|r| r.settlement.clone()).collect();
    let Some(app) = batch.first().map(|request| request.app.clone()) else {
        return;
    };
    match in_one_transaction(&app, &settlements).await {
        Ok(ends) => {
            for (request, end) in batch.into_iter().zip(ends) {
                let _ = request.answer.send(Ok(end));
            }
        }
        // One that cannot be settled must not keep the others from it.
        Err(error) if settlements.len() > 1 => {
            tracing::warn!(%error, "orders are settled one by one");
            for request in batch {
                let alone = std::slice::from_ref(&request.settlement);
                let ends = in_one_transaction(&app, alone).await;
                let _ = request
                    .answer
                    .send(ends.map(|ends| ends.into_iter().next().flatten()));
            }
        }
        Err(error) => {
            if let Some(request) = batch.into_iter().next() {
                let _ = request.answer.send(Err(error));
            }
        }
    }
}

async fn in_one_transaction(app: &App, batch: &[Settlement]) -> Result<Vec<Option<Settled>>> {
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    let ends = settle(&mut tx, batch).await?;
    tx.commit().await?;
    Ok(ends)
}
