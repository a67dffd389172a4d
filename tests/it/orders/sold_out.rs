//! One too many is let in, as when Redis has lost a hold: the places are sold once, and each order ends by itself.

use shared::ids::{EventId, OrderId};
use shared::orders::{self, OrderStatus, Outcome, Received, Settlement};
use tests::{World, world_with};

use super::*;

const FIGURES: [(&str, &str); 1] = [("HOLDFAST_HTTP_METRICS_TOKEN", "figures")];

fn id(value: &Value) -> uuid::Uuid {
    let id = value["id"].as_str().and_then(|id| id.parse().ok());
    id.expect("an id")
}

/// How often a sale beyond what there is was prevented by any world of this process.
async fn prevented(world: &World) -> u64 {
    let operator = world.stranger().with("authorization", "Bearer figures");
    let figures = operator.get("/metrics").await.text;
    let mut lines = figures.lines();
    let line = lines.find_map(|line| line.strip_prefix("oversell_prevented_total "));
    line.map_or(0, |number| number.parse().expect("a number"))
}

/// An order that is paid in the browser, and what Stripe calls its payment.
async fn in_browser(world: &World, event: &Value, quantity: i32, email: &str) -> (Value, String) {
    let mut new = card_order(event, quantity, "");
    new["payment"] = json!({"method": "client"});
    new["email"] = json!(email);
    let order = bought(world, &world.stranger(), &new).await;
    assert_eq!(order["status"], "requires_action", "{order}");
    let secret = order["client_secret"].as_str().expect("a secret");
    let payment = secret.split("_secret").next().expect("a payment");
    (order.clone(), payment.to_owned())
}

/// Redis forgets that these orders hold places.
async fn holds_are_lost(world: &World, event: &Value, orders: &[&Value]) {
    let holds: Vec<OrderId> = orders.iter().map(|order| OrderId(id(order))).collect();
    let (now, event_id) = (world.app.clock.now(), EventId(id(event)));
    let lost = world.app.stock.settle(now, event_id, &holds, &[]).await;
    lost.expect("Redis answers");
}

/// What was mailed to somebody, by what the mail is about.
fn mails_to(world: &World, email: &str) -> Vec<String> {
    let mails = world.inbox.messages();
    let theirs = mails
        .iter()
        .filter(|mail| mail.to.iter().any(|to| to == email));
    let mut subjects: Vec<String> = theirs.map(|mail| mail.subject.clone()).collect();
    subjects.sort();
    subjects
}

#[tokio::test]
async fn money_for_places_that_are_sold_goes_back_and_is_counted() {
    world_with(&FIGURES, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 2).await;
        let (late, payment) = in_browser(world, &event, 2, "late@example.org").await;
        holds_are_lost(world, &event, &[&late]).await;
        let guest = world.stranger();
        let first = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        assert_eq!(first["status"], "paid");

        let before = prevented(world).await;
        let confirmed = world.stripe().confirm(&payment, "pm_card_visa");
        confirmed.expect("the bank pays");
        let delivered = sandbox::stripe::Order::Reversed;
        world.stripe().deliver_webhooks(delivered).await;
        world.run_jobs().await;
        assert!(prevented(world).await > before);
        let late = again(&guest, &late).await;
        assert_eq!(
            (&late["status"], &late["reason"], &late["tickets"]),
            (&json!("refunded"), &json!("sold_out"), &json!([]))
        );
        assert_eq!(
            (&late["paid"], &late["refunded"]),
            (&json!(9_000), &json!(9_000))
        );
        let lines = world.activity_of(&late["id"]).await;
        let steps = lines
            .iter()
            .filter(|(_, kind, _)| kind == "order.status_changed");
        let steps: Vec<&Value> = steps.map(|(_, _, data)| &data["status"]).collect();
        let [_, failed, refunded] = steps[..] else {
            panic!("three steps: {steps:?}");
        };
        assert_eq!(failed, &json!(["requires_action", "failed"]));
        assert_eq!(refunded, &json!(["failed", "refunded"]));
        let mails = world.inbox.messages();
        let words = mails.iter().filter(|mail| mail.to == ["late@example.org"]);
        let words: Vec<&str> = words.filter_map(|mail| mail.text.as_deref()).collect();
        let said = words.iter().filter(|text| text.contains("was sold out"));
        assert_eq!(said.count(), 1, "{words:?}");
        assert!(
            words.iter().any(|text| text.contains("90.00 EUR")),
            "{words:?}"
        );
        assert_eq!(
            again(&guest, &first).await["tickets"]
                .as_array()
                .map(Vec::len),
            Some(2)
        );
        assert_eq!(left(world, &event).await, 0);
    })
    .await;
}

/// An order is to be settled by a payment as Stripe has it.
async fn settled_by(world: &World, order: &Value, payment: &str, amount: i64) -> Settlement {
    let payment = world.app.stripe.payment(payment).await;
    let received = Received::at_stripe(&payment.expect("Stripe knows it"));
    assert_eq!(received.amount, amount);
    Settlement {
        order_id: OrderId(id(order)),
        outcome: Outcome::Paid(received),
        reclaimed: false,
    }
}

#[tokio::test]
async fn orders_that_are_settled_together_each_end_by_themselves() {
    world_with(&FIGURES, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let (event, off) = (event_of(&organizer, 3).await, event_of(&organizer, 3).await);
        let guest = world.stranger();
        let (fits, fits_payment) = in_browser(world, &event, 1, "fits@example.org").await;
        let (two, two_payment) = in_browser(world, &event, 2, "two@example.org").await;
        holds_are_lost(world, &event, &[&fits, &two]).await;
        let sold = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        let (last, last_payment) = in_browser(world, &event, 1, "last@example.org").await;
        let (declined, _) = in_browser(world, &event, 1, "declined@example.org").await;
        let (called_off, off_payment) = in_browser(world, &off, 1, "off@example.org").await;
        cancel_event(&organizer, &off).await;
        for payment in [&fits_payment, &two_payment, &last_payment, &off_payment] {
            let confirmed = world.stripe().confirm(payment, "pm_card_visa");
            confirmed.expect("the bank pays");
        }
        world.stripe().drop_webhooks();
        let known: String = sqlx::query_scalar("select reference from ledger")
            .fetch_one(world.app.pool())
            .await
            .expect("one is sold");

        let no = Settlement {
            order_id: OrderId(id(&declined)),
            outcome: Outcome::Declined {
                code: "insufficient_funds".to_owned(),
                payment: None,
            },
            reclaimed: false,
        };
        let nobodys = Settlement {
            order_id: OrderId(uuid::Uuid::nil()),
            outcome: Outcome::Expired,
            reclaimed: false,
        };
        let batch = [
            settled_by(world, &fits, &fits_payment, 4_500).await,
            no,
            settled_by(world, &two, &two_payment, 9_000).await,
            nobodys,
            settled_by(world, &sold, &known, 4_500).await,
            settled_by(world, &last, &last_payment, 4_500).await,
            settled_by(world, &called_off, &off_payment, 4_500).await,
        ];
        let before = prevented(world).await;
        let ends = world
            .change(async |tx| orders::settle(tx, &batch).await)
            .await;
        let ends: Vec<_> = ends
            .iter()
            .map(|end| end.map(|end| (end.status, end.changed)))
            .collect();
        assert_eq!(
            ends,
            [
                Some((OrderStatus::Paid, true)),
                Some((OrderStatus::Failed, true)),
                Some((OrderStatus::Failed, true)),
                None,
                Some((OrderStatus::Paid, false)),
                Some((OrderStatus::Paid, true)),
                Some((OrderStatus::Cancelled, true)),
            ]
        );
        assert!(prevented(world).await > before);
        world.run_jobs().await;

        let mut became = Vec::new();
        for order in [&fits, &declined, &two, &sold, &last, &called_off] {
            let order = again(&guest, order).await;
            let tickets = order["tickets"].as_array().expect("tickets").len();
            let text = |name: &str| order[name].as_str().unwrap_or_default().to_owned();
            became.push((text("status"), text("reason"), tickets));
        }
        let end =
            |status: &str, reason: &str, tickets| (status.to_owned(), reason.to_owned(), tickets);
        assert_eq!(
            became,
            [
                end("paid", "", 1),
                end("failed", "insufficient_funds", 0),
                end("refunded", "sold_out", 0),
                end("paid", "", 1),
                end("paid", "", 1),
                end("refunded", "event_cancelled", 0),
            ]
        );
        let (tickets, goes_back) = (
            "Your tickets for Rope Basics",
            "Your payment for Rope Basics goes back",
        );
        assert_eq!(mails_to(world, "fits@example.org"), [tickets]);
        assert_eq!(mails_to(world, "last@example.org"), [tickets]);
        assert!(mails_to(world, "two@example.org").contains(&goes_back.to_owned()));
        assert!(!mails_to(world, "two@example.org").contains(&tickets.to_owned()));
        assert!(
            mails_to(world, "off@example.org").contains(&"Rope Basics is cancelled".to_owned())
        );
        assert_eq!(mails_to(world, "declined@example.org"), [] as [&str; 0]);
        assert_eq!(left(world, &event).await, 0);
    })
    .await;
}
