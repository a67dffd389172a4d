//! Events where and when they take place: venues that go away, clocks that change, and calling one off.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::{harbour_hall, workshop, world};

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

#[tokio::test]
async fn a_venue_deleted_while_an_event_takes_it_is_either_kept_or_not_taken() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = organizer.post("/events", &workshop()).await.expect(201);
        let place = format!("/events/{}", text(&event["id"]));
        let (mut kept, mut version) = (0, 1);
        for round in 0..12 {
            let venue = organizer.post("/venues", &harbour_hall()).await.expect(201);
            let hall = format!("/venues/{}", text(&venue["id"]));
            let take = json!({"venue_id": venue["id"], "version": version});
            let mut new = workshop();
            new["venue_id"] = venue["id"].clone();
            // Once an event that is there takes it, once one that is being made.
            let taking = async {
                if round % 2 == 0 {
                    organizer.put(&place, &take).await
                } else {
                    organizer.post("/events", &new).await
                }
            };
            let (taken, deleted) = tokio::join!(taking, organizer.delete(&hall));
            if deleted.status == 204 {
                assert_eq!(taken.bad_fields(), ["venue_id"]);
            } else {
                deleted.refused(409, "VENUE_IN_USE");
                assert!([200, 201].contains(&taken.status), "{}", taken.text);
                kept += 1;
                version += i32::from(taken.status == 200);
            }
        }
        let lost: i64 = sqlx::query_scalar(
            "select count(*) from events e join venues v on v.id = e.venue_id where v.deleted_at is not null",
        )
        .fetch_one(world.app.pool())
        .await
        .expect("a count");
        assert_eq!(lost, 0, "of {kept} kept");
    })
    .await;
}

#[tokio::test]
async fn an_event_waits_for_a_venue_that_is_being_deleted_and_a_venue_for_an_event() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let organizer = &lighthouse.organizer;
        let venue = organizer.post("/venues", &harbour_hall()).await.expect(201);
        let hall = format!("/venues/{}", text(&venue["id"]));
        let mut new = workshop();
        new["venue_id"] = venue["id"].clone();
        // Somebody is about to delete it, and has not committed yet.
        let mut deleting = world.app.pool().begin().await.expect("a transaction");
        sqlx::query("update venues set deleted_at = now() where name = 'Harbour Hall'")
            .execute(&mut *deleting)
            .await
            .expect("deleted");
        let (taken, ()) = tokio::join!(organizer.post("/events", &new), async {
            until_somebody_waits(world).await;
            deleting.rollback().await.expect("kept after all");
        });
        taken.expect(201);
        organizer.delete(&hall).await.refused(409, "VENUE_IN_USE");
    })
    .await;
}

async fn until_somebody_waits(world: &tests::World) {
    for _ in 0..2_000 {
        let waiting: i64 = sqlx::query_scalar("select count(*) from pg_locks where not granted")
            .fetch_one(world.app.pool())
            .await
            .expect("locks");
        if waiting > 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("nobody waits");
}

#[tokio::test]
async fn an_event_is_cancelled_by_its_version() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let rival = world.organizer("rivals").await.organizer;
        let event = organizer.post("/events", &workshop()).await.expect(201);
        let place = format!("/admin/events/{}", text(&event["id"]));
        let cancel = async |client: &tests::Client, body: Value| {
            client
                .send(reqwest::Method::DELETE, &place, Some(body.to_string()))
                .await
        };
        rival_sees_nothing(cancel(&rival, json!({"version": 1})).await);
        cancel(&organizer, json!({})).await.refused(428, "VERSION_REQUIRED");
        cancel(&organizer, json!({"version": 7})).await.refused(409, "CONCURRENT_UPDATE");
        let told = cancel(&organizer, json!({"version": 1})).await.expect(200);
        assert_eq!(
            told,
            json!({"message": "Event cancelled", "event_id": event["id"], "status": "cancelled", "version": 2})
        );
        let read = organizer.get(&format!("/events/{}", text(&event["id"]))).await.expect(200);
        assert_eq!(read["status_reason"], "Cancelled by the organizer");
        // Once more changes nothing.
        let again = json!({"version": 2, "reason": "Storm"});
        assert_eq!(cancel(&organizer, again).await.expect(200)["version"], 2);
    })
    .await;
}

fn rival_sees_nothing(answer: tests::Answer) {
    answer.refused(404, "EVENT_NOT_FOUND");
}

/// Berlin goes to summer time on 29 March 2026 at 01:00 UTC and back on 25 October 2026 at 01:00 UTC.
#[tokio::test]
async fn times_are_moments_whatever_the_clocks_on_the_wall_do() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = json!({
            "title": "Two evenings at eight", "event_type": "class", "time_zone": "Europe/Berlin",
            "sessions": [
                {"name": "Winter time", "starts_at": "2026-03-28T20:00:00+01:00", "ends_at": "2026-03-28T22:00:00+01:00", "capacity": 5},
                {"name": "Summer time", "starts_at": "2026-03-29T20:00:00+02:00", "ends_at": "2026-03-29T22:00:00+02:00", "capacity": 5},
            ],
        });
        let event = organizer.post("/events", &event).await.expect(201);
        // The same time on the wall, an hour apart from a day.
        let starts = [&event["sessions"][0]["starts_at"], &event["sessions"][1]["starts_at"]];
        assert_eq!(starts, ["2026-03-28T19:00:00Z", "2026-03-29T18:00:00Z"]);
        assert_eq!(event["time_zone"], "Europe/Berlin");

        // 02:30 to 02:15 on the wall is 45 minutes in the night that has 25 hours.
        let night = json!({
            "title": "The long night", "event_type": "other", "time_zone": "Europe/Berlin", "capacity": 5,
            "starts_at": "2026-10-25T02:30:00+02:00", "ends_at": "2026-10-25T02:15:00+01:00",
        });
        let night = organizer.post("/events", &night).await.expect(201);
        assert_eq!(
            (&night["starts_at"], &night["ends_at"]),
            (&json!("2026-10-25T00:30:00Z"), &json!("2026-10-25T01:15:00Z"))
        );
        let place = format!("/events/{}", text(&night["id"]));
        let ticket = json!({"name": "Night", "price": 1, "included_sessions": ["S1"]});
        organizer.post(&format!("{place}/ticket-types"), &ticket).await.expect(201);
        let publish = json!({"status": "published", "version": 1});
        organizer.put(&format!("{place}/status"), &publish).await.expect(200);

        // From 10:30 UTC on 15 January to 00:29:59 UTC on 25 October, and on.
        world.pass(TimeDelta::days(282) + TimeDelta::hours(13) + TimeDelta::minutes(59) + TimeDelta::seconds(59));
        for (seconds, moved, status) in [(0, 0, "published"), (1, 1, "in_progress"), (44 * 60 + 59, 0, "in_progress"), (1, 1, "completed")] {
            world.pass(TimeDelta::seconds(seconds));
            assert_eq!(world.change(async |tx| shared::events::advance(tx, 10).await).await, moved);
            assert_eq!(organizer.get(&place).await.expect(200)["status"], status);
        }
    })
    .await;
}
