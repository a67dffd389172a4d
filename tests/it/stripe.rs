//! The world's Stripe: reached by the product, on the test's clock.

use chrono::TimeDelta;
use sandbox::stripe::Fault;
use stripe_api::{NewPayment, PaymentStatus, webhook};
use tests::{WEBHOOK_SECRET, world};

#[tokio::test]
async fn the_product_pays_at_the_worlds_stripe() {
    world(async |world| {
        world.pass(TimeDelta::days(3));
        let now = world.app.clock.now().timestamp();
        let new = NewPayment {
            amount_minor: 1_000,
            currency: "eur".to_owned(),
            method: Some("pm_card_visa".to_owned()),
            confirm: true,
            metadata: [("order_id".to_owned(), "order-1".to_owned())].into(),
            ..NewPayment::default()
        };
        world
            .stripe()
            .misbehave("payment_intents.create", Fault::CutAfter, 1);
        let paid = world.app.stripe.create_payment(&new, "key").await;
        let paid = paid.expect("an answer");
        assert_eq!((paid.status, paid.created), (PaymentStatus::Succeeded, now));
        assert_eq!(world.stripe().charges_of("order-1"), 1);

        let event = world.stripe().events().remove(0).to_string();
        let signature = sandbox::stripe::sign(WEBHOOK_SECRET, now, event.as_bytes());
        let stripe = &world.app.config.stripe;
        let heard = webhook::verify(
            event.as_bytes(),
            &signature,
            &stripe.webhook_secrets.0,
            now,
            stripe.webhook_tolerance.0,
        );
        assert_eq!(heard.expect("genuine").object_id, Some(paid.id));
    })
    .await;
}
