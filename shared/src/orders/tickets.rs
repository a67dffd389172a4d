//! Tickets: each the right of one attendee to enter.

use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::OrderError;
use super::order::Attendee;
use crate::clock::Time;
use crate::encryption::{Cipher, KeptSecret, Place};
use crate::error::{Error, Result};
use crate::ids::{EventId, OrderId, TicketId, TicketTypeId};
use crate::qr;

/// The right of one attendee to enter.
#[derive(Debug, Clone, PartialEq, Serialize, Object)]
pub struct Ticket {
    pub id: TicketId,
    pub order_id: OrderId,
    pub event_id: EventId,
    pub ticket_type_id: TicketTypeId,
    pub ticket_type: String,
    /// What the QR shows. Whoever has it may enter.
    pub code: String,
    pub status: TicketStatus,
    /// What it cost, in the minor unit of the currency.
    pub price: i64,
    pub currency: String,
    pub attendee: Attendee,
    pub version: i64,
    pub created_at: Time,
}

/// Whether a ticket is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Enum, sqlx::Type)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum TicketStatus {
    Valid,
    Cancelled,
}

impl Ticket {
    /// Its code as a picture that grows without getting coarse, as long as it is good.
    pub fn svg(&self) -> Result<String> {
        qr::svg(self.good_code()?).map_err(|error| Error::Internal(error.into()))
    }

    /// The same as a PNG.
    pub fn png(&self) -> Result<Vec<u8>> {
        qr::png(self.good_code()?).map_err(|error| Error::Internal(error.into()))
    }

    fn good_code(&self) -> Result<&str> {
        match self.status {
            TicketStatus::Valid => Ok(&self.code),
            status @ TicketStatus::Cancelled => Err(OrderError::TicketNotValid { status }.into()),
        }
    }
}

pub(super) async fn of_order(
    db: &mut PgConnection,
    cipher: &Cipher,
    order_id: OrderId,
) -> Result<Vec<Ticket>> {
    let tickets = sqlx::query!(
        r#"select t.id as "id: TicketId", t.event_id as "event_id: EventId",
                  t.ticket_type_id as "ticket_type_id: TicketTypeId", i.name, t.code, t.code_hash, t.code_encrypted,
                  t.status as "status: TicketStatus",
                  t.price, o.currency, t.attendee as "attendee: Json<Attendee>", t.version,
                  t.created_at as "created_at: Time"
           from tickets t join orders o on o.id = t.order_id
                join order_items i on i.order_id = t.order_id and i.ticket_type_id = t.ticket_type_id
           where t.order_id = $1 order by t.id"#,
        order_id as _,
    );
    let tickets = tickets.fetch_all(db).await?.into_iter().map(|row| {
        let code = KeptSecret {
            plain: row.code,
            hash: row.code_hash,
            encrypted: row.code_encrypted,
        };
        Ok(Ticket {
            id: row.id,
            order_id,
            event_id: row.event_id,
            ticket_type_id: row.ticket_type_id,
            ticket_type: row.name,
            code: code.reveal(cipher, Place::TicketCode(row.id.0))?,
            status: row.status,
            price: row.price,
            currency: row.currency,
            attendee: row.attendee.0,
            version: row.version,
            created_at: row.created_at,
        })
    });
    tickets.collect()
}

/// A ticket as giving back sees it, and what it draws on.
pub(super) struct Returnable {
    pub id: TicketId,
    pub price: i64,
    /// It was not given back before.
    pub valid: bool,
    pub pools: Vec<Uuid>,
}

/// The tickets of an order, those that were given back before too: what one of them is worth depends on all.
pub(super) async fn returnable(db: &mut PgConnection, id: OrderId) -> Result<Vec<Returnable>> {
    let tickets = sqlx::query_as!(
        Returnable,
        r#"select t.id as "id: TicketId", t.price, t.status = 'valid' as "valid!",
                  array(select pool_id from ticket_type_pools p where p.ticket_type_id = t.ticket_type_id) as "pools!"
           from tickets t where t.order_id = $1 order by t.id"#,
        id as _,
    );
    Ok(tickets.fetch_all(db).await?)
}

pub(super) async fn is_given_back(db: &mut PgConnection, id: TicketId) -> Result<bool> {
    let status = sqlx::query_scalar!(
        r#"select status as "status: TicketStatus" from tickets where id = $1"#,
        id as _,
    );
    Ok(status.fetch_one(db).await? == TicketStatus::Cancelled)
}

pub(super) async fn cancel(db: &mut PgConnection, tickets: &[&Returnable]) -> Result<()> {
    let ids: Vec<Uuid> = tickets.iter().map(|ticket| ticket.id.0).collect();
    sqlx::query!(
        "update tickets set status = 'cancelled', version = version + 1 where id = any($1)",
        &ids,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The order of a ticket.
pub(super) async fn order_of(db: &mut PgConnection, id: TicketId) -> Result<Option<OrderId>> {
    let order = sqlx::query_scalar!(
        r#"select order_id as "order_id: OrderId" from tickets where id = $1"#,
        id as _,
    );
    Ok(order.fetch_optional(db).await?)
}
