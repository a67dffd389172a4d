//! Following what is left of an event.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::json;
use tests::{on_sale, standard, workshop, world, world_with};

use super::{at, calls, hold};
use crate::stock::servers::{Own, with_own_redis};

#[tokio::test]
async fn changes_reach_those_who_follow_within_a_quarter_of_a_second() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = on_sale(&organizer, &workshop(), &standard()).await;
        let place = format!("{}/availability/stream", at(&event));
        let mut follower = world.stranger().follow(&place).await;
        let first = follower.next().await.expect("a message");
        assert_eq!(first["available_spots"], 20);

        let mut waits = Vec::new();
        for spots in [19, 18, 17] {
            // There are at most four messages a second, and there was one just now.
            tokio::time::sleep(Duration::from_millis(250)).await;
            hold(world, &event, 1).await;
            let held_at = Instant::now();
            let told = follower.until(|left| left["available_spots"] == spots);
            told.await;
            waits.push(held_at.elapsed().as_millis());
        }
        // A machine that is busy with other tests may miss it at times.
        waits.sort_unstable();
        assert!(waits[1] <= 250, "{waits:?}");

        let mut late = world.stranger().follow(&place).await;
        assert_eq!(late.next().await.expect("a message")["available_spots"], 17);
        world.pass(TimeDelta::minutes(10));
        for follower in [&mut follower, &mut late] {
            follower.until(|left| left["available_spots"] == 20).await;
        }
        let stop = json!({"status": "cancelled", "reason": "Storm", "version": 2});
        organizer
            .put(&format!("{}/status", at(&event)), &stop)
            .await
            .expect(200);
        follower.until(|left| left["status"] == "cancelled").await;
    })
    .await;
}

#[tokio::test]
async fn a_thousand_who_follow_cost_one_look() {
    // Nobody else asks this Redis.
    let redis = Own::start().await;
    let url = redis.url();
    let settings = [
        ("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "0"),
        ("HOLDFAST_HTTP_STREAMS_PER_NETWORK", "0"),
        ("REDIS_URL", &url),
    ];
    world_with(&settings, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = on_sale(&organizer, &workshop(), &standard()).await;
        let place = format!("{}/availability/stream", at(&event));
        let stranger = world.stranger();
        let mut followers = join_all((0..1_000).map(|_| stranger.follow(&place))).await;
        join_all(
            followers
                .iter_mut()
                .map(|follower| follower.until(|_| true)),
        )
        .await;

        let (before, clock) = (calls(world).await, Instant::now());
        hold(world, &event, 3).await;
        let told = followers
            .iter_mut()
            .map(|f| f.until(|left| left["available_spots"] == 17));
        join_all(told).await;
        let looks = world.app.watched();
        assert_eq!(looks, 1, "one event is looked at, whoever follows");
        assert!(clock.elapsed().as_secs() < 5, "{:?}", clock.elapsed());
        // Five looks a second, the hold itself, and some patience; not a look for each of a thousand.
        let asked = u128::try_from(calls(world).await - before).expect("a number");
        let looks = clock.elapsed().as_millis() / 200 + 10;
        assert!(asked <= looks, "Redis was asked {asked} times");

        drop(followers);
        let gone = async {
            while world.app.watched() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, gone)
            .await
            .expect("nobody looks for nobody");
    })
    .await;
    redis.remove().await;
}

#[tokio::test]
async fn a_stream_goes_on_when_redis_is_away_and_when_it_is_back() {
    with_own_redis(async |world, redis| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = on_sale(&organizer, &workshop(), &standard()).await;
        let place = format!("{}/availability/stream", at(&event));
        let mut follower = world.stranger().follow(&place).await;
        follower.until(|left| left["source"] == "live").await;
        hold(world, &event, 3).await;
        follower.until(|left| left["available_spots"] == 17).await;
        redis.kill().await;
        let left = follower.until(|left| left["source"] == "durable").await;
        assert_eq!(left["available_spots"], 20);
        redis.start_again().await;
        let left = follower.until(|left| left["source"] == "live").await;
        assert_eq!(left["available_spots"], 17);
        hold(world, &event, 2).await;
        follower.until(|left| left["available_spots"] == 15).await;
    })
    .await;
}
