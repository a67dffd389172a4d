//! Small words that operations share.

use poem_openapi::{Enum, Tags};

/// The chapters of the document.
#[derive(Tags)]
pub enum Tag {
    /// Signing up, in and out, and one's own account.
    Accounts,
    /// Who sells, who belongs to them, and what they may do.
    Organizations,
    /// For platform administrators.
    Administration,
    /// Between services, with a key of the scope `internal`.
    Internal,
    /// Where events take place.
    Venues,
    /// What takes place, in which sessions, and what is on sale of it.
    Events,
    /// Holding places, buying and paying, tickets.
    Sales,
    /// Whether the server is well.
    Operations,
}

/// The direction of a list's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum Direction {
    Asc,
    Desc,
}
