//! What a story does to holds.

use chrono::TimeDelta;
use redis::aio::ConnectionLike;
use shared::stock::{NewHold, Placed, Stock};

use super::event::{proof, writer};
use super::model::Model;
use super::run::Run;
use super::steps::{Deed, Shown};

impl<C: ConnectionLike + Clone + Send> Run<C> {
    /// What is done to a hold that was asked for before, whatever became of it.
    pub async fn with_hold(&mut self, at: usize, deed: &Deed, twice: bool) {
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
        let lives = event.model.holds.iter().any(|hold| hold.id == id);
        match *deed {
            // What had an order is not asked for again once it is over.
            Deed::PlaceAgain(_) if lives || !event.books.orders.contains(&id) => {
                self.place(at, &hold, twice).await;
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
            Deed::Attach(which, by) if !hold.items.is_empty() => {
                let (proof, by) = (shown(by), writer(which / 8));
                let real =
                    async |stock: &Stock<C>| stock.attach(now, event_id, id, proof, by).await;
                let model = |model: &mut Model| model.attach(now, id, proof, by);
                if self.both(at, twice, real, model).await.is_some() {
                    self.events[at].books.order(&hold);
                }
            }
            Deed::Detach(which, by) if !paid => {
                let (proof, by) = (shown(by), writer(which / 8));
                let real =
                    async |stock: &Stock<C>| stock.detach(now, event_id, id, proof, by).await;
                let model = |model: &mut Model| model.detach(id, proof, by);
                if self.both(at, twice, real, model).await {
                    self.events[at].books.take_back(id);
                }
            }
            Deed::AttachUnheard(_) if lives && !hold.items.is_empty() => {
                self.events[at].books.order(&hold);
                self.restore(at, false, twice).await;
            }
            _ => {}
        }
    }

    pub async fn place(&mut self, at: usize, hold: &NewHold, twice: bool) -> Placed {
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
}
