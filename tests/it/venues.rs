//! Venues, through the API.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::{Client, harbour_hall, workshop, world};

async fn create(client: &Client, name: &str, city: &str, capacity: i32) -> Value {
    let mut venue = harbour_hall();
    venue["name"] = json!(name);
    venue["city"] = json!(city);
    venue["capacity"] = json!(capacity);
    client.post("/venues", &venue).await.expect(201)
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items").iter();
    items
        .map(|venue| venue["name"].as_str().expect("a name"))
        .collect()
}

fn at(venue: &Value) -> String {
    format!("/venues/{}", venue["id"].as_str().expect("an id"))
}

#[tokio::test]
async fn a_venue_is_created_read_changed_and_deleted() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let created = lighthouse.organizer.post("/venues", &harbour_hall()).await;
        let place = created.header("location").expect("a location").to_owned();
        assert_eq!(created.header("etag"), Some("\"1\""));
        let venue = created.expect(201);
        insta::assert_json_snapshot!(venue, { ".id" => "[id]", ".organization_id" => "[organization]" });
        assert_eq!(venue["organization_id"], json!(lighthouse.id));

        let read = world.stranger().get(&place).await;
        assert_eq!(read.header("etag"), Some("\"1\""));
        assert_eq!(read.expect(200), venue);

        world.pass(TimeDelta::hours(1));
        let change = json!({"capacity": 900, "contact": null, "version": 1});
        let changed = lighthouse.organizer.put(&place, &change).await.expect(200);
        assert_eq!((&changed["capacity"], &changed["contact"]), (&json!(900), &Value::Null));
        assert_eq!((&changed["name"], &changed["version"]), (&venue["name"], &json!(2)));
        assert_eq!(changed["updated_at"], "2026-01-15T11:30:00Z");

        lighthouse.organizer.delete(&place).await.expect(204);
        world.stranger().get(&place).await.refused(404, "VENUE_NOT_FOUND");
        lighthouse.organizer.delete(&place).await.refused(404, "VENUE_NOT_FOUND");
        lighthouse.organizer.put(&place, &change).await.refused(404, "VENUE_NOT_FOUND");
        assert_eq!(world.stranger().get("/venues").await.expect(200)["total"], 0);

        let told = world.activity_of(&venue["id"]).await;
        let kinds: Vec<&str> = told.iter().map(|(_, kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["venue.created", "venue.changed", "venue.deleted"]);
        assert!(told.iter().all(|(who, ..)| who == "api_key"));
        assert_eq!(told[1].2, json!({"capacity": [1200, 900], "contact": "changed"}));
    })
    .await;
}

#[tokio::test]
async fn every_bad_field_is_named_and_nothing_is_kept() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let bad = json!({
            "name": "   ", "address": 5, "country": "Germany", "capacity": 0, "colour": "red",
            "state": null,
        });
        let fields = organizer.post("/venues", &bad).await.bad_fields();
        assert_eq!(
            fields,
            ["address", "capacity", "city", "colour", "country", "name"]
        );

        let mut nul = harbour_hall();
        nul["layout"] = json!({"rows": [{"name": "A\u{0}"}]});
        assert_eq!(
            organizer.post("/venues", &nul).await.bad_fields(),
            ["layout.rows[0].name"]
        );

        let venue = create(&organizer, "The Loft", "Porto", 80).await;
        let bad = json!({"name": null, "capacity": 3_000_000_000_i64, "state": null, "version": 1});
        assert_eq!(
            organizer.put(&at(&venue), &bad).await.bad_fields(),
            ["capacity", "name"]
        );
        assert_eq!(world.stranger().get(&at(&venue)).await.expect(200), venue);
    })
    .await;
}

#[tokio::test]
async fn two_who_change_at_once_never_overwrite_each_other() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let venue = create(&organizer, "The Loft", "Porto", 80).await;

        let (first, second) = (json!({"capacity": 81}), json!({"capacity": 82}));
        let seen = organizer.with("if-match", "\"1\"");
        let place = at(&venue);
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
        assert_eq!(world.stranger().get(&place).await.expect(200), won);

        organizer
            .put(&place, &json!({"capacity": 83}))
            .await
            .refused(428, "VERSION_REQUIRED");
        seen.delete(&place).await.refused(409, "CONCURRENT_UPDATE");
        let wild = organizer.with("if-match", "*");
        assert_eq!(
            wild.put(&place, &json!({"capacity": 84})).await.expect(200)["version"],
            3
        );
        let nonsense = organizer.with("if-match", "yesterday's");
        assert_eq!(
            nonsense
                .put(&place, &json!({"capacity": 85}))
                .await
                .bad_fields(),
            ["If-Match"]
        );
    })
    .await;
}

#[tokio::test]
async fn a_change_that_changes_nothing_leaves_no_trace() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let venue = create(&organizer, "The Loft", "Porto", 80).await;
        let same = json!({"capacity": 80, "name": "The Loft", "version": 1});
        assert_eq!(organizer.put(&at(&venue), &same).await.expect(200), venue);
        assert_eq!(world.activity_of(&venue["id"]).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_venue_with_events_to_come_stays() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let venue = create(&lighthouse.organizer, "The Loft", "Porto", 80).await;
        let mut gala = workshop();
        gala["venue_id"] = venue["id"].clone();
        lighthouse
            .organizer
            .post("/events", &gala)
            .await
            .expect(201);
        gala["title"] = json!("Called off");
        let off = lighthouse
            .organizer
            .post("/events", &gala)
            .await
            .expect(201);
        let status = format!("/events/{}/status", off["id"].as_str().expect("an id"));
        let cancel = json!({"status": "cancelled", "reason": "Storm", "version": 1});
        lighthouse.organizer.put(&status, &cancel).await.expect(200);

        let refused = lighthouse.organizer.delete(&at(&venue)).await;
        assert_eq!(refused.refused(409, "VENUE_IN_USE"), json!({"events": 1}));

        world.pass(TimeDelta::days(27));
        lighthouse.organizer.delete(&at(&venue)).await.expect(204);
    })
    .await;
}

#[tokio::test]
async fn only_its_own_organization_may_change_a_venue() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let rivals = world.organizer("rivals").await;
        let venue = create(&lighthouse.organizer, "The Loft", "Porto", 80).await;
        let change = json!({"capacity": 1, "version": 1});

        for (client, status, code) in [
            (world.stranger(), 401, "UNAUTHENTICATED"),
            (world.with_key("hf_guessed"), 401, "UNAUTHENTICATED"),
            (lighthouse.member.clone(), 403, "FORBIDDEN"),
            (rivals.organizer.clone(), 403, "FORBIDDEN"),
        ] {
            client.put(&at(&venue), &change).await.refused(status, code);
            client.delete(&at(&venue)).await.refused(status, code);
        }
        let mut theirs = harbour_hall();
        theirs["organization_id"] = json!(lighthouse.id);
        rivals
            .organizer
            .post("/venues", &theirs)
            .await
            .refused(403, "FORBIDDEN");
        assert_eq!(world.stranger().get(&at(&venue)).await.expect(200), venue);
    })
    .await;
}

#[tokio::test]
async fn venues_are_found_by_city_by_name_and_in_spite_of_a_typo() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let rivals = world.organizer("rivals").await;
        create(&lighthouse.organizer, "Harbour Hall", "Hamburg", 1200).await;
        create(&lighthouse.organizer, "100% Club", "Hamburg", 300).await;
        create(&rivals.organizer, "The Loft", "Porto", 80).await;
        let closed = create(&rivals.organizer, "Closed Cellar", "Porto", 40).await;
        let inactive = json!({"active": false, "version": 1});
        rivals
            .organizer
            .put(&at(&closed), &inactive)
            .await
            .expect(200);

        let anybody = world.stranger();
        let theirs = format!("organization_id={}", rivals.id);
        for (query, found) in [
            ("", vec!["100% Club", "Harbour Hall", "The Loft"]),
            ("city=hamburg", vec!["100% Club", "Harbour Hall"]),
            ("q=harb", vec!["Harbour Hall"]),
            ("search=LOFT", vec!["The Loft"]),
            ("q=habour+hall", vec!["Harbour Hall"]),
            ("q=100%25", vec!["100% Club"]),
            ("q=%25", vec!["100% Club"]),
            ("q=nowhere", vec![]),
            (&theirs, vec!["The Loft"]),
            ("active=false", vec!["Closed Cellar"]),
            (
                "sort=capacity&order=desc",
                vec!["Harbour Hall", "100% Club", "The Loft"],
            ),
            (
                "sort=city&order=desc",
                vec!["The Loft", "Harbour Hall", "100% Club"],
            ),
        ] {
            let list = anybody.get(&format!("/venues?{query}")).await.expect(200);
            assert_eq!(names(&list), found, "{query}");
        }
    })
    .await;
}

#[tokio::test]
async fn leafing_shows_each_venue_once() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        for number in 0..5 {
            create(&organizer, &format!("Room {number}"), "Porto", 50).await;
        }
        let anybody = world.stranger();
        let mut seen = Vec::new();
        for page in 1..=3 {
            let list = anybody
                .get(&format!("/venues?sort=capacity&limit=2&page={page}"))
                .await;
            let list = list.expect(200);
            seen.extend(names(&list).into_iter().map(str::to_owned));
            assert_eq!(
                (&list["total"], &list["has_more"]),
                (&json!(5), &json!(page < 3))
            );
        }
        seen.sort();
        assert_eq!(seen, ["Room 0", "Room 1", "Room 2", "Room 3", "Room 4"]);

        let bad = anybody.get("/venues?page=0&limit=101").await.bad_fields();
        assert_eq!(bad, ["limit", "page"]);
        let bad = "/venues?page=x&limit=y&active=perhaps&organization_id=7&sort=smell";
        let bad = anybody.get(bad).await.bad_fields();
        assert_eq!(bad, ["active", "limit", "organization_id", "page", "sort"]);
        assert_eq!(anybody.get("/venues?q=%00").await.bad_fields(), ["query"]);
    })
    .await;
}

#[tokio::test]
async fn a_reader_who_has_this_version_is_told_so() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let venue = create(&organizer, "The Loft", "Porto", 80).await;
        let reader = world.stranger().with("if-none-match", "\"1\"");
        let same = reader.get(&at(&venue)).await;
        assert_eq!((same.status, same.text.as_str()), (304, ""));
        organizer
            .put(&at(&venue), &json!({"capacity": 81, "version": 1}))
            .await
            .expect(200);
        assert_eq!(reader.get(&at(&venue)).await.expect(200)["version"], 2);
    })
    .await;
}
