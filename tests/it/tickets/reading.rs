//! One ticket, and its picture.

use serde_json::json;
use shared::access;
use shared::ids::OrganizationId;
use tests::{harbour_hall, on_sale, standard, world};

use super::*;
use crate::orders::{event_of, opened};

/// A service that may do just this.
async fn key_with(world: &World, of: OrganizationId, scopes: &[&str]) -> Client {
    let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
    let key = world
        .change(async |tx| {
            let now = tx.now();
            access::create_api_key(tx, of, "narrow", &scopes, now).await
        })
        .await;
    world.with_key(&key)
}

async fn order_of_ada(world: &World, organizer: &Client, sensitive: bool) -> Value {
    let venue = organizer.post("/venues", &harbour_hall()).await.expect(201);
    let mut event = workshop();
    event["venue_id"] = venue["id"].clone();
    event["time_zone"] = json!("Europe/Berlin");
    event["is_sensitive"] = json!(sensitive);
    let event = on_sale(organizer, &event, &standard()).await;
    let mut new = card_order(&event, 1, "pm_card_visa");
    new["attendees"] =
        json!([{"name": "Ada Lovelace", "email": "ada@example.org", "emergency_contact": "+44 1"}]);
    bought(world, &world.stranger(), &new).await
}

#[tokio::test]
async fn a_ticket_tells_what_it_is_for() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let order = order_of_ada(world, &organizer, false).await;
        let ticket = world.stranger().get(&of_ticket(&order, 0, "")).await;
        let tag = ticket.header("etag").expect("a tag").to_owned();
        let ticket = ticket.expect(200);
        assert_eq!(ticket["code"], order["tickets"][0]["code"]);
        assert_eq!(ticket["attendee"]["email"], "ada@example.org");
        let event = json!({
            "title": "Rope Basics", "slug": ticket["event"]["slug"], "status": "published",
            "starts_at": "2026-02-10T18:00:00Z", "ends_at": "2026-02-10T20:00:00Z", "time_zone": "Europe/Berlin",
            "venue_name": "Harbour Hall", "city": "Hamburg",
        });
        assert_eq!(ticket["event"], event);
        let sessions = ticket["sessions"].as_array().expect("sessions");
        assert_eq!((sessions.len(), &sessions[0]["code"]), (1, &json!("S1")));

        let again = world.stranger().with("if-none-match", &tag);
        again.get(&of_ticket(&order, 0, "")).await.expect(304);
        let event = format!("/events/{}", order["event_id"].as_str().expect("an id"));
        let change = json!({"title": "Ropes for All", "version": 2});
        organizer.put(&event, &change).await.expect(200);
        let ticket = again.get(&of_ticket(&order, 0, "")).await.expect(200);
        assert_eq!(ticket["event"]["title"], "Ropes for All");
    })
    .await;
}

#[tokio::test]
async fn a_ticket_is_seen_by_whoever_has_it_and_by_its_organizer() {
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        let rivals = world.organizer("rivals").await;
        let order = order_of_ada(world, &ours.organizer, false).await;
        let path = format!("/tickets/{}", id_of(&order["tickets"][0]));
        let secret = order["secret"].as_str().expect("a secret");
        let guest = world.stranger().with("order-secret", secret);
        guest.get(&path).await.expect(200);
        let seen = ours.organizer.get(&path).await.expect(200);
        assert_eq!(seen["attendee"]["email"], "ada@example.org");
        let narrow = key_with(world, ours.id, &["registrations:read"]).await;
        let seen = narrow.get(&path).await.expect(200);
        let attendee = &seen["attendee"];
        assert_eq!(attendee["name"], "Ada Lovelace");
        assert!(attendee["email"].is_null() && attendee["emergency_contact"].is_null());

        let somebody = world.person("somebody").await.client;
        let guessing = world.stranger().with("order-secret", "guessed");
        let others = [
            world.stranger(),
            guessing,
            somebody,
            ours.member.clone(),
            rivals.organizer.clone(),
        ];
        for other in others {
            for what in ["", "/qr.svg", "/qr.png", "/cancellation"] {
                let answer = other.get(&format!("{path}{what}")).await;
                answer.refused(404, "TICKET_NOT_FOUND");
            }
            let answer = other.put(&format!("{path}/cancel"), &json!({})).await;
            answer.refused(404, "TICKET_NOT_FOUND");
        }
    })
    .await;
}

#[tokio::test]
async fn the_account_that_bought_has_the_ticket() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let ada = world.person("ada").await.client;
        let order = ada
            .post("/orders", &card_order(&event, 1, "pm_card_visa"))
            .await;
        let order = order.expect(202);
        world.run_jobs().await;
        let place = format!("/orders/{}", id_of(&order));
        let order = ada.get(&place).await.expect(200);
        let path = format!("/tickets/{}", id_of(&order["tickets"][0]));
        let ticket = ada.get(&path).await.expect(200);
        assert_eq!(ticket["order_id"], order["id"]);
        let eve = world.person("eve").await.client;
        eve.get(&path).await.refused(404, "TICKET_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn who_comes_to_a_sensitive_event_is_a_matter_of_initials() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let order = order_of_ada(world, &organizer, true).await;
        let path = format!("/tickets/{}", id_of(&order["tickets"][0]));
        let seen = organizer.get(&path).await.expect(200);
        assert_eq!(seen["attendee"]["name"], "A.L.");
        let own = world.stranger().get(&of_ticket(&order, 0, "")).await;
        assert_eq!(own.expect(200)["attendee"]["name"], "Ada Lovelace");
    })
    .await;
}

#[tokio::test]
async fn the_picture_is_that_of_the_code() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let (guest, order) = guest_with(world, &event, 1).await;
        let (opened, _) = opened(&guest, &order);
        let ticket = format!("/tickets/{}", id_of(&order["tickets"][0]));
        for (what, kind) in [("/qr.svg", "image/svg+xml"), ("/qr.png", "image/png")] {
            let answer = opened.get(&format!("{ticket}{what}")).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let told = answer.header("content-type").expect("a type");
            assert!(told.starts_with(kind), "{told}");
            assert_eq!(answer.header("cache-control"), Some("private, no-store"));
        }
        let path = json!({"path": format!("{ticket}/qr.png")});
        let pass = opened.post("/passes", &path).await.expect(200);
        let url = format!(
            "{}{}",
            world.base,
            pass["url"].as_str().expect("an address")
        );
        let http = reqwest::Client::builder().no_proxy().build();
        let answer = http.expect("a client").get(url).send().await;
        let png = answer.expect("an answer").bytes().await.expect("a picture");
        assert_eq!(scanned(&png), order["tickets"][0]["code"]);
        let svg = opened.get(&format!("{ticket}/qr.svg")).await.text;
        assert!(
            svg.contains("<svg") && svg.contains("viewBox"),
            "{svg:.200}"
        );

        let cancel = of_ticket(&order, 0, "/cancel");
        guest.put(&cancel, &json!({})).await.expect(200);
        for what in ["/qr.svg", "/qr.png"] {
            let answer = opened.get(&format!("{ticket}{what}")).await;
            let details = answer.refused(409, "TICKET_NOT_VALID");
            assert_eq!(details["status"], "cancelled");
        }
    })
    .await;
}
