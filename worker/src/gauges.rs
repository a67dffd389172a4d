//! What an operator sees of the queues from afar.

use std::time::Duration;

use shared::jobs;
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval};

/// Looks every few seconds. All workers report the same numbers, so any one of them will do.
pub(crate) async fn keep_looking(pool: PgPool) {
    let mut ticks = interval(Duration::from_secs(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = look(&pool).await {
            tracing::warn!(%error, "cannot look at the queues");
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge of more than 2^52 jobs may be off by one"
)]
async fn look(pool: &PgPool) -> Result<(), sqlx::Error> {
    for depth in jobs::depths(&mut *pool.acquire().await?).await? {
        let queue = [("queue", depth.queue)];
        metrics::gauge!("jobs_waiting", &queue).set(depth.waiting as f64);
        metrics::gauge!("jobs_due", &queue).set(depth.due as f64);
        metrics::gauge!("jobs_running", &queue).set(depth.running as f64);
        metrics::gauge!("jobs_dead", &queue).set(depth.dead as f64);
        metrics::gauge!("jobs_oldest_due_seconds", &queue).set(depth.oldest_due_seconds);
    }
    Ok(())
}
