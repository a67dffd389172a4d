//! What Postgres says of one event, without Postgres.

use std::collections::{BTreeMap, BTreeSet};

use shared::ids::{EventId, OrderId, TicketTypeId};
use shared::stock::{Durable, NewHold, Pool, Told, Waiting};
use uuid::Uuid;

#[derive(Debug, Clone)]
pub struct Books {
    pub pools: BTreeMap<Uuid, Told>,
    /// Which pools a ticket type draws on.
    pub types: Vec<(TicketTypeId, BTreeSet<Uuid>)>,
    pub waiting: Vec<Waiting>,
    /// Every order that there ever was: what it may hold is settled by what became of it.
    pub orders: BTreeSet<OrderId>,
    pub paid: BTreeSet<OrderId>,
    /// Changes were lost. What Redis heard of them may let in more than fits until it hears otherwise, and Postgres decides.
    has_lost: bool,
    next_id: u128,
}

impl Books {
    /// Pools with these capacities; each type draws on those whose bit is set, or on the first.
    pub fn new(capacities: &[i32], types: &[u8]) -> Self {
        let pools: Vec<_> = (1..).zip(capacities).map(|(n, c)| pool(n, *c)).collect();
        let drawn = |bits: u8| {
            let mut drawn: BTreeSet<_> = (0..pools.len())
                .filter(|at| bits >> at & 1 == 1)
                .map(|at| pools[at].id)
                .collect();
            if drawn.is_empty() {
                drawn.insert(pools[0].id);
            }
            drawn
        };
        let kinds = (101..).map(|n| TicketTypeId(Uuid::from_u128(n)));
        let types = kinds.zip(types.iter().map(|bits| drawn(*bits))).collect();
        let pools: BTreeMap<_, _> = pools.into_iter().map(|pool| (pool.id, pool)).collect();
        Self {
            pools,
            types,
            waiting: Vec::new(),
            orders: BTreeSet::new(),
            paid: BTreeSet::new(),
            has_lost: false,
            next_id: 1_000,
        }
    }

    pub fn fresh_id(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid::from_u128(self.next_id)
    }

    /// How many places these tickets take from which pool.
    pub fn parts(&self, items: &[(TicketTypeId, i32)]) -> Vec<(Uuid, i32)> {
        let mut parts = BTreeMap::new();
        for (kind, places) in items {
            let pools = self.types.iter().find(|(id, _)| id == kind);
            for pool in pools.into_iter().flat_map(|(_, pools)| pools) {
                *parts.entry(*pool).or_default() += places;
            }
        }
        parts.into_iter().collect()
    }

    /// An order is written on this hold.
    pub fn order(&mut self, hold: &NewHold) {
        if !self.orders.insert(hold.id) {
            return;
        }
        self.waiting.push(Waiting {
            id: hold.id,
            buyer: hold.buyer.clone(),
            deadline: hold.deadline.timestamp_millis(),
            items: hold.items.clone(),
            proof: hold.proof.clone(),
            sale: hold.sale.clone(),
        });
    }

    /// Ends an order that nobody paid for. False if it was paid for.
    pub fn end(&mut self, id: OrderId) -> bool {
        self.waiting.retain(|order| order.id != id);
        !self.paid.contains(&id)
    }

    /// An order did not come about after all; another may stand on the same hold.
    pub fn take_back(&mut self, id: OrderId) {
        self.waiting.retain(|order| order.id != id);
        self.orders.remove(&id);
    }

    /// The order is paid for: its places are sold now. Answers what Redis is to hear.
    pub fn pay(&mut self, id: OrderId) -> Vec<Told> {
        let at = self.waiting.iter().position(|order| order.id == id);
        let order = self.waiting.remove(at.expect("an order that waits"));
        let parts = self.parts(&order.items);
        if self.has_lost && !parts.iter().all(|(pool, places)| self.fits(*pool, *places)) {
            return Vec::new();
        }
        self.paid.insert(id);
        let moved = parts.into_iter();
        moved
            .map(|(pool, places)| self.change(pool, |pool| pool.sold += places))
            .collect()
    }

    /// Whether so many places of a pool can be sold or taken away.
    pub fn fits(&self, pool: Uuid, places: i32) -> bool {
        let pool = &self.pools[&pool];
        pool.sold + places <= pool.capacity
    }

    pub fn resize(&mut self, pool: Uuid, by: i32) -> Told {
        self.change(pool, |pool| pool.capacity += by)
    }

    /// Changes that did nothing between them, such as a sale and its return, are lost: only the version tells.
    pub fn lose_changes(&mut self, at: usize, number: i64) {
        let at = at % self.pools.len();
        self.has_lost = true;
        let pool = self.pools.values_mut().nth(at).expect("one");
        pool.version = (pool.version - number).max(1);
    }

    fn change(&mut self, id: Uuid, change: impl FnOnce(&mut Told)) -> Told {
        let pool = self.pools.get_mut(&id).expect("a pool of the event");
        change(pool);
        pool.version += 1;
        // The constraint in Postgres, which has the last word and never needs it.
        assert!(
            (0..=pool.capacity).contains(&pool.sold),
            "sold more than there is: {pool:?}"
        );
        pool.clone()
    }

    /// The event gets a pool that a type draws on from now.
    pub fn add_pool(&mut self, kind: usize) {
        let pool = pool(self.next_id, 1_000);
        self.next_id += 1;
        let kind = kind % self.types.len();
        self.types[kind].1.insert(pool.id);
        self.pools.insert(pool.id, pool);
    }

    /// One pool is done away with; not the last one of a type.
    pub fn remove_pool(&mut self, at: usize) {
        let id = *self.pools.keys().nth(at % self.pools.len()).expect("one");
        let needed = |pools: &BTreeSet<_>| pools.len() == 1 && pools.contains(&id);
        if self.types.iter().any(|(_, pools)| needed(pools)) {
            return;
        }
        for (_, pools) in &mut self.types {
            pools.remove(&id);
        }
        self.pools.remove(&id);
    }

    pub fn durable(&self, event_id: EventId) -> Durable {
        let drawing = |id: &Uuid| {
            let types = self.types.iter().filter(|(_, pools)| pools.contains(id));
            types.map(|(kind, _)| *kind).collect()
        };
        let pools = self.pools.values().map(|told| Pool {
            types: drawing(&told.id),
            told: told.clone(),
            heard: None,
        });
        Durable {
            event_id,
            pools: pools.collect(),
            waiting: self.waiting.clone(),
            only_known: true,
        }
    }

    /// No place is promised to two: whoever has ordered can have what they ordered.
    pub fn check(&self) {
        if self.has_lost {
            return;
        }
        let mut promised: BTreeMap<Uuid, i32> = BTreeMap::new();
        for order in &self.waiting {
            for (pool, places) in self.parts(&order.items) {
                *promised.entry(pool).or_default() += places;
            }
        }
        for pool in self.pools.values() {
            let promised = promised.get(&pool.id).copied().unwrap_or(0);
            assert!(
                pool.sold + promised <= pool.capacity,
                "{promised} places are promised of {pool:?}"
            );
        }
    }
}

fn pool(id: u128, capacity: i32) -> Told {
    Told {
        id: Uuid::from_u128(id),
        capacity,
        sold: 0,
        version: 1,
    }
}
