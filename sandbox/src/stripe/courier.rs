//! Brings events to whoever is configured, signed as Stripe signs them.
//!
//! The events of one payment go out in order. What is not answered with 2xx is brought again, later and later,
//! and given up in the end without a fuss: at first there may be nobody at that address.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sha2::Sha256;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Now;
use super::events::Event;
use super::faults::{Plan, WebhookFault};

const PATIENCE: Duration = Duration::from_secs(10);
/// The pauses before the second attempt and those that follow.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_600),
    Duration::from_millis(6_400),
    Duration::from_millis(25_600),
];
const LARGEST_ANSWER: usize = 1 << 20;
const AN_HOUR: i64 = 3_600;

/// Where events go. Plain http: it is on the same machine.
#[derive(Debug, Clone)]
pub struct Target {
    pub url: String,
    pub secret: String,
}

/// When events go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// At once, so many payments at the same time.
    Background { at_once: usize },
    /// When [`deliver_webhooks`](super::Stripe::deliver_webhooks) is called, so that a test knows what was heard.
    WhenTold,
}

/// In which order what waits goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    AsMade,
    Reversed,
    /// By this seed.
    Shuffled(u64),
}

/// An event that was brought, and what was answered. Status 0 is no answer at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub event: String,
    pub kind: String,
    pub status: u16,
}

/// `t=…,v1=…` for this body at this time.
#[must_use]
pub fn sign(secret: &str, timestamp: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length will do");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let signature = hex::encode(mac.finalize().into_bytes());
    format!("t={timestamp},v1={signature}")
}

#[derive(Debug, Clone)]
struct Parcel {
    event: String,
    kind: &'static str,
    lane: u64,
    body: Bytes,
    flaw: Option<WebhookFault>,
}

pub(super) struct Courier {
    now: Now,
    delivery: Delivery,
    bag: Mutex<Bag>,
    pub(super) faults: Plan<WebhookFault>,
    /// How many of each kind were answered with 2xx.
    heard: watch::Sender<BTreeMap<String, u64>>,
    lanes: Vec<mpsc::UnboundedSender<Parcel>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[derive(Default)]
struct Bag {
    target: Option<Target>,
    waiting: VecDeque<Parcel>,
    late: VecDeque<Parcel>,
}

impl Courier {
    pub(super) fn start(
        now: Now,
        delivery: Delivery,
        target: Option<Target>,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let at_once = match delivery {
            Delivery::Background { at_once } => at_once.max(1),
            Delivery::WhenTold => 0,
        };
        let (lanes, ends): (Vec<_>, Vec<_>) =
            (0..at_once).map(|_| mpsc::unbounded_channel()).unzip();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let courier = Arc::new(Self {
            now,
            delivery,
            bag: Mutex::new(Bag {
                target,
                ..Bag::default()
            }),
            faults: Plan::default(),
            heard: watch::Sender::default(),
            lanes,
            client: Client::builder(TokioExecutor::new()).build(connector),
        });
        for end in ends {
            let working = Arc::clone(&courier).work(end);
            tokio::spawn(stop.clone().run_until_cancelled_owned(working));
        }
        courier
    }

    pub(super) fn send_to(&self, target: Option<Target>) {
        self.bag().target = target;
    }

    /// Never waits.
    pub(super) fn take_in(&self, event: &Event) {
        let mut bag = self.bag();
        if bag.target.is_none() {
            return;
        }
        let mut hasher = DefaultHasher::new();
        event.subject.hash(&mut hasher);
        let fault = self.faults.take(event.kind);
        let parcel = Parcel {
            event: event.id.clone(),
            kind: event.kind,
            lane: hasher.finish(),
            body: event.body.clone(),
            flaw: fault,
        };
        match fault {
            Some(WebhookFault::Never) => {}
            Some(WebhookFault::Late) => bag.late.push_back(parcel),
            Some(WebhookFault::Twice) => {
                self.hand_on(&mut bag, parcel.clone());
                self.hand_on(&mut bag, parcel);
            }
            _ => self.hand_on(&mut bag, parcel),
        }
    }

    fn hand_on(&self, bag: &mut Bag, parcel: Parcel) {
        if self.delivery == Delivery::WhenTold {
            bag.waiting.push_back(parcel);
            return;
        }
        let lanes = u64::try_from(self.lanes.len()).unwrap_or(1);
        let lane = usize::try_from(parcel.lane % lanes).unwrap_or(0);
        // Whoever stopped us wants no more events.
        let _stopped = self.lanes[lane].send(parcel);
    }

    /// Everything that was put aside goes the usual way now.
    pub(super) fn send_late(&self, order: Order) {
        let mut bag = self.bag();
        let late = in_order(bag.late.drain(..).collect(), order);
        for parcel in late {
            self.hand_on(&mut bag, parcel);
        }
    }

    /// Brings what waits, each once. What is not answered with 2xx waits on.
    pub(super) async fn deliver(&self, order: Order) -> Vec<Delivered> {
        let waiting = in_order(self.bag().waiting.drain(..).collect(), order);
        let mut delivered = Vec::new();
        for parcel in waiting {
            let status = self.bring(&parcel).await;
            delivered.push(Delivered {
                event: parcel.event.clone(),
                kind: parcel.kind.to_owned(),
                status,
            });
            if !(200..300).contains(&status) {
                self.bag().waiting.push_back(parcel);
            }
        }
        delivered
    }

    /// Forgets what waits and what was put aside.
    pub(super) fn drop_all(&self) {
        let mut bag = self.bag();
        bag.waiting.clear();
        bag.late.clear();
    }

    /// How often each kind was heard.
    pub(super) fn heard(&self) -> watch::Receiver<BTreeMap<String, u64>> {
        self.heard.subscribe()
    }

    async fn work(self: Arc<Self>, mut parcels: mpsc::UnboundedReceiver<Parcel>) {
        while let Some(parcel) = parcels.recv().await {
            let mut status = self.bring(&parcel).await;
            for pause in PAUSES {
                if (200..300).contains(&status) {
                    break;
                }
                tokio::time::sleep(pause).await;
                status = self.bring(&parcel).await;
            }
            if !(200..300).contains(&status) {
                tracing::debug!(event = parcel.event, status, "nobody takes this event");
            }
        }
    }

    /// One attempt; what was answered.
    async fn bring(&self, parcel: &Parcel) -> u16 {
        let Some(target) = self.bag().target.clone() else {
            return 0;
        };
        let (age, secret) = match parcel.flaw {
            Some(WebhookFault::Stale) => (AN_HOUR, target.secret),
            Some(WebhookFault::Forged) => (0, format!("not {}", target.secret)),
            _ => (0, target.secret),
        };
        let signature = sign(&secret, (self.now)() - age, &parcel.body);
        let request = Request::post(target.url)
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .header(header::USER_AGENT, "Stripe/1.0 (a stand-in)")
            .header("stripe-signature", signature)
            .body(Full::new(parcel.body.clone()));
        let Ok(request) = request else { return 0 };
        let exchange = async {
            let answer = self.client.request(request).await.ok()?;
            let status = answer.status().as_u16();
            // Read to its end, so that the connection can be used again.
            let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect();
            body.await.ok().map(|_| status)
        };
        let status = tokio::time::timeout(PATIENCE, exchange).await;
        let status = status.ok().flatten().unwrap_or(0);
        if (200..300).contains(&status) {
            self.heard
                .send_modify(|heard| *heard.entry(parcel.kind.to_owned()).or_default() += 1);
        }
        status
    }

    fn bag(&self) -> MutexGuard<'_, Bag> {
        self.bag.lock().expect("nobody panics while holding it")
    }
}

fn in_order<T>(mut things: Vec<T>, order: Order) -> Vec<T> {
    match order {
        Order::AsMade => {}
        Order::Reversed => things.reverse(),
        Order::Shuffled(seed) => {
            let key = |at: usize| {
                let mut hasher = DefaultHasher::new();
                (seed, at).hash(&mut hasher);
                hasher.finish()
            };
            let mut keyed: Vec<_> = things.into_iter().enumerate().collect();
            keyed.sort_by_key(|(at, _)| key(*at));
            things = keyed.into_iter().map(|(_, thing)| thing).collect();
        }
    }
    things
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_that_stripe_would_make() {
        // From Stripe's own libraries: HMAC-SHA256 over "{t}.{body}".
        let signature = sign("whsec_test", 1_700_000_000, b"{}");
        assert!(signature.starts_with("t=1700000000,v1="));
        assert_eq!(signature.len(), "t=1700000000,v1=".len() + 64);
        assert_ne!(signature, sign("whsec_other", 1_700_000_000, b"{}"));
    }

    #[test]
    fn orders_keep_everything() {
        let shuffled = in_order((0..20).collect(), Order::Shuffled(7));
        assert_ne!(shuffled, (0..20).collect::<Vec<_>>());
        let mut sorted = shuffled;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
        assert_eq!(in_order(vec![1, 2], Order::Reversed), [2, 1]);
    }
}
