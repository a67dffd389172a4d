//! Places taken out of a pool itself: to make it smaller, or for another service that sells from the same stock.
//!
//! Whoever takes places for good takes them in Redis first, like every buyer; then Postgres is told, then the claim is
//! settled. So a rush cannot take what was just taken, and what dies in between lapses within a minute.

use chrono::TimeDelta;
use uuid::Uuid;

use super::{HoldToken, NewHold, Placed, place};
use crate::app::App;
use crate::error::{Error, Kind, Result};
use crate::ids::{EventId, OrderId};

const LIVES: TimeDelta = TimeDelta::minutes(1);

/// Places of one pool that nobody else can take now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub event_id: EventId,
    pub id: OrderId,
    pub pool: Uuid,
    pub places: i32,
}

impl Claim {
    /// Fails with how many there are if there are fewer.
    pub async fn take(
        app: &App,
        event_id: EventId,
        pool: Uuid,
        places: i32,
    ) -> Result<Result<Self, i64>> {
        let token = HoldToken::fresh(event_id, app.clock.now());
        let hold = NewHold {
            event_id,
            id: token.id,
            buyer: format!("claim:{}", token.id),
            deadline: app.clock.now() + LIVES,
            ordered: false,
            parts: vec![(pool, places)],
            items: Vec::new(),
            proof: token.proof(),
            sale: String::new(),
            most_holds: 1,
            writer: None,
        };
        Ok(match place(app, &hold).await? {
            Placed::Placed { .. } => Ok(Self {
                event_id,
                id: token.id,
                pool,
                places,
            }),
            Placed::Short { short } => Err(short.first().map_or(0, |short| short.1)),
            Placed::Cold | Placed::TooMany => {
                let message = format!("no places of the pool {pool} can be set aside now");
                return Err(Error::Unavailable(message.into()));
            }
        })
    }

    /// Gives the places back if what they were taken for was refused. Of any other failure it is not known what came
    /// about, so they stay taken until they lapse.
    pub async fn release_after(self, app: &App, failure: &Error) {
        if !matches!(failure.code().kind(), Kind::Internal | Kind::Unavailable) {
            self.release(app).await;
        }
    }

    /// Gives the places back. They lapse by themselves if Redis cannot be told.
    pub async fn release(self, app: &App) {
        let now = app.clock.now();
        let released = app.stock.release(now, self.event_id, self.id, None).await;
        if let Err(error) = released {
            tracing::warn!(%error, "places that were set aside lapse in a minute");
        }
    }
}
