//! A change that Redis could not be told of: whoever asks for it again has Redis told.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::{Client, World, world};

use super::{PASSWORD, bearer, log_in, mailed_token, refresh_of, register};

/// Redis holds what it held before the session ended.
async fn make_untold(world: &World, tokens: &Value) -> Client {
    let session = tokens["session_id"].as_str().expect("a session");
    let key = world.app.redis.key(&format!("session:{session}"));
    let mut redis = world.app.redis.connection();
    let mut set = redis::cmd("SET");
    set.arg(&key).arg("live").arg("XX");
    let there: Option<String> = set.query_async(&mut redis).await.expect("Redis");
    assert!(there.is_some(), "the end of the session was told");
    let client = bearer(world, tokens);
    client.get("/users/me").await.expect(200);
    client
}

async fn over(client: &Client) {
    let refused = client.get("/users/me").await;
    refused.refused(401, "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_reset_that_is_asked_for_again() {
    world(async |world| {
        let tokens = register(world, "ada").await;
        let email = json!({"email": "ada@example.org"});
        let anybody = world.stranger();
        let asked = anybody.post("/auth/password/forgot", &email).await;
        assert_eq!(asked.status, 202);
        world.run_jobs().await;
        let token = mailed_token(world, "ada", "reset-password");
        let reset = json!({"token": token, "new_password": "another horse"});
        let done = anybody.post("/auth/password/reset", &reset).await;
        done.expect(204);
        let ada = make_untold(world, &tokens).await;
        let again = anybody.post("/auth/password/reset", &reset).await;
        again.refused(404, "LINK_NOT_FOUND");
        over(&ada).await;
    })
    .await;
}

#[tokio::test]
async fn a_change_of_the_password_that_is_asked_for_again() {
    world(async |world| {
        let ada = bearer(world, &register(world, "ada").await);
        let other = log_in(world, "ada").await;
        let change = json!({"old_password": PASSWORD, "new_password": "another horse"});
        ada.put("/users/me", &change).await.expect(200);
        let other = make_untold(world, &other).await;
        let again = ada.put("/users/me", &change).await;
        assert_eq!(again.bad_fields(), ["old_password"]);
        over(&other).await;
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_that_is_used_a_third_time() {
    world(async |world| {
        let tokens = register(world, "ada").await;
        let anybody = world.stranger();
        let refresh = refresh_of(&tokens);
        let first = anybody.post("/auth/refresh", &refresh).await;
        first.expect(200);
        world.pass(TimeDelta::seconds(11));
        let thief = anybody.post("/auth/refresh", &refresh).await;
        thief.refused(401, "INVALID_CREDENTIALS");
        let ada = make_untold(world, &tokens).await;
        let again = anybody.post("/auth/refresh", &refresh).await;
        again.refused(401, "INVALID_CREDENTIALS");
        over(&ada).await;
    })
    .await;
}
