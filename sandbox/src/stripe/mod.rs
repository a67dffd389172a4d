//! A stand-in for Stripe: the part of its API that Holdfast uses, its checkout page, and its webhooks.
//!
//! It takes Stripe's test payment methods, keeps idempotency keys honestly, and refuses what Stripe refuses, a
//! parameter it does not know included. On a bad day it does what networks and servers do: tests plan a [`Fault`]
//! or a [`WebhookFault`], or take it down and bring it back on the same port; another process does the same through
//! `/_control/`. All that it knows is in memory and gone when it stops.
//!
//! | file | holds |
//! |---|---|
//! | `server`, `api` | from a connection to an answer, and everything that can go wrong between |
//! | `payments`, `charges`, `checkout`, `refunds`, `disputes`, `balance`, `events` | Stripe's things and their rules |
//! | `methods` | the test cards |
//! | `keys` | idempotency |
//! | `courier` | webhooks |
//! | `pages` | what a buyer sees |
//! | `control` | the same handles as here, for another process |

mod api;
mod balance;
mod charges;
mod checkout;
mod control;
mod courier;
mod disputes;
mod events;
mod faults;
mod form;
mod handle;
mod kept;
mod keys;
mod methods;
mod pages;
mod payments;
mod refunds;
mod refusal;
mod seen;
mod server;
mod state;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use courier::Courier;
pub use courier::{Delivered, Delivery, Order, Target, sign};
use faults::Plan;
pub use faults::{Fault, WebhookFault};
pub use handle::{Options, Stripe};
pub use refunds::RefundStatus;
use refusal::Refusal;
pub use seen::Payment;
use state::State;

/// The version of the API that is spoken.
pub const API_VERSION: &str = "2026-09-30.endive";

/// Seconds since 1970, by whoever owns the time.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What was waited for did not happen in time.
#[derive(Debug, PartialEq, Eq)]
pub struct NotSeen {
    pub waited: Duration,
    /// What was asked of Stripe instead, and how often.
    pub instead: BTreeMap<&'static str, u64>,
}

/// It was told to do something that Stripe would refuse.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.message)
    }
}

/// What connections, pages and tests look at together. Cheap to clone.
#[derive(Clone)]
struct Shared(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    now: Now,
    faults: Plan<Fault>,
    courier: Arc<Courier>,
    traffic: watch::Sender<Traffic>,
    /// Goes up each time that held requests may go on.
    released: watch::Sender<u64>,
    requests: AtomicU64,
    connections: AtomicU64,
    stop: CancellationToken,
}

impl Deref for Shared {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

#[derive(Debug, Default)]
struct Traffic {
    arrived: BTreeMap<&'static str, u64>,
    held: usize,
}

impl Traffic {
    fn arrived(&self, kind: &str) -> u64 {
        let of_kind = self
            .arrived
            .iter()
            .filter(|(name, _)| name.starts_with(kind));
        of_kind.map(|(_, count)| count).sum()
    }
}

impl Inner {
    /// Looks at or changes everything, at the time of now. Events go out in the order in which they happen.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().expect("nobody panics while holding it");
        state.now = (self.now)();
        state.expire_due();
        let done = act(&mut state);
        for event in state.untold.drain(..) {
            self.courier.take_in(&event);
        }
        done
    }

    fn arrived(&self, kind: &'static str) {
        self.traffic
            .send_modify(|traffic| *traffic.arrived.entry(kind).or_default() += 1);
    }

    fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    fn requests(&self) -> BTreeMap<&'static str, u64> {
        self.traffic.borrow().arrived.clone()
    }

    /// Returns with the next release.
    async fn hold(&self) {
        let mut released = self.released.subscribe();
        released.mark_unchanged();
        self.traffic.send_modify(|traffic| traffic.held += 1);
        let _stopped = self.stop.run_until_cancelled(released.changed()).await;
        self.traffic.send_modify(|traffic| traffic.held -= 1);
    }

    fn release(&self) {
        self.released.send_modify(|times| *times += 1);
    }

    fn recover(&self) {
        self.faults.clear();
        self.courier.faults.clear();
        self.release();
    }

    async fn until(
        &self,
        patience: Duration,
        wanted: impl FnMut(&Traffic) -> bool,
    ) -> Result<(), NotSeen> {
        let mut traffic = self.traffic.subscribe();
        let seen = tokio::time::timeout(patience, traffic.wait_for(wanted)).await;
        match seen {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NotSeen {
                waited: patience,
                instead: self.requests(),
            }),
        }
    }

    async fn until_arrived(
        &self,
        kind: &str,
        count: u64,
        patience: Duration,
    ) -> Result<(), NotSeen> {
        self.until(patience, |traffic| traffic.arrived(kind) >= count)
            .await
    }

    async fn until_held(&self, patience: Duration) -> Result<(), NotSeen> {
        self.until(patience, |traffic| traffic.held > 0).await
    }

    fn payments(&self) -> Vec<Payment> {
        self.with(|state| Payment::all(state))
    }
}
