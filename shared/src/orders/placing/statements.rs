//! The statements of writing orders.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::encryption::{Cipher, Place};
use crate::error::{Error, Result};
use crate::ids::{AttemptId, EventId, TicketTypeId, UserId};
use crate::orders::{OrderError, PlacedOrder};

/// Orders, their items and their first attempts to be paid, in one statement. False if a ticket type or a session of it has
/// changed since it was seen; then nothing of it may be committed.
pub(super) async fn insert(
    db: &mut PgConnection,
    cipher: &Cipher,
    orders: &[&PlacedOrder],
    now: DateTime<Utc>,
) -> Result<bool> {
    let kept = |o: &&PlacedOrder| cipher.keep(Place::OrderSecret(o.id.0), &o.secret);
    let (hashes, encrypted): (Vec<Vec<u8>>, Vec<Vec<u8>>) = orders.iter().map(kept).unzip();
    let uuids =
        |of: fn(&PlacedOrder) -> Uuid| -> Vec<Uuid> { orders.iter().map(|o| of(o)).collect() };
    let texts = |of: fn(&PlacedOrder) -> &str| -> Vec<String> {
        orders.iter().map(|o| of(o).to_owned()).collect()
    };
    let users: Vec<Option<Uuid>> = orders.iter().map(|o| o.user_id.map(|id| id.0)).collect();
    let totals: Vec<i64> = orders.iter().map(|o| o.sale.total()).collect();
    let deadlines: Vec<DateTime<Utc>> = orders.iter().map(|o| o.payment_deadline).collect();
    let (policies, attendees, holds) = (
        jsons(orders, |o| &o.refund_policy)?,
        jsons(orders, |o| &o.attendees)?,
        jsons(orders, |o| &o.hold)?,
    );
    let items = Items::of(orders);
    let attempts = Attempts::of(orders, now);
    let written = sqlx::query_scalar!(
        // What is on offer is looked at once for all that want it.
        "with offered as materialized (
             select t.id, t.version,
                    (select sum(s.version) from ticket_type_sessions included
                     join event_sessions s on s.id = included.session_id where included.ticket_type_id = t.id) as sessions
             from ticket_types t where t.id = any($17::uuid[])
         ), placed as (
             insert into orders (id, organization_id, event_id, user_id, email, status, method, currency, total,
                                 refund_policy, attendees, hold, payment_deadline, secret_hash, secret_encrypted,
                                 placed_at, asked_at)
             select id, organization_id, event_id, user_id, email, 'pending', method, currency, total,
                    refund_policy, attendees, hold, payment_deadline, secret_hash, secret_encrypted, $14, $14
             from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                         $8::bigint[], $9::jsonb[], $10::jsonb[], $11::jsonb[], $12::timestamptz[], $13::bytea[],
                         $28::bytea[])
                  as o (id, organization_id, event_id, user_id, email, method, currency,
                        total, refund_policy, attendees, hold, payment_deadline, secret_hash, secret_encrypted)
         ), items as (
             insert into order_items (order_id, position, ticket_type_id, name, quantity, price)
             select order_id, position, ticket_type_id, i.name, quantity, i.price
             from unnest($15::uuid[], $16::smallint[], $17::uuid[], $18::text[], $19::int[], $20::bigint[], $21::bigint[],
                         $22::bigint[])
                  as i (order_id, position, ticket_type_id, name, quantity, price, seen, seen_sessions)
             join offered on offered.id = ticket_type_id and version = seen and sessions = seen_sessions
             returning 1
         ), attempts as (
             insert into payment_attempts (id, order_id, method, token, return_url, status, created_at)
             select id, order_id, method, token, return_url, 'open', $14
             from unnest($23::uuid[], $24::uuid[], $25::text[], $26::text[], $27::text[])
                  as attempt (id, order_id, method, token, return_url)
         )
         select count(*) as \"written!\" from items",
        &uuids(|o| o.id.0),
        &uuids(|o| o.organization_id.0),
        &uuids(|o| o.event_id.0),
        &users as &[Option<Uuid>],
        &texts(|o| &o.email),
        &texts(|o| o.method.name()),
        &texts(|o| &o.sale.currency),
        &totals,
        &policies,
        &attendees,
        &holds,
        &deadlines,
        &hashes,
        now,
        &items.orders,
        &items.positions,
        &items.types,
        &items.names,
        &items.quantities,
        &items.prices,
        &items.seen,
        &items.seen_sessions,
        &attempts.ids,
        &attempts.orders,
        &attempts.methods,
        &attempts.tokens as &[Option<String>],
        &attempts.return_urls as &[Option<String>],
        &encrypted,
    )
    .fetch_one(db)
    .await
    .map_err(|error| match (constraint(&error), orders) {
        // Postgres may come upon any part of the other order first.
        (Some("orders_pkey" | "order_items_pkey" | "payment_attempts_open"), [order]) => OrderError::HoldUsed { order_id: order.id }.into(),
        _ => Error::from(error),
    })?;
    Ok(usize::try_from(written) == Ok(items.orders.len()))
}

fn jsons<T: Serialize>(
    orders: &[&PlacedOrder],
    of: impl Fn(&PlacedOrder) -> &T,
) -> Result<Vec<Value>> {
    let values = orders
        .iter()
        .map(|order| Ok(serde_json::to_value(of(order))?));
    values.collect()
}

/// The items of orders, column by column.
#[derive(Default)]
struct Items {
    orders: Vec<Uuid>,
    positions: Vec<i16>,
    types: Vec<Uuid>,
    names: Vec<String>,
    quantities: Vec<i32>,
    prices: Vec<i64>,
    /// The versions of their types that were seen, and of the sessions of those.
    seen: Vec<i64>,
    seen_sessions: Vec<i64>,
}

impl Items {
    fn of(orders: &[&PlacedOrder]) -> Self {
        let mut items = Self::default();
        for order in orders {
            for (position, item) in (1..).zip(&order.sale.items) {
                items.orders.push(order.id.0);
                items.positions.push(position);
                items.types.push(item.ticket_type_id.0);
                items.names.push(item.name.clone());
                items.quantities.push(item.quantity);
                items.prices.push(item.price);
                let (version, sessions) = order.seen.versions_of(item.ticket_type_id);
                items.seen.push(version);
                items.seen_sessions.push(sessions);
            }
        }
        items
    }
}

/// The first attempts to be paid, where Stripe has a part in it, column by column.
#[derive(Default)]
struct Attempts {
    ids: Vec<Uuid>,
    orders: Vec<Uuid>,
    methods: Vec<String>,
    tokens: Vec<Option<String>>,
    return_urls: Vec<Option<String>>,
}

impl Attempts {
    fn of(orders: &[&PlacedOrder], now: DateTime<Utc>) -> Self {
        let mut attempts = Self::default();
        for order in orders.iter().filter(|order| order.method.by_stripe()) {
            attempts.ids.push(AttemptId::fresh(now).0);
            attempts.orders.push(order.id.0);
            attempts.methods.push(order.method.name().to_owned());
            attempts.tokens.push(order.token.clone());
            attempts.return_urls.push(order.return_url.clone());
        }
        attempts
    }
}

fn constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error()?.constraint()
}

/// How many tickets of each type this buyer has or is about to have. Those that were given back do not count.
pub(super) async fn bought_by(
    db: &mut PgConnection,
    event_id: EventId,
    user_id: Option<UserId>,
    email: &str,
) -> Result<Vec<(TicketTypeId, i64)>> {
    let bought = sqlx::query!(
        r#"select bought.ticket_type_id as "ticket_type_id!: TicketTypeId", sum(bought.number)::bigint as "number!"
           from orders o cross join lateral (
               select i.ticket_type_id, i.quantity as number from order_items i
               where i.order_id = o.id and o.status in ('pending', 'requires_action')
               union all
               select t.ticket_type_id, 1 from tickets t where t.order_id = o.id and t.status <> 'cancelled'
           ) as bought
           where o.event_id = $1 and (o.user_id = $2 or lower(o.email) = lower($3))
                 and o.status in ('pending', 'requires_action', 'paid', 'partially_refunded')
           group by bought.ticket_type_id"#,
        event_id as _,
        user_id as _,
        email,
    );
    let bought = bought.fetch_all(db).await?.into_iter();
    Ok(bought.map(|row| (row.ticket_type_id, row.number)).collect())
}

/// How many orders of an event this one keeps waiting, by hand or in a browser.
pub(super) async fn kept_waiting(
    db: &mut PgConnection,
    event_id: EventId,
    buyer: &str,
) -> Result<i64> {
    let waiting = sqlx::query_scalar!(
        r#"select count(*) as "waiting!" from orders
           where event_id = $1 and hold ->> 'buyer' = $2 and status in ('pending', 'requires_action')
                 and (status = 'requires_action' or method in ('client', 'checkout', 'manual'))"#,
        event_id as _,
        buyer,
    );
    Ok(waiting.fetch_one(db).await?)
}

/// Two orders of one buyer for one event are placed one after the other, whether it is the account or the address that
/// they have in common.
pub(super) async fn lock_buyer(
    db: &mut PgConnection,
    event_id: EventId,
    user_id: Option<UserId>,
    email: &str,
) -> Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(key)
         from (select distinct hashtextextended('buyer ' || $1::text || who, 0) as key
               from unnest(array[lower($2), $3::uuid::text]) as who where who is not null order by key) as keys",
        event_id.to_string(),
        email,
        user_id as _,
    )
    .execute(db)
    .await?;
    Ok(())
}
