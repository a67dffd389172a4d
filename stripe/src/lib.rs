//! Stripe as Holdfast needs it, in words of our own: whoever calls this knows nothing of the library behind it.
//!
//! A call is tried again, with the same idempotency key, until Stripe has given an answer or patience is over.
//! A decline is an answer. No key, no client secret and no body of a request is ever printed.
//!
//! | file | holds |
//! |---|---|
//! | `payments`, `checkouts`, `refunds`, `balance` | what can be asked, and what is answered |
//! | `client` | the attempts, and how an answer is read |
//! | `line` | connections that are kept and used again |
//! | `webhook` | what Stripe tells us by itself |

mod balance;
mod checkouts;
mod client;
mod disputes;
mod error;
mod line;
mod page;
mod payments;
mod refunds;
pub mod webhook;

pub use balance::BalanceTransaction;
pub use checkouts::{Checkout, CheckoutStatus, NewCheckout};
pub use client::{BadSettings, Client, LONGEST_PAUSE, Settings};
pub use disputes::{Dispute, DisputeStatus};
pub use error::Error;
pub use page::Page;
pub use payments::{Decline, NewPayment, Payment, PaymentStatus};
pub use refunds::{NewRefund, Refund, RefundStatus};
pub use webhook::Event;

/// What we write on things at Stripe, to find them again.
pub type Metadata = std::collections::BTreeMap<String, String>;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The version of the API that is spoken; answers look as this version has them, whatever the account's is.
#[must_use]
pub fn api_version() -> &'static str {
    stripe_shared::version::VERSION.as_str()
}
