//! What the scripts are to do, told as plainly as can be: a list of holds, and sums over it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use shared::ids::{OrderId, TicketTypeId};
use shared::stock::{
    Durable, Extended, Found, LONGEST_ORDERING, Level, Levels, NewHold, Placed, Pool, Proof,
    Released, Restored, Short, Told,
};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub id: OrderId,
    pub buyer: String,
    pub deadline: DateTime<Utc>,
    pub ordered: bool,
    pub extended: bool,
    pub since: DateTime<Utc>,
    pub parts: BTreeMap<Uuid, i64>,
    pub items: Vec<(TicketTypeId, i32)>,
    pub proof: Proof,
    pub sale: String,
    pub writers: BTreeSet<Uuid>,
}

/// So many writers of a hold are told apart.
const MOST_WRITERS: usize = 8;

impl Hold {
    fn add_writer(&mut self, writer: Uuid) {
        let number = self.writers.len();
        if number >= MOST_WRITERS || (self.ordered && number == 0) {
            self.writers.insert(Uuid::nil());
        }
        if number < MOST_WRITERS {
            self.writers.insert(writer);
        }
    }
}

/// One event as Redis is to know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub pools: BTreeMap<Uuid, Told>,
    pub holds: Vec<Hold>,
}

impl Model {
    pub fn lapse(&mut self, now: DateTime<Utc>) {
        self.holds
            .retain(|hold| hold.ordered || hold.deadline > now);
    }

    /// The versions of all pools.
    pub fn heard(&self) -> BTreeMap<Uuid, i64> {
        let pools = self.pools.values();
        pools.map(|pool| (pool.id, pool.version)).collect()
    }

    pub fn read(&self) -> Option<Levels> {
        let level = |(id, pool): (&Uuid, &Told)| (*id, self.level(pool));
        (!self.pools.is_empty()).then(|| self.pools.iter().map(level).collect())
    }

    fn level(&self, pool: &Told) -> Level {
        Level {
            capacity: pool.capacity.into(),
            sold: pool.sold.into(),
            held: self.held(pool.id),
        }
    }

    fn held(&self, pool: Uuid) -> i64 {
        self.holds
            .iter()
            .filter_map(|hold| hold.parts.get(&pool))
            .sum()
    }

    fn free(&self, pool: Uuid) -> i64 {
        self.level(&self.pools[&pool]).free()
    }

    pub fn hold(&mut self, id: OrderId) -> Option<&mut Hold> {
        self.holds.iter_mut().find(|hold| hold.id == id)
    }

    fn owned(&mut self, id: OrderId, proof: &Proof) -> Option<&mut Hold> {
        self.hold(id).filter(|hold| hold.proof == *proof)
    }

    fn remove(&mut self, id: OrderId) {
        self.holds.retain(|hold| hold.id != id);
    }

    pub fn place(&mut self, now: DateTime<Utc>, new: &NewHold) -> Placed {
        if let Some(known) = self.hold(new.id) {
            let deadline = known.deadline;
            let again = known.ordered && new.ordered;
            if again {
                known.since = known.since.max(now);
            }
            if let Some(writer) = new.writer {
                known.add_writer(writer);
            }
            let pools: Vec<Uuid> = known.parts.keys().copied().collect();
            let mut pools = pools.into_iter().filter_map(|id| self.pools.get(&id));
            let overdrawn = again
                && pools.any(|pool| {
                    let level = self.level(pool);
                    level.capacity < level.sold + level.held
                });
            return Placed::Placed {
                deadline,
                overdrawn,
            };
        }
        if !new
            .parts
            .iter()
            .all(|part| self.pools.contains_key(&part.0))
        {
            return Placed::Cold;
        }
        let mut parts = BTreeMap::new();
        for (pool, places) in &new.parts {
            *parts.entry(*pool).or_default() += i64::from(*places);
        }
        let short = parts
            .iter()
            .filter(|(pool, places)| self.free(**pool) < **places);
        let short: Vec<_> = short
            .map(|(pool, _)| Short(*pool, self.free(*pool)))
            .collect();
        if !short.is_empty() {
            return Placed::Short { short };
        }
        let of_buyer = |hold: &&Hold| !hold.ordered && hold.buyer == new.buyer;
        let holds = self.holds.iter().filter(of_buyer).count();
        if !new.ordered && holds >= new.most_holds as usize {
            return Placed::TooMany;
        }
        self.holds.push(Hold {
            id: new.id,
            buyer: new.buyer.clone(),
            deadline: new.deadline,
            ordered: new.ordered,
            extended: false,
            since: now,
            parts,
            items: new.items.clone(),
            proof: new.proof.clone(),
            sale: new.sale.clone(),
            writers: new.writer.into_iter().collect(),
        });
        Placed::Placed {
            deadline: new.deadline,
            overdrawn: false,
        }
    }

    pub fn look(&mut self, id: OrderId, proof: &Proof) -> Option<Found> {
        self.owned(id, proof).map(|hold| Found {
            deadline: hold.deadline,
            ordered: hold.ordered,
            extended: hold.extended,
            buyer: hold.buyer.clone(),
            sale: hold.sale.clone(),
        })
    }

    pub fn release(&mut self, id: OrderId, proof: Option<&Proof>) -> Released {
        let hold = match proof {
            Some(proof) => self.owned(id, proof),
            None => self.hold(id),
        };
        match hold {
            None => Released::Missing,
            Some(hold) if hold.ordered && proof.is_some() => Released::Ordered,
            Some(_) => {
                self.remove(id);
                Released::Released
            }
        }
    }

    pub fn extend(&mut self, id: OrderId, proof: &Proof, by: TimeDelta) -> Extended {
        let Some(hold) = self.owned(id, proof) else {
            return Extended::Missing;
        };
        if hold.ordered {
            return Extended::Ordered;
        }
        if hold.extended {
            let deadline = hold.deadline;
            return Extended::ExtendedBefore { deadline };
        }
        hold.extended = true;
        hold.deadline += by;
        let deadline = hold.deadline;
        Extended::Extended { deadline }
    }

    pub fn attach(
        &mut self,
        now: DateTime<Utc>,
        id: OrderId,
        proof: &Proof,
        writer: Uuid,
    ) -> Option<bool> {
        let hold = self.owned(id, proof)?;
        hold.add_writer(writer);
        if hold.ordered {
            hold.since = hold.since.max(now);
            return Some(false);
        }
        hold.since = now;
        hold.ordered = true;
        Some(true)
    }

    pub fn detach(&mut self, id: OrderId, proof: &Proof, writer: Uuid) -> bool {
        let Some(hold) = self.owned(id, proof) else {
            return false;
        };
        let was_the_last = hold.writers.remove(&writer) && hold.writers.is_empty();
        let detached = hold.ordered && was_the_last;
        hold.ordered &= !was_the_last;
        detached
    }

    pub fn settle(&mut self, holds: &[OrderId], pools: &[Told]) {
        for id in holds {
            self.remove(*id);
        }
        for told in pools {
            if let Some(known) = self.pools.get_mut(&told.id)
                && known.version < told.version
            {
                *known = told.clone();
            }
        }
    }

    pub fn restore(&mut self, now: DateTime<Utc>, durable: &Durable) -> Restored {
        let before = self.clone();
        let cold = self.pools.is_empty();
        let nothing = Restored {
            cold,
            drift: 0,
            missing: 0,
        };
        if cold && durable.only_known {
            return nothing;
        }
        let missing = self.restore_orders(now, durable);
        self.end_orders(now, durable);
        self.restore_parts(durable);
        // What Redis knew before Postgres was asked, and Postgres does not, is lost.
        let newer = |pool: &Pool| {
            let known = before.pools.get(&pool.told.id);
            let known = known.filter(|known| known.version > pool.told.version);
            let known = known.filter(|known| pool.heard != Some(known.version));
            known.unwrap_or(&pool.told).clone()
        };
        let pools = durable.pools.iter().map(newer);
        self.pools = pools.map(|pool| (pool.id, pool)).collect();
        let drift = |(id, pool): (&Uuid, &Told)| {
            let known = before.pools.get(id).map(|known| before.level(known))?;
            let level = self.level(pool);
            let unsold = |level: Level| level.capacity - level.sold;
            Some((known.held - level.held).abs() + (unsold(known) - unsold(level)).abs())
        };
        Restored {
            drift: self.pools.iter().filter_map(drift).sum(),
            missing,
            ..nothing
        }
    }

    fn restore_orders(&mut self, now: DateTime<Utc>, durable: &Durable) -> i64 {
        let mut missing = 0;
        for order in &durable.waiting {
            if let Some(hold) = self.hold(order.id) {
                if !hold.ordered {
                    missing += 1;
                    hold.ordered = true;
                    hold.since = now;
                }
                continue;
            }
            missing += 1;
            self.holds.push(Hold {
                id: order.id,
                buyer: order.buyer.clone(),
                deadline: DateTime::from_timestamp_millis(order.deadline).expect("a time"),
                ordered: true,
                extended: false,
                since: now,
                parts: BTreeMap::new(),
                items: order.items.clone(),
                proof: order.proof.clone(),
                sale: order.sale.clone(),
                writers: BTreeSet::new(),
            });
        }
        missing
    }

    /// Whoever had three minutes to write an order and has none that waits has none any more.
    fn end_orders(&mut self, now: DateTime<Utc>, durable: &Durable) {
        let waits = |id| durable.waiting.iter().any(|order| order.id == id);
        let young = |hold: &Hold| now - hold.since < LONGEST_ORDERING;
        self.holds
            .retain(|hold| !hold.ordered || waits(hold.id) || young(hold));
    }

    fn restore_parts(&mut self, durable: &Durable) {
        for hold in &mut self.holds {
            let is_there = |id| durable.pools.iter().any(|pool| pool.told.id == id);
            let listed = |kind| durable.pools.iter().any(|pool| pool.types.contains(kind));
            if hold.items.is_empty() || !hold.items.iter().all(|(kind, _)| listed(kind)) {
                hold.parts.retain(|id, _| is_there(*id));
                continue;
            }
            hold.parts.clear();
            for pool in &durable.pools {
                let drawn = hold.items.iter();
                let drawn = drawn.filter(|(kind, _)| pool.types.contains(kind));
                let places: i64 = drawn.map(|(_, places)| i64::from(*places)).sum();
                if places > 0 {
                    hold.parts.insert(pool.told.id, places);
                }
            }
        }
    }
}
