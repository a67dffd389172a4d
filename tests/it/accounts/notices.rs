//! What happens to an account is told to its owner, and those who can do most are signed in for the shortest time.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::{World, world, world_with};

use super::{
    PASSWORD, bearer, credentials, log_in, mailed_token, refresh_of, register, registration,
};

/// As it is when nobody sets anything.
const USUAL: [(&str, &str); 2] = [
    ("HOLDFAST_AUTH_ADMIN_SESSION_IDLE", "30m"),
    ("HOLDFAST_AUTH_ADMIN_SESSION_LONGEST", "12h"),
];

/// The texts of the mails to an address with these words in the subject.
fn told(world: &World, to: &str, subject: &str) -> Vec<String> {
    let mails = world.inbox.messages();
    let mails = mails
        .iter()
        .filter(|mail| mail.to == [to] && mail.subject.contains(subject));
    mails
        .map(|mail| mail.text.clone().expect("a text"))
        .collect()
}

async fn log_in_from(world: &World, agent: &str, address: &str) -> Value {
    let caller = world
        .stranger()
        .with("user-agent", agent)
        .with("x-forwarded-for", address);
    let answer = caller
        .post("/auth/login", &credentials("ada", PASSWORD))
        .await;
    answer.expect(200)
}

#[tokio::test]
async fn a_login_from_a_device_or_network_not_used_before_is_told_once() {
    let proxy = [("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.0/8")];
    world_with(&proxy, async |world| {
        let new = world.stranger().with("user-agent", "Browser/1");
        let new = new.with("x-forwarded-for", "192.0.2.7");
        new.post("/auth/register", &registration("ada"))
            .await
            .expect(201);
        let subject = "signed in";
        log_in_from(world, "Browser/1", "192.0.2.9").await;
        world.run_jobs().await;
        assert_eq!(
            told(world, "ada@example.org", subject),
            [""; 0],
            "known from registering"
        );
        for (agent, address, mails) in [
            ("Phone/2", "192.0.2.7", 1),
            ("Phone/2", "192.0.2.8", 1),
            ("Browser/1", "198.51.100.1", 2),
            ("Browser/1", "198.51.100.1", 2),
            ("Phone/2", "192.0.2.7", 2),
        ] {
            log_in_from(world, agent, address).await;
            world.run_jobs().await;
            let told = told(world, "ada@example.org", subject);
            assert_eq!(told.len(), mails, "{agent} from {address}");
        }
        let mails = told(world, "ada@example.org", subject);
        let names = |what: &str| mails.iter().any(|text| text.contains(what));
        assert!(names("Phone/2") && names("198.51.100.1"), "{mails:?}");
        let wrong = credentials("ada", "not this one");
        let thief = world.stranger().with("user-agent", "Thief/3");
        thief
            .post("/auth/login", &wrong)
            .await
            .refused(401, "INVALID_CREDENTIALS");
        world.run_jobs().await;
        assert_eq!(
            told(world, "ada@example.org", subject).len(),
            2,
            "nobody came in"
        );
    })
    .await;
}

#[tokio::test]
async fn a_new_password_is_told_each_time() {
    world(async |world| {
        let ada = register(world, "ada").await;
        let subject = "password was changed";
        let change = json!({"old_password": PASSWORD, "new_password": "another horse entirely"});
        let changed = bearer(world, &ada).put("/users/me", &change).await;
        changed.expect(200);
        world.run_jobs().await;
        assert_eq!(told(world, "ada@example.org", subject).len(), 1);
        let wrong = bearer(world, &ada).put("/users/me", &change).await;
        assert_eq!(wrong.bad_fields(), ["old_password"]);
        let name = json!({"full_name": "Ada B"});
        bearer(world, &ada).put("/users/me", &name).await.expect(200);
        let forgot = json!({"email": "ada@example.org"});
        world.stranger().post("/auth/password/forgot", &forgot).await.expect(202);
        world.run_jobs().await;
        assert_eq!(told(world, "ada@example.org", subject).len(), 1);
        let reset = json!({"token": mailed_token(world, "ada", "reset-password"), "new_password": PASSWORD});
        world.stranger().post("/auth/password/reset", &reset).await.expect(204);
        world.run_jobs().await;
        assert_eq!(told(world, "ada@example.org", subject).len(), 2);
    })
    .await;
}

#[tokio::test]
async fn the_old_address_hears_that_the_account_has_moved() {
    world(async |world| {
        let ada = register(world, "ada").await;
        world.run_jobs().await;
        let first = json!({"token": mailed_token(world, "ada", "verify-email")});
        world
            .stranger()
            .post("/auth/email/verify", &first)
            .await
            .expect(204);
        world.run_jobs().await;
        let subject = "another address now";
        assert_eq!(
            told(world, "ada@example.org", subject).len(),
            0,
            "it was only confirmed"
        );
        world.pass(TimeDelta::minutes(2));
        let change = json!({"old_password": PASSWORD, "email": "countess@example.org"});
        bearer(world, &ada)
            .put("/users/me", &change)
            .await
            .expect(200);
        world.run_jobs().await;
        let moved = json!({"token": mailed_token(world, "countess", "verify-email")});
        world
            .stranger()
            .post("/auth/email/verify", &moved)
            .await
            .expect(204);
        world.run_jobs().await;
        assert_eq!(told(world, "ada@example.org", subject).len(), 1);
        assert_eq!(told(world, "countess@example.org", subject).len(), 0);
    })
    .await;
}

#[tokio::test]
async fn an_owner_is_signed_out_after_half_an_hour_without_a_refresh() {
    world_with(&USUAL, async |world| {
        let mut owner = registration("kim");
        owner["organization_name"] = json!("North Pier");
        let owner = world
            .stranger()
            .post("/auth/admin/register", &owner)
            .await
            .expect(201);
        assert_eq!(owner["expires_in"], 1_800);
        let plain = register(world, "ada").await;
        assert_eq!(plain["expires_in"], 3_600);
        world.pass(TimeDelta::minutes(29));
        bearer(world, &owner).get("/users/me").await.expect(200);
        let door = world.stranger();
        let refreshed = door
            .post("/auth/refresh", &refresh_of(&owner))
            .await
            .expect(200);
        world.pass(TimeDelta::minutes(31));
        bearer(world, &refreshed)
            .get("/users/me")
            .await
            .refused(401, "TOKEN_EXPIRED");
        let late = door.post("/auth/refresh", &refresh_of(&refreshed)).await;
        late.refused(401, "INVALID_CREDENTIALS");
        let later = door.post("/auth/refresh", &refresh_of(&plain)).await;
        assert_eq!(later.expect(200)["expires_in"], 3_600);
    })
    .await;
}

#[tokio::test]
async fn an_owner_is_signed_out_after_half_a_day_however_busy() {
    world_with(&USUAL, async |world| {
        let mut owner = registration("kim");
        owner["organization_name"] = json!("North Pier");
        let door = world.stranger();
        let mut tokens = door.post("/auth/admin/register", &owner).await.expect(201);
        for _ in 0..28 {
            world.pass(TimeDelta::minutes(25));
            tokens = door
                .post("/auth/refresh", &refresh_of(&tokens))
                .await
                .expect(200);
            bearer(world, &tokens).get("/users/me").await.expect(200);
        }
        assert_eq!(tokens["expires_in"], 20 * 60, "no longer than the session");
        world.pass(TimeDelta::minutes(19));
        bearer(world, &tokens).get("/users/me").await.expect(200);
        world.pass(TimeDelta::minutes(2));
        bearer(world, &tokens)
            .get("/users/me")
            .await
            .refused(401, "TOKEN_EXPIRED");
        let over = door.post("/auth/refresh", &refresh_of(&tokens)).await;
        over.refused(401, "INVALID_CREDENTIALS");
    })
    .await;
}

#[tokio::test]
async fn who_becomes_an_administrator_has_a_short_session_from_then_on() {
    world_with(&USUAL, async |world| {
        register(world, "ada").await;
        let tokens = log_in(world, "ada").await;
        world.pass(TimeDelta::minutes(40));
        bearer(world, &tokens).get("/users/me").await.expect(200);
        let id = tokens["user"]["id"].as_str().and_then(|id| id.parse().ok());
        let id = shared::ids::UserId(id.expect("an id"));
        world
            .change(async |tx| shared::accounts::make_platform_admin(tx, id).await)
            .await;
        bearer(world, &tokens)
            .get("/users/me")
            .await
            .refused(401, "TOKEN_EXPIRED");
        let late = world
            .stranger()
            .post("/auth/refresh", &refresh_of(&tokens))
            .await;
        late.refused(401, "INVALID_CREDENTIALS");

        let anew = log_in(world, "ada").await;
        assert_eq!(anew["expires_in"], 1_800);
        world.pass(TimeDelta::hours(13));
        let person = tests::SignedIn {
            id,
            session_id: shared::ids::LoginSessionId(
                anew["session_id"]
                    .as_str()
                    .and_then(|id| id.parse().ok())
                    .expect("an id"),
            ),
            client: world.stranger(),
        };
        // A token that was just issued does not help a session that is too old.
        world
            .again(&person)
            .get("/users/me")
            .await
            .refused(401, "UNAUTHENTICATED");
    })
    .await;
}
