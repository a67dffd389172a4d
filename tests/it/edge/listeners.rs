//! Listeners of their own for figures and for services of ours.

use std::net::{SocketAddr, TcpListener};

use tests::world_with;

/// The status alone: elsewhere than beside the whole interface, what is documented is not there.
async fn status(base: &str, path: &str) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build();
    let asked = client.expect("a client").get(format!("{base}{path}"));
    asked.send().await.expect("an answer").status().as_u16()
}

/// An address where nothing listens.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

const PRODUCTION: [(&str, &str); 3] = [
    ("HOLDFAST_GENERAL_MODE", "production"),
    (
        "HOLDFAST_AUTH_TOKEN_KEYS",
        "one:k7Qd2vXw9mZr4tYb8nLc3pHs6jFg1aEu",
    ),
    ("HOLDFAST_STRIPE_URL", "https://127.0.0.1:1"),
];

#[tokio::test]
async fn production_tells_figures_to_callers_with_the_token_or_on_their_own_listener() {
    world_with(&PRODUCTION, async |world| {
        let refused = world.stranger().get("/metrics").await;
        refused.refused(401, "UNAUTHENTICATED");
    })
    .await;

    let token = ("HOLDFAST_HTTP_METRICS_TOKEN", "figures");
    let settings = [&PRODUCTION[..], &[token]].concat();
    world_with(&settings, async |world| {
        let refused = world.stranger().get("/metrics").await;
        refused.refused(401, "UNAUTHENTICATED");
        let operator = world.stranger().with("authorization", "Bearer figures");
        assert_eq!(operator.get("/metrics").await.status, 200);
    })
    .await;

    let listen = free().to_string();
    let own = ("HOLDFAST_HTTP_METRICS_LISTEN", listen.as_str());
    let settings = [&PRODUCTION[..], &[own]].concat();
    world_with(&settings, async |world| {
        let nothing = world.stranger().get("/metrics").await;
        nothing.refused(404, "NOT_FOUND");
        let apart = format!("http://{listen}");
        assert_eq!(status(&apart, "/metrics").await, 200);
        assert_eq!(status(&apart, "/health/ready").await, 200);
        assert_eq!(status(&apart, "/api/v1/venues").await, 404);
    })
    .await;
}

#[tokio::test]
async fn services_of_ours_are_answered_on_their_own_listener_alone() {
    let listen = free().to_string();
    let own = ("HOLDFAST_HTTP_INTERNAL_LISTEN", listen.as_str());
    world_with(&[own], async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let service = world.internal(lighthouse.id).await;
        service.get("/venues").await.expect(200);
        let event = "/internal/events/00000000-0000-7000-8000-000000000000";
        let apart = format!("http://{listen}");
        let there = service.at(&apart).get(event).await;
        there.refused(404, "EVENT_NOT_FOUND");
        assert_eq!(status(&apart, "/internal/nowhere").await, 404);
        for path in ["/api/v1/venues", "/docs", "/metrics"] {
            assert_eq!(status(&apart, path).await, 404, "{path}");
        }
        // Without a key the path itself would answer 401.
        assert_eq!(status(&apart, event).await, 401);
        assert_eq!(status(&world.base, event).await, 404);
    })
    .await;
}
