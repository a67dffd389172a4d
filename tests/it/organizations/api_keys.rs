use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::{harbour_hall, world};

use super::{each, found};

fn key_of(made: &Value) -> &str {
    made["key"].as_str().expect("the key")
}

#[tokio::test]
async fn a_key_is_told_once_used_and_revoked() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner.client;
        let place = lighthouse.at("/api-keys");
        let new = json!({"name": "Shop", "scopes": ["venues:write", "venues:create"]});
        let made = owner.post(&place, &new).await.expect(201);
        assert_eq!(made["scopes"], json!(["venues:create", "venues:write"]));
        let service = world.with_key(key_of(&made));
        service.post("/venues", &harbour_hall()).await.expect(201);
        service
            .get(&lighthouse.place)
            .await
            .refused(403, "FORBIDDEN");

        let list = owner.get(&place).await;
        assert!(!list.text.contains(key_of(&made)));
        let list = list.expect(200);
        assert_eq!(each(&list, "last_used_at"), ["2026-01-15T10:30:00Z"]);
        let kept: i64 = sqlx::query_scalar(
            "select count(*) from api_keys k where row_to_json(k)::text like $1",
        )
        .bind(format!("%{}%", key_of(&made)))
        .fetch_one(world.app.pool())
        .await
        .expect("keys");
        assert_eq!(kept, 0);

        // Last use is written at most once a minute.
        world.pass(TimeDelta::seconds(59));
        service.post("/venues", &harbour_hall()).await.expect(201);
        let list = owner.get(&place).await.expect(200);
        assert_eq!(each(&list, "last_used_at"), ["2026-01-15T10:30:00Z"]);
        world.pass(TimeDelta::seconds(1));
        service.post("/venues", &harbour_hall()).await.expect(201);
        let list = owner.get(&place).await.expect(200);
        assert_eq!(each(&list, "last_used_at"), ["2026-01-15T10:31:00Z"]);

        let elsewhere = service.at(&world.another_process().await);
        elsewhere.post("/venues", &harbour_hall()).await.expect(201);
        let place_of = format!("{place}/{}", made["id"].as_str().expect("an id"));
        let rivals = found(world, "Rivals").await;
        let theirs = rivals.at(&format!(
            "/api-keys/{}",
            made["id"].as_str().expect("an id")
        ));
        rivals
            .owner
            .client
            .delete(&theirs)
            .await
            .refused(404, "API_KEY_NOT_FOUND");
        owner.delete(&place_of).await.expect(204);
        for service in [&service, &elsewhere] {
            let refused = service.post("/venues", &harbour_hall()).await;
            refused.refused(401, "UNAUTHENTICATED");
        }
        owner
            .delete(&place_of)
            .await
            .refused(404, "API_KEY_NOT_FOUND");
        assert!(each(&owner.get(&place).await.expect(200), "id").is_empty());
        let told = world.activity_of(&made["id"]).await;
        let kinds: Vec<&str> = told.iter().map(|(_, kind, _)| kind.as_str()).collect();
        let used = "api_key.used";
        assert_eq!(kinds, ["api_key.made", used, used, "api_key.revoked"]);
    })
    .await;
}

#[tokio::test]
async fn the_feed_tells_once_a_minute_that_a_key_is_used() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner.client;
        let new = json!({"name": "Shop", "scopes": ["venues:create"]});
        let made = owner.post(&lighthouse.at("/api-keys"), &new).await;
        let made = made.expect(201);
        let service = world.with_key(key_of(&made));
        let elsewhere = service.at(&world.another_process().await);
        // Many at the same moment, in two processes; what the key may not do counts as use as well.
        let venue = harbour_hall();
        let here = (0..10).map(|_| service.post("/venues", &venue));
        let there = (0..10).map(|_| elsewhere.get(&lighthouse.place));
        let (here, there) = futures_util::future::join(
            futures_util::future::join_all(here),
            futures_util::future::join_all(there),
        )
        .await;
        assert!(here.iter().all(|answer| answer.status == 201));
        assert!(there.iter().all(|answer| answer.status == 403));
        world.pass(TimeDelta::seconds(60));
        let later = service.post("/venues", &venue).await;
        let request = later.header("x-request-id").expect("an id").to_owned();
        later.expect(201);

        world
            .change(async |tx| shared::activity::seal(tx, 100).await)
            .await;
        let feed = owner.get(&lighthouse.at("/activity")).await.expect(200);
        let lines = feed["items"].as_array().expect("items").iter();
        let used: Vec<&Value> = lines.filter(|it| it["kind"] == "api_key.used").collect();
        assert_eq!(used.len(), 2, "{used:?}");
        for line in &used {
            assert_eq!(
                (&line["actor_kind"], &line["actor_id"], &line["subject_id"]),
                (&json!("api_key"), &made["id"], &made["id"])
            );
        }
        assert_eq!(used[1]["cause"], request);
        assert!(!feed.to_string().contains(key_of(&made)));
    })
    .await;
}

#[tokio::test]
async fn nobody_ends_a_key_that_may_do_more_than_they_may() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let new = json!({"name": "Shop", "scopes": ["venues:create"]});
        let place = lighthouse.at("/api-keys");
        let made = lighthouse.owner.client.post(&place, &new).await.expect(201);
        let place = format!("{place}/{}", made["id"].as_str().expect("an id"));
        let warden = lighthouse.with(world, "member").await;
        let rights = ["api_keys:read", "api_keys:delete"];
        let role = lighthouse.role("Warden", &rights).await;
        lighthouse.give(&warden, &role["id"]).await;
        let refused = warden.client.delete(&place).await;
        let details = refused.refused(403, "FORBIDDEN");
        assert_eq!(details, json!({"rights": ["venues:create"]}));
        let service = world.with_key(key_of(&made));
        service.post("/venues", &harbour_hall()).await.expect(201);
        lighthouse.owner.client.delete(&place).await.expect(204);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_is_not_told_the_key_again() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = lighthouse.owner.client.with("idempotency-key", "k1");
        let new = json!({"name": "Shop", "scopes": ["venues:create"]});
        let made = owner
            .post(&lighthouse.at("/api-keys"), &new)
            .await
            .expect(201);
        let again = owner.post(&lighthouse.at("/api-keys"), &new).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        let again = again.expect(201);
        assert_eq!((&again["id"], &again["key"]), (&made["id"], &Value::Null));
        let kept: Vec<Vec<u8>> = sqlx::query_scalar("select body from idempotency_keys")
            .fetch_all(world.app.pool())
            .await
            .expect("answers");
        let kept = String::from_utf8(kept.concat()).expect("JSON");
        assert!(
            kept.contains("Shop") && !kept.contains(key_of(&made)),
            "{kept}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_key_ends_when_it_was_said_to() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner.client;
        let place = lighthouse.at("/api-keys");
        let new = json!({
            "name": "Fair", "scopes": ["venues:create"], "expires_at": "2026-01-15T11:00:00Z",
        });
        let made = owner.post(&place, &new).await.expect(201);
        let service = world.with_key(key_of(&made));
        world.pass(TimeDelta::minutes(29));
        service.post("/venues", &harbour_hall()).await.expect(201);
        world.pass(TimeDelta::minutes(1));
        let late = service.post("/venues", &harbour_hall()).await;
        late.refused(401, "UNAUTHENTICATED");
        assert_eq!(owner.post(&place, &new).await.bad_fields(), ["expires_at"]);
    })
    .await;
}

#[tokio::test]
async fn a_key_has_no_more_rights_than_its_maker() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let place = lighthouse.at("/api-keys");
        let role = lighthouse
            .role("Smith", &["api_keys:create", "venues:create"])
            .await;
        let smith = lighthouse.with(world, "member").await;
        lighthouse.give(&smith, &role["id"]).await;
        let more = json!({"name": "More", "scopes": ["venues:create", "venues:delete"]});
        let refused = smith
            .client
            .post(&place, &more)
            .await
            .refused(403, "FORBIDDEN");
        assert_eq!(refused, json!({"rights": ["venues:delete"]}));
        let same = json!({"name": "Same", "scopes": ["api_keys:create", "venues:create"]});
        let made = smith.client.post(&place, &same).await.expect(201);
        // A key makes no keys.
        let service = world.with_key(key_of(&made));
        service.post(&place, &same).await.refused(403, "FORBIDDEN");

        let owner = &lighthouse.owner.client;
        let internal = json!({"name": "Us", "scopes": ["internal"]});
        owner
            .post(&place, &internal)
            .await
            .refused(403, "FORBIDDEN");
        let bad = json!({"name": "X", "scopes": ["venues", "internal:read"]});
        let fields = owner.post(&place, &bad).await.bad_fields();
        assert_eq!(fields, ["scopes[0]", "scopes[1]"]);
        let empty = json!({"name": "X", "scopes": []});
        assert_eq!(owner.post(&place, &empty).await.bad_fields(), ["scopes"]);
    })
    .await;
}

#[tokio::test]
async fn the_scope_internal_opens_the_paths_between_services_and_nothing_else() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let admin = world.person("admin").await;
        world
            .change(async |tx| shared::accounts::make_platform_admin(tx, admin.id).await)
            .await;
        let new = json!({"name": "Booking", "scopes": ["internal"]});
        let made = admin
            .client
            .post(&lighthouse.at("/api-keys"), &new)
            .await
            .expect(201);
        let service = world.with_key(key_of(&made));
        let question = json!({"token": "none of ours"});
        let answer = service.post("/internal/auth/verify", &question).await;
        assert_eq!(answer.expect(200)["active"], false);
        service
            .post("/venues", &harbour_hall())
            .await
            .refused(403, "FORBIDDEN");
        for path in ["", "/members", "/roles", "/api-keys", "/activity"] {
            service
                .get(&lighthouse.at(path))
                .await
                .refused(403, "FORBIDDEN");
        }
        service.get("/users/me").await.refused(403, "FORBIDDEN");

        let all = json!({"name": "All", "scopes": ["venues:create"]});
        let other = admin
            .client
            .post(&lighthouse.at("/api-keys"), &all)
            .await
            .expect(201);
        let other = world.with_key(key_of(&other));
        other
            .post("/internal/auth/verify", &question)
            .await
            .refused(403, "FORBIDDEN");
    })
    .await;
}
