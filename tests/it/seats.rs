//! Seats for another service that sells from the same stock.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::{Client, on_sale, standard, workshop, world};

fn seats_of(event: &Value) -> String {
    format!("/internal/events/{}", event["id"].as_str().expect("an id"))
}

fn take(seats: i64, version: &Value) -> Value {
    json!({"quantity": -seats, "version": version})
}

#[tokio::test]
async fn seats_are_taken_and_returned_by_version() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let event = on_sale(&lighthouse.organizer, &workshop(), &standard()).await;
        let service = world.internal(lighthouse.id).await;
        let place = seats_of(&event);
        let (update, give_back) = (
            format!("{place}/update-availability"),
            format!("{place}/return-seats"),
        );

        let seats = service.get(&place).await.expect(200);
        assert_eq!(
            (&seats["available_seats"], &seats["version"]),
            (&json!(20), &json!(1))
        );
        assert_eq!(seats["status"], "published");
        let seats = service.post(&update, &take(2, &json!(1))).await.expect(200);
        assert_eq!(
            (&seats["available_seats"], &seats["version"]),
            (&json!(18), &json!(2))
        );

        let stale = service.post(&update, &take(2, &json!(1))).await;
        assert_eq!(
            stale.refused(409, "CONCURRENT_UPDATE"),
            json!({"current_version": 2})
        );
        let short = service.post(&update, &take(19, &json!(2))).await;
        let details = short.refused(409, "INSUFFICIENT_SEATS");
        assert_eq!(details, json!({"requested": 19, "available": 18}));
        let many = json!({"quantity": 3, "version": 2});
        service
            .post(&give_back, &many)
            .await
            .refused(409, "SEATS_NOT_TAKEN");
        assert_eq!(
            service
                .post(&update, &take(0, &json!(2)))
                .await
                .bad_fields(),
            ["quantity"]
        );

        // The public sees it, and so does the event.
        let left = format!(
            "/events/{}/availability",
            event["id"].as_str().expect("an id")
        );
        let left = world.stranger().get(&left).await.expect(200);
        assert_eq!(left["available_spots"], 18);
        let one = json!({"quantity": 1, "version": 2});
        let seats = service.post(&give_back, &one).await.expect(200);
        assert_eq!(
            (&seats["available_seats"], &seats["version"]),
            (&json!(19), &json!(3))
        );
        let seats = service.get(&place).await.expect(200);
        assert_eq!(
            (&seats["available_seats"], &seats["version"]),
            (&json!(19), &json!(3))
        );
        let positive = json!({"quantity": 1, "version": 3});
        let seats = service.post(&update, &positive).await.expect(200);
        assert_eq!(seats["available_seats"], 20);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_takes_seats_once() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let event = on_sale(&lighthouse.organizer, &workshop(), &standard()).await;
        let service = world
            .internal(lighthouse.id)
            .await
            .with("idempotency-key", "booking-7");
        let update = format!("{}/update-availability", seats_of(&event));
        let first = service.post(&update, &take(2, &json!(1))).await.expect(200);
        let again = service.post(&update, &take(2, &json!(1))).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.expect(200), first);
        let seats = service.get(&seats_of(&event)).await.expect(200);
        assert_eq!(seats["available_seats"], 18);
    })
    .await;
}

#[tokio::test]
async fn seats_are_there_for_the_services_of_the_organization_while_it_sells() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let rivals = world.organizer("rivals").await;
        let event = on_sale(&lighthouse.organizer, &workshop(), &standard()).await;
        let (place, theirs) = (seats_of(&event), world.internal(rivals.id).await);
        let update = format!("{place}/update-availability");
        theirs.get(&place).await.refused(404, "EVENT_NOT_FOUND");
        theirs
            .post(&update, &take(1, &json!(1)))
            .await
            .refused(404, "EVENT_NOT_FOUND");

        let service = world.internal(lighthouse.id).await;
        let status = format!("/events/{}/status", event["id"].as_str().expect("an id"));
        let stop = json!({"status": "on_hold", "reason": "Storm", "version": 2});
        lighthouse.organizer.put(&status, &stop).await.expect(200);
        service
            .post(&update, &take(1, &json!(1)))
            .await
            .refused(409, "EVENT_NOT_ON_SALE");
        service
            .post(&update, &json!({"quantity": -1}))
            .await
            .bad_fields();
    })
    .await;
}

/// Takes seats until it gets them, with the version that the refusal tells.
async fn insist(service: &Client, update: &str, seats: i64) -> usize {
    let mut version = json!(1);
    for tries in 1..1_000 {
        let answer = service.post(update, &take(seats, &version)).await;
        if answer.status == 200 {
            return tries;
        }
        version = answer.refused(409, "CONCURRENT_UPDATE")["current_version"].clone();
    }
    panic!("never got through");
}

#[tokio::test]
async fn fifty_who_hammer_all_get_through_and_the_total_is_exact() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let mut event = workshop();
        event["capacity"] = json!(100);
        let event = on_sale(&lighthouse.organizer, &event, &standard()).await;
        let service = world.internal(lighthouse.id).await;
        let place = seats_of(&event);
        let update = format!("{place}/update-availability");
        join_all((0..50).map(|_| insist(&service, &update, 2))).await;
        let seats = service.get(&place).await.expect(200);
        assert_eq!(
            (&seats["available_seats"], &seats["version"]),
            (&json!(0), &json!(51))
        );
        let more = service.post(&update, &take(1, &json!(51))).await;
        more.refused(409, "INSUFFICIENT_SEATS");
    })
    .await;
}
