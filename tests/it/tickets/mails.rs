//! The mail with the tickets.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use mail_parser::{MessageParser, MimeHeaders as _, PartType};
use sandbox::inbox::Message;
use serde_json::json;
use shared::ids::{MailId, OrderId};
use shared::mail;
use shared::orders::jobs::Confirm;
use tests::{harbour_hall, on_sale, standard, world};

use super::*;
use crate::orders::{again, event_of, free_order, place_of};

/// The only mail there is with these words in its subject.
pub(crate) fn mail_about(world: &World, subject: &str) -> Arc<Message> {
    let all = world.inbox.messages().into_iter();
    let mut about: Vec<_> = all.filter(|mail| mail.subject.contains(subject)).collect();
    assert_eq!(about.len(), 1, "{subject}: {:?}", world.inbox.messages());
    about.remove(0)
}

/// What the pictures in a mail say, by the names that its HTML has for them.
fn pictures(mail: &Message) -> Vec<(String, String)> {
    let parsed = MessageParser::default().parse(&mail.raw).expect("a mail");
    let pictures = parsed.parts.iter().filter_map(|part| match &part.body {
        PartType::InlineBinary(png) | PartType::Binary(png) => {
            let name = part.content_id().expect("a name").to_owned();
            Some((name, scanned(png)))
        }
        _ => None,
    });
    pictures.collect()
}

fn codes(order: &Value) -> Vec<&str> {
    let tickets = order["tickets"].as_array().expect("tickets").iter();
    tickets
        .filter_map(|ticket| ticket["code"].as_str())
        .collect()
}

/// The way that a mail shows to its order, below the address of the installation.
fn link(mail: &Message) -> String {
    let text = mail.text.as_deref().expect("a text");
    let link = text.lines().find(|line| line.starts_with("http"));
    let link = link.expect("a link").trim_start_matches("http://");
    link[link.find('/').expect("a path")..].to_owned()
}

#[tokio::test]
async fn the_tickets_come_by_mail_with_their_pictures() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let venue = organizer.post("/venues", &harbour_hall()).await.expect(201);
        let mut event = workshop();
        event["venue_id"] = venue["id"].clone();
        event["time_zone"] = json!("Europe/Berlin");
        let event = on_sale(&organizer, &event, &standard()).await;
        let mut new = card_order(&event, 2, "pm_card_visa");
        new["attendees"] = json!([{"name": "Ada <3"}, {"name": "Grace"}]);
        let guest = world.stranger();
        let order = bought(world, &guest, &new).await;

        let mail = mail_about(world, "Your tickets for Rope Basics");
        assert_eq!(mail.to, ["ada@example.org"]);
        let (text, html) = (mail.text.as_deref(), mail.html.as_deref());
        let (text, html) = (text.expect("a text"), html.expect("HTML"));
        let codes = codes(&order);
        for part in [text, html] {
            for told in [
                codes[0],
                codes[1],
                "Grace",
                "Tuesday, 10 February 2026, 19:00 – 21:00 (Europe&#x2f;Berlin)",
                "Harbour Hall, Am Kai 3, Hamburg",
            ] {
                let plain = told.replace("&#x2f;", "/");
                assert!(
                    part.contains(told) || part.contains(&plain),
                    "{told} is not in {part}"
                );
            }
        }
        assert!(text.contains("Ada <3") && html.contains("Ada &lt;3"));
        let shown = pictures(&mail);
        let said: Vec<&str> = shown.iter().map(|(_, code)| code.as_str()).collect();
        assert_eq!(said, codes);
        for (name, _) in &shown {
            assert!(
                html.contains(&format!("\"cid:{name}\"")),
                "{name} is not in {html}"
            );
        }
        let found = world.stranger().get(&link(&mail)).await.expect(200);
        assert_eq!(
            (&found["id"], &found["status"]),
            (&order["id"], &json!("paid"))
        );
    })
    .await;
}

#[tokio::test]
async fn a_mail_server_that_is_down_delays_the_mail_and_nothing_else() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        world.inbox.go_down().await.expect("the port is ours");
        let (guest, order) = guest_with(world, &event, 1).await;
        assert_eq!(again(&guest, &order).await["status"], "paid");
        world.inbox.come_back().expect("the port is ours");
        for _ in 0..3 {
            world.pass(TimeDelta::minutes(1));
            world.run_jobs().await;
        }
        mail_about(world, "Your tickets");
    })
    .await;
}

#[tokio::test]
async fn an_order_is_confirmed_once_however_often_the_job_runs() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let (_, order) = guest_with(world, &event, 1).await;
        let id = OrderId(id_of(&order).parse().expect("an id"));
        for _ in 0..2 {
            let again = Confirm {
                orders: vec![id, id],
            };
            world
                .change(async |tx| {
                    tx.enqueue(&again);
                    Ok(())
                })
                .await;
            world.run_jobs().await;
        }
        mail_about(world, "Your tickets");
    })
    .await;
}

/// An operator sends it again to somebody who has lost it: nothing of it was forgotten.
#[tokio::test]
async fn the_mail_can_be_sent_again() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let (guest, order) = guest_with(world, &event, 1).await;
        let first = mail_about(world, "Your tickets");
        world.inbox.clear();
        let id: MailId = sqlx::query_scalar("select id from mails where cause = $1")
            .bind(format!("order-paid:{}", id_of(&order)))
            .fetch_one(world.app.pool())
            .await
            .expect("a mail");
        world.change(async |tx| mail::resend(tx, id).await).await;
        world.run_jobs().await;
        let again = mail_about(world, "Your tickets");
        assert_eq!(
            (&again.html, &again.message_id),
            (&first.html, &first.message_id)
        );
        assert_eq!(pictures(&again), pictures(&first));
        guest.get(&link(&again)).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn tickets_that_went_back_before_the_mail_was_written_are_not_in_it() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let (guest, order) = guest_with(world, &event, 2).await;
        world.inbox.clear();
        sqlx::query("delete from mails")
            .execute(world.app.pool())
            .await
            .expect("as if it had not been written yet");
        let cancel = of_ticket(&order, 0, "/cancel");
        guest.put(&cancel, &json!({})).await.expect(200);
        let id = OrderId(id_of(&order).parse().expect("an id"));
        world
            .change(async |tx| {
                tx.enqueue(&Confirm { orders: vec![id] });
                Ok(())
            })
            .await;
        world.run_jobs().await;
        let mail = mail_about(world, "Your tickets");
        let [(_, code)] = &pictures(&mail)[..] else {
            panic!("one picture")
        };
        assert_eq!(code, codes(&order)[1]);
    })
    .await;
}

#[tokio::test]
async fn two_hundred_tickets_fit_a_mail() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let (mut event, mut kind) = (workshop(), standard());
        event["capacity"] = json!(200);
        event["max_tickets_per_order"] = json!(200);
        kind["price"] = json!(0);
        let event = on_sale(&organizer, &event, &kind).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &free_order(&event, 200)).await;
        let mail = mail_about(world, "Your tickets");
        let codes = codes(&order);
        assert_eq!(codes.len(), 200);
        let (text, html) = (mail.text.as_deref(), mail.html.as_deref());
        let (text, html) = (text.expect("a text"), html.expect("HTML"));
        for code in &codes {
            assert_eq!(text.matches(code).count(), 1, "{code}");
            assert_eq!(html.matches(code).count(), 1, "{code}");
        }
        assert_eq!(pictures(&mail).len(), 20);
        // Some programs cut what is longer.
        assert!(html.len() < 100_000, "{} bytes", html.len());
        assert!(mail.raw.len() < 120_000, "{} bytes", mail.raw.len());
        guest.get(&place_of(&order)).await.expect(200);
    })
    .await;
}

/// As many as are settled at once.
#[tokio::test]
async fn a_whole_batch_is_confirmed_in_one_go() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let (_, order) = guest_with(world, &event, 2).await;
        sqlx::query(BATCH)
            .bind(id_of(&order))
            .execute(world.app.pool())
            .await
            .expect("copies");
        let query = sqlx::query_scalar("select id from orders where email like 'copy%'");
        let orders: Vec<OrderId> = query.fetch_all(world.app.pool()).await.expect("copies");
        assert_eq!(orders.len(), 256);
        let config = &world.app.config;
        let begun = std::time::Instant::now();
        world
            .change(async |tx| shared::orders::confirm(tx, config, &orders).await)
            .await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "it took {took:?}");
        world.run_jobs().await;
        assert_eq!(world.inbox.messages().len(), 257);
        for gone in [
            "delete from tickets where attendee ->> 'name' = 'copy'",
            "delete from orders where email like 'copy%'",
        ] {
            let gone = sqlx::query(gone).execute(world.app.pool()).await;
            gone.expect("gone");
        }
    })
    .await;
}

/// Copies of an order with its items and tickets, which nobody has paid, as the version before writes them.
const BATCH: &str = "
    with copy as (
        insert into orders (id, organization_id, event_id, email, secret, status, method, currency, total, refund_policy,
                            attendees, hold, payment_deadline, placed_at, asked_at)
        select gen_random_uuid(), organization_id, event_id, 'copy' || n || '@example.org', 'secret' || n, status, method,
               currency, total, refund_policy, attendees, hold, payment_deadline, placed_at, asked_at
        from orders, generate_series(1, 256) n where id = $1::uuid
        returning id
    ), items as (
        insert into order_items (order_id, position, ticket_type_id, name, quantity, price)
        select copy.id, position, ticket_type_id, name, quantity, price
        from copy, order_items where order_id = $1::uuid
    )
    insert into tickets (id, order_id, event_id, organization_id, ticket_type_id, code, status, price, attendee, created_at)
    select gen_random_uuid(), copy.id, event_id, organization_id, ticket_type_id,
           upper(substr(md5(random()::text), 1, 26)), status, price, '{\"name\": \"copy\"}', created_at
    from copy, tickets where order_id = $1::uuid";
