//! Looking at what is left, together: whoever asks while others are being answered is answered with all who came
//! meanwhile, by one round trip to Redis. So a hot event costs Redis the same however many look at it, and nobody is
//! told numbers from before they asked.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

use super::{LevelsOf, Stock};
use crate::error::{Code, Error, Result};
use crate::ids::EventId;

/// So many are answered at once: with a page of events each, Redis is busy with them for a few milliseconds.
const MOST_TOGETHER: usize = 32;

/// More wait before the door.
const MOST_WAITING: usize = 1_024;

/// The door to the one task of this process that looks. It begins with the first question.
#[derive(Clone, Default)]
pub(crate) struct Looks(Arc<OnceLock<mpsc::Sender<Question>>>);

struct Question {
    now: DateTime<Utc>,
    events: Vec<EventId>,
    answer: oneshot::Sender<Result<Arc<LevelsOf>>>,
}

impl Looks {
    /// The pools of those events that Redis knows, and of whatever else was asked for at this moment.
    pub async fn look(
        &self,
        stock: &Stock,
        now: DateTime<Utc>,
        events: Vec<EventId>,
    ) -> Result<Arc<LevelsOf>> {
        let (answer, answered) = oneshot::channel();
        let question = Question {
            now,
            events,
            answer,
        };
        let door = self.0.get_or_init(|| {
            let (sender, questions) = mpsc::channel(MOST_WAITING);
            tokio::spawn(answer_all(stock.clone(), questions));
            sender
        });
        let gone = || Error::Unavailable("nobody looks any more".into());
        door.send(question).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn answer_all(stock: Stock, mut questions: mpsc::Receiver<Question>) {
    let mut asked: Vec<Question> = Vec::new();
    while questions.recv_many(&mut asked, MOST_TOGETHER).await > 0 {
        // Whoever has hung up is not asked for.
        asked.retain(|question| !question.answer.is_closed());
        let told = read_for(&stock, &asked).await.map(Arc::new);
        // While Redis hangs, nobody waits for more than one to find that out.
        while told.is_err()
            && let Ok(question) = questions.try_recv()
        {
            asked.push(question);
        }
        for question in asked.drain(..) {
            let answer = match &told {
                Ok(levels) => Ok(Arc::clone(levels)),
                Err(error) => Err(alike(error)),
            };
            let _ = question.answer.send(answer);
        }
    }
}

async fn read_for(stock: &Stock, asked: &[Question]) -> Result<LevelsOf> {
    let Some(now) = asked.iter().map(|question| question.now).max() else {
        return Ok(LevelsOf::new());
    };
    let events: BTreeSet<EventId> = asked.iter().flat_map(|q| &q.events).copied().collect();
    let events: Vec<EventId> = events.into_iter().collect();
    // On a task of its own: should it panic, those who come later are answered still.
    let stock = stock.clone();
    let reading = tokio::spawn(async move { stock.read_many(now, &events).await });
    reading
        .await
        .map_err(|error| Error::Internal(error.into()))?
}

fn alike(error: &Error) -> Error {
    let cause = error.to_string().into();
    match error.code() {
        Code::Unavailable => Error::Unavailable(cause),
        _ => Error::Internal(cause),
    }
}
