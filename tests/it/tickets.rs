//! Tickets: what they show, who has them, how they come by mail and how they go back.

mod giving_back;
pub(crate) mod mails;
mod news;
mod reading;
mod unmailed;
mod wallet;

use std::io::Cursor;

use rqrr::PreparedImage;
use serde_json::{Value, json};
use tests::{Client, World, on_sale, workshop};

use crate::orders::{bought, card_order};

/// What a scanner reads from a picture.
fn scanned(png: &[u8]) -> String {
    let mut reader = png::Decoder::new(Cursor::new(png))
        .read_info()
        .expect("a picture");
    let mut rows = vec![0; reader.output_buffer_size().expect("a small picture")];
    let info = reader.next_frame(&mut rows).expect("a picture");
    let (width, line) = (info.width as usize, info.line_size);
    let mut seen = PreparedImage::prepare_from_greyscale(width, width, |x, y| {
        let bit = rows[y * line + x / 8] >> (7 - x % 8) & 1;
        bit * 255
    });
    let codes = seen.detect_grids();
    let code = codes.first().expect("a code");
    code.decode().expect("a code that can be read").1
}

/// A guest with an order of so many tickets, paid by card.
async fn guest_with(world: &World, event: &Value, tickets: i32) -> (Client, Value) {
    let guest = world.stranger();
    let order = bought(world, &guest, &card_order(event, tickets, "pm_card_visa")).await;
    assert_eq!(order["status"], "paid");
    (guest, order)
}

fn id_of(thing: &Value) -> &str {
    thing["id"].as_str().expect("an id")
}

/// Where a guest finds a ticket of their order, or something of it.
fn of_ticket(order: &Value, at: usize, what: &str) -> String {
    let id = id_of(&order["tickets"][at]);
    let secret = order["secret"].as_str().expect("a secret");
    format!("/tickets/{id}{what}?secret={secret}")
}

/// An event with tickets at a price, of which so many percent come back to the end.
async fn event_giving_back(organizer: &Client, percent: i32, price: i64) -> Value {
    let mut event = workshop();
    event["refund_policy"] = json!({
        "full_until_hours": null, "partial_percent": percent, "partial_until_hours": 0, "keep_fees": false,
    });
    let kind = json!({"name": "Standard", "price": price, "included_sessions": ["S1"]});
    on_sale(organizer, &event, &kind).await
}
