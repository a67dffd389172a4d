//! How Stripe says no.

use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) code: Option<&'static str>,
    pub(super) decline_code: Option<&'static str>,
    pub(super) message: String,
    pub(super) param: Option<String>,
    pub(super) payment_intent: Option<Box<Value>>,
    /// Whether it is kept under the idempotency key: only what an operation found out once it had begun.
    pub(super) kept: bool,
}

impl Refusal {
    pub(super) fn new(
        status: u16,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            code,
            decline_code: None,
            message: message.into(),
            param: None,
            payment_intent: None,
            kept: false,
        }
    }

    fn invalid(status: u16, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", code, message)
    }

    pub(super) fn bad(param: &str, message: String) -> Self {
        let refusal = Self::invalid(400, Some("parameter_invalid"), message);
        refusal.about(param)
    }

    pub(super) fn with_code(param: &str, code: &'static str, message: &str) -> Self {
        Self::invalid(400, Some(code), message).about(param)
    }

    pub(super) fn missing(param: &str) -> Self {
        let message = format!("Missing required param: {param}.");
        Self::invalid(400, Some("parameter_missing"), message).about(param)
    }

    pub(super) fn unknown_parameter(param: &str) -> Self {
        let message = format!("Received unknown parameter: {param}");
        Self::invalid(400, Some("parameter_unknown"), message).about(param)
    }

    /// A thing named in the path.
    pub(super) fn no_such(what: &str, id: &str) -> Self {
        let message = format!("No such {what}: '{id}'");
        Self::invalid(404, Some("resource_missing"), message).about("id")
    }

    /// A thing named by a parameter.
    pub(super) fn names_no(param: &str, what: &str, id: &str) -> Self {
        let message = format!("No such {what}: '{id}'");
        Self::invalid(400, Some("resource_missing"), message).about(param)
    }

    /// The operation began and found that it cannot be done.
    pub(super) fn state(code: &'static str, message: impl Into<String>) -> Self {
        let mut refusal = Self::invalid(400, Some(code), message);
        refusal.kept = true;
        refusal
    }

    pub(super) fn no_route(method: &str, path: &str) -> Self {
        let message = format!("Unrecognized request URL ({method}: {path}).");
        Self::invalid(404, None, message)
    }

    pub(super) fn unauthorized() -> Self {
        let message = "You did not provide an API key, or it is not one of a secret kind.";
        Self::invalid(401, None, message)
    }

    pub(super) fn rate_limited() -> Self {
        let message = "Request rate limit exceeded.";
        Self::invalid(429, Some("rate_limit"), message)
    }

    pub(super) fn broken() -> Self {
        Self::new(
            500,
            "api_error",
            None,
            "An unknown error occurred (told to).",
        )
    }

    fn about(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    pub(super) fn with_intent(mut self, intent: Value) -> Self {
        self.payment_intent = Some(Box::new(intent));
        self
    }

    pub(super) fn json(&self) -> Value {
        let mut error = json!({"type": self.kind, "message": self.message});
        let optional = [
            ("code", self.code.map(Value::from)),
            ("decline_code", self.decline_code.map(Value::from)),
            ("param", self.param.clone().map(Value::from)),
            ("payment_intent", self.payment_intent.as_deref().cloned()),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                error[name] = value;
            }
        }
        json!({"error": error})
    }
}
