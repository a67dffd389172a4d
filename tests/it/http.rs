//! What every route shares: failures, names, envelopes, limits, headers, health.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{harbour_hall, world, world_with};

#[tokio::test]
async fn every_failure_has_the_one_body() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let stranger = world.stranger();
        let nowhere = "/venues/00000000-0000-7000-8000-000000000000";

        stranger.get("/nowhere").await.refused(404, "NOT_FOUND");
        stranger.get("//").await.refused(404, "NOT_FOUND");
        stranger.get(nowhere).await.refused(404, "VENUE_NOT_FOUND");
        assert_eq!(
            stranger.get("/venues/seven").await.bad_fields(),
            ["venue_id"]
        );

        let wrong = stranger.delete("/venues").await;
        assert_eq!(wrong.header("allow"), Some("GET, POST"));
        wrong.refused(405, "METHOD_NOT_ALLOWED");
        let bad = stranger
            .get("/api/venues?page=x&limit=y")
            .await
            .bad_fields();
        assert_eq!(bad, ["limit", "page"], "by an older name too");

        let broken = organizer
            .send(Method::POST, "/venues", Some("{".into()))
            .await;
        broken.refused(400, "MALFORMED_REQUEST");
        let nothing = organizer
            .send(Method::POST, "/venues", Some(String::new()))
            .await;
        nothing.refused(400, "MALFORMED_REQUEST");
        let array = organizer
            .send(Method::POST, "/venues", Some("[]".into()))
            .await;
        assert_eq!(array.bad_fields(), ["body"]);
        let form = organizer.with("content-type", "application/x-www-form-urlencoded");
        form.post("/venues", &json!({}))
            .await
            .refused(415, "UNSUPPORTED_MEDIA_TYPE");

        let unknown = stranger.post("/venues", &harbour_hall()).await;
        assert_eq!(unknown.header("www-authenticate"), Some("Bearer, ApiKey"));
        unknown.refused(401, "UNAUTHENTICATED");
    })
    .await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_declared_or_not() {
    world_with(&[("HOLDFAST_HTTP_BODY_LIMIT", "2000")], async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut large = harbour_hall();
        large["layout"] = json!("x".repeat(3_000));
        organizer
            .post("/venues", &large)
            .await
            .refused(413, "PAYLOAD_TOO_LARGE");

        let undeclared = organizer.in_chunks().post("/venues", &large).await;
        undeclared.refused(413, "PAYLOAD_TOO_LARGE");
        organizer.post("/venues", &harbour_hall()).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn old_names_lead_to_the_same_operations() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let venue = organizer
            .post("/api/admin/venues", &harbour_hall())
            .await
            .expect(201);
        let id = venue["id"].as_str().expect("an id");
        let old = format!("/admin/venues/{id}");
        let change = json!({"capacity": 2, "version": 1});
        assert_eq!(
            organizer.put(&old, &change).await.expect(200)["capacity"],
            2
        );
        assert_eq!(
            organizer.get("/admin/venues?search=harb").await.expect(200)["total"],
            1
        );
        assert_eq!(organizer.get("/api/venues").await.expect(200)["total"], 1);

        let change = json!({"capacity": 3, "version": 2}).to_string();
        let patched = organizer
            .send(Method::PATCH, &format!("/venues/{id}"), Some(change))
            .await;
        assert_eq!(patched.expect(200)["capacity"], 3);
        organizer.delete(&old).await.expect(204);
    })
    .await;
}

#[tokio::test]
async fn who_asks_for_an_envelope_gets_one_around_everything() {
    world(async |world| {
        let organizer = world
            .organizer("lighthouse")
            .await
            .organizer
            .with("x-envelope", "1");
        let created = organizer.post("/venues", &harbour_hall()).await.expect(201);
        assert_eq!(
            (&created["success"], &created["error"]),
            (&json!(true), &Value::Null)
        );
        assert_eq!(created["data"]["name"], "Harbour Hall");

        let refused = organizer.get("/nowhere").await.expect(404);
        assert_eq!(
            (&refused["success"], &refused["data"]),
            (&json!(false), &Value::Null)
        );
        assert_eq!(refused["error"]["code"], "NOT_FOUND");
        assert_eq!(refused["message"], refused["error"]["message"]);

        let venue = format!("/venues/{}", created["data"]["id"].as_str().expect("an id"));
        let gone = organizer.delete(&venue).await.expect(200);
        assert_eq!(
            gone,
            json!({"success": true, "data": null, "message": null, "error": null})
        );
    })
    .await;
}

#[tokio::test]
async fn a_caller_may_ask_so_often_and_no_more() {
    let limits = [
        ("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "5"),
        ("HOLDFAST_LIMITS_ACCOUNT_PER_MINUTE", "7"),
    ];
    world_with(&limits, async |world| {
        let (stranger, organizer) = (
            world.stranger(),
            world.organizer("lighthouse").await.organizer,
        );
        for left in (0..5).rev() {
            let answer = stranger.get("/venues").await;
            assert_eq!(answer.header("ratelimit-limit"), Some("5"));
            assert_eq!(
                answer.header("ratelimit-remaining"),
                Some(left.to_string().as_str())
            );
            answer.expect(200);
        }
        let refused = stranger.get("/venues").await;
        assert_eq!(refused.header("retry-after"), Some("60"));
        assert_eq!(
            refused.refused(429, "RATE_LIMITED"),
            json!({"retry_after": 60})
        );
        // Guessing keys is asking without an account.
        world
            .with_key("hf_guess")
            .get("/venues")
            .await
            .refused(429, "RATE_LIMITED");

        for _ in 0..7 {
            organizer.get("/venues").await.expect(200);
        }
        organizer.get("/venues").await.refused(429, "RATE_LIMITED");

        world.pass(TimeDelta::minutes(1));
        stranger.get("/venues").await.expect(200);
        organizer.get("/venues").await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn without_redis_a_process_counts_by_itself() {
    let alone = [
        ("REDIS_URL", tests::NO_REDIS),
        ("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "3"),
    ];
    world_with(&alone, async |world| {
        for _ in 0..3 {
            world.stranger().get("/venues").await.expect(200);
        }
        let refused = world.stranger().get("/venues").await;
        refused.refused(429, "RATE_LIMITED");
    })
    .await;
}

#[tokio::test]
async fn a_header_that_cannot_be_read_is_not_taken_for_none() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        for key in ["\u{fc}ber-1", "k\u{e9}y"] {
            let odd = organizer.with("Idempotency-Key", key);
            let bad = odd.post("/venues", &harbour_hall()).await.bad_fields();
            assert_eq!(bad, ["Idempotency-Key"]);
        }
        let twice = organizer
            .with("Idempotency-Key", "a")
            .with("Idempotency-Key", "b");
        let bad = twice.post("/venues", &harbour_hall()).await.bad_fields();
        assert_eq!(bad, ["Idempotency-Key"]);
        assert_eq!(
            world.stranger().get("/venues").await.expect(200)["total"],
            0
        );
    })
    .await;
}

#[tokio::test]
async fn only_pages_of_known_origins_may_call() {
    world_with(
        &[("HOLDFAST_HTTP_CORS_ORIGINS", "https://shop.example")],
        async |world| {
            let shop = world.stranger().with("origin", "https://shop.example");
            let asking = shop.with("access-control-request-method", "PUT");
            let asked = asking.send(Method::OPTIONS, "/venues", None).await;
            assert_eq!(asked.status, 204);
            let methods = asked.header("access-control-allow-methods");
            assert!(methods.is_some_and(|methods| methods.contains("PUT")));
            let refused = shop.get("/nowhere").await;
            assert_eq!(
                refused.header("access-control-allow-origin"),
                Some("https://shop.example")
            );

            let elsewhere = world.stranger().with("origin", "https://evil.example");
            let elsewhere = elsewhere.get("/venues").await;
            assert_eq!(elsewhere.header("access-control-allow-origin"), None);
            elsewhere.expect(200);
        },
    )
    .await;
}

#[tokio::test]
async fn answers_carry_safe_headers_and_the_id_of_their_request() {
    world(async |world| {
        let answer = world.stranger().get("/nowhere").await;
        let id = answer.header("x-request-id").expect("an id");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let policy = answer.header("content-security-policy");
        assert!(policy.is_some_and(|policy| policy.contains("default-src 'none'")));
        assert_eq!(answer.body["error"]["request_id"], id);

        let packed = world
            .stranger()
            .with("accept-encoding", "gzip")
            .get("/openapi.json")
            .await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
    })
    .await;
}

#[tokio::test]
async fn health_tells_the_dependencies_apart() {
    world(async |world| {
        let stranger = world.stranger();
        assert_eq!(
            stranger.get("/healthz").await.expect(200),
            json!({"status": "healthy"})
        );
        let ready = stranger.get("/health/ready").await.expect(200);
        let well = json!({"status": "ready", "database": "ok", "redis": "ok", "migrations": "ok"});
        assert_eq!(ready, well);
    })
    .await;
    // Nobody listens there.
    world_with(&[("REDIS_URL", tests::NO_REDIS)], async |world| {
        let ready = world.stranger().get("/health/ready").await.expect(503);
        assert_eq!(
            (&ready["database"], &ready["redis"]),
            (&json!("ok"), &json!("away"))
        );
        // Browsing goes on without Redis.
        world.stranger().get("/venues").await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn figures_are_for_those_who_know_the_token() {
    world_with(
        &[("HOLDFAST_HTTP_METRICS_TOKEN", "figures")],
        async |world| {
            world.stranger().get("/venues").await.expect(200);
            world
                .stranger()
                .get("/metrics")
                .await
                .refused(401, "UNAUTHENTICATED");
            let operator = world.stranger().with("authorization", "Bearer figures");
            let figures = operator.get("/metrics").await;
            assert_eq!(figures.status, 200);
            let line = r#"http_requests_total{method="GET",route="/api/v1/venues",status="200"}"#;
            assert!(figures.text.contains(line), "{}", figures.text);
        },
    )
    .await;
}
