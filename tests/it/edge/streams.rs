//! Streams: how many there may be, how long they last, and that they end with the right that opened them.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Events, Organizer, World, on_sale, standard, workshop, world, world_with};
use tokio::time::timeout;

use crate::orders::{card_order, event_of, opened};

const PATIENCE: Duration = Duration::from_secs(20);

/// The stream says nothing more, and ends.
async fn ends(mut stream: Events) {
    let rest = timeout(PATIENCE, stream.next()).await;
    assert_eq!(rest.expect("the stream ends"), None);
}

/// An order that waits, since nobody works.
struct Waiting {
    lighthouse: Organizer,
    order: Value,
}

impl Waiting {
    async fn of(world: &World, buyer: &Client) -> Self {
        let lighthouse = world.organizer("lighthouse").await;
        let event = event_of(&lighthouse.organizer, 5).await;
        let new = card_order(&event, 1, "pm_card_visa");
        let order = buyer.post("/orders", &new).await.expect(202);
        Self { lighthouse, order }
    }

    fn stream(&self) -> String {
        let id = self.order["id"].as_str().expect("an id");
        format!("/orders/{id}/stream")
    }

    async fn followed_by(&self, client: &Client) -> Events {
        let mut stream = client.follow(&self.stream()).await;
        let first = stream.next().await.expect("as it is");
        assert_eq!(first["status"], "pending");
        stream
    }

    fn organization(&self, rest: &str) -> String {
        format!("/organizations/{}{rest}", self.lighthouse.id)
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_session_that_opened_it() {
    world(async |world| {
        let ada = world.person("ada").await.client;
        let waiting = Waiting::of(world, &ada).await;
        let place = format!("{}/stream", availability(&waiting.order));
        let mut public = ada.follow(&place).await;
        public.next().await.expect("what is left");
        let stream = waiting.followed_by(&ada).await;
        let logout = ada.send(Method::POST, "/auth/logout", None);
        logout.await.expect(204);
        ends(stream).await;
        ends(public).await;
        world.run_jobs().await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_with_the_role_or_the_membership_that_opened_it() {
    world(async |world| {
        let guest = world.stranger();
        let waiting = Waiting::of(world, &guest).await;
        let id = waiting.lighthouse.id;
        let owner = world.member(id, "owner").await.client;
        for (name, leaves) in [("ada", false), ("ben", true)] {
            let organizer = world.person(name).await;
            world.join(organizer.id, id, "organizer").await;
            let stream = waiting.followed_by(&organizer.client).await;
            let member = waiting.organization(&format!("/members/{}", organizer.id));
            if leaves {
                owner.delete(&member).await.expect(204);
            } else {
                let roles = owner.get(&waiting.organization("/roles")).await.expect(200);
                let roles = roles["items"].as_array().expect("roles");
                let plain = roles.iter().find(|role| role["name"] == "member");
                let change = json!({"role_id": plain.expect("a role")["id"]});
                owner.put(&member, &change).await.expect(200);
            }
            ends(stream).await;
        }
        // Whoever may still see the order goes on.
        let (guest, _) = opened(&guest, &waiting.order);
        let mut stream = waiting.followed_by(&guest).await;
        world.run_jobs().await;
        stream.until(|order| order["status"] == "paid").await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_with_the_key_that_opened_it() {
    world(async |world| {
        let waiting = Waiting::of(world, &world.stranger()).await;
        let owner = world.member(waiting.lighthouse.id, "owner").await.client;
        let keys = waiting.organization("/api-keys");
        let new = json!({"name": "Shop", "scopes": ["orders:read"]});
        let made = owner.post(&keys, &new).await.expect(201);
        let service = world.with_key(made["key"].as_str().expect("a key"));
        let stream = waiting.followed_by(&service).await;
        let key = format!("{keys}/{}", made["id"].as_str().expect("an id"));
        owner.delete(&key).await.expect(204);
        ends(stream).await;
        world.run_jobs().await;
    })
    .await;
}

#[tokio::test]
async fn no_message_is_told_after_the_right_to_it_is_gone() {
    world(async |world| {
        let waiting = Waiting::of(world, &world.stranger()).await;
        let id = waiting.lighthouse.id;
        let organizer = world.member(id, "organizer").await;
        let stream = waiting.followed_by(&organizer.client).await;
        let owner = world.member(id, "owner").await.client;
        let member = waiting.organization(&format!("/members/{}", organizer.id));
        owner.delete(&member).await.expect(204);
        // There is news at once, long before the stream is looked at by itself.
        world.run_jobs().await;
        ends(stream).await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_lasts_so_long_and_can_be_opened_again() {
    world_with(&[("HOLDFAST_HTTP_STREAM_LONGEST", "1s")], async |world| {
        let guest = world.stranger();
        let waiting = Waiting::of(world, &guest).await;
        let (guest, _) = opened(&guest, &waiting.order);
        for _ in 0..2 {
            let stream = waiting.followed_by(&guest).await;
            ends(stream).await;
        }
        world.run_jobs().await;
    })
    .await;
}

fn availability(order: &Value) -> String {
    let event = order["event_id"].as_str().expect("an id");
    format!("/events/{event}/availability")
}

#[tokio::test]
async fn a_caller_and_a_network_follow_so_many_streams_and_no_more() {
    let settings = [
        ("HOLDFAST_HTTP_STREAMS_PER_CALLER", "2"),
        ("HOLDFAST_HTTP_STREAMS_PER_NETWORK", "3"),
        ("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    world_with(&settings, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = on_sale(&organizer, &workshop(), &standard()).await;
        let id = event["id"].as_str().expect("an id");
        let place = format!("/events/{id}/availability/stream");
        let ada = world.person("ada").await.client;
        let from = |client: &Client, network: &str| client.with("x-forwarded-for", network);
        let refused = async |client: &Client| {
            let refused = client.get(&place).await;
            assert_eq!(refused.header("retry-after"), Some("10"));
            refused.refused(429, "RATE_LIMITED");
        };

        let first = from(&ada, "198.51.100.1").follow(&place).await;
        let _second = from(&ada, "198.51.100.2").follow(&place).await;
        refused(&from(&ada, "198.51.100.3")).await;

        let here = from(&world.stranger(), "198.51.100.1");
        let _third = here.follow(&place).await;
        let _fourth = here.follow(&place).await;
        refused(&here).await;
        let elsewhere = from(&world.stranger(), "198.51.100.9");
        let _fifth = elsewhere.follow(&place).await;

        // A stream that is closed makes room as soon as that is found out.
        drop(first);
        let room = async {
            while here.get(&place).await.status != 200 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, room).await.expect("room again");
    })
    .await;
}
