//! The prices that lists sort and filter by, kept next to each event.
//!
//! They follow every change of an event and its parts in its transaction, by the same rule that shows them. Windows of
//! sales open and close by the clock: each event knows until when its prices are right, and a job takes those whose
//! time has come, once a minute. What is shown of an event is computed when it is asked for, so only an order or a
//! filter can be that minute late.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{EventDetails, list};
use crate::error::Result;
use crate::ids::EventId;
use crate::tx::Tx;

pub(super) async fn follow(tx: &mut Tx, events: &[EventId]) -> Result<()> {
    let ids: Vec<Uuid> = events.iter().map(|id| id.0).collect();
    let now = tx.now();
    write(tx, &ids, now).await
}

/// Brings at most `limit` events up to date whose windows of sales have opened or closed; answers how many.
pub async fn follow_due(tx: &mut Tx, limit: i64) -> Result<usize> {
    let now = tx.now();
    let due = sqlx::query_scalar!(
        "select id from events where prices_until <= $1 order by id limit $2 for update skip locked",
        now,
        limit,
    );
    let due = due.fetch_all(&mut **tx).await?;
    write(tx, &due, now).await?;
    Ok(due.len())
}

async fn write(db: &mut PgConnection, events: &[Uuid], now: DateTime<Utc>) -> Result<()> {
    let (mut until, mut of, mut prices) = (Vec::new(), Vec::new(), Vec::new());
    let listed = list::listed(&mut *db, events).await?;
    for details in listed.iter().map(|listed| &listed.details) {
        until.push(details.prices_until(now));
        for price in details.prices(now) {
            of.push(details.event.id.0);
            prices.push(price);
        }
    }
    sqlx::query!(
        "with kept as (select * from unnest($1::uuid[], $2::timestamptz[]) as kept (id, until)),
              priced as (select id, min(price) as lowest, max(price) as highest,
                                range_agg(int8range(price, price, '[]')) as prices
                         from unnest($3::uuid[], $4::bigint[]) as priced (id, price) group by id)
         update events e set lowest_price = lowest, highest_price = highest, prices_until = until,
                             prices = coalesce(priced.prices, '{}')
         from kept left join priced using (id) where e.id = kept.id",
        events,
        &until as _,
        &of,
        &prices,
    )
    .execute(db)
    .await?;
    Ok(())
}

impl EventDetails {
    /// When what is on sale changes next by the clock alone.
    fn prices_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let open = self.ticket_types.iter().filter(|kind| !kind.hidden);
        let turns =
            open.flat_map(|kind| [kind.sales_start.map(|at| at.0), Some(self.sales_end(kind))]);
        turns.flatten().filter(|at| *at > now).min()
    }
}
