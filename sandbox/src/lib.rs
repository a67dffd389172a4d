//! Local stand-ins that speak the real protocols, for `holdfast up`, docker compose and the tests.
//!
//! They keep everything in memory and trust whoever can reach them: bind them to the machine's own address.

pub mod inbox;
mod port;
pub mod stripe;

pub use inbox::{Fault, Inbox, Message};
pub use stripe::Stripe;
