//! Something on sale.

use poem_openapi::Object;
use serde::Serialize;

use crate::clock::Time;
use crate::error::Invalid;
use crate::ids::TicketTypeId;
use crate::patch::Patch;

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

/// What is to be different; what is left out stays as it is.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields)]
pub struct TicketTypeChange {
    /// The version you have seen, unless you say it by `If-Match`.
    pub version: Option<i64>,
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub name: Patch<String>,
    #[oai(validator(max_length = 2000))]
    pub description: Patch<Option<String>>,
    /// In the minor unit of the event's currency; 0 is free.
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub price: Patch<i64>,
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub original_price: Patch<Option<i64>>,
    #[oai(validator(minimum(value = "0"), maximum(value = "99999999")))]
    pub member_price: Patch<Option<i64>>,
    /// Not below what is sold of it.
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub quantity: Patch<Option<i32>>,
    /// The codes of the sessions it admits to; they stay as they are once it was ordered.
    #[oai(validator(min_items = 1, max_items = 200))]
    pub included_sessions: Patch<Vec<String>>,
    pub sales_start: Patch<Option<Time>>,
    pub sales_end: Patch<Option<Time>>,
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub min_per_order: Patch<i32>,
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub max_per_order: Patch<Option<i32>>,
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub max_per_buyer: Patch<Option<i32>>,
    pub hidden: Patch<bool>,
}

impl TicketTypeChange {
    pub(super) fn applied_to(self, mut kind: TicketType) -> TicketType {
        self.name.apply(&mut kind.name);
        self.description.apply(&mut kind.description);
        self.price.apply(&mut kind.price);
        self.original_price.apply(&mut kind.original_price);
        self.member_price.apply(&mut kind.member_price);
        self.quantity.apply(&mut kind.quantity);
        self.included_sessions.apply(&mut kind.included_sessions);
        self.sales_start.apply(&mut kind.sales_start);
        self.sales_end.apply(&mut kind.sales_end);
        self.min_per_order.apply(&mut kind.min_per_order);
        self.max_per_order.apply(&mut kind.max_per_order);
        self.max_per_buyer.apply(&mut kind.max_per_buyer);
        self.hidden.apply(&mut kind.hidden);
        kind
    }
}

fn one() -> i32 {
    1
}

impl NewTicketType {
    pub(super) fn under(self, id: TicketTypeId) -> TicketType {
        TicketType {
            id,
            name: self.name,
            description: self.description,
            price: self.price,
            original_price: self.original_price,
            member_price: self.member_price,
            quantity: self.quantity,
            included_sessions: self.included_sessions,
            sales_start: self.sales_start,
            sales_end: self.sales_end,
            min_per_order: self.min_per_order,
            max_per_order: self.max_per_order,
            max_per_buyer: self.max_per_buyer,
            hidden: self.hidden,
            version: 1,
        }
    }

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
}

impl TicketType {
    /// What no field can say by itself. `place` is where the type stands in the request.
    pub(super) fn check(&self, place: &str, invalid: &mut Invalid) {
        if self
            .sales_end
            .is_some_and(|end| Some(end) <= self.sales_start)
        {
            invalid.push(format!("{place}sales_end"), "must be after `sales_start`");
        }
    }

    /// An order of the least that it may have must be possible. Of two fields that do not go together, the one that is
    /// being changed is named; what was so before is left alone.
    pub(super) fn check_least(
        &self,
        before: Option<&Self>,
        most_of_event: i32,
        place: &str,
        invalid: &mut Invalid,
    ) {
        let limits = |kind: &Self| {
            [
                ("max_per_order", kind.max_per_order),
                ("max_per_buyer", kind.max_per_buyer),
                ("quantity", kind.quantity),
            ]
        };
        let least = self.min_per_order;
        let least_changed = before.is_none_or(|before| before.min_per_order != least);
        if least_changed && least > most_of_event {
            let message = format!(
                "must not be more than `max_tickets_per_order` of the event, which is {most_of_event}"
            );
            invalid.push(format!("{place}min_per_order"), message);
        }
        for (at, (name, limit)) in limits(self).into_iter().enumerate() {
            let Some(limit) = limit.filter(|limit| *limit < least) else {
                continue;
            };
            if before.is_none_or(|before| limits(before)[at].1 != Some(limit)) {
                let message = format!("must not be less than `min_per_order`, which is {least}");
                invalid.push(format!("{place}{name}"), message);
            } else if least_changed {
                let message = format!("must not be more than `{name}`, which is {limit}");
                invalid.push(format!("{place}min_per_order"), message);
            }
        }
    }
}
