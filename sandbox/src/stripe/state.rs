//! Everything the stand-in knows. One lock guards it; nothing done under the lock waits for anything.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::balance::Entry;
use super::charges::Charge;
use super::checkout::Session;
use super::disputes::Dispute;
use super::events::Event;
use super::kept::{Kept, Object};
use super::keys::Keys;
use super::payments::Intent;
use super::refunds::Refund;

/// As many as a long evening of development makes; a bench makes more and does not miss the oldest.
const MOST_EVENTS: usize = 50_000;

#[derive(Debug)]
pub(super) struct State {
    pub(super) now: i64,
    /// Where browsers reach the pages.
    pub(super) pages: String,
    pub(super) intents: Kept<Intent>,
    pub(super) charges: Kept<Charge>,
    pub(super) refunds: Kept<Refund>,
    pub(super) sessions: Kept<Session>,
    pub(super) disputes: Kept<Dispute>,
    pub(super) entries: Kept<Entry>,
    pub(super) events: Kept<Event>,
    pub(super) keys: Keys,
    /// Open sessions by when they expire.
    pub(super) due: BTreeSet<(i64, String)>,
    /// Events that nobody has been told of yet.
    pub(super) untold: Vec<Event>,
    /// Refunds stay pending although the card's would not.
    pub(super) slow_refunds: bool,
    ids: Ids,
}

#[derive(Debug)]
struct Ids {
    /// Another run must not use the ids of this one again: somebody's database may remember them.
    run: u32,
    last: u64,
}

impl State {
    pub(super) fn new(pages: String) -> Self {
        Self {
            now: 0,
            pages,
            intents: Kept::all(),
            charges: Kept::all(),
            refunds: Kept::all(),
            sessions: Kept::all(),
            disputes: Kept::all(),
            entries: Kept::all(),
            events: Kept::at_most(MOST_EVENTS),
            keys: Keys::default(),
            due: BTreeSet::new(),
            untold: Vec::new(),
            slow_refunds: false,
            ids: Ids {
                run: rand::random(),
                last: 0,
            },
        }
    }

    pub(super) fn id(&mut self, kind: &str) -> String {
        self.ids.last += 1;
        format!("{kind}_{:08x}{:010x}", self.ids.run, self.ids.last)
    }

    /// What lets a browser act on one thing.
    pub(super) fn client_secret(id: &str) -> String {
        format!("{id}_secret_{:032x}", rand::random::<u128>())
    }

    pub(super) fn tell(&mut self, kind: &'static str, about: &Value) {
        let event = Event::new(self.id("evt"), kind, self.now, about);
        self.untold.push(event.clone());
        self.events.add(&event.id.clone(), self.now, event);
    }

    pub(super) fn tell_of_intent(&mut self, kind: &'static str, id: &str) {
        if let Some(about) = self.intents.get(id).map(Object::json) {
            self.tell(kind, &about);
        }
    }

    pub(super) fn tell_of_charge(&mut self, kind: &'static str, id: &str) {
        if let Some(about) = self.charges.get(id).map(Object::json) {
            self.tell(kind, &about);
        }
    }
}

/// `{}` for none, as Stripe has it.
pub(super) fn object_of(pairs: &super::form::Metadata) -> Value {
    json!(pairs)
}
