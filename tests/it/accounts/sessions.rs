//! Sessions: refreshing them, ending them, and when they end by themselves.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::{World, world};

use super::{bearer, credentials, kinds, log_in, refresh_of, register};

async fn refresh(world: &World, tokens: &Value) -> tests::Answer {
    world
        .stranger()
        .post("/auth/refresh", &refresh_of(tokens))
        .await
}

#[tokio::test]
async fn a_refresh_token_is_spent_by_its_use() {
    world(async |world| {
        let first = register(world, "ada").await;
        world.pass(TimeDelta::minutes(61));
        bearer(world, &first)
            .get("/users/me")
            .await
            .refused(401, "TOKEN_EXPIRED");
        let second = refresh(world, &first).await.expect(200);
        assert_eq!(second["session_id"], first["session_id"]);
        assert_ne!(second["refresh_token"], first["refresh_token"]);
        bearer(world, &second).get("/users/me").await.expect(200);
        let third = world
            .stranger()
            .post("/auth/admin/refresh", &refresh_of(&second))
            .await
            .expect(200);
        bearer(world, &third).get("/users/me").await.expect(200);

        let unknown = json!({"refresh_token": "x".repeat(43)});
        world
            .stranger()
            .post("/auth/refresh", &unknown)
            .await
            .refused(401, "INVALID_CREDENTIALS");
    })
    .await;
}

#[tokio::test]
async fn the_second_use_of_a_spent_token_ends_the_session_for_everybody() {
    world(async |world| {
        let stolen = register(world, "ada").await;
        let other = log_in(world, "ada").await;
        let honest = refresh(world, &stolen).await.expect(200);
        world.pass(TimeDelta::seconds(11));
        refresh(world, &stolen)
            .await
            .refused(401, "INVALID_CREDENTIALS");

        refresh(world, &honest)
            .await
            .refused(401, "INVALID_CREDENTIALS");
        bearer(world, &honest)
            .get("/users/me")
            .await
            .refused(401, "UNAUTHENTICATED");
        // Another session of the same person is none of the thief's.
        bearer(world, &other).get("/users/me").await.expect(200);
        let told = kinds(world, &stolen["user"]["id"]).await;
        let ends = told[told.len() - 2..].to_vec();
        assert_eq!(ends, ["user.refresh_token_reused", "user.session_ended"]);
    })
    .await;
}

#[tokio::test]
async fn of_two_refreshes_at_once_one_wins_and_the_session_goes_on() {
    world(async |world| {
        let tokens = register(world, "ada").await;
        let (one, two) = tokio::join!(refresh(world, &tokens), refresh(world, &tokens));
        let (won, lost) = if one.status == 200 {
            (one, two)
        } else {
            (two, one)
        };
        let won = won.expect(200);
        lost.refused(409, "ALREADY_REFRESHED");
        bearer(world, &won).get("/users/me").await.expect(200);
        world.pass(TimeDelta::seconds(10));
        refresh(world, &tokens)
            .await
            .refused(409, "ALREADY_REFRESHED");
        refresh(world, &won).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_for_too_long_or_too_old() {
    world(async |world| {
        let idle = register(world, "ada").await;
        world.pass(TimeDelta::days(14));
        refresh(world, &idle)
            .await
            .refused(401, "INVALID_CREDENTIALS");

        let mut busy = log_in(world, "ada").await;
        for _ in 0..6 {
            world.pass(TimeDelta::days(13));
            busy = refresh(world, &busy).await.expect(200);
        }
        world.pass(TimeDelta::days(12));
        refresh(world, &busy)
            .await
            .refused(401, "INVALID_CREDENTIALS");
    })
    .await;
}

#[tokio::test]
async fn logging_out_ends_the_session_on_the_next_request() {
    world(async |world| {
        let tokens = register(world, "ada").await;
        let ada = bearer(world, &tokens);
        ada.get("/users/me").await.expect(200);
        ada.send(reqwest::Method::POST, "/auth/logout", None)
            .await
            .expect(204);
        ada.get("/users/me").await.refused(401, "UNAUTHENTICATED");
        ada.get("/venues").await.refused(401, "UNAUTHENTICATED");
        refresh(world, &tokens)
            .await
            .refused(401, "INVALID_CREDENTIALS");
        world
            .stranger()
            .send(reqwest::Method::POST, "/auth/logout", None)
            .await
            .refused(401, "UNAUTHENTICATED");
    })
    .await;
}

#[tokio::test]
async fn sessions_are_listed_and_ended_one_or_all_but_this() {
    world(async |world| {
        let first = register(world, "ada").await;
        world.pass(TimeDelta::minutes(1));
        let phone = world.stranger().with("user-agent", "Phone 1");
        let phone = phone
            .post("/auth/login", &credentials("ada", super::PASSWORD))
            .await
            .expect(200);
        world.pass(TimeDelta::minutes(1));
        let third = log_in(world, "ada").await;
        let rival = register(world, "eve").await;

        let mine = bearer(world, &third);
        let list = mine.get("/auth/sessions").await.expect(200);
        let list = list["items"].as_array().expect("items").clone();
        let ids: Vec<&Value> = list.iter().map(|session| &session["id"]).collect();
        assert_eq!(
            ids,
            [
                &third["session_id"],
                &phone["session_id"],
                &first["session_id"]
            ]
        );
        let current: Vec<&Value> = list.iter().map(|session| &session["current"]).collect();
        assert_eq!(current, [&json!(true), &json!(false), &json!(false)]);
        assert_eq!(
            (&list[1]["user_agent"], &list[1]["address"]),
            (&json!("Phone 1"), &json!("127.0.0.1"))
        );

        // The session of another person is nobody's to end.
        let theirs = format!(
            "/auth/sessions/{}",
            rival["session_id"].as_str().expect("an id")
        );
        mine.delete(&theirs)
            .await
            .refused(404, "LOGIN_SESSION_NOT_FOUND");
        bearer(world, &rival).get("/users/me").await.expect(200);

        let phones = format!(
            "/auth/sessions/{}",
            phone["session_id"].as_str().expect("an id")
        );
        bearer(world, &phone).get("/users/me").await.expect(200);
        mine.delete(&phones).await.expect(204);
        mine.delete(&phones).await.expect(204);
        bearer(world, &phone)
            .get("/users/me")
            .await
            .refused(401, "UNAUTHENTICATED");

        mine.delete("/auth/sessions").await.expect(204);
        bearer(world, &first)
            .get("/users/me")
            .await
            .refused(401, "UNAUTHENTICATED");
        let left = mine.get("/auth/sessions").await.expect(200);
        assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
    })
    .await;
}

#[tokio::test]
async fn what_is_over_for_long_is_forgotten() {
    world(async |world| {
        register(world, "ada").await;
        let count = async || -> i64 {
            sqlx::query_scalar("select (select count(*) from login_sessions) + (select count(*) from account_links)")
                .fetch_one(world.app.pool()).await.expect("a count")
        };
        assert_eq!(count().await, 2);
        world.pass(TimeDelta::days(43));
        world.change(async |tx| { shared::accounts::sessions::forget(tx, 10).await }).await;
        assert_eq!(count().await, 1);
        world.pass(TimeDelta::days(2));
        world.change(async |tx| { shared::accounts::sessions::forget(tx, 10).await }).await;
        assert_eq!(count().await, 0);
    })
    .await;
}
