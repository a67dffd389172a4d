//! Payments that a buyer's bank wants back.

use serde_json::{Value, json};

use super::form::Form;
use super::kept::Object;
use super::refusal::Refusal;
use super::state::State;

/// What a dispute costs, whoever wins it.
const FEE: i64 = 2_000;

#[derive(Debug, Clone)]
pub(super) struct Dispute {
    id: String,
    amount: i64,
    currency: String,
    charge: String,
    intent: String,
    reason: String,
    created: i64,
    status: &'static str,
    /// What it moved.
    booked: Vec<Value>,
}

impl Dispute {
    pub(super) fn payment(&self) -> &str {
        &self.intent
    }

    /// What the bank took, and brought back if it was won.
    pub(super) fn moved(&self) -> i64 {
        if self.status == "won" {
            0
        } else {
            -self.amount
        }
    }
}

impl Object for Dispute {
    fn json(&self) -> Value {
        json!({
            "id": self.id, "object": "dispute", "amount": self.amount, "balance_transactions": self.booked,
            "charge": self.charge, "created": self.created, "currency": self.currency, "enhanced_eligibility_types": [],
            "evidence_details": {"due_by": self.created + 7 * 86_400, "has_evidence": false, "past_due": false,
                                 "submission_count": 0},
            "is_charge_refundable": false, "livemode": false, "metadata": {}, "payment_intent": self.intent,
            "reason": self.reason, "status": self.status,
        })
    }
}

pub(super) fn retrieve(state: &mut State, id: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[])?;
    let dispute = state.disputes.get(id).map(Object::json);
    dispute.ok_or_else(|| Refusal::no_such("dispute", id))
}

impl State {
    /// The bank takes the money at once, all of the payment that is not disputed yet or a part of it; the dispute's id.
    pub(super) fn open_dispute(
        &mut self,
        intent: &str,
        amount: Option<i64>,
        reason: &str,
    ) -> Result<String, Refusal> {
        let charge = self.intent(intent)?.latest_charge.clone();
        let of_charge = self
            .disputes
            .iter()
            .filter(|dispute| charge.as_ref() == Some(&dispute.charge) && dispute.status != "won");
        let disputed: i64 = of_charge.map(|dispute| dispute.amount).sum();
        let charge = charge.and_then(|id| self.charges.get_mut(&id));
        let charge = charge.filter(|charge| {
            let left = charge.amount - disputed;
            charge.succeeded() && (1..=left).contains(&amount.unwrap_or(left))
        });
        let charge = charge.ok_or_else(|| {
            Refusal::state(
                "charge_disputed",
                "There is no charge of which so much could be disputed.",
            )
        })?;
        charge.disputed = true;
        let charge = charge.clone();
        let amount = amount.unwrap_or(charge.amount - disputed);
        let id = self.id("dp");
        let booked = self.book("adjustment", -amount, FEE, &charge.currency, &id);
        let booked = self.entries.get(&booked).map(Object::json);
        let dispute = Dispute {
            id: id.clone(),
            amount,
            currency: charge.currency,
            charge: charge.id,
            intent: charge.intent,
            reason: reason.to_owned(),
            created: self.now,
            status: "needs_response",
            booked: booked.into_iter().collect(),
        };
        self.tell("charge.dispute.created", &dispute.json());
        self.disputes.add(&id, self.now, dispute);
        Ok(id)
    }

    /// A dispute that was won brings the money back, without the fee.
    pub(super) fn close_dispute(&mut self, id: &str, won: bool) -> Result<(), Refusal> {
        let dispute = self.disputes.get(id).cloned();
        let mut dispute = dispute.ok_or_else(|| Refusal::no_such("dispute", id))?;
        if dispute.status != "needs_response" {
            return Err(Refusal::state("dispute_closed", "It is closed already."));
        }
        dispute.status = if won { "won" } else { "lost" };
        if won {
            let booked = self.book("adjustment", dispute.amount, 0, &dispute.currency, id);
            let booked = self.entries.get(&booked).map(Object::json);
            dispute.booked.extend(booked);
        }
        self.tell("charge.dispute.closed", &dispute.json());
        if let Some(kept) = self.disputes.get_mut(id) {
            *kept = dispute;
        }
        Ok(())
    }
}
