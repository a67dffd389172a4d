//! Holding places, giving them back, and everything that keeps one from it.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::{Client, World, on_sale, standard, workshop, world};

fn wanted(event: &Value, quantity: i32) -> Value {
    let kind = &event["ticket_types"][0]["id"];
    json!({"event_id": event["id"], "items": [{"ticket_type_id": kind, "quantity": quantity}]})
}

async fn left(world: &World, event: &Value) -> Value {
    let place = format!(
        "/events/{}/availability",
        event["id"].as_str().expect("an id")
    );
    world.stranger().get(&place).await.expect(200)["available_spots"].clone()
}

fn place(hold: &Value) -> String {
    format!("/holds/{}", hold["token"].as_str().expect("a token"))
}

async fn small_event(organizer: &Client, capacity: i32) -> Value {
    let mut event = workshop();
    event["capacity"] = json!(capacity);
    on_sale(organizer, &event, &standard()).await
}

#[tokio::test]
async fn places_are_held_extended_once_and_given_back() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = small_event(&organizer, 10).await;
        let stranger = world.stranger();
        let answer = stranger.post("/holds", &wanted(&event, 2)).await;
        let hold = answer.expect(201);
        assert_eq!(
            (&hold["subtotal"], &hold["currency"]),
            (&json!(9000), &json!("EUR"))
        );
        assert_eq!(hold["expires_at"], "2026-01-15T10:40:00Z");
        assert_eq!(left(world, &event).await, 8);

        let read = stranger.get(&place(&hold)).await.expect(200);
        assert_eq!(read, hold);
        let extend = format!("{}/extend", place(&hold));
        let longer = stranger.post(&extend, &json!({})).await.expect(200);
        assert_eq!(longer["expires_at"], "2026-01-15T10:50:00Z");
        let refused = stranger.post(&extend, &json!({})).await;
        refused.refused(409, "HOLD_ALREADY_EXTENDED");

        assert_eq!(stranger.delete(&place(&hold)).await.status, 204);
        assert_eq!(left(world, &event).await, 10);
        stranger
            .get(&place(&hold))
            .await
            .refused(410, "HOLD_EXPIRED");
        stranger
            .delete(&place(&hold))
            .await
            .refused(410, "HOLD_EXPIRED");
        stranger
            .get("/holds/nonsense")
            .await
            .refused(410, "HOLD_EXPIRED");
    })
    .await;
}

#[tokio::test]
async fn a_hold_lapses_and_its_places_are_bought_by_the_next() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = small_event(&organizer, 2).await;
        let stranger = world.stranger();
        let hold = stranger
            .post("/holds", &wanted(&event, 2))
            .await
            .expect(201);
        let details = stranger
            .post("/holds", &wanted(&event, 1))
            .await
            .refused(409, "INSUFFICIENT_CAPACITY");
        assert_eq!(
            (&details["available"], &details["limiting_sessions"]),
            (&json!(0), &json!(["S1"]))
        );
        world.pass(TimeDelta::minutes(10));
        stranger
            .post("/holds", &wanted(&event, 2))
            .await
            .expect(201);
        stranger
            .get(&place(&hold))
            .await
            .refused(410, "HOLD_EXPIRED");
    })
    .await;
}

#[tokio::test]
async fn two_buyers_at_the_last_place_one_hold() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = small_event(&organizer, 1).await;
        let stranger = world.stranger();
        let wanted = wanted(&event, 1);
        let answers = join_all((0..20).map(|_| stranger.post("/holds", &wanted))).await;
        let (got, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 201);
        assert_eq!(got.len(), 1);
        for answer in refused {
            answer.refused(409, "INSUFFICIENT_CAPACITY");
        }
    })
    .await;
}

#[tokio::test]
async fn the_hold_of_an_account_is_that_accounts() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = small_event(&organizer, 10).await;
        let mia = world.person("mia").await.client;
        let hold = mia.post("/holds", &wanted(&event, 1)).await.expect(201);
        for other in [world.stranger(), world.person("noa").await.client] {
            other.get(&place(&hold)).await.refused(410, "HOLD_EXPIRED");
            other
                .delete(&place(&hold))
                .await
                .refused(410, "HOLD_EXPIRED");
        }
        mia.get(&place(&hold)).await.expect(200);
        for _ in 0..4 {
            mia.post("/holds", &wanted(&event, 1)).await.expect(201);
        }
        mia.post("/holds", &wanted(&event, 1))
            .await
            .refused(409, "TOO_MANY_HOLDS");
        world
            .stranger()
            .post("/holds", &wanted(&event, 1))
            .await
            .expect(201);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_holds_once_and_a_neighbours_key_is_their_own() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = small_event(&organizer, 10).await;
        let mia = world
            .person("mia")
            .await
            .client
            .with("idempotency-key", "1");
        let first = mia.post("/holds", &wanted(&event, 1)).await.expect(201);
        let again = mia.post("/holds", &wanted(&event, 1)).await.expect(201);
        assert_eq!(first, again);
        let stranger = world.stranger().with("idempotency-key", "1");
        let other = stranger
            .post("/holds", &wanted(&event, 1))
            .await
            .expect(201);
        assert_ne!(first["token"], other["token"]);
        assert_eq!(left(world, &event).await, 8);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_held_is_refused_with_the_reason() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let organizer = &lighthouse.organizer;
        let mut kind = standard();
        kind["min_per_order"] = json!(2);
        kind["max_per_order"] = json!(4);
        kind["sales_start"] = json!("2026-01-16T00:00:00Z");
        let event = on_sale(organizer, &workshop(), &kind).await;
        let stranger = world.stranger();
        stranger
            .post("/holds", &wanted(&event, 2))
            .await
            .refused(409, "SALES_NOT_OPEN");
        world.pass(TimeDelta::days(1));
        for quantity in [1, 5] {
            let answer = stranger.post("/holds", &wanted(&event, quantity)).await;
            let details = answer.refused(422, "QUANTITY_LIMIT");
            assert_eq!((&details["min"], &details["max"]), (&json!(2), &json!(4)));
        }
        let mut twice = wanted(&event, 2);
        twice["items"] = json!([twice["items"][0], twice["items"][0]]);
        let bad = stranger.post("/holds", &twice).await.bad_fields();
        assert_eq!(bad, ["items[1].ticket_type_id"]);
        let mut other = wanted(&event, 2);
        other["items"][0]["ticket_type_id"] = event["id"].clone();
        stranger
            .post("/holds", &other)
            .await
            .refused(404, "TICKET_TYPE_NOT_FOUND");
        let mut other = wanted(&event, 2);
        other["event_id"] = event["ticket_types"][0]["id"].clone();
        stranger
            .post("/holds", &other)
            .await
            .refused(404, "EVENT_NOT_FOUND");

        let mut hidden = standard();
        hidden["hidden"] = json!(true);
        let event = on_sale(organizer, &workshop(), &hidden).await;
        stranger
            .post("/holds", &wanted(&event, 1))
            .await
            .refused(404, "TICKET_TYPE_NOT_FOUND");
        let mut members = standard();
        members["member_price"] = json!(3000);
        let event = on_sale(organizer, &workshop(), &members).await;
        let member = world.member(lighthouse.id, "member").await.client;
        let hold = member.post("/holds", &wanted(&event, 1)).await.expect(201);
        assert_eq!(hold["subtotal"], 3000);
        let hold = stranger
            .post("/holds", &wanted(&event, 1))
            .await
            .expect(201);
        assert_eq!(hold["subtotal"], 4500);
        world.pass(TimeDelta::days(30));
        stranger
            .post("/holds", &wanted(&event, 1))
            .await
            .refused(409, "SALES_ENDED");
    })
    .await;
}
