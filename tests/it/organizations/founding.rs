use serde_json::{Value, json};
use tests::world;

use super::{each, found};

#[tokio::test]
async fn whoever_founds_an_organization_owns_it() {
    world(async |world| {
        let ada = world.person("ada").await;
        let new = json!({
            "name": "Lighthouse Events", "currency": "GBP", "time_zone": "Europe/London",
            "contact": "hello@lighthouse.example",
        });
        let made = ada.client.post("/organizations", &new).await;
        let place = made.header("location").expect("a location").to_owned();
        assert_eq!(made.header("etag"), Some("\"1\""));
        let made = made.expect(201);
        assert_eq!(made["slug"], "lighthouse-events");
        assert_eq!(made["settings"]["hold_minutes"], 10);
        assert_eq!(ada.client.get(&place).await.expect(200), made);

        let mine = ada.client.get("/organizations").await.expect(200);
        assert_eq!(
            (&mine["total"], each(&mine, "role")),
            (&json!(1), vec![&json!("owner")])
        );

        // The same name again gets another slug; a slug that is asked for by name is refused.
        let again = ada.client.post("/organizations", &new).await.expect(201);
        let slug = again["slug"].as_str().expect("a slug");
        assert!(slug.starts_with("lighthouse-events-"), "{slug}");
        let taken = json!({"name": "Mine", "slug": "lighthouse-events"});
        ada.client
            .post("/organizations", &taken)
            .await
            .refused(409, "SLUG_TAKEN");

        let told = world.activity_of(&made["id"]).await;
        assert_eq!(told[0].1, "organization.created");
    })
    .await;
}

#[tokio::test]
async fn settings_are_changed_by_version_and_checked() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner.client;
        let change = json!({
            "version": 1, "name": "Lighthouse Events", "currency": "NOK", "time_zone": "Europe/Oslo",
            "contact": "Pier 3", "settings": {
                "hold_minutes": 15, "reminder_hours": [2, 48],
                "refund_policy": {"full_until_hours": 72, "partial_percent": 50, "partial_until_hours": 24,
                                  "keep_fees": true},
            },
        });
        let changed = owner.put(&lighthouse.place, &change).await;
        assert_eq!(changed.header("etag"), Some("\"2\""));
        let changed = changed.expect(200);
        assert_eq!(changed["settings"]["reminder_hours"], json!([48, 2]));
        assert_eq!((&changed["slug"], &changed["time_zone"]), (&json!("lighthouse"), &json!("Europe/Oslo")));

        // What is left out stays, inside the settings too; what changes nothing makes no version.
        let one = json!({"version": 2, "settings": {"hold_minutes": 20}});
        let one = owner.put(&lighthouse.place, &one).await.expect(200);
        assert_eq!(one["settings"]["refund_policy"], changed["settings"]["refund_policy"]);
        let same = json!({"version": 3, "settings": {"hold_minutes": 20}, "contact": "Pier 3"});
        assert_eq!(owner.put(&lighthouse.place, &same).await.expect(200), one);

        let stale = json!({"version": 1, "name": "Late"});
        let stale = owner.put(&lighthouse.place, &stale).await;
        assert_eq!(stale.refused(409, "CONCURRENT_UPDATE"), json!({"current_version": 3}));
        let blind = owner.put(&lighthouse.place, &json!({"name": "Blind"})).await;
        blind.refused(428, "VERSION_REQUIRED");

        let told = world.activity_of(&json!(lighthouse.id)).await;
        assert_eq!(told.len(), 3);
        assert_eq!(told[1].2["currency"], json!(["EUR", "NOK"]));
    })
    .await;
}

#[tokio::test]
async fn every_bad_field_is_named() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner.client;
        for (change, fields) in [
            (json!({"time_zone": "Atlantis"}), vec!["time_zone"]),
            (json!({"slug": "other"}), vec!["slug"]),
            (
                json!({"name": " ", "currency": "eur", "settings": {"hold_minutes": 61, "colour": 1}}),
                vec!["currency", "name", "settings.colour", "settings.hold_minutes"],
            ),
            (json!({"settings": {"hold_minutes": 0}}), vec!["settings.hold_minutes"]),
            (json!({"settings": {"reminder_hours": [0]}}), vec!["settings.reminder_hours"]),
            (
                json!({"settings": {"refund_policy": {"full_until_hours": 1, "partial_percent": 101,
                                                      "partial_until_hours": 0, "keep_fees": true}}}),
                vec!["settings.refund_policy.partial_percent"],
            ),
        ] {
            let mut change: Value = change;
            change["version"] = json!(1);
            let answer = owner.put(&lighthouse.place, &change).await;
            assert_eq!(answer.bad_fields(), fields);
        }
        let bad = json!({"name": "X", "slug": "No Slug", "time_zone": "Mars"});
        assert_eq!(owner.post("/organizations", &bad).await.bad_fields(), ["slug"]);
        let bad = json!({"name": "X", "time_zone": "Mars"});
        assert_eq!(owner.post("/organizations", &bad).await.bad_fields(), ["time_zone"]);
    })
    .await;
}

#[tokio::test]
async fn what_one_does_not_belong_to_does_not_exist() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let rivals = found(world, "Rivals").await;
        let plain = lighthouse.with(world, "member").await;
        let nobody = world.person("nobody").await;
        let change = json!({"version": 1, "name": "Taken over"});
        for (client, status, code) in [
            (&world.stranger(), 401, "UNAUTHENTICATED"),
            (&nobody.client, 404, "ORGANIZATION_NOT_FOUND"),
            (&rivals.owner.client, 404, "ORGANIZATION_NOT_FOUND"),
            (&plain.client, 403, "FORBIDDEN"),
        ] {
            client.get(&lighthouse.place).await.refused(status, code);
            client
                .put(&lighthouse.place, &change)
                .await
                .refused(status, code);
            client
                .get(&lighthouse.at("/members"))
                .await
                .refused(status, code);
        }
        // Whoever may look and no more is told so.
        let organizer = lighthouse.with(world, "organizer").await.client;
        organizer.get(&lighthouse.place).await.expect(200);
        organizer
            .put(&lighthouse.place, &change)
            .await
            .refused(403, "FORBIDDEN");
        // One that is nowhere and one that belongs to others read the same.
        let nowhere = format!("/organizations/{}", plain.id);
        rivals
            .owner
            .client
            .get(&nowhere)
            .await
            .refused(404, "ORGANIZATION_NOT_FOUND");
        let garbled = rivals.owner.client.get("/organizations/7").await;
        assert_eq!(garbled.bad_fields(), ["organization_id"]);
        assert_eq!(
            lighthouse
                .owner
                .client
                .get(&lighthouse.place)
                .await
                .expect(200)["name"],
            "Lighthouse"
        );
    })
    .await;
}

#[tokio::test]
async fn a_platform_administrator_sees_all_of_them() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        found(world, "Rivals").await;
        let admin = world.person("admin").await;
        world
            .change(async |tx| shared::accounts::make_platform_admin(tx, admin.id).await)
            .await;
        assert_eq!(
            admin.client.get("/organizations").await.expect(200)["total"],
            0
        );
        let all = admin
            .client
            .get("/organizations?all=true")
            .await
            .expect(200);
        assert_eq!(each(&all, "name"), ["Lighthouse", "Rivals"]);
        admin.client.get(&lighthouse.place).await.expect(200);
        let nowhere = format!("/organizations/{}/members", admin.id);
        admin
            .client
            .get(&nowhere)
            .await
            .refused(404, "ORGANIZATION_NOT_FOUND");
        let owner = &lighthouse.owner.client;
        owner
            .get("/organizations?all=true")
            .await
            .refused(403, "FORBIDDEN");
    })
    .await;
}
