//! What happened, as Stripe tells it.

use serde_json::{Value, json};

use super::API_VERSION;
use super::form::Form;
use super::kept::Object;
use super::refusal::Refusal;
use super::state::State;

#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) created: i64,
    /// The thing as it was at that moment.
    pub(super) object: Value,
}

impl Object for Event {
    fn json(&self) -> Value {
        json!({
            "id": self.id, "object": "event", "api_version": API_VERSION, "created": self.created,
            "data": {"object": self.object}, "livemode": false, "pending_webhooks": 1,
            "request": {"id": null, "idempotency_key": null}, "type": self.kind,
        })
    }
}

impl Event {
    /// Events of one payment are told in the order in which they happened.
    pub(super) fn subject(&self) -> &str {
        let object = &self.object;
        let names_a_payment = object["payment_intent"].as_str();
        names_a_payment
            .or_else(|| object["id"].as_str())
            .unwrap_or_default()
    }
}

pub(super) fn retrieve(state: &mut State, id: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[])?;
    let event = state.events.get(id);
    event
        .map(Object::json)
        .ok_or_else(|| Refusal::no_such("event", id))
}

pub(super) fn list(state: &mut State, _: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&["created", "limit", "starting_after", "type"])?;
    let kind = form.get("type");
    state.events.page("/v1/events", form, |event| {
        kind.is_none_or(|kind| kind == event.kind)
    })
}
