//! A whole purchase, and everything about it, in processes of their own: none of its secrets is in what they write.

use std::collections::BTreeSet;
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, World, world};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::orders::{event_of, wanted};

const PASSWORD: &str = "a lighthouse at night";

/// A process, and what it writes into its log.
struct Process {
    child: Child,
    log: JoinHandle<String>,
}

impl Process {
    /// With the first thing that it says.
    async fn start(world: &World, kind: &str) -> (Self, String) {
        let mut settings: Value = serde_json::from_str(&world.settings()).expect("settings");
        settings["HOLDFAST_TELEMETRY_LOG"] = "debug".into();
        let mut child = Command::new(env!("CARGO_BIN_EXE_test_process"))
            .args([kind, &settings.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let mut errors = child.stderr.take().expect("its log");
        let log = tokio::spawn(async move {
            let mut written = String::new();
            errors.read_to_string(&mut written).await.expect("text");
            written
        });
        let output = child.stdout.take().expect("its output");
        let line = BufReader::new(output).lines().next_line().await;
        let said = line.expect("its output").expect("it is there");
        (Self { child, log }, said)
    }

    async fn end(mut self) -> String {
        self.child.kill().await.expect("it ends");
        self.log.await.expect("its log")
    }
}

/// Every secret that occurred.
#[derive(Default)]
pub(super) struct Secrets(pub BTreeSet<String>);

impl Secrets {
    /// Takes note of what an answer holds under the names that secrets have.
    pub fn of(&mut self, answer: &Value) {
        const NAMES: [&str; 8] = [
            "access_token",
            "client_secret",
            "code",
            "key",
            "refresh_token",
            "secret",
            "token",
            "hold_token",
        ];
        match answer {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(text) if NAMES.contains(&&**name) && text.len() > 8 => {
                            self.0.insert(text.clone());
                        }
                        _ => self.of(value),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.of(item)),
            _ => {}
        }
    }

    /// What stands behind `token=` or `secret=` in the mails.
    pub fn of_mails(&mut self, world: &World) {
        for mail in world.inbox.messages() {
            let text = mail.text.clone().unwrap_or_default();
            for name in ["token=", "secret="] {
                for rest in text.split(name).skip(1) {
                    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c));
                    self.0.insert(rest[..end.unwrap_or(rest.len())].to_owned());
                }
            }
        }
    }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// Waits until there is a mail to somebody with these words in its subject; answers the token in its link.
async fn mailed_token(world: &World, to: &str, subject: &str) -> String {
    let found = async {
        loop {
            for mail in world.inbox.messages() {
                if mail.to == [to] && mail.subject.contains(subject) {
                    let text = mail.text.clone().unwrap_or_default();
                    let (_, rest) = text.split_once("token=").expect("a link");
                    return rest.split_whitespace().next().expect("a token").to_owned();
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, found).await.expect("a mail")
}

async fn accounts(world: &World, shop: &Client, secrets: &mut Secrets) {
    let ada = json!({"email": "ada@example.org", "password": PASSWORD, "full_name": "Ada",
                     "organization_name": "North Pier"});
    let ada = shop.post("/auth/admin/register", &ada).await.expect(201);
    secrets.of(&ada);
    let bearer = |tokens: &Value| format!("Bearer {}", text(&tokens["access_token"]));
    let owner = shop.with("authorization", &bearer(&ada));
    let confirm = mailed_token(world, "ada@example.org", "onfirm").await;
    let verified = json!({ "token": confirm });
    shop.post("/auth/email/verify", &verified).await.expect(204);
    let organization = text(&ada["organizations"][0]["organization_id"]);
    let place = format!("/organizations/{organization}");
    let key = json!({"name": "Shop", "scopes": ["events:read"]});
    let key = owner.post(&format!("{place}/api-keys"), &key).await;
    let key = key.expect(201);
    secrets.of(&key);
    let service = shop.with("x-api-key", text(&key["key"]));
    service.get("/admin/events").await.expect(200);
    let roles = owner.get(&format!("{place}/roles")).await.expect(200);
    let role = &roles["items"][0]["id"];
    let invite = json!({"email": "ben@example.org", "role_id": role});
    let invite = owner.post(&format!("{place}/members"), &invite).await;
    invite.expect(201);
    let invitation = mailed_token(world, "ben@example.org", "invited").await;
    let ben = json!({"email": "ben@example.org", "password": PASSWORD, "full_name": "Ben"});
    let ben = shop.post("/auth/register", &ben).await.expect(201);
    secrets.of(&ben);
    let ben = shop.with("authorization", &bearer(&ben));
    let accept = format!("/invitations/{invitation}/accept");
    ben.post(&accept, &json!({})).await.expect(200);
    ben.post(&accept, &json!({}))
        .await
        .refused(404, "INVITATION_NOT_FOUND");
    let forgot = json!({"email": "ben@example.org"});
    shop.post("/auth/password/forgot", &forgot)
        .await
        .expect(202);
    let reset = mailed_token(world, "ben@example.org", "new password").await;
    let reset = json!({"token": reset, "new_password": "another horse entirely"});
    shop.post("/auth/password/reset", &reset).await.expect(204);
    let refresh = json!({"refresh_token": ada["refresh_token"]});
    let refreshed = shop.post("/auth/refresh", &refresh).await.expect(200);
    secrets.of(&refreshed);
}

async fn purchase(world: &World, shop: &Client, secrets: &mut Secrets) {
    let organizer = world.organizer("lighthouse").await.organizer;
    let event = event_of(&organizer, 20).await;
    let hold = json!({"event_id": event["id"], "items": wanted(&event, 2)});
    let keyed = shop.with("idempotency-key", "hold-1");
    let hold = keyed.post("/holds", &hold).await.expect(201);
    secrets.of(&hold);
    let at = format!("/holds/{}", text(&hold["token"]));
    shop.get(&at).await.expect(200);
    let extended = shop.post(&format!("{at}/extend"), &json!({})).await;
    extended.expect(200);
    let order = json!({"hold_token": hold["token"], "email": "eve@example.org",
                       "payment": {"method": "card", "token": "pm_card_visa"}});
    let keyed = shop
        .with("idempotency-key", "order-1")
        .with("prefer", "wait=30");
    let order = keyed.post("/orders", &order).await.expect(201);
    secrets.of(&order);
    shop.get(&at).await.refused(410, "HOLD_EXPIRED");
    shop.delete("/holds/AAAA")
        .await
        .refused(410, "HOLD_EXPIRED");
    let guest = shop.with("order-secret", text(&order["secret"]));
    let (id, ticket) = (text(&order["id"]), text(&order["tickets"][0]["id"]));
    let by_link = format!("/orders/{id}?secret={}", text(&order["secret"]));
    shop.get(&by_link).await.expect(200);
    for path in [format!("/orders/{id}"), format!("/tickets/{ticket}/qr.svg")] {
        assert_eq!(guest.get(&path).await.status, 200, "{path}");
    }
    let stream = json!({"path": format!("/orders/{id}/stream")});
    let pass = guest.post("/passes", &stream).await.expect(200);
    secrets.of(&pass);
    let mut followed = shop
        .follow(&format!(
            "/orders/{id}/stream?token={}",
            text(&pass["token"])
        ))
        .await;
    assert_eq!(
        followed.next().await.expect("how it stands")["status"],
        "paid"
    );
    let (back, nothing) = (format!("/tickets/{ticket}/cancel"), json!({}));
    guest.put(&back, &nothing).await.expect(200);
    let browser = json!({"event_id": event["id"], "items": wanted(&event, 1), "email": "eve@example.org",
                         "payment": {"method": "client"}});
    let waiting = shop.with("prefer", "wait=30");
    let waiting = waiting.post("/orders", &browser).await.expect(202);
    assert!(waiting["client_secret"].is_string(), "{waiting}");
    secrets.of(&waiting);
    let open = shop.with("order-secret", text(&waiting["secret"]));
    let cancel = format!("/orders/{}/cancel", text(&waiting["id"]));
    open.put(&cancel, &nothing).await.expect(200);
}

#[tokio::test]
async fn no_secret_of_a_whole_purchase_is_in_a_log() {
    world(async |world| {
        let (api, base) = Process::start(world, "api").await;
        let (worker, _) = Process::start(world, "worker").await;
        let shop = world.stranger().at(&base);
        let mut secrets = Secrets::default();
        purchase(world, &shop, &mut secrets).await;
        accounts(world, &shop, &mut secrets).await;
        let odd = shop.send(
            Method::POST,
            "/orders?secret=mistyped-secret",
            Some("{".into()),
        );
        odd.await.refused(400, "MALFORMED_REQUEST");
        secrets.of_mails(world);
        secrets.0.insert("mistyped-secret".to_owned());
        secrets.0.insert(PASSWORD.to_owned());
        assert!(secrets.0.len() > 15, "{:?}", secrets.0);

        let log = api.end().await + &worker.end().await;
        for line in ["answered", "/holds/:", "/invitations/:", "orders.confirm"] {
            assert!(log.contains(line), "{line} is not in the log: {log}");
        }
        for secret in &secrets.0 {
            let line = log.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "{secret} is in the log");
        }
    })
    .await;
}
