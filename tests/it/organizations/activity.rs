use serde_json::json;
use shared::activity;
use tests::{World, harbour_hall, world};

use super::{each, found};

async fn seal(world: &World) {
    world.change(async |tx| activity::seal(tx, 100).await).await;
}

#[tokio::test]
async fn a_follower_misses_nothing_and_sees_nothing_twice() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let rivals = found(world, "Rivals").await;
        let owner = &lighthouse.owner.client;
        let place = lighthouse.at("/activity");
        // What is not sealed yet is not there yet.
        let empty = owner.get(&place).await.expect(200);
        assert_eq!(empty, json!({"items": [], "next": "0"}));

        let (mut kinds, mut positions, mut after) = (Vec::new(), Vec::new(), "0".to_owned());
        for round in 0..4 {
            owner.post("/venues", &harbour_hall()).await.expect(201);
            rivals
                .owner
                .client
                .post("/venues", &harbour_hall())
                .await
                .expect(201);
            if round % 2 == 0 {
                seal(world).await;
            }
            for _ in 0..2 {
                let page = owner
                    .get(&format!("{place}?after={after}&limit=2"))
                    .await
                    .expect(200);
                kinds.extend(
                    each(&page, "kind")
                        .into_iter()
                        .map(|kind| kind.as_str().expect("text").to_owned()),
                );
                positions.extend(each(&page, "position").into_iter().cloned());
                after = page["next"].as_str().expect("a cursor").to_owned();
            }
        }
        seal(world).await;
        let rest = owner
            .get(&format!("{place}?after={after}"))
            .await
            .expect(200);
        kinds.extend(
            each(&rest, "kind")
                .into_iter()
                .map(|kind| kind.as_str().expect("text").to_owned()),
        );
        positions.extend(each(&rest, "position").into_iter().cloned());
        let mut expected = vec!["organization.created", "member.added"];
        expected.extend(["venue.created"; 4]);
        assert_eq!(kinds, expected);
        assert_eq!(
            positions,
            [1, 2, 3, 4, 5, 6].map(|position| json!(position))
        );

        let line = &rest["items"]
            .as_array()
            .expect("items")
            .last()
            .expect("a line");
        assert_eq!(
            (&line["actor_kind"], &line["actor_id"]),
            (&json!("user"), &json!(lighthouse.owner.id))
        );
        assert_eq!(line["data"], json!({"name": "Harbour Hall"}));
        assert!(line["cause"].is_string());
    })
    .await;
}

#[tokio::test]
async fn only_those_with_the_right_follow() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let rivals = found(world, "Rivals").await;
        let place = lighthouse.at("/activity");
        let organizer = lighthouse.with(world, "organizer").await;
        organizer.client.get(&place).await.refused(403, "FORBIDDEN");
        rivals
            .owner
            .client
            .get(&place)
            .await
            .refused(404, "ORGANIZATION_NOT_FOUND");
        world
            .stranger()
            .get(&place)
            .await
            .refused(401, "UNAUTHENTICATED");
        let auditor = lighthouse.role("Auditor", &["activity:read"]).await;
        lighthouse.give(&organizer, &auditor["id"]).await;
        organizer.client.get(&place).await.expect(200);
        for bad in [
            "after=x",
            "after=-1",
            "after=",
            "after=99999999999999999999",
        ] {
            let bad = organizer.client.get(&format!("{place}?{bad}")).await;
            assert_eq!(bad.bad_fields(), ["after"]);
        }
        let bad = organizer.client.get(&format!("{place}?limit=101")).await;
        assert_eq!(bad.bad_fields(), ["limit"]);
    })
    .await;
}
