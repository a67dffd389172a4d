//! The prices that lists sort and filter by, kept next to each event.
//!
//! They follow every change of a ticket type in its transaction. Windows of sales open and close by the clock: each
//! event knows until when its prices are right, and a job takes those whose time has come, once a minute. What is
//! shown of an event is computed when it is asked for, so only an order or a filter can be that minute late.

use sqlx::PgConnection;
use uuid::Uuid;

use chrono::{DateTime, Utc};

use crate::error::Result;
use crate::ids::EventId;
use crate::tx::Tx;

pub(super) async fn follow(tx: &mut Tx, id: EventId) -> Result<()> {
    let now = tx.now();
    write(tx, &[id.0], now).await
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
    sqlx::query!(
        "update events e set (lowest_price, highest_price, prices_until) = (
             select min(t.price) filter (where is_on_sale(t, $2)), max(t.price) filter (where is_on_sale(t, $2)),
                    least(min(t.sales_start) filter (where t.sales_start > $2),
                          min(t.sales_end) filter (where t.sales_end > $2))
             from ticket_types t where t.event_id = e.id and not t.hidden)
         where e.id = any($1)",
        events,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}
