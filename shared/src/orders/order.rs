//! An order, and what is said of one to place it.

use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};

use super::status::OrderStatus;
use super::tickets::Ticket;
use crate::clock::Time;
use crate::holds::{SaleItem, Wanted};
use crate::ids::{EventId, OrderId, OrganizationId, UserId};

/// What somebody buys.
#[derive(Debug, Clone, PartialEq, Serialize, Object)]
pub struct Order {
    pub id: OrderId,
    pub organization_id: OrganizationId,
    pub event_id: EventId,
    pub user_id: Option<UserId>,
    /// Not for those who may not see contact data.
    pub email: Option<String>,
    /// Opens the order to whoever placed it without an account. Told when it is placed, and in its mails.
    pub secret: Option<String>,
    pub status: OrderStatus,
    /// Why it failed, expired or was cancelled.
    pub reason: Option<String>,
    pub method: PaymentMethod,
    pub currency: String,
    pub items: Vec<SaleItem>,
    /// In the minor unit of the currency, like every amount.
    pub total: i64,
    pub paid: i64,
    /// Given back, or on its way there.
    pub refunded: i64,
    /// Until then it must be paid.
    pub payment_deadline: Time,
    /// Where the buyer pays, while the order waits for that.
    pub payment_url: Option<String>,
    /// What the buyer's browser confirms the payment with, while the order waits for that.
    pub client_secret: Option<String>,
    /// The payment is disputed at the buyer's bank.
    pub disputed: bool,
    pub placed_at: Time,
    pub version: i64,
    /// Once it is paid.
    pub tickets: Vec<Ticket>,
}

/// How an order is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Enum, sqlx::Type)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum PaymentMethod {
    /// By a card that the client has turned into a token of Stripe.
    Card,
    /// Confirmed in the buyer's browser with `client_secret`.
    Client,
    /// On a page of Stripe, at `payment_url`.
    Checkout,
    /// Nothing is to be paid.
    Free,
    /// By bank transfer or at the door; the organizer marks it as paid.
    Manual,
}

impl PaymentMethod {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Client => "client",
            Self::Checkout => "checkout",
            Self::Free => "free",
            Self::Manual => "manual",
        }
    }

    /// Whether Stripe has a part in it.
    pub(super) const fn by_stripe(self) -> bool {
        matches!(self, Self::Card | Self::Client | Self::Checkout)
    }

    /// Whether the order keeps its places until the buyer does something more.
    pub(super) const fn waits_for_the_buyer(self) -> bool {
        matches!(self, Self::Client | Self::Checkout | Self::Manual)
    }
}

/// How somebody wants to pay.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct NewPayment {
    pub method: PaymentMethod,
    /// For `card`: the PaymentMethod of Stripe, `pm_…`.
    #[oai(validator(max_length = 255, pattern = r"^pm_[A-Za-z0-9_]+$"))]
    pub token: Option<String>,
    /// For `checkout`: where the buyer comes back to.
    #[oai(validator(max_length = 2000))]
    pub return_url: Option<String>,
}

/// Who comes on a ticket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Object)]
#[oai(deny_unknown_fields)]
#[serde(default)]
pub struct Attendee {
    #[oai(validator(max_length = 200))]
    pub name: String,
    #[oai(validator(max_length = 254))]
    pub email: Option<String>,
    #[oai(validator(max_length = 1000))]
    pub dietary_restrictions: Option<String>,
    #[oai(validator(max_length = 500))]
    pub emergency_contact: Option<String>,
    /// To the organizer's questions.
    pub answers: Option<serde_json::Value>,
}

impl Attendee {
    /// As organizers see them: how to reach them only with the right to, and of a sensitive event the initials.
    pub(super) fn backstage(&mut self, contact: bool, sensitive: bool) {
        if !contact {
            self.email = None;
            self.emergency_contact = None;
        }
        if sensitive {
            self.name = initials(&self.name);
        }
    }
}

/// Who comes to a sensitive event is nobody's business but the door's.
fn initials(name: &str) -> String {
    let words = name.split_whitespace();
    let letters = words.filter_map(|word| word.chars().next());
    letters.flat_map(|letter| [letter, '.']).collect()
}

/// An order to be placed: on a hold, or on what is wanted, which is held and ordered in one call.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct NewOrder {
    /// The hold to order, unless `items` say what is wanted.
    #[oai(validator(max_length = 100))]
    pub hold_token: Option<String>,
    /// With `items`: the event.
    pub event_id: Option<EventId>,
    /// Each ticket type once.
    #[oai(validator(max_items = 50))]
    #[oai(default)]
    pub items: Vec<Wanted>,
    /// One for each ticket in the order of the items, or one for all.
    #[oai(validator(max_items = 1000))]
    #[oai(default)]
    pub attendees: Vec<Attendee>,
    /// Where the tickets go; that of the account unless said otherwise.
    #[oai(validator(max_length = 254))]
    pub email: Option<String>,
    /// Not needed for what is free.
    pub payment: Option<NewPayment>,
}

#[cfg(test)]
mod tests {
    use super::initials;

    #[test]
    fn a_name_becomes_its_initials() {
        assert_eq!(initials(" Ada  King Lovelace"), "A.K.L.");
        assert_eq!(initials("Émile"), "É.");
        assert_eq!(initials(""), "");
    }
}
