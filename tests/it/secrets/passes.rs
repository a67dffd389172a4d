//! What a browser opens by its address is opened by a token that is good for nothing else.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tests::{Client, World, world};

use crate::orders::{card_order, event_of, opened};
use crate::tickets::mails::mail_about;

async fn pass(caller: &Client, path: &str) -> String {
    let pass = caller.post("/passes", &json!({ "path": path })).await;
    assert_eq!(pass.header("cache-control"), Some("no-store"));
    let url = pass.expect(200)["url"].clone();
    let url = url.as_str().expect("an address");
    assert!(url.starts_with(&format!("/api/v1{path}?token=")), "{url}");
    url.to_owned()
}

/// A guest and their order that is about to be paid.
async fn ordered(world: &World) -> (Client, Value) {
    let organizer = world.organizer("lighthouse").await.organizer;
    let event = event_of(&organizer, 5).await;
    let guest = world.stranger();
    let order = guest
        .post("/orders", &card_order(&event, 1, "pm_card_visa"))
        .await;
    (guest, order.expect(202))
}

#[tokio::test]
async fn a_guest_follows_an_order_by_a_token_that_works_once() {
    world(async |world| {
        let (guest, order) = ordered(world).await;
        let (opened, place) = opened(&guest, &order);
        let stream = format!("{place}/stream");
        let url = pass(&opened, &stream).await;
        let path = url.trim_start_matches("/api/v1");
        let mut followed = guest.follow(path).await;
        let first = followed.next().await.expect("how it stands");
        assert_eq!(
            (&first["id"], &first["status"]),
            (&order["id"], &json!("pending"))
        );
        guest.get(&url).await.refused(401, "UNAUTHENTICATED");
        world.run_jobs().await;
        followed.until(|order| order["status"] == "paid").await;
        // The secret itself opens nothing from an address here.
        let secret = order["secret"].as_str().expect("a secret");
        let by_secret = guest.get(&format!("{stream}?secret={secret}")).await;
        by_secret.refused(404, "ORDER_NOT_FOUND");
        mail_about(world, "Your tickets");
    })
    .await;
}

#[tokio::test]
async fn a_token_is_for_one_path_and_for_a_minute() {
    world(async |world| {
        let (guest, order) = ordered(world).await;
        world.run_jobs().await;
        let (opened, place) = opened(&guest, &order);
        let order = opened.get(&place).await.expect(200);
        let ticket = format!(
            "/tickets/{}",
            order["tickets"][0]["id"].as_str().expect("an id")
        );
        let url = pass(&opened, &format!("{ticket}/qr.svg")).await;
        let (_, query) = url.split_once('?').expect("a token");
        for elsewhere in [format!("{ticket}/qr.png"), format!("{place}/stream")] {
            let answer = guest.get(&format!("{elsewhere}?{query}")).await;
            answer.refused(401, "UNAUTHENTICATED");
        }
        for never in [ticket.clone(), place.clone()] {
            let answer = guest.get(&format!("{never}?{query}")).await;
            assert_eq!(answer.status, 404, "{never}");
            let asked = opened.post("/passes", &json!({ "path": never })).await;
            assert_eq!(asked.bad_fields(), ["path"]);
        }
        // Presented elsewhere it was not spent.
        let shown = guest.get(&url).await;
        assert!(shown.text.contains("<svg"), "{}", shown.text);
        let late = pass(&opened, &format!("{ticket}/qr.svg")).await;
        world.pass(TimeDelta::seconds(61));
        guest.get(&late).await.refused(401, "UNAUTHENTICATED");
    })
    .await;
}

#[tokio::test]
async fn a_token_ends_with_the_session_and_the_key_that_asked_for_it() {
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        let event = event_of(&ours.organizer, 5).await;
        let ada = world.person("ada").await;
        let order = ada
            .client
            .post("/orders", &card_order(&event, 1, "pm_card_visa"))
            .await;
        let stream = format!(
            "/orders/{}/stream",
            order.expect(202)["id"].as_str().expect("an id")
        );
        let (good, late) = (
            pass(&ada.client, &stream).await,
            pass(&ada.client, &stream).await,
        );
        let stranger = world.stranger();
        let mut followed = stranger.follow(good.trim_start_matches("/api/v1")).await;
        followed.until(|order| order["status"] == "pending").await;
        ada.client
            .post("/auth/logout", &json!({}))
            .await
            .expect(204);
        stranger.get(&late).await.refused(401, "UNAUTHENTICATED");

        let service = pass(&ours.organizer, &stream).await;
        sqlx::query("update api_keys set revoked_at = now()")
            .execute(world.app.pool())
            .await
            .expect("revoked");
        stranger.get(&service).await.refused(401, "UNAUTHENTICATED");
        let nobody = stranger.post("/passes", &json!({ "path": stream })).await;
        nobody.refused(401, "UNAUTHENTICATED");
        let eve = world.person("eve").await.client;
        let theirs = pass(&eve, &stream).await;
        stranger.get(&theirs).await.refused(404, "ORDER_NOT_FOUND");
        // An access token in an address is none any more.
        let token = eve.get(&format!("{stream}?access_token=whatever")).await;
        token.refused(404, "ORDER_NOT_FOUND");
    })
    .await;
}
