//! Checkout: Stripe's own page to pay on.

use serde_json::{Value, json};

use super::form::{Form, Metadata};
use super::kept::Object;
use super::payments::{self, New, Status as PaymentStatus};
use super::refusal::Refusal;
use super::state::{State, object_of};

const HOUR: i64 = 3_600;
/// As with Stripe, a session lives at least half an hour and at most a day.
const SHORTEST: i64 = HOUR / 2;
const LONGEST: i64 = 24 * HOUR;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Open,
    Complete,
    Expired,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Complete => "complete",
            Self::Expired => "expired",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) status: Status,
    pub(super) success_url: String,
    pub(super) cancel_url: Option<String>,
    pub(super) intent: Option<String>,
    paid: bool,
    created: i64,
    expires_at: i64,
    reference: Option<String>,
    metadata: Metadata,
    intent_metadata: Metadata,
    pages: String,
}

impl Session {
    pub(super) fn page(&self) -> String {
        format!("{}/checkout/{}", self.pages, self.id)
    }

    /// Where the buyer goes after paying.
    pub(super) fn success_page(&self) -> String {
        self.success_url.replace("{CHECKOUT_SESSION_ID}", &self.id)
    }
}

impl Object for Session {
    fn json(&self) -> Value {
        let open = self.status == Status::Open;
        let paid = self.paid;
        json!({
            "id": self.id, "object": "checkout.session", "amount_subtotal": self.amount,
            "amount_total": self.amount, "automatic_tax": {"enabled": false}, "cancel_url": self.cancel_url,
            "client_reference_id": self.reference, "client_secret": null, "created": self.created,
            "currency": self.currency, "custom_fields": [], "custom_text": {}, "customer": null,
            "expires_at": self.expires_at, "livemode": false, "metadata": object_of(&self.metadata),
            "mode": "payment", "payment_intent": self.intent, "payment_method_types": ["card"],
            "payment_status": if paid { "paid" } else { "unpaid" }, "shipping_options": [],
            "status": self.status.name(), "success_url": self.success_url, "ui_mode": "hosted_page",
            "url": open.then(|| self.page()),
        })
    }
}

pub(super) fn create(state: &mut State, _: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[
        "cancel_url",
        "client_reference_id",
        "customer_email",
        "expires_at",
        "line_items",
        "metadata",
        "mode",
        "payment_intent_data",
        "payment_method_types",
        "success_url",
    ])?;
    if form.required("mode")? != "payment" {
        return Err(Refusal::bad("mode", "Only `payment` is known here".into()));
    }
    let (name, amount, currency) = sum(form)?;
    let now = state.now;
    let expires_at = form.integer("expires_at")?.unwrap_or(now + LONGEST);
    // A request takes its time; Stripe counts from when it was made.
    if !(now + SHORTEST - 60..=now + LONGEST + 60).contains(&expires_at) {
        let message =
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from creation.";
        return Err(Refusal::bad("expires_at", message.into()));
    }
    let id = state.id("cs_test");
    let session = Session {
        id: id.clone(),
        name,
        amount,
        currency,
        status: Status::Open,
        success_url: address(form, "success_url")?
            .ok_or_else(|| Refusal::missing("success_url"))?,
        cancel_url: address(form, "cancel_url")?,
        intent: None,
        paid: false,
        created: now,
        expires_at,
        reference: form.text("client_reference_id"),
        metadata: form.metadata("metadata")?,
        intent_metadata: form.metadata("payment_intent_data[metadata]")?,
        pages: state.pages.clone(),
    };
    let json = session.json();
    state.due.insert((expires_at, id.clone()));
    state.sessions.add(&id, now, session);
    Ok(json)
}

fn address(form: &Form, name: &str) -> Result<Option<String>, Refusal> {
    let address = form.text(name);
    let good = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    if address.as_ref().is_some_and(|url| !good(url)) {
        return Err(Refusal::with_code(name, "url_invalid", "Not a valid URL"));
    }
    Ok(address)
}

/// What is bought: the first name, the total, the currency.
fn sum(form: &Form) -> Result<(String, i64, String), Refusal> {
    let currency = payments::currency(form, "line_items[0][price_data][currency]")?;
    let name = form.required("line_items[0][price_data][product_data][name]")?;
    let mut total = 0_i64;
    for at in 0..100 {
        let unit = format!("line_items[{at}][price_data][unit_amount]");
        let Some(amount) = form.integer(&unit)? else {
            break;
        };
        let quantity = form.integer(&format!("line_items[{at}][quantity]"))?;
        total = total.saturating_add(amount.saturating_mul(quantity.unwrap_or(1)));
    }
    payments::check_amount("line_items", total, &currency)?;
    Ok((name.to_owned(), total, currency))
}

pub(super) fn retrieve(state: &mut State, id: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[])?;
    Ok(state.session(id)?.json())
}

pub(super) fn list(state: &mut State, _: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&["created", "limit", "payment_intent", "starting_after"])?;
    let intent = form.get("payment_intent");
    state
        .sessions
        .page("/v1/checkout/sessions", form, |session| {
            intent.is_none_or(|wish| session.intent.as_deref() == Some(wish))
        })
}

pub(super) fn expire(state: &mut State, id: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[])?;
    if state.session(id)?.status != Status::Open {
        let message = "Only Checkout Sessions with a status in [\"open\"] can be expired.";
        let mut refusal = Refusal::state("resource_missing", message);
        refusal.code = None;
        return Err(refusal);
    }
    state.expire_session(id);
    Ok(state.session(id)?.json())
}

impl State {
    pub(super) fn session(&self, id: &str) -> Result<&Session, Refusal> {
        let session = self.sessions.get(id);
        session.ok_or_else(|| Refusal::no_such("checkout.session", id))
    }

    /// Ends every session whose time is over.
    pub(super) fn expire_due(&mut self) {
        while let Some((at, id)) = self.due.first().cloned()
            && at <= self.now
        {
            self.due.remove(&(at, id.clone()));
            self.expire_session(&id);
        }
    }

    fn expire_session(&mut self, id: &str) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if session.status != Status::Open {
            return;
        }
        session.status = Status::Expired;
        let (due, intent) = (
            (session.expires_at, session.id.clone()),
            session.intent.clone(),
        );
        let json = session.json();
        self.due.remove(&due);
        if let Some(intent) = intent {
            // Nobody paid it: the session would be complete.
            let _open = self.cancel_intent(&intent, Some("automatic".to_owned()));
        }
        self.tell("checkout.session.expired", &json);
    }

    /// The buyer presses the button. A decline leaves the session open.
    pub(super) fn pay_session(&mut self, id: &str, method: &str) -> Result<Value, Refusal> {
        let session = self.session(id)?.clone();
        if session.status != Status::Open {
            let message = format!("This Checkout Session is {}.", session.status.name());
            return Err(Refusal::state("checkout_session_not_open", message));
        }
        let intent = session.intent.clone().unwrap_or_else(|| {
            self.add_intent(New {
                amount: session.amount,
                currency: session.currency.clone(),
                metadata: session.intent_metadata.clone(),
                session: Some(session.id.clone()),
                return_url: Some(session.page()),
                description: None,
                receipt_email: None,
            })
        });
        if let Some(session) = self.sessions.get_mut(id) {
            session.intent = Some(intent.clone());
        }
        let paid = self.charge(&intent, method)?;
        self.complete_session(id)?;
        Ok(paid)
    }

    /// After its payment has moved on. The money of a slow kind is still on its way when it is complete.
    pub(super) fn complete_session(&mut self, id: &str) -> Result<(), Refusal> {
        let intent = self.session(id)?.intent.clone();
        let status = intent.and_then(|id| self.intent(&id).ok().map(|intent| intent.status));
        let paid = status == Some(PaymentStatus::Succeeded);
        let done = paid || status == Some(PaymentStatus::Processing);
        let Some(session) = self.sessions.get_mut(id).filter(|_| done) else {
            return Ok(());
        };
        session.status = Status::Complete;
        session.paid = paid;
        let due = (session.expires_at, session.id.clone());
        let json = session.json();
        self.due.remove(&due);
        self.tell("checkout.session.completed", &json);
        Ok(())
    }

    /// What became of the money that was on its way when the session was complete.
    pub(super) fn tell_of_slow_session(&mut self, id: &str, arrived: bool) -> Result<(), Refusal> {
        if let Some(session) = self.sessions.get_mut(id) {
            session.paid = arrived;
        }
        let json = self.session(id)?.json();
        let kind = if arrived {
            "checkout.session.async_payment_succeeded"
        } else {
            "checkout.session.async_payment_failed"
        };
        self.tell(kind, &json);
        Ok(())
    }
}
