//! Buyers: as many as there can be, and so many a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

use super::shop::{Offer, Shop};
use crate::client::Client;

/// Connections of a burst.
const CLIENTS: usize = 64;
/// How long a steady stream of buyers lasts.
const SPAN: Duration = Duration::from_secs(10);

#[derive(Serialize)]
pub struct Burst {
    pub orders: usize,
    pub accepted_per_second: f64,
    pub paid_per_second: f64,
    /// Until the last mail is out.
    pub done_seconds_later: f64,
}

#[derive(Serialize)]
pub struct Steady {
    pub rate: u32,
    pub accepted_p50_ms: f64,
    pub accepted_p99_ms: f64,
    pub paid_p50_ms: f64,
    pub paid_p99_ms: f64,
}

/// As many orders as buyers can send, until all of them are paid and have their tickets.
#[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
pub async fn burst(shop: &Shop, offer: &Offer, orders: usize) -> anyhow::Result<Burst> {
    let before = shop.sold(offer).await?;
    let (begun, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (next, bodies) = (Arc::clone(&next), offer.clone());
        let api = shop.api;
        clients.spawn(async move {
            let mut client = Client::connect(api).await?;
            loop {
                let buyer = next.fetch_add(1, Ordering::Relaxed);
                if buyer >= orders {
                    return anyhow::Ok(());
                }
                client
                    .post("/api/v1/orders", &bodies.order(buyer), "", 202)
                    .await?;
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let accepted = begun.elapsed();
    shop.until_sold(offer, before + orders).await?;
    let paid = begun.elapsed();
    shop.until_done().await?;
    let done = begun.elapsed();
    ensure!(
        shop.tickets(offer).await? == before + orders,
        "each has a ticket"
    );
    Ok(Burst {
        orders,
        accepted_per_second: orders as f64 / accepted.as_secs_f64(),
        paid_per_second: orders as f64 / paid.as_secs_f64(),
        done_seconds_later: done.saturating_sub(paid).as_secs_f64(),
    })
}

/// An order, and when it was due and accepted.
struct Accepted {
    id: String,
    due: Instant,
    wait: Duration,
}

/// So many orders a second, however long the answers take.
pub async fn steady(shop: &Shop, offer: &Offer, rate: u32) -> anyhow::Result<Steady> {
    let (paid, listener) = listen(shop).await?;
    let clients: Arc<Mutex<Vec<Client>>> = Arc::default();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut asked = JoinSet::new();
    let orders = usize::try_from(rate)? * usize::try_from(SPAN.as_secs())?;
    let before = shop.sold(offer).await?;
    for buyer in 0..orders {
        // From when it was due: a generator that is late itself must not hide it.
        let due = tick.tick().await.into_std();
        let (clients, body, api) = (Arc::clone(&clients), offer.order(buyer), shop.api);
        asked.spawn(async move {
            let free = clients.lock().await.pop();
            let mut client = match free {
                Some(client) => client,
                None => Client::connect(api).await?,
            };
            let answer = client.post("/api/v1/orders", &body, "", 202).await?;
            let wait = due.elapsed();
            let id = serde_json::from_slice::<Order>(answer)?.id;
            clients.lock().await.push(client);
            anyhow::Ok(Accepted { id, due, wait })
        });
    }
    let mut accepted = Vec::new();
    while let Some(answer) = asked.join_next().await {
        accepted.push(answer??);
    }
    shop.until_sold(offer, before + orders).await?;
    shop.until_done().await?;
    listener.abort();
    let paid = paid.lock().await;
    let mut waits = (Vec::new(), Vec::new());
    for order in accepted {
        let told = paid.get(&order.id).context("each end is told")?;
        waits.0.push(order.wait);
        waits.1.push(told.saturating_duration_since(order.due));
    }
    Ok(Steady {
        rate,
        accepted_p50_ms: percentile(&mut waits.0, 50),
        accepted_p99_ms: percentile(&mut waits.0, 99),
        paid_p50_ms: percentile(&mut waits.1, 50),
        paid_p99_ms: percentile(&mut waits.1, 99),
    })
}

#[derive(Deserialize)]
struct Order {
    id: String,
}

type Told = Arc<Mutex<HashMap<String, Instant>>>;

/// When the end of which order was told.
async fn listen(shop: &Shop) -> anyhow::Result<(Told, JoinHandle<()>)> {
    let (redis, channel) = &shop.told;
    let mut subscription = redis.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    let told = Told::default();
    let heard = Arc::clone(&told);
    let listener = tokio::spawn(async move {
        let mut messages = subscription.on_message();
        while let Some(message) = messages.next().await {
            let at = Instant::now();
            let id = message.get_payload::<String>().unwrap_or_default();
            heard.lock().await.insert(id, at);
        }
    });
    Ok((told, listener))
}

pub fn percentile(waits: &mut [Duration], percent: usize) -> f64 {
    waits.sort_unstable();
    waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1_000.0
}
