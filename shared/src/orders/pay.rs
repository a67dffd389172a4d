//! The conversation with Stripe about one order. Nothing here holds a transaction open.
//!
//! Each attempt has one key, under which Stripe charges once however often it is asked. After the deadline nothing new
//! is charged: it is only asked what became of what was.

use chrono::TimeDelta;
use secrecy::ExposeSecret as _;
use stripe_api::{
    Checkout, CheckoutStatus, Metadata, NewCheckout, NewPayment as NewCharge, Payment,
    PaymentStatus,
};

use super::order::PaymentMethod;
use super::settle::{Settled, Settlement};
use super::status::{Ask, OrderStatus, Outcome, Provider, Received};
use super::store::{self, Attempt, Due};
use super::{EVENT_CANCELLED, OrderError, secure};
use crate::access::{Actor, Scope};
use crate::app::App;
use crate::config::PAYMENT_GRACE;
use crate::error::{Error, Result};
use crate::ids::{self, OrderId};
use crate::stock::{self, NewHold, Placed};

/// Between our clock and Stripe's.
const SKEW: TimeDelta = TimeDelta::minutes(5);

impl From<stripe_api::Error> for Error {
    fn from(error: stripe_api::Error) -> Self {
        match error {
            stripe_api::Error::Unavailable(_) => Self::Unavailable(error.into()),
            _ => Self::Internal(error.into()),
        }
    }
}

/// Brings an order to its payment. Nothing to do for one that is settled, or in which Stripe has no part.
pub async fn purchase(app: &App, order_id: OrderId) -> Result<Option<Settled>> {
    let Some(due) = waiting(app, order_id).await? else {
        return Ok(None);
    };
    if due.event_is_cancelled {
        return call_off(app, order_id, EVENT_CANCELLED).await;
    }
    let outcome = match &due.attempt {
        None => None,
        Some(attempt) if app.clock.now() < due.payment_deadline => {
            if !secure::has_places(app, order_id).await? {
                return secure::refuse(app, &due, attempt).await;
            }
            Some(charge(app, &due, attempt).await?)
        }
        Some(attempt) => look(app, &due, attempt).await?.outcome,
    };
    match outcome {
        Some(outcome) => end(app, order_id, outcome).await,
        None => Ok(None),
    }
}

/// Brings an order to its tickets for which nothing is to be paid. Nothing to do for one that is settled.
pub async fn give_out(app: &App, order_id: OrderId) -> Result<Option<Settled>> {
    end(app, order_id, free(order_id)).await
}

/// An order that still waits for its payment.
async fn waiting(app: &App, order_id: OrderId) -> Result<Option<Due>> {
    let due = store::due(&mut *app.read().await?, order_id).await?;
    Ok(due.filter(|due| due.status.waits()))
}

fn free(order_id: OrderId) -> Outcome {
    Outcome::Paid(Received {
        provider: Provider::Free,
        reference: order_id.to_string(),
        amount: 0,
        note: None,
        claim: None,
    })
}

/// Asks what became of the payment of an order that waits, and ends the order when its time is over.
pub async fn ask(app: &App, order_id: OrderId) -> Result<Option<Settled>> {
    let Some(due) = waiting(app, order_id).await? else {
        return Ok(None);
    };
    let now = app.clock.now();
    let Some(attempt) = &due.attempt else {
        return match due.method {
            PaymentMethod::Free => end(app, order_id, free(order_id)).await,
            _ if now >= due.payment_deadline => end(app, order_id, Outcome::Expired).await,
            _ => Ok(None),
        };
    };
    if due.event_is_cancelled {
        return call_off(app, order_id, EVENT_CANCELLED).await;
    }
    let known = attempt.payment_id.is_some() || attempt.checkout_id.is_some();
    let look = look(app, &due, attempt).await?;
    if !known && !look.exists && now < due.payment_deadline {
        return purchase(app, order_id).await;
    }
    if look.under_way {
        mark_under_way(app, attempt).await?;
        return Ok(None);
    }
    let over = now >= due.payment_deadline + PAYMENT_GRACE;
    match look.outcome {
        None | Some(Outcome::NeedsBuyer(_)) if over => match close(app, &due, attempt).await? {
            Closed::UnderWay => mark_under_way(app, attempt).await.map(|()| None),
            closed => end_by(app, order_id, closed.paid(), Outcome::Expired).await,
        },
        Some(paid @ Outcome::Paid(_)) if over => {
            end_by(app, order_id, Some(paid), Outcome::Expired).await
        }
        // It was closed before, and nobody heard that it was.
        Some(Outcome::Cancelled { .. }) if over => end(app, order_id, Outcome::Expired).await,
        // What the buyer has been told already is not told again.
        Some(Outcome::NeedsBuyer(_)) if due.status != OrderStatus::Pending => Ok(None),
        Some(outcome) => end(app, order_id, outcome).await,
        None => Ok(None),
    }
}

/// Ends an order that has no places. An earlier run may have had them and asked for the money: where it is there, the order is
/// settled as any other; where it is on its way, the order waits for it.
pub(super) async fn end_uncharged(
    app: &App,
    due: &Due,
    attempt: &Attempt,
) -> Result<Option<Settled>> {
    let closed = close(app, due, attempt).await?;
    if matches!(closed, Closed::UnderWay) {
        mark_under_way(app, attempt).await?;
        return Ok(None);
    }
    end_by(app, due.order_id, closed.paid(), Outcome::NoPlaces).await
}

async fn mark_under_way(app: &App, attempt: &Attempt) -> Result<()> {
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    store::mark_under_way(&mut tx, attempt.id).await?;
    tx.commit().await
}

/// Looks for the payment of an order that has ended without a known one: it may have been made while the order ended, and
/// nothing told of it. Money pays for the order if its places are still there, or goes back; an open payment is closed.
pub async fn ask_after_end(app: &App, order_id: OrderId) -> Result<()> {
    let due = store::due(&mut *app.read().await?, order_id).await?;
    let Some(due) = due.filter(|due| !due.status.waits()) else {
        return Ok(());
    };
    let Some(attempt) = &due.attempt else {
        return Ok(());
    };
    let unknown = attempt.payment_id.is_none() && attempt.checkout_id.is_none();
    if unknown && let Some(paid) = close(app, &due, attempt).await?.paid() {
        end(app, order_id, paid).await?;
    }
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    let now = tx.now();
    store::asked_after_the_end(&mut tx, attempt.id, now).await?;
    tx.commit().await
}

/// Calls an order off that waits, after closing its payment so that no money comes any more. If the money was there
/// already, the order is paid.
pub async fn call_off(app: &App, order_id: OrderId, reason: &str) -> Result<Option<Settled>> {
    let Some(due) = waiting(app, order_id).await? else {
        return Ok(None);
    };
    let closed = match &due.attempt {
        Some(attempt) => close(app, &due, attempt).await?,
        None => Closed::Shut,
    };
    if let (Closed::UnderWay, Some(attempt)) = (&closed, &due.attempt) {
        mark_under_way(app, attempt).await?;
        // It is asked after until the money is there, and goes back then.
        if reason == EVENT_CANCELLED {
            return Ok(None);
        }
        return Err(OrderError::NotPossible { status: due.status }.into());
    }
    let off = Outcome::Cancelled {
        reason: reason.to_owned(),
    };
    end_by(app, order_id, closed.paid(), off).await
}

/// Settles an order by the money that was found, if any. Money that pays for nothing leaves the order waiting: it ends otherwise
/// then.
async fn end_by(
    app: &App,
    order_id: OrderId,
    paid: Option<Outcome>,
    otherwise: Outcome,
) -> Result<Option<Settled>> {
    if let Some(paid) = paid {
        let settled = end(app, order_id, paid).await?;
        if settled.is_none_or(|settled| !settled.status.waits()) {
            return Ok(settled);
        }
    }
    end(app, order_id, otherwise).await
}

/// Settles an order. Money for one that has given its places up tries to get them back first.
pub async fn end(app: &App, order_id: OrderId, outcome: Outcome) -> Result<Option<Settled>> {
    let reclaimed = match &outcome {
        Outcome::Paid(received) if received.provider != Provider::Free => {
            reclaim(app, order_id).await?
        }
        _ => None,
    };
    let settlement = Settlement {
        order_id,
        outcome,
        reclaimed: reclaimed.is_some(),
    };
    let settled = app.settle(settlement).await?;
    if let Some(hold) = reclaimed.filter(|_| settled.is_none_or(|settled| !settled.changed)) {
        // This money was seen to before: nobody needs the places, unless it has just sold them.
        stock::release_of_the_ended(app, hold.event_id, order_id).await?;
    }
    Ok(settled)
}

/// How often a hold is placed again whose pools are added or removed in the same moment.
const RECLAIMS: usize = 3;

/// Holds the places of an order again that had given them up, of the pools that its ticket types draw on now. None if it
/// had not given them up, or if they are gone. Without Redis it is not known whether they are gone: the payment waits.
async fn reclaim(app: &App, order_id: OrderId) -> Result<Option<NewHold>> {
    for _ in 0..RECLAIMS {
        let hold = store::hold_again(&mut *app.read().await?, order_id, app.clock.now()).await?;
        let Some((OrderStatus::Expired | OrderStatus::Failed, hold)) = hold else {
            return Ok(None);
        };
        match stock::place(app, &hold).await? {
            Placed::Placed { .. } => return Ok(Some(hold)),
            // A pool was removed since it was read.
            Placed::Cold => {}
            Placed::Short { .. } | Placed::TooMany => return Ok(None),
        }
    }
    let message = format!("the places of the order {order_id} cannot be held again now");
    Err(Error::Unavailable(message.into()))
}

async fn charge(app: &App, due: &Due, attempt: &Attempt) -> Result<Outcome> {
    let asked = match due.method {
        PaymentMethod::Checkout => open_checkout(app, due, attempt).await,
        _ => make_payment(app, due, attempt).await,
    };
    match asked {
        // Stripe does not know the card, or will not have the amount: that is an answer to the buyer.
        Err(stripe_api::Error::Refused { code, .. }) => Ok(Outcome::Declined {
            code,
            payment: None,
        }),
        asked => Ok(asked?),
    }
}

async fn open_checkout(app: &App, due: &Due, attempt: &Attempt) -> stripe_api::Result<Outcome> {
    let home = app.config.general.public_url.0.clone();
    let back = attempt.return_url.clone().unwrap_or(home);
    let new = NewCheckout {
        amount_minor: due.total,
        currency: due.currency.clone(),
        name: due.title.clone(),
        success_url: back.clone(),
        cancel_url: back,
        // It is closed with the order, not by itself.
        expires_at: None,
        metadata: metadata(due, attempt),
    };
    let checkout = app
        .stripe
        .create_checkout(&new, &attempt.id.to_string())
        .await?;
    Ok(Outcome::NeedsBuyer(Ask {
        payment_url: checkout.url,
        checkout: Some(checkout.id),
        ..Ask::default()
    }))
}

async fn make_payment(app: &App, due: &Due, attempt: &Attempt) -> stripe_api::Result<Outcome> {
    let new = NewCharge {
        amount_minor: due.total,
        currency: due.currency.clone(),
        method: attempt.token.clone(),
        confirm: due.method == PaymentMethod::Card,
        metadata: metadata(due, attempt),
        description: Some(due.title.clone()),
        return_url: attempt.return_url.clone(),
    };
    let payment = app
        .stripe
        .create_payment(&new, &attempt.id.to_string())
        .await?;
    Ok(outcome_of(&payment, due.method).unwrap_or_else(|| waits_for(&payment)))
}

fn metadata(due: &Due, attempt: &Attempt) -> Metadata {
    [
        ("order_id".to_owned(), due.order_id.to_string()),
        ("attempt_id".to_owned(), attempt.id.to_string()),
    ]
    .into()
}

/// What Stripe knows of an attempt.
#[derive(Default)]
pub(super) struct Look {
    pub outcome: Option<Outcome>,
    /// Its money is on its way, and takes days: nobody can tell yet, and nobody can call it back.
    pub under_way: bool,
    /// Stripe knows of the payment or the checkout at all.
    pub exists: bool,
}

impl Look {
    fn at(payment: &Payment, method: PaymentMethod) -> Self {
        Self {
            outcome: outcome_of(payment, method),
            under_way: payment.status == PaymentStatus::Processing,
            exists: true,
        }
    }
}

async fn look(app: &App, due: &Due, attempt: &Attempt) -> Result<Look> {
    if let Some(id) = &attempt.checkout_id {
        let checkout = known(app.stripe.checkout(id).await)?;
        return match checkout {
            Some(checkout) => look_at_checkout(app, &checkout).await,
            None => Ok(Look::default()),
        };
    }
    let payment = match &attempt.payment_id {
        Some(id) => known(app.stripe.payment(id).await)?,
        None => made_by(app, due, attempt).await?,
    };
    Ok(payment.map_or_else(Look::default, |it| Look::at(&it, due.method)))
}

/// Nothing for what Stripe does not know, or knows no more.
fn known<T>(answer: stripe_api::Result<T>) -> Result<Option<T>> {
    match answer {
        Err(stripe_api::Error::NotFound) => Ok(None),
        answer => Ok(Some(answer?)),
    }
}

/// What a checkout came to. The money is looked up at its payment, which says what it pays for. A checkout that is complete
/// and not paid has money of a slow kind on its way, or that money did not come.
pub(super) async fn look_at_checkout(app: &App, checkout: &Checkout) -> Result<Look> {
    let payment = match &checkout.payment {
        Some(id) => known(app.stripe.payment(id).await)?,
        None => None,
    };
    let payment = payment.map(|payment| Look::at(&payment, PaymentMethod::Card));
    let payment = payment.unwrap_or_default();
    let is_paid = matches!(payment.outcome, Some(Outcome::Paid(_)));
    let outcome = match checkout.status {
        _ if is_paid => payment.outcome,
        CheckoutStatus::Expired => Some(Outcome::Expired),
        // Another card may be tried as long as it is open.
        CheckoutStatus::Open => None,
        CheckoutStatus::Complete => payment
            .outcome
            .filter(|outcome| !matches!(outcome, Outcome::NeedsBuyer(_))),
    };
    Ok(Look {
        under_way: checkout.status == CheckoutStatus::Complete && outcome.is_none(),
        outcome,
        exists: true,
    })
}

/// The payment of an attempt whose answer was never heard, found by what it carries.
async fn made_by(app: &App, due: &Due, attempt: &Attempt) -> Result<Option<Payment>> {
    // A process that was stopped in the middle may have asked after the deadline.
    let latest = due.payment_deadline.max(app.clock.now());
    let (from, until) = (attempt.created_at - SKEW, latest + SKEW);
    let within = from.timestamp()..until.timestamp();
    let mut after: Option<String> = None;
    let id = attempt.id.to_string();
    loop {
        let page = app
            .stripe
            .payments(within.clone(), after.as_deref())
            .await?;
        let ours = |payment: &Payment| payment.metadata.get("attempt_id") == Some(&id);
        if let Some(payment) = page.items.into_iter().find(ours) {
            return Ok(Some(payment));
        }
        after = page.next;
        if after.is_none() {
            return Ok(None);
        }
    }
}

/// What came of closing a payment.
enum Closed {
    /// No money has come, and none can come any more.
    Shut,
    Paid(Outcome),
    /// Money of a slow kind is on its way and cannot be called back.
    UnderWay,
}

impl Closed {
    fn of(look: Look) -> Self {
        match look.outcome {
            Some(paid @ Outcome::Paid(_)) => Self::Paid(paid),
            _ if look.under_way => Self::UnderWay,
            _ => Self::Shut,
        }
    }

    fn paid(self) -> Option<Outcome> {
        match self {
            Self::Paid(paid) => Some(paid),
            Self::Shut | Self::UnderWay => None,
        }
    }
}

/// Sees to it that no money comes any more, as far as none is on its way. The payment of a checkout ends with the checkout: Stripe
/// lets nobody cancel it by itself.
async fn close(app: &App, due: &Due, attempt: &Attempt) -> Result<Closed> {
    // Closing twice is closing once. A key of its own for each try: Stripe repeats a failure under the same key for a day.
    let key = ids::fresh_key("close", app.clock.now());
    if due.method == PaymentMethod::Checkout {
        let Some(id) = checkout_of(app, due, attempt).await? else {
            return Ok(Closed::Shut);
        };
        return match known(app.stripe.expire_checkout(&id, &key).await)? {
            Some(checkout) => Ok(Closed::of(look_at_checkout(app, &checkout).await?)),
            None => Ok(Closed::Shut),
        };
    }
    let payment = match &attempt.payment_id {
        Some(id) => id.clone(),
        None => match made_by(app, due, attempt).await? {
            Some(payment) => payment.id,
            None => return Ok(Closed::Shut),
        },
    };
    let Some(payment) = known(app.stripe.cancel_payment(&payment, &key).await)? else {
        return Ok(Closed::Shut);
    };
    match payment.status {
        PaymentStatus::Succeeded | PaymentStatus::Canceled | PaymentStatus::Processing => {
            Ok(Closed::of(Look::at(&payment, due.method)))
        }
        status => {
            let message = format!("a payment that is {status:?} cannot be closed yet");
            Err(Error::Unavailable(message.into()))
        }
    }
}

/// The checkout of an attempt. Where nobody heard of its opening it is opened again under the same key, which names the one that
/// is there; nothing where Stripe refuses to open it.
async fn checkout_of(app: &App, due: &Due, attempt: &Attempt) -> Result<Option<String>> {
    if let Some(id) = &attempt.checkout_id {
        return Ok(Some(id.clone()));
    }
    match open_checkout(app, due, attempt).await {
        Ok(Outcome::NeedsBuyer(ask)) => Ok(ask.checkout),
        Ok(_) | Err(stripe_api::Error::Refused { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a payment says of its order; nothing while it is not decided.
pub(super) fn outcome_of(payment: &Payment, method: PaymentMethod) -> Option<Outcome> {
    match payment.status {
        PaymentStatus::Succeeded => Some(Outcome::Paid(Received::at_stripe(payment))),
        // Its buyer goes by the page of the checkout, not by the payment.
        PaymentStatus::RequiresAction
        | PaymentStatus::RequiresPaymentMethod
        | PaymentStatus::RequiresConfirmation
        | PaymentStatus::Canceled
            if method == PaymentMethod::Checkout =>
        {
            None
        }
        PaymentStatus::RequiresAction => Some(waits_for(payment)),
        // A buyer in a browser tries another card.
        PaymentStatus::RequiresPaymentMethod | PaymentStatus::RequiresConfirmation
            if method != PaymentMethod::Card =>
        {
            Some(waits_for(payment))
        }
        PaymentStatus::RequiresPaymentMethod => {
            let decline = payment.decline.as_ref();
            let code = decline.map(|d| d.decline_code.clone().unwrap_or_else(|| d.code.clone()));
            Some(Outcome::Declined {
                code: code.unwrap_or_else(|| "declined".to_owned()),
                payment: Some(payment.id.clone()),
            })
        }
        PaymentStatus::Canceled => Some(Outcome::Cancelled {
            reason: "payment_cancelled".to_owned(),
        }),
        PaymentStatus::Processing
        | PaymentStatus::RequiresConfirmation
        | PaymentStatus::RequiresCapture => None,
    }
}

fn waits_for(payment: &Payment) -> Outcome {
    let shown = |secret: &secrecy::SecretString| secret.expose_secret().to_owned();
    Outcome::NeedsBuyer(Ask {
        client_secret: payment.client_secret.as_ref().map(shown),
        payment_url: payment.action_url.as_ref().map(shown),
        payment: Some(payment.id.clone()),
        checkout: None,
    })
}
