//! Holds: places set aside in Redis for a short time, under a token.
//!
//! What a hold says it costs is what the order on it costs. It lapses by itself; nothing of it is in Postgres.

mod sale;

use chrono::TimeDelta;
use poem_openapi::Object;
use serde::Serialize;
use serde_json::{Value, json};

pub use sale::{Sale, SaleItem, Wanted};

use crate::app::App;
use crate::clock::Time;
use crate::config;
use crate::error::{Code, Fault, Result};
use crate::events::EventDetails;
use crate::ids::{EventId, TicketTypeId, UserId};
use crate::organizations;
use crate::stock::{self, Extended, Found, HoldToken, NewHold, Placed, Released};

#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    #[error("The hold is over, or never was; its places are on sale again.")]
    Expired,
    #[error("There is an order on the hold already.")]
    AlreadyUsed,
    #[error("The hold was extended before; that can be done once.")]
    AlreadyExtended { expires_at: Time },
    #[error("You hold as many places of the event as you may. Use them or give them back.")]
    TooMany,
    #[error("The event has no such ticket type.")]
    NoSuchType,
    #[error("The event is not on sale.")]
    NotOnSale,
    #[error("Its sale has not begun.")]
    SalesNotOpen,
    #[error("Its sale is over.")]
    SalesEnded,
    #[error("One order may have between {least} and {most} of them.")]
    QuantityLimit {
        ticket_type_id: Option<TicketTypeId>,
        least: i32,
        most: i32,
    },
    #[error("{}", .limiting_sessions.first().map_or_else(
        || format!("Only {available} are left."),
        |session| format!("Only {available} places are left in session {session}."),
    ))]
    InsufficientCapacity {
        ticket_type_id: TicketTypeId,
        requested: i32,
        available: i64,
        limiting_sessions: Vec<String>,
    },
}

impl Fault for HoldError {
    fn code(&self) -> Code {
        match self {
            Self::Expired => Code::HoldExpired,
            Self::AlreadyUsed => Code::HoldAlreadyUsed,
            Self::AlreadyExtended { .. } => Code::HoldAlreadyExtended,
            Self::TooMany => Code::TooManyHolds,
            Self::NoSuchType => Code::TicketTypeNotFound,
            Self::NotOnSale => Code::EventNotOnSale,
            Self::SalesNotOpen => Code::SalesNotOpen,
            Self::SalesEnded => Code::SalesEnded,
            Self::QuantityLimit { .. } => Code::QuantityLimit,
            Self::InsufficientCapacity { .. } => Code::InsufficientCapacity,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::AlreadyExtended { expires_at } => json!({ "expires_at": expires_at }),
            Self::QuantityLimit {
                ticket_type_id,
                least,
                most,
            } => json!({ "ticket_type_id": ticket_type_id, "min": least, "max": most }),
            Self::InsufficientCapacity {
                ticket_type_id,
                requested,
                available,
                limiting_sessions,
            } => json!({
                "ticket_type_id": ticket_type_id, "requested": requested, "available": available,
                "limiting_sessions": limiting_sessions,
            }),
            _ => json!({}),
        }
    }
}

/// Places set aside.
#[derive(Debug, Clone, Serialize, Object)]
pub struct Hold {
    /// Whoever has it, has the hold.
    pub token: String,
    pub event_id: EventId,
    /// From then on the places are on sale again.
    pub expires_at: Time,
    pub items: Vec<SaleItem>,
    /// What the order will cost.
    pub subtotal: i64,
    pub currency: String,
    /// It has been extended, which can be done once.
    pub extended: bool,
}

/// Who buys: an account, or somebody at an address.
#[derive(Debug, Clone)]
pub struct Buyer {
    pub user_id: Option<UserId>,
    pub address: String,
}

impl Buyer {
    /// Whose holds are counted together.
    #[must_use]
    pub fn key(&self) -> String {
        match self.user_id {
            Some(user_id) => format!("user:{user_id}"),
            None => format!("address:{}", self.address),
        }
    }

    /// How much of one event they may keep others from at a time.
    pub(crate) fn most(&self, limits: &config::Holds) -> u32 {
        match self.user_id {
            Some(_) => limits.per_account,
            None => limits.per_address,
        }
    }

    /// A hold of an account is that account's; any other is whoever's that has its token.
    pub(crate) fn may_use(&self, found: &Found) -> bool {
        !found.buyer.starts_with("user:") || found.buyer == self.key()
    }
}

/// What these tickets cost this buyer now, unless they cannot be had.
pub async fn offer(
    app: &App,
    event: &EventDetails,
    buyer: &Buyer,
    wanted: &[Wanted],
) -> Result<Sale> {
    let member = match buyer.user_id {
        Some(user_id) if event.has_member_prices() => {
            let mut db = app.read().await?;
            organizations::belong(&mut db, event.event.organization_id, &[user_id]).await?
        }
        _ => false,
    };
    Sale::offer(event, wanted, member, app.clock.now())
}

/// Sets places aside. Nothing if the event is not any more as it was read: then it is to be read again.
pub async fn place(
    app: &App,
    event: &EventDetails,
    buyer: &Buyer,
    wanted: &[Wanted],
) -> Result<Option<Hold>> {
    let sale = offer(app, event, buyer, wanted).await?;
    let token = HoldToken::fresh(event.event.id, app.clock.now());
    let minutes = organizations::hold_minutes(app, event.event.organization_id).await?;
    let sale = Sale { minutes, ..sale };
    let deadline = app.clock.now() + TimeDelta::minutes(minutes.into());
    let limits = &app.config.holds;
    let hold = NewHold {
        deadline,
        ordered: false,
        most_holds: buyer.most(limits),
        ..new_hold(event, &token, buyer, &sale)?
    };
    match stock::place(app, &hold).await? {
        Placed::Placed { .. } => {
            metrics::counter!("holdfast_holds_total", "outcome" => "placed").increment(1);
            let found = Found {
                deadline,
                ordered: false,
                extended: false,
                buyer: hold.buyer,
                sale: hold.sale,
            };
            shown(&token, &found).map(Some)
        }
        Placed::TooMany => Err(HoldError::TooMany.into()),
        Placed::Short { short } => {
            metrics::counter!("holdfast_holds_total", "outcome" => "refused").increment(1);
            Err(sale.refusal(event, &short).into())
        }
        Placed::Cold => Ok(None),
    }
}

/// A hold for these tickets, without a time.
pub(crate) fn new_hold(
    event: &EventDetails,
    token: &HoldToken,
    buyer: &Buyer,
    sale: &Sale,
) -> Result<NewHold> {
    Ok(NewHold {
        event_id: token.event_id,
        id: token.id,
        buyer: buyer.key(),
        deadline: chrono::DateTime::UNIX_EPOCH,
        ordered: true,
        parts: sale.parts(event),
        items: sale.quantities(),
        proof: token.proof(),
        sale: serde_json::to_string(sale)?,
        most_holds: u32::MAX,
        writer: None,
    })
}

/// A hold, for whoever has its token.
pub async fn read(app: &App, buyer: &Buyer, token: &str) -> Result<Hold> {
    let token = HoldToken::decode(token).ok_or(HoldError::Expired)?;
    let found = find(app, buyer, &token).await?;
    shown(&token, &found)
}

async fn find(app: &App, buyer: &Buyer, token: &HoldToken) -> Result<Found> {
    let (now, proof) = (app.clock.now(), token.proof());
    let found = app
        .stock
        .look(now, token.event_id, token.id, &proof)
        .await?;
    let found = found.filter(|found| buyer.may_use(found));
    Ok(found.ok_or(HoldError::Expired)?)
}

/// What a hold that a buyer has was offered for. It may have an order already.
pub(crate) async fn sale_of(app: &App, buyer: &Buyer, token: &HoldToken) -> Result<Sale> {
    let found = find(app, buyer, token).await?;
    Ok(serde_json::from_str(&found.sale)?)
}

/// Gives the places back before their time.
pub async fn release(app: &App, buyer: &Buyer, token: &str) -> Result<()> {
    let token = HoldToken::decode(token).ok_or(HoldError::Expired)?;
    find(app, buyer, &token).await?;
    let (now, proof) = (app.clock.now(), token.proof());
    let released = app
        .stock
        .release(now, token.event_id, token.id, Some(&proof));
    match released.await? {
        Released::Released => Ok(()),
        Released::Missing => Err(HoldError::Expired.into()),
        Released::Ordered => Err(HoldError::AlreadyUsed.into()),
    }
}

/// Gives as much time again, once.
pub async fn extend(app: &App, buyer: &Buyer, token: &str) -> Result<Hold> {
    let token = HoldToken::decode(token).ok_or(HoldError::Expired)?;
    let found = find(app, buyer, &token).await?;
    let sale: Sale = serde_json::from_str(&found.sale)?;
    let (event_id, by) = (token.event_id, TimeDelta::minutes(sale.minutes.into()));
    let (now, proof) = (app.clock.now(), token.proof());
    match app
        .stock
        .extend(now, event_id, token.id, &proof, by)
        .await?
    {
        Extended::Extended { deadline } => {
            let found = Found {
                deadline,
                extended: true,
                ..found
            };
            shown(&token, &found)
        }
        Extended::ExtendedBefore { deadline } => Err(HoldError::AlreadyExtended {
            expires_at: deadline.into(),
        }
        .into()),
        Extended::Missing => Err(HoldError::Expired.into()),
        Extended::Ordered => Err(HoldError::AlreadyUsed.into()),
    }
}

fn shown(token: &HoldToken, found: &Found) -> Result<Hold> {
    if found.ordered {
        return Err(HoldError::AlreadyUsed.into());
    }
    let sale: Sale = serde_json::from_str(&found.sale)?;
    Ok(Hold {
        token: token.encode(),
        event_id: token.event_id,
        expires_at: found.deadline.into(),
        subtotal: sale.total(),
        currency: sale.currency,
        items: sale.items,
        extended: found.extended,
    })
}
