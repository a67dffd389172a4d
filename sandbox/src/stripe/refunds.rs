//! Money that goes back.

use serde_json::{Value, json};

use super::form::{Form, Metadata};
use super::kept::Object;
use super::methods::Behaviour;
use super::payments::{Status as PaymentStatus, check_steps};
use super::refusal::Refusal;
use super::state::{State, object_of};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundStatus {
    Pending,
    Succeeded,
    Failed,
}

impl RefundStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) intent: String,
    pub(super) status: RefundStatus,
    charge: String,
    metadata: Metadata,
    reason: Option<String>,
    created: i64,
    balance_transaction: String,
}

impl Object for Refund {
    fn json(&self) -> Value {
        let mut refund = json!({
            "id": self.id, "object": "refund", "amount": self.amount,
            "balance_transaction": self.balance_transaction, "charge": self.charge, "created": self.created,
            "currency": self.currency, "metadata": object_of(&self.metadata), "payment_intent": self.intent,
            "reason": self.reason, "receipt_number": null, "source_transfer_reversal": null,
            "status": self.status.name(), "transfer_reversal": null,
        });
        if self.status == RefundStatus::Failed {
            refund["failure_reason"] = "expired_or_canceled_card".into();
        }
        refund
    }
}

pub(super) fn create(state: &mut State, _: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&["amount", "charge", "metadata", "payment_intent", "reason"])?;
    let charge = charge_of(state, form)?;
    let charge = state.charges.get(&charge).cloned();
    let charge = charge.ok_or_else(|| Refusal::missing("payment_intent"))?;
    let left = charge.amount - charge.amount_refunded;
    if left == 0 {
        let message = format!("Charge {} has already been refunded.", charge.id);
        return Err(Refusal::state("charge_already_refunded", message));
    }
    let amount = form.integer("amount")?.unwrap_or(left);
    if amount < 1 {
        return Err(Refusal::bad("amount", "Invalid positive integer".into()));
    }
    check_steps("amount", amount, &charge.currency)?;
    if amount > left {
        let message = format!(
            "Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
        );
        return Err(Refusal::state("amount_too_large", message));
    }
    let metadata = form.metadata("metadata")?;
    let slow = state.slow_refunds || charge.behaviour == Behaviour::RefundsSlowly;
    let id = state.id("re");
    let booked = state.book("refund", -amount, 0, &charge.currency, &id);
    let refund = Refund {
        id: id.clone(),
        amount,
        currency: charge.currency,
        intent: charge.intent,
        status: if slow {
            RefundStatus::Pending
        } else {
            RefundStatus::Succeeded
        },
        charge: charge.id.clone(),
        metadata,
        reason: form.text("reason"),
        created: state.now,
        balance_transaction: booked,
    };
    let json = refund.json();
    state.refunds.add(&id, state.now, refund);
    if let Some(charge) = state.charges.get_mut(&charge.id) {
        charge.amount_refunded += amount;
    }
    state.tell("refund.created", &json);
    state.tell_of_charge("charge.refunded", &charge.id);
    if charge.behaviour == Behaviour::RefundsFail {
        state.end_refund(&id, RefundStatus::Failed)?;
    }
    Ok(json)
}

/// The charge that is named, or the one that paid the intent.
fn charge_of(state: &State, form: &Form) -> Result<String, Refusal> {
    if let Some(id) = form.get("charge") {
        let charge = state.charges.get(id).filter(|charge| charge.succeeded());
        let charge = charge.ok_or_else(|| Refusal::names_no("charge", "charge", id))?;
        return Ok(charge.id.clone());
    }
    let id = form.required("payment_intent")?;
    let intent = state.intents.get(id);
    let intent = intent.ok_or_else(|| Refusal::names_no("payment_intent", "payment_intent", id))?;
    match &intent.latest_charge {
        Some(charge) if intent.status == PaymentStatus::Succeeded => Ok(charge.clone()),
        _ => {
            let message =
                format!("This PaymentIntent ({id}) does not have a successful charge to refund.");
            Err(Refusal::state("payment_intent_unexpected_state", message))
        }
    }
}

pub(super) fn retrieve(state: &mut State, id: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[])?;
    let refund = state.refunds.get(id).map(Object::json);
    refund.ok_or_else(|| Refusal::no_such("refund", id))
}

pub(super) fn list(state: &mut State, _: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[
        "charge",
        "created",
        "limit",
        "payment_intent",
        "starting_after",
    ])?;
    let wanted = |name, value: &str| form.get(name).is_none_or(|wish| wish == value);
    state.refunds.page("/v1/refunds", form, |refund| {
        wanted("payment_intent", &refund.intent) && wanted("charge", &refund.charge)
    })
}

impl State {
    /// What the bank said in the end. A failed refund comes back to the balance.
    pub(super) fn end_refund(&mut self, id: &str, end: RefundStatus) -> Result<(), Refusal> {
        let refund = self.refunds.get_mut(id);
        let refund = refund.ok_or_else(|| Refusal::no_such("refund", id))?;
        if refund.status == end || refund.status == RefundStatus::Failed {
            return Ok(());
        }
        refund.status = end;
        let refund = refund.clone();
        if end == RefundStatus::Failed {
            if let Some(charge) = self.charges.get_mut(&refund.charge) {
                charge.amount_refunded -= refund.amount;
            }
            self.book("refund_failure", refund.amount, 0, &refund.currency, id);
        }
        self.tell("refund.updated", &refund.json());
        if end == RefundStatus::Failed {
            self.tell("refund.failed", &refund.json());
        }
        Ok(())
    }
}
