//! Events that are odd, and what is said to those who ask for odd things.

use shared::events;

use super::*;

#[tokio::test]
async fn a_draft_that_is_cancelled_stays_out_of_sight() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let rivals = world.organizer("rivals").await;
        let event = create(&lighthouse.organizer).await;
        let status = format!("{}/status", at(&event));
        let off = json!({"status": "cancelled", "reason": "No money", "version": 1});
        lighthouse.organizer.put(&status, &off).await.expect(200);
        for other in [&world.stranger(), &rivals.organizer] {
            other.get(&at(&event)).await.refused(404, "EVENT_NOT_FOUND");
        }
        let off = json!({"status": "cancelled", "reason": "Mine", "version": 2});
        let theirs = rivals.organizer.put(&status, &off).await;
        theirs.refused(404, "EVENT_NOT_FOUND");
        let ours = lighthouse.organizer.get(&at(&event)).await.expect(200);
        assert_eq!(ours["status_reason"], "No money");
    })
    .await;
}

#[tokio::test]
async fn a_reason_can_be_said_anew() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = create(&organizer).await;
        publish(&organizer, &event).await;
        let status = format!("{}/status", at(&event));
        let later = |reason: Option<&str>, version: i64| {
            let mut to = json!({"status": "postponed", "version": version});
            if let Some(reason) = reason {
                to["reason"] = json!(reason);
            }
            to
        };
        for (reason, version, told, then) in [
            (Some("Storm"), 2, "Storm", 3),
            (Some("Flood"), 3, "Flood", 4),
            (Some("Flood"), 4, "Flood", 4),
            (None, 4, "Flood", 4),
        ] {
            let moved = organizer
                .put(&status, &later(reason, version))
                .await
                .expect(200);
            assert_eq!(
                (&moved["status_reason"], &moved["version"]),
                (&json!(told), &json!(then))
            );
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_begins_with_the_sessions_that_take_place() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut new = workshop();
        for field in ["starts_at", "ends_at", "capacity"] {
            new.as_object_mut().expect("fields").remove(field);
        }
        let (early, late) = ("2026-02-01T18:00:00Z", "2026-03-01T18:00:00Z");
        new["sessions"] = json!([
            session("Early", early, "2026-02-01T20:00:00Z"),
            session("Late", late, "2026-03-01T20:00:00Z"),
        ]);
        let event = organizer.post("/events", &new).await.expect(201);
        assert_eq!(
            (&event["starts_at"], &event["ends_at"]),
            (&json!(early), &json!("2026-03-01T20:00:00Z"))
        );
        let only_late = json!({"name": "Late", "price": 1, "included_sessions": ["S2"]});
        organizer
            .post(&format!("{}/ticket-types", at(&event)), &only_late)
            .await
            .expect(201);
        let go = json!({"status": "published", "version": 1});
        organizer
            .put(&format!("{}/status", at(&event)), &go)
            .await
            .expect(200);
        let early_session = format!("{}/sessions/S1", at(&event));
        let off = |active: bool, version: i64| json!({"active": active, "version": version});
        organizer
            .put(&early_session, &off(false, 1))
            .await
            .expect(200);
        assert_eq!(
            organizer.get(&at(&event)).await.expect(200)["starts_at"],
            late
        );
        organizer
            .put(&early_session, &off(true, 2))
            .await
            .expect(200);
        assert_eq!(
            organizer.get(&at(&event)).await.expect(200)["starts_at"],
            early
        );
        organizer
            .put(&early_session, &off(false, 3))
            .await
            .expect(200);

        // The time of the one that does not take place passes.
        world.pass(TimeDelta::days(20));
        world
            .change(async |tx| events::advance(tx, 100).await)
            .await;
        let now = organizer.get(&at(&event)).await.expect(200);
        assert_eq!(
            (&now["status"], &now["upcoming"]),
            (&json!("published"), &json!(true))
        );
        let on = organizer.put(&early_session, &off(true, 4)).await;
        assert_eq!(on.bad_fields(), ["active"]);
        // To pause the one that is to come does not begin the event.
        let late_session = format!("{}/sessions/S2", at(&event));
        for (active, version) in [(false, 1), (true, 2)] {
            let paused = off(active, version);
            organizer.put(&late_session, &paused).await.expect(200);
            world
                .change(async |tx| events::advance(tx, 100).await)
                .await;
            let now = organizer.get(&at(&event)).await.expect(200);
            assert_eq!(
                (&now["status"], &now["starts_at"]),
                (&json!("published"), &json!(late))
            );
        }
        // Nor is it over because the one that is to come is taken away.
        let types = format!("{}/ticket-types", at(&event));
        let kind = organizer.get(&types).await.expect(200)["items"][0].clone();
        let other = json!({"included_sessions": ["S1"], "version": kind["version"]});
        let kind = format!("{types}/{}", kind["id"].as_str().expect("an id"));
        organizer.put(&kind, &other).await.expect(200);
        let gone = organizer.delete(&late_session).await;
        gone.refused(409, "SESSION_IN_USE");
    })
    .await;
}

#[tokio::test]
async fn everything_that_is_wrong_with_an_event_is_named_at_once() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let nobody = uuid::Uuid::from_u128(7);
        let mut wrong = workshop();
        for (field, value) in [
            ("title", json!("Bad\r\nBcc: evil@example.org")),
            ("starts_at", json!("2026-01-01T10:00:00Z")),
            ("ends_at", json!("2026-01-01T09:00:00Z")),
            ("time_zone", json!("Mars/Olympus")),
            ("currency", json!("ZZZ")),
            ("image_urls", json!(["javascript:x"])),
            ("venue_id", json!(nobody)),
            ("teacher_ids", json!([nobody])),
            ("description", json!("&".repeat(90_000))),
        ] {
            wrong[field] = value;
        }
        wrong["ticket_types"] = json!([{"name": "\u{200b}", "price": 1, "included_sessions": ["S1", "S7"],
            "sales_start": "2026-02-01T00:00:00Z", "sales_end": "2026-01-31T00:00:00Z"}]);
        let fields = organizer.post("/events", &wrong).await.bad_fields();
        let all = [
            "currency", "description", "ends_at", "image_urls", "starts_at", "teacher_ids",
            "ticket_types[0].included_sessions[1]", "ticket_types[0].name", "ticket_types[0].sales_end",
            "time_zone", "title", "venue_id",
        ];
        assert_eq!(fields, all);

        let mut long = workshop();
        for field in ["starts_at", "ends_at", "capacity"] {
            long.as_object_mut().expect("fields").remove(field);
        }
        let evening = session("Evening", "2026-02-01T18:00:00Z", "2026-02-01T20:00:00Z");
        long["sessions"] = json!(vec![&evening; 200]);
        let event = organizer.post("/events", &long).await.expect(201);
        let more = organizer.post(&format!("{}/sessions", at(&event)), &evening).await;
        assert_eq!(more.bad_fields(), ["sessions"]);
    })
    .await;
}

#[tokio::test]
async fn times_are_told_as_they_are_kept() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut new = workshop();
        new["starts_at"] = json!("2026-02-10T18:00:00.1234561Z");
        new["ends_at"] = json!("2026-02-10T18:00:00.1234569Z");
        let none = organizer.post("/events", &new).await;
        assert_eq!(none.bad_fields(), ["ends_at"]);
        new["ends_at"] = json!("2026-06-30T23:59:60Z");
        let made = organizer.post("/events", &new).await.expect(201);
        assert_eq!(made["ends_at"], "2026-07-01T00:00:00Z");
        assert_eq!(organizer.get(&at(&made)).await.expect(200), made);
        new["ends_at"] = json!("9999-12-31T23:59:59-12:00");
        organizer
            .post("/events", &new)
            .await
            .refused(400, "VALIDATION_FAILED");
    })
    .await;
}

#[tokio::test]
async fn what_was_made_is_where_it_is_said_to_be() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = create(&organizer).await;
        let night = session("Night", "2026-02-11T18:00:00Z", "2026-02-11T20:00:00Z");
        let secret =
            json!({"name": "Friends", "price": 1, "included_sessions": ["S1"], "hidden": true});
        for (place, new, code) in [
            ("sessions", night, "SESSION_NOT_FOUND"),
            ("ticket-types", secret, "TICKET_TYPE_NOT_FOUND"),
        ] {
            let answer = organizer
                .post(&format!("{}/{place}", at(&event)), &new)
                .await;
            let there = answer.header("location").expect("a place");
            let there = there.replace("/api/v1", "");
            let made = answer.expect(201);
            let read = organizer.get(&there).await.expect(200);
            for (field, value) in made.as_object().expect("fields") {
                assert_eq!(&read[field], value, "{there}: {field}");
            }
            let stranger = world.stranger();
            stranger.get(&there).await.refused(404, "EVENT_NOT_FOUND");
            let nothing = format!("{}/{place}/{}", at(&event), uuid::Uuid::from_u128(7));
            organizer.get(&nothing).await.refused(404, code);
        }
        publish(&organizer, &event).await;
        let types = organizer
            .get(&format!("{}/ticket-types", at(&event)))
            .await
            .expect(200);
        let mut types = types["items"].as_array().expect("types").iter();
        let hidden = types.find(|kind| kind["hidden"] == true).expect("one");
        let hidden = hidden["id"].as_str().expect("an id");
        let hidden = format!("{}/ticket-types/{hidden}", at(&event));
        world
            .stranger()
            .get(&hidden)
            .await
            .refused(404, "TICKET_TYPE_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn addresses_that_lead_nowhere_are_told_so() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let stranger = world.stranger();
        for odd in ["%00", "a%00b", "%FF"] {
            for part in [
                "",
                "/sessions",
                "/ticket-types",
                "/availability",
                "/availability/stream",
            ] {
                let answer = stranger.get(&format!("/events/{odd}{part}")).await;
                assert_eq!(answer.bad_fields(), ["path"], "{odd}{part}");
            }
        }
        let other = create(&organizer).await;
        let mut new = workshop();
        new["title"] = other["id"].clone();
        let event = organizer.post("/events", &new).await.expect(201);
        let slug = event["slug"].as_str().expect("a slug");
        let found = organizer.get(&format!("/events/{slug}")).await.expect(200);
        assert_eq!(found["id"], event["id"]);
    })
    .await;
}

#[tokio::test]
async fn a_browser_follows_with_a_token_in_the_address() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let mut new = workshop();
        new["required_vetting_level"] = json!(3);
        let event = lighthouse.organizer.post("/events", &new).await.expect(201);
        publish(&lighthouse.organizer, &event).await;
        let owner = world.member(lighthouse.id, "owner").await;
        let stream = format!("{}/availability/stream", at(&event));
        let stranger = world.stranger();
        stranger.get(&stream).await.refused(404, "EVENT_NOT_FOUND");
        let bad = stranger.get(&format!("{stream}?token=nonsense")).await;
        bad.refused(401, "UNAUTHENTICATED");
        let token = async || {
            let pass = owner
                .client
                .post("/passes", &json!({ "path": stream }))
                .await;
            let pass = pass.expect(200);
            pass["token"].as_str().expect("a token").to_owned()
        };
        let mut follower = stranger
            .follow(&format!("{stream}?token={}", token().await))
            .await;
        assert_eq!(
            follower.next().await.expect("a message")["available_spots"],
            20
        );
        // Nowhere else.
        let read = stranger
            .get(&format!("{}?token={}", at(&event), token().await))
            .await;
        read.refused(404, "EVENT_NOT_FOUND");
    })
    .await;
}
