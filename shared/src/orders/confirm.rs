//! The mail with the tickets.

use serde_json::{Value, json};

use super::letter::{self, Told, ToldTicket};
use super::tickets::TicketStatus;
use crate::config::Config;
use crate::error::Result;
use crate::ids::OrderId;
use crate::mail::{self, Letter};
use crate::tx::Tx;

/// So many tickets are shown as pictures; of more the mail has the codes alone, and the way to the order.
const MOST_PICTURES: usize = 20;

/// Mails the tickets of orders that were paid together, each once.
pub async fn confirm(tx: &mut Tx, config: &Config, orders: &[OrderId]) -> Result<()> {
    let told = letter::told(tx, orders).await?;
    let letters = told.iter().filter_map(|order| confirmation(order, config));
    let letters: Vec<Letter> = letters.collect();
    mail::write_all(tx, &letters).await?;
    Ok(())
}

/// Nothing for an order whose tickets have been given back meanwhile.
fn confirmation(order: &Told, config: &Config) -> Option<Letter> {
    let valid = |ticket: &&ToldTicket| ticket.status == TicketStatus::Valid;
    let tickets: Vec<&ToldTicket> = order.tickets.iter().filter(valid).collect();
    if tickets.is_empty() {
        return None;
    }
    let pictures: Vec<&str> = tickets.iter().map(|t| t.code()).collect();
    let pictures = &pictures[..pictures.len().min(MOST_PICTURES)];
    let shown: Vec<Value> = tickets
        .iter()
        .enumerate()
        .map(|(at, ticket)| {
            let picture = (at < pictures.len()).then(|| mail::picture(at));
            json!({ "type": ticket.kind, "code": ticket.code(), "name": ticket.name, "picture": picture })
        })
        .collect();
    let more = json!({ "tickets": shown, (mail::PICTURES): pictures });
    let cause = format!("order-paid:{}", order.id);
    Some(order.letter(config, "order-paid", cause, more))
}
