//! Does what a story tells, to Redis and to the model, and holds the two against each other after every step.

use std::collections::BTreeMap;
use std::fmt::Debug;

use chrono::{DateTime, TimeDelta, Utc};
use redis::aio::ConnectionLike;
use shared::ids::OrderId;
use shared::stock::{Durable, Kept, Placed, Restored, Stock, Told};
use uuid::Uuid;

use super::event::Event;
use super::model::Model;
use super::steps::{Deed, End, Shape, Step};

pub struct Run<C> {
    pub stock: Stock<C>,
    /// Where scripts may be forgotten without harm to others.
    pub own_server: Option<C>,
    pub now: DateTime<Utc>,
    pub events: Vec<Event>,
}

impl<C: ConnectionLike + Clone + Send> Run<C> {
    pub fn new(connection: &C, prefix: &str, own_server: bool, shapes: &[Shape]) -> Self {
        let ids = (1..).map(Uuid::from_u128);
        let events = ids.zip(shapes).map(|(id, shape)| Event::new(id, shape));
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
            self.restore(at, false, false).await;
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
                self.restore(at, true, twice).await;
            }
            Deed::RemovePool(pool) => {
                self.events[at].books.remove_pool(*pool);
                self.restore(at, true, twice).await;
            }
            Deed::LoseChanges { pool, number } => {
                self.events[at].books.lose_changes(*pool, *number);
            }
            Deed::See => self.events[at].see(self.now),
            Deed::Restore { only_known, late } => {
                let seen = self.events[at].seen.clone().filter(|_| *late);
                match seen {
                    Some(seen) => self.restore_as_seen(at, seen, *only_known, twice).await,
                    None => self.restore(at, *only_known, twice).await,
                }
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
        // The constraint has the last word.
        let fits = self.events[at].books.fits(id, -by);
        match if fits { end } else { End::Refused } {
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

    pub async fn restore(&mut self, at: usize, only_known: bool, twice: bool) {
        let event = &self.events[at];
        let heard = self.stock.heard(event.id).await.expect("Redis answers");
        assert_eq!(heard, event.model.heard());
        let seen = (self.now, event.durable());
        self.restore_as_seen(at, seen, only_known, twice).await;
        let event = &self.events[at];
        // Nobody told Redis of anything meanwhile.
        if !event.model.pools.is_empty() {
            assert_eq!(event.model.pools, event.books.pools, "Postgres is right");
        }
    }

    /// As the product does it: what Postgres said before, then what it says now.
    async fn restore_as_seen(
        &mut self,
        at: usize,
        (then, before): (DateTime<Utc>, Durable),
        only_known: bool,
        twice: bool,
    ) {
        let before = Durable {
            only_known,
            ..before
        };
        // Others have looked since, so what has lapsed since is known.
        let looked = self.stock.read(self.now, before.event_id).await;
        looked.expect("Redis answers");
        let restored = self.tell_all(at, then, &before, twice).await;
        let event = &self.events[at];
        let after = event.books.durable(event.id);
        if restored.cold {
            self.tell_all(at, then, &after, twice).await;
        }
        let (ended, told) = (before.ended_by(&after), after.told());
        self.settle(at, &ended, &told, twice).await;
    }

    async fn tell_all(
        &mut self,
        at: usize,
        then: DateTime<Utc>,
        durable: &Durable,
        twice: bool,
    ) -> Restored {
        let real = async |stock: &Stock<C>| stock.restore(then, durable).await;
        let model = |model: &mut Model| model.restore(then, durable);
        self.both(at, twice, real, model).await
    }

    /// Calls Redis and the model; twice if the answer got lost, which must not change anything more.
    pub async fn both<T: Debug + PartialEq>(
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
                items: hold.items.clone(),
                ordered: hold.ordered,
                since: hold.since,
                deadline: hold.deadline,
            };
            (hold.id, kept)
        });
        let kept = self.stock.holds(event.id).await.expect("Redis answers");
        assert_eq!(kept, holds.collect());
    }
}
