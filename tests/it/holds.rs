//! Holding places, giving them back, and everything that keeps one from it.

mod faults;
mod refused;

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::{Client, World, on_sale, standard, workshop, world, world_with};

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
async fn an_event_can_be_given_a_total_and_lose_it_while_places_are_held() {
    let no_limit = [("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "0")];
    world_with(&no_limit, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = small_event(&organizer, 20).await;
        let event_path = format!("/events/{}", event["id"].as_str().expect("an id"));
        let stranger = world.stranger();
        let over = AtomicBool::new(false);
        let changing = async {
            let mut version = event["version"].clone();
            for turn in 0..40 {
                let total = (turn % 2 == 0).then_some(20);
                let change = json!({"total_capacity": total, "version": version});
                version = organizer.put(&event_path, &change).await.expect(200)["version"].clone();
            }
            over.store(true, Ordering::SeqCst);
        };
        let buying = join_all((0..4).map(async |_| {
            while !over.load(Ordering::SeqCst) {
                let answer = stranger.post("/holds", &wanted(&event, 1)).await;
                let hold = answer.expect(201);
                assert_eq!(stranger.delete(&place(&hold)).await.status, 204);
            }
        }));
        tokio::join!(changing, buying);
        assert_eq!(left(world, &event).await, 20);
    })
    .await;
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
async fn two_buyers_at_the_last_place_one_hold_and_the_other_hears_of_what_there_is_no_more() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let by_session = small_event(&organizer, 1).await;
        let mut few = standard();
        few["quantity"] = json!(1);
        let by_type = on_sale(&organizer, &workshop(), &few).await;
        let mut limited = workshop();
        limited["total_capacity"] = json!(1);
        let by_event = on_sale(&organizer, &limited, &standard()).await;
        let stranger = world.stranger();
        for (event, sessions) in [
            (by_session, json!(["S1"])),
            (by_type, json!([])),
            (by_event, json!([])),
        ] {
            let wanted = wanted(&event, 1);
            let answers = join_all((0..20).map(|_| stranger.post("/holds", &wanted))).await;
            let (got, refused): (Vec<_>, Vec<_>) =
                answers.into_iter().partition(|answer| answer.status == 201);
            assert_eq!(got.len(), 1);
            for answer in refused {
                assert_eq!(
                    answer.refused(409, "INSUFFICIENT_CAPACITY"),
                    json!({
                        "ticket_type_id": event["ticket_types"][0]["id"], "requested": 1, "available": 0,
                        "limiting_sessions": sessions,
                    })
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_organization_says_for_how_long_places_are_held() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let event = small_event(&lighthouse.organizer, 10).await;
        let owner = world.member(lighthouse.id, "owner").await.client;
        let stranger = world.stranger();
        for (version, minutes, until, extended) in [
            (1, 1, "2026-01-15T10:31:00Z", "2026-01-15T10:32:00Z"),
            (2, 60, "2026-01-15T11:30:00Z", "2026-01-15T12:30:00Z"),
        ] {
            let place_of = format!("/organizations/{}", lighthouse.id);
            let change = json!({"version": version, "settings": {"hold_minutes": minutes}});
            owner.put(&place_of, &change).await.expect(200);
            let hold = stranger
                .post("/holds", &wanted(&event, 1))
                .await
                .expect(201);
            assert_eq!(hold["expires_at"], until);
            let extend = format!("{}/extend", place(&hold));
            // What is changed later does not move a hold that was made before.
            let longer = stranger.post(&extend, &json!({})).await.expect(200);
            assert_eq!(longer["expires_at"], extended);
        }
    })
    .await;
}

#[tokio::test]
async fn a_hold_is_extended_once_however_many_ask_at_once_and_not_when_it_is_over() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = small_event(&organizer, 10).await;
        let stranger = world.stranger();
        let hold = stranger
            .post("/holds", &wanted(&event, 1))
            .await
            .expect(201);
        let (extend, nothing) = (format!("{}/extend", place(&hold)), json!({}));
        let answers = join_all((0..10).map(|_| stranger.post(&extend, &nothing))).await;
        let longer = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(longer, 1);
        let refused = stranger.post(&extend, &nothing).await;
        // Whoever did not hear the first answer hears it now.
        assert_eq!(
            refused.refused(409, "HOLD_ALREADY_EXTENDED"),
            json!({"expires_at": "2026-01-15T10:50:00Z"})
        );
        let hold = stranger
            .post("/holds", &wanted(&event, 1))
            .await
            .expect(201);
        world.pass(TimeDelta::minutes(10));
        let late = format!("{}/extend", place(&hold));
        stranger
            .post(&late, &nothing)
            .await
            .refused(410, "HOLD_EXPIRED");
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
