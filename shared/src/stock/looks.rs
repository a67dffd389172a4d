//! Looking at what is left, together: whoever asks while others are being answered is answered with all who came
//! meanwhile, by one round trip to Redis. So a hot event costs Redis the same however many look at it, and nobody is
//! told numbers from before they asked.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

use super::{LevelsOf, Stock};
use crate::error::{Error, Result};
use crate::ids::EventId;

/// So many are answered at once: with a page of events each, Redis is busy with them for a few milliseconds.
const MOST_TOGETHER: usize = 32;

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
            let (sender, questions) = mpsc::channel(4 * MOST_TOGETHER);
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
        let events: BTreeSet<EventId> = asked.iter().flat_map(|q| &q.events).copied().collect();
        let now = asked.iter().map(|question| question.now).max();
        let now = now.unwrap_or(DateTime::UNIX_EPOCH);
        let events: Vec<EventId> = events.into_iter().collect();
        let told = stock.read_many(now, &events).await.map(Arc::new);
        for question in asked.drain(..) {
            let answer = match &told {
                Ok(levels) => Ok(Arc::clone(levels)),
                Err(error) => Err(Error::Unavailable(error.to_string().into())),
            };
            let _ = question.answer.send(answer);
        }
    }
}
