use std::sync::{Arc, Mutex};

use sandbox::stripe::{Delivery, Order, Target, WebhookFault, sign};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::help::{Desk, SOON, THEN, desk_with};

const SECRET: &str = "whsec_test";

/// Somebody who listens to webhooks, and answers the first few with 500.
struct Ear {
    heard: Arc<Mutex<Vec<(String, String)>>>,
    target: Target,
}

impl Ear {
    async fn listen(refusals: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (ear, left) = (Arc::clone(&heard), Arc::new(Mutex::new(refusals)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, Arc::clone(&ear), Arc::clone(&left)));
            }
        });
        let secret = SECRET.to_owned();
        Self {
            heard,
            target: Target { url, secret },
        }
    }

    fn heard(&self) -> Vec<(String, Value)> {
        let heard = self.heard.lock().expect("no panic");
        heard
            .iter()
            .map(|(signature, body)| (signature.clone(), serde_json::from_str(body).expect("JSON")))
            .collect()
    }

    fn kinds(&self) -> Vec<String> {
        self.heard()
            .iter()
            .filter_map(|(_, e)| e["type"].as_str().map(str::to_owned))
            .collect()
    }
}

async fn take(
    stream: TcpStream,
    heard: Arc<Mutex<Vec<(String, String)>>>,
    left: Arc<Mutex<usize>>,
) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut signature) = (0, String::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line == "\r\n" {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().expect("a number"),
                "stripe-signature" => value.clone_into(&mut signature),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("a body");
        let refuse = {
            let mut left = left.lock().expect("no panic");
            let refuse = *left > 0;
            *left = left.saturating_sub(1);
            refuse
        };
        if !refuse {
            let body = String::from_utf8(body).expect("text");
            heard.lock().expect("no panic").push((signature, body));
        }
        let status = if refuse { "500 No" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.expect("a reader");
    }
}

async fn told(refusals: usize) -> (Desk, Ear) {
    let ear = Ear::listen(refusals).await;
    let desk = desk_with(Some(ear.target.clone()), Delivery::WhenTold);
    (desk, ear)
}

#[tokio::test]
async fn events_go_out_signed_when_told_and_once() {
    let (desk, ear) = told(0).await;
    let paid = desk.pay("pm_card_visa", "k").await;
    assert!(ear.heard().is_empty());
    let delivered = desk.stripe.deliver_webhooks(Order::AsMade).await;
    assert_eq!(delivered.len(), 1);
    assert_eq!(
        (delivered[0].kind.as_str(), delivered[0].status),
        ("payment_intent.succeeded", 200)
    );
    let (signature, event) = ear.heard().remove(0);
    assert_eq!(event["data"]["object"], paid.body);
    assert_eq!(signature, sign(SECRET, THEN, event.to_string().as_bytes()));
    assert!(desk.stripe.deliver_webhooks(Order::AsMade).await.is_empty());

    let shown = desk
        .client
        .get(&format!("events/{}", event["id"].as_str().expect("an id")))
        .await;
    assert_eq!(shown.body, event);
    desk.stripe.resend(shown.id());
    desk.stripe.deliver_webhooks(Order::AsMade).await;
    assert_eq!(ear.heard().len(), 2);
}

#[tokio::test]
async fn what_is_refused_waits_for_the_next_time() {
    let (desk, ear) = told(1).await;
    desk.pay("pm_card_visa", "k").await;
    assert_eq!(
        desk.stripe.deliver_webhooks(Order::AsMade).await[0].status,
        500
    );
    assert_eq!(
        desk.stripe.deliver_webhooks(Order::AsMade).await[0].status,
        200
    );
    assert_eq!(ear.heard().len(), 1);
    desk.stripe.send_webhooks_to(Some(Target {
        url: "http://127.0.0.1:1/".into(),
        secret: SECRET.into(),
    }));
    desk.pay("pm_card_visa", "l").await;
    assert_eq!(
        desk.stripe.deliver_webhooks(Order::AsMade).await[0].status,
        0
    );
}

#[tokio::test]
async fn webhooks_come_twice_late_never_forged_and_stale() {
    let (desk, ear) = told(0).await;
    let faults = [
        WebhookFault::Twice,
        WebhookFault::Late,
        WebhookFault::Never,
        WebhookFault::Forged,
        WebhookFault::Stale,
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        desk.stripe.misdeliver("payment_intent.succeeded", fault, 1);
        desk.pay("pm_card_visa", &n.to_string()).await;
    }
    desk.stripe.deliver_webhooks(Order::AsMade).await;
    let heard = ear.heard();
    assert_eq!(heard.len(), 4);
    assert_eq!(heard[0], heard[1]);
    let body = |at: usize| heard[at].1.to_string().into_bytes();
    assert_ne!(heard[2].0, sign(SECRET, THEN, &body(2)));
    assert_eq!(heard[3].0, sign(SECRET, THEN - 3_600, &body(3)));

    desk.stripe.send_late_webhooks(Order::AsMade);
    desk.stripe.deliver_webhooks(Order::AsMade).await;
    assert_eq!(ear.heard().len(), 5);
}

#[tokio::test]
async fn webhooks_come_out_of_order() {
    let (desk, ear) = told(0).await;
    let paid = desk.pay("pm_card_visa", "k").await;
    let form = format!("payment_intent={}", paid.id());
    desk.client.post("refunds", &form, "r").await;
    desk.stripe.deliver_webhooks(Order::Reversed).await;
    assert_eq!(
        ear.kinds(),
        [
            "charge.refunded",
            "refund.created",
            "payment_intent.succeeded"
        ]
    );
}

#[tokio::test]
async fn in_the_background_they_are_brought_again_until_somebody_takes_them() {
    let ear = Ear::listen(2).await;
    let desk = desk_with(
        Some(ear.target.clone()),
        Delivery::Background { at_once: 2 },
    );
    let paid = desk.pay("pm_card_visa", "k").await;
    let dispute = desk.stripe.open_dispute(paid.id()).expect("it was paid");
    desk.stripe
        .close_dispute(&dispute, false)
        .expect("it is open");
    desk.stripe
        .until_heard("charge.dispute.closed", 1, SOON)
        .await
        .expect("it is heard");
    assert_eq!(
        ear.kinds(),
        [
            "payment_intent.succeeded",
            "charge.dispute.created",
            "charge.dispute.closed"
        ]
    );
}

#[tokio::test]
async fn nobody_is_told_when_nobody_wants_to_know() {
    let desk = desk_with(None, Delivery::WhenTold);
    desk.pay("pm_card_visa", "k").await;
    assert!(desk.stripe.deliver_webhooks(Order::AsMade).await.is_empty());
    let listed = desk
        .client
        .get("events?type=payment_intent.succeeded")
        .await;
    assert_eq!(listed.body["data"].as_array().map(Vec::len), Some(1));
}
