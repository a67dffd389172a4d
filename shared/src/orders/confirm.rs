//! The mails about orders.

use serde_json::json;

use super::store;
use crate::config::Config;
use crate::error::Result;
use crate::ids::OrderId;
use crate::mail::{self, Letter};
use crate::tx::Tx;

/// Mails the tickets of orders that were paid together, each once.
pub async fn confirm(tx: &mut Tx, config: &Config, orders: &[OrderId]) -> Result<()> {
    let home = config
        .general
        .public_url
        .0
        .as_str()
        .trim_end_matches('/')
        .to_owned();
    for &id in orders {
        let Some((order, secret)) = store::read(tx, id).await? else {
            continue;
        };
        let title = store::title(tx, order.event_id).await?;
        let tickets: Vec<_> = order
            .tickets
            .iter()
            .map(|ticket| json!({ "type": ticket.ticket_type, "code": ticket.code, "name": ticket.attendee.name }))
            .collect();
        let letter = Letter {
            organization_id: Some(order.organization_id),
            cause: format!("order-paid:{id}"),
            recipient: order.email.clone(),
            template: "order-paid",
            locale: "en".into(),
            params: json!({
                "event": title,
                "order": id,
                "tickets": tickets,
                "link": format!("{home}/api/v1/orders/{id}?secret={secret}"),
            }),
        };
        mail::write(tx, letter).await?;
    }
    Ok(())
}
