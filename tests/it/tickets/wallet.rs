//! The tickets of an account.

use chrono::TimeDelta;
use serde_json::json;
use shared::accounts;
use tests::{Answer, SignedIn, on_sale, standard, world};

use super::*;

async fn event_at(organizer: &Client, title: &str, day: u32) -> Value {
    let mut event = workshop();
    event["title"] = json!(title);
    event["starts_at"] = json!(format!("2026-02-{day:02}T18:00:00Z"));
    event["ends_at"] = json!(format!("2026-02-{day:02}T20:00:00Z"));
    on_sale(organizer, &event, &standard()).await
}

async fn buy(world: &World, person: &Client, event: &Value) -> Value {
    let new = card_order(event, 1, "pm_card_visa");
    let order = person.post("/orders", &new).await.expect(202);
    world.run_jobs().await;
    order
}

/// The titles of the events that the tickets are for.
fn titles(answer: Answer) -> Vec<String> {
    let list = answer.expect(200);
    let items = list["items"].as_array().expect("items").iter();
    let title = |ticket: &Value| ticket["event"]["title"].as_str().map(str::to_owned);
    items.filter_map(title).collect()
}

/// Somebody with tickets for the second, the tenth and the twentieth of February, bought in another order.
async fn ada(world: &World, organizer: &Client) -> SignedIn {
    let ada = world.person("ada").await;
    for (title, day) in [("Twentieth", 20), ("Second", 2), ("Tenth", 10)] {
        let event = event_at(organizer, title, day).await;
        buy(world, &ada.client, &event).await;
    }
    ada
}

#[tokio::test]
async fn what_comes_next_is_first_and_what_is_over_last() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let ada = ada(world, &organizer).await;
        let all = ada.client.get("/users/me/tickets").await;
        assert_eq!(titles(all), ["Second", "Tenth", "Twentieth"]);
        world.pass(TimeDelta::days(27));

        let ada = world.again(&ada);
        let get = async |query: &str| titles(ada.get(&format!("/users/me/tickets{query}")).await);
        assert_eq!(get("").await, ["Twentieth", "Tenth", "Second"]);
        assert_eq!(get("?upcoming=true").await, ["Twentieth"]);
        assert_eq!(get("?upcoming=false").await, ["Tenth", "Second"]);
        let page = ada.get("/users/tickets?limit=2&page=2").await.expect(200);
        assert_eq!(
            (
                &page["total"],
                &page["has_more"],
                &page["items"][0]["event"]["title"]
            ),
            (&json!(3), &json!(false), &json!("Second"))
        );
        let beyond = ada.get("/users/me/tickets?page=9").await.expect(200);
        assert_eq!(
            (&beyond["total"], &beyond["items"]),
            (&json!(3), &json!([]))
        );
    })
    .await;
}

#[tokio::test]
async fn tickets_that_were_given_back_can_be_left_out() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let ada = ada(world, &organizer).await.client;
        let list = ada.get("/users/me/tickets").await.expect(200);
        let cancel = format!("/tickets/{}/cancel", id_of(&list["items"][0]));
        ada.put(&cancel, &json!({})).await.expect(200);
        let get = async |status: &str| {
            let path = format!("/users/me/tickets?status={status}");
            titles(ada.get(&path).await)
        };
        assert_eq!(get("valid").await, ["Tenth", "Twentieth"]);
        assert_eq!(get("cancelled").await, ["Second"]);
        let odd = ada.get("/users/me/tickets?status=lost").await;
        assert_eq!(odd.bad_fields(), ["status"]);
    })
    .await;
}

#[tokio::test]
async fn a_wallet_is_seen_by_its_owner_by_administrators_and_in_part_by_organizers() {
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        let rivals = world.organizer("rivals").await;
        let ada = world.person("ada").await;
        for (organizer, title) in [(&ours.organizer, "Ours"), (&rivals.organizer, "Theirs")] {
            let event = event_at(organizer, title, 10).await;
            buy(world, &ada.client, &event).await;
        }
        let path = format!("/users/{}/tickets", ada.id);
        let admin = world.person("admin").await;
        world
            .change(async |tx| accounts::make_platform_admin(tx, admin.id).await)
            .await;
        let organizer = world.member(ours.id, "organizer").await.client;
        assert_eq!(titles(ada.client.get(&path).await).len(), 2);
        assert_eq!(titles(admin.client.get(&path).await).len(), 2);
        assert_eq!(titles(organizer.get(&path).await), ["Ours"]);
        assert_eq!(titles(ours.organizer.get(&path).await), ["Ours"]);
        assert_eq!(titles(rivals.organizer.get(&path).await), ["Theirs"]);

        let own = organizer.get("/users/me/tickets").await;
        assert_eq!(titles(own), [] as [&str; 0]);
        let eve = world.person("eve").await.client;
        eve.get(&path).await.refused(403, "FORBIDDEN");
        ours.member.get(&path).await.refused(403, "FORBIDDEN");
        let stranger = world.stranger().get(&path).await;
        stranger.refused(401, "UNAUTHENTICATED");
        let key = ours.organizer.get("/users/me/tickets").await;
        key.refused(403, "FORBIDDEN");
        let odd = ada.client.get("/users/somebody/tickets").await;
        assert_eq!(odd.bad_fields(), ["user_id"]);
    })
    .await;
}
