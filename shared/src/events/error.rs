//! Why something cannot be done with an event.

use serde_json::{Value, json};

use super::status::Status;
use crate::error::{Code, Fault};

#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error("There is no such event.")]
    NotFound,
    #[error("The event has no such session.")]
    SessionNotFound,
    #[error("The event has no such ticket type.")]
    TicketTypeNotFound,
    #[error("The event has begun, is over or is cancelled; only its description can still change.")]
    NotModifiable,
    #[error("The event cannot go on sale yet: it lacks {}.", .missing.join(" and "))]
    NotReady { missing: Vec<&'static str> },
    #[error("The event was ordered of, and {sold} of its places are sold. Cancel it instead.")]
    HasRegistrations { sold: i64 },
    #[error("An event cannot be moved from this status to that one.")]
    StatusNotReachable { from: Status },
    #[error(
        "Tickets of this type are sold: it can neither be removed nor lose its quantity or change its sessions."
    )]
    TicketTypeHasSales,
    #[error("{0}")]
    SessionInUse(&'static str),
    #[error("The event is not on sale.")]
    NotOnSale,
    #[error("{available} seats are free.")]
    InsufficientSeats { requested: i32, available: i64 },
    #[error("More seats would come back than were taken.")]
    SeatsNotTaken,
    #[error("{taken} places are sold or held for buyers.")]
    CapacityBelowSold { taken: i64 },
}

impl Fault for EventError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::EventNotFound,
            Self::SessionNotFound => Code::SessionNotFound,
            Self::TicketTypeNotFound => Code::TicketTypeNotFound,
            Self::NotModifiable => Code::EventNotModifiable,
            Self::NotReady { .. } => Code::EventNotReady,
            Self::HasRegistrations { .. } => Code::EventHasRegistrations,
            Self::StatusNotReachable { .. } => Code::StatusNotReachable,
            Self::TicketTypeHasSales => Code::TicketTypeHasSales,
            Self::SessionInUse(_) => Code::SessionInUse,
            Self::CapacityBelowSold { .. } => Code::CapacityBelowSold,
            Self::NotOnSale => Code::EventNotOnSale,
            Self::InsufficientSeats { .. } => Code::InsufficientSeats,
            Self::SeatsNotTaken => Code::SeatsNotTaken,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::NotReady { missing } => json!({ "missing": missing }),
            Self::HasRegistrations { sold } => json!({ "sold": sold }),
            Self::StatusNotReachable { from } => {
                json!({ "status": from, "reachable": from.reachable() })
            }
            Self::CapacityBelowSold { taken } => json!({ "taken": taken }),
            Self::InsufficientSeats {
                requested,
                available,
            } => json!({ "requested": requested, "available": available }),
            _ => json!({}),
        }
    }
}
