//! Waiting for an order's end without asking Postgres again and again: whoever settles says so through Redis, and each
//! process listens once for all who wait in it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::Notify;

use super::{Order, Reader, read};
use crate::app::{App, Redis};
use crate::error::Result;
use crate::ids::OrderId;

/// Where changes of orders are told.
const CHANNEL: &str = "orders";
/// How soon a broken subscription is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Who waits for which order in this process.
#[derive(Clone, Default)]
pub(crate) struct Waiting(Arc<Bells>);

#[derive(Default)]
struct Bells {
    of: Mutex<HashMap<OrderId, Arc<Notify>>>,
    /// The one subscription of this process, from the first who waits on.
    listening: OnceLock<()>,
}

impl Waiting {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<OrderId, Arc<Notify>>> {
        self.0.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, id: OrderId) -> Arc<Notify> {
        self.lock().entry(id).or_default().clone()
    }

    /// The last one to leave takes the bell along.
    fn leave(&self, id: OrderId, bell: &Arc<Notify>) {
        let mut waiting = self.lock();
        // One is the caller's, one the map's.
        if Arc::strong_count(bell) <= 2 {
            waiting.remove(&id);
        }
    }

    fn ring(&self, id: OrderId) {
        if let Some(bell) = self.lock().get(&id) {
            bell.notify_waiters();
        }
    }

    fn ring_all(&self) {
        for bell in self.lock().values() {
            bell.notify_waiters();
        }
    }
}

/// Tells every process. Whoever waits and is not reached finds out when their time is over.
pub(crate) async fn announce(redis: &Redis, orders: &[OrderId]) {
    if orders.is_empty() {
        return;
    }
    let (mut pipe, channel) = (redis::pipe(), redis.key(CHANNEL));
    for id in orders {
        pipe.publish(&channel, id.to_string()).ignore();
    }
    if let Err(error) = pipe.exec_async(&mut redis.connection()).await {
        tracing::debug!(%error, "nobody could be told of orders");
    }
}

/// The order as soon as it is `enough`, or as it is when the time is over.
pub async fn wait(
    app: &App,
    reader: &Reader<'_>,
    id: OrderId,
    at_most: Duration,
    enough: impl Fn(&Order) -> bool,
) -> Result<Order> {
    listen(app);
    let bell = app.waiting.join(id);
    let until = tokio::time::Instant::now() + at_most;
    let order = loop {
        // Listening begins before looking: what happens in between is heard.
        let rung = bell.notified();
        let order = read(app, reader, id).await;
        let Ok(order) = order else { break order };
        let now = tokio::time::Instant::now();
        if enough(&order) || now >= until {
            break Ok(order);
        }
        let _ = tokio::time::timeout(until - now, rung).await;
    };
    app.waiting.leave(id, &bell);
    order
}

/// Listens from the first who waits on, for as long as the process lives.
fn listen(app: &App) {
    app.waiting.0.listening.get_or_init(|| {
        let (redis, channel) = (app.redis.clone(), app.redis.key(CHANNEL));
        let waiting = Arc::downgrade(&app.waiting.0);
        tokio::spawn(async move {
            while let Some(waiting) = waiting.upgrade().map(Waiting) {
                if let Err(error) = hear(&redis, &channel, &waiting).await {
                    tracing::debug!(%error, "ends of orders are not heard for a moment");
                }
                drop(waiting);
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        });
    });
}

async fn hear(redis: &Redis, channel: &str, waiting: &Waiting) -> redis::RedisResult<()> {
    let connection = redis.connection();
    let mut replaced = pin!(connection.replaced());
    let mut told = redis.client().get_async_pubsub().await?;
    told.subscribe(channel).await?;
    // What was told while nobody listened is looked up.
    waiting.ring_all();
    let mut told = told.on_message();
    loop {
        let message = tokio::select! {
            message = told.next() => message,
            () = &mut replaced => None,
        };
        let Some(message) = message else {
            return Ok(());
        };
        let id: String = message.get_payload()?;
        if let Ok(id) = id.parse() {
            waiting.ring(OrderId(id));
        }
    }
}
