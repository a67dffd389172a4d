//! What must hold of orders and their money is noticed when it does not.

use std::collections::BTreeSet;

use sandbox::stripe::Order as Bring;
use tests::{INVARIANTS, World, world};

use super::*;

/// Which invariants say so when this is changed by hand.
async fn breaches(world: &World, meddling: &str) -> BTreeSet<String> {
    let mut db = world.app.pool().begin().await.expect("a transaction");
    // Neither the ledger nor the activities would let themselves be changed.
    for table in ["ledger", "activities"] {
        let unlocked = format!("alter table {table} disable trigger user");
        sqlx::query(sqlx::AssertSqlSafe(unlocked))
            .execute(&mut *db)
            .await
            .expect("unlocked");
    }
    let done = sqlx::query(sqlx::AssertSqlSafe(meddling.to_owned()));
    let done = done.execute(&mut *db).await.expect(meddling);
    assert!(done.rows_affected() > 0, "nothing was changed: {meddling}");
    let breaches: Vec<(String, String)> = sqlx::query_as(INVARIANTS)
        .bind(world.app.clock.now())
        .fetch_all(&mut *db)
        .await
        .expect("invariants");
    db.rollback().await.expect("as it was");
    breaches.into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn each_breach_of_what_must_hold_of_money_is_noticed() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let guest = world.stranger();
        let by_key = guest.with("Idempotency-Key", "one-order");
        let sold = bought(world, &by_key, &card_order(&event, 2, "pm_card_visa")).await;
        let refunds = format!("/orders/{}/refunds", sold["id"].as_str().expect("an id"));
        let some = json!({"amount": 1_050, "reason": "Rain"});
        organizer.post(&refunds, &some).await.expect(201);
        let mut new = card_order(&event, 1, "");
        new["payment"] = json!({"method": "client"});
        let waits = bought(world, &guest, &new).await;
        bought(world, &guest, &card_order(&event, 1, "pm_card_chargeDeclined")).await;
        world.stripe().deliver_webhooks(Bring::AsMade).await;
        world.run_jobs().await;
        assert_eq!(waits["status"], "requires_action");

        for (meddling, invariant) in [
            (
                "update orders set paid = total where status = 'failed'",
                "an order without tickets keeps no money but that of a refund which has failed",
            ),
            (
                "update orders set total = 1 where status = 'partially_refunded'",
                "what was paid for an order beyond its price goes back, unless a refund has failed",
            ),
            (
                "update ledger set amount = amount - 1 where kind = 'refund'",
                "a refund stands in the ledger as its status says",
            ),
            (
                "update refunds set status = 'processing'",
                "a refund stands in the ledger as its status says",
            ),
            (
                "update refunds set provider_id = null",
                "a refund that is on its way or was made has the provider's name for it",
            ),
            (
                "delete from refunds",
                "a line of the ledger about money that went back is of a refund",
            ),
            (
                "update orders set currency = 'ISK' where refunded > 0",
                "what goes back can be paid in its currency",
            ),
            (
                "update orders set currency = 'USD' where refunded > 0",
                "a line of the ledger has the currency, the event and the organization of its order",
            ),
            (
                "update payment_attempts set status = 'cancelled' where status = 'open'",
                "an order that waits for Stripe has one open attempt to be paid, and no other order has one",
            ),
            (
                "update payment_attempts set status = 'open' where status = 'failed'",
                "an order that waits for Stripe has one open attempt to be paid, and no other order has one",
            ),
            (
                "update payment_attempts set payment_id = 'pi_another' where status = 'paid'",
                "a payment by Stripe is that of an attempt of its order, or goes back",
            ),
            (
                "update tickets set price = price + 1",
                "the tickets of an order are those of its items, by type and price",
            ),
            (
                "update activities set data = jsonb_set(data, '{status,0}', '\"expired\"')
                 where kind = 'order.status_changed' and data -> 'status' ->> 1 = 'paid'",
                "an order goes from one status to the next as it may",
            ),
            (
                "update activities set data = jsonb_set(data, '{status}', '[\"pending\", \"refunded\"]')
                 where kind = 'order.status_changed' and data -> 'status' ->> 1 = 'failed'",
                "an order goes from one status to the next as it may",
            ),
            (
                "update orders set status = 'expired' where status = 'failed'",
                "an order stands where its last step has led",
            ),
            (
                "update orders set payment_deadline = payment_deadline - interval '1 day' where status = 'requires_action'",
                "no order waits longer than its deadline and what it takes to close its payment",
            ),
            (
                "update idempotency_keys
                 set headers = jsonb_set(headers, '{location}', '\"/api/v1/orders/00000000-0000-7000-8000-00000000000f\"')",
                "an answer that is kept of a placed order names an order",
            ),
            (
                "delete from mails where cause like 'order-paid:%'",
                "a buyer hears once that an order is paid",
            ),
        ] {
            let found = breaches(world, meddling).await;
            assert!(found.contains(invariant), "{meddling}: {found:?}");
        }
    })
    .await;
}

/// Money that Stripe has taken for an order and of which nothing is ever told.
#[tokio::test]
#[should_panic(expected = "the ledger and Stripe's books differ")]
async fn money_that_stripe_took_for_an_order_and_the_ledger_does_not_have_is_noticed() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let new = card_order(&event, 1, "pm_card_visa");
        let order = bought(world, &world.stranger(), &new).await;
        let twice = stripe_api::NewPayment {
            amount_minor: 4_500,
            currency: "eur".to_owned(),
            method: Some("pm_card_visa".to_owned()),
            confirm: true,
            metadata: [(
                "order_id".to_owned(),
                order["id"].as_str().expect("an id").to_owned(),
            )]
            .into(),
            ..stripe_api::NewPayment::default()
        };
        let paid = world.app.stripe.create_payment(&twice, "twice").await;
        paid.expect("paid");
        world.stripe().drop_webhooks();
    })
    .await;
}
