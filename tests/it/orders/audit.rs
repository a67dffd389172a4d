//! The books of a day, held against Stripe's.

use chrono::TimeDelta;
use shared::orders::audit::{Report, audit};
use tests::world;

use super::*;

async fn books(world: &World) -> Report {
    let day = world.app.clock.now().date_naive();
    audit(&world.app, day).await.expect("Stripe answers")
}

#[tokio::test]
async fn the_books_of_a_day_agree_and_a_planted_difference_is_found() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 50).await;
        let guest = world.stranger();
        let mut orders = Vec::new();
        for card in ["pm_card_visa", "pm_card_mastercard", "pm_card_amex"] {
            orders.push(bought(world, &guest, &card_order(&event, 2, card)).await);
        }
        bought(world, &guest, &card_order(&event, 1, "pm_card_chargeDeclined")).await;
        let refund = format!("/orders/{}/refunds", orders[0]["id"].as_str().expect("an id"));
        let some = json!({"amount": 1000, "reason": "Late"});
        organizer.post(&refund, &some).await.expect(201);
        world.run_jobs().await;
        let report = books(world).await;
        assert_eq!((report.compared, report.differences), (4, vec![]));

        // Money that Stripe has moved and our books do not know.
        let new = stripe_api::NewPayment {
            amount_minor: 777,
            currency: "eur".to_owned(),
            method: Some("pm_card_visa".to_owned()),
            confirm: true,
            metadata: [("order_id".to_owned(), "planted".to_owned())].into(),
            ..stripe_api::NewPayment::default()
        };
        let planted = world.app.stripe.create_payment(&new, "planted").await.expect("paid");
        // Of some other shop on the same account, which is none of our business.
        let other = stripe_api::NewPayment {
            metadata: std::collections::BTreeMap::default().into_iter().collect(),
            ..new
        };
        let other = world.app.stripe.create_payment(&other, "other").await.expect("paid");
        let back = stripe_api::NewRefund {
            payment: other.id,
            amount_minor: 77,
            ..stripe_api::NewRefund::default()
        };
        world.app.stripe.refund(&back, "back").await.expect("given back");
        let found = books(world).await.differences;
        let [found] = found.as_slice() else {
            panic!("one was planted: {found:?}");
        };
        assert_eq!(
            found.to_string(),
            format!("{}: the ledger says nothing, Stripe says 777 EUR", planted.id)
        );

        // Money in our books that never moved.
        sqlx::query(
            "insert into ledger (organization_id, event_id, order_id, kind, amount, currency, provider, reference, at)
             select organization_id, event_id, id, 'payment', 0, currency, 'stripe', 'pi_planted', $1 from orders limit 1",
        )
        .bind(world.app.clock.now())
        .execute(world.app.pool())
        .await
        .expect("planted");
        assert_eq!(books(world).await.differences.len(), 2);
        world.pass(TimeDelta::days(3));
        assert_eq!(books(world).await.compared, 0);
    })
    .await;
}
