//! Whoever reads the whole database opens no order and no door with it.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::encryption::EncryptPlain;
use shared::ids::MailId;
use shared::mail;
use sqlx::PgPool;
use tests::{World, world, world_with};

use super::logs::{Secrets, text};
use crate::orders::{again, bought, card_order, event_of, place_of, wanted};
use crate::tickets::mails::mail_about;

/// Everything that stands in the database, as text: what is kept as bytes as well, in plain and in hexadecimal.
pub(super) async fn whole_database(pool: &PgPool) -> Vec<(String, String)> {
    let tables: Vec<(String, String)> = sqlx::query_as(
        "select table_schema::text, table_name::text from information_schema.tables
         where table_schema in ('public', 'apalis') and table_type = 'BASE TABLE'",
    )
    .fetch_all(pool)
    .await
    .expect("tables");
    let mut rows = Vec::new();
    for (schema, table) in tables {
        let all = format!("select row_to_json(t)::text from {schema}.{table} t");
        let all: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(all))
            .fetch_all(pool)
            .await
            .expect("rows");
        rows.extend(all.into_iter().map(|row| (table.clone(), row)));
    }
    rows
}

/// Fails if one of these stands anywhere.
pub(super) async fn nowhere_in_the_database(world: &World, secrets: &BTreeSet<String>) {
    assert!(!secrets.is_empty());
    let rows = whole_database(world.app.pool()).await;
    assert!(rows.iter().any(|(table, _)| table == "tickets"));
    for secret in secrets {
        let as_bytes = hex_of(secret);
        let found = rows
            .iter()
            .find(|(_, row)| row.contains(secret.as_str()) || row.contains(&as_bytes));
        assert_eq!(found, None, "{secret} is in the database");
    }
}

fn hex_of(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a text takes everything");
        hex
    })
}

#[tokio::test]
async fn a_purchase_leaves_no_secret_in_the_database() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let guest = world.stranger();
        let mut secrets = Secrets::default();
        let hold = json!({"event_id": event["id"], "items": wanted(&event, 1)});
        let holding = guest.with("idempotency-key", "hold-1");
        secrets.of(&holding.post("/holds", &hold).await.expect(201));
        let keyed = guest.with("idempotency-key", "a-key-of-a-guest-that-is-a-secret-too");
        // The mail waits with all that it will say.
        world.inbox.go_down().await.expect("the port is ours");
        let new = card_order(&event, 2, "pm_card_visa");
        let order = keyed.post("/orders", &new).await.expect(202);
        world.run_jobs().await;
        let order = again(&guest, &order).await;
        secrets.of(&order);
        secrets
            .0
            .insert("a-key-of-a-guest-that-is-a-secret-too".to_owned());
        assert_eq!(secrets.0.len(), 5, "{:?}", secrets.0);
        nowhere_in_the_database(world, &secrets.0).await;

        // And yet the mail is written, and everything can be told again.
        world.inbox.come_back().expect("the port is ours");
        world.pass(TimeDelta::minutes(1));
        world.run_jobs().await;
        let mail = mail_about(world, "Your tickets");
        let body = mail.text.as_deref().expect("a text");
        for told in [&order["secret"], &order["tickets"][1]["code"]] {
            assert!(body.contains(text(told)), "{told} is not in {body}");
        }
        let repeated = keyed.post("/orders", &new).await;
        assert_eq!(repeated.header("idempotent-replayed"), Some("true"));
        assert_eq!(repeated.expect(202)["secret"], order["secret"]);
        secrets.of_mails(world);
        nowhere_in_the_database(world, &secrets.0).await;
    })
    .await;
}

#[tokio::test]
async fn a_hold_is_told_again_to_who_repeats_the_request() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let keyed = world.stranger().with("idempotency-key", "hold-1");
        let hold = json!({"event_id": event["id"], "items": wanted(&event, 1)});
        let first = keyed.post("/holds", &hold).await;
        let again = keyed.post("/holds", &hold).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(
            (&again.text, again.header("location")),
            (&first.text, first.header("location"))
        );
        let place = format!("/holds/{}", text(&first.body["token"]));
        assert_eq!(first.header("location"), Some(&*format!("/api/v1{place}")));
        world.stranger().delete(&place).await.expect(204);
    })
    .await;
}

/// Rows as the version before writes them.
async fn written_before(world: &World, order: &Value) {
    let (id, secret) = (text(&order["id"]), text(&order["secret"]));
    let back = "update orders set secret = $2, secret_hash = null, secret_encrypted = null where id = $1::uuid";
    let done = sqlx::query(back)
        .bind(id)
        .bind(secret)
        .execute(world.app.pool());
    done.await.expect("an order");
    for ticket in order["tickets"].as_array().expect("tickets") {
        let back = "update tickets set code = $2, code_hash = null, code_encrypted = null where id = $1::uuid";
        let done = sqlx::query(back)
            .bind(text(&ticket["id"]))
            .bind(text(&ticket["code"]))
            .execute(world.app.pool());
        done.await.expect("a ticket");
    }
    let (code, link) = (text(&order["tickets"][0]["code"]), place_of(order));
    let params = json!({"event": "Rope Basics", "when": "soon", "venue": null, "order": id, "order_link": link,
                        "qr": [code], "tickets": [{"type": "Standard", "code": code, "name": "", "picture": "qr-1@holdfast"}]});
    let mail = "update mails set encrypted = false, params = $2 where cause = 'order-paid:' || $1";
    let done = sqlx::query(mail)
        .bind(id)
        .bind(params)
        .execute(world.app.pool());
    assert_eq!(done.await.expect("a mail").rows_affected(), 1);
}

#[tokio::test]
async fn what_the_version_before_sold_keeps_its_codes_and_links() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        written_before(world, &order).await;
        assert_eq!(again(&guest, &order).await, order, "before they are moved");
        let mut secrets = Secrets::default();
        secrets.of(&order);
        for _ in 0..2 {
            world
                .change(async |tx| {
                    tx.enqueue(&EncryptPlain {});
                    Ok(())
                })
                .await;
            world.run_jobs().await;
            nowhere_in_the_database(world, &secrets.0).await;
            assert_eq!(again(&guest, &order).await, order);
        }
        let id: MailId = sqlx::query_scalar("select id from mails where cause like 'order-paid:%'")
            .fetch_one(world.app.pool())
            .await
            .expect("a mail");
        world.inbox.clear();
        world.change(async |tx| mail::resend(tx, id).await).await;
        world.run_jobs().await;
        let mail = mail_about(world, "Your tickets");
        let body = mail.text.as_deref().expect("a text");
        assert!(body.contains(text(&order["tickets"][0]["code"])), "{body}");
    })
    .await;
}

#[tokio::test]
async fn mailed_links_work_and_stand_nowhere_before_they_are_sent() {
    let keys = (
        "HOLDFAST_AUTH_ENCRYPTION_KEYS",
        "new:0123456789abcdef0123456789abcdef",
    );
    world_with(&[keys], async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        bought(world, &world.stranger(), &card_order(&event, 1, "pm_card_visa")).await;
        world.inbox.go_down().await.expect("the port is ours");
        let ada = json!({"email": "eve@example.org", "password": "a lighthouse at night", "full_name": "Eve"});
        world.stranger().post("/auth/register", &ada).await.expect(201);
        world.run_jobs().await;
        let waiting = whole_database(world.app.pool()).await;
        world.inbox.come_back().expect("the port is ours");
        world.pass(TimeDelta::minutes(1));
        world.run_jobs().await;
        let mut secrets = Secrets::default();
        secrets.of_mails(world);
        assert_eq!(secrets.0.len(), 2, "the order and the address: {:?}", secrets.0);
        for secret in &secrets.0 {
            let found = waiting.iter().find(|(_, row)| row.contains(secret.as_str()));
            assert_eq!(found, None);
        }
        let mails = world.inbox.messages();
        let mail = mails.iter().find(|mail| mail.to == ["eve@example.org"] && mail.subject.contains("onfirm"));
        let link = mail.and_then(|mail| mail.text.clone()).expect("a link");
        let (_, token) = link.split_once("token=").expect("a token");
        let token = json!({"token": token.split_whitespace().next()});
        world.stranger().post("/auth/email/verify", &token).await.expect(204);
    })
    .await;
}
