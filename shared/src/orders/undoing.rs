//! How far it is with giving everything back for an event that does not take place.

use poem_openapi::Object;
use serde::Serialize;
use sqlx::PgConnection;

use crate::access::Scope;
use crate::error::Result;
use crate::events::{EventError, Status};
use crate::ids::{EventId, OrganizationId};

/// How far it is with giving everything back for a cancelled event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object)]
pub struct EventCancellation {
    pub event_id: EventId,
    pub status: Status,
    /// The event is cancelled, no order of it stands, and all money is back.
    pub done: bool,
    /// Orders that are still paid, or may still be.
    pub orders_standing: i64,
    /// Refunds that are on their way, for whatever reason.
    pub refunds_open: i64,
    /// Refunds for the cancellation that have arrived.
    pub refunds_succeeded: i64,
    /// Refunds that the provider refused, and whose money is still here: somebody must see to them.
    pub refunds_failed: i64,
    /// What has gone back, in the minor unit of the currency.
    pub amount_refunded: i64,
    pub currency: String,
}

struct Counted {
    organization_id: OrganizationId,
    status: Status,
    currency: String,
    standing: i64,
    open: i64,
    succeeded: i64,
    failed: i64,
    amount: i64,
}

/// For those who may read the orders of its organization.
pub async fn undoing(
    db: &mut PgConnection,
    scope: &Scope,
    event_id: EventId,
) -> Result<EventCancellation> {
    let counted = sqlx::query_as!(
        Counted,
        r#"select e.organization_id as "organization_id: OrganizationId", e.status as "status: Status", e.currency,
                  (select count(*) from orders o
                   where o.event_id = e.id
                         and o.status in ('paid', 'partially_refunded', 'pending', 'requires_action')) as "standing!",
                  back.open as "open!", back.succeeded as "succeeded!", back.failed as "failed!", back.amount as "amount!"
           from events e cross join lateral (
               select count(*) filter (where r.status in ('requested', 'processing')) as open,
                      count(*) filter (where r.status = 'succeeded' and r.reason = $2) as succeeded,
                      count(*) filter (where r.status = 'failed' and o.paid - o.refunded >= r.amount) as failed,
                      coalesce(sum(r.amount) filter (where r.status = 'succeeded' and r.reason = $2), 0)::bigint as amount
               from orders o join refunds r on r.order_id = o.id
               where o.event_id = e.id
           ) back
           where e.id = $1"#,
        event_id as _,
        super::EVENT_CANCELLED,
    );
    let counted = counted.fetch_optional(db).await?;
    let counted = counted.ok_or(EventError::NotFound)?;
    scope.require(counted.organization_id)?;
    let is_over = counted.standing == 0 && counted.open == 0 && counted.failed == 0;
    Ok(EventCancellation {
        event_id,
        status: counted.status,
        done: counted.status == Status::Cancelled && is_over,
        orders_standing: counted.standing,
        refunds_open: counted.open,
        refunds_succeeded: counted.succeeded,
        refunds_failed: counted.failed,
        amount_refunded: counted.amount,
        currency: counted.currency,
    })
}
