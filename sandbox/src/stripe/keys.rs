//! Idempotency keys: what was asked under one, and what was answered.

use std::collections::{HashMap, VecDeque};

use hyper::body::Bytes;

use super::refusal::Refusal;

/// For so long Stripe remembers a key, in seconds.
const REMEMBERED: i64 = 24 * 60 * 60;
/// So many are more than a day of tests and enough for a bench.
const MOST: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Keys {
    by_key: HashMap<String, Known>,
    oldest_first: VecDeque<String>,
}

#[derive(Debug)]
struct Known {
    asked: u64,
    at: i64,
    answer: Option<(u16, Bytes)>,
}

/// What the key says about a request.
pub(super) enum Seen {
    /// Never seen: it is taken now, until [`Keys::answered`] or [`Keys::forget`].
    New,
    Before(u16, Bytes),
}

impl Keys {
    pub(super) fn begin(&mut self, key: &str, asked: u64, now: i64) -> Result<Seen, Refusal> {
        let known = self.by_key.get(key);
        let Some(known) = known.filter(|known| now - known.at < REMEMBERED) else {
            let known = Known {
                asked,
                at: now,
                answer: None,
            };
            self.by_key.insert(key.to_owned(), known);
            self.oldest_first.push_back(key.to_owned());
            self.make_room();
            return Ok(Seen::New);
        };
        if known.asked != asked {
            let message = format!(
                "Keys for idempotent requests can only be used with the same parameters they were first used with. \
                 Try using a key other than '{key}' if you meant to execute a different request."
            );
            return Err(Refusal::new(400, "idempotency_error", None, message));
        }
        if let Some((status, body)) = &known.answer {
            return Ok(Seen::Before(*status, body.clone()));
        }
        let message = "There is currently another in-progress request using this key.";
        let code = Some("idempotency_key_in_use");
        Err(Refusal::new(409, "idempotency_error", code, message))
    }

    pub(super) fn answered(&mut self, key: &str, status: u16, body: Bytes) {
        if let Some(known) = self.by_key.get_mut(key) {
            known.answer = Some((status, body));
        }
    }

    /// Nothing was begun: the key is free again.
    pub(super) fn forget(&mut self, key: &str) {
        self.by_key.remove(key);
    }

    fn make_room(&mut self) {
        while self.oldest_first.len() > MOST {
            let oldest = self.oldest_first.pop_front();
            oldest.and_then(|key| self.by_key.remove(&key));
        }
    }
}
