//! `/_control/…`: tells the stand-in what to do from another process, as the methods of `Stripe` do from this one.

use std::time::Duration;

use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::courier::{Order, Target};
use super::faults::{Fault, WebhookFault};
use super::refunds::RefundStatus;
use super::refusal::Refusal;
use super::server::Answer;
use super::{NotSeen, Shared};

pub(super) async fn answer(shared: &Shared, head: &Parts, body: &[u8]) -> Answer {
    let asked: Value = if body.is_empty() {
        json!({})
    } else {
        match serde_json::from_slice(body) {
            Ok(asked) => asked,
            Err(error) => return Answer::of(&Refusal::bad("body", error.to_string())),
        }
    };
    let path: Vec<&str> = head.uri.path().split('/').skip(2).collect();
    match obey(shared, head.method.as_str(), &path, &asked).await {
        Ok(value) => Answer::json(200, &value),
        Err(refusal) => Answer::of(&refusal),
    }
}

async fn obey(
    shared: &Shared,
    method: &str,
    path: &[&str],
    asked: &Value,
) -> Result<Value, Refusal> {
    let text = |name: &str| asked[name].as_str().unwrap_or_default();
    let number = |name: &str| asked[name].as_u64();
    let times = usize::try_from(number("times").unwrap_or(1)).unwrap_or(1);
    match (method, path) {
        ("POST", ["faults"]) => {
            let fault = Fault::named(text("fault"), number("millis").unwrap_or(1_000));
            let fault = fault.ok_or_else(|| Refusal::bad("fault", "No such fault".into()))?;
            shared.faults.add(text("on"), fault, times);
        }
        ("POST", ["webhook_faults"]) => {
            let fault = WebhookFault::named(text("fault"));
            let fault = fault.ok_or_else(|| Refusal::bad("fault", "No such fault".into()))?;
            shared.courier.faults.add(text("on"), fault, times);
        }
        ("DELETE", ["faults"]) => shared.recover(),
        ("POST", ["release"]) => shared.release(),
        ("POST", ["late_webhooks"]) => shared.courier.send_late(order(asked)),
        ("POST", ["deliver"]) => {
            let delivered = shared.courier.deliver(order(asked)).await;
            let delivered = delivered
                .into_iter()
                .map(|d| json!({"event": d.event, "kind": d.kind, "status": d.status}));
            return Ok(json!({"delivered": delivered.collect::<Vec<_>>()}));
        }
        ("POST", ["webhooks"]) => shared.courier.send_to(target(asked)),
        ("POST", ["payments", id, "end"]) => {
            shared.with(|state| state.end_slow_payment(id, asked["arrives"] == true))?;
        }
        ("POST", ["disputes"]) => {
            let intent = text("payment_intent");
            let id = shared.with(|state| state.open_dispute(intent, None, "fraudulent"))?;
            return Ok(json!({"dispute": id}));
        }
        ("POST", ["disputes", id, "close"]) => {
            shared.with(|state| state.close_dispute(id, asked["won"] == true))?;
        }
        ("POST", ["refunds"]) => {
            shared.with(|state| state.slow_refunds = asked["pending"] == true);
        }
        ("POST", ["refunds", id]) => {
            let end = match text("status") {
                "succeeded" => RefundStatus::Succeeded,
                "failed" => RefundStatus::Failed,
                _ => return Err(Refusal::bad("status", "succeeded or failed".into())),
            };
            shared.with(|state| state.end_refund(id, end))?;
        }
        ("POST", ["wait"]) => {
            let patience = Duration::from_millis(number("millis").unwrap_or(10_000));
            let count = number("count").unwrap_or(1);
            let seen = if asked["held"] == true {
                shared.until_held(patience).await
            } else {
                shared.until_arrived(text("request"), count, patience).await
            };
            seen.map_err(|NotSeen { .. }| Refusal::new(408, "api_error", None, "Not seen"))?;
        }
        ("GET", ["payments"]) => return Ok(json!({"payments": payments(shared)})),
        ("GET", ["requests"]) => return Ok(json!(shared.requests())),
        _ => return Err(Refusal::no_route(method, &path.join("/"))),
    }
    Ok(json!({"done": true}))
}

fn order(asked: &Value) -> Order {
    match (asked["order"].as_str(), asked["seed"].as_u64()) {
        (_, Some(seed)) => Order::Shuffled(seed),
        (Some("reversed"), _) => Order::Reversed,
        _ => Order::AsMade,
    }
}

/// `None` for nobody.
fn target(asked: &Value) -> Option<Target> {
    let text = |name: &str| asked[name].as_str().map(str::to_owned);
    Some(Target {
        url: text("url")?,
        secret: text("secret")?,
    })
}

fn payments(shared: &Shared) -> Vec<Value> {
    let payments = shared.payments().into_iter().map(|payment| {
        json!({
            "id": payment.id, "amount": payment.amount, "currency": payment.currency, "status": payment.status,
            "refunded": payment.refunded, "charges": payment.charges, "metadata": payment.metadata,
        })
    });
    payments.collect()
}
