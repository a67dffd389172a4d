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
async fn whoever_uses_the_links_of_an_account_at_once_does_not_wait_in_a_circle() {
    world(async |world| {
        register(world, "ada").await;
        let anybody = world.stranger();
        for round in 0..12 {
            let mut tokens = Vec::new();
            for _ in 0..2 {
                world.pass(TimeDelta::minutes(1));
                forgot(world, "ada").await;
                tokens.push(mailed_token(world, "ada", "reset-password"));
            }
            let password = format!("another horse {round}");
            let resets = tokens.iter().map(|token| reset(token, &password));
            let resets: Vec<Value> = resets.collect();
            let (one, two) = tokio::join!(
                anybody.post("/auth/password/reset", &resets[0]),
                anybody.post("/auth/password/reset", &resets[1])
            );
            let mut statuses = [one.status, two.status];
            statuses.sort_unstable();
            assert_eq!(statuses, [204, 404]);
        }
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
        let to = |email: &str| json!({"email": email, "old_password": PASSWORD});
        let of_bob = to("bob@example.org");
        client
            .put("/users/me", &of_bob)
            .await
            .refused(409, "EMAIL_TAKEN");

        let me = client
            .put("/users/me", &to("Countess@Example.org"))
            .await
            .expect(200);
        assert_eq!(
            (&me["email"], &me["pending_email"]),
            (&json!("ada@example.org"), &json!("countess@example.org"))
        );
        world.run_jobs().await;
        let mails = world.inbox.messages();
        let told = "Your account is to get another address";
        let told: Vec<_> = mails.iter().filter(|mail| mail.subject == told).collect();
        assert_eq!(told.len(), 1, "the old address hears of it");
        assert_eq!(told[0].to, ["ada@example.org"]);
        let text = told[0].text.as_ref().expect("a text");
        assert!(!text.contains("countess"), "{text}");
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
            .put(
                "/users/me",
                &json!({"email": "wanted@example.org", "old_password": PASSWORD}),
            )
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
        // Whoever has hold of a session and of the password asks for the account to be moved to an address of theirs.
        let thief = bearer(world, &tokens);
        let change = json!({"email": "thief@example.org", "old_password": PASSWORD, "version": 1});
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

#[tokio::test]
async fn another_address_needs_the_password() {
    world(async |world| {
        let tokens = register(world, "ada").await;
        world.run_jobs().await;
        let mails = world.inbox.messages().len();
        let ada = bearer(world, &tokens);
        let mut change = json!({"email": "thief@example.org"});
        let refused = ada.put("/users/me", &change).await.bad_fields();
        assert_eq!(refused, ["old_password"]);
        change["old_password"] = json!("wrong password");
        for _ in 0..5 {
            let refused = ada.put("/users/me", &change).await.bad_fields();
            assert_eq!(refused, ["old_password"]);
        }
        // Nor does it say who else has an account, before the password was right.
        register(world, "bob").await;
        let of_bob = json!({"email": "bob@example.org", "old_password": "wrong password"});
        let paused = ada.put("/users/me", &of_bob).await;
        paused.refused(429, "RATE_LIMITED");
        let me = ada.get("/users/me").await.expect(200);
        assert_eq!(me["pending_email"], Value::Null);
        // One's own address moves nothing.
        let own = json!({"email": "Ada@example.org", "full_name": "Ada Byron"});
        ada.put("/users/me", &own).await.expect(200);
        world.run_jobs().await;
        let to_bob = |to: &Vec<String>| to == &["bob@example.org"];
        let others = world.inbox.messages();
        let others = others.iter().filter(|mail| !to_bob(&mail.to)).count();
        assert_eq!(others, mails);

        let told = world.activity_of(&tokens["user"]["id"]).await;
        let failed = told
            .iter()
            .filter(|(_, kind, _)| kind == "user.proof_failed");
        let why: Vec<&Value> = failed.map(|(_, _, data)| &data["why"]).collect();
        let mut expected = vec![json!("wrong"); 5];
        expected.push(json!("paused"));
        assert_eq!(why, expected.iter().collect::<Vec<_>>());
        assert!(!format!("{told:?}").contains("wrong password"));
    })
    .await;
}

#[tokio::test]
async fn neither_an_account_nor_an_address_is_flooded_with_links_to_confirm() {
    world(async |world| {
        let ada = bearer(world, &register(world, "ada").await);
        let bob = bearer(world, &register(world, "bob").await);
        let to = |email: &str| json!({"email": email, "old_password": PASSWORD});
        let victim = to("victim@example.org");
        ada.put("/users/me", &victim).await.expect(200);
        // Again by the same account: the link of a moment ago does. By another: it has to wait.
        ada.put("/users/me", &victim).await.expect(200);
        let refused = bob.put("/users/me", &victim).await;
        assert_eq!(refused.header("retry-after"), Some("60"));
        refused.refused(429, "RATE_LIMITED");
        world.run_jobs().await;
        let to_victim = || {
            let messages = world.inbox.messages();
            let to = messages.iter().filter(|it| it.to == ["victim@example.org"]);
            to.count()
        };
        assert_eq!(to_victim(), 1);
        world.pass(TimeDelta::minutes(1));
        bob.put("/users/me", &victim).await.expect(200);
        world.run_jobs().await;
        assert_eq!(to_victim(), 2);

        // Registering has mailed one, so there are three left within the hour.
        for n in 0..3 {
            let other = to(&format!("other{n}@example.org"));
            ada.put("/users/me", &other).await.expect(200);
        }
        let one_more = to("more@example.org");
        let refused = ada.put("/users/me", &one_more).await;
        let details = refused.refused(429, "RATE_LIMITED");
        assert_eq!(details, json!({"retry_after": 59 * 60}));
    })
    .await;
}

#[tokio::test]
async fn changing_the_profile_counts_like_signing_in() {
    let limit = [("HOLDFAST_LIMITS_SIGN_IN_PER_MINUTE", "3")];
    tests::world_with(&limit, async |world| {
        register(world, "bob").await;
        let ada = bearer(world, &register(world, "ada").await);
        let of_bob = json!({"email": "bob@example.org", "old_password": PASSWORD});
        let taken = ada.put("/users/me", &of_bob).await;
        taken.refused(409, "EMAIL_TAKEN");
        let refused = ada.put("/users/me", &of_bob).await;
        refused.refused(429, "RATE_LIMITED");
        ada.get("/users/me").await.expect(200);
    })
    .await;
}
