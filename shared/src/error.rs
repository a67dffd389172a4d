//! What can go wrong, in one table of codes.
//!
//! A module has one `thiserror` enum for its own rules; each variant names a [`Code`], and the table below
//! says what kind of failure that is. Verbs answer [`Result`]; only the HTTP layer knows status codes.

use std::fmt;

use serde_json::{Value, json};

/// What a caller can make of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request could not be understood.
    Malformed,
    /// Who is calling is not known.
    Unauthenticated,
    /// The caller is known and may not do this.
    Forbidden,
    /// There is nothing here for this caller.
    NotFound,
    /// There was something here, and its time is over.
    Gone,
    /// The request is fine, the state of things is not.
    Conflict,
    /// The path knows other methods.
    WrongMethod,
    TooLarge,
    WrongMediaType,
    /// The request is understood and cannot be carried out as it stands.
    Unprocessable,
    /// Whoever should pay has not.
    PaymentRequired,
    /// The caller must say which version it has seen.
    VersionRequired,
    TooMany,
    Internal,
    /// Something we depend on is away; trying again later helps.
    Unavailable,
}

macro_rules! codes {
    ($($variant:ident $text:literal $kind:ident: $meaning:literal;)+) => {
        /// Stable names of failures: clients act on them, so they never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($variant),+ }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind),+ }
            }

            /// When it happens, for the documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),+ }
            }
        }
    };
}

codes! {
    ValidationFailed "VALIDATION_FAILED" Malformed: "A field is missing or not acceptable; `details.fields` names every one.";
    MalformedRequest "MALFORMED_REQUEST" Malformed: "The request is not what it says it is, such as JSON that is none.";
    Unauthenticated "UNAUTHENTICATED" Unauthenticated: "No credentials were given, or they are not known.";
    TokenExpired "TOKEN_EXPIRED" Unauthenticated: "The access token has expired; refresh it.";
    InvalidCredentials "INVALID_CREDENTIALS" Unauthenticated: "E-mail and password do not belong together, or the refresh token is not good any more.";
    Forbidden "FORBIDDEN" Forbidden: "The caller has no right to do this here.";
    InvitationForAnother "INVITATION_FOR_ANOTHER" Forbidden: "The invitation was sent to another mail address than the caller's.";
    NotFound "NOT_FOUND" NotFound: "There is nothing at this path.";
    UserNotFound "USER_NOT_FOUND" NotFound: "There is no such account.";
    LoginSessionNotFound "LOGIN_SESSION_NOT_FOUND" NotFound: "You have no such session.";
    LinkNotFound "LINK_NOT_FOUND" NotFound: "The link is not known, has been used, or has expired.";
    OrganizationNotFound "ORGANIZATION_NOT_FOUND" NotFound: "There is no such organization, or the caller does not belong to it.";
    MemberNotFound "MEMBER_NOT_FOUND" NotFound: "The organization has no such member or invitation.";
    RoleNotFound "ROLE_NOT_FOUND" NotFound: "The organization has no such role.";
    ApiKeyNotFound "API_KEY_NOT_FOUND" NotFound: "The organization has no such key.";
    InvitationNotFound "INVITATION_NOT_FOUND" NotFound: "There is no such invitation, or it was accepted, replaced or withdrawn.";
    VenueNotFound "VENUE_NOT_FOUND" NotFound: "There is no such venue.";
    EventNotFound "EVENT_NOT_FOUND" NotFound: "There is no such event, or it is not for the caller to see.";
    SessionNotFound "SESSION_NOT_FOUND" NotFound: "The event has no session of this code.";
    TicketTypeNotFound "TICKET_TYPE_NOT_FOUND" NotFound: "The event has no such ticket type.";
    OrderNotFound "ORDER_NOT_FOUND" NotFound: "There is no such order, or it is not for the caller to see.";
    TicketNotFound "TICKET_NOT_FOUND" NotFound: "There is no such ticket, or it is not for the caller to see.";
    PaymentDeclined "PAYMENT_DECLINED" PaymentRequired: "The bank has declined the payment; `details.decline_code` says why, and the places are on sale again.";
    ConcurrentUpdate "CONCURRENT_UPDATE" Conflict: "Somebody else changed it meanwhile; `details.current_version` is the version now.";
    AlreadyRefreshed "ALREADY_REFRESHED" Conflict: "Another request has used this refresh token a moment ago; go on with what that one was answered.";
    EmailTaken "EMAIL_TAKEN" Conflict: "There is an account with this address already.";
    AlreadyMember "ALREADY_MEMBER" Conflict: "The person belongs to the organization already.";
    LastOwner "LAST_OWNER" Conflict: "The organization would be left without an owner.";
    RoleBuiltIn "ROLE_BUILT_IN" Conflict: "The role is one that every organization has; it cannot be changed or removed.";
    RoleInUse "ROLE_IN_USE" Conflict: "Members or invitations have the role; `details` counts them.";
    RoleNameTaken "ROLE_NAME_TAKEN" Conflict: "The organization has a role of this name.";
    SlugTaken "SLUG_TAKEN" Conflict: "Another organization has this slug.";
    VenueInUse "VENUE_IN_USE" Conflict: "Events that are not over still need the venue.";
    EventNotModifiable "EVENT_NOT_MODIFIABLE" Conflict: "The event has begun, is over or is cancelled; only its description can still change.";
    EventNotReady "EVENT_NOT_READY" Conflict: "An event goes on sale with a session to come and a ticket type; `details.missing` says what it lacks.";
    EventHasRegistrations "EVENT_HAS_REGISTRATIONS" Conflict: "Places of the event are sold; cancel it instead.";
    StatusNotReachable "STATUS_NOT_REACHABLE" Conflict: "No way leads from the status of the event to that one; `details.reachable` lists those that can be reached.";
    SessionInUse "SESSION_IN_USE" Conflict: "A ticket type includes the session, or places of it are sold, or it is the only one.";
    TicketTypeHasSales "TICKET_TYPE_HAS_SALES" Conflict: "Tickets of this type are sold: it can neither be removed nor lose its quantity.";
    CapacityBelowSold "CAPACITY_BELOW_SOLD" Conflict: "More places are sold or held for buyers than would be left; `details.taken` says how many are sold or held.";
    EventNotOnSale "EVENT_NOT_ON_SALE" Conflict: "The event is a draft, postponed, on hold, over or cancelled.";
    InsufficientSeats "INSUFFICIENT_SEATS" Conflict: "Fewer seats are free than asked for; `details.available` says how many.";
    SeatsNotTaken "SEATS_NOT_TAKEN" Conflict: "More seats would come back than were taken here.";
    InsufficientCapacity "INSUFFICIENT_CAPACITY" Conflict: "Fewer places are left than asked for; `details` names the ticket type, how many are left, and the sessions that limit it.";
    SalesNotOpen "SALES_NOT_OPEN" Conflict: "The sale has not begun.";
    SalesEnded "SALES_ENDED" Conflict: "The sale is over.";
    HoldAlreadyUsed "HOLD_ALREADY_USED" Conflict: "There is an order on the hold; `details.order_id` may name it.";
    HoldAlreadyExtended "HOLD_ALREADY_EXTENDED" Conflict: "A hold can be extended once; `details.expires_at` is when it ends.";
    TooManyHolds "TOO_MANY_HOLDS" Conflict: "The caller holds as many places of the event as they may at a time.";
    OrderNotModifiable "ORDER_NOT_MODIFIABLE" Conflict: "The order has gone another way; `details.status` says where it stands.";
    TicketNotValid "TICKET_NOT_VALID" Conflict: "The ticket was given back, and opens no door any more; `details.status` says so.";
    CancellationClosed "CANCELLATION_CLOSED" Conflict: "The event has begun: tickets cannot be given back any more.";
    IdempotencyInFlight "IDEMPOTENCY_IN_FLIGHT" Conflict: "The first request with this key is still running.";
    InvitationExpired "INVITATION_EXPIRED" Gone: "The invitation was not accepted in time; ask for another.";
    HoldExpired "HOLD_EXPIRED" Gone: "The hold is over or never was; its places are on sale again.";
    MethodNotAllowed "METHOD_NOT_ALLOWED" WrongMethod: "The path knows other methods; `Allow` lists them.";
    PayloadTooLarge "PAYLOAD_TOO_LARGE" TooLarge: "The body is larger than the server takes.";
    UnsupportedMediaType "UNSUPPORTED_MEDIA_TYPE" WrongMediaType: "The body must be `application/json`.";
    IdempotencyKeyReused "IDEMPOTENCY_KEY_REUSED" Unprocessable: "The key was used with another request.";
    QuantityLimit "QUANTITY_LIMIT" Unprocessable: "More or fewer tickets than one order or one buyer may have; `details` says how many that are.";
    RefundExceedsPayment "REFUND_EXCEEDS_PAYMENT" Unprocessable: "More would go back than was paid and not given back before.";
    VersionRequired "VERSION_REQUIRED" VersionRequired: "Say which version you have seen, by `If-Match` or `version`.";
    RateLimited "RATE_LIMITED" TooMany: "Too many requests; `Retry-After` says when to go on.";
    Internal "INTERNAL" Internal: "The fault is ours; quote the `request_id`.";
    Unavailable "UNAVAILABLE" Unavailable: "Something the server depends on is away; `Retry-After` says when to try again.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure that is an answer: it has a code, and a message for a person by `Display`.
pub trait Fault: std::error::Error + Send + Sync + 'static {
    fn code(&self) -> Code;

    /// What a program needs to act on it.
    fn details(&self) -> Value {
        json!({})
    }
}

/// What verbs fail with.
#[derive(Debug)]
pub enum Error {
    /// An answer to the caller.
    Fault(Box<dyn Fault>),
    /// Postgres or Redis is away or overloaded.
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
    /// A fault of ours.
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Fault(fault) => fault.code(),
            Self::Unavailable(_) => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// For the caller: says nothing of our insides.
    #[must_use]
    pub fn details(&self) -> Value {
        match self {
            Self::Fault(fault) => fault.details(),
            Self::Unavailable(_) | Self::Internal(_) => json!({}),
        }
    }

    /// For the caller: says nothing of our insides.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Fault(fault) => fault.to_string(),
            Self::Unavailable(_) => {
                "The server cannot do this right now. Try again in a moment.".into()
            }
            Self::Internal(_) => "Something went wrong on our side.".into(),
        }
    }
}

impl fmt::Display for Error {
    /// For the log: the whole cause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "{}: {fault}", fault.code()),
            Self::Unavailable(cause) => write!(f, "UNAVAILABLE: {cause}"),
            Self::Internal(cause) => write!(f, "INTERNAL: {cause}"),
        }
    }
}

impl std::error::Error for Error {}

impl<F: Fault> From<F> for Error {
    fn from(fault: F) -> Self {
        Self::Fault(Box::new(fault))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_passing(&error) {
            Self::Unavailable(error.into())
        } else {
            Self::Internal(error.into())
        }
    }
}

/// Why Redis writes nothing for now, beside what its client knows: no replica keeps up, its disk or its memory is
/// full, or a script was handed a time that is too far from the clock of Redis.
const REDIS_FOR_NOW: [&str; 4] = ["NOREPLICAS", "MISCONF", "OOM", "CLOCK"];

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Self {
        let passing = error.is_io_error() || error.is_connection_dropped() || error.is_timeout();
        let is_for_now = error
            .code()
            .is_some_and(|code| REDIS_FOR_NOW.contains(&code));
        if passing || is_for_now || matches!(error.kind(), redis::ErrorKind::Server(_)) {
            Self::Unavailable(error.into())
        } else {
            Self::Internal(error.into())
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(error.into())
    }
}

/// Whether the same statement may succeed a moment later.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|state| {
            // Connection lost; server shutting down or starting; too many connections; read-only; deadlock; lock wait.
            state.starts_with("08")
                || matches!(
                    &*state,
                    "57P01" | "57P02" | "57P03" | "53300" | "25006" | "40001" | "40P01" | "55P03"
                )
        }),
        _ => false,
    }
}

/// So many fields are named in one answer. A client mends those first; a body of 60,000 wrong values costs no more than one of 50.
pub const MOST_FIELDS: usize = 50;

/// Several fields that are not acceptable, each with the reason.
#[derive(Debug, Default, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Invalid {
    fields: Vec<(String, String)>,
}

impl Invalid {
    /// One field that is not acceptable.
    #[must_use]
    pub fn field(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            fields: vec![(name.into(), message.into())],
        }
    }

    /// Adds a field. One reason is enough for each, and [`MOST_FIELDS`] fields are.
    pub fn push(&mut self, name: impl Into<String>, message: impl Into<String>) {
        let name = name.into();
        if self.is_full() {
            return;
        }
        if !self.fields.iter().any(|(known, _)| *known == name) {
            self.fields.push((name, message.into()));
        }
    }

    /// Whether another field would not be told.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.fields.len() >= MOST_FIELDS
    }

    /// `Ok` when nothing was found wrong.
    pub fn check(self) -> Result<()> {
        if self.fields.is_empty() {
            Ok(())
        } else {
            Err(self.into())
        }
    }

    fn sentence(&self) -> String {
        match self.fields.as_slice() {
            [(name, message)] => format!("`{name}` {message}"),
            fields => format!("{} fields are not acceptable.", fields.len()),
        }
    }
}

impl Fault for Invalid {
    fn code(&self) -> Code {
        Code::ValidationFailed
    }

    fn details(&self) -> Value {
        let fields = self.fields.iter();
        let fields: Vec<Value> = fields
            .map(|(field, message)| json!({"field": field, "message": message}))
            .collect();
        json!({ "fields": fields })
    }
}

/// Turns a named constraint of the database into an answer.
pub trait OnConstraint<T> {
    fn on_constraint<F: Fault>(self, name: &str, fault: impl FnOnce() -> F) -> Result<T>;
}

impl<T> OnConstraint<T> for Result<T, sqlx::Error> {
    fn on_constraint<F: Fault>(self, name: &str, fault: impl FnOnce() -> F) -> Result<T> {
        self.map_err(|error| match &error {
            sqlx::Error::Database(cause) if cause.constraint() == Some(name) => fault().into(),
            _ => error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn all_bad_fields_are_told() {
        let mut invalid = Invalid::field("name", "is too long");
        invalid.push("capacity", "must be at least 1");
        let error = Error::from(invalid);
        assert_eq!(error.code(), Code::ValidationFailed);
        assert_eq!(error.details()["fields"][1]["field"], "capacity");
    }

    #[test]
    fn insides_stay_inside() {
        let error = Error::from(sqlx::Error::Configuration("password=hunter2".into()));
        assert!(!error.message().contains("hunter2"));
        assert_eq!(error.details(), json!({}));
    }
}
