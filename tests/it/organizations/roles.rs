use serde_json::json;
use tests::{harbour_hall, world};

use super::{built_in, each, found};

#[tokio::test]
async fn a_role_of_its_own_can_do_exactly_what_it_says() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner.client;
        let venue = owner.post("/venues", &harbour_hall()).await.expect(201);
        let venue = format!("/venues/{}", venue["id"].as_str().expect("an id"));
        let keeper = lighthouse.with(world, "member").await;
        let change = json!({"capacity": 10, "version": 1});
        keeper
            .client
            .put(&venue, &change)
            .await
            .refused(403, "FORBIDDEN");

        let role = lighthouse
            .role("Keeper", &["venues:write", "venues:read"])
            .await;
        assert_eq!(role["rights"], json!(["venues:read", "venues:write"]));
        lighthouse.give(&keeper, &role["id"]).await;
        keeper.client.put(&venue, &change).await.expect(200);
        keeper.client.delete(&venue).await.refused(403, "FORBIDDEN");
        keeper
            .client
            .post("/venues", &harbour_hall())
            .await
            .refused(403, "FORBIDDEN");
        for other in ["", "/members", "/roles", "/api-keys", "/activity"] {
            let answer = keeper.client.get(&lighthouse.at(other)).await;
            answer.refused(403, "FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn a_changed_role_holds_in_every_process_from_the_next_request_on() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let elsewhere = world.another_process().await;
        let keeper = lighthouse.with(world, "member").await;
        let (here, there) = (keeper.client.clone(), keeper.client.at(&elsewhere));
        let create = harbour_hall();
        for client in [&here, &there] {
            client
                .post("/venues", &create)
                .await
                .refused(403, "FORBIDDEN");
        }
        let role = lighthouse.role("Keeper", &["venues:create"]).await;
        lighthouse.give(&keeper, &role["id"]).await;
        for client in [&here, &there] {
            client.post("/venues", &create).await.expect(201);
        }
        let place = lighthouse.at(&format!("/roles/{}", role["id"].as_str().expect("an id")));
        let less = json!({"rights": ["venues:read"]});
        let changed = lighthouse
            .owner
            .client
            .at(&elsewhere)
            .put(&place, &less)
            .await
            .expect(200);
        assert_eq!(
            (&changed["name"], &changed["rights"]),
            (&json!("Keeper"), &json!(["venues:read"]))
        );
        for client in [&here, &there] {
            client
                .post("/venues", &create)
                .await
                .refused(403, "FORBIDDEN");
        }
        let told = world.activity_of(&role["id"]).await;
        assert_eq!(
            told[1].2,
            json!({"rights": [["venues:create"], ["venues:read"]]})
        );

        let removed = lighthouse
            .owner
            .client
            .delete(&lighthouse.member(&keeper))
            .await;
        removed.expect(204);
        for client in [&here, &there] {
            client
                .get(&lighthouse.place)
                .await
                .refused(404, "ORGANIZATION_NOT_FOUND");
        }
    })
    .await;
}

#[tokio::test]
async fn built_in_roles_are_locked_and_used_ones_stay() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner.client;
        let roles = owner.get(&lighthouse.at("/roles")).await.expect(200);
        let names = ["owner", "organizer", "teacher", "door", "member"];
        assert_eq!(each(&roles, "name"), names);
        assert_eq!(
            each(&roles, "id"),
            names.map(built_in).iter().collect::<Vec<_>>()
        );
        assert_eq!(
            roles["items"][3]["rights"],
            json!(["scans:create", "scans:read"])
        );
        for role in names {
            let place = lighthouse.at(&format!(
                "/roles/{}",
                built_in(role).as_str().expect("an id")
            ));
            let change = json!({"rights": []});
            owner
                .put(&place, &change)
                .await
                .refused(409, "ROLE_BUILT_IN");
            owner.delete(&place).await.refused(409, "ROLE_BUILT_IN");
        }

        let role = lighthouse.role("Keeper", &["venues:read"]).await;
        let place = lighthouse.at(&format!("/roles/{}", role["id"].as_str().expect("an id")));
        let keeper = lighthouse.with(world, "member").await;
        lighthouse.give(&keeper, &role["id"]).await;
        let invited = json!({"email": "new@example.org", "role_id": role["id"]});
        owner
            .post(&lighthouse.at("/members"), &invited)
            .await
            .expect(201);
        let refused = owner.delete(&place).await.refused(409, "ROLE_IN_USE");
        assert_eq!(refused, json!({"members": 1, "invitations": 1}));
        lighthouse.give(&keeper, &built_in("member")).await;
        owner.delete(&place).await.refused(409, "ROLE_IN_USE");
        // An invitation that nobody accepted in time holds nothing up.
        world.pass(chrono::TimeDelta::days(8));
        let owner = world.again(&lighthouse.owner);
        owner.delete(&place).await.expect(204);
        owner.delete(&place).await.refused(404, "ROLE_NOT_FOUND");
        owner
            .put(&place, &json!({"name": "x"}))
            .await
            .refused(404, "ROLE_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn bad_roles_are_refused() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let rivals = found(world, "Rivals").await;
        let owner = &lighthouse.owner.client;
        let roles = lighthouse.at("/roles");
        let bad =
            json!({"name": "X", "rights": ["events:read", "events:fly", "moons:read", "internal"]});
        let fields = owner.post(&roles, &bad).await.bad_fields();
        assert_eq!(fields, ["rights[1]", "rights[2]", "rights[3]"]);
        let role = lighthouse.role("Keeper", &["venues:read"]).await;
        for name in ["keeper", "Owner"] {
            let taken = json!({"name": name, "rights": []});
            owner
                .post(&roles, &taken)
                .await
                .refused(409, "ROLE_NAME_TAKEN");
        }
        // What belongs to others is not there.
        let place = rivals.at(&format!("/roles/{}", role["id"].as_str().expect("an id")));
        rivals
            .owner
            .client
            .delete(&place)
            .await
            .refused(404, "ROLE_NOT_FOUND");
        let theirs = json!({"email": "new@example.org", "role_id": role["id"]});
        let answer = rivals
            .owner
            .client
            .post(&rivals.at("/members"), &theirs)
            .await;
        assert_eq!(answer.bad_fields(), ["role_id"]);
        let mine = rivals
            .owner
            .client
            .get(&rivals.at("/roles"))
            .await
            .expect(200);
        assert_eq!(each(&mine, "name").len(), 5);
    })
    .await;
}

#[tokio::test]
async fn nobody_hands_on_or_takes_more_than_they_have() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner;
        let rights = [
            "roles:create",
            "roles:write",
            "roles:delete",
            "members:create",
            "members:write",
            "members:delete",
            "venues:read",
        ];
        let steward = lighthouse.role("Steward", &rights).await;
        let kim = lighthouse.with(world, "member").await;
        lighthouse.give(&kim, &steward["id"]).await;
        let strong = lighthouse.role("Strong", &["venues:delete"]).await;
        let strong_place =
            lighthouse.at(&format!("/roles/{}", strong["id"].as_str().expect("an id")));
        let own_place = lighthouse.at(&format!(
            "/roles/{}",
            steward["id"].as_str().expect("an id")
        ));
        let other = lighthouse.with(world, "door").await;

        let more = json!({"name": "More", "rights": ["venues:delete"]});
        let refused = kim.client.post(&lighthouse.at("/roles"), &more).await;
        assert_eq!(
            refused.refused(403, "FORBIDDEN"),
            json!({"rights": ["venues:delete"]})
        );
        let refusals = [
            kim.client
                .put(&own_place, &json!({"rights": ["venues:delete"]}))
                .await,
            kim.client.put(&strong_place, &json!({"rights": []})).await,
            kim.client.delete(&strong_place).await,
            kim.client
                .put(
                    &lighthouse.member(&kim),
                    &json!({"role_id": built_in("owner")}),
                )
                .await,
            kim.client
                .put(
                    &lighthouse.member(owner),
                    &json!({"role_id": built_in("member")}),
                )
                .await,
            kim.client.delete(&lighthouse.member(owner)).await,
            kim.client
                .put(
                    &lighthouse.member(&other),
                    &json!({"role_id": built_in("member")}),
                )
                .await,
            kim.client
                .post(
                    &lighthouse.at("/members"),
                    &json!({"email": "x@example.org", "role_id": built_in("organizer")}),
                )
                .await,
        ];
        for refused in refusals {
            refused.refused(403, "FORBIDDEN");
        }
        // What is within their own rights they may do.
        let less = json!({"name": "Less", "rights": ["venues:read"]});
        let less = kim
            .client
            .post(&lighthouse.at("/roles"), &less)
            .await
            .expect(201);
        let plain = world.person("plain").await;
        world.join(plain.id, lighthouse.id, "member").await;
        let change = json!({"role_id": less["id"], "vetting_level": 4});
        kim.client
            .put(&lighthouse.member(&plain), &change)
            .await
            .expect(200);
        kim.client
            .delete(&lighthouse.member(&plain))
            .await
            .expect(204);
    })
    .await;
}
