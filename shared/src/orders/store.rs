//! The statements of orders, their payments and tickets. Those that write an order are beside `placing`.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::order::{Attendee, Order, PaymentMethod};
use super::status::OrderStatus;
use super::{KeptHold, tickets};
use crate::clock::Time;
use crate::encryption::{Cipher, KeptSecret, Place, hash};
use crate::error::Result;
use crate::holds::SaleItem;
use crate::ids::{AttemptId, EventId, OrderId, OrganizationId, TicketId, TicketTypeId, UserId};
use crate::stock::{NewHold, Told};

/// An order, and what decides who sees what of it.
pub(super) struct Kept {
    pub order: Order,
    /// Opens it to a guest.
    pub secret: KeptSecret,
    pub is_sensitive: bool,
}

pub(super) async fn read(
    db: &mut PgConnection,
    cipher: &Cipher,
    id: OrderId,
) -> Result<Option<Kept>> {
    let order = sqlx::query!(
        r#"select o.organization_id as "organization_id: OrganizationId", o.event_id as "event_id: EventId",
                  o.user_id as "user_id: UserId", o.email, o.secret, o.secret_hash, o.secret_encrypted,
                  o.status as "status: OrderStatus", o.reason,
                  o.method as "method: PaymentMethod", o.currency, o.total, o.paid, o.refunded,
                  o.payment_deadline as "payment_deadline: Time", o.payment_url, o.client_secret, o.disputed,
                  o.placed_at as "placed_at: Time", o.version, e.is_sensitive,
                  (select coalesce(jsonb_agg(jsonb_build_object('ticket_type_id', i.ticket_type_id, 'name', i.name,
                                                                'quantity', i.quantity, 'price', i.price)
                                             order by i.position), '[]')
                   from order_items i where i.order_id = o.id) as "items!: Json<Vec<SaleItem>>"
           from orders o join events e on e.id = o.event_id where o.id = $1"#,
        id as _,
    );
    let Some(row) = order.fetch_optional(&mut *db).await? else {
        return Ok(None);
    };
    let asks = row.status == OrderStatus::RequiresAction;
    let order = Order {
        id,
        organization_id: row.organization_id,
        event_id: row.event_id,
        user_id: row.user_id,
        email: Some(row.email),
        secret: None,
        status: row.status,
        reason: row.reason,
        method: row.method,
        currency: row.currency,
        items: row.items.0,
        total: row.total,
        paid: row.paid,
        refunded: row.refunded,
        payment_deadline: row.payment_deadline,
        payment_url: row.payment_url.filter(|_| asks),
        client_secret: row.client_secret.filter(|_| asks),
        disputed: row.disputed,
        placed_at: row.placed_at,
        version: row.version,
        tickets: tickets::of_order(db, cipher, id).await?,
    };
    Ok(Some(Kept {
        order,
        secret: KeptSecret {
            plain: row.secret,
            hash: row.secret_hash,
            encrypted: row.secret_encrypted,
        },
        is_sensitive: row.is_sensitive,
    }))
}

/// Whether the order is there, and is this very one: no two have the same secret.
pub(super) async fn has_secret(db: &mut PgConnection, id: OrderId, secret: &str) -> Result<bool> {
    let there = sqlx::query_scalar!(
        r#"select exists(select from orders where id = $1 and secret_hash = $2) as "there!""#,
        id as _,
        hash(secret),
    );
    Ok(there.fetch_one(db).await?)
}

/// An order as it is until the end of the transaction.
#[derive(Debug, Clone)]
pub(super) struct Locked {
    pub id: OrderId,
    pub organization_id: OrganizationId,
    pub event_id: EventId,
    pub user_id: Option<UserId>,
    pub status: OrderStatus,
    pub total: i64,
    pub paid: i64,
    pub refunded: i64,
    pub disputed: bool,
    pub currency: String,
    pub attendees: Json<Vec<Attendee>>,
}

/// In the order of their ids, like everybody locks them.
pub(super) async fn lock(db: &mut PgConnection, ids: &[OrderId]) -> Result<Vec<Locked>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let orders = sqlx::query_as!(
        Locked,
        r#"select id as "id: OrderId", organization_id as "organization_id: OrganizationId",
                  event_id as "event_id: EventId", user_id as "user_id: UserId", status as "status: OrderStatus", total,
                  paid, refunded, disputed, currency, attendees as "attendees: Json<Vec<Attendee>>"
           from orders where id = any($1) order by id for update"#,
        &ids,
    );
    Ok(orders.fetch_all(db).await?)
}

/// Which of these lines of a kind the ledger has.
pub(super) async fn counted(
    db: &mut PgConnection,
    kind: &str,
    references: &[String],
) -> Result<Vec<String>> {
    let known = sqlx::query_scalar!(
        "select reference from ledger where kind = $1 and reference = any($2)",
        kind,
        references,
    );
    Ok(known.fetch_all(db).await?)
}

/// The order whose payment at Stripe this is, once it is counted.
pub(super) async fn paid_by(db: &mut PgConnection, payment: &str) -> Result<Option<OrderId>> {
    let order = sqlx::query_scalar!(
        r#"select order_id as "order_id: OrderId" from ledger
           where kind = 'payment' and provider = 'stripe' and reference = $1"#,
        payment,
    );
    Ok(order.fetch_optional(db).await?)
}

/// The tries of orders to be paid at Stripe.
pub(super) async fn attempts(
    db: &mut PgConnection,
    orders: &[Uuid],
) -> Result<Vec<(OrderId, AttemptId)>> {
    let attempts = sqlx::query!(
        r#"select order_id as "order_id: OrderId", id as "id: AttemptId" from payment_attempts
           where order_id = any($1)"#,
        orders,
    );
    let attempts = attempts.fetch_all(db).await?.into_iter();
    Ok(attempts
        .map(|attempt| (attempt.order_id, attempt.id))
        .collect())
}

/// A payment that was being made while its order ended may have taken money, and nothing tells of it when the answer and the
/// webhook are lost. What is asked again at first is asked so long after the end.
const FIRST_ASKED_AGAIN: TimeDelta = TimeDelta::minutes(5);
/// And then so long after the time before.
const ASKED_AGAIN: [TimeDelta; 2] = [TimeDelta::minutes(55), TimeDelta::hours(24)];

/// Has Stripe asked again for the payments of orders that have ended without a known one.
pub(super) async fn ask_again_after_the_end(
    db: &mut PgConnection,
    orders: &[Uuid],
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update payment_attempts set ask_again_at = $2
         where order_id = any($1) and status = 'cancelled' and payment_id is null and checkout_id is null",
        orders,
        now + FIRST_ASKED_AGAIN,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ended orders whose payment is to be looked for again.
pub(super) async fn ended_to_ask(
    db: &mut PgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<OrderId>> {
    let orders = sqlx::query_scalar!(
        r#"select order_id as "order_id: OrderId" from payment_attempts
           where ask_again_at <= $1 order by ask_again_at limit $2"#,
        now,
        limit,
    );
    Ok(orders.fetch_all(db).await?)
}

/// It was asked, and there was no money: it is asked again later, or no more.
pub(super) async fn asked_after_the_end(
    db: &mut PgConnection,
    attempt: AttemptId,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update payment_attempts
         set ask_again_at = case asked_again when 0 then $2::timestamptz when 1 then $3 end,
             asked_again = asked_again + 1
         where id = $1 and ask_again_at is not null",
        attempt as _,
        now + ASKED_AGAIN[0],
        now + ASKED_AGAIN[1],
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The money of an attempt is on its way, and takes days: its order waits for it beyond its deadline.
pub(super) async fn mark_under_way(db: &mut PgConnection, attempt: AttemptId) -> Result<()> {
    sqlx::query!(
        "update payment_attempts set under_way = true where id = $1 and not under_way",
        attempt as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A line of an order, and what its tickets draw on.
pub(super) struct Line {
    pub order_id: OrderId,
    pub ticket_type_id: TicketTypeId,
    pub quantity: i32,
    pub price: i64,
    pub pools: Vec<Uuid>,
}

pub(super) async fn lines(db: &mut PgConnection, ids: &[OrderId]) -> Result<Vec<Line>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let lines = sqlx::query_as!(
        Line,
        r#"with drawn as (
               select p.ticket_type_id, array_agg(p.pool_id) as pools from ticket_type_pools p
               where p.ticket_type_id in (select i.ticket_type_id from order_items i where i.order_id = any($1))
               group by p.ticket_type_id
           )
           select i.order_id as "order_id: OrderId", i.ticket_type_id as "ticket_type_id: TicketTypeId", i.quantity,
                  i.price, d.pools as "pools!"
           from order_items i join drawn d on d.ticket_type_id = i.ticket_type_id
           where i.order_id = any($1) order by i.order_id, i.position"#,
        &ids,
    );
    Ok(lines.fetch_all(db).await?)
}

/// In the order of their ids, like everybody locks them.
pub(super) async fn lock_pools(db: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Told>> {
    let pools = sqlx::query_as!(
        Told,
        "select id, capacity, sold, version from pools where id = any($1) order by id for update",
        ids,
    );
    Ok(pools.fetch_all(db).await?)
}

/// Sells places of pools that are locked, or takes them back. The constraint has the last word.
pub(super) async fn move_places(
    db: &mut PgConnection,
    pools: &[Uuid],
    places: &[i32],
) -> Result<Vec<Told>> {
    let told = sqlx::query_as!(
        Told,
        r#"update pools p set sold = sold + moved.places, version = version + 1
           from unnest($1::uuid[], $2::int[]) as moved (id, places)
           where p.id = moved.id
           returning p.id, p.capacity, p.sold, p.version"#,
        pools,
        places,
    );
    Ok(told.fetch_all(db).await?)
}

/// A ticket to be given out.
pub(super) struct NewTicket {
    pub id: TicketId,
    pub order_id: OrderId,
    pub event_id: EventId,
    pub organization_id: OrganizationId,
    pub ticket_type_id: TicketTypeId,
    pub user_id: Option<UserId>,
    pub code: String,
    pub price: i64,
    pub attendee: Attendee,
}

pub(super) async fn insert_tickets(
    db: &mut PgConnection,
    cipher: &Cipher,
    tickets: &[NewTicket],
    now: DateTime<Utc>,
) -> Result<()> {
    let uuids = |of: fn(&NewTicket) -> Uuid| -> Vec<Uuid> { tickets.iter().map(of).collect() };
    let users: Vec<Option<Uuid>> = tickets.iter().map(|t| t.user_id.map(|id| id.0)).collect();
    let kept = |t: &NewTicket| cipher.keep(Place::TicketCode(t.id.0), &t.code);
    let (hashes, encrypted): (Vec<Vec<u8>>, Vec<Vec<u8>>) = tickets.iter().map(kept).unzip();
    let prices: Vec<i64> = tickets.iter().map(|t| t.price).collect();
    let attendees: Vec<Value> = tickets
        .iter()
        .map(|t| serde_json::to_value(&t.attendee))
        .collect::<Result<_, _>>()?;
    sqlx::query!(
        "insert into tickets (id, order_id, event_id, organization_id, ticket_type_id, user_id, code_hash,
                              code_encrypted, status, price, attendee, created_at)
         select id, order_id, event_id, organization_id, ticket_type_id, user_id, code_hash, code_encrypted, 'valid',
                price, attendee, $10
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::bytea[],
                     $8::bigint[], $9::jsonb[], $11::bytea[])
              as t (id, order_id, event_id, organization_id, ticket_type_id, user_id, code_hash, price, attendee,
                    code_encrypted)",
        &uuids(|t| t.id.0),
        &uuids(|t| t.order_id.0),
        &uuids(|t| t.event_id.0),
        &uuids(|t| t.organization_id.0),
        &uuids(|t| t.ticket_type_id.0),
        &users as &[Option<Uuid>],
        &hashes,
        &prices,
        &attendees,
        now,
        &encrypted,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A line of the ledger.
pub(super) struct Entry {
    pub organization_id: OrganizationId,
    pub event_id: EventId,
    pub order_id: OrderId,
    pub kind: &'static str,
    pub amount: i64,
    pub currency: String,
    pub provider: &'static str,
    pub reference: String,
}

pub(super) async fn insert_entries(
    db: &mut PgConnection,
    entries: &[Entry],
    now: DateTime<Utc>,
) -> Result<()> {
    let uuids = |of: fn(&Entry) -> Uuid| -> Vec<Uuid> { entries.iter().map(of).collect() };
    let texts = |of: fn(&Entry) -> &str| -> Vec<String> {
        entries.iter().map(|entry| of(entry).to_owned()).collect()
    };
    let amounts: Vec<i64> = entries.iter().map(|entry| entry.amount).collect();
    sqlx::query!(
        "insert into ledger (organization_id, event_id, order_id, kind, amount, currency, provider, reference, at)
         select organization_id, event_id, order_id, kind, amount, currency, provider, reference, $9
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[])
              as entry (organization_id, event_id, order_id, kind, amount, currency, provider, reference)",
        &uuids(|entry| entry.organization_id.0),
        &uuids(|entry| entry.event_id.0),
        &uuids(|entry| entry.order_id.0),
        &texts(|entry| entry.kind),
        &amounts,
        &texts(|entry| &entry.currency),
        &texts(|entry| entry.provider),
        &texts(|entry| &entry.reference),
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What becomes of an order.
#[derive(Default)]
pub(super) struct Move {
    pub id: Uuid,
    pub status: &'static str,
    pub reason: Option<String>,
    /// Money that came in.
    pub paid: i64,
    /// Money that goes back.
    pub refunded: i64,
    pub client_secret: Option<String>,
    pub payment_url: Option<String>,
    /// What becomes of the open attempt to be paid.
    pub attempt: &'static str,
    pub payment_id: Option<String>,
    pub checkout_id: Option<String>,
}

pub(super) async fn apply(db: &mut PgConnection, moves: &[Move]) -> Result<()> {
    let ids: Vec<Uuid> = moves.iter().map(|m| m.id).collect();
    let statuses: Vec<String> = moves.iter().map(|m| m.status.to_owned()).collect();
    let attempts: Vec<String> = moves.iter().map(|m| m.attempt.to_owned()).collect();
    let paid: Vec<i64> = moves.iter().map(|m| m.paid).collect();
    let refunded: Vec<i64> = moves.iter().map(|m| m.refunded).collect();
    let texts = |of: fn(&Move) -> &Option<String>| -> Vec<Option<String>> {
        moves.iter().map(|m| of(m).clone()).collect()
    };
    sqlx::query!(
        "update orders o
         -- Money that comes when an order is over does not change why it is over.
         set status = m.status, reason = case when m.status = o.status then o.reason else m.reason end,
             paid = o.paid + m.paid, refunded = o.refunded + m.refunded, client_secret = m.client_secret,
             payment_url = coalesce(m.payment_url, o.payment_url), version = version + 1
         from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[])
              as m (id, status, reason, paid, refunded, client_secret, payment_url)
         where o.id = m.id",
        &ids,
        &statuses,
        &texts(|m| &m.reason) as &[Option<String>],
        &paid,
        &refunded,
        &texts(|m| &m.client_secret) as &[Option<String>],
        &texts(|m| &m.payment_url) as &[Option<String>],
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "update payment_attempts a
         set status = m.status, token = case when m.status = 'open' then a.token end,
             payment_id = coalesce(m.payment_id, a.payment_id), checkout_id = coalesce(m.checkout_id, a.checkout_id)
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as m (id, status, payment_id, checkout_id)
         -- Money that comes late is that of an attempt which was closed without it.
         where a.order_id = m.id and m.status <> ''
               and (a.status = 'open'
                    or m.status = 'paid' and (a.payment_id is null or a.payment_id = m.payment_id))",
        &ids,
        &attempts,
        &texts(|m| &m.payment_id) as &[Option<String>],
        &texts(|m| &m.checkout_id) as &[Option<String>],
    )
    .execute(db)
    .await?;
    Ok(())
}

/// An order on its way to being paid.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub order_id: OrderId,
    pub status: OrderStatus,
    pub method: PaymentMethod,
    pub total: i64,
    pub currency: String,
    pub title: String,
    pub payment_deadline: DateTime<Utc>,
    pub event_is_cancelled: bool,
    /// The latest; none where Stripe has no part in it.
    pub attempt: Option<Attempt>,
}

/// One try to be paid, open or over.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub id: AttemptId,
    pub token: Option<String>,
    pub return_url: Option<String>,
    pub payment_id: Option<String>,
    pub checkout_id: Option<String>,
    pub created_at: DateTime<Utc>,
}

pub(super) async fn due(db: &mut PgConnection, order_id: OrderId) -> Result<Option<Due>> {
    let due = sqlx::query!(
        r#"select o.status as "status: OrderStatus", o.method as "method: PaymentMethod", o.total, o.currency, e.title,
                  e.status = 'cancelled' as "event_is_cancelled!", o.payment_deadline, a.id as "attempt_id?: AttemptId", a.token, a.return_url, a.payment_id,
                  a.checkout_id, a.created_at as "tried_at?"
           from orders o join events e on e.id = o.event_id left join payment_attempts a on a.order_id = o.id
           where o.id = $1 order by a.created_at desc limit 1"#,
        order_id as _,
    );
    let Some(row) = due.fetch_optional(db).await? else {
        return Ok(None);
    };
    let attempt = row
        .attempt_id
        .zip(row.tried_at)
        .map(|(id, created_at)| Attempt {
            id,
            token: row.token,
            return_url: row.return_url,
            payment_id: row.payment_id,
            checkout_id: row.checkout_id,
            created_at,
        });
    Ok(Some(Due {
        order_id,
        status: row.status,
        method: row.method,
        total: row.total,
        currency: row.currency,
        title: row.title,
        payment_deadline: row.payment_deadline,
        event_is_cancelled: row.event_is_cancelled,
        attempt,
    }))
}

/// How many places these lines take of each pool.
pub(super) fn places(lines: &[Line]) -> BTreeMap<Uuid, i32> {
    let mut places = BTreeMap::new();
    for line in lines {
        for pool in &line.pools {
            *places.entry(*pool).or_default() += line.quantity;
        }
    }
    places
}

/// Where an order stands, and the hold that it was placed on.
pub(super) async fn hold(
    db: &mut PgConnection,
    id: OrderId,
) -> Result<Option<(OrderStatus, EventId, KeptHold)>> {
    let hold = sqlx::query!(
        r#"select status as "status: OrderStatus", event_id as "event_id: EventId", hold as "hold: Json<KeptHold>"
           from orders where id = $1"#,
        id as _,
    );
    let hold = hold.fetch_optional(db).await?;
    Ok(hold.map(|row| (row.status, row.event_id, row.hold.0)))
}

/// What Redis needs to hold the places of an order again. They are of the pools that its ticket types draw on now: since
/// it was placed, a quantity or a total may have been given or taken away.
pub(super) async fn hold_again(
    db: &mut PgConnection,
    id: OrderId,
    now: DateTime<Utc>,
) -> Result<Option<(OrderStatus, NewHold)>> {
    let Some((status, event_id, kept)) = hold(db, id).await? else {
        return Ok(None);
    };
    let parts = places(&lines(db, &[id]).await?).into_iter().collect();
    Ok(Some((status, kept.hold(id, event_id, now, parts))))
}

/// Whether there is room for an order among those that wait: the ones that were placed before it come first, by one order
/// for all of them.
pub(super) async fn has_room(db: &mut PgConnection, id: OrderId) -> Result<bool> {
    let room = sqlx::query_scalar!(
        r#"with mine as (
               select distinct d.pool_id from order_items i
               join ticket_type_pools d on d.ticket_type_id = i.ticket_type_id where i.order_id = $1
           ), wanted as (
               select d.pool_id, sum(i.quantity) as places
               from orders me
               join orders o on o.event_id = me.event_id and o.status in ('pending', 'requires_action')
                            and (o.placed_at, o.id) <= (me.placed_at, me.id)
               join order_items i on i.order_id = o.id
               join ticket_type_pools d on d.ticket_type_id = i.ticket_type_id
               where me.id = $1
               group by d.pool_id
           )
           select exists (select from mine) and not exists (
               select from mine join pools p on p.id = mine.pool_id join wanted w on w.pool_id = p.id
               where p.sold + w.places > p.capacity
           ) as "room!""#,
        id as _,
    );
    Ok(room.fetch_one(db).await?)
}

/// The orders of an event that wait, with what they hold until when.
pub(super) async fn waiting_of(
    db: &mut PgConnection,
    event_id: EventId,
) -> Result<Vec<(OrderId, DateTime<Utc>, KeptHold)>> {
    let orders = sqlx::query!(
        r#"select id as "id: OrderId", payment_deadline, hold as "hold: Json<KeptHold>" from orders
           where event_id = $1 and status in ('pending', 'requires_action')"#,
        event_id as _,
    );
    let orders = orders.fetch_all(db).await?.into_iter();
    Ok(orders
        .map(|row| (row.id, row.payment_deadline, row.hold.0))
        .collect())
}

/// An event that stays as it is until the end of the transaction.
pub(super) struct KeptEvent {
    pub id: EventId,
    pub version: i64,
    pub is_cancelled: bool,
}

/// Keeps events, with all that is on sale of them, from being changed until the end of the transaction; others may keep them
/// too.
pub(super) async fn keep_events(db: &mut PgConnection, events: &[Uuid]) -> Result<Vec<KeptEvent>> {
    let kept = sqlx::query_as!(
        KeptEvent,
        r#"select id as "id: EventId", version, status = 'cancelled' as "is_cancelled!" from events
           where id = any($1) order by id for key share"#,
        events
    );
    Ok(kept.fetch_all(db).await?)
}

/// Orders whose payment must be asked after, which are then not asked after by others for a while.
pub(super) async fn to_ask(
    db: &mut PgConnection,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<OrderId>> {
    let ids = sqlx::query_scalar!(
        r#"update orders set asked_at = $1
           where id in (select id from orders
                        where status in ('pending', 'requires_action') and asked_at < $2
                              and (method <> 'manual' or payment_deadline <= $1)
                        order by asked_at limit $3 for update skip locked)
           returning id as "id: OrderId""#,
        now,
        before,
        limit,
    );
    Ok(ids.fetch_all(db).await?)
}

/// An order comes to its end without money moving.
pub(super) async fn end(
    db: &mut PgConnection,
    id: OrderId,
    status: OrderStatus,
    reason: &str,
) -> Result<()> {
    sqlx::query!(
        "update orders set status = $2, reason = $3, version = version + 1 where id = $1",
        id as _,
        status as _,
        reason,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stripe's payment of a paid order; none for what was paid by hand.
pub(super) async fn payment_of(db: &mut PgConnection, id: OrderId) -> Result<Option<String>> {
    let payment = sqlx::query_scalar!(
        "select reference from ledger where order_id = $1 and kind = 'payment' and provider = 'stripe' order by seq limit 1",
        id as _,
    );
    Ok(payment.fetch_optional(db).await?)
}
