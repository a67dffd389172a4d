//! The worker as an installation runs it: its own handlers, its own engine, woken through Redis.

use std::time::Duration;

use serde_json::json;
use shared::mail::{self, Letter};
use tests::world;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn what_a_change_leaves_to_do_is_done_by_the_real_worker() {
    world(async |world| {
        let stop = CancellationToken::new();
        let running = tokio::spawn(worker::run(world.app.clone(), stop.clone()));

        let letter = Letter {
            organization_id: None,
            cause: "the-real-worker".into(),
            recipient: "ada@example.org".into(),
            template: "test",
            locale: "en".into(),
            params: json!({"installation": "https://tickets.example.org"}),
        };
        world.change(async |tx| mail::write(tx, letter).await).await;
        let arrived = world
            .inbox
            .wait_for(|_| true, Duration::from_secs(20))
            .await;
        arrived.expect("the mail arrives");

        stop.cancel();
        let stopped = running.await.expect("no panic");
        stopped.expect("the worker drains");
        let done = "select count(*) from apalis.jobs where status = 'Done'";
        let done: i64 = sqlx::query_scalar(done)
            .fetch_one(world.app.pool())
            .await
            .expect("the queue");
        assert_eq!(done, 1, "its end was written before the worker stopped");
    })
    .await;
}
