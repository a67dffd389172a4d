//! What happened, as Stripe tells it.

use hyper::body::Bytes;
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
    /// Events of one subject are told in the order in which they happened.
    pub(super) subject: String,
    /// With the thing as it was at that moment. Written out at once: there are many, and few are looked at.
    pub(super) body: Bytes,
}

impl Event {
    pub(super) fn new(id: String, kind: &'static str, created: i64, object: &Value) -> Self {
        let payment = object["payment_intent"].as_str();
        let subject = payment.or_else(|| object["id"].as_str());
        let body = json!({
            "id": id, "object": "event", "api_version": API_VERSION, "created": created,
            "data": {"object": object}, "livemode": false, "pending_webhooks": 1,
            "request": {"id": null, "idempotency_key": null}, "type": kind,
        });
        Self {
            kind,
            subject: subject.unwrap_or_default().to_owned(),
            body: body.to_string().into(),
            id,
        }
    }
}

impl Object for Event {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("what we have written")
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
