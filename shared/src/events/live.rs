//! Watching what is left of an event: a few looks a second, however many watch.
//!
//! Looking beats being told: holds lapse by the clock, which tells nobody, and a rush of thousands of changes a
//! second costs four looks. Whoever has not heard anything for a while hears of a change sooner. A Redis that goes away and comes back is looked at again like before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{Availability, EventDetails, TicketTypeNow, public_details};
use crate::app::App;
use crate::error::Result;
use crate::ids::EventId;
use crate::stock;

/// Less than what lies between two messages at least, so that a change is told within that.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const BETWEEN_MESSAGES: Duration = Duration::from_millis(250);

/// What the public could buy when it was looked at last; nothing before the first look.
pub type Latest = Option<Arc<Availability>>;

/// The events that are watched in this process.
#[derive(Clone, Default)]
pub struct Watches(Arc<Mutex<HashMap<EventId, watch::Sender<Latest>>>>);

/// What the public can buy of an event right now.
pub async fn availability(app: &App, details: &EventDetails) -> Result<Availability> {
    let (levels, source) = stock::levels(app, details.event.id).await?;
    Ok(details.availability(&levels, source, app.clock.now()))
}

/// What is on sale, with what can be bought of it right now.
pub async fn ticket_types(app: &App, details: &EventDetails) -> Result<Vec<TicketTypeNow>> {
    let (levels, _) = stock::levels(app, details.event.id).await?;
    Ok(details.ticket_types_at(&levels, app.clock.now()))
}

/// Follows what the public can buy. It ends when the event is not to be seen any more.
#[must_use]
pub fn watch(app: &App, event_id: EventId) -> watch::Receiver<Latest> {
    let mut watched = app.watches.lock();
    if let Some(sender) = watched.get(&event_id) {
        return sender.subscribe();
    }
    let (sender, receiver) = watch::channel(None);
    watched.insert(event_id, sender.clone());
    tokio::spawn(look(app.clone(), event_id, sender));
    receiver
}

async fn look(app: App, event_id: EventId, sender: watch::Sender<Latest>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match latest(&app, event_id).await {
            Ok(None) => break,
            Ok(Some(latest)) => {
                if sender.send_if_modified(|known| latest.replaces(known)) {
                    tick.reset_after(BETWEEN_MESSAGES);
                }
            }
            // The next look may be luckier; whoever watches keeps what they know.
            Err(error) => tracing::debug!(%event_id, %error, "no look at what is left"),
        }
        let mut watched = app.watches.lock();
        if sender.receiver_count() == 0 {
            watched.remove(&event_id);
            return;
        }
    }
    app.watches.lock().remove(&event_id);
}

async fn latest(app: &App, event_id: EventId) -> Result<Option<Availability>> {
    match public_details(app, event_id).await? {
        Some(details) => availability(app, &details).await.map(Some),
        None => Ok(None),
    }
}

impl Availability {
    /// Takes the place of what is known unless only the time differs.
    fn replaces(mut self, known: &mut Latest) -> bool {
        let at = self.calculated_at;
        if let Some(known) = known {
            self.calculated_at = known.calculated_at;
            if self == **known {
                return false;
            }
        }
        self.calculated_at = at;
        *known = Some(Arc::new(self));
        true
    }
}

impl App {
    /// How many events are watched in this process.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.watches.lock().len()
    }
}

impl Watches {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<EventId, watch::Sender<Latest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
