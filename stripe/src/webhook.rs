//! What Stripe tells us by itself. Anybody can send to that address: only a signature says that it was Stripe.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

/// As Stripe recommends.
pub const TOLERANCE: Duration = Duration::from_mins(5);
/// Stripe sends one for each secret, of which there are two during a rotation.
const MOST_SIGNATURES: usize = 16;
const LONGEST_HEADER: usize = 4_096;

/// Something that happened at Stripe. Of a kind that we may never have heard of.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    /// `payment_intent.succeeded` and the like.
    pub kind: String,
    /// Seconds since 1970.
    pub created: i64,
    /// What it is about, as it was then. Events come late and in any order: to act, ask what it is now.
    pub object: Value,
    pub object_id: Option<String>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The object may hold a client secret.
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("object_id", &self.object_id)
            .finish_non_exhaustive()
    }
}

/// Why something is not taken for an event of Stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("the signature cannot be read")]
    Malformed,
    #[error("it is not signed with a secret of ours")]
    Forged,
    #[error("it was signed too long ago, or in the future")]
    Stale,
    #[error("it is signed by Stripe and is no event")]
    NoEvent,
}

/// The event, if the header holds a signature of this very body by one of the secrets, no older and no newer than
/// `tolerance`. `now` is in seconds since 1970.
pub fn verify(
    body: &[u8],
    header: &str,
    secrets: &[SecretString],
    now: i64,
    tolerance: Duration,
) -> Result<Event, Rejected> {
    let signed = Signed::read(header).ok_or(Rejected::Malformed)?;
    let ours = secrets.iter().any(|secret| signed.by(secret, body));
    if !ours {
        return Err(Rejected::Forged);
    }
    if now.abs_diff(signed.at) > tolerance.as_secs() {
        return Err(Rejected::Stale);
    }
    read(body).ok_or(Rejected::NoEvent)
}

/// What the header says: `t=…,v1=…,v1=…`.
struct Signed<'a> {
    /// As it was written, because that is what is signed.
    timestamp: &'a str,
    at: i64,
    signatures: Vec<Vec<u8>>,
}

impl<'a> Signed<'a> {
    fn read(header: &'a str) -> Option<Self> {
        if header.len() > LONGEST_HEADER {
            return None;
        }
        let mut timestamp = None;
        let mut signatures = Vec::new();
        for part in header.split(',') {
            match part.trim().split_once('=')? {
                ("t", text) if timestamp.is_none() => timestamp = Some(text),
                ("v1", text) if signatures.len() < MOST_SIGNATURES => {
                    signatures.push(hex::decode(text).ok()?);
                }
                ("t" | "v1", _) => return None,
                // Other schemes are not ours to judge.
                _ => {}
            }
        }
        let timestamp = timestamp?;
        Some(Self {
            timestamp,
            at: timestamp.parse().ok()?,
            signatures,
        })
    }

    /// Takes the same time wherever a signature is wrong.
    fn by(&self, secret: &SecretString, body: &[u8]) -> bool {
        let secret = secret.expose_secret().as_bytes();
        let mac = Hmac::<Sha256>::new_from_slice(secret);
        let Ok(mut mac) = mac else { return false };
        mac.update(self.timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        let right = |signature: &Vec<u8>| mac.clone().verify_slice(signature).is_ok();
        !secret.is_empty() && self.signatures.iter().any(right)
    }
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    created: i64,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Value,
}

fn read(body: &[u8]) -> Option<Event> {
    let wire: Wire = serde_json::from_slice(body).ok()?;
    let object_id = wire.data.object["id"].as_str().map(str::to_owned);
    Some(Event {
        id: wire.id,
        kind: wire.kind,
        created: wire.created,
        object: wire.data.object,
        object_id,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sandbox::stripe::sign;

    use super::*;

    const NOW: i64 = 1_790_000_000;
    const BODY: &[u8] = br#"{"id": "evt_1", "type": "a.kind.never.heard.of", "created": 1789999999,
        "data": {"object": {"id": "x_1", "client_secret": "hunter2"}}, "more": 1}"#;

    fn secrets(all: &[&str]) -> Vec<SecretString> {
        all.iter()
            .map(|secret| SecretString::from(*secret))
            .collect()
    }

    fn checked(body: &[u8], header: &str, all: &[&str]) -> Result<Event, Rejected> {
        verify(body, header, &secrets(all), NOW, TOLERANCE)
    }

    #[test]
    fn a_signed_event_of_any_kind_is_taken() {
        let header = sign("whsec_1", NOW, BODY);
        let event = checked(BODY, &header, &["whsec_1"]).expect("good");
        assert_eq!(
            (event.id.as_str(), event.kind.as_str()),
            ("evt_1", "a.kind.never.heard.of")
        );
        assert_eq!(event.object_id.as_deref(), Some("x_1"));
        assert!(!format!("{event:?}").contains("hunter2"));
    }

    #[test]
    fn a_signature_of_another_hand_is_known() {
        // Computed with `printf '1790000000.{}' | openssl dgst -sha256 -hmac whsec_1`.
        let header = format!(
            "t={NOW},v1={}",
            "f705cd8e5e74965c6722350b983e7c4bbc42303bf431488efe8ea7bb07d4a2bc"
        );
        assert_eq!(
            checked(b"{}", &header, &["whsec_1"]),
            Err(Rejected::NoEvent)
        );
    }

    #[test]
    fn secrets_are_changed_without_a_gap() {
        let (old, new) = (sign("whsec_old", NOW, BODY), sign("whsec_new", NOW, BODY));
        for header in [&old, &new] {
            assert!(checked(BODY, header, &["whsec_new", "whsec_old"]).is_ok());
        }
        assert_eq!(checked(BODY, &old, &["whsec_new"]), Err(Rejected::Forged));
        // Stripe signs with both meanwhile.
        let (_, second) = new.split_once(',').expect("two parts");
        assert!(checked(BODY, &format!("{old},{second},v0=00"), &["whsec_new"]).is_ok());
        assert_eq!(checked(BODY, &old, &[]), Err(Rejected::Forged));
        assert_eq!(
            checked(BODY, &sign("", NOW, BODY), &[""]),
            Err(Rejected::Forged)
        );
    }

    #[test]
    fn what_is_too_old_or_from_the_future_is_not_taken() {
        for (away, good) in [
            (0, true),
            (300, true),
            (-300, true),
            (301, false),
            (-301, false),
        ] {
            let header = sign("whsec_1", NOW - away, BODY);
            let expected = if good { None } else { Some(Rejected::Stale) };
            assert_eq!(
                checked(BODY, &header, &["whsec_1"]).err(),
                expected,
                "{away}"
            );
        }
        for extreme in [i64::MIN, i64::MAX] {
            let header = sign("whsec_1", extreme, BODY);
            assert_eq!(checked(BODY, &header, &["whsec_1"]), Err(Rejected::Stale));
        }
    }

    #[test]
    fn what_cannot_be_read_is_malformed() {
        let good = sign("whsec_1", NOW, BODY);
        let twice = format!("{good},{good}");
        let long = format!("{good},{}", "v0=0,".repeat(2_000));
        for header in [
            "",
            "t=",
            "v1=00",
            "t=x,v1=00",
            "t=1,v1=xyz",
            "nonsense",
            &twice,
            &long,
        ] {
            assert_eq!(
                checked(BODY, header, &["whsec_1"]),
                Err(Rejected::Malformed),
                "{header}"
            );
        }
        let unsigned = format!("t={NOW}");
        assert_eq!(
            checked(BODY, &unsigned, &["whsec_1"]),
            Err(Rejected::Forged)
        );
    }

    proptest! {
        #[test]
        fn no_header_and_no_body_makes_it_panic(body: Vec<u8>, header in ".*", now: i64) {
            let _any = verify(&body, &header, &secrets(&["whsec_1"]), now, TOLERANCE);
        }

        #[test]
        fn headers_that_look_right_are_not_accepted(time: i64, signature in "[0-9a-f]{0,80}", now: i64) {
            let header = format!("t={time},v1={signature}");
            let verdict = verify(BODY, &header, &secrets(&["whsec_1"]), now, TOLERANCE);
            prop_assert!(matches!(verdict, Err(Rejected::Malformed | Rejected::Forged)));
        }

        #[test]
        fn one_flipped_bit_anywhere_is_found(at in 0..BODY.len(), bit in 0..8_u8) {
            let header = sign("whsec_1", NOW, BODY);
            let mut body = BODY.to_vec();
            body[at] ^= 1 << bit;
            prop_assert_eq!(checked(&body, &header, &["whsec_1"]), Err(Rejected::Forged));
        }

        #[test]
        fn only_the_secret_signs(secret in "[a-z]{1,20}", other in "[a-z]{1,20}") {
            let header = sign(&secret, NOW, BODY);
            prop_assert_eq!(checked(BODY, &header, &[&other]).is_ok(), secret == other);
        }
    }
}
