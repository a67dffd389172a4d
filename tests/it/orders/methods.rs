//! The ways to pay, and the ways to hear how it went.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join;
use sandbox::stripe::Order as Bring;
use tests::world;

use super::*;

/// An order of a guest's that is paid in this way.
fn order_by(event: &Value, payment: &Value) -> Value {
    let mut new = card_order(event, 2, "");
    new["payment"] = payment.clone();
    new
}

/// Stripe tells everything that has happened, and it is seen to.
async fn told(world: &World) {
    world.stripe().deliver_webhooks(Bring::AsMade).await;
    world.run_jobs().await;
}

/// What Stripe calls the payment of an order that waits for its buyer.
fn payment_of(order: &Value) -> &str {
    let secret = order["client_secret"].as_str().expect("a secret");
    secret.split("_secret").next().expect("a payment")
}

async fn checkout_of(world: &World, order: &Value) -> String {
    let id: uuid::Uuid = order["id"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .expect("an id");
    sqlx::query_scalar("select checkout_id from payment_attempts where order_id = $1")
        .bind(id)
        .fetch_one(world.app.pool())
        .await
        .expect("a checkout")
}

/// Does something while workers work.
async fn while_working<T>(world: &World, something: impl Future<Output = T>) -> T {
    let done = AtomicBool::new(false);
    let something = async {
        let answer = something.await;
        done.store(true, SeqCst);
        answer
    };
    let working = async {
        while !done.load(SeqCst) {
            world.run_jobs().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    join(something, working).await.0
}

fn status(order: &Value) -> &str {
    order["status"].as_str().expect("a status")
}

#[tokio::test]
async fn a_checkout_is_paid_on_stripes_page() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let guest = world.stranger();
        let payment =
            json!({"method": "checkout", "return_url": "https://tickets.example.org/back"});
        let order = bought(world, &guest, &order_by(&event, &payment)).await;
        assert_eq!(status(&order), "requires_action");
        let page = order["payment_url"].as_str().expect("a page");
        let checkout = checkout_of(world, &order).await;
        assert!(page.contains(&checkout), "{page}");
        let declined = world
            .stripe()
            .pay_checkout(&checkout, "pm_card_chargeDeclined");
        declined.expect_err("the bank does not pay");
        told(world).await;
        assert_eq!(
            status(&again(&guest, &order).await),
            "requires_action",
            "another card may do"
        );

        world
            .stripe()
            .pay_checkout(&checkout, "pm_card_visa")
            .expect("paid");
        told(world).await;
        let order = again(&guest, &order).await;
        assert_eq!((status(&order), &order["paid"]), ("paid", &json!(9000)));
        assert_eq!(order["payment_url"], Value::Null);
        assert_eq!(
            world
                .stripe()
                .charges_of(order["id"].as_str().expect("an id")),
            1
        );
        assert_eq!(left(world, &event).await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_checkout_closes_with_its_order() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let guest = world.stranger();
        let new = order_by(&event, &json!({"method": "checkout"}));
        let (late, off) = (
            bought(world, &guest, &new).await,
            bought(world, &guest, &new).await,
        );
        let cancel = place_of(&off).replace('?', "/cancel?");
        for _ in 0..2 {
            assert_eq!(
                status(&guest.put(&cancel, &json!({})).await.expect(200)),
                "cancelled"
            );
        }
        world.pass(TimeDelta::minutes(33));
        shared::orders::chase(&world.app)
            .await
            .expect("Stripe answers");
        assert_eq!(status(&again(&guest, &late).await), "expired");
        for order in [&late, &off] {
            let checkout = checkout_of(world, order).await;
            let paid = world.stripe().pay_checkout(&checkout, "pm_card_visa");
            paid.expect_err("nobody can pay it any more");
        }
        told(world).await;
        assert_eq!(left(world, &event).await, 5);
    })
    .await;
}

#[tokio::test]
async fn a_browser_confirms_with_the_client_secret() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let guest = world.stranger();
        let order = bought(
            world,
            &guest,
            &order_by(&event, &json!({"method": "client"})),
        )
        .await;
        assert_eq!(
            (status(&order), &order["tickets"]),
            ("requires_action", &json!([]))
        );
        let (stripe, payment) = (world.stripe(), payment_of(&order));
        stripe
            .confirm(payment, "pm_card_authenticationRequired")
            .expect("the bank asks");
        stripe
            .authenticate(payment, false)
            .expect("the buyer does not know");
        told(world).await;
        assert_eq!(
            status(&again(&guest, &order).await),
            "requires_action",
            "another card may do"
        );
        stripe
            .confirm(payment, "pm_card_authenticationRequired")
            .expect("the bank asks");
        stripe.authenticate(payment, true).expect("the buyer knows");
        told(world).await;
        let order = again(&guest, &order).await;
        assert_eq!(
            (status(&order), &order["client_secret"]),
            ("paid", &Value::Null)
        );
        assert_eq!(stripe.charges_of(order["id"].as_str().expect("an id")), 1);
    })
    .await;
}

#[tokio::test]
async fn a_card_whose_bank_asks_waits_for_the_buyer() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let guest = world.stranger();
        for (succeeds, ends) in [(true, "paid"), (false, "failed")] {
            let new = card_order(&event, 2, "pm_card_authenticationRequired");
            let order = bought(world, &guest, &new).await;
            assert_eq!(status(&order), "requires_action");
            let payment = payment_of(&order);
            world
                .stripe()
                .authenticate(payment, succeeds)
                .expect("answered");
            told(world).await;
            let order = again(&guest, &order).await;
            assert_eq!(status(&order), ends, "{order}");
            assert_eq!(left(world, &event).await, 3);
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_prefers_to_wait_hears_the_end() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 9).await;
        let guest = world.stranger().with("Prefer", "respond-async, wait=20");
        let good = card_order(&event, 2, "pm_card_visa");
        let order = while_working(world, guest.post("/orders", &good))
            .await
            .expect(201);
        assert_eq!(
            (status(&order), order["tickets"].as_array().map(Vec::len)),
            ("paid", Some(2))
        );

        let bad = card_order(&event, 2, "pm_card_chargeDeclinedInsufficientFunds");
        let refused = while_working(world, guest.post("/orders", &bad)).await;
        let details = refused.refused(402, "PAYMENT_DECLINED");
        assert_eq!(details["decline_code"], "insufficient_funds");
        assert!(details["order_id"].is_string(), "{details}");
        assert_eq!(left(world, &event).await, 7);

        // Whoever has to act hears so at once.
        let ask = order_by(&event, &json!({"method": "client"}));
        let order = while_working(world, guest.post("/orders", &ask))
            .await
            .expect(202);
        assert_eq!(status(&order), "requires_action");
        let hasty = world.stranger().with("Prefer", "wait=1");
        let order = hasty.post("/orders", &good).await.expect(202);
        assert_eq!(status(&order), "pending", "nobody works");
        world.run_jobs().await;
    })
    .await;
}

#[tokio::test]
async fn tickets_are_bought_in_one_call() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let place = format!("/events/{}/tickets/purchase", event["id"].as_str().expect("an id"));
        let mut new = json!({
            "ticket_type_id": event["ticket_types"][0]["id"], "quantity": 2, "email": "ada@example.org",
            "attendees": [{"name": "Ada"}], "payment_method": "card", "payment_token": "pm_card_visa",
        });
        let guest = world.stranger().with("Idempotency-Key", "once");
        let order = while_working(world, guest.post(&place, &new)).await.expect(201);
        assert_eq!(order["tickets"][1]["attendee"]["name"], "Ada");
        let same = while_working(world, guest.post(&place, &new)).await.expect(201);
        assert_eq!(same["id"], order["id"]);
        assert_eq!(left(world, &event).await, 3);
        new["payment_token"] = json!("pm_card_chargeDeclined");
        let refused = while_working(world, world.stranger().post(&place, &new)).await;
        let details = refused.refused(402, "PAYMENT_DECLINED");
        assert_eq!(details["decline_code"], "declined");
        assert_eq!(left(world, &event).await, 3);
    })
    .await;
}

#[tokio::test]
async fn an_order_is_waited_for_and_followed() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let guest = world.stranger();
        let order = guest
            .post("/orders", &card_order(&event, 2, "pm_card_visa"))
            .await
            .expect(202);
        let (opened, place) = opened(&guest, &order);
        let mut follower = opened.follow(&format!("{place}/stream")).await;
        assert_eq!(status(&follower.next().await.expect("as it is")), "pending");
        let wait = format!("{}&wait=20", place_of(&order));
        let waited = while_working(world, guest.get(&wait)).await.expect(200);
        assert_eq!(status(&waited), "paid");
        let end = follower.until(|order| order["status"] == "paid").await;
        assert_eq!(end["tickets"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            follower.next().await,
            None,
            "there is nothing to follow any more"
        );
    })
    .await;
}

#[tokio::test]
async fn whoever_is_signed_in_needs_no_address_and_no_secret() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let (ada, grace) = (
            world.person("ada").await.client,
            world.person("grace").await.client,
        );
        let mut new = card_order(&event, 1, "pm_card_visa");
        new.as_object_mut().expect("an order").remove("email");
        let bad = world.stranger().post("/orders", &new).await.bad_fields();
        assert_eq!(bad, ["email"]);
        let order = ada.post("/orders", &new).await.expect(202);
        assert_eq!(
            (&order["email"], &order["secret"]),
            (&json!("ada@example.org"), &Value::Null)
        );
        world.run_jobs().await;
        let place = format!("/orders/{}", order["id"].as_str().expect("an id"));
        assert_eq!(status(&ada.get(&place).await.expect(200)), "paid");
        for other in [&grace, &world.stranger()] {
            other.get(&place).await.refused(404, "ORDER_NOT_FOUND");
            let cancel = other.put(&format!("{place}/cancel"), &json!({})).await;
            cancel.refused(404, "ORDER_NOT_FOUND");
        }
        let mine = ada.get("/users/me/orders").await.expect(200);
        assert_eq!(
            (&mine["total"], &mine["items"][0]["id"]),
            (&json!(1), &order["id"])
        );
        assert_eq!(grace.get("/users/me/orders").await.expect(200)["total"], 0);
    })
    .await;
}

#[tokio::test]
async fn a_guest_opens_their_order_with_its_secret_alone() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        let place = format!("/orders/{}", order["id"].as_str().expect("an id"));
        let secret = order["secret"].as_str().expect("a secret");
        guest
            .with("Order-Secret", secret)
            .get(&place)
            .await
            .expect(200);
        for wrong in ["", "x", &secret[1..], &secret.to_uppercase()] {
            let asked = guest.get(&format!("{place}?secret={wrong}")).await;
            asked.refused(404, "ORDER_NOT_FOUND");
            let asked = guest
                .put(&format!("{place}/cancel?secret={wrong}"), &json!({}))
                .await;
            asked.refused(404, "ORDER_NOT_FOUND");
        }
        let other = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        let crossed = format!(
            "{place}?secret={}",
            other["secret"].as_str().expect("a secret")
        );
        guest.get(&crossed).await.refused(404, "ORDER_NOT_FOUND");
    })
    .await;
}

/// Who may read orders and not how to reach people is told neither that, nor what opens an order to its buyer.
#[tokio::test]
async fn who_looks_after_orders_sees_what_they_may_see() {
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        let mut event = workshop();
        event["is_sensitive"] = json!(true);
        let event = on_sale(&ours.organizer, &event, &standard()).await;
        let mut new = card_order(&event, 1, "pm_card_visa");
        new["attendees"] = json!([{"name": "Ada Lovelace", "email": "ada@example.org",
                                   "emergency_contact": "Charles, +44 1"}]);
        let order = bought(world, &world.stranger(), &new).await;
        let role = json!({"name": "Looker", "rights": ["orders:read"]});
        let owner = world.member(ours.id, "owner").await.client;
        let roles = format!("/organizations/{}/roles", ours.id);
        let role = owner.post(&roles, &role).await.expect(201);
        let looker = world.member(ours.id, "member").await;
        let member = format!("/organizations/{}/members/{}", ours.id, looker.id);
        owner
            .put(&member, &json!({"role_id": role["id"]}))
            .await
            .expect(200);

        let place = format!(
            "/orders/{}?secret=guessed",
            order["id"].as_str().expect("an id")
        );
        let seen = looker.client.get(&place).await.expect(200);
        assert_eq!(
            (&seen["email"], &seen["secret"]),
            (&Value::Null, &Value::Null)
        );
        let attendee = &seen["tickets"][0]["attendee"];
        assert_eq!(attendee["name"], "A.L.");
        assert_eq!(
            (&attendee["email"], &attendee["emergency_contact"]),
            (&Value::Null, &Value::Null)
        );
        let seen = ours.organizer.get(&place).await.expect(200);
        assert_eq!(
            (&seen["email"], &seen["secret"]),
            (&json!("ada@example.org"), &Value::Null)
        );
    })
    .await;
}

#[tokio::test]
async fn an_amount_that_stripe_does_not_take_is_declined() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut kind = standard();
        kind["price"] = json!(20);
        let event = on_sale(&organizer, &workshop(), &kind).await;
        let guest = world.stranger();
        for payment in [
            json!({"method": "card", "token": "pm_card_visa"}),
            json!({"method": "client"}),
            json!({"method": "checkout"}),
        ] {
            let order = bought(world, &guest, &order_by(&event, &payment)).await;
            assert_eq!(
                (status(&order), &order["reason"]),
                ("failed", &json!("amount_too_small"))
            );
            assert_eq!(left(world, &event).await, 20);
        }
    })
    .await;
}
