//! A hold: places set aside for a short time, under a token.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::ids::{self, EventId, OrderId, TicketTypeId};

/// What Redis keeps of the secret in a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Proof(String);

/// What the owner of a hold is given: where it lies, which it is, and a secret that proves that it is theirs.
#[derive(Clone, PartialEq, Eq)]
pub struct HoldToken {
    pub event_id: EventId,
    pub id: OrderId,
    secret: [u8; 16],
}

impl HoldToken {
    /// For a hold that comes into being at `now`.
    #[must_use]
    pub fn fresh(event_id: EventId, now: DateTime<Utc>) -> Self {
        let mut secret = [0; 16];
        secret.copy_from_slice(&ids::random_bytes()[..16]);
        Self {
            event_id,
            id: OrderId::fresh(now),
            secret,
        }
    }

    /// The same whenever it is made from the same, so that a request that is sent again holds its places once.
    #[must_use]
    pub fn from_seed(event_id: EventId, seed: &[u8; 32]) -> Self {
        let half = |at: usize| -> [u8; 16] { seed[at..at + 16].try_into().expect("16 bytes") };
        Self {
            event_id,
            id: OrderId(uuid::Builder::from_random_bytes(half(0)).into_uuid()),
            secret: half(16),
        }
    }

    #[must_use]
    pub fn proof(&self) -> Proof {
        Proof(hex::encode(&Sha256::digest(self.secret)[..16]))
    }

    #[must_use]
    pub fn encode(&self) -> String {
        let (event, id) = (self.event_id.0.into_bytes(), self.id.0.into_bytes());
        URL_SAFE_NO_PAD.encode([event, id, self.secret].concat())
    }

    /// Nothing for what is no token of ours.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let bytes: [u8; 48] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let part = |at: usize| -> [u8; 16] { bytes[at..at + 16].try_into().expect("16 bytes") };
        Some(Self {
            event_id: EventId(Uuid::from_bytes(part(0))),
            id: OrderId(Uuid::from_bytes(part(16))),
            secret: part(32),
        })
    }
}

/// Places to take.
#[derive(Debug, Clone, Serialize)]
pub struct NewHold {
    #[serde(skip)]
    pub event_id: EventId,
    /// That of the order which may come of it.
    pub id: OrderId,
    /// Whose holds are counted together.
    pub buyer: String,
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub deadline: DateTime<Utc>,
    /// For an order that stands already; it does not lapse by itself.
    pub ordered: bool,
    /// How many places from which pool. Two ticket types may draw on the same one.
    #[serde(serialize_with = "summed")]
    pub parts: Vec<(Uuid, i32)>,
    /// How many tickets of which type; none if places are taken from pools as such.
    pub items: Vec<(TicketTypeId, i32)>,
    pub proof: Proof,
    /// What was offered, kept as given.
    pub sale: String,
    /// How many holds without an order this buyer may have of this event at a time.
    pub most_holds: u32,
    /// The request that is about to write the order on it, by an id of its own. While one of those that share the hold has not
    /// said that it did not, the hold is the order's.
    pub writer: Option<Uuid>,
}

/// Each pool once, because the script looks at the parts one by one.
fn summed<S: Serializer>(parts: &[(Uuid, i32)], to: S) -> Result<S::Ok, S::Error> {
    let mut sums = BTreeMap::new();
    for (pool, places) in parts {
        *sums.entry(pool).or_insert(0) += i64::from(*places);
    }
    to.collect_seq(sums)
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Placed {
    Placed {
        #[serde(with = "chrono::serde::ts_milliseconds")]
        deadline: DateTime<Utc>,
        /// It was held for its order before, and more of a pool is promised by now than there is.
        #[serde(default)]
        overdrawn: bool,
    },
    /// These pools have fewer places than asked for.
    Short { short: Vec<Short> },
    /// The buyer has as many holds as they may.
    TooMany,
    /// Redis does not know the event, or not all pools asked for.
    Cold,
}

/// A pool that has fewer places than asked for, and how many it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Short(pub Uuid, pub i64);

/// A hold, for its owner.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Found {
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub deadline: DateTime<Utc>,
    pub ordered: bool,
    pub extended: bool,
    pub buyer: String,
    pub sale: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is() {
        let now = DateTime::UNIX_EPOCH;
        let token = HoldToken::fresh(EventId::fresh(now), now);
        let text = token.encode();
        assert_eq!(text.len(), 64);
        assert!(HoldToken::decode(&text) == Some(token));
        for text in ["", "x", &text[1..], "ä"] {
            assert!(HoldToken::decode(text).is_none(), "{text}");
        }
    }
}
