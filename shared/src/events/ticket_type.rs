//! Something on sale.

use poem_openapi::Object;
use serde::Serialize;

use crate::clock::Time;
use crate::error::Invalid;
use crate::ids::TicketTypeId;

/// Something on sale: it admits to one or more sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Object, sqlx::FromRow)]
pub struct TicketType {
    pub id: TicketTypeId,
    pub name: String,
    pub description: Option<String>,
    /// In the minor unit of the event's currency.
    pub price: i64,
    pub original_price: Option<i64>,
    /// For members of the organization.
    pub member_price: Option<i64>,
    /// How many there are, apart from what its sessions and the event can take.
    pub quantity: Option<i32>,
    /// The codes of the sessions it admits to.
    pub included_sessions: Vec<String>,
    pub sales_start: Option<Time>,
    pub sales_end: Option<Time>,
    pub min_per_order: i32,
    pub max_per_order: Option<i32>,
    pub max_per_buyer: Option<i32>,
    /// Not shown to the public.
    pub hidden: bool,
    pub version: i64,
}

/// A ticket type to be added.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct NewTicketType {
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub name: String,
    #[oai(validator(max_length = 2000))]
    pub description: Option<String>,
    /// In the minor unit of the event's currency; 0 is free.
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub price: i64,
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub original_price: Option<i64>,
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub member_price: Option<i64>,
    /// How many there are, apart from what its sessions and the event can take.
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub quantity: Option<i32>,
    /// The codes of the sessions it admits to, at least one.
    #[oai(validator(min_items = 1, max_items = 200))]
    pub included_sessions: Vec<String>,
    pub sales_start: Option<Time>,
    pub sales_end: Option<Time>,
    #[oai(
        default = "one",
        validator(minimum(value = "1"), maximum(value = "1000"))
    )]
    pub min_per_order: i32,
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub max_per_order: Option<i32>,
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub max_per_buyer: Option<i32>,
    #[oai(default)]
    pub hidden: bool,
}

fn one() -> i32 {
    1
}

impl NewTicketType {
    /// A type with a price and no rules of its own.
    #[must_use]
    pub fn simple(name: &str, price: i64, included_sessions: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            description: None,
            price,
            original_price: None,
            member_price: None,
            quantity: None,
            included_sessions,
            sales_start: None,
            sales_end: None,
            min_per_order: one(),
            max_per_order: None,
            max_per_buyer: None,
            hidden: false,
        }
    }

    /// What no field can say by itself.
    pub(super) fn check(&self, invalid: &mut Invalid) {
        if self
            .sales_end
            .is_some_and(|end| Some(end) <= self.sales_start)
        {
            invalid.push("sales_end", "must be after `sales_start`");
        }
        if self
            .max_per_order
            .is_some_and(|most| most < self.min_per_order)
        {
            invalid.push("max_per_order", "must not be less than `min_per_order`");
        }
    }
}
