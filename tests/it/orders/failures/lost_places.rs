//! Orders whose places Redis has lost: those that were placed first have them, and who has none is not charged.

use std::path::PathBuf;

use shared::App;
use shared::stock::{ORDERED_WITHIN, compare_after_change, reconcile};

use super::*;
use crate::stock::servers::{Own, with_own_redis};

/// Not charged, and told once that it is sold out.
async fn ended_uncharged(world: &World, order: &Value, email: &str) {
    let order = again(&world.stranger(), order).await;
    assert_eq!(
        (&order["status"], &order["reason"], &order["paid"]),
        (&json!("failed"), &json!("sold_out"), &json!(0)),
        "{order}"
    );
    assert_eq!(charges(world, &order), 0);
    let mails = world.inbox.messages();
    let told = mails.iter().filter(|mail| mail.to == [email]);
    let told: Vec<&str> = told.map(|mail| mail.subject.as_str()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("is sold out"), "{told:?}");
}

fn order_of(event: &Value, quantity: i32, email: &str) -> Value {
    let mut new = card_order(event, quantity, "pm_card_visa");
    new["email"] = json!(email);
    new
}

/// The file to which Redis writes what changes, and how long it is.
async fn written(app: &App) -> (PathBuf, u64) {
    let mut redis = app.redis.connection();
    let mut folder = redis::cmd("CONFIG");
    let folder: (String, String) = folder
        .arg("GET")
        .arg("dir")
        .query_async(&mut redis)
        .await
        .expect("Redis answers");
    let files = std::fs::read_dir(PathBuf::from(folder.1).join("appendonlydir"));
    let mut files = files
        .expect("its files")
        .map(|file| file.expect("a file").path());
    let file = files.find(|file| file.to_string_lossy().ends_with(".incr.aof"));
    let file = file.expect("what changes");
    let length = file.metadata().expect("a length").len();
    (file, length)
}

/// Redis dies and comes back without what it wrote last.
async fn roll_back(world: &World, redis: &mut Own, (file, length): (PathBuf, u64)) {
    redis.kill().await;
    let file = std::fs::File::options().write(true).open(file);
    let cut = file.expect("the file").set_len(length);
    cut.expect("it is shorter");
    redis.start_again().await;
    eventually("Redis is back", async || {
        world.app.redis.ping().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn redis_loses_its_last_second_while_orders_are_in_flight() {
    with_own_redis(async |world, redis| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 4).await;
        let guest = world.stranger();
        let first = bought(world, &guest, &order_of(&event, 1, "first@example.org")).await;
        compare_after_change(&world.app).await.expect("both answer");
        let before = written(&world.app).await;
        let sold = bought(world, &guest, &order_of(&event, 1, "sold@example.org")).await;
        let early = guest
            .post("/orders", &order_of(&event, 2, "early@example.org"))
            .await;
        let early = early.expect(202);
        roll_back(world, redis, before).await;

        // Redis knows neither what was sold nor what was ordered, and lets others have the places.
        world.pass(TimeDelta::seconds(1));
        let late = guest
            .post("/orders", &order_of(&event, 3, "late@example.org"))
            .await;
        let late = late.expect(202);
        world.run_jobs().await;
        for (order, tickets) in [(&first, 1), (&sold, 1), (&early, 2)] {
            is_paid_once(world, order, tickets).await;
        }
        ended_uncharged(world, &late, "late@example.org").await;
        compare_after_change(&world.app).await.expect("both answer");
        assert_eq!(left(world, &event).await, 0);
        assert_eq!(reconcile(&world.app).await.expect("both answer").places, 0);
    })
    .await;
}

/// As when a comparison has put the lost hold back beside those that have taken its places.
#[tokio::test]
async fn of_two_orders_for_one_place_the_first_is_charged() {
    with_own_redis(async |world, _| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 1).await;
        let guest = world.stranger();
        let early = guest
            .post("/orders", &order_of(&event, 1, "early@example.org"))
            .await;
        let early = early.expect(202);
        let holds = format!("{{{}}}", event["id"].as_str().expect("an id"));
        let keys = ["holds", "pools"].map(|name| world.app.redis.key(&format!("{holds}:{name}")));
        let pools: std::collections::HashMap<String, String> = redis::cmd("HGETALL")
            .arg(&keys[1])
            .query_async(&mut world.app.redis.connection())
            .await
            .expect("Redis answers");
        let mut losing = redis::pipe();
        losing.del(&keys[0]).ignore();
        for (pool, text) in &pools {
            let numbers: Vec<&str> = text.split(' ').collect();
            let free = format!("{} {} 0 {}", numbers[0], numbers[1], numbers[3]);
            losing.hset(&keys[1], pool, free).ignore();
        }
        let lost = losing.exec_async(&mut world.app.redis.connection()).await;
        lost.expect("Redis answers");
        world.pass(TimeDelta::seconds(1));
        let late = guest
            .post("/orders", &order_of(&event, 1, "late@example.org"))
            .await;
        let late = late.expect(202);
        assert_eq!(reconcile(&world.app).await.expect("both answer").missing, 1);
        // Redis is believed: only that more is promised than there is tells.
        compare_after_change(&world.app).await.expect("both answer");
        world.run_jobs().await;
        is_paid_once(world, &early, 1).await;
        ended_uncharged(world, &late, "late@example.org").await;
        assert_eq!(left(world, &event).await, 0);
    })
    .await;
}

#[tokio::test]
async fn an_order_without_places_is_not_charged_while_redis_is_away() {
    with_own_redis(async |world, redis| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 2).await;
        let guest = world.stranger();
        let early = guest
            .post("/orders", &order_of(&event, 2, "early@example.org"))
            .await;
        let early = early.expect(202);
        let flush = redis::cmd("FLUSHALL");
        let lost = flush.exec_async(&mut world.app.redis.connection()).await;
        lost.expect("Redis answers");
        // Redis is told of more than there is, as if it had heard of places that were taken back since.
        let grown = "update pools set capacity = capacity + 1, version = version + 1";
        sqlx::query(grown)
            .execute(world.app.pool())
            .await
            .expect("Postgres");
        world.pass(TimeDelta::seconds(1));
        let late = guest
            .post("/orders", &order_of(&event, 1, "late@example.org"))
            .await;
        let late = late.expect(202);
        let shrunk = "update pools set capacity = capacity - 1, version = version + 1";
        sqlx::query(shrunk)
            .execute(world.app.pool())
            .await
            .expect("Postgres");
        redis.stop().await;
        world.run_jobs().await;
        is_paid_once(world, &early, 2).await;
        ended_uncharged(world, &late, "late@example.org").await;
        redis.start_again().await;
        eventually("Redis is back", async || {
            world.app.redis.ping().await.is_ok()
        })
        .await;
        drop(compare_after_change(&world.app).await);
        world.pass(shared::stock::LONGEST_ORDERING);
        reconcile(&world.app).await.expect("both answer");
        assert_eq!(left(world, &event).await, 0);
    })
    .await;
}

#[tokio::test]
async fn an_order_that_is_written_too_late_is_refused_and_its_places_go_back() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = free_event_of(&organizer, 10).await;
        let by = || By {
            actor: Actor::Stranger,
            cause: None,
        };
        // As when the process was stopped between holding the places and writing the order.
        let order = prepared(world, &event).await;
        world.pass(ORDERED_WITHIN + TimeDelta::seconds(1));
        let refused = orders::place_together(&world.app, &order, by()).await;
        let refused = refused.expect_err("it is too late");
        assert_eq!(refused.code(), Code::ConcurrentUpdate);
        assert_eq!(count(world, "select count(*) from orders").await, 0);
        order.withdraw(&world.app, Some(&refused)).await;
        world.pass(TimeDelta::hours(1));
        assert_eq!(left(world, &event).await, 10);

        let order = prepared(world, &event).await;
        world.pass(ORDERED_WITHIN);
        let placed = orders::place_together(&world.app, &order, by()).await;
        placed.expect("just in time");
        world.run_jobs().await;
        assert_eq!(left(world, &event).await, 8);
    })
    .await;
}
