//! Money at Stripe that names an order and is not what the order asks for.

use sandbox::stripe::Order as Bring;
use shared::orders::stray_payments;
use tests::world;

use super::*;

/// An order of 90 euros that waits for its buyer, and its try to be paid.
async fn waiting_order(world: &World, event: &Value) -> (Value, String) {
    let mut new = card_order(event, 2, "");
    new["payment"] = json!({"method": "client"});
    let order = bought(world, &world.stranger(), &new).await;
    assert_eq!(order["status"], "requires_action");
    let id: uuid::Uuid = order["id"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .expect("an id");
    let attempt: uuid::Uuid =
        sqlx::query_scalar("select id from payment_attempts where order_id = $1")
            .bind(id)
            .fetch_one(world.app.pool())
            .await
            .expect("a try");
    (order, attempt.to_string())
}

/// Stripe tells of everything, and the workers see to it.
async fn told(world: &World) {
    for told in world.stripe().deliver_webhooks(Bring::AsMade).await {
        assert_eq!(told.status, 200, "{told:?}");
    }
    world.run_jobs().await;
    // What follows from that, such as the refund, is told of too.
    world.stripe().deliver_webhooks(Bring::AsMade).await;
    world.run_jobs().await;
}

fn refunded(world: &World, payment: &str) -> i64 {
    let payments = world.stripe().payments().into_iter();
    let mut payments = payments.filter(|known| known.id == payment);
    payments.next().expect("a payment").refunded
}

#[tokio::test]
async fn a_payment_of_another_amount_currency_or_attempt_sells_nothing_and_goes_back_once() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let (order, attempt) = waiting_order(world, &event).await;
        let id = order["id"].as_str().expect("an id");
        let ours = [("order_id", id), ("attempt_id", attempt.as_str())];
        let nobodys = "019a0000-0000-7000-8000-000000000000";
        let wrong = [
            ("amount", world.stripe().pay_by_hand(50, "eur", &ours)),
            ("amount", world.stripe().pay_by_hand(9_001, "eur", &ours)),
            ("currency", world.stripe().pay_by_hand(9_000, "usd", &ours)),
            (
                "attempt",
                world.stripe().pay_by_hand(9_000, "eur", &ours[..1]),
            ),
            (
                "attempt",
                world
                    .stripe()
                    .pay_by_hand(9_000, "eur", &[ours[0], ("attempt_id", nobodys)]),
            ),
        ];
        let wrong = wrong.map(|(why, payment)| (why, payment.expect("the bank pays")));
        for _ in 0..2 {
            told(world).await;
            for known in world.stripe().events() {
                world.stripe().resend(known["id"].as_str().expect("an id"));
            }
        }
        told(world).await;
        let after = again(&world.stranger(), &order).await;
        assert_eq!(
            (&after["status"], &after["paid"]),
            (&json!("requires_action"), &json!(0))
        );
        assert_eq!(after["tickets"], json!([]));
        for (_, payment) in &wrong {
            let amount = world.stripe().payment(payment).expect("known")["amount"].as_i64();
            assert_eq!(Some(refunded(world, payment)), amount, "{payment}");
        }
        // Operators see each in the activities of the order; none is left open.
        let lines = world.activity_of(&order["id"]).await;
        let strays = lines
            .iter()
            .filter(|(_, kind, _)| kind == "order.stray_payment");
        let mut strays: Vec<(&str, &str)> = strays
            .map(|(_, _, data)| {
                (
                    data["mismatch"].as_str().expect("why"),
                    data["payment_id"].as_str().expect("which"),
                )
            })
            .collect();
        let mut expected: Vec<(&str, &str)> = wrong
            .iter()
            .map(|(why, payment)| (*why, payment.as_str()))
            .collect();
        strays.sort_unstable();
        expected.sort_unstable();
        assert_eq!(strays, expected);
        let open = stray_payments::open(&mut world.app.read().await.expect("Postgres"), 10).await;
        assert_eq!(open.expect("a list"), []);

        // The order is still there to be paid.
        let payment = order["client_secret"]
            .as_str()
            .and_then(|it| it.split("_secret").next());
        world
            .stripe()
            .confirm(payment.expect("a payment"), "pm_card_visa")
            .expect("paid");
        told(world).await;
        assert_eq!(again(&world.stranger(), &order).await["status"], "paid");
    })
    .await;
}

#[tokio::test]
async fn a_payment_of_another_order_pays_neither_by_an_event_that_names_this_one() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let (order, _) = waiting_order(world, &event).await;
        let payment = world.stripe().pay_by_hand(9_000, "eur", &[]).expect("the bank pays");
        world.stripe().drop_webhooks();
        let now = world.app.clock.now().timestamp();
        let told = json!({"id": "evt_strange", "object": "event", "type": "payment_intent.succeeded", "created": now,
            "data": {"object": {"id": payment, "object": "payment_intent",
                                "metadata": {"order_id": order["id"]}}}});
        let signature = sandbox::stripe::sign(tests::WEBHOOK_SECRET, now, told.to_string().as_bytes());
        let stripe = world.stranger().with("Stripe-Signature", &signature);
        stripe.post("/webhooks/stripe", &told).await.expect(200);
        assert!(world.run_jobs().await > 0, "it is seen to");
        let after = again(&world.stranger(), &order).await;
        assert_eq!((&after["status"], &after["paid"]), (&json!("requires_action"), &json!(0)));
        assert_eq!(refunded(world, &payment), 0, "it is none of our money");
    })
    .await;
}

#[tokio::test]
async fn a_stray_payment_is_refunded_when_stripe_answers_again_and_never_twice() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let (order, attempt) = waiting_order(world, &event).await;
        let id = order["id"].as_str().expect("an id");
        let ours = [("order_id", id), ("attempt_id", attempt.as_str())];
        let payment = world
            .stripe()
            .pay_by_hand(50, "eur", &ours)
            .expect("the bank pays");
        // Every try is answered by a failure that Stripe keeps under its key, after the deed.
        world
            .stripe()
            .misbehave("refunds.create", sandbox::stripe::Fault::ErrorKept, 4);
        told(world).await;
        world.pass(chrono::TimeDelta::minutes(2));
        world.run_jobs().await;
        let stray = jobs_done(world, &payment).await;
        assert!(stray.is_some(), "its refund is known");
        assert_eq!(refunded(world, &payment), 50);
    })
    .await;
}

async fn jobs_done(world: &World, payment: &str) -> Option<String> {
    sqlx::query_scalar("select refund_id from stray_payments where payment_id = $1")
        .bind(payment)
        .fetch_one(world.app.pool())
        .await
        .expect("a stray payment")
}
