//! Seats for another service that sells from the same stock.

mod rush;

use serde_json::{Value, json};
use shared::events::{self, EventChange};
use shared::ids::EventId;
use shared::patch::Patch;
use shared::version::Expected;
use tests::{on_sale, standard, workshop, world};

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

#[tokio::test]
async fn a_stranger_learns_nothing_of_an_event_by_returning_seats() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let rivals = world.organizer("rivals").await;
        let event = on_sale(&lighthouse.organizer, &workshop(), &standard()).await;
        let theirs = world.internal(rivals.id).await;
        let nowhere = "/internal/events/01900000-0000-7000-8000-000000000000";
        for place in [seats_of(&event), nowhere.to_owned()] {
            for version in [1, 7] {
                let some = json!({"quantity": 1, "version": version});
                for path in ["return-seats", "update-availability"] {
                    let answer = theirs.post(&format!("{place}/{path}"), &some).await;
                    answer.refused(404, "EVENT_NOT_FOUND");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_others_hold_is_not_free_for_a_service() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let event = on_sale(&lighthouse.organizer, &workshop(), &standard()).await;
        let service = world.internal(lighthouse.id).await;
        let place = seats_of(&event);
        let update = format!("{place}/update-availability");
        service.post(&update, &take(1, &json!(1))).await.expect(200);
        let stranger = world.stranger();
        let hold = stranger
            .post("/holds", &wanted(&event, 5))
            .await
            .expect(201);

        let more = service.post(&update, &take(2, &json!(2))).await.expect(200);
        assert_eq!(more["available_seats"], 12);
        assert_eq!(service.get(&place).await.expect(200), more);
        let short = service.post(&update, &take(13, &json!(3))).await;
        let details = short.refused(409, "INSUFFICIENT_SEATS");
        assert_eq!(details, json!({"requested": 13, "available": 12}));
        let back = json!({"quantity": 3, "version": 3});
        let back = service.post(&format!("{place}/return-seats"), &back).await;
        assert_eq!(back.expect(200)["available_seats"], 15);
        let token = hold["token"].as_str().expect("a token");
        let gone = stranger.delete(&format!("/holds/{token}")).await;
        assert_eq!(gone.status, 204);
    })
    .await;
}

#[tokio::test]
async fn seats_that_another_service_has_stay_counted() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let organizer = &lighthouse.organizer;
        let event = on_sale(organizer, &workshop(), &standard()).await;
        let service = world.internal(lighthouse.id).await;
        let place = seats_of(&event);
        let update = format!("{place}/update-availability");
        service.post(&update, &take(3, &json!(1))).await.expect(200);
        let at = format!("/events/{}", event["id"].as_str().expect("an id"));
        let version = organizer.get(&at).await.expect(200)["version"].clone();
        let limitless = json!({"total_capacity": null, "version": version});
        let details = organizer.put(&at, &limitless).await;
        assert_eq!(
            details.refused(409, "CAPACITY_BELOW_SOLD"),
            json!({"taken": 3})
        );
        let gone = organizer.delete(&at).await;
        gone.refused(409, "EVENT_HAS_REGISTRATIONS");
        let back = json!({"quantity": 3, "version": 2});
        service
            .post(&format!("{place}/return-seats"), &back)
            .await
            .expect(200);
        organizer.put(&at, &limitless).await.expect(200);
    })
    .await;
}

/// The numbers of a pool that is gone must not pass for those of the next, wherever they are remembered.
#[tokio::test]
async fn a_total_that_comes_back_is_the_one_that_counts() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let organizer = &lighthouse.organizer;
        let mut event = workshop();
        event["total_capacity"] = json!(18);
        let event = on_sale(organizer, &event, &standard()).await;
        let service = world.internal(lighthouse.id).await;
        let update = format!("{}/update-availability", seats_of(&event));
        for version in 1..4 {
            let took = service.post(&update, &take(1, &json!(version))).await;
            took.expect(200);
        }
        let give_back = format!("{}/return-seats", seats_of(&event));
        let all = json!({"quantity": 3, "version": 4});
        service.post(&give_back, &all).await.expect(200);
        let id = event["id"].as_str().and_then(|id| id.parse().ok());
        let id = EventId(id.expect("an id"));
        world
            .change_unheard(async |tx| {
                let limitless = EventChange {
                    total_capacity: Patch::Set(None),
                    ..EventChange::default()
                };
                events::change(tx, id, Expected::Any, limitless, None).await
            })
            .await;
        let at = format!("/events/{id}");
        let version = organizer.get(&at).await.expect(200)["version"].clone();
        let limited = json!({"total_capacity": 5, "version": version});
        organizer.put(&at, &limited).await.expect(200);
        let seats = service.get(&seats_of(&event)).await.expect(200);
        assert_eq!(
            (&seats["available_seats"], &seats["version"]),
            (&json!(5), &json!(6)),
            "it goes on where the first one ended"
        );
        let stale = service.post(&update, &take(1, &json!(1))).await;
        stale.refused(409, "CONCURRENT_UPDATE");
        let many = json!({"event_id": event["id"], "items": wanted(&event, 6)["items"]});
        let short = world.stranger().post("/holds", &many).await;
        assert_eq!(short.refused(409, "INSUFFICIENT_CAPACITY")["available"], 5);
    })
    .await;
}

/// What is refused leaves an event as it was.
#[tokio::test]
async fn a_refused_service_gives_no_event_a_total() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let organizer = &lighthouse.organizer;
        let service = world.internal(lighthouse.id).await;
        let draft = organizer.post("/events", &workshop()).await.expect(201);
        let event = on_sale(organizer, &workshop(), &standard()).await;
        for (event, version, seats, code) in [
            (&draft, 1, 1, "EVENT_NOT_ON_SALE"),
            (&event, 7, 1, "CONCURRENT_UPDATE"),
            (&event, 1, 21, "INSUFFICIENT_SEATS"),
        ] {
            let update = format!("{}/update-availability", seats_of(event));
            let refused = service.post(&update, &take(seats, &json!(version))).await;
            refused.refused(409, code);
            let at = format!("/events/{}", event["id"].as_str().expect("an id"));
            let after = organizer.get(&at).await.expect(200);
            assert_eq!(after["own_capacity"], json!(null), "{code}");
            assert_eq!(after["version"], event["version"], "{code}");
        }
    })
    .await;
}

fn wanted(event: &Value, quantity: i64) -> Value {
    let kind = &event["ticket_types"][0]["id"];
    json!({"event_id": event["id"], "items": [{"ticket_type_id": kind, "quantity": quantity}]})
}
