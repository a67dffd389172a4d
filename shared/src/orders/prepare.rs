//! Preparing orders: what is to be ordered is looked at by what is in memory, and its places are held in Redis. Nothing of it
//! is in Postgres yet.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Attendee, KeptHold, NewOrder, Order, OrderError, OrderStatus, PaymentMethod, store};
use crate::app::App;
use crate::cache::Changed;
use crate::error::{Code, Error, Invalid, Result};
use crate::events::{self, EventDetails, RefundPolicy};
use crate::holds::{self, Buyer, HoldError, Sale};
use crate::ids::{self, EventId, OrderId, OrganizationId, TicketTypeId, UserId};
use crate::mail;
use crate::stock::{self, HoldToken, NewHold, Placed};

/// In bytes. They are written on every ticket, of which one order may have a thousand.
const LONGEST_ANSWERS: usize = 10_000;

/// An order whose places are held for it, about to be written.
#[derive(Debug, Clone)]
pub struct PlacedOrder {
    pub(super) id: OrderId,
    pub(super) organization_id: OrganizationId,
    pub(super) event_id: EventId,
    pub(super) user_id: Option<UserId>,
    pub(super) email: String,
    pub(super) secret: String,
    pub(super) method: PaymentMethod,
    pub(super) token: Option<String>,
    pub(super) return_url: Option<String>,
    pub(super) sale: Sale,
    pub(super) seen: Offer,
    pub(super) limits: Vec<(TicketTypeId, i32)>,
    pub(super) attendees: Vec<Attendee>,
    pub(super) refund_policy: RefundPolicy,
    pub(super) hold: KeptHold,
    pub(super) payment_deadline: DateTime<Utc>,
    /// From before its places were held for it.
    pub(super) held_at: DateTime<Utc>,
    /// So many orders may wait for this buyer to pay; none for who sells for the organizer.
    pub(super) most_waiting: Option<u32>,
    /// The places were not held for an order before.
    pub(super) fresh: bool,
    /// Tells this request from others that write the same order.
    pub(super) writer: Uuid,
}

/// What was on offer when the order was prepared, from memory: it must be so still when it is written.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub event_version: i64,
    types: Vec<OfferedType>,
}

#[derive(Debug, Clone)]
struct OfferedType {
    id: TicketTypeId,
    version: i64,
    /// Of all sessions that it includes together: none of them changes without it.
    sessions: i64,
}

impl Offer {
    fn of(event: &EventDetails, sale: &Sale) -> Self {
        let types = sale.items.iter().filter_map(|item| {
            let kind = event.kind(item.ticket_type_id)?;
            let included = event.sessions.iter();
            let included = included.filter(|s| kind.included_sessions.contains(&s.code));
            Some(OfferedType {
                id: kind.id,
                version: kind.version,
                sessions: included.map(|session| session.version).sum(),
            })
        });
        Self {
            event_version: event.event.version,
            types: types.collect(),
        }
    }

    /// The version of a type, and of its sessions; none that there ever was if it was not on offer.
    pub fn versions_of(&self, id: TicketTypeId) -> (i64, i64) {
        let kind = self.types.iter().find(|kind| kind.id == id);
        kind.map_or((0, 0), |kind| (kind.version, kind.sessions))
    }
}

/// Checks what is to be ordered, and takes the hold for it or holds what is wanted. After that it is written by
/// [`super::place`], or given up by [`PlacedOrder::withdraw`]. What comes from the same `seed` holds its places once.
/// Who sells for the organizer may have more orders waiting to be paid than a buyer.
pub async fn prepare(
    app: &App,
    event: &EventDetails,
    buyer: &Buyer,
    sells: bool,
    new: NewOrder,
    seed: Option<[u8; 32]>,
) -> Result<PlacedOrder> {
    let email = email_of(app, buyer, &new).await?;
    let wish = Wish::of(app, event, buyer, &new, seed).await?;
    let (method, card) = payment(&new, wish.sale.total())?;
    attendees_fit(&new.attendees, wish.sale.tickets())?;
    let held_at = app.clock.now();
    let fresh = wish.take(app, event).await?;
    let within = match method {
        PaymentMethod::Manual => &app.config.orders.manual_payment_within,
        _ => &app.config.orders.payment_within,
    };
    let limits = wish.sale.items.iter().filter_map(|item| {
        let kind = event.kind(item.ticket_type_id)?;
        Some((item.ticket_type_id, kind.max_per_buyer?))
    });
    Ok(PlacedOrder {
        id: wish.hold.id,
        organization_id: event.event.organization_id,
        event_id: event.event.id,
        user_id: buyer.user_id,
        email,
        secret: ids::url_token(),
        method,
        token: card,
        return_url: new.payment.and_then(|payment| payment.return_url),
        limits: limits.collect(),
        attendees: new.attendees,
        refund_policy: event.event.refund_policy.clone(),
        hold: KeptHold::of(&wish.hold),
        payment_deadline: app.clock.now() + within.delta(),
        held_at,
        most_waiting: (!sells).then(|| buyer.most(&app.config.holds)),
        fresh,
        writer: wish.writer,
        seen: Offer::of(event, &wish.sale),
        sale: wish.sale,
    })
}

/// What is about to be ordered.
struct Wish {
    sale: Sale,
    hold: NewHold,
    /// Of the hold that the buyer has, if it is to stand on one.
    token: Option<HoldToken>,
    writer: Uuid,
}

impl Wish {
    async fn of(
        app: &App,
        event: &EventDetails,
        buyer: &Buyer,
        new: &NewOrder,
        seed: Option<[u8; 32]>,
    ) -> Result<Self> {
        let writer = ids::fresh(app.clock.now());
        if let Some(token) = &new.hold_token {
            let token = HoldToken::decode(token).ok_or(HoldError::Expired)?;
            let sale = match holds::sale_of(app, buyer, &token).await {
                Err(error) => return Err(used(app, &token).await?.unwrap_or(error)),
                sale => sale?,
            };
            // What was allowed when it was held must be allowed still; the price is that of the hold.
            holds::offer(app, event, buyer, &sale.wanted()).await?;
            if !sale.admits_as_in(event) {
                return Err(other_sessions(app, event, &token, &sale).await?);
            }
            return Ok(Self {
                hold: holds::new_hold(event, &token, buyer, &sale)?,
                sale,
                token: Some(token),
                writer,
            });
        }
        let sale = holds::offer(app, event, buyer, &new.items).await?;
        let event_id = event.event.id;
        let token = seed.map_or_else(
            || HoldToken::fresh(event_id, app.clock.now()),
            |seed| HoldToken::from_seed(event_id, &seed),
        );
        Ok(Self {
            hold: NewHold {
                writer: Some(writer),
                ..holds::new_hold(event, &token, buyer, &sale)?
            },
            sale,
            token: None,
            writer,
        })
    }

    /// Has the places held for the order; answers whether they were not before.
    async fn take(&self, app: &App, event: &EventDetails) -> Result<bool> {
        if let Some(token) = &self.token {
            let (now, proof) = (app.clock.now(), token.proof());
            let (event_id, writer) = (token.event_id, self.writer);
            let attached = app.stock.attach(now, event_id, token.id, &proof, writer);
            return Ok(attached.await?.ok_or(HoldError::Expired)?);
        }
        match stock::place(app, &self.hold).await? {
            Placed::Placed { .. } => Ok(true),
            Placed::Short { short } => Err(self.sale.refusal(event, &short).into()),
            Placed::TooMany => Err(HoldError::TooMany.into()),
            Placed::Cold => {
                let current = event.event.version;
                Err(OrderError::OfferChanged { current }.into())
            }
        }
    }
}

/// Nobody is sold other sessions than they chose, or places that they do not hold: the hold is over. Unless it is us who
/// remember the event as it was.
async fn other_sessions(
    app: &App,
    event: &EventDetails,
    token: &HoldToken,
    sale: &Sale,
) -> Result<Error> {
    app.caches.forget(&[Changed::Event(token.event_id)]);
    let fresh = events::public_details(app, token.event_id).await?;
    if fresh.is_some_and(|fresh| sale.admits_as_in(&fresh)) {
        let current = event.event.version;
        return Ok(OrderError::OfferChanged { current }.into());
    }
    let (now, proof) = (app.clock.now(), token.proof());
    let released = app
        .stock
        .release(now, token.event_id, token.id, Some(&proof));
    released.await?;
    Ok(HoldError::Expired.into())
}

/// The order that came of a hold which is no more, for whoever has its token.
async fn used(app: &App, token: &HoldToken) -> Result<Option<Error>> {
    let order = store::hold(&mut *app.read().await?, token.id).await?;
    let theirs = order.filter(|(_, _, kept)| kept.proof == token.proof());
    Ok(theirs.map(|_| OrderError::HoldUsed { order_id: token.id }.into()))
}

async fn email_of(app: &App, buyer: &Buyer, new: &NewOrder) -> Result<String> {
    let known = match (&new.email, buyer.user_id) {
        (Some(email), _) => Some(email.clone()),
        (None, Some(user_id)) => {
            let profile = crate::accounts::profile(&mut *app.read().await?, user_id).await?;
            Some(profile.user.email)
        }
        (None, None) => None,
    };
    let address = known.as_deref().and_then(mail::address);
    address
        .map(str::to_owned)
        .ok_or_else(|| Invalid::field("email", "must be a mail address").into())
}

/// How it is paid: not at all if nothing is to be paid.
fn payment(new: &NewOrder, total: i64) -> Result<(PaymentMethod, Option<String>)> {
    if total == 0 {
        return Ok((PaymentMethod::Free, None));
    }
    let Some(payment) = &new.payment else {
        return Err(Invalid::field("payment", "is needed: something is to be paid").into());
    };
    let back = payment.return_url.as_deref().map(url::Url::parse);
    if back.is_some_and(|url| !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https"))) {
        return Err(
            Invalid::field("payment.return_url", "must be an http or https address").into(),
        );
    }
    match (payment.method, &payment.token) {
        (PaymentMethod::Free, _) => Err(Invalid::field(
            "payment.method",
            "cannot be `free`: something is to be paid",
        )
        .into()),
        (PaymentMethod::Card, None) => {
            Err(Invalid::field("payment.token", "is needed for a card").into())
        }
        (PaymentMethod::Card, Some(token)) => Ok((PaymentMethod::Card, Some(token.clone()))),
        (_, Some(_)) => Err(Invalid::field("payment.token", "is for `card` only").into()),
        (method, None) => Ok((method, None)),
    }
}

fn attendees_fit(attendees: &[Attendee], tickets: i32) -> Result<()> {
    let number = i32::try_from(attendees.len()).unwrap_or(i32::MAX);
    if number > 1 && number != tickets {
        let message =
            format!("must be one for each of the {tickets} tickets, one for all, or none");
        return Err(Invalid::field("attendees", message).into());
    }
    let mut invalid = Invalid::default();
    for (at, attendee) in attendees.iter().enumerate() {
        let email = attendee.email.as_deref();
        if email.is_some_and(|email| mail::address(email).is_none()) {
            invalid.push(format!("attendees[{at}].email"), "must be a mail address");
        }
        let answers = attendee.answers.as_ref().map(ToString::to_string);
        if answers.is_some_and(|answers| answers.len() > LONGEST_ANSWERS) {
            let message = format!("must be at most {LONGEST_ANSWERS} bytes");
            invalid.push(format!("attendees[{at}].answers"), message);
        }
    }
    invalid.check()
}

impl PlacedOrder {
    #[must_use]
    pub fn id(&self) -> OrderId {
        self.id
    }

    /// As it is right after it was placed.
    pub(super) fn placed(&self, now: DateTime<Utc>) -> Order {
        Order {
            id: self.id,
            organization_id: self.organization_id,
            event_id: self.event_id,
            user_id: self.user_id,
            email: Some(self.email.clone()),
            secret: self.user_id.is_none().then(|| self.secret.clone()),
            status: OrderStatus::Pending,
            reason: None,
            method: self.method,
            currency: self.sale.currency.clone(),
            items: self.sale.items.clone(),
            total: self.sale.total(),
            paid: 0,
            refunded: 0,
            payment_deadline: self.payment_deadline.into(),
            payment_url: None,
            client_secret: None,
            disputed: false,
            placed_at: now.into(),
            version: 1,
            tickets: Vec::new(),
        }
    }

    /// The request was answered before. If with an order that is over as well, its places were taken again, for nobody; if with a
    /// refusal, nothing is written.
    async fn put_right(&self, app: &App) -> Result<()> {
        let order = store::hold(&mut *app.read().await?, self.id).await?;
        match order {
            None => self.leave_hold(app).await,
            Some((status, ..)) if status.waits() => Ok(()),
            Some(_) => stock::release_of_the_ended(app, self.event_id, self.id).await,
        }
    }

    /// The hold lapses again, unless another request is about to write the same order.
    async fn leave_hold(&self, app: &App) -> Result<()> {
        let (now, proof) = (app.clock.now(), &self.hold.proof);
        let left = app
            .stock
            .detach(now, self.event_id, self.id, proof, self.writer);
        left.await.map(drop)
    }

    /// Gives the hold back to its buyer, or its places back to everybody: this request has not written the order. If that is not
    /// certain, or Redis cannot be told, it is found out within a minute.
    pub async fn withdraw(&self, app: &App, because: Option<&Error>) {
        let uncertain = |error: &Error| {
            matches!(
                error.code(),
                Code::HoldAlreadyUsed
                    | Code::IdempotencyInFlight
                    | Code::Unavailable
                    | Code::Internal
            )
        };
        let done = match because {
            None => self.put_right(app).await,
            Some(because) if uncertain(because) => Ok(()),
            Some(_) => self.leave_hold(app).await,
        };
        if let Err(error) = done {
            tracing::warn!(order_id = %self.id, %error, "places are put right within a minute");
        }
    }
}
