//! Access tokens: which are good, and how soon they stop being so.

use shared::access::{Person, Tokens};
use shared::config::{Auth, TokenKeys};
use shared::{access, organizations};
use tests::{SignedIn, World, harbour_hall, world, world_with};

const OLD: &str = "old-0123456789abcdef0123456789abcdef";
const NEW: &str = "new-0123456789abcdef0123456789abcdef";

/// A token for somebody, signed by a server with other settings.
fn token(world: &World, of: &SignedIn, change: impl FnOnce(&mut Auth)) -> String {
    let mut auth = world.app.config.auth.clone();
    change(&mut auth);
    let person = Person {
        user_id: of.id,
        session_id: of.session_id,
    };
    let now = world.app.clock.now();
    let token = Tokens::new(&auth).issue(person, now, now + chrono::TimeDelta::days(1));
    token.expect("a token").token
}

fn keys(pairs: &[(&str, &str)]) -> TokenKeys {
    TokenKeys(
        pairs
            .iter()
            .map(|(name, secret)| ((*name).to_owned(), (*secret).into()))
            .collect(),
    )
}

#[tokio::test]
async fn keys_rotate_without_logging_anybody_out() {
    let both = format!("2026b:{NEW},2026a:{OLD}");
    world_with(&[("HOLDFAST_AUTH_TOKEN_KEYS", &both)], async |world| {
        let ada = world.person("ada").await;
        let by_old = token(world, &ada, |auth| {
            auth.token_keys = keys(&[("2026a", OLD)]);
        });
        world.with_token(&by_old).get("/users/me").await.expect(200);
        // What is signed from now on is signed with the new key, and good where only that is known.
        ada.client.get("/users/me").await.expect(200);
        let by_new = token(world, &ada, |_| ());
        let mut later = world.app.config.auth.clone();
        later.token_keys = keys(&[("2026b", NEW)]);
        let later = Tokens::new(&later);
        later
            .read(&by_new, world.app.clock.now())
            .expect("still good");
        later
            .read(&by_old, world.app.clock.now())
            .expect_err("its key is gone");
    })
    .await;
}

#[tokio::test]
async fn forged_and_foreign_tokens_are_refused() {
    let given = format!("2026a:{OLD}");
    world_with(&[("HOLDFAST_AUTH_TOKEN_KEYS", &given)], async |world| {
        let ada = world.person("ada").await;
        let good = token(world, &ada, |_| ());
        let (body, signature) = good.rsplit_once('.').expect("three parts");
        let (_, claims) = body.split_once('.').expect("three parts");
        // {"alg":"none","kid":"2026a"}
        let unsigned = format!("eyJhbGciOiJub25lIiwia2lkIjoiMjAyNmEifQ.{claims}.");
        for bad in [
            token(world, &ada, |auth| {
                auth.token_keys = keys(&[("2026a", NEW)]);
            }),
            token(world, &ada, |auth| {
                auth.token_keys = keys(&[("2026z", OLD)]);
            }),
            token(world, &ada, |auth| auth.token_issuer = "somebody".into()),
            token(world, &ada, |auth| auth.token_audience = "somebody".into()),
            unsigned,
            format!("{body}.{}", signature.chars().rev().collect::<String>()),
            "x.y.z".into(),
            "nonsense".into(),
        ] {
            let refused = world.with_token(&bad).get("/users/me").await;
            assert_eq!(refused.header("www-authenticate"), Some("Bearer, ApiKey"));
            refused.refused(401, "UNAUTHENTICATED");
            world
                .with_token(&bad)
                .get("/venues")
                .await
                .refused(401, "UNAUTHENTICATED");
        }
        world.with_token(&good).get("/users/me").await.expect(200);
        let basic = world.stranger().with("authorization", "Basic YTpi");
        basic.get("/users/me").await.refused(401, "UNAUTHENTICATED");
        let both = world.with_token(&good).with("x-api-key", "hf_key");
        both.get("/users/me").await.refused(401, "UNAUTHENTICATED");
    })
    .await;
}

#[tokio::test]
async fn a_request_asks_postgres_nothing_about_its_caller() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let ada = world.member(lighthouse.id, "organizer").await;
        ada.client.post("/venues", &harbour_hall()).await.expect(201);
        let hide = "alter table login_sessions rename to hidden_sessions; alter table members rename to hidden_members;
                    alter table users rename to hidden_users";
        sqlx::raw_sql(hide).execute(world.app.pool()).await.expect("hidden");
        ada.client.post("/venues", &harbour_hall()).await.expect(201);
        let show = "alter table hidden_sessions rename to login_sessions; alter table hidden_members rename to members;
                    alter table hidden_users rename to users";
        sqlx::raw_sql(show).execute(world.app.pool()).await.expect("shown");
    })
    .await;
}

#[tokio::test]
async fn what_redis_has_lost_is_found_in_postgres() {
    world(async |world| {
        let (ada, eve) = (world.person("ada").await, world.person("eve").await);
        ada.client.get("/users/me").await.expect(200);
        eve.client
            .send(reqwest::Method::POST, "/auth/logout", None)
            .await
            .expect(204);
        let mut redis = world.app.redis.connection();
        let sessions = [ada.session_id, eve.session_id]
            .map(|id| world.app.redis.key(&format!("session:{id}")));
        let lost: i64 = redis::cmd("DEL")
            .arg(&sessions)
            .query_async(&mut redis)
            .await
            .expect("Redis");
        assert_eq!(lost, 2);
        ada.client.get("/users/me").await.expect(200);
        eve.client
            .get("/users/me")
            .await
            .refused(401, "UNAUTHENTICATED");
        let back: i64 = redis::cmd("EXISTS")
            .arg(&sessions)
            .query_async(&mut redis)
            .await
            .expect("Redis");
        assert_eq!(back, 2, "that a session is over is remembered as well");
    })
    .await;
}

#[tokio::test]
async fn a_change_of_role_holds_from_the_next_request_on() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let ada = world.member(lighthouse.id, "organizer").await;
        ada.client.post("/venues", &harbour_hall()).await.expect(201);
        for (role, status) in [("door", 403), ("owner", 201), ("organizer", 201), ("member", 403)] {
            // An organization keeps an owner, whatever becomes of this one.
            let other = world.person(&format!("other.{role}")).await;
            world.join(other.id, lighthouse.id, "owner").await;
            world
                .change(async |tx| {
                    let role = access::built_in_role(tx, role).await?;
                    organizations::set_role(tx, lighthouse.id, ada.id, role).await
                })
                .await;
            let answer = ada.client.post("/venues", &harbour_hall()).await;
            assert_eq!(answer.status, status, "{role}");
        }
        // What the role may do is data, too.
        world
            .change(async |tx| {
                sqlx::query("insert into role_rights select id, 'venues', 'create' from roles where name = 'member'")
                    .execute(&mut **tx).await?;
                access::changed(tx, access::Whose::Everybody);
                Ok(())
            })
            .await;
        ada.client.post("/venues", &harbour_hall()).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn a_person_acts_where_they_belong_and_is_named_for_it() {
    world(async |world| {
        let (ours, rivals) = (
            world.organizer("lighthouse").await,
            world.organizer("rivals").await,
        );
        let ada = world.member(ours.id, "owner").await;
        let venue = ada
            .client
            .post("/venues", &harbour_hall())
            .await
            .expect(201);
        assert_eq!(venue["organization_id"], serde_json::json!(ours.id));
        let theirs = rivals
            .organizer
            .post("/venues", &harbour_hall())
            .await
            .expect(201);
        let place = format!("/venues/{}", theirs["id"].as_str().expect("an id"));
        let change = serde_json::json!({"capacity": 5, "version": 1});
        ada.client
            .put(&place, &change)
            .await
            .refused(403, "FORBIDDEN");
        let told = world.activity_of(&venue["id"]).await;
        assert_eq!(told[0].0, "user");

        // A platform administrator acts everywhere, under their own name.
        let admin = world.person("root").await;
        world
            .change(async |tx| shared::accounts::make_platform_admin(tx, admin.id).await)
            .await;
        admin.client.put(&place, &change).await.expect(200);
        let told = world.activity_of(&theirs["id"]).await;
        assert_eq!(
            (told[1].0.as_str(), told[1].1.as_str()),
            ("user", "venue.changed")
        );
    })
    .await;
}
