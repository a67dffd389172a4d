//! Postgres and Redis go away in the middle and come back.

use holdfast::services::{Promise, Services};

use super::*;
use crate::stock::servers::with_own_redis;

#[tokio::test]
async fn postgres_restarts_in_the_middle() {
    let home = tempfile::tempdir().expect("a folder");
    let mut services = Services::throwaway(home.path()).await.expect("a place");
    let url = services
        .start_postgres(Promise::Durable)
        .await
        .expect("Postgres starts")
        .url();
    tests::migrate(&url).await;
    world_with(
        &[
            ("DATABASE_URL", &url),
            ("HOLDFAST_DATABASE_ACQUIRE_TIMEOUT", "500ms"),
        ],
        async |world| {
            let organizer = world.organizer("lighthouse").await.organizer;
            // More than a busy machine sells, or sets aside for answers that it lost, before Postgres is gone and back.
            let capacity = 20_000;
            let event = free_event_of(&organizer, capacity).await;
            let postgres = services.postgres.as_mut().expect("Postgres");
            let rush = async {
                let (guest, new) = (world.stranger(), free_order(&event, 1));
                let (mut placed, mut refused) = (Vec::new(), 0);
                while refused == 0 || placed.len() < 60 {
                    let asks = (0..4).map(|_| guest.post("/orders", &new));
                    for answer in join_all(asks).await {
                        if answer.status == 202 {
                            placed.push(answer.expect(202));
                        } else {
                            answer.refused(503, "UNAVAILABLE");
                            refused += 1;
                        }
                    }
                }
                placed
            };
            let restart = async {
                eventually("orders come", async || {
                    count(world, "select count(*) from orders").await > 10
                })
                .await;
                postgres.abandon().await.expect("it is gone");
                postgres.start_again().await.expect("it is back");
            };
            let (placed, ()) = join(rush, restart).await;
            world.run_jobs().await;
            for order in &placed {
                assert_eq!(again(&world.stranger(), order).await["status"], "paid");
            }
            // An answer may be lost on the way; an order that was answered may not.
            let paid = count(world, "select count(*) from orders where status = 'paid'").await;
            assert!(paid >= i64::try_from(placed.len()).expect("few"), "{paid}");
            world.pass(shared::stock::LONGEST_ORDERING);
            shared::stock::reconcile(&world.app)
                .await
                .expect("both sides");
            assert_eq!(left(world, &event).await, i64::from(capacity) - paid);
        },
    )
    .await;
    services.remove().await.expect("it ends");
}

#[tokio::test]
async fn redis_loses_everything_and_orders_keep_their_places() {
    with_own_redis(async |world, redis| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        let mut new = card_order(&event, 3, "");
        new["payment"] = json!({"method": "client"});
        let waiting = bought(world, &guest, &new).await;
        bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        let hold = json!({"event_id": event["id"], "items": wanted(&event, 1)});
        let hold = guest.post("/holds", &hold).await.expect(201);
        redis::cmd("FLUSHALL")
            .exec_async(&mut world.app.redis.connection())
            .await
            .expect("nothing is left");

        assert_eq!(left(world, &event).await, 5);
        let refused = guest
            .post("/orders", &card_order(&event, 6, "pm_card_visa"))
            .await;
        refused.refused(409, "INSUFFICIENT_CAPACITY");
        let lost = json!({"hold_token": hold["token"], "email": "ada@example.org",
                          "payment": {"method": "card", "token": "pm_card_visa"}});
        guest
            .post("/orders", &lost)
            .await
            .refused(410, "HOLD_EXPIRED");
        confirm(world, &waiting).await;
        is_paid_once(world, &waiting, 3).await;

        // With its data it comes back as it was.
        redis.kill().await;
        redis.start_again().await;
        eventually("Redis is back", async || {
            world.app.redis.ping().await.is_ok()
        })
        .await;
        assert_eq!(left(world, &event).await, 5);
    })
    .await;
}

async fn confirm(world: &World, order: &Value) {
    let secret = order["client_secret"].as_str().expect("a secret");
    let payment = secret.split("_secret").next().expect("a payment");
    world
        .stripe()
        .confirm(payment, "pm_card_visa")
        .expect("confirmed");
    world.stripe().deliver_webhooks(Bring::AsMade).await;
    world.run_jobs().await;
}

#[tokio::test]
async fn redis_is_away_while_orders_are_paid() {
    with_own_redis(async |world, redis| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        let new = card_order(&event, 2, "pm_card_visa");
        let order = guest.post("/orders", &new).await.expect(202);
        redis.stop().await;
        // What is ordered is paid without Redis; nothing new is held.
        world.run_jobs().await;
        assert_eq!(again(&guest, &order).await["status"], "paid");
        let refused = guest.post("/orders", &new).await;
        assert!(refused.header("retry-after").is_some());
        refused.refused(503, "UNAVAILABLE");
        redis.start_again().await;
        eventually("Redis is back", async || {
            world.app.redis.ping().await.is_ok()
        })
        .await;
        // What Redis was not told of in that minute it may think held for three minutes more.
        world.pass(shared::stock::LONGEST_ORDERING);
        shared::stock::reconcile(&world.app)
            .await
            .expect("both sides");
        assert_eq!(left(world, &event).await, 8);
        is_paid_once(world, &order, 2).await;
    })
    .await;
}
