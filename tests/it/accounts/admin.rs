//! Organizers, platform administrators, and services that ask whose a token is.

use serde_json::{Value, json};
use shared::{access, accounts, organizations};
use tests::{SignedIn, World, harbour_hall, world};

use super::{PASSWORD, bearer, credentials, log_in, register, registration};

async fn admin(world: &World) -> SignedIn {
    let admin = world.person("root").await;
    world
        .change(async |tx| accounts::make_platform_admin(tx, admin.id).await)
        .await;
    admin
}

fn at(user: &Value) -> String {
    format!("/admin/users/{}", user["id"].as_str().expect("an id"))
}

#[tokio::test]
async fn an_organizer_signs_up_with_an_organization_of_their_own() {
    world(async |world| {
        let mut new = registration("kim");
        new["organization_name"] = json!("Lighthouse Events");
        let kim = world
            .stranger()
            .post("/auth/admin/register", &new)
            .await
            .expect(201);
        assert_eq!(
            (&kim["role"], &kim["admin_id"]),
            (&json!("owner"), &kim["user"]["id"])
        );
        assert_eq!(kim["user"]["is_platform_admin"], false);
        let permissions = kim["permissions"].as_array().expect("permissions");
        assert!(
            permissions.contains(&json!("members:write"))
                && permissions.contains(&json!("events:create"))
        );
        assert_eq!(kim["organizations"][0]["organization"], "Lighthouse Events");
        bearer(world, &kim)
            .post("/venues", &harbour_hall())
            .await
            .expect(201);
        bearer(world, &kim)
            .get("/admin/users")
            .await
            .refused(403, "FORBIDDEN");

        // The same name is another organization.
        let mut second = new.clone();
        second["email"] = json!("robin@example.org");
        let robin = world
            .stranger()
            .post("/auth/admin/register", &second)
            .await
            .expect(201);
        assert_ne!(
            robin["organizations"][0]["organization_id"],
            kim["organizations"][0]["organization_id"]
        );
        world
            .stranger()
            .post("/auth/admin/register", &new)
            .await
            .refused(409, "EMAIL_TAKEN");
        new["role"] = json!("platform_admin");
        assert_eq!(
            world
                .stranger()
                .post("/auth/admin/register", &new)
                .await
                .bad_fields(),
            ["role"]
        );

        let login = world
            .stranger()
            .post("/auth/admin/login", &credentials("kim", PASSWORD))
            .await
            .expect(200);
        assert_eq!(
            (&login["role"], &login["permissions"]),
            (&kim["role"], &kim["permissions"])
        );
        register(world, "ada").await;
        let plain = world
            .stranger()
            .post("/auth/admin/login", &credentials("ada", PASSWORD))
            .await
            .expect(200);
        assert_eq!(
            (&plain["role"], &plain["permissions"]),
            (&Value::Null, &json!([]))
        );
        let wrong = credentials("kim", "wrong password");
        world
            .stranger()
            .post("/auth/admin/login", &wrong)
            .await
            .refused(401, "INVALID_CREDENTIALS");
    })
    .await;
}

#[tokio::test]
async fn accounts_are_listed_and_found() {
    world(async |world| {
        let admin = admin(world).await.client;
        for name in ["ada", "bob", "carla"] {
            register(world, name).await;
        }
        let found = async |query: &str| -> Vec<String> {
            let list = admin
                .get(&format!("/admin/users?{query}"))
                .await
                .expect(200);
            let items = list["items"].as_array().expect("items").iter();
            items
                .map(|user| user["full_name"].as_str().expect("a name").to_owned())
                .collect()
        };
        assert_eq!(found("").await, ["ada", "bob", "carla", "root"]);
        assert_eq!(found("q=BOB%40ex").await, ["bob"]);
        assert_eq!(found("search=car").await, ["carla"]);
        assert_eq!(found("q=%25").await, [""; 0]);
        assert_eq!(
            found("sort=email&order=desc&limit=2").await,
            ["root", "carla"]
        );
        assert_eq!(found("active=false").await, [""; 0]);
        assert!(!admin.get("/admin/users").await.text.contains("password"));
    })
    .await;
}

#[tokio::test]
async fn a_deactivated_account_stops_on_the_next_request_until_it_is_active_again() {
    world(async |world| {
        let admin = admin(world).await;
        let tokens = register(world, "ada").await;
        let (ada, place) = (bearer(world, &tokens), at(&tokens["user"]));
        ada.get("/users/me").await.expect(200);
        admin.client.delete(&place).await.expect(204);
        ada.get("/users/me").await.refused(401, "UNAUTHENTICATED");
        world
            .stranger()
            .post("/auth/refresh", &super::refresh_of(&tokens))
            .await
            .refused(401, "INVALID_CREDENTIALS");
        world
            .stranger()
            .post("/auth/login", &credentials("ada", PASSWORD))
            .await
            .refused(401, "INVALID_CREDENTIALS");
        admin.client.delete(&place).await.expect(204);

        let user = admin
            .client
            .put(&place, &json!({"is_active": true}))
            .await
            .expect(200);
        assert_eq!(user["is_active"], true);
        ada.get("/users/me").await.refused(401, "UNAUTHENTICATED");
        let back = log_in(world, "ada").await;
        let off = admin
            .client
            .put(
                &place,
                &json!({"is_active": false, "version": user["version"]}),
            )
            .await;
        off.expect(200);
        bearer(world, &back)
            .get("/users/me")
            .await
            .refused(401, "UNAUTHENTICATED");

        let by: Vec<uuid::Uuid> = sqlx::query_scalar(
            "select actor_id from activities where kind = 'user.changed' and actor_kind = 'user'",
        )
        .fetch_all(world.app.pool())
        .await
        .expect("activities");
        assert_eq!(by, [admin.id.0; 3]);
    })
    .await;
}

#[tokio::test]
async fn an_administrator_changes_what_they_may_and_no_more() {
    world(async |world| {
        let admin = admin(world).await.client;
        let lighthouse = world.organizer("lighthouse").await;
        let owner = world.member(lighthouse.id, "owner").await;
        let place = format!("/admin/users/{}", owner.id);
        let role = async |name: &str| {
            let id =
                access::built_in_role(&mut world.app.read().await.expect("a connection"), name)
                    .await;
            json!({"role": {"organization_id": lighthouse.id, "role_id": id.expect("a role")}})
        };
        admin
            .put(&place, &role("door").await)
            .await
            .refused(409, "LAST_OWNER");
        let second = world.person("second").await;
        world
            .change(async |tx| {
                let owner = access::built_in_role(tx, "owner").await?;
                organizations::add_member(tx, lighthouse.id, second.id, owner).await
            })
            .await;
        let changed = admin.put(&place, &role("door").await).await.expect(200);
        assert_eq!(changed["organizations"][0]["role"], "door");
        let nowhere = json!({"role": {"organization_id": lighthouse.id, "role_id": lighthouse.id}});
        assert_eq!(admin.put(&place, &nowhere).await.bad_fields(), ["role_id"]);
        let elsewhere = world.organizer("rivals").await.id;
        let elsewhere = json!({"role": {"organization_id": elsewhere, "role_id": lighthouse.id}});
        admin
            .put(&place, &elsewhere)
            .await
            .refused(404, "MEMBER_NOT_FOUND");

        let bad = json!({"is_platform_admin": true, "email": "x@example.org", "password": "x"});
        assert_eq!(
            admin.put(&place, &bad).await.bad_fields(),
            ["email", "is_platform_admin", "password"]
        );
        let stale = json!({"full_name": "Ada", "version": 7});
        admin
            .put(&place, &stale)
            .await
            .refused(409, "CONCURRENT_UPDATE");
        let nobody = format!("/admin/users/{}", lighthouse.id);
        admin.get(&nobody).await.refused(404, "USER_NOT_FOUND");
        admin
            .put(&nobody, &json!({}))
            .await
            .refused(404, "USER_NOT_FOUND");
        admin.delete(&nobody).await.refused(404, "USER_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_service_with_the_scope_asks_whose_a_token_is() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let key = world
            .change(async |tx| {
                let now = tx.now();
                let scopes = [access::INTERNAL.to_owned()];
                access::create_api_key(tx, lighthouse.id, "checkout", &scopes, now).await
            })
            .await;
        let service = world.with_key(&key);
        let tokens = register(world, "ada").await;
        let ask = json!({"token": tokens["access_token"]});
        let known = service
            .post("/internal/auth/verify", &ask)
            .await
            .expect(200);
        assert_eq!(
            (&known["active"], &known["session_id"]),
            (&json!(true), &tokens["session_id"])
        );
        assert_eq!(known["user"]["id"], tokens["user"]["id"]);
        assert_eq!(known["expires_at"], "2026-01-15T11:30:00Z");

        bearer(world, &tokens)
            .send(reqwest::Method::POST, "/auth/logout", None)
            .await
            .expect(204);
        let over = json!({"active": false, "session_id": null, "expires_at": null, "user": null});
        assert_eq!(
            service
                .post("/internal/auth/verify", &ask)
                .await
                .expect(200),
            over
        );
        let nonsense = json!({"token": "nonsense"});
        assert_eq!(
            service
                .post("/internal/auth/verify", &nonsense)
                .await
                .expect(200),
            over
        );

        // The scope opens this and nothing else, and nothing else opens this.
        service
            .post("/venues", &harbour_hall())
            .await
            .refused(403, "FORBIDDEN");
        service.get("/users/me").await.refused(403, "FORBIDDEN");
        let owner = world.member(lighthouse.id, "owner").await;
        let root = admin(world).await;
        for caller in [&lighthouse.organizer, &owner.client, &root.client] {
            caller
                .post("/internal/auth/verify", &ask)
                .await
                .refused(403, "FORBIDDEN");
        }
        world
            .stranger()
            .post("/internal/auth/verify", &ask)
            .await
            .refused(401, "UNAUTHENTICATED");
    })
    .await;
}

#[tokio::test]
async fn the_last_owner_of_an_organization_cannot_be_deactivated() {
    world(async |world| {
        let admin = admin(world).await;
        let mut kim = credentials("kim", PASSWORD);
        kim["full_name"] = json!("Kim Lighthouse");
        kim["organization_name"] = json!("Lighthouse Events");
        let tokens = world.stranger().post("/auth/admin/register", &kim).await;
        let tokens = tokens.expect(201);
        let place = format!(
            "/admin/users/{}",
            tokens["user"]["id"].as_str().expect("an id")
        );

        admin.client.delete(&place).await.refused(409, "LAST_OWNER");
        let off = json!({"is_active": false});
        admin
            .client
            .put(&place, &off)
            .await
            .refused(409, "LAST_OWNER");
        let kim = admin.client.get(&place).await.expect(200);
        assert_eq!(kim["is_active"], true);
    })
    .await;
}
