//! Mailed links: a new password, a confirmed address.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::{World, world};

use super::{PASSWORD, bearer, credentials, kinds, log_in, mailed_token, register};

const NEW: &str = "another horse entirely";

async fn forgot(world: &World, name: &str) {
    let email = json!({"email": format!("{name}@example.org")});
    assert_eq!(
        world
            .stranger()
            .post("/auth/password/forgot", &email)
            .await
            .status,
        202
    );
    world.run_jobs().await;
}

fn reset(token: &str, password: &str) -> Value {
    json!({"token": token, "new_password": password})
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_by_link_which_ends_every_session() {
    world(async |world| {
        let ada = register(world, "ada").await;
        forgot(world, "ada").await;
        let token = mailed_token(world, "ada", "reset-password");
        let mails = world.inbox.messages();
        let mail = mails
            .iter()
            .find(|mail| mail.subject == "Set a new password")
            .expect("a mail");
        let link = format!("http://127.0.0.1:8080/reset-password?token={token}");
        assert!(
            mail.text.as_ref().is_some_and(|text| text.contains(&link)),
            "{mail:?}"
        );

        let weak = world
            .stranger()
            .post("/auth/password/reset", &reset(&token, "password123"))
            .await;
        assert_eq!(weak.bad_fields(), ["new_password"]);
        world
            .stranger()
            .post("/auth/password/reset", &reset(&token, NEW))
            .await
            .expect(204);

        bearer(world, &ada)
            .get("/users/me")
            .await
            .refused(401, "UNAUTHENTICATED");
        world
            .stranger()
            .post("/auth/login", &credentials("ada", PASSWORD))
            .await
            .refused(401, "INVALID_CREDENTIALS");
        let login = world
            .stranger()
            .post("/auth/login", &credentials("ada", NEW))
            .await
            .expect(200);
        assert!(
            login["user"]["email_verified_at"].is_string(),
            "the link proved the address"
        );
        let told = kinds(world, &ada["user"]["id"]).await;
        assert!(
            told.contains(&"user.reset_link_mailed".into())
                && told.contains(&"user.password_reset".into()),
            "{told:?}"
        );

        // Once is once.
        world
            .stranger()
            .post("/auth/password/reset", &reset(&token, PASSWORD))
            .await
            .refused(404, "LINK_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn of_two_who_follow_a_link_at_once_one_sets_the_password() {
    world(async |world| {
        register(world, "ada").await;
        forgot(world, "ada").await;
        let (anybody, link) = (
            world.stranger(),
            reset(&mailed_token(world, "ada", "reset-password"), NEW),
        );
        let (one, two) = tokio::join!(
            anybody.post("/auth/password/reset", &link),
            anybody.post("/auth/password/reset", &link)
        );
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 404]);
    })
    .await;
}

#[tokio::test]
async fn a_link_expires_and_fits_its_own_purpose_only() {
    world(async |world| {
        register(world, "ada").await;
        world.run_jobs().await;
        let verify = mailed_token(world, "ada", "verify-email");
        world
            .stranger()
            .post("/auth/password/reset", &reset(&verify, NEW))
            .await
            .refused(404, "LINK_NOT_FOUND");
        forgot(world, "ada").await;
        let token = mailed_token(world, "ada", "reset-password");
        let other = json!({ "token": token });
        world
            .stranger()
            .post("/auth/email/verify", &other)
            .await
            .refused(404, "LINK_NOT_FOUND");
        world.pass(TimeDelta::hours(1));
        world
            .stranger()
            .post("/auth/password/reset", &reset(&token, NEW))
            .await
            .refused(404, "LINK_NOT_FOUND");
        world
            .stranger()
            .post("/auth/password/reset", &reset("guessed", NEW))
            .await
            .refused(404, "LINK_NOT_FOUND");
        log_in(world, "ada").await;
    })
    .await;
}

#[tokio::test]
async fn nobody_is_flooded_with_links() {
    world(async |world| {
        register(world, "ada").await;
        let resets = || {
            world
                .inbox
                .messages()
                .iter()
                .filter(|mail| mail.subject == "Set a new password")
                .count()
        };
        for _ in 0..3 {
            forgot(world, "ada").await;
        }
        assert_eq!(resets(), 1);
        world.pass(TimeDelta::minutes(1));
        forgot(world, "ada").await;
        assert_eq!(resets(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_address_is_confirmed_by_link() {
    world(async |world| {
        let ada = register(world, "ada").await;
        world.run_jobs().await;
        let token = json!({"token": mailed_token(world, "ada", "verify-email")});
        world
            .stranger()
            .post("/auth/email/verify", &token)
            .await
            .expect(204);
        let me = bearer(world, &ada).get("/users/me").await.expect(200);
        assert_eq!(me["email_verified_at"], "2026-01-15T10:30:00Z");
        world
            .stranger()
            .post("/auth/email/verify", &token)
            .await
            .refused(404, "LINK_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_new_address_counts_once_it_is_confirmed() {
    world(async |world| {
        let ada = register(world, "ada").await;
        register(world, "bob").await;
        let client = bearer(world, &ada);
        let of_bob = json!({"email": "bob@example.org"});
        client
            .put("/users/me", &of_bob)
            .await
            .refused(409, "EMAIL_TAKEN");

        let me = client
            .put("/users/me", &json!({"email": "Countess@Example.org"}))
            .await
            .expect(200);
        assert_eq!(
            (&me["email"], &me["pending_email"]),
            (&json!("ada@example.org"), &json!("countess@example.org"))
        );
        world.run_jobs().await;
        log_in(world, "ada").await;
        let token = json!({"token": mailed_token(world, "countess", "verify-email")});
        world
            .stranger()
            .post("/auth/email/verify", &token)
            .await
            .expect(204);
        let me = client.get("/users/me").await.expect(200);
        assert_eq!(
            (&me["email"], &me["pending_email"]),
            (&json!("countess@example.org"), &Value::Null)
        );
        log_in(world, "countess").await;
        world
            .stranger()
            .post("/auth/login", &credentials("ada", PASSWORD))
            .await
            .refused(401, "INVALID_CREDENTIALS");
    })
    .await;
}

#[tokio::test]
async fn an_address_that_was_taken_meanwhile_stays_taken() {
    world(async |world| {
        let ada = register(world, "ada").await;
        bearer(world, &ada)
            .put("/users/me", &json!({"email": "wanted@example.org"}))
            .await
            .expect(200);
        world.run_jobs().await;
        let token = json!({"token": mailed_token(world, "wanted", "verify-email")});
        register(world, "wanted").await;
        world
            .stranger()
            .post("/auth/email/verify", &token)
            .await
            .refused(409, "EMAIL_TAKEN");
        log_in(world, "ada").await;
    })
    .await;
}

#[tokio::test]
async fn a_reset_ends_the_move_to_another_address_that_somebody_else_began() {
    world(async |world| {
        let tokens = register(world, "ada").await;
        // Whoever has hold of a session asks for the account to be moved to an address of theirs.
        let thief = bearer(world, &tokens);
        let change = json!({"email": "thief@example.org", "version": 1});
        thief.put("/users/me", &change).await.expect(200);
        world.run_jobs().await;
        let stolen = mailed_token(world, "thief", "verify-email");

        forgot(world, "ada").await;
        let token = mailed_token(world, "ada", "reset-password");
        let anybody = world.stranger();
        let answer = anybody
            .post("/auth/password/reset", &reset(&token, NEW))
            .await;
        assert!(answer.status < 300, "{}", answer.text);

        let verify = json!({"token": stolen});
        let refused = anybody.post("/auth/email/verify", &verify).await;
        refused.refused(404, "LINK_NOT_FOUND");
        let ada = json!({"email": "ada@example.org", "password": NEW});
        anybody.post("/auth/login", &ada).await.expect(200);
    })
    .await;
}
