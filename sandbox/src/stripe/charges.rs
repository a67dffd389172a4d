//! Charges: the attempts to take the money.

use serde_json::{Value, json};

use super::balance;
use super::form::{Form, Metadata};
use super::kept::Object;
use super::methods::Behaviour;
use super::payments::{Status, known_method};
use super::refusal::Refusal;
use super::state::{State, object_of};

#[derive(Debug, Clone)]
pub(super) struct Charge {
    pub(super) id: String,
    pub(super) intent: String,
    pub(super) amount: i64,
    pub(super) amount_refunded: i64,
    pub(super) currency: String,
    pub(super) metadata: Metadata,
    pub(super) behaviour: Behaviour,
    pub(super) disputed: bool,
    created: i64,
    method: String,
    failure: Option<(&'static str, &'static str)>,
    balance_transaction: Option<String>,
}

impl Charge {
    pub(super) fn succeeded(&self) -> bool {
        self.failure.is_none()
    }
}

impl Object for Charge {
    fn json(&self) -> Value {
        let good = self.succeeded();
        json!({
            "id": self.id, "object": "charge", "amount": self.amount,
            "amount_captured": if good { self.amount } else { 0 }, "amount_refunded": self.amount_refunded,
            "balance_transaction": self.balance_transaction,
            "billing_details": {"address": null, "email": null, "name": null, "phone": null, "tax_id": null},
            "captured": good, "created": self.created, "currency": self.currency, "description": null,
            "disputed": self.disputed, "failure_code": self.failure.map(|(code, _)| code),
            "failure_message": self.failure.map(|(_, message)| message), "livemode": false,
            "metadata": object_of(&self.metadata), "paid": good, "payment_intent": self.intent,
            "payment_method": self.method, "refunded": self.amount_refunded == self.amount,
            "status": if good { "succeeded" } else { "failed" },
        })
    }
}

pub(super) fn retrieve(state: &mut State, id: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[])?;
    let charge = state.charges.get(id).map(Object::json);
    charge.ok_or_else(|| Refusal::no_such("charge", id))
}

impl State {
    /// Tries to take the money; the intent, or the decline.
    pub(super) fn charge(&mut self, id: &str, method: &str) -> Result<Value, Refusal> {
        self.open(id, "confirm")?;
        match known_method(method)? {
            Behaviour::AsksTheBuyer => {
                let intent = self.intent_mut(id)?;
                intent.method = Some(method.to_owned());
                intent.status = Status::NeedsAction;
                intent.last_error = None;
                self.tell_of_intent("payment_intent.requires_action", id);
            }
            Behaviour::PaysSlowly => {
                let intent = self.intent_mut(id)?;
                intent.method = Some(method.to_owned());
                intent.status = Status::Processing;
                intent.last_error = None;
                self.tell_of_intent("payment_intent.processing", id);
            }
            Behaviour::Declines {
                code,
                decline_code,
                message,
            } => return Err(self.decline(id, method, code, decline_code, message)),
            pays => self.succeed(id, method, pays)?,
        }
        Ok(self.intent(id)?.json())
    }

    /// The buyer proved who they are, or did not.
    pub(super) fn authenticate(&mut self, id: &str, succeeds: bool) -> Result<Value, Refusal> {
        let intent = self.intent(id)?;
        if intent.status != Status::NeedsAction {
            let message = "This payment waits for no authentication.";
            return Err(Refusal::state("payment_intent_unexpected_state", message));
        }
        let method = intent.method.clone().unwrap_or_default();
        if succeeds {
            self.succeed(id, &method, Behaviour::Pays)?;
        } else {
            let intent = self.intent_mut(id)?;
            intent.status = Status::NeedsMethod;
            intent.method = None;
            intent.last_error = Some(json!({
                "type": "invalid_request_error", "code": "payment_intent_authentication_failure",
                "message": "The provided PaymentMethod has failed authentication.",
            }));
            self.tell_of_intent("payment_intent.payment_failed", id);
        }
        Ok(self.intent(id)?.json())
    }

    /// Money that was on its way arrives, or the bank says that it does not.
    pub(super) fn end_slow_payment(&mut self, id: &str, arrives: bool) -> Result<(), Refusal> {
        let intent = self.intent(id)?;
        if intent.status != Status::Processing {
            let message = "No money of this payment is on its way.";
            return Err(Refusal::state("payment_intent_unexpected_state", message));
        }
        let (method, session) = (
            intent.method.clone().unwrap_or_default(),
            intent.session.clone(),
        );
        if arrives {
            self.succeed(id, &method, Behaviour::Pays)?;
        } else {
            let message = "The customer's account has insufficient funds to cover this payment.";
            // The refusal is the answer to a card; of a debit it is only heard.
            let _heard = self.decline(
                id,
                &method,
                "payment_method_provider_decline",
                None,
                message,
            );
        }
        match session {
            Some(session) => self.tell_of_slow_session(&session, arrives),
            None => Ok(()),
        }
    }

    fn succeed(&mut self, id: &str, method: &str, behaviour: Behaviour) -> Result<(), Refusal> {
        let charge = self.add_charge(id, method, behaviour, None)?;
        let intent = self.intent_mut(id)?;
        intent.status = Status::Succeeded;
        intent.method = Some(method.to_owned());
        intent.latest_charge = Some(charge);
        intent.last_error = None;
        self.tell_of_intent("payment_intent.succeeded", id);
        if behaviour == Behaviour::PaysThenDisputes {
            self.open_dispute(id, None, "fraudulent")?;
        }
        Ok(())
    }

    fn decline(
        &mut self,
        id: &str,
        method: &str,
        code: &'static str,
        decline_code: Option<&'static str>,
        message: &'static str,
    ) -> Refusal {
        let mut refusal = Refusal::new(402, "card_error", Some(code), message);
        refusal.kept = true;
        refusal.decline_code = decline_code;
        let failure = Some((code, message));
        let Ok(charge) = self.add_charge(id, method, Behaviour::Pays, failure) else {
            return refusal;
        };
        let error = json!({
            "type": "card_error", "code": code, "decline_code": decline_code, "message": message,
            "charge": charge, "payment_method": {"id": method, "object": "payment_method", "type": "card"},
        });
        if let Ok(intent) = self.intent_mut(id) {
            intent.status = Status::NeedsMethod;
            intent.method = None;
            intent.latest_charge = Some(charge);
            intent.last_error = Some(error);
            refusal = refusal.with_intent(intent.json());
        }
        self.tell_of_intent("payment_intent.payment_failed", id);
        refusal
    }

    fn add_charge(
        &mut self,
        intent: &str,
        method: &str,
        behaviour: Behaviour,
        failure: Option<(&'static str, &'static str)>,
    ) -> Result<String, Refusal> {
        let id = self.id("ch");
        let of = self.intent(intent)?;
        let (amount, currency) = (of.amount, of.currency.clone());
        let metadata = of.metadata.clone();
        let booked = failure
            .is_none()
            .then(|| self.book("charge", amount, balance::fee_of(amount), &currency, &id));
        let charge = Charge {
            id: id.clone(),
            intent: intent.to_owned(),
            amount,
            amount_refunded: 0,
            currency,
            metadata,
            behaviour,
            disputed: false,
            created: self.now,
            method: method.to_owned(),
            failure,
            balance_transaction: booked,
        };
        self.charges.add(&id, self.now, charge);
        Ok(id)
    }
}
