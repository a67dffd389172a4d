//! Lists of orders: of an event for its organizer, of an account for its owner.

use poem_openapi::Object;
use serde::Serialize;
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::order::PaymentMethod;
use super::status::OrderStatus;
use crate::clock::Time;
use crate::error::Result;
use crate::ids::{EventId, OrderId, UserId};
use crate::page::{Page, Paging};
use crate::text::escape_like;

/// An order as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object, sqlx::FromRow)]
pub struct OrderInList {
    pub id: OrderId,
    pub event_id: EventId,
    pub event_title: String,
    pub user_id: Option<UserId>,
    /// Not for those who may not see contact data.
    pub email: Option<String>,
    pub status: OrderStatus,
    pub method: PaymentMethod,
    /// How many it is for.
    pub tickets: i64,
    pub currency: String,
    pub total: i64,
    pub refunded: i64,
    pub disputed: bool,
    pub placed_at: Time,
}

/// Which orders are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub event_id: Option<EventId>,
    pub user_id: Option<UserId>,
    pub status: Option<OrderStatus>,
    /// Part of a mail address.
    pub email: Option<String>,
}

impl Filter {
    fn condition(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(" where true");
        if let Some(event_id) = self.event_id {
            query.push(" and o.event_id = ").push_bind(event_id);
        }
        if let Some(user_id) = self.user_id {
            query.push(" and o.user_id = ").push_bind(user_id);
        }
        if let Some(status) = self.status {
            query.push(" and o.status = ").push_bind(status);
        }
        if let Some(email) = &self.email {
            let part = format!("%{}%", escape_like(&email.to_lowercase()));
            query.push(" and lower(o.email) like ").push_bind(part);
        }
    }
}

/// The newest first.
pub async fn list(
    db: &mut PgConnection,
    filter: &Filter,
    paging: Paging,
) -> Result<Page<OrderInList>> {
    let mut count = QueryBuilder::new("select count(*) from orders o");
    filter.condition(&mut count);
    let total: i64 = count.build_query_scalar().fetch_one(&mut *db).await?;
    let mut rows = QueryBuilder::new(
        "select o.id, o.event_id, e.title as event_title, o.user_id, o.email, o.status, o.method,
                (select coalesce(sum(i.quantity), 0) from order_items i where i.order_id = o.id) as tickets,
                o.currency, o.total, o.refunded, o.disputed, o.placed_at
         from orders o join events e on e.id = o.event_id",
    );
    filter.condition(&mut rows);
    rows.push(" order by o.placed_at desc, o.id desc limit ")
        .push_bind(paging.limit())
        .push(" offset ")
        .push_bind(paging.offset());
    Ok(paging.of(rows.build_query_as().fetch_all(db).await?, total))
}
