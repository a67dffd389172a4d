//! The part of Stripe's API that Holdfast uses: from a request to an answer.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, header};
use serde_json::Value;

use super::faults::Fault;
use super::form::Form;
use super::keys::Seen;
use super::refusal::Refusal;
use super::server::{Answer, Outcome};
use super::state::State;
use super::{Shared, balance, charges, checkout, disputes, events, payments, refunds};

type Run = fn(&mut State, &str, &Form) -> Result<Value, Refusal>;

/// One request, understood.
pub(super) struct Call {
    /// What it is called in faults and counts.
    pub(super) kind: &'static str,
    id: String,
    form: Form,
    key: Option<String>,
    asked: u64,
    run: Run,
}

fn route(method: &Method, path: &[&str]) -> Option<(&'static str, Run)> {
    Some(match (method.as_str(), path) {
        ("POST", ["payment_intents"]) => ("payment_intents.create", payments::create),
        ("GET", ["payment_intents"]) => ("payment_intents.list", payments::list),
        ("GET", ["payment_intents", _]) => ("payment_intents.retrieve", payments::retrieve),
        ("POST", ["payment_intents", _, "confirm"]) => {
            ("payment_intents.confirm", payments::confirm)
        }
        ("POST", ["payment_intents", _, "cancel"]) => ("payment_intents.cancel", payments::cancel),
        ("GET", ["charges", _]) => ("charges.retrieve", charges::retrieve),
        ("POST", ["checkout", "sessions"]) => ("checkout.sessions.create", checkout::create),
        ("GET", ["checkout", "sessions"]) => ("checkout.sessions.list", checkout::list),
        ("GET", ["checkout", "sessions", _]) => ("checkout.sessions.retrieve", checkout::retrieve),
        ("POST", ["checkout", "sessions", _, "expire"]) => {
            ("checkout.sessions.expire", checkout::expire)
        }
        ("POST", ["refunds"]) => ("refunds.create", refunds::create),
        ("GET", ["refunds"]) => ("refunds.list", refunds::list),
        ("GET", ["refunds", _]) => ("refunds.retrieve", refunds::retrieve),
        ("GET", ["balance_transactions"]) => ("balance_transactions.list", balance::list),
        ("GET", ["balance_transactions", _]) => {
            ("balance_transactions.retrieve", balance::retrieve)
        }
        ("GET", ["disputes", _]) => ("disputes.retrieve", disputes::retrieve),
        ("GET", ["events"]) => ("events.list", events::list),
        ("GET", ["events", _]) => ("events.retrieve", events::retrieve),
        _ => return None,
    })
}

impl Call {
    pub(super) fn read(head: &Parts, body: &[u8]) -> Result<Self, Refusal> {
        let path = head.uri.path();
        let segments: Vec<&str> = path.split('/').skip(2).collect();
        let found = route(&head.method, &segments);
        let (kind, run) = found.ok_or_else(|| Refusal::no_route(head.method.as_str(), path))?;
        let changes = head.method == Method::POST;
        let form = Form::parse(if changes {
            body
        } else {
            head.uri.query().unwrap_or_default().as_bytes()
        });
        let id_at = if segments[0] == "checkout" { 2 } else { 1 };
        let key = head.headers.get("idempotency-key");
        let key = key.and_then(|key| key.to_str().ok()).filter(|_| changes);
        Ok(Self {
            kind,
            id: segments.get(id_at).copied().unwrap_or_default().to_owned(),
            asked: form.fingerprint(path),
            form,
            key: key.map(str::to_owned),
            run,
        })
    }

    /// A secret key may do anything; a browser's key needs the secret of the one payment it is about.
    fn may(&self, state: &State, head: &Parts) -> Result<(), Refusal> {
        let key = presented_key(head).or_else(|| self.form.text("key"));
        let key = key.ok_or_else(Refusal::unauthorized)?;
        let after = |prefix| {
            key.strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty())
        };
        if after("sk_") || after("rk_") {
            return Ok(());
        }
        let open = ["payment_intents.retrieve", "payment_intents.confirm"].contains(&self.kind);
        let secret = self.form.get("client_secret");
        let intent = state.intents.get(&self.id);
        match (intent, secret) {
            (Some(intent), Some(secret))
                if open && after("pk_") && secret == intent.client_secret =>
            {
                Ok(())
            }
            _ => Err(Refusal::unauthorized()),
        }
    }

    /// Takes the key. An answer, if there is one already.
    fn begin(&self, state: &mut State) -> Option<Answer> {
        let key = self.key.as_deref()?;
        match state.keys.begin(key, self.asked, state.now) {
            Ok(Seen::New) => None,
            Ok(Seen::Before(status, body)) => Some(Answer::replayed(status, body)),
            Err(refusal) => Some(Answer::of(&refusal)),
        }
    }

    /// Does what is asked, and keeps the answer under the key that was taken.
    fn finish(&self, state: &mut State) -> Answer {
        let done = (self.run)(state, &self.id, &self.form);
        let kept = done.as_ref().map_or_else(|refusal| refusal.kept, |_| true);
        let answer = match &done {
            Ok(value) => Answer::json(200, value),
            Err(refusal) => Answer::of(refusal),
        };
        match &self.key {
            Some(key) if kept => state.keys.answered(key, answer.status, answer.body.clone()),
            Some(key) => state.keys.forget(key),
            None => {}
        }
        answer
    }

    fn run(&self, state: &mut State) -> Answer {
        self.begin(state).unwrap_or_else(|| self.finish(state))
    }
}

/// What stands in the header: `Bearer` and the key, or `Basic` with the key as the user.
fn presented_key(head: &Parts) -> Option<String> {
    let header = head.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    if let Some(key) = header.strip_prefix("Bearer ") {
        return Some(key.to_owned());
    }
    let decoded = BASE64_STANDARD
        .decode(header.strip_prefix("Basic ")?)
        .ok()?;
    let pair = String::from_utf8(decoded).ok()?;
    pair.split(':').next().map(str::to_owned)
}

pub(super) async fn answer(shared: &Shared, head: Parts, body: Bytes) -> Outcome {
    let call = match Call::read(&head, &body) {
        Ok(call) => call,
        Err(refusal) => return Answer::of(&refusal).into(),
    };
    shared.arrived(call.kind);
    if let Err(refusal) = shared.with(|state| call.may(state, &head)) {
        return Answer::of(&refusal).into();
    }
    match shared.faults.take(call.kind) {
        None => shared.with(|state| call.run(state)).into(),
        Some(fault) => {
            // It goes on even if the client goes away: what arrived has arrived.
            let shared = shared.clone();
            let badly = tokio::spawn(async move { misbehave(&shared, &call, fault).await });
            badly.await.unwrap_or(Outcome::Cut)
        }
    }
}

async fn misbehave(shared: &Shared, call: &Call, fault: Fault) -> Outcome {
    let run = || shared.with(|state| call.run(state));
    match fault {
        Fault::TooManyRequests => Answer::of(&Refusal::rate_limited()).into(),
        Fault::ErrorBefore => Answer::of(&Refusal::broken()).into(),
        Fault::CutBefore => Outcome::Cut,
        Fault::ErrorAfter => {
            run();
            Answer::of(&Refusal::broken()).into()
        }
        Fault::ErrorKept => {
            run();
            let broken = Answer::of(&Refusal::broken());
            if let Some(key) = &call.key {
                let body = broken.body.clone();
                shared.with(|state| state.keys.answered(key, broken.status, body));
            }
            broken.into()
        }
        Fault::CutAfter => {
            run();
            Outcome::Cut
        }
        Fault::Silence => {
            run();
            Outcome::Never
        }
        Fault::HoldAfter => {
            let answer = run();
            shared.hold().await;
            answer.into()
        }
        Fault::Slow(pause) => later(shared, call, tokio::time::sleep(pause)).await,
        Fault::HoldBefore => later(shared, call, shared.hold()).await,
    }
}

/// Keeps the key busy meanwhile.
async fn later(shared: &Shared, call: &Call, moment: impl Future<Output = ()>) -> Outcome {
    if let Some(answer) = shared.with(|state| call.begin(state)) {
        return answer.into();
    }
    moment.await;
    shared.with(|state| call.finish(state)).into()
}
