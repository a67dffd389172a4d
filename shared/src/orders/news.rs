//! Mails about what becomes of an order, each once.

use serde_json::{Value, json};

use super::jobs::{News, Tell};
use super::letter::{self, Told};
use super::order::PaymentMethod;
use super::refunds;
use crate::config::Config;
use crate::error::Result;
use crate::ids::{RefundId, TicketId};
use crate::mail::{self, Letter};
use crate::money;
use crate::organizations;
use crate::tx::Tx;

/// Mails the buyer what became of their order, or the organizer what they have to see to.
pub async fn tell(tx: &mut Tx, config: &Config, job: &Tell) -> Result<()> {
    let Some(order) = letter::told(tx, &[job.order_id]).await?.pop() else {
        return Ok(());
    };
    let letter = match &job.news {
        News::NotWanted { refund_id } => Some(not_wanted(tx, &order, config, *refund_id).await?),
        News::Refunded { refund_id } => Some(refunded(tx, &order, config, *refund_id).await?),
        News::GivenBack { tickets, refund_id } => {
            given_back(tx, &order, config, tickets, *refund_id).await?
        }
        News::EventCancelled { refund_id } => {
            event_cancelled(tx, &order, config, *refund_id).await?
        }
        News::SoldOut => {
            let cause = format!("order-sold-out:{}", order.id);
            Some(order.letter(config, "order-sold-out", cause, json!({})))
        }
        News::ToPay => to_pay(&order, config),
        News::Disputed { .. } | News::RefundFailed { .. } => {
            return to_organizer(tx, &order, config, &job.news).await;
        }
    };
    mail::write_all(tx, letter.as_slice()).await?;
    Ok(())
}

/// How an order is paid by hand, as long as it waits for that.
fn to_pay(order: &Told, config: &Config) -> Option<Letter> {
    let more = json!({
        "amount": money::text(order.total, &order.currency), "until": order.deadline(),
        "organizer": order.organizer, "contact": order.contact,
    });
    let waits = order.status.waits() && order.method == PaymentMethod::Manual;
    waits.then(|| {
        let cause = format!("order-to-pay:{}", order.id);
        order.letter(config, "order-to-pay", cause, more)
    })
}

async fn to_organizer(tx: &mut Tx, order: &Told, config: &Config, news: &News) -> Result<()> {
    let (template, cause, more) = match news {
        News::Disputed { dispute_id, amount } => {
            let amount = money::text(*amount, &order.currency);
            let more = json!({ "amount": amount, "dispute": dispute_id });
            (
                "order-disputed",
                format!("order-disputed:{dispute_id}"),
                more,
            )
        }
        News::RefundFailed { refund_id } => {
            let refund = refunds::get(tx, *refund_id).await?;
            let amount = money::text(refund.amount, &order.currency);
            let more = json!({ "amount": amount, "failure": refund.failure });
            ("refund-failed", format!("refund-failed:{refund_id}"), more)
        }
        _ => return Ok(()),
    };
    let people = organizations::addresses(tx, order.organization_id).await?;
    let letters = order.letters_to(people, config, template, &cause, &more);
    mail::write_all(tx, &letters).await?;
    Ok(())
}

/// Money that has nothing to pay for, and why.
async fn not_wanted(
    tx: &mut Tx,
    order: &Told,
    config: &Config,
    refund_id: RefundId,
) -> Result<Letter> {
    let refund = refunds::get(tx, refund_id).await?;
    let why = match refund.reason.as_str() {
        super::SOLD_OUT => "sold_out",
        _ if order.status.is_sold() => "paid_twice",
        _ => "too_late",
    };
    let more = json!({ "why": why, "amount": money::text(refund.amount, &order.currency) });
    let cause = format!("payment-not-wanted:{refund_id}");
    Ok(order.letter(config, "payment-not-wanted", cause, more))
}

async fn refunded(
    tx: &mut Tx,
    order: &Told,
    config: &Config,
    refund_id: RefundId,
) -> Result<Letter> {
    let more = json!({
        "amount": amount(tx, order, Some(refund_id)).await?,
        "by_hand": refunds::is_by_hand(tx, refund_id).await?,
    });
    let cause = format!("order-refunded:{refund_id}");
    Ok(order.letter(config, "order-refunded", cause, more))
}

/// A ticket is given back once, so the first of them names the cause.
async fn given_back(
    tx: &mut Tx,
    order: &Told,
    config: &Config,
    tickets: &[TicketId],
    refund_id: Option<RefundId>,
) -> Result<Option<Letter>> {
    let Some(first) = tickets.first() else {
        return Ok(None);
    };
    let given = order.tickets.iter().filter(|t| tickets.contains(&t.id));
    let given: Vec<Value> = given
        .map(|t| json!({ "type": t.kind, "code": t.code(), "name": t.name }))
        .collect();
    let more = json!({
        "tickets": given,
        "all": !order.status.is_sold(),
        "amount": amount(tx, order, refund_id).await?,
    });
    let cause = format!("tickets-given-back:{first}");
    Ok(Some(order.letter(
        config,
        "tickets-given-back",
        cause,
        more,
    )))
}

/// Nothing if the order was called off for another reason in the same moment.
async fn event_cancelled(
    tx: &mut Tx,
    order: &Told,
    config: &Config,
    refund_id: Option<RefundId>,
) -> Result<Option<Letter>> {
    if order.reason.as_deref() != Some(super::EVENT_CANCELLED) {
        return Ok(None);
    }
    let more = json!({
        "had_tickets": !order.tickets.is_empty(),
        "amount": amount(tx, order, refund_id).await?,
    });
    let cause = format!("event-cancelled:{}", order.id);
    Ok(Some(order.letter(config, "event-cancelled", cause, more)))
}

/// What goes back, in words; none if nothing does.
async fn amount(tx: &mut Tx, order: &Told, refund_id: Option<RefundId>) -> Result<Option<String>> {
    let Some(refund_id) = refund_id else {
        return Ok(None);
    };
    let refund = refunds::get(tx, refund_id).await?;
    Ok(Some(money::text(refund.amount, &order.currency)))
}
