//! Identities: one newtype per thing, all made by one macro, all `UUIDv7` made from the clock.
//!
//! A version 7 id sorts by the time it was made, so rows land at the end of their index.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use rand::RngExt as _;
use ulid::Ulid;
use uuid::{Builder, Uuid};

/// A new id for something that comes into being at `now`.
#[must_use]
pub fn fresh(now: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    Builder::from_unix_timestamp_millis(millis, &rand::rng().random()).into_uuid()
}

/// A key under which a peer does something once; another one at each call.
#[must_use]
pub fn fresh_key(of: &str, now: DateTime<Utc>) -> String {
    format!("{of}-{}", fresh(now))
}

/// Unguessable.
#[must_use]
pub fn random_bytes() -> [u8; 32] {
    rand::rng().random()
}

/// An unguessable token of 256 bits, for secrets that are handed out once and stored hashed.
#[must_use]
pub fn secret_token(prefix: &str) -> String {
    format!("{prefix}{}", hex::encode(random_bytes()))
}

/// The same as it fits into a link: base64url.
#[must_use]
pub fn url_token() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes())
}

/// What a ticket shows at the door: 128 unguessable bits, in letters that are hard to confuse.
#[must_use]
pub fn ticket_code() -> String {
    Ulid::from(u128::from_be_bytes(rand::rng().random())).to_string()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, sqlx::Type, poem_openapi::NewType,
        )]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            #[must_use]
            pub fn fresh(now: DateTime<Utc>) -> Self {
                Self(fresh(now))
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

ids! {
    /// A line of the activity feed.
    ActivityId,
    /// A key that lets a service act for an organization.
    ApiKeyId,
    /// Something that takes place.
    EventId,
    /// A dated part of an event.
    SessionId,
    /// Something on sale.
    TicketTypeId,
    /// An invitation to join an organization.
    InvitationId,
    /// Where somebody is signed in.
    LoginSessionId,
    /// A mail, waiting or sent.
    MailId,
    /// What somebody buys, from the moment that its places are held.
    OrderId,
    /// Who sells.
    OrganizationId,
    /// Money on its way back.
    RefundId,
    /// One try to be paid.
    AttemptId,
    /// The right of one attendee to enter.
    TicketId,
    /// A set of rights.
    RoleId,
    /// A person with an account.
    UserId,
    /// Where events take place.
    VenueId,
}
