//! A request with an Idempotency-Key happens once, however often it is sent.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::json;
use tests::{harbour_hall, world};

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer() {
    world(async |world| {
        let organizer = world
            .organizer("lighthouse")
            .await
            .organizer
            .with("idempotency-key", "k1");
        let first = organizer.post("/venues", &harbour_hall()).await;
        assert_eq!(first.header("idempotent-replayed"), None);
        let location = first.header("location").map(str::to_owned);
        let first = first.expect(201);

        let again = organizer.post("/admin/venues", &harbour_hall()).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("location").map(str::to_owned), location);
        assert_eq!(again.expect(201), first);
        assert_eq!(
            world.stranger().get("/venues").await.expect(200)["total"],
            1
        );
    })
    .await;
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_caller() {
    world(async |world| {
        let lighthouse = world
            .organizer("lighthouse")
            .await
            .organizer
            .with("idempotency-key", "k1");
        let rivals = world
            .organizer("rivals")
            .await
            .organizer
            .with("idempotency-key", "k1");
        lighthouse
            .post("/venues", &harbour_hall())
            .await
            .expect(201);
        let mut other = harbour_hall();
        other["capacity"] = json!(1);
        lighthouse
            .post("/venues", &other)
            .await
            .refused(422, "IDEMPOTENCY_KEY_REUSED");
        rivals.post("/venues", &other).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn of_many_at_once_one_is_carried_out() {
    world(async |world| {
        let organizer = world
            .organizer("lighthouse")
            .await
            .organizer
            .with("idempotency-key", "k1");
        let venue = harbour_hall();
        for answer in join_all((0..8).map(|_| organizer.post("/venues", &venue))).await {
            if answer.status != 201 {
                answer.refused(409, "IDEMPOTENCY_IN_FLIGHT");
            }
        }
        assert_eq!(
            world.stranger().get("/venues").await.expect(200)["total"],
            1
        );
        organizer.post("/venues", &venue).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_that_would_be_the_same_is_kept_too() {
    world(async |world| {
        let rivals = world.organizer("rivals").await;
        let organizer = world
            .organizer("lighthouse")
            .await
            .organizer
            .with("idempotency-key", "k1");
        let mut theirs = harbour_hall();
        theirs["organization_id"] = json!(rivals.id);
        let first = organizer.post("/venues", &theirs).await;
        let id = first.body["error"]["request_id"].clone();
        first.refused(403, "FORBIDDEN");
        let again = organizer.post("/venues", &theirs).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.body["error"]["request_id"], id);
        again.refused(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn answers_are_forgotten_after_two_days() {
    world(async |world| {
        let organizer = world
            .organizer("lighthouse")
            .await
            .organizer
            .with("idempotency-key", "k1");
        organizer.post("/venues", &harbour_hall()).await.expect(201);
        let forget = async || {
            world
                .change(async |tx| shared::idempotency::forget(tx, 10).await)
                .await
        };
        world.pass(TimeDelta::hours(47));
        assert_eq!(forget().await, 0);
        world.pass(TimeDelta::hours(2));
        assert_eq!(forget().await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_key_has_a_sane_length() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let long = organizer.with("idempotency-key", &"k".repeat(256));
        assert_eq!(
            long.post("/venues", &harbour_hall()).await.bad_fields(),
            ["Idempotency-Key"]
        );
    })
    .await;
}
