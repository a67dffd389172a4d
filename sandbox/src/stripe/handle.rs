//! What a program holds of the stand-in: it runs while this lives, and does as it is told through it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::courier::{Courier, Delivered, Delivery, Order, Target};
use super::faults::{Fault, Plan, WebhookFault};
use super::kept::Object;
use super::payments::New;
use super::refunds::RefundStatus;
use super::seen::Payment;
use super::state::State;
use super::{Inner, NotSeen, Now, Refused, Shared, Traffic, server};
use crate::port::{BACKLOG, reserve};

/// How a stand-in is to run.
pub struct Options {
    pub now: Now,
    /// Where browsers reach it, if not where it listens.
    pub public_url: Option<String>,
    pub webhooks: Option<Target>,
    pub delivery: Delivery,
}

/// A running stand-in. Stops when dropped.
pub struct Stripe {
    shared: Shared,
    address: SocketAddr,
    door: Mutex<Door>,
    stop: CancellationToken,
}

/// A stand-in that is down keeps its port without listening.
enum Door {
    Open {
        stop: CancellationToken,
        serving: JoinHandle<()>,
    },
    Closed(TcpSocket),
    /// Between the two, or beyond repair.
    Nowhere,
}

impl Stripe {
    /// Listens, from within a Tokio runtime. Port 0 takes any free port.
    pub fn start(address: SocketAddr, options: Options) -> io::Result<Self> {
        let listener = reserve(address)?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let pages = options.public_url;
        let pages = pages.unwrap_or_else(|| format!("http://{address}"));
        let stop = CancellationToken::new();
        let courier = Courier::start(
            Arc::clone(&options.now),
            options.delivery,
            options.webhooks,
            &stop,
        );
        let shared = Shared(Arc::new(Inner {
            state: Mutex::new(State::new(pages.trim_end_matches('/').to_owned())),
            now: options.now,
            faults: Plan::default(),
            courier,
            traffic: watch::Sender::new(Traffic::default()),
            released: watch::Sender::new(0),
            requests: AtomicU64::new(1),
            connections: AtomicU64::new(0),
            stop: stop.clone(),
        }));
        let door = open(listener, &shared, &stop);
        Ok(Self {
            shared,
            address,
            door: Mutex::new(door),
            stop,
        })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stands before `/v1/…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, the next `times` requests whose kind begins with `on` are treated badly. Kinds are named like
    /// `payment_intents.create`; the empty one means all.
    pub fn misbehave(&self, on: &str, fault: Fault, times: usize) {
        self.shared.faults.add(on, fault, times);
    }

    /// The same for the next events whose type begins with `on`.
    pub fn misdeliver(&self, on: &str, fault: WebhookFault, times: usize) {
        self.shared.courier.faults.add(on, fault, times);
    }

    /// Forgets every planned fault, and lets go of what is held.
    pub fn recover(&self) {
        self.shared.recover();
    }

    /// Lets every held request go on.
    pub fn release(&self) {
        self.shared.release();
    }

    /// Returns when a request is being held.
    pub async fn until_held(&self, patience: Duration) -> Result<(), NotSeen> {
        self.shared.until_held(patience).await
    }

    /// Returns when so many requests of this kind have arrived since the start.
    pub async fn until_arrived(
        &self,
        kind: &str,
        count: u64,
        patience: Duration,
    ) -> Result<(), NotSeen> {
        self.shared.until_arrived(kind, count, patience).await
    }

    /// How many requests of this kind have arrived since the start.
    #[must_use]
    pub fn requests(&self, kind: &str) -> u64 {
        self.shared.traffic.borrow().arrived(kind)
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Every payment, oldest first.
    #[must_use]
    pub fn payments(&self) -> Vec<Payment> {
        self.shared.payments()
    }

    /// Payments whose metadata say so.
    #[must_use]
    pub fn payments_with(&self, key: &str, value: &str) -> Vec<Payment> {
        let mut payments = self.payments();
        payments.retain(|payment| payment.metadata.get(key).is_some_and(|v| v == value));
        payments
    }

    /// How often money was taken for an order, by the metadata `order_id`.
    #[must_use]
    pub fn charges_of(&self, order: &str) -> usize {
        let payments = self.payments_with("order_id", order);
        payments.iter().map(|payment| payment.charges).sum()
    }

    /// A payment as Stripe shows it.
    #[must_use]
    pub fn payment(&self, id: &str) -> Option<Value> {
        self.shared
            .with(|state| state.intents.get(id).map(Object::json))
    }

    /// Every event so far as Stripe shows it, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.shared
            .with(|state| state.events.iter().map(Object::json).collect())
    }

    /// The buyer chooses a card on the page of a checkout.
    pub fn pay_checkout(&self, session: &str, method: &str) -> Result<(), Refused> {
        self.shared
            .with(|state| state.pay_session(session, method))?;
        Ok(())
    }

    /// The buyer confirms a payment in the browser.
    pub fn confirm(&self, payment: &str, method: &str) -> Result<(), Refused> {
        self.shared.with(|state| state.charge(payment, method))?;
        Ok(())
    }

    /// The buyer is asked who they are, and proves it or does not.
    pub fn authenticate(&self, payment: &str, succeeds: bool) -> Result<(), Refused> {
        self.shared
            .with(|state| state.buyer_answers(payment, succeeds))?;
        Ok(())
    }

    /// Money of a slow kind arrives, or does not.
    pub fn end_slow_payment(&self, payment: &str, arrives: bool) -> Result<(), Refused> {
        let ended = self
            .shared
            .with(|state| state.end_slow_payment(payment, arrives));
        Ok(ended?)
    }

    /// A payment that somebody else makes on the same account, with these metadata; its id.
    pub fn pay_by_hand(
        &self,
        amount: i64,
        currency: &str,
        metadata: &[(&str, &str)],
    ) -> Result<String, Refused> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let paid = self.shared.with(|state| {
            let id = state.add_intent(New {
                amount,
                currency: currency.to_owned(),
                metadata: metadata.iter().map(owned).collect(),
                session: None,
                return_url: None,
                description: None,
                receipt_email: None,
            });
            state.charge(&id, "pm_card_visa").map(|_| id)
        });
        Ok(paid?)
    }

    /// Forgets a payment and its checkout, as if the keys of another account were set.
    pub fn forget_payment(&self, payment: &str) {
        self.shared.with(|state| {
            let session = state.intents.get(payment).and_then(|it| it.session.clone());
            state.intents.forget(payment);
            session.inspect(|session| state.sessions.forget(session));
        });
    }

    /// The buyer's bank wants the money back; the dispute's id.
    pub fn open_dispute(&self, payment: &str) -> Result<String, Refused> {
        let opened = self
            .shared
            .with(|state| state.open_dispute(payment, None, "fraudulent"));
        Ok(opened?)
    }

    /// The same of a part of the payment; what is left of it can be disputed by itself.
    pub fn open_dispute_of(&self, payment: &str, amount: i64) -> Result<String, Refused> {
        let opened = self
            .shared
            .with(|state| state.open_dispute(payment, Some(amount), "fraudulent"));
        Ok(opened?)
    }

    pub fn close_dispute(&self, dispute: &str, won: bool) -> Result<(), Refused> {
        let closed = self.shared.with(|state| state.close_dispute(dispute, won));
        Ok(closed?)
    }

    /// Whether refunds stay pending from now on.
    pub fn keep_refunds_pending(&self, pending: bool) {
        self.shared.with(|state| state.slow_refunds = pending);
    }

    /// The bank says what became of a refund.
    pub fn end_refund(&self, refund: &str, end: RefundStatus) -> Result<(), Refused> {
        Ok(self.shared.with(|state| state.end_refund(refund, end))?)
    }

    pub fn send_webhooks_to(&self, target: Option<Target>) {
        self.shared.courier.send_to(target);
    }

    /// Brings every event that waits, each once, and returns what was answered. What was not answered with 2xx
    /// waits for the next time.
    pub async fn deliver_webhooks(&self, order: Order) -> Vec<Delivered> {
        self.shared.courier.deliver(order).await
    }

    /// Lets go of what [`WebhookFault::Late`] has put aside.
    pub fn send_late_webhooks(&self, order: Order) {
        self.shared.courier.send_late(order);
    }

    /// Nobody will hear of what waits.
    pub fn drop_webhooks(&self) {
        self.shared.courier.drop_all();
    }

    /// Sends an event that happened before once more.
    pub fn resend(&self, event: &str) {
        self.shared.with(|state| {
            let again = state.events.get(event).cloned();
            state.untold.extend(again);
        });
    }

    /// Returns when so many events of a type were answered with 2xx.
    pub async fn until_heard(
        &self,
        kind: &str,
        count: u64,
        patience: Duration,
    ) -> Result<(), NotSeen> {
        let mut heard = self.shared.courier.heard();
        let enough = heard.wait_for(|heard| heard.get(kind).is_some_and(|n| *n >= count));
        match tokio::time::timeout(patience, enough).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NotSeen {
                waited: patience,
                instead: self.shared.requests(),
            }),
        }
    }

    /// Stops accepting and cuts every connection: whoever connects now is refused.
    pub async fn go_down(&self) -> io::Result<()> {
        let before = std::mem::replace(&mut *self.door(), Door::Nowhere);
        let socket = match before {
            Door::Open { stop, serving } => {
                stop.cancel();
                if let Err(crash) = serving.await {
                    tracing::error!("the stand-in for Stripe ended badly: {crash}");
                }
                reserve(self.address)?
            }
            Door::Closed(socket) => socket,
            Door::Nowhere => reserve(self.address)?,
        };
        *self.door() = Door::Closed(socket);
        Ok(())
    }

    /// Accepts again, on the same port, knowing everything it knew.
    pub fn come_back(&self) -> io::Result<()> {
        let mut door = self.door();
        let socket = match std::mem::replace(&mut *door, Door::Nowhere) {
            Door::Closed(socket) => socket,
            Door::Nowhere => reserve(self.address)?,
            open @ Door::Open { .. } => {
                *door = open;
                return Ok(());
            }
        };
        *door = open(socket.listen(BACKLOG)?, &self.shared, &self.stop);
        Ok(())
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().expect("nobody panics while holding it")
    }
}

impl Drop for Stripe {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn open(listener: tokio::net::TcpListener, shared: &Shared, parent: &CancellationToken) -> Door {
    let stop = parent.child_token();
    let serving = tokio::spawn(server::serve(listener, shared.clone(), stop.clone()));
    Door::Open { stop, serving }
}
