//! What is left of an event, told and followed.

mod resize;
mod stream;

use chrono::TimeDelta;
use redis::AsyncCommands as _;
use serde_json::{Value, json};
use shared::events::EventDetails;
use shared::ids::{EventId, TicketTypeId};
use shared::stock::{self, HoldToken, NewHold, Placed, Released};
use shared::{App, events};
use tests::{World, on_sale, standard, workshop, world};
use uuid::Uuid;

use crate::stock::servers::with_own_redis;

fn id(value: &Value) -> Uuid {
    value
        .as_str()
        .and_then(|id| id.parse().ok())
        .expect("an id")
}

fn at(event: &Value) -> String {
    format!("/events/{}", event["id"].as_str().expect("an id"))
}

async fn details(app: &App, event: &Value) -> EventDetails {
    let kept = events::public_details(app, EventId(id(&event["id"]))).await;
    EventDetails::clone(&kept.expect("a reading").expect("an event"))
}

/// Holds tickets of the event's first type for ten minutes.
async fn hold(world: &World, event: &Value, tickets: i32) -> (HoldToken, Placed) {
    let details = details(&world.app, event).await;
    let now = world.app.clock.now();
    let token = HoldToken::fresh(details.event.id, now);
    let kind = &details.ticket_types[0];
    let pools = details.pools_of(kind);
    let hold = NewHold {
        event_id: details.event.id,
        id: token.id,
        buyer: token.id.to_string(),
        deadline: now + TimeDelta::minutes(10),
        ordered: false,
        parts: pools.map(|pool| (pool, tickets)).collect(),
        items: vec![(TicketTypeId(kind.id.0), tickets)],
        proof: token.proof(),
        sale: String::new(),
        most_holds: 1,
        writer: None,
    };
    let placed = stock::place(&world.app, &hold).await.expect("Redis");
    (token, placed)
}

fn placed(placed: &Placed) -> bool {
    matches!(placed, Placed::Placed { .. })
}

#[tokio::test]
async fn what_is_left_is_what_a_hold_gets() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut few = standard();
        few["quantity"] = json!(5);
        let event = on_sale(&organizer, &workshop(), &few).await;
        let place = format!("{}/availability", at(&event));
        let stranger = world.stranger();

        let left = stranger.get(&place).await.expect(200);
        assert_eq!(left["source"], "live");
        assert_eq!(left["available_spots"], 5);
        let session = &left["sessions"][0];
        assert_eq!(
            (&session["available"], &session["held"]),
            (&json!(20), &json!(0))
        );
        let kind = &left["ticket_types"][0];
        assert_eq!(
            (&kind["is_available"], &kind["max_purchasable"]),
            (&json!(true), &json!(5))
        );
        assert_eq!(
            kind["limiting_sessions"],
            json!([]),
            "its own quantity limits it"
        );

        let (token, first) = hold(world, &event, 4).await;
        assert!(placed(&first));
        let left = stranger.get(&place).await.expect(200);
        assert_eq!(left["available_spots"], 1);
        assert_eq!(left["sessions"][0]["held"], 4);
        let (_, refused) = hold(world, &event, 2).await;
        assert!(
            matches!(&refused, Placed::Short { short } if short[0].1 == 1),
            "{refused:?}"
        );

        let (_, last) = hold(world, &event, 1).await;
        assert!(placed(&last));
        let left = stranger.get(&place).await.expect(200);
        assert_eq!(
            (&left["available_spots"], &left["sold_out"]),
            (&json!(0), &json!(true))
        );
        assert_eq!(left["ticket_types"][0]["constraint_reason"], "SOLD_OUT");

        let now = world.app.clock.now();
        let (stock, proof) = (&world.app.stock, token.proof());
        let given = stock.release(now, token.event_id, token.id, Some(&proof));
        assert_eq!(given.await.expect("Redis"), Released::Released);
        let kind = left["ticket_types"][0]["ticket_type_id"]
            .as_str()
            .expect("an id");
        let of_type = stranger
            .get(&format!("/ticket-types/{kind}/availability"))
            .await
            .expect(200);
        assert_eq!(of_type["available"], 4);
        world.pass(TimeDelta::minutes(10));
        let left = stranger.get(&place).await.expect(200);
        assert_eq!(
            left["available_spots"], 5,
            "what lapsed is on sale from its deadline on"
        );
    })
    .await;
}

/// What a list, the event and its availability say is left, in this order.
async fn told(world: &World, event: &Value) -> [Value; 3] {
    let stranger = world.stranger();
    let list = stranger.get("/events?limit=100").await.expect(200);
    let mut items = list["items"].as_array().expect("items").iter();
    let listed = items.find(|item| item["id"] == event["id"]);
    let read = stranger.get(&at(event)).await.expect(200);
    let left = stranger
        .get(&format!("{}/availability", at(event)))
        .await
        .expect(200);
    [listed.expect("the event").clone(), read, left]
}

#[tokio::test]
async fn lists_and_events_tell_what_a_hold_gets() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut events = Vec::new();
        for _ in 0..3 {
            events.push(on_sale(&organizer, &workshop(), &standard()).await);
        }
        let types = format!("{}/ticket-types", at(&events[0]));
        let dear = json!({"name": "Dear", "price": 9_900, "included_sessions": ["S1"]});
        let late = json!({"name": "Late", "price": 1, "included_sessions": ["S1"],
                          "sales_start": "2026-02-01T00:00:00Z"});
        for kind in [&dear, &late] {
            organizer.post(&types, kind).await.expect(201);
        }
        let spots = async |event: &Value, left: i64, sold_out: bool| {
            for told in told(world, event).await {
                let told = (&told["available_spots"], &told["sold_out"]);
                assert_eq!(told, (&json!(left), &json!(sold_out)));
            }
        };
        let (token, _) = hold(world, &events[0], 20).await;
        hold(world, &events[1], 3).await;
        spots(&events[0], 0, true).await;
        spots(&events[1], 17, false).await;
        // Nobody has held a place of this one, so Redis may not know it.
        spots(&events[2], 20, false).await;
        for told in &told(world, &events[0]).await[..2] {
            let prices = (&told["lowest_price"], &told["highest_price"]);
            assert_eq!(prices, (&json!(4_500), &json!(9_900)), "sold out or not");
            assert_eq!(told["total_capacity"], 20);
        }
        let now = world.app.clock.now();
        let (stock, proof) = (&world.app.stock, token.proof());
        let given = stock.release(now, token.event_id, token.id, Some(&proof));
        assert_eq!(given.await.expect("Redis"), Released::Released);
        spots(&events[0], 20, false).await;
        world.pass(TimeDelta::minutes(10));
        spots(&events[1], 20, false).await;
        world.pass(TimeDelta::days(20));
        assert_eq!(told(world, &events[0]).await[1]["lowest_price"], 1);

        let on_hold = json!({"status": "on_hold", "reason": "Storm", "version": 2});
        let status = format!("{}/status", at(&events[0]));
        let stopped = organizer.put(&status, &on_hold).await.expect(200);
        assert_eq!(stopped["lowest_price"], Value::Null, "nothing is on sale");
        spots(&events[0], 0, false).await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_bought_says_why() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut late = standard();
        late["sales_start"] = json!("2026-01-20T00:00:00Z");
        late["sales_end"] = json!("2026-01-25T00:00:00Z");
        let event = on_sale(&organizer, &workshop(), &late).await;
        let place = format!("{}/availability", at(&event));
        let why = async || {
            let left = world.stranger().get(&place).await.expect(200);
            left["ticket_types"][0]["constraint_reason"].clone()
        };
        assert_eq!(why().await, "SALES_NOT_OPEN");
        world.pass(TimeDelta::days(6));
        assert_eq!(why().await, Value::Null);
        world.pass(TimeDelta::days(5));
        assert_eq!(why().await, "SALES_ENDED");
        let stop = json!({"status": "on_hold", "reason": "Storm", "version": 2});
        organizer
            .put(&format!("{}/status", at(&event)), &stop)
            .await
            .expect(200);
        assert_eq!(why().await, "EVENT_NOT_ON_SALE");

        let nothing = "/events/01900000-0000-7000-8000-000000000000/availability";
        world
            .stranger()
            .get(nothing)
            .await
            .refused(404, "EVENT_NOT_FOUND");
        let nothing = "/ticket-types/01900000-0000-7000-8000-000000000000/availability";
        world
            .stranger()
            .get(nothing)
            .await
            .refused(404, "TICKET_TYPE_NOT_FOUND");
        let draft = organizer.post("/events", &workshop()).await.expect(201);
        let draft = format!("{}/availability", at(&draft));
        world
            .stranger()
            .get(&draft)
            .await
            .refused(404, "EVENT_NOT_FOUND");
        organizer.get(&draft).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn redis_that_forgot_everything_is_told_again() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = on_sale(&organizer, &workshop(), &standard()).await;
        let place = format!("{}/availability", at(&event));
        let (_, taken) = hold(world, &event, 3).await;
        assert!(placed(&taken));
        let mut redis = world.app.redis.connection();
        let keys: Vec<String> = redis
            .keys(format!("{}:*", world.app.redis.prefix()))
            .await
            .expect("keys");
        let _: () = redis.del(keys).await.expect("gone");
        let left = world.stranger().get(&place).await.expect(200);
        assert_eq!(
            (&left["available_spots"], &left["source"]),
            (&json!(20), &json!("live"))
        );
        let (_, taken) = hold(world, &event, 20).await;
        assert!(placed(&taken));
    })
    .await;
}

/// How many scripts this Redis was asked to run.
async fn calls(world: &World) -> i64 {
    let mut redis = world.app.redis.connection();
    let mut info = redis::cmd("INFO");
    let info = info.arg("commandstats").query_async(&mut redis).await;
    let info: String = info.expect("figures");
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let number = line.and_then(|line| line.split(',').next());
    number.map_or(0, |number| number.parse().expect("a number"))
}

#[tokio::test]
async fn what_is_left_of_twenty_pools_is_one_question() {
    with_own_redis(async |world, _| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut new = workshop();
        new["total_capacity"] = json!(90);
        let event = on_sale(&organizer, &new, &standard()).await;
        for _ in 0..18 {
            let mut few = standard();
            few["quantity"] = json!(5);
            let types = format!("{}/ticket-types", at(&event));
            organizer.post(&types, &few).await.expect(201);
        }
        let details = details(&world.app, &event).await;
        let left = async || {
            events::availability(&world.app, &details)
                .await
                .expect("Redis")
        };
        assert_eq!(left().await.ticket_types.len(), 19);
        let before = calls(world).await;
        for _ in 0..50 {
            left().await;
        }
        assert_eq!(calls(world).await, before + 50);
    })
    .await;
}
