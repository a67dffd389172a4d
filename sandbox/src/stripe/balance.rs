//! What came in and went out, and what it cost.

use serde_json::{Value, json};

use super::form::Form;
use super::kept::Object;
use super::refusal::Refusal;
use super::state::State;

#[derive(Debug)]
pub(super) struct Entry {
    id: String,
    kind: &'static str,
    amount: i64,
    fee: i64,
    currency: String,
    source: String,
    created: i64,
    description: Option<String>,
}

impl Object for Entry {
    fn json(&self) -> Value {
        let fees = match self.fee {
            0 => json!([]),
            fee => json!([{"amount": fee, "currency": self.currency, "type": "stripe_fee",
                           "application": null, "description": "Stripe processing fees"}]),
        };
        json!({
            "id": self.id, "object": "balance_transaction", "amount": self.amount,
            "available_on": self.created + 7 * 86_400, "balance_type": "payments", "created": self.created,
            "currency": self.currency, "description": self.description, "exchange_rate": null, "fee": self.fee,
            "fee_details": fees, "net": self.amount - self.fee, "reporting_category": self.kind,
            "source": self.source, "status": "pending", "type": self.kind,
        })
    }
}

/// 1.5 % and 25 cents, as for European cards.
pub(super) fn fee_of(amount: i64) -> i64 {
    (amount * 15 + 500) / 1_000 + 25
}

impl State {
    /// Money that moved because of `source`; its id.
    pub(super) fn book(
        &mut self,
        kind: &'static str,
        amount: i64,
        fee: i64,
        currency: &str,
        source: &str,
    ) -> String {
        let id = self.id("txn");
        let entry = Entry {
            id: id.clone(),
            kind,
            amount,
            fee,
            currency: currency.to_owned(),
            source: source.to_owned(),
            created: self.now,
            description: None,
        };
        self.entries.add(&id, self.now, entry);
        id
    }
}

pub(super) fn retrieve(state: &mut State, id: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[])?;
    let entry = state.entries.get(id).map(Object::json);
    entry.ok_or_else(|| Refusal::no_such("balance transaction", id))
}

pub(super) fn list(state: &mut State, _: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[
        "created",
        "currency",
        "limit",
        "source",
        "starting_after",
        "type",
    ])?;
    let wanted = |name, value: &str| form.get(name).is_none_or(|wish| wish == value);
    state
        .entries
        .page("/v1/balance_transactions", form, |entry| {
            wanted("type", entry.kind)
                && wanted("currency", &entry.currency)
                && wanted("source", &entry.source)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_are_rounded_to_the_unit() {
        assert_eq!((fee_of(1_000), fee_of(5_033)), (40, 100));
    }
}
