//! Giving tickets back, one by one and at once.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::json;
use tests::{on_sale, standard, world};

use super::*;
use crate::orders::{again, event_of, left, place_of};

/// What went back for an order, and what of it Stripe has paid out.
async fn refunds(guest: &Client, order: &Value) -> (i64, i64) {
    let list = place_of(order).replace('?', "/refunds?");
    let list = guest.get(&list).await.expect(200);
    let refunds = list.as_array().expect("refunds").iter();
    let amount = |refund: &Value| refund["amount"].as_i64().expect("an amount");
    let open = refunds.clone().filter(|r| r["status"] != "failed");
    let done = refunds.filter(|refund| refund["status"] == "succeeded");
    (open.map(amount).sum(), done.map(amount).sum())
}

#[tokio::test]
async fn a_place_that_was_given_back_is_bought_by_the_next() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 2).await;
        let (guest, order) = guest_with(world, &event, 2).await;
        let next = world.stranger();
        let wanted = card_order(&event, 1, "pm_card_visa");
        let refused = next.post("/orders", &wanted).await;
        refused.refused(409, "INSUFFICIENT_CAPACITY");

        let quote = guest.get(&of_ticket(&order, 0, "/cancellation")).await;
        let quote = quote.expect(200);
        assert_eq!(
            (
                &quote["possible"],
                &quote["percent"],
                &quote["refund_amount"]
            ),
            (&json!(true), &json!(100), &json!(4500))
        );
        let cancel = of_ticket(&order, 0, "/cancel");
        let ticket = guest
            .put(&cancel, &json!({"reason": "ill"}))
            .await
            .expect(200);
        assert_eq!(
            (&ticket["status"], &ticket["version"]),
            (&json!("cancelled"), &json!(2))
        );
        assert_eq!(left(world, &event).await, 1);
        let bought = bought(world, &next, &wanted).await;
        assert_eq!(bought["status"], "paid");

        let order = again(&guest, &order).await;
        assert_eq!(
            (&order["status"], &order["refunded"]),
            (&json!("partially_refunded"), &json!(4500))
        );
        assert_eq!(order["tickets"][1]["status"], "valid");
        assert_eq!(refunds(&guest, &order).await, (4500, 4500));
    })
    .await;
}

#[tokio::test]
async fn giving_back_twice_is_giving_back_once() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let (guest, order) = guest_with(world, &event, 2).await;
        let cancel = of_ticket(&order, 0, "/cancel");
        let tries = (0..6).map(|_| async { guest.put(&cancel, &json!({})).await.expect(200) });
        let answers = join_all(tries).await;
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        world.run_jobs().await;
        let later = guest.put(&cancel, &json!({})).await.expect(200);
        assert_eq!(later, answers[0]);
        assert_eq!(refunds(&guest, &order).await, (4500, 4500));
        assert_eq!(left(world, &event).await, 4);
        let quote = guest.get(&of_ticket(&order, 0, "/cancellation")).await;
        let quote = quote.expect(200);
        assert_eq!(
            (&quote["possible"], &quote["refund_amount"]),
            (&json!(false), &json!(0))
        );
    })
    .await;
}

#[tokio::test]
async fn one_by_one_brings_what_all_at_once_brings() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_giving_back(&organizer, 50, 333).await;
        let (guest, order) = guest_with(world, &event, 3).await;
        let mut quoted = 0;
        for at in [2, 0, 1] {
            let quote = guest.get(&of_ticket(&order, at, "/cancellation")).await;
            quoted += quote.expect(200)["refund_amount"]
                .as_i64()
                .expect("an amount");
            let cancel = of_ticket(&order, at, "/cancel");
            guest.put(&cancel, &json!({})).await.expect(200);
        }
        world.run_jobs().await;
        assert_eq!(quoted, 499);
        assert_eq!(refunds(&guest, &order).await, (499, 499));
        assert_eq!(again(&guest, &order).await["status"], "cancelled");

        let (other, order) = guest_with(world, &event, 3).await;
        let cancel = place_of(&order).replace('?', "/cancel?");
        other.put(&cancel, &json!({})).await.expect(200);
        world.run_jobs().await;
        assert_eq!(refunds(&other, &order).await, (499, 499));
    })
    .await;
}

#[tokio::test]
async fn an_organizer_gives_everything_back_that_a_ticket_cost() {
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        let event = event_giving_back(&ours.organizer, 0, 4500).await;
        let (guest, order) = guest_with(world, &event, 2).await;
        let path = |what: &str| format!("/tickets/{}{what}", id_of(&order["tickets"][0]));
        let quote = guest.get(&of_ticket(&order, 0, "/cancellation")).await;
        assert_eq!(quote.expect(200)["refund_amount"], 0);
        let quote = ours.organizer.get(&path("/cancellation")).await.expect(200);
        assert_eq!(
            (&quote["percent"], &quote["refund_amount"]),
            (&json!(100), &json!(4500))
        );

        let some = json!({"amount": 6000, "reason": "a broken chair"});
        let refunds_of = format!("/orders/{}/refunds", id_of(&order));
        ours.organizer.post(&refunds_of, &some).await.expect(201);
        let quote = ours.organizer.get(&path("/cancellation")).await.expect(200);
        assert_eq!(quote["refund_amount"], 3000, "no more than is left");
        ours.organizer
            .put(&path("/cancel"), &json!({}))
            .await
            .expect(200);
        world.run_jobs().await;
        assert_eq!(refunds(&guest, &order).await, (9000, 9000));
        let now = again(&guest, &order).await;
        assert_eq!(
            (&now["status"], &now["tickets"][1]["status"]),
            (&json!("partially_refunded"), &json!("valid")),
            "whoever keeps a ticket keeps an order"
        );
        let cancel = of_ticket(&order, 1, "/cancel");
        guest.put(&cancel, &json!({})).await.expect(200);
        assert_eq!(again(&guest, &order).await["status"], "cancelled");
    })
    .await;
}

#[tokio::test]
async fn who_may_look_may_not_give_back() {
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        let event = event_of(&ours.organizer, 5).await;
        let (_, order) = guest_with(world, &event, 1).await;
        let role = json!({"name": "Looker", "rights": ["registrations:read"]});
        let owner = world.member(ours.id, "owner").await.client;
        let roles = format!("/organizations/{}/roles", ours.id);
        let role = owner.post(&roles, &role).await.expect(201);
        let looker = world.member(ours.id, "member").await;
        let member = format!("/organizations/{}/members/{}", ours.id, looker.id);
        let change = json!({"role_id": role["id"]});
        owner.put(&member, &change).await.expect(200);
        let path = format!("/tickets/{}", id_of(&order["tickets"][0]));
        let looker = looker.client;
        looker.get(&path).await.expect(200);
        let answer = looker.put(&format!("{path}/cancel"), &json!({})).await;
        answer.refused(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn once_it_has_begun_only_the_organizer_takes_tickets_back() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let (guest, order) = guest_with(world, &event, 1).await;
        world.pass(TimeDelta::days(27));
        let cancel = of_ticket(&order, 0, "/cancel");
        let late = guest.put(&cancel, &json!({})).await;
        late.refused(409, "CANCELLATION_CLOSED");
        let quote = guest.get(&of_ticket(&order, 0, "/cancellation")).await;
        assert_eq!(quote.expect(200)["possible"], false);
        let path = format!("/tickets/{}/cancel", id_of(&order["tickets"][0]));
        organizer.put(&path, &json!({})).await.expect(200);
        world.run_jobs().await;
        assert_eq!(refunds(&guest, &order).await, (4500, 4500));
    })
    .await;
}

/// Refunds by amount and tickets that go back, all at once, against one payment.
#[tokio::test]
async fn refunds_at_once_never_pass_what_was_paid() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = on_sale(&organizer, &workshop(), &standard()).await;
        let (guest, order) = guest_with(world, &event, 4).await;
        let refunds_of = format!("/orders/{}/refunds", id_of(&order));
        let amounts = (0..6).map(|_| async {
            let some = json!({"amount": 5000, "reason": "goodwill"});
            organizer.post(&refunds_of, &some).await.status
        });
        let tickets = (0..4).map(|at| {
            let cancel = of_ticket(&order, at, "/cancel");
            let guest = &guest;
            async move { guest.put(&cancel, &json!({})).await.status }
        });
        let (amounts, tickets) = tokio::join!(join_all(amounts), join_all(tickets));
        assert!(
            amounts
                .iter()
                .all(|status| [201, 409, 422].contains(status)),
            "{amounts:?}"
        );
        assert!(
            tickets.iter().all(|status| [200, 409].contains(status)),
            "{tickets:?}"
        );
        world.run_jobs().await;
        let (open, done) = refunds(&guest, &order).await;
        assert_eq!(open, done);
        let order = again(&guest, &order).await;
        assert_eq!(order["refunded"], open);
        let by_amount = amounts.iter().filter(|status| **status == 201).count();
        assert!(open <= 18_000, "{open} of 18000 went back");
        assert!(open >= 5_000 * i64::try_from(by_amount).expect("few"));
        let back = tickets.iter().filter(|status| **status == 200).count();
        let back = i64::try_from(back).expect("few");
        assert_eq!(left(world, &event).await, 16 + back);
    })
    .await;
}

#[tokio::test]
async fn the_same_ticket_named_twice_is_one() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let (guest, order) = guest_with(world, &event, 3).await;
        let ticket = &order["tickets"][0]["id"];
        let refund = json!({"items": [ticket, ticket], "reason": "ill"});
        let refunds_of = format!("/orders/{}/refunds", id_of(&order));
        let refund = organizer.post(&refunds_of, &refund).await.expect(201);
        assert_eq!(refund["amount"], 4500);
        assert_eq!(left(world, &event).await, 3);
        world.run_jobs().await;
        assert_eq!(refunds(&guest, &order).await, (4500, 4500));
    })
    .await;
}
