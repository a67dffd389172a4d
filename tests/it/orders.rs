//! Orders, from the hold to the ticket and back.

mod asking;
mod audit;
mod books;
mod closing;
mod disputed_twice;
mod disputes;
mod failures;
mod heard;
mod invariants;
mod limits;
mod methods;
mod mismatched;
mod money;
mod paid_twice;
mod payable;
mod placing;
mod rush;
mod sold_out;
mod waiting;

use serde_json::{Value, json};
use tests::{Answer, Client, World, on_sale, standard, workshop};

/// Everybody comes from one address, and nobody is told to come later, however slow the machine and however many other tests
/// share it.
pub(crate) const CROWD: [(&str, &str); 4] = [
    ("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "0"),
    ("HOLDFAST_HTTP_STREAMS_PER_NETWORK", "0"),
    ("HOLDFAST_HOLDS_PER_ADDRESS", "10000"),
    ("HOLDFAST_DATABASE_ACQUIRE_TIMEOUT", "1m"),
];

/// An event of the organizer's with so many places at 45 euros.
pub(crate) async fn event_of(organizer: &Client, capacity: i32) -> Value {
    let mut event = workshop();
    event["capacity"] = json!(capacity);
    on_sale(organizer, &event, &standard()).await
}

/// The same where nothing is to be paid.
pub(crate) async fn free_event_of(organizer: &Client, capacity: i32) -> Value {
    let (mut event, mut kind) = (workshop(), standard());
    event["capacity"] = json!(capacity);
    kind["price"] = json!(0);
    on_sale(organizer, &event, &kind).await
}

pub(crate) fn wanted(event: &Value, quantity: i32) -> Value {
    json!([{"ticket_type_id": event["ticket_types"][0]["id"], "quantity": quantity}])
}

/// An order of a guest's, paid by a card of Stripe's own.
pub(crate) fn card_order(event: &Value, quantity: i32, card: &str) -> Value {
    json!({"event_id": event["id"], "items": wanted(event, quantity), "email": "ada@example.org",
           "payment": {"method": "card", "token": card}})
}

pub(crate) fn free_order(event: &Value, quantity: i32) -> Value {
    json!({"event_id": event["id"], "items": wanted(event, quantity), "email": "ada@example.org"})
}

/// Calls an event off that is as it was when it was published.
pub(crate) async fn cancel_event(organizer: &Client, event: &Value) {
    let status = format!("/events/{}/status", event["id"].as_str().expect("an id"));
    let cancelled = json!({"status": "cancelled", "reason": "Storm", "version": event["version"]});
    organizer.put(&status, &cancelled).await.expect(200);
}

/// Where a guest finds their order.
pub(crate) fn place_of(order: &Value) -> String {
    let text = |name: &str| order[name].as_str().expect("text").to_owned();
    format!("/orders/{}?secret={}", text("id"), text("secret"))
}

/// A guest who shows the secret of their order by its header, and where the order is.
pub(crate) fn opened(guest: &Client, order: &Value) -> (Client, String) {
    let text = |name: &str| order[name].as_str().expect("text");
    let guest = guest.with("order-secret", text("secret"));
    (guest, format!("/orders/{}", text("id")))
}

/// Places an order, lets the workers do theirs, and reads what became of it.
pub(crate) async fn bought(world: &World, buyer: &Client, new: &Value) -> Value {
    let order = buyer.post("/orders", new).await.expect(202);
    world.run_jobs().await;
    again(buyer, &order).await
}

pub(crate) async fn again(guest: &Client, order: &Value) -> Value {
    guest.get(&place_of(order)).await.expect(200)
}

pub(crate) async fn left(world: &World, event: &Value) -> i64 {
    let id = event["id"].as_str().expect("an id");
    let answer: Answer = world
        .stranger()
        .get(&format!("/events/{id}/availability"))
        .await;
    answer.expect(200)["available_spots"]
        .as_i64()
        .expect("a number")
}
