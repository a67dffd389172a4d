//! A worker dies at each step of a purchase, and another takes over.

use sqlx::{Postgres, Transaction};

use super::*;

/// Keeps everybody from a table.
async fn lock(world: &World, table: &str) -> Transaction<'static, Postgres> {
    let mut lock = world.app.pool().begin().await.expect("a transaction");
    let lock_it = format!("lock table {table} in access exclusive mode");
    sqlx::query(sqlx::AssertSqlSafe(lock_it))
        .execute(&mut *lock)
        .await
        .expect("a lock");
    lock
}

/// A purchase whose worker is killed as soon as it waits for `table`.
async fn killed_at(table: &str) {
    world(async |world| {
        let order = to_be_bought(world).await;
        let lock = lock(world, table).await;
        let mut victim = processes::worker(world).await;
        eventually("it waits", async || blocked(world, table).await).await;
        victim.kill().await.expect("it is gone");
        lock.rollback().await.expect("free");
        is_bought_by_another(world, &order).await;
    })
    .await;
}

/// A purchase whose worker is killed while Stripe, misbehaving so, has its request in hand. Stripe goes on with what it
/// was asked, whether or not anybody hears the answer.
async fn killed_during(fault: Fault) {
    world(async |world| {
        let order = to_be_bought(world).await;
        world.stripe().misbehave("payment_intents.create", fault, 1);
        let mut victim = processes::worker(world).await;
        world.stripe().until_held(PATIENCE).await.expect("it asks");
        victim.kill().await.expect("it is gone");
        world.stripe().release();
        is_bought_by_another(world, &order).await;
    })
    .await;
}

async fn to_be_bought(world: &World) -> Value {
    let organizer = world.organizer("lighthouse").await.organizer;
    let event = event_of(&organizer, 10).await;
    let new = card_order(&event, 2, "pm_card_visa");
    world.stranger().post("/orders", &new).await.expect(202)
}

async fn is_bought_by_another(world: &World, order: &Value) {
    let mut heir = processes::worker(world).await;
    eventually("another worker has seen to it", async || {
        let open = "select count(*) from apalis.jobs where status <> 'Done'";
        again(&world.stranger(), order).await["status"] == "paid" && count(world, open).await == 0
    })
    .await;
    heir.kill().await.expect("it is gone");
    is_paid_once(world, order, 2).await;
}

#[tokio::test]
async fn a_worker_is_killed_before_it_calls_stripe() {
    killed_at("payment_attempts").await;
}

#[tokio::test]
async fn a_worker_is_killed_while_stripe_charges() {
    killed_during(Fault::HoldBefore).await;
}

#[tokio::test]
async fn a_worker_is_killed_when_stripe_has_charged() {
    killed_during(Fault::HoldAfter).await;
}

#[tokio::test]
async fn a_worker_is_killed_in_the_middle_of_settling() {
    killed_at("tickets").await;
}

/// In the middle of giving everything back: another goes on where it ended.
#[tokio::test]
async fn a_worker_is_killed_while_it_undoes_a_cancelled_event() {
    const ORDERS: usize = 150;
    world_with(&CROWD, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = free_event_of(&organizer, 200).await;
        let (guest, new) = (world.stranger(), free_order(&event, 1));
        join_all((0..ORDERS).map(async |_| guest.post("/orders", &new).await.expect(202))).await;
        world.run_jobs().await;
        let place = format!("/events/{}", event["id"].as_str().expect("an id"));
        cancel_event(&organizer, &event).await;

        // It comes as far as the order that somebody else has in hand.
        let mut held = world.app.pool().begin().await.expect("a transaction");
        sqlx::query("select from orders where id = (select id from orders order by id offset 120 limit 1) for update")
            .execute(&mut *held)
            .await
            .expect("a lock");
        let mut victim = processes::worker(world).await;
        eventually("it has come so far", async || {
            let undone = "select count(*) from orders where status = 'cancelled'";
            count(world, undone).await == 120
        })
        .await;
        victim.kill().await.expect("it is gone");
        held.rollback().await.expect("free");
        let place = format!("{place}/cancellation");
        assert_eq!(
            organizer.get(&place).await.expect(200)["orders_standing"],
            30
        );

        let mut heir = processes::worker(world).await;
        eventually("another has done the rest", async || {
            let open = "select count(*) from apalis.jobs where status <> 'Done'";
            count(world, open).await == 0
        })
        .await;
        heir.kill().await.expect("it is gone");
        assert_eq!(organizer.get(&place).await.expect(200)["done"], true);
        assert_eq!(sold(world).await, 0, "no place stays sold");
        let told = "select count(*) from mails where template = 'event-cancelled'";
        assert_eq!(count(world, told).await, 150);
    })
    .await;
}

async fn sold(world: &World) -> i64 {
    count(world, "select coalesce(sum(sold), 0)::bigint from pools").await
}
