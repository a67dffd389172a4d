//! Events, their sessions and ticket types, through the API.

mod odd;
mod sessions;
mod ticket_types;

use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::access;
use tests::{Client, World, harbour_hall, workshop, world};

fn at(event: &Value) -> String {
    format!("/events/{}", event["id"].as_str().expect("an id"))
}

fn codes(sessions: &Value) -> Vec<&str> {
    let sessions = sessions.as_array().expect("sessions").iter();
    sessions
        .map(|session| session["code"].as_str().expect("a code"))
        .collect()
}

fn session(name: &str, from: &str, to: &str) -> Value {
    json!({"name": name, "starts_at": from, "ends_at": to, "capacity": 20})
}

async fn create(client: &Client) -> Value {
    client.post("/events", &workshop()).await.expect(201)
}

/// Puts an event on sale; answers it as it is then.
async fn publish(client: &Client, event: &Value) -> Value {
    let ticket = json!({"name": "Standard", "price": 4500, "included_sessions": ["S1"]});
    let types = format!("{}/ticket-types", at(event));
    client.post(&types, &ticket).await.expect(201);
    let status = format!("{}/status", at(event));
    let version = &event["version"];
    let to = json!({"status": "published", "version": version});
    client.put(&status, &to).await.expect(200)
}

async fn sell(world: &World, pool: &Value, number: i32) {
    let pool: uuid::Uuid = pool.as_str().and_then(|id| id.parse().ok()).expect("an id");
    sqlx::query("update pools set sold = sold + $2, version = version + 1 where id = $1")
        .bind(pool)
        .bind(number)
        .execute(world.app.pool())
        .await
        .expect("places");
}

#[tokio::test]
async fn an_event_is_made_published_found_and_cancelled() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let organizer = &lighthouse.organizer;
        let venue = organizer.post("/venues", &harbour_hall()).await.expect(201);
        let mut new = workshop();
        new["venue_id"] = venue["id"].clone();
        new["description"] = json!("<p onclick=\"x()\">Rope<script>steal()</script></p>");
        let event = organizer.post("/events", &new).await.expect(201);
        assert_eq!(event["description"], "<p>Rope</p>");
        assert_eq!(
            (&event["status"], &event["slug"]),
            (&json!("draft"), &json!("rope-basics"))
        );
        assert_eq!(codes(&event["sessions"]), ["S1"]);
        assert_eq!(event["sessions"][0]["capacity"], 20);

        // A draft is for its organization.
        let stranger = world.stranger();
        stranger
            .get(&at(&event))
            .await
            .refused(404, "EVENT_NOT_FOUND");
        assert_eq!(stranger.get("/events").await.expect(200)["total"], 0);
        assert_eq!(organizer.get("/admin/events").await.expect(200)["total"], 1);

        let status = format!("{}/status", at(&event));
        let go = json!({"status": "published", "version": 1});
        let missing = organizer
            .put(&status, &go)
            .await
            .refused(409, "EVENT_NOT_READY");
        assert_eq!(missing, json!({"missing": ["a ticket type"]}));
        let published = publish(organizer, &event).await;
        assert_eq!(
            stranger.get("/events/rope-basics").await.expect(200),
            published
        );
        for found in [
            "q=roap+basics",
            "city=HAMBURG",
            "event_type=class",
            "featured=false",
            "date_from=2026-02-01T00:00:00Z&date_to=2026-02-28T00:00:00Z",
        ] {
            let list = stranger.get(&format!("/events?{found}")).await.expect(200);
            assert_eq!(list["items"][0]["id"], event["id"], "{found}");
        }
        for not in [
            "q=opera",
            "city=Porto",
            "event_type=concert",
            "featured=true",
            "date_to=2026-01-20T00:00:00Z",
        ] {
            assert_eq!(
                stranger.get(&format!("/events?{not}")).await.expect(200)["total"],
                0,
                "{not}"
            );
        }

        let cancel = json!({"status": "cancelled", "version": 2});
        assert_eq!(
            organizer.put(&status, &cancel).await.bad_fields(),
            ["reason"]
        );
        let cancel = json!({"status": "cancelled", "reason": "Storm", "version": 2});
        assert_eq!(
            organizer.put(&status, &cancel).await.expect(200)["status_reason"],
            "Storm"
        );
        let back = json!({"status": "published", "version": 3});
        let refused = organizer
            .put(&status, &back)
            .await
            .refused(409, "STATUS_NOT_REACHABLE");
        assert_eq!(refused, json!({"status": "cancelled", "reachable": []}));
        assert_eq!(stranger.get("/events").await.expect(200)["total"], 0);
        // Whoever has the link is told what became of it.
        assert_eq!(
            stranger.get(&at(&event)).await.expect(200)["status"],
            "cancelled"
        );
    })
    .await;
}

#[tokio::test]
async fn what_has_begun_or_is_cancelled_keeps_all_but_its_description() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = publish(&organizer, &create(&organizer).await).await;
        world.pass(TimeDelta::hours(26 * 24 + 8));
        assert_eq!(
            world
                .change(async |tx| shared::events::advance(tx, 10).await)
                .await,
            1
        );
        let begun = world.stranger().get(&at(&event)).await.expect(200);
        assert_eq!(
            (&begun["status"], &begun["version"]),
            (&json!("in_progress"), &json!(3))
        );

        let title = json!({"title": "Another", "version": 3});
        organizer
            .put(&at(&event), &title)
            .await
            .refused(409, "EVENT_NOT_MODIFIABLE");
        let sessions = format!("{}/sessions", at(&event));
        let late = session("Late", "2026-03-01T10:00:00Z", "2026-03-01T12:00:00Z");
        organizer
            .post(&sessions, &late)
            .await
            .refused(409, "EVENT_NOT_MODIFIABLE");
        let description = json!({"description": "It is on.", "version": 3});
        organizer.put(&at(&event), &description).await.expect(200);

        world.pass(TimeDelta::days(2));
        assert_eq!(
            world
                .change(async |tx| shared::events::advance(tx, 10).await)
                .await,
            1
        );
        assert_eq!(
            world.stranger().get(&at(&event)).await.expect(200)["status"],
            "completed"
        );
        let list = world.stranger().get("/events").await.expect(200);
        let past = world
            .stranger()
            .get("/events?show_past=true")
            .await
            .expect(200);
        assert_eq!((&list["total"], &past["total"]), (&json!(0), &json!(1)));
    })
    .await;
}

#[tokio::test]
async fn no_capacity_goes_below_what_is_sold() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut new = workshop();
        new["total_capacity"] = json!(15);
        let event = organizer.post("/events", &new).await.expect(201);
        sell(world, &event["id"], 7).await;
        sell(world, &event["sessions"][0]["id"], 7).await;

        let place = format!("{}/sessions/S1", at(&event));
        let refused = organizer
            .put(&place, &json!({"capacity": 6, "version": 1}))
            .await;
        assert_eq!(
            refused.refused(409, "CAPACITY_BELOW_SOLD"),
            json!({"taken": 7})
        );
        let kept = organizer
            .put(&place, &json!({"capacity": 7, "version": 1}))
            .await
            .expect(200);
        assert_eq!((&kept["capacity"], &kept["sold"]), (&json!(7), &json!(7)));
        let refused = organizer
            .put(&at(&event), &json!({"total_capacity": 6, "version": 1}))
            .await;
        refused.refused(409, "CAPACITY_BELOW_SOLD");
        organizer
            .delete(&place)
            .await
            .refused(409, "SESSION_IN_USE");
        let refused = organizer.delete(&at(&event)).await;
        assert_eq!(
            refused.refused(409, "EVENT_HAS_REGISTRATIONS"),
            json!({"sold": 7})
        );

        let wider = json!({"total_capacity": null, "version": 1});
        let wider = organizer.put(&at(&event), &wider).await.expect(200);
        assert_eq!(
            (&wider["own_capacity"], &wider["total_capacity"]),
            (&Value::Null, &json!(7)),
            "that of its largest session"
        );
        sell(world, &event["sessions"][0]["id"], -7).await;
        organizer.delete(&at(&event)).await.expect(204);
        organizer
            .get(&at(&event))
            .await
            .refused(404, "EVENT_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn two_who_change_an_event_at_once_never_overwrite_each_other() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let place = at(&create(&organizer).await);
        let seen = organizer.with("if-match", "\"1\"");
        let (first, second) = (json!({"title": "First"}), json!({"title": "Second"}));
        let (first, second) = tokio::join!(seen.put(&place, &first), seen.put(&place, &second));
        let (won, lost) = if first.status == 200 {
            (first, second)
        } else {
            (second, first)
        };
        let won = won.expect(200);
        assert_eq!(
            lost.refused(409, "CONCURRENT_UPDATE"),
            json!({"current_version": 2})
        );
        assert_eq!(organizer.get(&place).await.expect(200), won);
        // Links stay good.
        assert_eq!(won["slug"], "rope-basics");
    })
    .await;
}

#[tokio::test]
async fn every_bad_field_of_an_event_is_named() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let rivals = world.organizer("rivals").await;
        let organizer = &lighthouse.organizer;
        let mut past = workshop();
        past["starts_at"] = json!("2026-01-10T18:00:00Z");
        past["ends_at"] = json!("2026-01-09T18:00:00Z");
        assert_eq!(
            organizer.post("/events", &past).await.bad_fields(),
            ["ends_at", "starts_at"]
        );

        let mut both = workshop();
        both["sessions"] = json!([session("A", "2026-02-01T10:00:00Z", "2026-02-01T09:00:00Z")]);
        assert_eq!(
            organizer.post("/events", &both).await.bad_fields(),
            ["capacity", "ends_at", "sessions[0].ends_at", "starts_at"]
        );

        let theirs = rivals
            .organizer
            .post("/venues", &harbour_hall())
            .await
            .expect(201);
        let mut odd = workshop();
        odd["time_zone"] = json!("Europe/Atlantis");
        odd["image_urls"] = json!(["javascript:alert(1)"]);
        assert_eq!(
            organizer.post("/events", &odd).await.bad_fields(),
            ["image_urls", "time_zone"]
        );
        let mut elsewhere = workshop();
        elsewhere["venue_id"] = theirs["id"].clone();
        assert_eq!(
            organizer.post("/events", &elsewhere).await.bad_fields(),
            ["venue_id"]
        );

        let event = create(organizer).await;
        let types = format!("{}/ticket-types", at(&event));
        let bad = json!({"name": "All", "price": 1, "included_sessions": ["S1", "S1", "S9"],
                         "min_per_order": 3, "max_per_order": 2});
        assert_eq!(
            organizer.post(&types, &bad).await.bad_fields(),
            [
                "included_sessions[1]",
                "included_sessions[2]",
                "max_per_order"
            ]
        );
        assert_eq!(organizer.get(&types).await.expect(200)["items"], json!([]));
        // To the rivals a draft does not exist.
        let change = json!({"title": "Taken over", "version": 1});
        rivals
            .organizer
            .put(&at(&event), &change)
            .await
            .refused(404, "EVENT_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn an_event_for_the_vetted_does_not_exist_for_others() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let mut new = workshop();
        new["required_vetting_level"] = json!(3);
        let event = lighthouse.organizer.post("/events", &new).await.expect(201);
        publish(&lighthouse.organizer, &event).await;
        let (plain, vetted) = (
            world.member(lighthouse.id, "member").await,
            world.member(lighthouse.id, "door").await,
        );
        sqlx::query("update members set vetting_level = 3 where user_id = $1")
            .bind(vetted.id.0)
            .execute(world.app.pool())
            .await
            .expect("vetted");
        for client in [&world.stranger(), &plain.client] {
            client
                .get(&at(&event))
                .await
                .refused(404, "EVENT_NOT_FOUND");
            assert_eq!(client.get("/events").await.expect(200)["total"], 0);
        }
        vetted.client.get(&at(&event)).await.expect(200);
        assert_eq!(vetted.client.get("/events").await.expect(200)["total"], 1);
        let ours = lighthouse.organizer.get("/events").await.expect(200);
        assert_eq!(ours["total"], 1, "who runs it sees it");
    })
    .await;
}

#[tokio::test]
async fn a_role_of_events_read_and_write_may_do_exactly_that() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let event = create(&lighthouse.organizer).await;
        let scopes = ["events:read".to_owned(), "events:write".to_owned()];
        let key = world
            .change(async |tx| {
                let now = tx.now();
                access::create_api_key(tx, lighthouse.id, "editor", &scopes, now).await
            })
            .await;
        let owner = world.member(lighthouse.id, "owner").await.client;
        let person = world.person("editor").await;
        let role = json!({"name": "editor", "rights": scopes});
        let roles = format!("/organizations/{}/roles", lighthouse.id);
        let role = owner.post(&roles, &role).await.expect(201);
        world.join(person.id, lighthouse.id, "member").await;
        let member = format!("/organizations/{}/members/{}", lighthouse.id, person.id);
        owner
            .put(&member, &json!({"role_id": role["id"]}))
            .await
            .expect(200);

        for (number, editor) in (1..).zip([person.client, world.with_key(&key)]) {
            assert_eq!(editor.get("/admin/events").await.expect(200)["total"], 1);
            editor.get(&at(&event)).await.expect(200);
            let change = json!({"category": format!("Edit {number}"), "version": number});
            editor.put(&at(&event), &change).await.expect(200);

            editor
                .post("/events", &workshop())
                .await
                .refused(403, "FORBIDDEN");
            editor.delete(&at(&event)).await.refused(403, "FORBIDDEN");
            let another = session("A", "2026-02-11T18:00:00Z", "2026-02-11T20:00:00Z");
            editor
                .post(&format!("{}/sessions", at(&event)), &another)
                .await
                .refused(403, "FORBIDDEN");
            let ticket = json!({"name": "Standard", "price": 1, "included_sessions": ["S1"]});
            editor
                .post(&format!("{}/ticket-types", at(&event)), &ticket)
                .await
                .refused(403, "FORBIDDEN");
            editor
                .post("/venues", &harbour_hall())
                .await
                .refused(403, "FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn a_teacher_reads_the_drafts_they_are_assigned_to_and_no_others() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let teacher = world.member(lighthouse.id, "teacher").await;
        let door = world.member(lighthouse.id, "door").await;
        let stranger = world.person("somebody").await;
        let mut new = workshop();
        new["teacher_ids"] = json!([teacher.id, door.id]);
        let theirs = lighthouse.organizer.post("/events", &new).await.expect(201);
        let other = create(&lighthouse.organizer).await;

        teacher.client.get(&at(&theirs)).await.expect(200);
        teacher
            .client
            .get(&at(&other))
            .await
            .refused(404, "EVENT_NOT_FOUND");
        // The door has no right to read events, assigned or not.
        door.client
            .get(&at(&theirs))
            .await
            .refused(404, "EVENT_NOT_FOUND");
        for closed in [&teacher.client, &door.client] {
            closed.get("/admin/events").await.refused(403, "FORBIDDEN");
            closed
                .put(&at(&theirs), &json!({"title": "Mine", "version": 1}))
                .await
                .refused(403, "FORBIDDEN");
        }

        let unknown = json!({"teacher_ids": [teacher.id, stranger.id], "version": 1});
        let refused = lighthouse.organizer.put(&at(&theirs), &unknown).await;
        assert_eq!(refused.bad_fields(), ["teacher_ids"]);
        let nobody = json!({"teacher_ids": [], "version": 1});
        lighthouse
            .organizer
            .put(&at(&theirs), &nobody)
            .await
            .expect(200);
        teacher
            .client
            .get(&at(&theirs))
            .await
            .refused(404, "EVENT_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn an_event_is_not_named_like_an_address_of_ours() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut new = workshop();
        new["title"] = json!("Featured");
        let event = organizer.post("/events", &new).await.expect(201);
        let slug = event["slug"].as_str().expect("a slug");
        assert!(slug.starts_with("featured-"), "{slug}");
        let found = organizer.get(&format!("/events/{slug}")).await.expect(200);
        assert_eq!(found["id"], event["id"]);
    })
    .await;
}
