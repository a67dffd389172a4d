//! Many who wait for orders that take long.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use tokio::task::JoinSet;

use super::shop::Shop;
use crate::client::Client;

const CLIENTS: usize = 1_000;
const SPAN: Duration = Duration::from_secs(5);

#[derive(Serialize)]
pub struct Waiting {
    pub clients: usize,
    pub seconds: u64,
    /// Connections to Postgres over which anything was asked while they waited.
    pub connections_used: i64,
    pub answered_within_seconds: f64,
}

pub async fn measure(shop: &mut Shop) -> anyhow::Result<Waiting> {
    let offer = shop.offer(0).await?;
    shop.stop_worker().await?;
    let mut buyer = Client::connect(shop.api).await?;
    let mut waiting = JoinSet::new();
    for number in 0..CLIENTS {
        let order = buyer
            .post("/api/v1/orders", &offer.order(number), "", 202)
            .await?;
        let order: Value = serde_json::from_slice(order)?;
        let text = |name: &str| order[name].as_str().unwrap_or_default().to_owned();
        let place = format!(
            "/api/v1/orders/{}?secret={}&wait=30",
            text("id"),
            text("secret")
        );
        let api = shop.api;
        waiting.spawn(async move {
            let answer = Client::connect(api).await?.get(&place).await?.to_vec();
            anyhow::Ok(serde_json::from_slice::<Value>(&answer)?["status"] == "paid")
        });
    }
    let mut db = shop.pool.acquire().await?;
    // Until the last of them has looked once, and waits.
    while used_since(&mut db, Duration::from_millis(500)).await? > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(SPAN).await;
    let connections_used = used_since(&mut db, SPAN).await?;
    drop(db);
    let begun = Instant::now();
    shop.start_worker().await?;
    while let Some(paid) = waiting.join_next().await {
        ensure!(paid??, "each hears that it is paid");
    }
    Ok(Waiting {
        clients: CLIENTS,
        seconds: SPAN.as_secs(),
        connections_used,
        answered_within_seconds: begun.elapsed().as_secs_f64(),
    })
}

/// Over how many connections of others anything was asked lately.
async fn used_since(db: &mut PgConnection, lately: Duration) -> anyhow::Result<i64> {
    let used = sqlx::query_scalar(
        "select count(*) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and state_change > clock_timestamp() - $1",
    );
    Ok(used.bind(lately).fetch_one(db).await?)
}
