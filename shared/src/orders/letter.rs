//! What every mail about an order says: what takes place, when and where, and the way to the order.

use chrono::{DateTime, Offset as _, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::order::PaymentMethod;
use super::status::OrderStatus;
use super::tickets::TicketStatus;
use crate::config::Config;
use crate::encryption::{Cipher, EncryptionError, Place};
use crate::error::Result;
use crate::ids::{OrderId, OrganizationId, TicketId};
use crate::mail::Letter;
use crate::tx::Tx;

/// An order as mails tell of it.
pub(super) struct Told {
    pub id: OrderId,
    pub organization_id: OrganizationId,
    pub status: OrderStatus,
    pub reason: Option<String>,
    pub currency: String,
    pub total: i64,
    pub method: PaymentMethod,
    payment_deadline: DateTime<Utc>,
    pub organizer: String,
    pub contact: Option<String>,
    pub tickets: Json<Vec<ToldTicket>>,
    email: String,
    secret: Option<String>,
    secret_encrypted: Option<Vec<u8>>,
    locale: String,
    title: String,
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    time_zone: String,
    venue: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ToldTicket {
    pub id: TicketId,
    /// In plain only in rows of the version before; [`told`] puts it there.
    #[serde(default)]
    code: Option<String>,
    /// In hexadecimal.
    #[serde(default)]
    code_encrypted: Option<String>,
    pub kind: String,
    pub name: String,
    pub status: TicketStatus,
}

pub(super) async fn told(tx: &mut Tx, orders: &[OrderId]) -> Result<Vec<Told>> {
    let cipher = tx.cipher();
    let mut told = read(tx, orders).await?;
    for order in &mut told {
        order.decrypt(&cipher)?;
    }
    Ok(told)
}

async fn read(db: &mut PgConnection, orders: &[OrderId]) -> Result<Vec<Told>> {
    let ids: Vec<Uuid> = orders.iter().map(|id| id.0).collect();
    let told = sqlx::query_as!(
        Told,
        r#"select o.id as "id!: OrderId", o.organization_id as "organization_id!: OrganizationId",
                  o.status as "status!: OrderStatus", o.reason, o.currency as "currency!", o.total as "total!",
                  o.method as "method!: PaymentMethod", o.payment_deadline as "payment_deadline!",
                  g.name as "organizer!", g.contact, o.email as "email!", o.secret, o.secret_encrypted,
                  coalesce(u.locale, 'en') as "locale!", e.title as "title!",
                  e.starts_at as "starts_at!", e.ends_at as "ends_at!", e.time_zone as "time_zone!",
                  case when v.id is not null then concat_ws(', ', v.name, v.address, v.city) end as venue,
                  (select coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'code', t.code,
                                                                'code_encrypted', encode(t.code_encrypted, 'hex'),
                                                                'kind', i.name,
                                                                'name', coalesce(t.attendee ->> 'name', ''),
                                                                'status', t.status)
                                             order by t.id), '[]')
                   from tickets t join order_items i on i.order_id = t.order_id and i.ticket_type_id = t.ticket_type_id
                   where t.order_id = o.id) as "tickets!: Json<Vec<ToldTicket>>"
           from orders o join events e on e.id = o.event_id join organizations g on g.id = o.organization_id
                left join venues v on v.id = e.venue_id left join users u on u.id = o.user_id
           where o.id = any($1)"#,
        &ids,
    );
    Ok(told.fetch_all(db).await?)
}

impl ToldTicket {
    pub fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    fn decrypt(&mut self, cipher: &Cipher) -> Result<(), EncryptionError> {
        if let Some(encrypted) = self.code_encrypted.take() {
            let encrypted = hex::decode(encrypted).map_err(|_| EncryptionError::Broken)?;
            self.code = Some(cipher.decrypt(Place::TicketCode(self.id.0), &encrypted)?);
        }
        Ok(())
    }
}

impl Told {
    fn decrypt(&mut self, cipher: &Cipher) -> Result<(), EncryptionError> {
        if let Some(encrypted) = self.secret_encrypted.take() {
            self.secret = Some(cipher.decrypt(Place::OrderSecret(self.id.0), &encrypted)?);
        }
        let mut tickets = self.tickets.iter_mut();
        tickets.try_for_each(|ticket| ticket.decrypt(cipher))
    }

    /// A mail to the buyer; `more` is what it says besides.
    pub fn letter(
        &self,
        config: &Config,
        template: &'static str,
        cause: String,
        more: Value,
    ) -> Letter {
        // Not `link`: that is forgotten when a mail is sent, and this one may be sent again.
        let secret = self.secret.as_deref().unwrap_or_default();
        let link = format!("{}?secret={secret}", self.place(config));
        Letter {
            organization_id: Some(self.organization_id),
            cause,
            recipient: self.email.clone(),
            template,
            locale: self.locale.clone(),
            params: self.params(&link, more),
        }
    }

    /// The same mail to each of those who see to the organization's orders, who need no secret.
    pub fn letters_to(
        &self,
        people: Vec<String>,
        config: &Config,
        template: &'static str,
        cause: &str,
        more: &Value,
    ) -> Vec<Letter> {
        let letters = people.into_iter().map(|recipient| Letter {
            organization_id: Some(self.organization_id),
            cause: format!("{cause}:{recipient}"),
            recipient,
            template,
            locale: "en".to_owned(),
            params: self.params(&self.place(config), more.clone()),
        });
        letters.collect()
    }

    fn place(&self, config: &Config) -> String {
        let home = config.general.public_url.0.as_str().trim_end_matches('/');
        format!("{home}/api/v1/orders/{}", self.id)
    }

    fn params(&self, link: &str, more: Value) -> Value {
        let mut params = Map::new();
        let always = json!({
            "event": self.title,
            "when": when(self.starts_at, self.ends_at, &self.time_zone),
            "venue": self.venue,
            "order": self.id,
            "order_link": link,
        });
        for part in [always, more] {
            if let Value::Object(part) = part {
                params.extend(part);
            }
        }
        params.into()
    }

    /// Until when it must be paid, in the time of the place.
    pub fn deadline(&self) -> String {
        let zone: Tz = self.time_zone.parse().unwrap_or(Tz::UTC);
        let at = self.payment_deadline.with_timezone(&zone);
        format!("{} ({zone})", at.format(DAY))
    }
}

const DAY: &str = "%A, %-d %B %Y, %H:%M";
const HOUR: &str = "%H:%M";
/// In the nights in which the clocks change, an hour by itself is said twice or means nothing.
const DAY_OF_CHANGE: &str = "%A, %-d %B %Y, %H:%M %Z";
const HOUR_OF_CHANGE: &str = "%H:%M %Z";

/// A span of time where it takes place, with the zone: the reader may be elsewhere.
fn when(starts_at: DateTime<Utc>, ends_at: DateTime<Utc>, zone: &str) -> String {
    let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
    let (from, to) = (starts_at.with_timezone(&zone), ends_at.with_timezone(&zone));
    let (day, hour) = if from.offset().fix() == to.offset().fix() {
        (DAY, HOUR)
    } else {
        (DAY_OF_CHANGE, HOUR_OF_CHANGE)
    };
    let end = if from.date_naive() == to.date_naive() {
        to.format(hour)
    } else {
        to.format(day)
    };
    format!("{} – {end} ({zone})", from.format(day))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn times_are_those_of_the_place() {
        let evening = (at("2026-07-10T18:00:00Z"), at("2026-07-10T20:30:00Z"));
        let (from, to) = evening;
        assert_eq!(
            when(from, to, "Europe/Berlin"),
            "Friday, 10 July 2026, 20:00 – 22:30 (Europe/Berlin)"
        );
        assert_eq!(
            when(from, to, "Asia/Tokyo"),
            "Saturday, 11 July 2026, 03:00 – 05:30 (Asia/Tokyo)"
        );
        assert_eq!(
            when(from, to, "Africa/Nairobi"),
            "Friday, 10 July 2026, 21:00 – 23:30 (Africa/Nairobi)"
        );
    }

    #[test]
    fn what_ends_on_another_day_says_so() {
        let night = when(
            at("2026-02-10T21:00:00Z"),
            at("2026-02-11T03:00:00Z"),
            "Europe/Berlin",
        );
        assert_eq!(
            night,
            "Tuesday, 10 February 2026, 22:00 – Wednesday, 11 February 2026, 04:00 (Europe/Berlin)"
        );
    }

    #[test]
    fn the_hour_that_comes_twice_is_told_apart() {
        let long = when(
            at("2026-10-25T00:30:00Z"),
            at("2026-10-25T01:15:00Z"),
            "Europe/Berlin",
        );
        assert_eq!(
            long,
            "Sunday, 25 October 2026, 02:30 CEST – 02:15 CET (Europe/Berlin)"
        );
        let short = when(
            at("2026-03-28T22:00:00Z"),
            at("2026-03-29T02:00:00Z"),
            "Europe/Berlin",
        );
        assert_eq!(
            short,
            "Saturday, 28 March 2026, 23:00 CET – Sunday, 29 March 2026, 04:00 CEST (Europe/Berlin)"
        );
    }
}
