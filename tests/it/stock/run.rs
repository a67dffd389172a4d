//! Does what a story tells, to Redis and to the model, and holds the two against each other after every step.

use std::collections::BTreeMap;
use std::fmt::Debug;

use chrono::{DateTime, TimeDelta, Utc};
use redis::aio::ConnectionLike;
use serde_json::json;
use shared::ids::{EventId, OrderId, TicketTypeId};
use shared::stock::{Kept, NewHold, Placed, Proof, Stock, Told};
use uuid::Uuid;

use super::books::Books;
use super::model::Model;
use super::steps::{Deed, End, Order, Shape, Shown, Step};

pub struct Run<C> {
    pub stock: Stock<C>,
    /// Where scripts may be forgotten without harm to others.
    pub own_server: Option<C>,
    pub now: DateTime<Utc>,
    events: Vec<Event>,
}

struct Event {
    id: EventId,
    books: Books,
    model: Model,
    asked: Vec<NewHold>,
    untold: Vec<(Vec<OrderId>, Vec<Told>)>,
}

impl<C: ConnectionLike + Clone + Send> Run<C> {
    pub fn new(connection: &C, prefix: &str, own_server: bool, shapes: &[Shape]) -> Self {
        let events = (1..).zip(shapes).map(|(n, (pools, types))| Event {
            id: EventId(Uuid::from_u128(n)),
            books: Books::new(pools, types),
            model: Model::default(),
            asked: Vec::new(),
            untold: Vec::new(),
        });
        Self {
            stock: Stock::new(connection.clone(), prefix),
            own_server: own_server.then(|| connection.clone()),
            now: tests::start_of_time(),
            events: events.collect(),
        }
    }

    /// Every event begins in Redis, and leaves it in the end.
    pub async fn run(&mut self, steps: &[Step]) {
        self.begin().await;
        for step in steps {
            self.step(step).await;
        }
        self.end().await;
    }

    pub async fn begin(&mut self) {
        for at in 0..self.events.len() {
            self.restore(at, false, false, false).await;
        }
    }

    pub async fn end(&mut self) {
        for event in &self.events {
            self.stock.forget(event.id).await.expect("forgotten");
        }
    }

    async fn step(&mut self, step: &Step) {
        let (at, twice) = (step.event, step.twice);
        if let Deed::Pass(seconds) = step.deed {
            // Nobody looks, so whoever comes next finds what lapsed meanwhile.
            self.now += TimeDelta::seconds(seconds);
            return;
        }
        self.events[at].model.lapse(self.now);
        match &step.deed {
            Deed::Pass(_) => {}
            Deed::Place(order) => {
                let hold = self.events[at].ask(order, self.now);
                self.place(at, &hold, twice).await;
                self.events[at].asked.push(hold);
            }
            Deed::Resize { pool, by, end } => self.resize(at, *pool, *by, *end, twice).await,
            Deed::Pay { order, count, told } => {
                self.pay(at, *order, *count);
                if *told {
                    self.tell(at, usize::MAX, false, twice).await;
                }
            }
            Deed::Tell { which, again } => self.tell(at, *which, *again, twice).await,
            Deed::AddPool(kind) => {
                self.events[at].books.add_pool(*kind);
                self.restore(at, true, false, twice).await;
            }
            Deed::RemovePool(pool) => {
                self.events[at].books.remove_pool(*pool);
                self.restore(at, true, false, twice).await;
            }
            Deed::Restore { only_known, stale } => {
                self.restore(at, *only_known, *stale, twice).await;
            }
            Deed::Lose => {
                self.events[at].model = Model::default();
                let lost = self.stock.forget(self.events[at].id).await;
                lost.expect("Redis answers");
            }
            Deed::ForgetScripts => self.forget_scripts().await,
            deed => self.with_hold(at, deed, twice).await,
        }
        self.check(at).await;
    }

    async fn forget_scripts(&mut self) {
        if let Some(server) = &mut self.own_server {
            let mut flush = redis::cmd("SCRIPT");
            let flushed = flush.arg("FLUSH").exec_async(server).await;
            flushed.expect("Redis answers");
        }
    }

    /// What is done to a hold that was asked for before, whatever became of it.
    async fn with_hold(&mut self, at: usize, deed: &Deed, twice: bool) {
        let now = self.now;
        let Some(hold) = self.events[at].asked_before(deed) else {
            return;
        };
        let (event_id, id) = (hold.event_id, hold.id);
        let wrong = proof(0);
        let shown = |shown: Shown| match shown {
            Shown::Right => &hold.proof,
            Shown::Wrong => &wrong,
        };
        let event = &self.events[at];
        let paid = event.books.paid.contains(&id);
        match *deed {
            Deed::PlaceAgain(_) => {
                // What had an order is not asked for again once it is over.
                let lives = event.model.holds.iter().any(|hold| hold.id == id);
                if lives || !event.books.orders.contains(&id) {
                    self.place(at, &hold, twice).await;
                }
            }
            Deed::Look(_, by) => {
                let proof = shown(by);
                let real = async |stock: &Stock<C>| stock.look(now, event_id, id, proof).await;
                let model = |model: &mut Model| model.look(id, proof);
                self.both(at, twice, real, model).await;
            }
            Deed::Release(_, by) => {
                if by.is_none() && !self.events[at].books.end(id) {
                    return;
                }
                let proof = by.map(shown);
                let real = async |stock: &Stock<C>| stock.release(now, event_id, id, proof).await;
                let model = |model: &mut Model| model.release(id, proof);
                self.both(at, twice, real, model).await;
            }
            Deed::Extend(_, by, seconds) => {
                let (proof, by) = (shown(by), TimeDelta::seconds(seconds));
                let real =
                    async |stock: &Stock<C>| stock.extend(now, event_id, id, proof, by).await;
                let model = |model: &mut Model| model.extend(id, proof, by);
                self.both(at, twice, real, model).await;
            }
            Deed::Attach(_, by) if !hold.items.is_empty() => {
                let proof = shown(by);
                let real = async |stock: &Stock<C>| stock.attach(now, event_id, id, proof).await;
                let model = |model: &mut Model| model.attach(now, id, proof);
                if self.both(at, twice, real, model).await {
                    self.events[at].books.order(&hold);
                }
            }
            Deed::Detach(_, by) if !paid => {
                let proof = shown(by);
                let real = async |stock: &Stock<C>| stock.detach(now, event_id, id, proof).await;
                let model = |model: &mut Model| model.detach(id, proof);
                if self.both(at, twice, real, model).await {
                    self.events[at].books.take_back(id);
                }
            }
            _ => {}
        }
    }

    async fn place(&mut self, at: usize, hold: &NewHold, twice: bool) -> Placed {
        let now = self.now;
        let real = async |stock: &Stock<C>| stock.place(now, hold).await;
        let model = |model: &mut Model| {
            let placed = model.place(now, hold);
            // A deadline that is over already: the next call finds it so.
            model.lapse(now);
            placed
        };
        let placed = self.both(at, twice, real, model).await;
        let event = &mut self.events[at];
        if event.model.hold(hold.id).is_some_and(|held| held.ordered) {
            event.books.order(hold);
        }
        placed
    }

    /// Orders are paid for, in one transaction.
    fn pay(&mut self, at: usize, order: usize, count: usize) {
        let event = &mut self.events[at];
        let mut paid = Vec::new();
        let mut pools = BTreeMap::new();
        for _ in 0..count.min(event.books.waiting.len()) {
            let waiting = &event.books.waiting;
            let id = waiting[order % waiting.len()].id;
            let told = event.books.pay(id);
            pools.extend(told.into_iter().map(|told| (told.id, told)));
            paid.push(id);
        }
        event.untold.push((paid, pools.into_values().collect()));
    }

    async fn tell(&mut self, at: usize, which: usize, again: bool, twice: bool) {
        let untold = &mut self.events[at].untold;
        let Some(last) = untold.len().checked_sub(1) else {
            return;
        };
        let which = which.min(last);
        let (holds, pools) = untold[which].clone();
        if !again {
            untold.remove(which);
        }
        self.settle(at, &holds, &pools, twice).await;
    }

    async fn settle(&mut self, at: usize, holds: &[OrderId], pools: &[Told], twice: bool) {
        let (now, id) = (self.now, self.events[at].id);
        let real = async |stock: &Stock<C>| stock.settle(now, id, holds, pools).await;
        let model = |model: &mut Model| model.settle(holds, pools);
        self.both(at, twice, real, model).await;
    }

    /// A pool is made larger at once; smaller only by places that nobody has.
    async fn resize(&mut self, at: usize, pool: usize, by: i32, end: End, twice: bool) {
        let event = &mut self.events[at];
        let id = *event
            .books
            .pools
            .keys()
            .nth(pool % event.books.pools.len())
            .expect("one");
        if by > 0 {
            let told = event.books.resize(id, by);
            event.untold.push((Vec::new(), vec![told]));
            return;
        }
        if event.books.pools[&id].capacity + by < 1 {
            return;
        }
        let claim = event.claim(id, -by, self.now);
        let placed = self.place(at, &claim, twice).await;
        if !matches!(placed, Placed::Placed { .. }) {
            return;
        }
        match end {
            End::Died => self.events[at].asked.push(claim),
            End::Refused => {
                let now = self.now;
                let (event_id, id) = (claim.event_id, claim.id);
                let real = async |stock: &Stock<C>| stock.release(now, event_id, id, None).await;
                let model = |model: &mut Model| model.release(id, None);
                self.both(at, twice, real, model).await;
            }
            End::Done => {
                let told = (vec![claim.id], vec![self.events[at].books.resize(id, by)]);
                self.settle(at, &told.0, &told.1, twice).await;
                self.events[at].untold.push(told);
            }
        }
    }

    /// As the product does it: what Postgres said before, then what it says now.
    async fn restore(&mut self, at: usize, only_known: bool, stale: bool, twice: bool) {
        let (now, event) = (self.now, &self.events[at]);
        let durable = event.books.durable(event.id, only_known, stale);
        let real = async |stock: &Stock<C>| stock.restore(now, &durable).await;
        let model = |model: &mut Model| model.restore(now, &durable);
        self.both(at, twice, real, model).await;
        let told = self.events[at].books.told();
        self.settle(at, &[], &told, twice).await;
    }

    /// Calls Redis and the model; twice if the answer got lost, which must not change anything more.
    async fn both<T: Debug + PartialEq>(
        &mut self,
        at: usize,
        twice: bool,
        real: impl AsyncFn(&Stock<C>) -> shared::Result<T>,
        model: impl Fn(&mut Model) -> T,
    ) -> T {
        let known = &mut self.events[at].model;
        let answer = real(&self.stock).await.expect("Redis answers");
        assert_eq!(
            answer,
            model(known),
            "Redis (left) is not the model (right)"
        );
        known.lapse(self.now);
        if twice {
            let once = known.clone();
            let again = real(&self.stock).await.expect("Redis answers");
            assert_eq!(again, model(known), "Redis (left) the second time");
            known.lapse(self.now);
            assert_eq!(*known, once, "it is not safe to run twice");
        }
        answer
    }

    async fn check(&mut self, at: usize) {
        let event = &mut self.events[at];
        event.model.lapse(self.now);
        event.books.check();
        let levels = self.stock.read(self.now, event.id).await;
        assert_eq!(levels.expect("Redis answers"), event.model.read());
        let holds = event.model.holds.iter().map(|hold| {
            let kept = Kept {
                buyer: hold.buyer.clone(),
                ordered: hold.ordered,
                since: hold.since.timestamp_millis(),
                deadline: hold.deadline.timestamp_millis(),
            };
            (hold.id, kept)
        });
        let kept = self.stock.holds(event.id).await.expect("Redis answers");
        assert_eq!(kept, holds.collect());
    }
}

impl Event {
    fn ask(&mut self, order: &Order, now: DateTime<Utc>) -> NewHold {
        let items = order.items.iter();
        let kind = |at: usize| self.books.types[at % self.books.types.len()].0;
        let items: Vec<(TicketTypeId, i32)> = items.map(|(at, n)| (kind(*at), *n)).collect();
        let id = self.books.fresh_id();
        NewHold {
            event_id: self.id,
            id: OrderId(id),
            buyer: format!("buyer {}", order.buyer),
            deadline: now + TimeDelta::seconds(order.lives),
            ordered: order.ordered,
            parts: self.books.parts(&items),
            items,
            proof: proof(id.as_u128()),
            sale: order.sale.clone(),
            most_holds: order.most_holds,
        }
    }

    fn claim(&mut self, pool: Uuid, places: i32, now: DateTime<Utc>) -> NewHold {
        let id = self.books.fresh_id();
        NewHold {
            event_id: self.id,
            id: OrderId(id),
            buyer: format!("claim {id}"),
            deadline: now + TimeDelta::minutes(1),
            ordered: false,
            parts: vec![(pool, places)],
            items: Vec::new(),
            proof: proof(id.as_u128()),
            sale: String::new(),
            most_holds: 1,
        }
    }

    fn asked_before(&self, deed: &Deed) -> Option<NewHold> {
        let (Deed::PlaceAgain(which)
        | Deed::Look(which, _)
        | Deed::Release(which, _)
        | Deed::Extend(which, ..)
        | Deed::Attach(which, _)
        | Deed::Detach(which, _)) = deed
        else {
            return None;
        };
        // Most often one of the last.
        let at = (self.asked.len().checked_sub(1)?).checked_sub(which % 8);
        let at = at.unwrap_or(which % self.asked.len());
        self.asked.get(at).cloned()
    }
}

fn proof(number: u128) -> Proof {
    serde_json::from_value(json!(format!("{number:032x}"))).expect("a proof")
}
