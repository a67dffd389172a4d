//! What Postgres says of an event's places.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Level, Levels, Proof, Told};
use crate::error::Result;
use crate::ids::{EventId, OrderId, TicketTypeId};
use crate::orders;

/// An event's places as Postgres has them.
#[derive(Debug, Clone, Serialize)]
pub struct Durable {
    #[serde(skip)]
    pub event_id: EventId,
    pub pools: Vec<Pool>,
    /// Orders that wait for their payment, with what they hold.
    pub waiting: Vec<Waiting>,
    /// Leave an event alone that Redis does not know.
    pub only_known: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Pool {
    #[serde(flatten)]
    pub told: Told,
    /// The ticket types that draw on it.
    pub types: Vec<TicketTypeId>,
    /// The version that Redis had heard of before Postgres was asked. If that is greater, Postgres has lost it.
    pub heard: Option<i64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Waiting {
    pub id: OrderId,
    pub buyer: String,
    pub deadline: i64,
    pub items: Vec<(TicketTypeId, i32)>,
    pub proof: Proof,
    pub sale: String,
}

impl Durable {
    /// Which orders wait is to be read before the pools: what is sold in between is then held as well for a moment, and
    /// never free.
    pub async fn read(db: &mut PgConnection, event_id: EventId) -> Result<Self> {
        let waiting = orders::waiting_of(&mut *db, event_id).await?;
        let pools = sqlx::query!(
            r#"select p.id, p.capacity, p.sold, p.version,
                      array(select d.ticket_type_id from ticket_type_pools d where d.pool_id = p.id)
                          as "types!: Vec<TicketTypeId>"
               from pools p where p.event_id = $1"#,
            event_id as _,
        );
        let pools = pools
            .fetch_all(&mut *db)
            .await?
            .into_iter()
            .map(|row| Pool {
                told: Told {
                    id: row.id,
                    capacity: row.capacity,
                    sold: row.sold,
                    version: row.version,
                },
                types: row.types,
                heard: None,
            });
        Ok(Self {
            event_id,
            pools: pools.collect(),
            waiting,
            only_known: false,
        })
    }

    /// Adds what Redis had heard of before this was read.
    #[must_use]
    pub fn after(mut self, heard: &BTreeMap<Uuid, i64>) -> Self {
        for pool in &mut self.pools {
            pool.heard = heard.get(&pool.told.id).copied();
        }
        self
    }

    /// Whether Postgres has lost something that Redis had heard of.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let mut pools = self.pools.iter();
        pools.any(|pool| pool.heard.is_some_and(|heard| heard > pool.told.version))
    }

    /// The orders that wait no more, as is seen later.
    #[must_use]
    pub fn ended_by(&self, later: &Self) -> Vec<OrderId> {
        let waits: HashSet<_> = later.waiting.iter().map(|order| order.id).collect();
        let ids = self.waiting.iter().map(|order| order.id);
        ids.filter(|id| !waits.contains(id)).collect()
    }

    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.pools.iter().map(|pool| pool.told.clone()).collect()
    }

    /// The best that can be said while Redis is away: what is held is not known.
    #[must_use]
    pub fn levels(&self) -> Levels {
        let pools = self.pools.iter().map(|pool| {
            let level = Level {
                capacity: pool.told.capacity.into(),
                sold: pool.told.sold.into(),
                held: 0,
            };
            (pool.told.id, level)
        });
        pools.collect()
    }
}
