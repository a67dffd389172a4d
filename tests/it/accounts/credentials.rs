//! Registering and logging in, and what strangers learn from it: nothing.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::{world, world_with};

use super::{PASSWORD, bearer, credentials, kinds, log_in, register, registration};

#[tokio::test]
async fn somebody_registers_and_logs_in() {
    world(async |world| {
        let registered = register(world, "ada").await;
        let user = &registered["user"];
        assert_eq!(
            (&user["email"], &user["email_verified_at"]),
            (&json!("ada@example.org"), &Value::Null)
        );
        assert_eq!(
            (&registered["token_type"], &registered["expires_in"]),
            (&json!("Bearer"), &json!(3600))
        );
        let me = bearer(world, &registered)
            .get("/users/me")
            .await
            .expect(200);
        assert_eq!((&me["id"], &me["organizations"]), (&user["id"], &json!([])));

        world.pass(TimeDelta::hours(2));
        let typed = json!({"email": "  ADA@Example.org ", "password": PASSWORD});
        let answer = world.stranger().post("/auth/login", &typed).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let login = answer.expect(200);
        assert_eq!(login["user"]["id"], user["id"]);
        assert_eq!(login["user"]["last_login_at"], "2026-01-15T12:30:00Z");
        assert_eq!(
            kinds(world, &user["id"]).await,
            ["user.created", "user.logged_in"]
        );

        world.run_jobs().await;
        let mut subjects: Vec<String> = world
            .inbox
            .messages()
            .iter()
            .map(|m| m.subject.clone())
            .collect();
        subjects.sort();
        assert_eq!(
            subjects,
            ["Confirm your mail address", "Welcome to Holdfast"]
        );
    })
    .await;
}

#[tokio::test]
async fn an_address_is_one_account_also_for_two_at_once() {
    world(async |world| {
        register(world, "ada").await;
        let mut again = registration("ada");
        again["email"] = json!("Ada@EXAMPLE.org");
        world
            .stranger()
            .post("/auth/register", &again)
            .await
            .refused(409, "EMAIL_TAKEN");

        let (anybody, bob) = (world.stranger(), registration("bob"));
        let (one, two) = tokio::join!(
            anybody.post("/auth/register", &bob),
            anybody.post("/auth/register", &bob)
        );
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409]);
    })
    .await;
}

#[tokio::test]
async fn bad_registrations_are_refused_by_field() {
    world(async |world| {
        let anybody = world.stranger();
        let refused = async |field: &str, value: Value| {
            let mut bad = registration("ada");
            bad[field] = value;
            anybody.post("/auth/register", &bad).await.bad_fields()
        };
        assert_eq!(refused("email", json!("nobody")).await, ["email"]);
        assert_eq!(
            refused("email", json!("a@b.c\r\nbcc: d@e.f")).await,
            ["email"]
        );
        for password in ["short", "password123", "ADA@example.org", "sunshine"] {
            assert_eq!(
                refused("password", json!(password)).await,
                ["password"],
                "{password}"
            );
        }
        assert_eq!(refused("full_name", json!(" ")).await, ["full_name"]);
        assert_eq!(refused("role", json!("admin")).await, ["role"]);
        assert_eq!(
            refused("is_platform_admin", json!(true)).await,
            ["is_platform_admin"]
        );
    })
    .await;
}

#[tokio::test]
async fn a_stranger_cannot_tell_whether_there_is_an_account() {
    world(async |world| {
        let ada = register(world, "ada").await;
        let off = register(world, "off").await;
        let id = off["user"]["id"]
            .as_str()
            .expect("an id")
            .parse()
            .expect("an id");
        world
            .change(async |tx| shared::accounts::deactivate(tx, shared::ids::UserId(id)).await)
            .await;
        world.person("link-only").await;

        let mut answers = Vec::new();
        for name in ["ada", "nobody", "off", "link-only"] {
            let before = world.app.passwords.comparisons();
            let answer = world
                .stranger()
                .post("/auth/login", &credentials(name, "wrong password"))
                .await;
            assert_eq!(
                world.app.passwords.comparisons() - before,
                1,
                "as much work for {name}"
            );
            answers.push(answer.told());
            answer.refused(401, "INVALID_CREDENTIALS");
        }
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{answers:?}"
        );
        // The right password does not help a deactivated account, and tells nothing either.
        let off = world
            .stranger()
            .post("/auth/login", &credentials("off", PASSWORD))
            .await;
        off.refused(401, "INVALID_CREDENTIALS");

        assert_eq!(
            kinds(world, &ada["user"]["id"]).await,
            ["user.created", "user.login_failed"]
        );
        let told: Vec<Value> =
            sqlx::query_scalar("select data from activities where kind = 'user.login_failed'")
                .fetch_all(world.app.pool())
                .await
                .expect("activities");
        let text = serde_json::to_string(&told).expect("JSON");
        assert_eq!(told.len(), 5);
        assert!(
            !text.contains("wrong password") && !text.contains("nobody"),
            "{text}"
        );
    })
    .await;
}

#[tokio::test]
async fn asking_for_a_new_password_tells_nothing() {
    world(async |world| {
        register(world, "ada").await;
        world.run_jobs().await;
        let mails = world.inbox.messages().len();
        let mut answers = Vec::new();
        for name in ["ada", "nobody"] {
            let email = json!({"email": format!("{name}@example.org")});
            let answer = world.stranger().post("/auth/password/forgot", &email).await;
            assert_eq!(answer.status, 202);
            answers.push(answer.text);
        }
        assert_eq!(answers[0], answers[1]);
        // The same work was left for later, and the difference shows only there.
        let waiting: i64 =
            sqlx::query_scalar("select count(*) from apalis.jobs where status = 'Pending'")
                .fetch_one(world.app.pool())
                .await
                .expect("the queue");
        assert_eq!(waiting, 2);
        world.run_jobs().await;
        assert_eq!(world.inbox.messages().len(), mails + 1);
    })
    .await;
}

#[tokio::test]
async fn failures_slow_down_an_account_that_exists_and_one_that_does_not() {
    world(async |world| {
        register(world, "ada").await;
        for name in ["ada", "nobody"] {
            let wrong = credentials(name, "wrong password");
            for _ in 0..5 {
                world
                    .stranger()
                    .post("/auth/login", &wrong)
                    .await
                    .refused(401, "INVALID_CREDENTIALS");
            }
            let paused = world.stranger().post("/auth/login", &wrong).await;
            assert_eq!(paused.header("retry-after"), Some("1"), "{name}");
            assert_eq!(
                paused.refused(429, "RATE_LIMITED"),
                json!({"retry_after": 1})
            );
            world.pass(TimeDelta::seconds(1));
            world
                .stranger()
                .post("/auth/login", &wrong)
                .await
                .refused(401, "INVALID_CREDENTIALS");
            let longer = world.stranger().post("/auth/login", &wrong).await;
            assert_eq!(
                longer.refused(429, "RATE_LIMITED"),
                json!({"retry_after": 2})
            );
        }
        // Not even with the right password, else the pause would slow nobody down.
        let (right, wrong) = (
            credentials("ada", PASSWORD),
            credentials("ada", "wrong password"),
        );
        world.pass(TimeDelta::seconds(10));
        world
            .stranger()
            .post("/auth/login", &wrong)
            .await
            .refused(401, "INVALID_CREDENTIALS");
        world
            .stranger()
            .post("/auth/login", &right)
            .await
            .refused(429, "RATE_LIMITED");
        world.pass(TimeDelta::seconds(4));
        world
            .stranger()
            .post("/auth/login", &right)
            .await
            .expect(200);
        // What was not even compared is in the feed as well.
        let told: Vec<(Value, i64)> = sqlx::query_as(
            "select data -> 'why', count(*) from activities where kind = 'user.login_failed' group by 1 order by 1",
        )
        .fetch_all(world.app.pool())
        .await
        .expect("activities");
        assert_eq!(told, [(json!("paused"), 5), (json!("wrong"), 13)]);
        // And a success forgets the failures of the account.
        for _ in 0..5 {
            world
                .stranger()
                .post("/auth/login", &wrong)
                .await
                .refused(401, "INVALID_CREDENTIALS");
        }
    })
    .await;
}

#[tokio::test]
async fn guesses_at_the_same_moment_are_counted_one_by_one() {
    world(async |world| {
        register(world, "ada").await;
        let (anybody, wrong) = (world.stranger(), credentials("ada", "wrong password"));
        let guesses = (0..12).map(|_| anybody.post("/auth/login", &wrong));
        let answers = futures_util::future::join_all(guesses).await;
        let tried = answers.iter().filter(|answer| answer.status == 401).count();
        assert_eq!(tried, 5, "the others have to wait");
        assert!(
            answers
                .iter()
                .all(|answer| [401, 429].contains(&answer.status))
        );
    })
    .await;
}

#[tokio::test]
async fn failures_slow_down_an_address_whatever_the_account() {
    world_with(
        &[("HOLDFAST_AUTH_FAILURES_PER_ADDRESS", "3")],
        async |world| {
            register(world, "ada").await;
            for name in ["one", "two", "three"] {
                let wrong = credentials(name, "wrong password");
                world
                    .stranger()
                    .post("/auth/login", &wrong)
                    .await
                    .refused(401, "INVALID_CREDENTIALS");
            }
            let right = credentials("ada", PASSWORD);
            world
                .stranger()
                .post("/auth/login", &right)
                .await
                .refused(429, "RATE_LIMITED");
            world.pass(TimeDelta::seconds(1));
            world
                .stranger()
                .post("/auth/login", &right)
                .await
                .expect(200);
        },
    )
    .await;
}

#[tokio::test]
async fn signing_in_has_a_limit_of_its_own() {
    world_with(
        &[("HOLDFAST_LIMITS_SIGN_IN_PER_MINUTE", "3")],
        async |world| {
            register(world, "ada").await;
            log_in(world, "ada").await;
            let email = json!({"email": "ada@example.org"});
            assert_eq!(
                world
                    .stranger()
                    .post("/auth/password/forgot", &email)
                    .await
                    .status,
                202
            );
            let refused = world
                .stranger()
                .post("/auth/login", &credentials("ada", PASSWORD))
                .await;
            assert_eq!(refused.header("retry-after"), Some("60"));
            refused.refused(429, "RATE_LIMITED");
            world.stranger().get("/venues").await.expect(200);
            world.pass(TimeDelta::minutes(1));
            log_in(world, "ada").await;
        },
    )
    .await;
}

#[tokio::test]
async fn an_imported_password_verifies_and_is_kept_as_ours_from_then_on() {
    world(async |world| {
        register(world, "ada").await;
        let imported = "$pbkdf2-sha256$i=1000$MDEyMzQ1Njc4OWFiY2RlZg$BVALGMmC/K/8ELErc5VgJxyPFApArIZRCQsqjEgZWJ4";
        sqlx::query("update users set password_hash = $1").bind(imported)
            .execute(world.app.pool()).await.expect("an import");
        let kept = async || -> String {
            sqlx::query_scalar("select password_hash from users").fetch_one(world.app.pool()).await.expect("a hash")
        };
        let wrong = credentials("ada", "wrong password");
        world.stranger().post("/auth/login", &wrong).await.refused(401, "INVALID_CREDENTIALS");
        assert_eq!(kept().await, imported);
        log_in(world, "ada").await;
        let ours = kept().await;
        assert!(ours.starts_with("$argon2id$"), "{ours}");
        log_in(world, "ada").await;
        assert_eq!(kept().await, ours);
    })
    .await;
}

#[tokio::test]
async fn without_redis_nobody_logs_in_and_those_who_browse_go_on() {
    world_with(&[("REDIS_URL", tests::NO_REDIS)], async |world| {
        let answer = world
            .stranger()
            .post("/auth/login", &credentials("ada", PASSWORD))
            .await;
        assert!(answer.header("retry-after").is_some());
        answer.refused(503, "UNAVAILABLE");
        let ada = world.person("ada").await;
        ada.client
            .get("/users/me")
            .await
            .refused(503, "UNAVAILABLE");
        world.stranger().get("/venues").await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn whatever_is_kept_of_a_password_a_wrong_one_is_refused_at_the_same_time() {
    let floor = [("HOLDFAST_AUTH_REFUSALS_TAKE", "400ms")];
    world_with(&floor, async |world| {
        let kept = [
            // What another installation, other parameters, other products and accidents leave behind.
            ("pbkdf2", "$pbkdf2-sha256$i=1000$MDEyMzQ1Njc4OWFiY2RlZg$BVALGMmC/K/8ELErc5VgJxyPFApArIZRCQsqjEgZWJ4"),
            ("argon", "$argon2id$v=19$m=256,t=3,p=1$MDEyMzQ1Njc4OWFiY2RlZg$BVALGMmC/K/8ELErc5VgJxyPFApArIZRCQsqjEgZWJ4"),
            ("endless", "$argon2id$v=19$m=4294967295,t=9,p=1$MDEyMzQ1Njc4OWFiY2RlZg$BVALGMmC/K/8ELErc5VgJxyPFApArIZRCQsqjEgZWJ4"),
            ("rounds", "$pbkdf2-sha256$i=4294967295$MDEyMzQ1Njc4OWFiY2RlZg$BVALGMmC/K/8ELErc5VgJxyPFApArIZRCQsqjEgZWJ4"),
            ("bcrypt", "$2b$12$abcdefghijklmnopqrstuuJ7gPp3rZ4jXoUqQh1V7mWpX6b2k3v4e"),
            ("broken", "hunter2"),
            ("empty", ""),
        ];
        for (name, hash) in kept {
            let id = world.person(name).await.id;
            sqlx::query("update users set password_hash = $2 where id = $1").bind(id).bind(hash)
                .execute(world.app.pool()).await.expect("an import");
        }
        register(world, "ours").await;
        let names = kept.iter().map(|(name, _)| *name).chain(["ours", "nobody"]);
        let tries = names.map(async |name| {
            let begun = std::time::Instant::now();
            let login = world.stranger();
            let login = login.post("/auth/login", &credentials(name, "wrong password")).await;
            let took = begun.elapsed();
            assert!(took >= std::time::Duration::from_millis(400), "{name} after {took:?}");
            let told = login.told();
            login.refused(401, "INVALID_CREDENTIALS");
            told
        });
        let answers = futures_util::future::join_all(tries).await;
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    })
    .await;
}
