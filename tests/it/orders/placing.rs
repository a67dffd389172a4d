//! Placing orders, and hearing what became of them.

use serde_json::json;
use tests::world;

use super::*;

#[tokio::test]
async fn a_guest_buys_free_tickets() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = free_event_of(&organizer, 10).await;
        let guest = world.stranger();
        let answer = guest.post("/orders", &free_order(&event, 2)).await;
        let place = answer.header("location").expect("a place").to_owned();
        let order = answer.expect(202);
        assert_eq!(order["status"], "pending");
        assert!(
            place.ends_with(order["id"].as_str().expect("an id")),
            "{place}"
        );
        assert_eq!(left(world, &event).await, 8);

        world.run_jobs().await;
        let order = again(&guest, &order).await;
        assert_eq!(
            (&order["status"], &order["method"]),
            (&json!("paid"), &json!("free"))
        );
        assert_eq!(order["tickets"].as_array().expect("tickets").len(), 2);
        assert_eq!(left(world, &event).await, 8);
        let place = place.trim_start_matches("/api/v1");
        guest.get(place).await.refused(404, "ORDER_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_card_is_charged_once_and_the_tickets_are_there() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        let hold = json!({"event_id": event["id"], "items": wanted(&event, 2)});
        let hold = guest.post("/holds", &hold).await.expect(201);
        let new = json!({"hold_token": hold["token"], "email": "ada@example.org",
                         "attendees": [{"name": "Ada"}, {"name": "Grace"}],
                         "payment": {"method": "card", "token": "pm_card_visa"}});
        let order = bought(world, &guest, &new).await;
        assert_eq!(
            (&order["status"], &order["paid"]),
            (&json!("paid"), &json!(9000))
        );
        assert_eq!(order["tickets"][1]["attendee"]["name"], "Grace");
        assert_eq!(
            world
                .stripe()
                .charges_of(order["id"].as_str().expect("an id")),
            1
        );
        let twice = guest.post("/orders", &new).await;
        assert_eq!(
            twice.refused(409, "HOLD_ALREADY_USED")["order_id"],
            order["id"]
        );
        assert_eq!(left(world, &event).await, 8);
    })
    .await;
}

#[tokio::test]
async fn a_declined_card_gives_the_places_back() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        let new = card_order(&event, 3, "pm_card_visa_chargeDeclinedInsufficientFunds");
        let order = bought(world, &guest, &new).await;
        assert_eq!(
            (&order["status"], &order["reason"]),
            (&json!("failed"), &json!("insufficient_funds"))
        );
        assert_eq!(left(world, &event).await, 10);
    })
    .await;
}
