//! What is offered to a buyer: which tickets, at which price. Pure.

use chrono::{DateTime, Utc};
use poem_openapi::Object;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::HoldError;
use crate::error::{Invalid, Result};
use crate::events::{Constraint, EventDetails, TicketType};
use crate::ids::TicketTypeId;
use crate::stock::Short;

/// How many tickets of which type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Object)]
#[oai(deny_unknown_fields)]
pub struct Wanted {
    pub ticket_type_id: TicketTypeId,
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub quantity: i32,
}

/// Tickets of one type, at the price that they will cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Object)]
pub struct SaleItem {
    pub ticket_type_id: TicketTypeId,
    pub name: String,
    pub quantity: i32,
    /// Of one ticket, in the minor unit of the currency.
    pub price: i64,
}

/// What is offered, at the price that it will cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    pub currency: String,
    pub items: Vec<SaleItem>,
    /// To which sessions, for each of these.
    #[serde(default)]
    pub(super) admits: Vec<Vec<String>>,
    /// For how long it stands, and is extended by.
    #[serde(default)]
    pub minutes: i32,
}

impl Sale {
    /// What these tickets cost this buyer at `now`, unless they cannot be had.
    pub fn offer(
        event: &EventDetails,
        wanted: &[Wanted],
        member: bool,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        if wanted.is_empty() {
            return Err(Invalid::field("items", "must name what is wanted").into());
        }
        let mut items: Vec<SaleItem> = Vec::with_capacity(wanted.len());
        let mut admits = Vec::with_capacity(wanted.len());
        for (at, wanted) in wanted.iter().enumerate() {
            let id = wanted.ticket_type_id;
            if items.iter().any(|item| item.ticket_type_id == id) {
                let field = format!("items[{at}].ticket_type_id");
                return Err(Invalid::field(field, "is named twice").into());
            }
            let kind = event.kind(id).ok_or(HoldError::NoSuchType)?;
            on_sale(event, kind, now)?;
            within_limits(event, kind, wanted.quantity)?;
            items.push(SaleItem {
                ticket_type_id: id,
                name: kind.name.clone(),
                quantity: wanted.quantity,
                price: kind.price_for(member),
            });
            admits.push(kind.included_sessions.clone());
        }
        let most = event.event.max_tickets_per_order;
        let sale = Self {
            currency: event.event.currency.clone(),
            items,
            admits,
            minutes: 0,
        };
        if sale.tickets() > most {
            return Err(HoldError::QuantityLimit {
                ticket_type_id: None,
                least: 1,
                most,
            }
            .into());
        }
        Ok(sale)
    }

    #[must_use]
    pub fn tickets(&self) -> i32 {
        self.items.iter().map(|item| item.quantity).sum()
    }

    /// Whether the tickets still admit to the sessions that they were offered for.
    #[must_use]
    pub fn admits_as_in(&self, event: &EventDetails) -> bool {
        // What an earlier version offered does not say.
        let mut offered = self.items.iter().zip(&self.admits);
        offered.all(|(item, codes)| {
            let kind = event.kind(item.ticket_type_id);
            kind.is_some_and(|kind| kind.included_sessions == *codes)
        })
    }

    #[must_use]
    pub fn wanted(&self) -> Vec<Wanted> {
        let items = self.items.iter();
        let wanted = items.map(|item| Wanted {
            ticket_type_id: item.ticket_type_id,
            quantity: item.quantity,
        });
        wanted.collect()
    }

    #[must_use]
    pub fn total(&self) -> i64 {
        let prices = self
            .items
            .iter()
            .map(|item| item.price * i64::from(item.quantity));
        prices.sum()
    }

    #[must_use]
    pub fn quantities(&self) -> Vec<(TicketTypeId, i32)> {
        let items = self.items.iter();
        items
            .map(|item| (item.ticket_type_id, item.quantity))
            .collect()
    }

    /// How many places it takes from which pool, each pool once.
    #[must_use]
    pub fn parts(&self, event: &EventDetails) -> Vec<(Uuid, i32)> {
        let mut parts: Vec<(Uuid, i32)> = Vec::new();
        for item in &self.items {
            let kind = event.kind(item.ticket_type_id);
            for pool in kind.into_iter().flat_map(|kind| event.pools_of(kind)) {
                match parts.iter_mut().find(|(known, _)| *known == pool) {
                    Some((_, places)) => *places += item.quantity,
                    None => parts.push((pool, item.quantity)),
                }
            }
        }
        parts
    }

    /// Which of the tickets cannot be had, because these pools have too few places.
    #[must_use]
    pub fn refusal(&self, event: &EventDetails, short: &[Short]) -> HoldError {
        let rest_of = |pool: &Uuid| short.iter().find(|s| s.0 == *pool).map(|s| s.1);
        for item in &self.items {
            let Some(kind) = event.kind(item.ticket_type_id) else {
                continue;
            };
            let pools: Vec<Uuid> = event.pools_of(kind).collect();
            let Some(available) = pools.iter().filter_map(rest_of).min() else {
                continue;
            };
            let sessions = event.sessions.iter();
            let limiting = sessions.filter(|session| {
                pools.contains(&session.id.0) && rest_of(&session.id.0) == Some(available)
            });
            return HoldError::InsufficientCapacity {
                ticket_type_id: item.ticket_type_id,
                requested: item.quantity,
                available,
                limiting_sessions: limiting.map(|session| session.code.clone()).collect(),
            };
        }
        HoldError::NoSuchType
    }
}

fn on_sale(event: &EventDetails, kind: &TicketType, now: DateTime<Utc>) -> Result<(), HoldError> {
    match event.constraint(kind, now) {
        // Whoever is shown a hidden type may sell it.
        None | Some(Constraint::Hidden | Constraint::SoldOut) => Ok(()),
        Some(Constraint::SalesNotOpen) => Err(HoldError::SalesNotOpen),
        Some(Constraint::SalesEnded) => Err(HoldError::SalesEnded),
        Some(Constraint::EventNotOnSale) => Err(HoldError::NotOnSale),
    }
}

fn within_limits(event: &EventDetails, kind: &TicketType, quantity: i32) -> Result<(), HoldError> {
    let (least, most) = (kind.min_per_order, event.event.most_per_order(kind));
    if (least..=most).contains(&quantity) {
        return Ok(());
    }
    Err(HoldError::QuantityLimit {
        ticket_type_id: Some(kind.id),
        least,
        most,
    })
}
