//! The ledger only grows, and nobody has to wait for the minute to hear what became of a payment.

use chrono::TimeDelta;
use futures_util::future::join_all;
use shared::orders::{Chased, chase};
use tests::{world, world_with};

use super::*;

#[tokio::test]
async fn the_ledger_is_neither_changed_nor_emptied() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        bought(world, &world.stranger(), &card_order(&event, 2, "pm_card_visa")).await;
        let lines = "select kind, amount, currency, provider from ledger";
        let lines = async || -> Vec<(String, i64, String, String)> {
            let lines = sqlx::query_as(lines).fetch_all(world.app.pool()).await;
            lines.expect("lines")
        };
        let before = lines().await;
        assert_eq!(before, [("payment".into(), 9000, "EUR".into(), "stripe".into())]);
        for forgery in [
            "update ledger set amount = 1",
            "update ledger set at = at - interval '1 day'",
            "delete from ledger",
            "truncate ledger",
            "truncate orders cascade",
        ] {
            let refused = sqlx::query(forgery).execute(world.app.pool()).await;
            let refused = refused.expect_err(forgery).to_string();
            assert!(refused.contains("only grows"), "{forgery}: {refused}");
        }
        let twice = "insert into ledger (organization_id, event_id, order_id, kind, amount, currency, provider, reference, at)
                     select organization_id, event_id, order_id, kind, amount, currency, provider, reference, at from ledger";
        let refused = sqlx::query(twice).execute(world.app.pool()).await;
        let refused = refused.expect_err("it is counted once").to_string();
        assert!(refused.contains("ledger_once"), "{refused}");
        assert_eq!(lines().await, before);
    })
    .await;
}

#[tokio::test]
async fn money_by_hand_is_counted_once_whatever_the_slip_says() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let guest = world.stranger();
        let mut new = card_order(&event, 2, "");
        new["payment"] = json!({"method": "manual"});
        let order = bought(world, &guest, &new).await;
        let asked = world.inbox.messages();
        let [asked] = &asked[..] else {
            panic!("one mail says how to pay: {asked:?}")
        };
        let words = asked.text.as_deref().expect("a text");
        assert!(
            words.contains("90.00 EUR") && words.contains("lighthouse"),
            "{words}"
        );

        let place = format!("/orders/{}/payments", order["id"].as_str().expect("an id"));
        let slips = (0..6).map(|slip| json!({"reference": format!("slip {slip}")}));
        let slips: Vec<Value> = slips.collect();
        let answers = slips.iter().map(|slip| organizer.post(&place, slip));
        for answer in join_all(answers).await {
            assert_eq!(answer.expect(201)["paid"], 9000);
        }
        world.run_jobs().await;
        let order = again(&guest, &order).await;
        assert_eq!(
            (&order["paid"], &order["refunded"]),
            (&json!(9000), &json!(0))
        );
        let lines = world.activity_of(&order["id"]).await;
        let paid = lines
            .iter()
            .find(|(_, kind, _)| kind == "order.status_changed");
        let note = &paid.expect("it was paid").2["payment"]["note"];
        assert!(
            note.as_str().is_some_and(|note| note.starts_with("slip ")),
            "{lines:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn every_order_that_waits_is_asked_after_at_once() {
    let hasty = [
        ("HOLDFAST_STRIPE_TIMEOUT", "300ms"),
        ("HOLDFAST_STRIPE_ATTEMPTS", "1"),
    ];
    world_with(&hasty, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 20).await;
        let guest = world.stranger();
        let by = |method: &str| {
            let mut new = card_order(&event, 1, "");
            new["payment"] = json!({ "method": method });
            new
        };
        bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        let manual = bought(world, &guest, &by("manual")).await;
        let waits = bought(world, &guest, &by("client")).await;
        let paid = bought(world, &guest, &by("client")).await;
        let payment = paid["client_secret"]
            .as_str()
            .and_then(|secret| secret.split("_secret").next());
        let payment = payment.expect("a payment");
        world
            .stripe()
            .confirm(payment, "pm_card_visa")
            .expect("confirmed");
        world.stripe().drop_webhooks();

        world.pass(TimeDelta::seconds(1));
        world.stripe().go_down().await.expect("it is down");
        let found = chase(&world.app).await.expect("the database answers");
        assert_eq!(
            found,
            Chased {
                asked: 2,
                settled: 0,
                unanswered: 2
            }
        );
        world.stripe().come_back().expect("it is back");
        world.pass(TimeDelta::seconds(1));
        let found = chase(&world.app).await.expect("Stripe answers");
        assert_eq!(
            found,
            Chased {
                asked: 2,
                settled: 1,
                unanswered: 0
            }
        );
        let status = async |order: &Value| again(&guest, order).await["status"].clone();
        assert_eq!(status(&paid).await, "paid");
        assert_eq!(status(&waits).await, "requires_action");
        assert_eq!(
            status(&manual).await,
            "pending",
            "Stripe knows nothing of it"
        );

        world.pass(TimeDelta::days(8));
        let found = chase(&world.app).await.expect("Stripe answers");
        assert_eq!(
            found,
            Chased {
                asked: 2,
                settled: 2,
                unanswered: 0
            }
        );
        assert_eq!(status(&manual).await, "expired");
        assert_eq!(status(&waits).await, "expired");
        assert_eq!(left(world, &event).await, 18);
    })
    .await;
}
