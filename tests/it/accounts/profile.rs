//! One's own profile.

use serde_json::{Value, json};
use tests::world;

use super::{PASSWORD, bearer, credentials, kinds, log_in, register};

#[tokio::test]
async fn a_profile_is_changed_in_part_and_by_any_of_its_names() {
    world(async |world| {
        let tokens = register(world, "ada").await;
        let ada = bearer(world, &tokens);
        let change = json!({"full_name": "Ada Byron", "phone": "+44 20 7946 0000", "locale": "en-GB",
                            "avatar_url": "https://pictures.example/ada.png"});
        let me = ada.put("/users/me", &change).await.expect(200);
        for (field, value) in change.as_object().expect("fields") {
            assert_eq!(me[field], *value);
        }
        assert_eq!(me["version"], 2);
        for name in ["/auth/me", "/users/profile", "/identity/profile", "/api/users/profile"] {
            assert_eq!(ada.get(name).await.expect(200), me, "{name}");
        }
        let me = ada.put("/identity/profile", &json!({"phone": null})).await.expect(200);
        assert_eq!((&me["phone"], &me["full_name"]), (&Value::Null, &json!("Ada Byron")));

        let stale = ada.with("if-match", "\"1\"").put("/users/me", &json!({"full_name": "Ada"})).await;
        assert_eq!(stale.refused(409, "CONCURRENT_UPDATE"), json!({"current_version": 3}));
        let bad = json!({"is_platform_admin": true, "avatar_url": "javascript:1", "locale": "english language", "email": "x"});
        let bad = ada.put("/users/me", &bad).await.bad_fields();
        assert_eq!(bad, ["avatar_url", "is_platform_admin", "locale"]);
        assert_eq!(ada.put("/users/me", &json!({"email": "x"})).await.bad_fields(), ["email"]);

        // The feed says what changed, and nothing personal.
        let told = world.activity_of(&tokens["user"]["id"]).await;
        let text = serde_json::to_string(&told).expect("JSON");
        assert!(told.iter().any(|(who, kind, _)| who == "user" && kind == "user.changed"));
        assert!(!text.contains("Byron") && !text.contains("7946") && !text.contains("example.org"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_ends_the_other_sessions() {
    world(async |world| {
        let tokens = register(world, "ada").await;
        let (other, ada) = (log_in(world, "ada").await, bearer(world, &tokens));
        let change = |old: &str, new: &str| json!({"old_password": old, "new_password": new});
        let refused = async |change: &Value| ada.put("/users/me", change).await.bad_fields();
        assert_eq!(
            refused(&json!({"new_password": "another horse"})).await,
            ["old_password"]
        );
        assert_eq!(
            refused(&json!({"old_password": PASSWORD})).await,
            ["new_password"]
        );
        assert_eq!(
            refused(&change("wrong password", "another horse")).await,
            ["old_password"]
        );
        assert_eq!(
            refused(&change(PASSWORD, "ada@example.org")).await,
            ["new_password"]
        );
        bearer(world, &other).get("/users/me").await.expect(200);

        ada.put("/users/me", &change(PASSWORD, "another horse"))
            .await
            .expect(200);
        ada.get("/users/me").await.expect(200);
        bearer(world, &other)
            .get("/users/me")
            .await
            .refused(401, "UNAUTHENTICATED");
        world
            .stranger()
            .post("/auth/login", &credentials("ada", PASSWORD))
            .await
            .refused(401, "INVALID_CREDENTIALS");
        world
            .stranger()
            .post("/auth/login", &credentials("ada", "another horse"))
            .await
            .expect(200);
        assert!(
            kinds(world, &tokens["user"]["id"])
                .await
                .contains(&"user.password_changed".into())
        );
    })
    .await;
}

#[tokio::test]
async fn guessing_at_the_old_password_is_slowed_down_as_well() {
    world(async |world| {
        let ada = bearer(world, &register(world, "ada").await);
        let guess = json!({"old_password": "wrong password", "new_password": "another horse"});
        for _ in 0..5 {
            assert_eq!(
                ada.put("/users/me", &guess).await.bad_fields(),
                ["old_password"]
            );
        }
        ada.put("/users/me", &guess)
            .await
            .refused(429, "RATE_LIMITED");
    })
    .await;
}

#[tokio::test]
async fn older_names_of_the_operations_answer_too() {
    world(async |world| {
        let registration = super::registration("ada");
        world
            .stranger()
            .post("/api/identity/register", &registration)
            .await
            .expect(201);
        let authenticate = credentials("ada", PASSWORD);
        let tokens = world
            .stranger()
            .post("/identity/authenticate", &authenticate)
            .await
            .expect(200);
        world
            .stranger()
            .post("/identity/refresh-token", &super::refresh_of(&tokens))
            .await
            .expect(200);
    })
    .await;
}
