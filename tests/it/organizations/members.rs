use serde_json::{Value, json};
use tests::{harbour_hall, world};

use super::{built_in, each, found};

#[tokio::test]
async fn members_are_listed_with_contact_data_for_those_who_may_read_it() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let door = lighthouse.with(world, "door").await;
        let invited = json!({"email": "New@Example.org ", "role_id": built_in("teacher")});
        let place = lighthouse.at("/members");
        lighthouse
            .owner
            .client
            .post(&place, &invited)
            .await
            .expect(201);

        let list = lighthouse.owner.client.get(&place).await.expect(200);
        assert_eq!(list["total"], 3);
        assert_eq!(each(&list, "status"), ["active", "active", "invited"]);
        assert_eq!(each(&list, "role"), ["door", "owner", "teacher"]);
        assert_eq!(list["items"][0]["id"], json!(door.id));
        assert_eq!(list["items"][2]["email"], "new@example.org");
        assert_eq!(list["items"][2]["expires_at"], "2026-01-22T10:30:00Z");

        let role = lighthouse
            .role("Looker", &["members:read", "members:write"])
            .await;
        let looker = world.person("looker").await;
        world.join(looker.id, lighthouse.id, "member").await;
        lighthouse.give(&looker, &role["id"]).await;
        let list = looker.client.get(&place).await.expect(200);
        assert_eq!(list["total"], 4);
        assert!(
            each(&list, "email").iter().all(|email| email.is_null()),
            "{list}"
        );
        let changed = looker
            .client
            .put(&lighthouse.member(&looker), &json!({"vetting_level": 1}))
            .await
            .expect(200);
        assert_eq!(changed["email"], Value::Null);

        let page = lighthouse
            .owner
            .client
            .get(&lighthouse.at("/members?limit=1&page=4"))
            .await;
        let page = page.expect(200);
        assert_eq!(
            (each(&page, "status"), &page["has_more"]),
            (vec![&json!("invited")], &json!(false))
        );
        world.run_jobs().await;
    })
    .await;
}

#[tokio::test]
async fn role_and_vetting_level_are_changed() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner.client;
        let ada = lighthouse.with(world, "member").await;
        let place = lighthouse.member(&ada);
        let vetted = owner
            .put(&place, &json!({"vetting_level": 9}))
            .await
            .expect(200);
        assert_eq!(
            (&vetted["vetting_level"], &vetted["role"]),
            (&json!(9), &json!("member"))
        );
        let change = json!({"role_id": built_in("organizer")});
        let changed = owner.put(&place, &change).await.expect(200);
        assert_eq!(
            (&changed["vetting_level"], &changed["role"]),
            (&json!(9), &json!("organizer"))
        );
        assert_eq!(owner.put(&place, &change).await.expect(200), changed);
        ada.client
            .post("/venues", &harbour_hall())
            .await
            .expect(201);

        let told = world.activity_of(&json!(ada.id)).await;
        let kinds: Vec<&str> = told.iter().map(|(_, kind, _)| kind.as_str()).collect();
        assert_eq!(
            kinds,
            [
                "user.created",
                "member.added",
                "member.changed",
                "member.changed"
            ]
        );
        assert_eq!(told[2].2, json!({"vetting_level": [0, 9]}));

        for (change, field) in [
            (json!({"vetting_level": 10}), "vetting_level"),
            (json!({"vetting_level": -1}), "vetting_level"),
            (json!({"role_id": ada.id}), "role_id"),
            (json!({"role": "owner"}), "role"),
        ] {
            assert_eq!(owner.put(&place, &change).await.bad_fields(), [field]);
        }
        let nobody = world.person("nobody").await;
        let nobody = lighthouse.member(&nobody);
        owner
            .put(&nobody, &change)
            .await
            .refused(404, "MEMBER_NOT_FOUND");
        owner.delete(&nobody).await.refused(404, "MEMBER_NOT_FOUND");
        owner.delete(&place).await.expect(204);
        owner.delete(&place).await.refused(404, "MEMBER_NOT_FOUND");
        ada.client
            .post("/venues", &harbour_hall())
            .await
            .refused(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn everybody_may_leave_but_nobody_removes_others_without_the_right() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let (ada, ben) = (
            lighthouse.with(world, "member").await,
            lighthouse.with(world, "door").await,
        );
        ada.client
            .delete(&lighthouse.member(&ben))
            .await
            .refused(403, "FORBIDDEN");
        ada.client
            .delete(&lighthouse.member(&lighthouse.owner))
            .await
            .refused(403, "FORBIDDEN");
        ada.client
            .delete(&lighthouse.member(&ada))
            .await
            .expect(204);
        let gone = ada.client.delete(&lighthouse.member(&ada)).await;
        gone.refused(404, "ORGANIZATION_NOT_FOUND");
        let told = world.activity_of(&json!(ada.id)).await;
        assert_eq!(told.last().expect("a line").1, "member.left");
    })
    .await;
}

#[tokio::test]
async fn an_organization_keeps_an_owner() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner;
        let place = lighthouse.member(owner);
        let step_down = json!({"role_id": built_in("member")});
        owner
            .client
            .put(&place, &step_down)
            .await
            .refused(409, "LAST_OWNER");
        owner.client.delete(&place).await.refused(409, "LAST_OWNER");

        // An owner whose account is out of use does not count.
        let second = lighthouse.with(world, "owner").await;
        world
            .change(async |tx| shared::accounts::deactivate(tx, second.id).await)
            .await;
        owner.client.delete(&place).await.refused(409, "LAST_OWNER");
        let third = world.person("third").await;
        world.join(third.id, lighthouse.id, "owner").await;
        owner.client.put(&place, &step_down).await.expect(200);
        third
            .client
            .delete(&lighthouse.member(&third))
            .await
            .refused(409, "LAST_OWNER");
    })
    .await;
}

#[tokio::test]
async fn two_owners_who_go_at_once_leave_one() {
    world(async |world| {
        for round in 0..6 {
            let lighthouse = found(world, &format!("Lighthouse {round}")).await;
            let ada = &lighthouse.owner;
            let ben = world.person(&format!("ben.{round}")).await;
            world.join(ben.id, lighthouse.id, "owner").await;
            let (ada_at, ben_at) = (lighthouse.member(ada), lighthouse.member(&ben));
            let down = json!({"role_id": built_in("member")});
            let (first, second) = match round % 3 {
                // Both leave.
                0 => tokio::join!(ada.client.delete(&ada_at), ben.client.delete(&ben_at)),
                // Each takes the role of the other.
                1 => tokio::join!(
                    ada.client.put(&ben_at, &down),
                    ben.client.put(&ada_at, &down)
                ),
                // One leaves while the other steps down.
                _ => tokio::join!(ada.client.delete(&ada_at), ben.client.put(&ben_at, &down)),
            };
            let mut statuses = [first.status, second.status];
            statuses.sort_unstable();
            assert!(statuses[0] < 300, "{} {}", first.text, second.text);
            // The one who came too late is not an owner any more, or the last one.
            assert!(
                [403, 404, 409].contains(&statuses[1]),
                "{} {}",
                first.text,
                second.text
            );
            let owners: i64 = sqlx::query_scalar(
                "select count(*) from members m join roles r on r.id = m.role_id
                 where m.organization_id = $1 and r.name = 'owner'",
            )
            .bind(lighthouse.id)
            .fetch_one(world.app.pool())
            .await
            .expect("owners");
            assert_eq!(owners, 1, "round {round}");
        }
    })
    .await;
}

/// Redis holds what it held before: nobody has told it of the change.
async fn make_untold(world: &tests::World, key: &str) {
    let key = world.app.redis.key(key);
    let mut redis = world.app.redis.connection();
    let mut forget = redis::cmd("DEL");
    let gone: i64 = forget
        .arg(&key)
        .query_async(&mut redis)
        .await
        .expect("Redis");
    assert_eq!(gone, 1, "{key} was told");
}

#[tokio::test]
async fn what_redis_was_not_told_of_it_is_told_of_when_it_is_asked_for_again() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner.client;
        let role = lighthouse.role("Builder", &["venues:create"]).await;
        let ada = lighthouse.with(world, "member").await;
        lighthouse.give(&ada, &role["id"]).await;
        let stamp = format!("rights:{}", ada.id);
        make_untold(world, &stamp).await;
        let venue = harbour_hall();
        ada.client.post("/venues", &venue).await.expect(201);

        // A role that is taken.
        let (place, change) = (
            lighthouse.member(&ada),
            json!({"role_id": built_in("member")}),
        );
        owner.put(&place, &change).await.expect(200);
        make_untold(world, &stamp).await;
        ada.client.post("/venues", &venue).await.expect(201);
        owner.put(&place, &change).await.expect(200);
        let refused = ada.client.post("/venues", &venue).await;
        refused.refused(403, "FORBIDDEN");

        // A role that may do less.
        lighthouse.give(&ada, &role["id"]).await;
        ada.client.post("/venues", &venue).await.expect(201);
        let id = role["id"].as_str().expect("an id");
        let (of_role, change) = (
            lighthouse.at(&format!("/roles/{id}")),
            json!({"rights": []}),
        );
        owner.put(&of_role, &change).await.expect(200);
        make_untold(world, "rights").await;
        ada.client.post("/venues", &venue).await.expect(201);
        owner.put(&of_role, &change).await.expect(200);
        let refused = ada.client.post("/venues", &venue).await;
        refused.refused(403, "FORBIDDEN");

        // A membership that has ended.
        ada.client
            .get(&lighthouse.at("/roles"))
            .await
            .refused(403, "FORBIDDEN");
        make_untold(world, &stamp).await;
        ada.client
            .get(&lighthouse.at("/roles"))
            .await
            .refused(403, "FORBIDDEN");
        owner.delete(&place).await.expect(204);
        make_untold(world, &stamp).await;
        ada.client
            .get(&lighthouse.at("/roles"))
            .await
            .refused(403, "FORBIDDEN");
        owner.delete(&place).await.refused(404, "MEMBER_NOT_FOUND");
        let gone = ada.client.get(&lighthouse.at("/roles")).await;
        gone.refused(404, "ORGANIZATION_NOT_FOUND");
    })
    .await;
}
