//! What a change to the business does to the places of an event, for Redis to hear when it is true.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Claim, Durable, Stock, Told};
use crate::error::Result;
use crate::ids::{EventId, OrderId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Places {
    /// Places were sold, returned or resized; these holds have done their work.
    Moved {
        event_id: EventId,
        holds: Vec<OrderId>,
        pools: Vec<Told>,
    },
    /// There are other pools now, or other ticket types draw on them.
    Rearranged(EventId),
    /// The event is gone.
    Gone(EventId),
}

/// The same with everything in hand that is to be told.
pub(crate) struct ToTell(Vec<Telling>);

enum Telling {
    As(Places),
    Whole(Durable),
}

impl Places {
    /// A pool has other numbers, because these places were taken out of it or because it got more. One message, so
    /// that what was claimed is never free in between.
    pub fn moved(event_id: EventId, claim: Option<Claim>, told: Told) -> Self {
        Self::Moved {
            event_id,
            holds: claim.iter().map(|claim| claim.id).collect(),
            pools: vec![told],
        }
    }

    /// Inside the transaction, so that it is what becomes true with it.
    pub async fn read(db: &mut PgConnection, places: Vec<Self>) -> Result<ToTell> {
        let mut tellings = Vec::with_capacity(places.len());
        for place in places {
            tellings.push(match place {
                Self::Rearranged(event_id) => Telling::Whole(Durable {
                    only_known: true,
                    ..Durable::read(db, event_id).await?
                }),
                other => Telling::As(other),
            });
        }
        Ok(ToTell(tellings))
    }
}

impl ToTell {
    pub async fn tell(self, stock: &Stock, now: DateTime<Utc>) {
        for telling in self.0 {
            if let Err(error) = telling.tell(stock, now).await {
                tracing::warn!(%error, "Redis could not be told of places; it will be within a minute");
            }
        }
    }
}

impl Telling {
    async fn tell(self, stock: &Stock, now: DateTime<Utc>) -> Result<()> {
        match self {
            Self::Whole(durable) => stock.restore(now, &durable).await.map(drop),
            Self::As(Places::Moved {
                event_id,
                holds,
                pools,
            }) => stock.settle(now, event_id, &holds, &pools).await,
            Self::As(Places::Gone(event_id)) => stock.forget(event_id).await,
            Self::As(Places::Rearranged(_)) => Ok(()),
        }
    }
}
