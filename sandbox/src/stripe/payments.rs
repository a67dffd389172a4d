//! Payments: what is to be paid, and how far it got.

use serde_json::{Value, json};

use super::form::{Form, Metadata};
use super::kept::Object;
use super::methods::{Behaviour, behaviour};
use super::refusal::Refusal;
use super::state::{State, object_of};

/// Stripe takes no payment below about half a euro, and none beyond eight digits.
const SMALLEST: i64 = 50;
const LARGEST: i64 = 99_999_999;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    NeedsMethod,
    NeedsConfirmation,
    NeedsAction,
    /// The money is on its way, and takes days.
    Processing,
    Succeeded,
    Canceled,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NeedsMethod => "requires_payment_method",
            Self::NeedsConfirmation => "requires_confirmation",
            Self::NeedsAction => "requires_action",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Canceled => "canceled",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) status: Status,
    pub(super) client_secret: String,
    pub(super) created: i64,
    pub(super) metadata: Metadata,
    pub(super) latest_charge: Option<String>,
    /// The checkout it was made for; only that may cancel it.
    pub(super) session: Option<String>,
    description: Option<String>,
    receipt_email: Option<String>,
    return_url: Option<String>,
    pub(super) method: Option<String>,
    pub(super) last_error: Option<Value>,
    canceled_at: Option<i64>,
    cancellation_reason: Option<String>,
    pages: String,
}

impl Intent {
    pub(super) fn amount_received(&self) -> i64 {
        if self.status == Status::Succeeded {
            self.amount
        } else {
            0
        }
    }

    /// Where the buyer proves who they are.
    pub(super) fn authentication_page(&self) -> String {
        format!(
            "{}/authenticate/{}?client_secret={}",
            self.pages, self.id, self.client_secret
        )
    }

    /// Where the buyer goes afterwards.
    pub(super) fn return_url(&self) -> Option<&str> {
        self.return_url.as_deref()
    }

    fn next_action(&self) -> Value {
        if self.status != Status::NeedsAction {
            return Value::Null;
        }
        let page = self.authentication_page();
        if self.return_url.is_none() {
            // The library in the browser is to show it.
            return json!({"type": "use_stripe_sdk", "use_stripe_sdk":
                {"type": "three_d_secure_redirect", "stripe_js": page}});
        }
        json!({"type": "redirect_to_url", "redirect_to_url": {"url": page, "return_url": self.return_url}})
    }
}

impl Object for Intent {
    fn json(&self) -> Value {
        json!({
            "id": self.id, "object": "payment_intent", "amount": self.amount, "amount_capturable": 0,
            "amount_details": {"tip": {}}, "amount_received": self.amount_received(), "application": null,
            "application_fee_amount": null, "automatic_payment_methods": null, "canceled_at": self.canceled_at,
            "cancellation_reason": self.cancellation_reason, "capture_method": "automatic_async",
            "client_secret": self.client_secret, "confirmation_method": "automatic", "created": self.created,
            "currency": self.currency, "customer": null, "description": self.description,
            "last_payment_error": self.last_error, "latest_charge": self.latest_charge, "livemode": false,
            "metadata": object_of(&self.metadata), "next_action": self.next_action(), "on_behalf_of": null,
            "payment_method": self.method,
            "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
            "payment_method_types": ["card"], "processing": null, "receipt_email": self.receipt_email,
            "setup_future_usage": null, "shipping": null, "statement_descriptor": null,
            "statement_descriptor_suffix": null, "status": self.status.name(), "transfer_data": null,
            "transfer_group": null,
        })
    }
}

/// What a payment is made of, from the API or by a checkout.
pub(super) struct New {
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) metadata: Metadata,
    pub(super) session: Option<String>,
    pub(super) return_url: Option<String>,
    pub(super) description: Option<String>,
    pub(super) receipt_email: Option<String>,
}

/// Two currencies have hundredths for Stripe alone, and five have thousandths of which Stripe takes tens.
pub(super) fn check_steps(name: &str, amount: i64, currency: &str) -> Result<(), Refusal> {
    let step = match currency {
        "isk" | "ugx" => 100,
        "bhd" | "jod" | "kwd" | "omr" | "tnd" => 10,
        _ => 1,
    };
    if amount % step != 0 {
        let message = format!("Amounts in {currency} must be evenly divisible by {step}");
        return Err(Refusal::bad(name, message));
    }
    Ok(())
}

pub(super) fn check_amount(name: &str, amount: i64, currency: &str) -> Result<(), Refusal> {
    check_steps(name, amount, currency)?;
    if amount < SMALLEST {
        let message = "Amount must be at least 50 of the smallest unit";
        return Err(Refusal::with_code(name, "amount_too_small", message));
    }
    if amount > LARGEST {
        let message = "Amount must be no more than 999,999.99";
        return Err(Refusal::with_code(name, "amount_too_large", message));
    }
    Ok(())
}

pub(super) fn currency(form: &Form, name: &str) -> Result<String, Refusal> {
    let currency = form.required(name)?.to_ascii_lowercase();
    if currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_lowercase()) {
        Ok(currency)
    } else {
        Err(Refusal::bad(name, format!("Invalid currency: {currency}")))
    }
}

pub(super) fn known_method(method: &str) -> Result<Behaviour, Refusal> {
    behaviour(method).ok_or_else(|| Refusal::names_no("payment_method", "PaymentMethod", method))
}

pub(super) fn create(state: &mut State, _: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[
        "amount",
        "automatic_payment_methods",
        "confirm",
        "currency",
        "description",
        "metadata",
        "off_session",
        "payment_method",
        "payment_method_types",
        "receipt_email",
        "return_url",
        "statement_descriptor_suffix",
    ])?;
    let amount = form
        .integer("amount")?
        .ok_or_else(|| Refusal::missing("amount"))?;
    let currency = currency(form, "currency")?;
    check_amount("amount", amount, &currency)?;
    let method = form.get("payment_method");
    method.map(known_method).transpose()?;
    let confirm = form.is_true("confirm");
    if confirm && method.is_none() {
        return Err(Refusal::missing("payment_method"));
    }
    let new = New {
        amount,
        currency,
        metadata: form.metadata("metadata")?,
        session: None,
        return_url: form.text("return_url"),
        description: form.text("description"),
        receipt_email: form.text("receipt_email"),
    };
    let id = state.add_intent(new);
    match method {
        Some(method) if confirm => state.charge(&id, method),
        Some(method) => {
            let intent = state.intent_mut(&id)?;
            intent.method = Some(method.to_owned());
            intent.status = Status::NeedsConfirmation;
            Ok(intent.json())
        }
        None => Ok(state.intent(&id)?.json()),
    }
}

pub(super) fn retrieve(state: &mut State, id: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&["client_secret", "key"])?;
    Ok(state.intent(id)?.json())
}

pub(super) fn list(state: &mut State, _: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&["created", "limit", "starting_after"])?;
    state.intents.page("/v1/payment_intents", form, |_| true)
}

pub(super) fn confirm(state: &mut State, id: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&[
        "client_secret",
        "key",
        "off_session",
        "payment_method",
        "return_url",
    ])?;
    let intent = state.intent_mut(id)?;
    let method = form
        .text("payment_method")
        .or_else(|| intent.method.clone());
    if let Some(url) = form.text("return_url") {
        intent.return_url = Some(url);
    }
    let method = method.ok_or_else(|| {
        let message =
            "You cannot confirm this PaymentIntent because it's missing a payment method.";
        Refusal::state("payment_intent_unexpected_state", message)
    })?;
    known_method(&method)?;
    state.charge(id, &method)
}

pub(super) fn cancel(state: &mut State, id: &str, form: &Form) -> Result<Value, Refusal> {
    form.only(&["cancellation_reason"])?;
    if state.intent(id)?.session.is_some() {
        let message = "You cannot cancel this PaymentIntent because it was made by a Checkout Session; expire that.";
        return Err(Refusal::state("payment_intent_unexpected_state", message));
    }
    state.cancel_intent(id, form.text("cancellation_reason"))?;
    Ok(state.intent(id)?.json())
}

impl State {
    pub(super) fn intent(&self, id: &str) -> Result<&Intent, Refusal> {
        let intent = self.intents.get(id);
        intent.ok_or_else(|| Refusal::no_such("payment_intent", id))
    }

    pub(super) fn intent_mut(&mut self, id: &str) -> Result<&mut Intent, Refusal> {
        let intent = self.intents.get_mut(id);
        intent.ok_or_else(|| Refusal::no_such("payment_intent", id))
    }

    pub(super) fn add_intent(&mut self, new: New) -> String {
        let id = self.id("pi");
        let intent = Intent {
            id: id.clone(),
            amount: new.amount,
            currency: new.currency,
            status: Status::NeedsMethod,
            client_secret: Self::client_secret(&id),
            created: self.now,
            metadata: new.metadata,
            latest_charge: None,
            session: new.session,
            description: new.description,
            receipt_email: new.receipt_email,
            return_url: new.return_url,
            method: None,
            last_error: None,
            canceled_at: None,
            cancellation_reason: None,
            pages: self.pages.clone(),
        };
        self.intents.add(&id, self.now, intent);
        id
    }

    pub(super) fn cancel_intent(
        &mut self,
        id: &str,
        reason: Option<String>,
    ) -> Result<(), Refusal> {
        let now = self.now;
        let intent = self.open(id, "cancel")?;
        if intent.status == Status::Processing {
            let message =
                "You cannot cancel this PaymentIntent because it has a status of processing.";
            let refusal = Refusal::state("payment_intent_unexpected_state", message);
            return Err(refusal.with_intent(intent.json()));
        }
        let intent = self.intent_mut(id)?;
        intent.status = Status::Canceled;
        intent.canceled_at = Some(now);
        intent.cancellation_reason = reason;
        self.tell_of_intent("payment_intent.canceled", id);
        Ok(())
    }

    /// An intent that is neither paid nor cancelled.
    pub(super) fn open(&self, id: &str, verb: &str) -> Result<&Intent, Refusal> {
        let intent = self.intent(id)?;
        if matches!(intent.status, Status::Succeeded | Status::Canceled) {
            let status = intent.status.name();
            let message = format!(
                "You cannot {verb} this PaymentIntent because it has a status of {status}."
            );
            let refusal = Refusal::state("payment_intent_unexpected_state", message);
            return Err(refusal.with_intent(intent.json()));
        }
        Ok(intent)
    }
}
