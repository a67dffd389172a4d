//! Redis killed, emptied, stopped and meddled with; and what is true afterwards.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use shared::ids::{EventId, OrderId};
use shared::stock::{
    Drift, HoldToken, Level, NewHold, Placed, Short, Source, Told, levels, place, reconcile,
};
use shared::{App, Error};
use tests::{World, workshop, world};
use tokio::time::timeout;
use uuid::Uuid;

use super::servers::{eventually, with_own_redis};

/// An event with one session, which has this many places.
#[derive(Clone, Copy)]
pub struct Event {
    pub id: EventId,
    pub session: Uuid,
}

pub async fn event(world: &World, capacity: i32) -> Event {
    event_of(world, "lighthouse", capacity).await
}

async fn event_of(world: &World, slug: &str, capacity: i32) -> Event {
    let organizer = world.organizer(slug).await.organizer;
    let mut new = workshop();
    new["capacity"] = capacity.into();
    let event = organizer.post("/events", &new).await.expect(201);
    let id = |text: &serde_json::Value| text.as_str().and_then(|id| id.parse().ok());
    Event {
        id: EventId(id(&event["id"]).expect("an id")),
        session: id(&event["sessions"][0]["id"]).expect("an id"),
    }
}

impl Event {
    pub fn hold(self, app: &App, places: i32) -> NewHold {
        let token = HoldToken::fresh(self.id, app.clock.now());
        NewHold {
            event_id: self.id,
            id: token.id,
            buyer: token.id.to_string(),
            deadline: app.clock.now() + TimeDelta::minutes(10),
            ordered: false,
            parts: vec![(self.session, places)],
            items: Vec::new(),
            proof: token.proof(),
            sale: String::new(),
            most_holds: 1,
            writer: None,
        }
    }

    pub async fn take(self, app: &App, places: i32) -> OrderId {
        let hold = self.hold(app, places);
        let answer = place(app, &hold).await.expect("Redis answers");
        assert!(matches!(answer, Placed::Placed { .. }), "{answer:?}");
        hold.id
    }

    /// What Postgres says after a sale that Redis has not heard of; nothing if there are not enough places.
    pub async fn sell(self, app: &App, places: i32) -> Option<Told> {
        let sold = sqlx::query_as(
            "update pools set sold = sold + $2, sold_elsewhere = sold_elsewhere + $2, version = version + 1
             where id = $1 and sold + $2 <= capacity returning id, capacity, sold, version",
        );
        let sold = sold.bind(self.session).bind(places);
        sold.fetch_optional(app.pool()).await.expect("Postgres")
    }

    pub async fn level(self, app: &App) -> (Level, Source) {
        let (levels, source) = levels(app, self.id).await.expect("levels");
        (levels[&self.session], source)
    }

    pub async fn is_live_again(self, app: &App) {
        eventually("places are read from Redis", async || {
            self.level(app).await.1 == Source::Live
        })
        .await;
    }
}

pub fn level(capacity: i64, sold: i64, held: i64) -> Level {
    Level {
        capacity,
        sold,
        held,
    }
}

fn drift(places: i64) -> Drift {
    Drift {
        events: 1,
        drifted: usize::from(places > 0),
        places,
        missing: 0,
    }
}

#[tokio::test]
async fn redis_is_killed_and_comes_back_with_what_it_knew() {
    with_own_redis(async |world, redis| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.take(app, 2).await;
        let sold = event.take(app, 3).await;
        let told = event.sell(app, 3).await.expect("places");
        let now = app.clock.now();
        let settled = app.stock.settle(now, event.id, &[sold], &[told]).await;
        settled.expect("Redis answers");
        // Redis dies before it hears of one more.
        let unheard = event.take(app, 4).await;
        event.sell(app, 4).await.expect("places");
        redis.kill().await;
        redis.start_again().await;

        event.is_live_again(app).await;
        assert_eq!(event.level(app).await, (level(20, 3, 6), Source::Live));
        assert_eq!(reconcile(app).await.expect("both answer"), drift(4));
        assert_eq!(event.level(app).await.0, level(20, 7, 6));
        let released = app.stock.release(now, event.id, unheard, None).await;
        released.expect("Redis answers");
        assert_eq!(event.level(app).await.0, level(20, 7, 2));
        assert_eq!(reconcile(app).await.expect("both answer"), drift(0));
    })
    .await;
}

#[tokio::test]
async fn while_redis_hangs_nobody_waits_for_all_who_came_before() {
    with_own_redis(async |world, redis| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.take(app, 2).await;
        let mut pause = redis::cmd("CLIENT");
        let pause = pause.arg("PAUSE").arg(60_000).arg("ALL");
        let paused = pause.exec_async(&mut app.redis.connection()).await;
        paused.expect("Redis pauses");

        // One by one, or a few at a time, they would wait for minutes.
        let looks = join_all((0..500).map(|_| levels(app, event.id)));
        let told = timeout(Duration::from_secs(20), looks).await;
        for told in told.expect("they are answered") {
            assert_eq!(told.expect("levels").1, Source::Durable);
        }
        redis.kill().await;
        redis.start_again().await;
        event.is_live_again(app).await;
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_broken_in_redis_spoils_no_other() {
    world(async |world| {
        let app = &world.app;
        let (broken, other) = (event_of(world, "broken", 20).await, event(world, 20).await);
        broken.take(app, 1).await;
        other.take(app, 3).await;
        let key = |name: &str| format!("{}:{{{}}}:{name}", app.redis.prefix(), broken.id);
        let mut meddle = redis::pipe();
        meddle.zadd(key("lapsing"), "hold", 0).ignore();
        meddle.hset(key("holds"), "hold", "no JSON").ignore();
        let meddled = meddle.exec_async(&mut app.redis.connection()).await;
        meddled.expect("Redis answers");

        let both = [broken.id, other.id];
        let told = app.stock.read_many(app.clock.now(), &both).await;
        let told = told.expect("Redis answers");
        assert_eq!(told.keys().collect::<Vec<_>>(), [&other.id]);
        assert_eq!(told[&other.id][&other.session].held, 3);
        app.stock.forget(broken.id).await.expect("Redis answers");
    })
    .await;
}

#[tokio::test]
async fn while_redis_is_stopped_places_are_read_from_postgres_and_none_are_held() {
    with_own_redis(async |world, redis| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.take(app, 2).await;
        redis.stop().await;

        assert_eq!(event.level(app).await, (level(20, 0, 0), Source::Durable));
        let refused = place(app, &event.hold(app, 1)).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        event.sell(app, 1).await.expect("places");
        assert_eq!(event.level(app).await, (level(20, 1, 0), Source::Durable));

        redis.start_again().await;
        event.is_live_again(app).await;
        event.take(app, 1).await;
        assert_eq!(reconcile(app).await.expect("both answer"), drift(1));
        assert_eq!(event.level(app).await, (level(20, 1, 3), Source::Live));
    })
    .await;
}

#[tokio::test]
async fn redis_is_emptied_again_and_again_in_a_rush() {
    with_own_redis(async |world, _| {
        let app = &world.app;
        let event = event(world, 20).await;
        let sold = AtomicU32::new(0);
        let buyers = (0..8).map(|n| buy_now_and_then(app, event, n, &sold));
        let emptied = async {
            for _ in 0..10 {
                empty(app).await;
                let (level, _) = event.level(app).await;
                assert!(level.sold <= level.capacity, "{level:?}");
            }
        };
        tokio::join!(join_all(buyers), emptied);

        // Whoever lost their hold has not bought by it; the holds that are left are over at their deadline.
        reconcile(app).await.expect("both answer");
        let holds = app.stock.holds(event.id).await.expect("Redis answers");
        assert_eq!(
            event.level(app).await.0.held,
            i64::try_from(holds.len()).expect("few")
        );
        world.pass(TimeDelta::minutes(11));
        let sold = sold.into_inner().into();
        assert!(sold > 0, "somebody bought");
        assert_eq!(event.level(app).await.0, level(20, sold, 0));
        assert_eq!(reconcile(app).await.expect("both answer"), drift(0));
    })
    .await;
}

/// One place at a time: given back, or left alone, or bought if it is still held.
async fn buy_now_and_then(app: &App, event: Event, buyer: u32, bought: &AtomicU32) {
    for turn in 0..40 {
        let hold = event.hold(app, 1);
        // A rush of losses may be answered with "later".
        let Ok(Placed::Placed { .. }) = place(app, &hold).await else {
            continue;
        };
        let (now, id) = (app.clock.now(), hold.id);
        match (buyer + turn) % 8 {
            0 => {
                let (proof, writer) = (&hold.proof, hold.id.0);
                let attached = app.stock.attach(now, event.id, id, proof, writer).await;
                if attached.expect("Redis answers") == Some(true)
                    && let Some(told) = event.sell(app, 1).await
                {
                    bought.fetch_add(1, Ordering::SeqCst);
                    let settled = app.stock.settle(now, event.id, &[id], &[told]).await;
                    settled.expect("Redis answers");
                }
            }
            1 => {}
            _ => {
                let proof = Some(&hold.proof);
                let released = app.stock.release(now, event.id, id, proof).await;
                released.expect("Redis answers");
            }
        }
    }
}

async fn empty(app: &App) {
    redis::cmd("FLUSHALL")
        .exec_async(&mut app.redis.connection())
        .await
        .expect("Redis answers");
}

#[tokio::test]
async fn nothing_is_held_twice_after_a_loss_in_a_rush() {
    with_own_redis(async |world, _| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.sell(app, 5).await.expect("places");
        for _ in 0..5 {
            let holds = join_all((0..40).map(async |turn| {
                if turn == 20 {
                    empty(app).await;
                }
                drop(place(app, &event.hold(app, 1)).await);
                let (level, _) = event.level(app).await;
                assert!(level.sold + level.held <= level.capacity, "{level:?}");
            }));
            holds.await;
            let (known, source) = event.level(app).await;
            let holds = app.stock.holds(event.id).await.expect("Redis answers");
            assert_eq!(known.held, i64::try_from(holds.len()).expect("few"));
            assert!(known.held > 0, "somebody got a place after the loss");
            assert_eq!((known.capacity, known.sold, source), (20, 5, Source::Live));
        }
        assert_eq!(reconcile(app).await.expect("both answer"), drift(0));
    })
    .await;
}

#[tokio::test]
async fn numbers_that_went_wrong_are_found_by_their_size_and_put_right() {
    with_own_redis(async |world, _| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.take(app, 2).await;
        let pools = app.redis.key(&format!("{{{}}}:pools", event.id));
        for (wrong, places) in [("20 0 5 1", 3), ("20 3 2 1", 3), ("24 1 0 1", 5)] {
            let mut meddle = redis::cmd("HSET");
            meddle.arg(&pools).arg(event.session.to_string()).arg(wrong);
            let meddled = meddle.exec_async(&mut app.redis.connection()).await;
            meddled.expect("Redis answers");
            assert_ne!(event.level(app).await.0, level(20, 0, 2));
            assert_eq!(reconcile(app).await.expect("both answer"), drift(places));
            assert_eq!(event.level(app).await.0, level(20, 0, 2));
            assert_eq!(reconcile(app).await.expect("both answer"), drift(0));
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_that_cannot_be_put_right_does_not_keep_others_from_it() {
    with_own_redis(async |world, _| {
        let app = &world.app;
        let broken = event(world, 20).await;
        let fine = event_of(world, "harbour", 20).await;
        for event in [broken, fine] {
            event.take(app, 2).await;
            event.sell(app, 3).await.expect("places");
        }
        let pools = app.redis.key(&format!("{{{}}}:pools", broken.id));
        let mut meddle = redis::cmd("HSET");
        meddle
            .arg(&pools)
            .arg(broken.session.to_string())
            .arg("what");
        let mut redis = app.redis.connection();
        meddle.exec_async(&mut redis).await.expect("Redis answers");
        reconcile(app).await.expect_err("one is broken");
        assert_eq!(fine.level(app).await.0, level(20, 3, 2));
        let mut forget = redis::cmd("DEL");
        let forgotten = forget.arg(&pools).exec_async(&mut redis).await;
        forgotten.expect("Redis answers");
        assert_eq!(broken.level(app).await.0, level(20, 3, 2));
        reconcile(app).await.expect("both answer");
    })
    .await;
}

#[tokio::test]
async fn the_last_place_of_an_event_that_redis_does_not_know_is_taken_once() {
    world(async |world| {
        let event = event(world, 1).await;
        let config = world.app.config.clone();
        let other = App::new(config, world.app.clock.clone()).expect("an app");
        let rush = (0..100).map(|n| {
            let app = if n % 2 == 0 { &world.app } else { &other };
            let (app, hold) = (app.clone(), event.hold(app, 1));
            tokio::spawn(async move { place(&app, &hold).await.expect("Redis answers") })
        });
        let short = Placed::Short {
            short: vec![Short(event.session, 0)],
        };
        let answers = join_all(rush).await.into_iter();
        let taken = answers.map(|answer| answer.expect("no panic"));
        let taken = taken.filter(|answer| *answer != short);
        assert!(matches!(
            taken.collect::<Vec<_>>()[..],
            [Placed::Placed { .. }]
        ));
        assert_eq!(event.level(&world.app).await.0, level(1, 0, 1));
        other.pool().close().await;
    })
    .await;
}

#[tokio::test]
async fn more_holds_than_one_call_clears_away_lapse_all_the_same() {
    world(async |world| {
        let app = &world.app;
        let event = event(world, 500).await;
        for _ in 0..450 {
            event.take(app, 1).await;
        }
        world.pass(TimeDelta::minutes(11));
        for held in [250, 50, 0] {
            assert_eq!(event.level(app).await.0, level(500, 0, held));
        }
        for _ in 0..450 {
            event.take(app, 1).await;
        }
        world.pass(TimeDelta::minutes(11));
        // Whoever wants all of them is not told that there are none yet.
        event.take(app, 500).await;
        assert_eq!(event.level(app).await.0, level(500, 0, 500));
    })
    .await;
}

/// A request that is tried again holds its places under the same name; what is left of the first try holds nothing.
#[tokio::test]
async fn a_hold_that_is_over_and_not_cleared_away_is_held_anew() {
    world(async |world| {
        let app = &world.app;
        let event = event(world, 500).await;
        for _ in 0..450 {
            event.take(app, 1).await;
        }
        // The last that is cleared away.
        let mut last = event.hold(app, 1);
        last.deadline += TimeDelta::seconds(30);
        place(app, &last).await.expect("Redis answers");
        world.pass(TimeDelta::minutes(11));
        last.deadline = app.clock.now() + TimeDelta::minutes(10);
        let again = place(app, &last).await.expect("Redis answers");
        assert!(matches!(again, Placed::Placed { .. }), "{again:?}");
        let now = app.clock.now();
        let found = app.stock.look(now, event.id, last.id, &last.proof).await;
        assert!(found.expect("Redis answers").is_some(), "it lives");
        while event.level(app).await.0.held > 1 {}
        assert_eq!(event.level(app).await.0, level(500, 0, 1));
    })
    .await;
}
