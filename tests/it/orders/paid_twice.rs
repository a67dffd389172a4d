//! A second payment of an order that is paid.

use sandbox::stripe::Order as Bring;
use tests::world;

use super::*;

#[tokio::test]
async fn a_second_payment_goes_back_and_the_order_stays_paid() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        let id = order["id"].as_str().expect("an id");
        let first = world.stripe().payments_with("order_id", id).remove(0);
        let second = stripe_api::NewPayment {
            amount_minor: first.amount,
            currency: first.currency.clone(),
            method: Some("pm_card_mastercard".to_owned()),
            confirm: true,
            metadata: first.metadata.clone().into_iter().collect(),
            ..stripe_api::NewPayment::default()
        };
        let second = world.app.stripe.create_payment(&second, "second").await;
        let second = second.expect("paid").id;
        world.stripe().deliver_webhooks(Bring::Reversed).await;
        world.run_jobs().await;

        let payments = world.stripe().payments_with("order_id", id);
        let refunded = payments
            .iter()
            .map(|payment| (&payment.id, payment.refunded));
        let refunded: Vec<_> = refunded.collect();
        assert_eq!(refunded, [(&first.id, 0), (&second, 4_500)]);
        let order = again(&guest, &order).await;
        assert_eq!(
            (&order["status"], &order["reason"]),
            (&json!("paid"), &json!(null))
        );
        assert_eq!(
            (&order["paid"], &order["refunded"]),
            (&json!(9_000), &json!(4_500))
        );
        assert_eq!(order["tickets"][0]["status"], "valid");
        let mails = world.inbox.messages();
        let words = mails.iter().filter_map(|mail| mail.text.as_deref());
        let told = words.filter(|text| text.contains("was paid twice"));
        assert_eq!(told.count(), 1);
        assert_eq!(left(world, &event).await, 4);
    })
    .await;
}
