//! Places made more and fewer, and limits that come later.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::json;
use tests::{on_sale, standard, workshop, world};

use super::{at, hold, id, placed};
use crate::orders::{bought, card_order};

#[tokio::test]
async fn a_resize_moves_what_is_left_and_never_below_what_is_held() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = on_sale(&organizer, &workshop(), &standard()).await;
        let left = async || {
            let place = format!("{}/availability", at(&event));
            let left = world.stranger().get(&place).await.expect(200);
            left["available_spots"].clone()
        };
        let (_, taken) = hold(world, &event, 8).await;
        assert!(placed(&taken));
        assert_eq!(left().await, 12);

        let session = format!("{}/sessions/S1", at(&event));
        let resize = async |capacity: i32, version: i64| {
            let to = json!({"capacity": capacity, "version": version});
            organizer.put(&session, &to).await
        };
        resize(30, 1).await.expect(200);
        assert_eq!(left().await, 22);
        let refused = resize(7, 2).await.refused(409, "CAPACITY_BELOW_SOLD");
        assert_eq!(refused, json!({"taken": 8}));
        assert_eq!(left().await, 22, "a refused resize takes nothing");
        resize(9, 1).await.refused(409, "CONCURRENT_UPDATE");
        assert_eq!(left().await, 22, "nor does one that comes too late");
        resize(8, 2).await.expect(200);
        assert_eq!(left().await, 0);

        let limited = json!({"total_capacity": 9, "version": 2});
        organizer.put(&at(&event), &limited).await.expect(200);
        resize(20, 3).await.expect(200);
        assert_eq!(
            left().await,
            1,
            "a new limit counts what was held before it"
        );
    })
    .await;
}

#[tokio::test]
async fn a_resize_in_the_middle_of_a_rush_never_takes_a_held_place() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut event = workshop();
        event["capacity"] = json!(300);
        let event = on_sale(&organizer, &event, &standard()).await;
        let session = format!("{}/sessions/S1", at(&event));
        let buying = join_all((0..200).map(|_| hold(world, &event, 1)));
        let resizing = async {
            let mut capacity = 300;
            for version in 1..20 {
                let to = json!({"capacity": capacity - 25, "version": version});
                let answer = organizer.put(&session, &to).await;
                if answer.status == 200 {
                    capacity -= 25;
                    continue;
                }
                answer.refused(409, "CAPACITY_BELOW_SOLD");
                break;
            }
            capacity
        };
        let (bought, capacity) = tokio::join!(buying, resizing);
        let held = bought.iter().filter(|(_, answer)| placed(answer)).count();
        let left = world
            .stranger()
            .get(&format!("{}/availability", at(&event)))
            .await
            .expect(200);
        let session = &left["sessions"][0];
        assert_eq!(
            (&session["capacity"], &session["held"]),
            (&json!(capacity), &json!(held))
        );
        assert!(
            held <= usize::try_from(capacity).expect("a number"),
            "{held} of {capacity}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_limit_that_comes_later_counts_what_was_sold_and_held_before() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = on_sale(&organizer, &workshop(), &standard()).await;
        let paid = card_order(&event, 8, "pm_card_visa");
        bought(world, &world.stranger(), &paid).await;
        let kind = id(&event["ticket_types"][0]["id"]);
        let few = format!("{}/ticket-types/{kind}", at(&event));
        let total = |places: i32| json!({"total_capacity": places, "version": 2});
        let limit = async |quantity: i32| {
            let to = json!({"quantity": quantity, "version": 1});
            organizer.put(&few, &to).await
        };
        let (_, held) = hold(world, &event, 3).await;
        assert!(placed(&held));
        let below = [
            limit(10).await,
            organizer.put(&at(&event), &total(10)).await,
        ];
        for answer in below {
            let details = answer.refused(409, "CAPACITY_BELOW_SOLD");
            assert_eq!(details, json!({"taken": 11}));
        }
        limit(12).await.expect(200);
        organizer.put(&at(&event), &total(13)).await.expect(200);
        let place = format!("{}/availability", at(&event));
        let left = world.stranger().get(&place).await.expect(200);
        assert_eq!(left["available_spots"], 1);
        world.pass(TimeDelta::minutes(10));
        let sold: Vec<(String, i32)> = sqlx::query_as("select kind, sold from pools order by kind")
            .fetch_all(world.app.pool())
            .await
            .expect("pools");
        assert!(sold.iter().all(|(_, sold)| *sold == 8), "{sold:?}");
    })
    .await;
}
