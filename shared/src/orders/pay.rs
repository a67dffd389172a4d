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

use super::EVENT_CANCELLED;
use super::order::PaymentMethod;
use super::settle::{Settled, Settlement};
use super::status::{Ask, OrderStatus, Outcome, Provider, Received};
use super::store::{self, Attempt, Due};
use crate::app::App;
use crate::error::{Error, Result};
use crate::ids::OrderId;
use crate::stock::{self, NewHold, Placed};

/// Between the deadline and its end, an order waits for calls to Stripe that were under way.
const GRACE: TimeDelta = TimeDelta::minutes(2);
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
            Some(charge(app, &due, attempt).await?)
        }
        Some(attempt) => found(app, &due, attempt).await?,
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
    let known = attempt.payment_id.is_some() || attempt.checkout_id.is_some();
    let found = found(app, &due, attempt).await?;
    if !known && found.is_none() && now < due.payment_deadline {
        return purchase(app, order_id).await;
    }
    let undecided = matches!(found, None | Some(Outcome::NeedsBuyer(_)));
    let outcome = if undecided && now >= due.payment_deadline + GRACE {
        close(app, &due, attempt).await?.or(Some(Outcome::Expired))
    } else {
        // What the buyer has been told already is not told again.
        found.filter(|_| !undecided || due.status == OrderStatus::Pending)
    };
    match outcome {
        Some(outcome) => end(app, order_id, outcome).await,
        None => Ok(None),
    }
}

/// Calls an order off that waits, after closing its payment so that no money comes any more. If the money was there
/// already, the order is paid.
pub async fn call_off(app: &App, order_id: OrderId, reason: &str) -> Result<Option<Settled>> {
    let Some(due) = waiting(app, order_id).await? else {
        return Ok(None);
    };
    let paid = match &due.attempt {
        Some(attempt) => close(app, &due, attempt).await?,
        None => None,
    };
    let off = Outcome::Cancelled {
        reason: reason.to_owned(),
    };
    end(app, order_id, paid.unwrap_or(off)).await
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

/// What became of an attempt, as far as Stripe knows of it.
async fn found(app: &App, due: &Due, attempt: &Attempt) -> Result<Option<Outcome>> {
    if let Some(id) = &attempt.payment_id {
        let payment = app.stripe.payment(id).await?;
        return Ok(outcome_of(&payment, due.method));
    }
    if let Some(id) = &attempt.checkout_id {
        return Ok(checkout_outcome(&app.stripe.checkout(id).await?));
    }
    let payment = made_by(app, due, attempt).await?;
    Ok(payment.and_then(|payment| outcome_of(&payment, due.method)))
}

/// What a checkout came to; nothing while it is open.
pub(super) fn checkout_outcome(checkout: &Checkout) -> Option<Outcome> {
    match (&checkout.payment, checkout.status) {
        (Some(payment), _) if checkout.paid => Some(Outcome::Paid(Received {
            provider: Provider::Stripe,
            reference: payment.clone(),
            amount: checkout.amount,
            note: None,
        })),
        (_, CheckoutStatus::Expired) => Some(Outcome::Expired),
        _ => None,
    }
}

/// The payment of an attempt whose answer was never heard, found by what it carries.
async fn made_by(app: &App, due: &Due, attempt: &Attempt) -> Result<Option<Payment>> {
    let (from, until) = (attempt.created_at - SKEW, due.payment_deadline + SKEW);
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

/// Sees to it that no money comes any more; answers with the money if it is there.
async fn close(app: &App, due: &Due, attempt: &Attempt) -> Result<Option<Outcome>> {
    let key = format!("close-{}", attempt.id);
    let paid = |outcome: &Outcome| matches!(outcome, Outcome::Paid(_));
    if let (Some(id), None) = (&attempt.checkout_id, &attempt.payment_id) {
        let checkout = app.stripe.expire_checkout(id, &key).await?;
        return Ok(checkout_outcome(&checkout).filter(paid));
    }
    let payment = match &attempt.payment_id {
        Some(id) => id.clone(),
        None => match made_by(app, due, attempt).await? {
            Some(payment) => payment.id,
            None => return Ok(None),
        },
    };
    let payment = app.stripe.cancel_payment(&payment, &key).await?;
    match payment.status {
        PaymentStatus::Succeeded | PaymentStatus::Canceled => {
            Ok(outcome_of(&payment, due.method).filter(paid))
        }
        status => {
            let message = format!("a payment that is {status:?} cannot be closed yet");
            Err(Error::Unavailable(message.into()))
        }
    }
}

/// What a payment says of its order; nothing while it is not decided.
pub(super) fn outcome_of(payment: &Payment, method: PaymentMethod) -> Option<Outcome> {
    match payment.status {
        PaymentStatus::Succeeded => Some(Outcome::Paid(Received {
            provider: Provider::Stripe,
            reference: payment.id.clone(),
            amount: payment.amount_received,
            note: None,
        })),
        PaymentStatus::RequiresAction => Some(waits_for(payment)),
        // Whoever pays in the browser tries another card.
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
