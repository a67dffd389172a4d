//! Holds while Redis is away, and when the process that made them is killed.

use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::ids::EventId;
use tests::{World, on_sale, standard, workshop, world_with};
use tokio::task::JoinSet;

use super::{left, place, small_event, wanted};
use crate::processes;
use crate::stock::servers::{eventually, with_own_redis};

#[tokio::test]
async fn while_redis_is_away_browsing_goes_on_and_holds_come_later() {
    with_own_redis(async |world, redis| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = small_event(&organizer, 10).await;
        let stranger = world.stranger();
        let hold = stranger
            .post("/holds", &wanted(&event, 2))
            .await
            .expect(201);
        redis.stop().await;

        let at = format!("/events/{}", event["id"].as_str().expect("an id"));
        stranger.get(&at).await.expect(200);
        assert_eq!(stranger.get("/events").await.expect(200)["total"], 1);
        let spots = stranger
            .get(&format!("{at}/availability"))
            .await
            .expect(200);
        assert_eq!(
            (&spots["source"], &spots["available_spots"]),
            (&json!("durable"), &json!(10))
        );
        let answers = [
            stranger.post("/holds", &wanted(&event, 1)).await,
            stranger.get(&place(&hold)).await,
            stranger
                .post(&format!("{}/extend", place(&hold)), &json!({}))
                .await,
            stranger.delete(&place(&hold)).await,
        ];
        for answer in answers {
            assert!(answer.header("retry-after").is_some(), "{}", answer.text);
            answer.refused(503, "UNAVAILABLE");
        }

        redis.start_again().await;
        eventually("places are held again", async || {
            stranger.post("/holds", &wanted(&event, 1)).await.status == 201
        })
        .await;
        assert_eq!(stranger.get(&place(&hold)).await.expect(200), hold);
        assert_eq!(left(world, &event).await, 7);
    })
    .await;
}

/// How many get an answer of many who ask a process that is killed as soon as somebody has a hold.
async fn rush_and_kill(world: &World, event: &Value) -> usize {
    let (mut process, base) = processes::api(world).await;
    let before = held(world, event).await;
    let (http, wanted) = (reqwest::Client::new(), wanted(event, 1).to_string());
    let mut buyers = JoinSet::new();
    for _ in 0..100 {
        let ask = http
            .post(format!("{base}/api/v1/holds"))
            .body(wanted.clone());
        let ask = ask.header("content-type", "application/json");
        buyers.spawn(async { ask.send().await.is_ok_and(|answer| answer.status() == 201) });
    }
    while held(world, event).await == before {
        tokio::task::yield_now().await;
    }
    process.kill().await.expect("it is gone");
    let answers = buyers.join_all().await;
    answers.into_iter().filter(|answered| *answered).count()
}

async fn held(world: &World, event: &Value) -> usize {
    let id = event["id"].as_str().and_then(|id| id.parse().ok());
    let holds = world.app.stock.holds(EventId(id.expect("an id"))).await;
    holds.expect("Redis answers").len()
}

#[tokio::test]
async fn what_a_killed_process_held_and_never_said_lapses() {
    let no_limits = [
        ("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "0"),
        ("HOLDFAST_HOLDS_PER_ADDRESS", "1000"),
    ];
    world_with(&no_limits, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut new = workshop();
        new["capacity"] = json!(2_000);
        let event = on_sale(&organizer, &new, &standard()).await;
        let mut answered = 0;
        for _ in 0..10 {
            answered += rush_and_kill(world, &event).await;
            if held(world, &event).await > answered {
                break;
            }
        }
        let held = held(world, &event).await;
        assert!(held > answered, "nobody was left without an answer");
        assert_eq!(left(world, &event).await, 2_000 - held);
        world.pass(TimeDelta::minutes(10));
        assert_eq!(left(world, &event).await, 2_000);
    })
    .await;
}
