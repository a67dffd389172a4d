//! Whom limits count: addresses, the networks they belong to, and what proxies say of them.

use reqwest::Method;
use sandbox::stripe::sign;
use serde_json::json;
use tests::{Client, WEBHOOK_SECRET, World, world, world_with};

const THREE_A_MINUTE: (&str, &str) = ("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "3");
const BEHIND_A_PROXY: (&str, &str) = ("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8");

fn passed_on(world: &World, hops: &str) -> Client {
    world.stranger().with("x-forwarded-for", hops)
}

async fn ask(client: &Client, status: u16) {
    client.get("/venues").await.expect(status);
}

#[tokio::test]
async fn callers_behind_trusted_proxies_are_counted_by_themselves() {
    world_with(&[THREE_A_MINUTE, BEHIND_A_PROXY], async |world| {
        let hops = [
            "198.51.100.7",
            "203.0.113.9, 198.51.100.7",
            "127.0.0.1, 198.51.100.7, 10.0.0.4",
        ];
        for hops in hops {
            ask(&passed_on(world, hops), 200).await;
        }
        // What a caller writes to the left of their own address changes nothing.
        ask(&passed_on(world, "192.0.2.77, 198.51.100.7"), 429).await;
        ask(&passed_on(world, "198.51.100.8"), 200).await;
        // The proxy itself asks whether the product is well.
        ask(&world.stranger(), 200).await;
    })
    .await;
}

#[tokio::test]
async fn addresses_of_one_ipv6_network_are_counted_together() {
    world_with(&[THREE_A_MINUTE, BEHIND_A_PROXY], async |world| {
        for host in ["::1", ":9::2", ":ffff:ffff::3"] {
            ask(&passed_on(world, &format!("2001:db8:1:2{host}")), 200).await;
        }
        ask(&passed_on(world, "2001:db8:1:2::4"), 429).await;
        ask(&passed_on(world, "2001:db8:1:3::4"), 200).await;
    })
    .await;
}

#[tokio::test]
async fn callers_who_cannot_be_told_apart_share_one_limit() {
    world_with(&[THREE_A_MINUTE, BEHIND_A_PROXY], async |world| {
        for hops in ["unknown", "", "198.51.100.7, _hidden"] {
            ask(&passed_on(world, hops), 200).await;
        }
        ask(&passed_on(world, "nonsense"), 429).await;
        // They are not taken for this machine, where the figures may be asked for.
        let figures = passed_on(world, "unknown").get("/metrics").await;
        figures.refused(401, "UNAUTHENTICATED");
        let figures = world.stranger().get("/metrics").await;
        assert_eq!(figures.status, 200);
    })
    .await;
}

#[tokio::test]
async fn nobody_is_believed_who_is_no_proxy_of_ours() {
    let elsewhere = ("HOLDFAST_HTTP_TRUSTED_PROXIES", "10.0.0.0/8");
    world_with(&[THREE_A_MINUTE, elsewhere], async |world| {
        for hops in ["198.51.100.1", "198.51.100.2", "198.51.100.3"] {
            ask(&passed_on(world, hops), 200).await;
        }
        ask(&passed_on(world, "198.51.100.4"), 429).await;
    })
    .await;
}

#[tokio::test]
async fn the_header_of_the_standard_counts_where_it_was_chosen() {
    let standard = ("HOLDFAST_HTTP_FORWARDED_HEADER", "forwarded");
    world_with(&[THREE_A_MINUTE, BEHIND_A_PROXY, standard], async |world| {
        let caller = world.stranger().with("forwarded", "for=198.51.100.7");
        for other in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            ask(&caller.with("x-forwarded-for", other), 200).await;
        }
        ask(&caller, 429).await;
    })
    .await;
}

#[tokio::test]
async fn many_accounts_of_one_network_share_a_limit() {
    let limit = ("HOLDFAST_LIMITS_NETWORK_PER_MINUTE", "6");
    world_with(&[limit, BEHIND_A_PROXY], async |world| {
        let (ada, ben) = (world.person("ada").await, world.person("ben").await);
        let key = world.organizer("lighthouse").await.organizer;
        let from = |client: &Client, network: &str| {
            let hop = format!("2001:db8:{network}::1");
            client.with("x-forwarded-for", &hop)
        };
        for client in [&ada.client, &ben.client, &key] {
            for _ in 0..2 {
                ask(&from(client, "a"), 200).await;
            }
        }
        for client in [&ada.client, &ben.client, &key] {
            let refused = from(client, "a").get("/venues").await;
            refused.refused(429, "RATE_LIMITED");
            ask(&from(client, "b"), 200).await;
        }
        // Callers without an account have a limit of their own.
        ask(&from(&world.stranger(), "a"), 200).await;
    })
    .await;
}

#[tokio::test]
async fn forged_webhooks_count_and_genuine_ones_are_heard_all_the_same() {
    world_with(&[THREE_A_MINUTE], async |world| {
        let event = json!({
            "id": "evt_1", "object": "event", "type": "customer.created", "created": 1,
            "data": {"object": {"id": "cus_1", "object": "customer"}},
        })
        .to_string();
        let now = world.app.clock.now().timestamp();
        let send = async |secret: &str| {
            let signature = sign(secret, now, event.as_bytes());
            let stripe = world.stranger().with("stripe-signature", &signature);
            let path = "/webhooks/stripe";
            stripe.send(Method::POST, path, Some(event.clone())).await
        };
        for _ in 0..3 {
            send("whsec_forged").await.refused(400, "MALFORMED_REQUEST");
        }
        for _ in 0..2 {
            let refused = send("whsec_forged").await;
            assert_eq!(refused.header("retry-after"), Some("60"));
            refused.refused(429, "RATE_LIMITED");
        }
        for _ in 0..5 {
            assert_eq!(send(WEBHOOK_SECRET).await.status, 200);
        }
        ask(&world.stranger(), 429).await;
    })
    .await;
}

#[tokio::test]
async fn a_request_keeps_the_callers_name_beside_ours() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let named = organizer.with("x-request-id", "mine-1");
        let made = named.post("/venues", &tests::harbour_hall()).await;
        let ours = made.header("x-request-id").expect("an id").to_owned();
        assert_eq!(made.header("x-client-request-id"), Some("mine-1"));
        let made = made.expect(201);
        let twice = named.get("/nowhere").await;
        assert_ne!(twice.header("x-request-id"), Some(ours.as_str()));
        assert_ne!(twice.body["error"]["request_id"], "mine-1");

        let causes: Vec<Option<String>> =
            sqlx::query_scalar("select cause from activities where kind = 'venue.created'")
                .fetch_all(world.app.pool())
                .await
                .expect("activities");
        assert_eq!(causes, [Some(ours)], "{made}");

        for odd in ["", "x y", &"x".repeat(200)] {
            let answer = world.stranger().with("x-request-id", odd);
            let answer = answer.get("/venues").await;
            assert_eq!(answer.header("x-client-request-id"), None, "{odd}");
            assert!(
                answer
                    .header("x-request-id")
                    .is_some_and(|id| id.len() == 36)
            );
        }
    })
    .await;
}
