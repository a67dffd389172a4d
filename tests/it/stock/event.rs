//! One event on all sides: in the books, as the model has it, and what was asked of it so far.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use shared::ids::{EventId, OrderId, TicketTypeId};
use shared::stock::{Durable, NewHold, Proof, Told};
use uuid::Uuid;

use super::books::Books;
use super::model::Model;
use super::steps::{Deed, Order, Shape};

pub struct Event {
    pub id: EventId,
    pub books: Books,
    pub model: Model,
    pub asked: Vec<NewHold>,
    pub untold: Vec<(Vec<OrderId>, Vec<Told>)>,
    /// The books as somebody saw them, and when, who is slow to say so.
    pub seen: Option<(DateTime<Utc>, Durable)>,
}

impl Event {
    pub fn new(id: Uuid, (pools, types): &Shape) -> Self {
        Self {
            id: EventId(id),
            books: Books::new(pools, types),
            model: Model::default(),
            asked: Vec::new(),
            untold: Vec::new(),
            seen: None,
        }
    }

    /// What Postgres says, asked after Redis was.
    pub fn durable(&self) -> Durable {
        self.books.durable(self.id).after(&self.model.heard())
    }

    pub fn see(&mut self, now: DateTime<Utc>) {
        self.seen = Some((now, self.durable()));
    }

    pub fn ask(&mut self, order: &Order, now: DateTime<Utc>) -> NewHold {
        let items = order.items.iter();
        let kind = |at: usize| self.books.types[at % self.books.types.len()].0;
        let items: Vec<(TicketTypeId, i32)> = items.map(|(at, n)| (kind(*at), *n)).collect();
        let id = self.books.fresh_id();
        let parts = if order.summed {
            self.books.parts(&items)
        } else {
            let items = items.chunks(1);
            items.flat_map(|item| self.books.parts(item)).collect()
        };
        NewHold {
            event_id: self.id,
            id: OrderId(id),
            buyer: format!("buyer {}", order.buyer),
            deadline: now + TimeDelta::seconds(order.lives),
            ordered: order.ordered,
            parts,
            items,
            proof: proof(id.as_u128()),
            sale: order.sale.clone(),
            most_holds: order.most_holds,
            writer: order.ordered.then(|| writer(0)),
        }
    }

    pub fn claim(&mut self, pool: Uuid, places: i32, now: DateTime<Utc>) -> NewHold {
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
            writer: None,
        }
    }

    pub fn asked_before(&self, deed: &Deed) -> Option<NewHold> {
        let (Deed::PlaceAgain(which)
        | Deed::Look(which, _)
        | Deed::Release(which, _)
        | Deed::Extend(which, ..)
        | Deed::Attach(which, _)
        | Deed::Detach(which, _)
        | Deed::AttachUnheard(which)) = deed
        else {
            return None;
        };
        // Most often one of the last.
        let at = (self.asked.len().checked_sub(1)?).checked_sub(which % 8);
        let at = at.unwrap_or(which % self.asked.len());
        self.asked.get(at).cloned()
    }
}

/// One of the requests that write the same order.
pub fn writer(which: usize) -> Uuid {
    Uuid::from_u128(1 + which as u128 % 3)
}

pub fn proof(number: u128) -> Proof {
    serde_json::from_value(json!(format!("{number:032x}"))).expect("a proof")
}
