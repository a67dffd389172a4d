//! Payments that a buyer's bank wants back, and what the organizer hears of money.

use sandbox::stripe::{Order as Bring, RefundStatus};
use tests::world;

use super::*;

/// What Stripe calls the payment of the only order that is paid.
async fn payment(world: &World) -> String {
    sqlx::query_scalar("select reference from ledger where kind = 'payment'")
        .fetch_one(world.app.pool())
        .await
        .expect("paid")
}

/// What the ledger says that banks took and brought back, as Stripe's books have it.
async fn moved(world: &World) -> Vec<i64> {
    let day = world.app.clock.now().date_naive();
    let report = shared::orders::audit::audit(&world.app, day).await;
    assert_eq!(report.expect("Stripe answers").differences, vec![]);
    sqlx::query_scalar("select amount from ledger where kind = 'dispute' order by seq")
        .fetch_all(world.app.pool())
        .await
        .expect("lines")
}

/// Stripe tells everything it has ever told, in this order.
async fn told_again(world: &World, order: Bring) {
    for known in world.stripe().events() {
        world.stripe().resend(known["id"].as_str().expect("an id"));
    }
    world.stripe().deliver_webhooks(order).await;
    world.run_jobs().await;
}

fn mails(world: &World, subject: &str) -> Vec<(Vec<String>, String)> {
    let mails = world.inbox.messages().into_iter();
    let about = mails.filter(|mail| mail.subject.contains(subject));
    about
        .map(|mail| (mail.to.clone(), mail.text.clone().unwrap_or_default()))
        .collect()
}

fn path(order: &Value, what: &str) -> String {
    format!("/orders/{}{what}", order["id"].as_str().expect("an id"))
}

#[tokio::test]
async fn money_that_the_bank_wants_back_does_not_leave_twice() {
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        world.member(ours.id, "owner").await;
        let event = event_of(&ours.organizer, 5).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        let dispute = world
            .stripe()
            .open_dispute(&payment(world).await)
            .expect("open");
        told_again(world, Bring::Reversed).await;
        told_again(world, Bring::AsMade).await;
        let order = again(&guest, &order).await;
        assert_eq!(
            (&order["disputed"], &order["status"]),
            (&json!(true), &json!("paid"))
        );

        let (ticket, secret) = (&order["tickets"][0]["id"], &order["secret"]);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let of_ticket =
            |what: &str| format!("/tickets/{}/{what}?secret={}", text(ticket), text(secret));
        let quote = guest.get(&of_ticket("cancellation")).await.expect(200);
        assert_eq!(
            (&quote["possible"], &quote["refund_amount"]),
            (&json!(false), &json!(0))
        );
        for cancel in [
            of_ticket("cancel"),
            place_of(&order).replace('?', "/cancel?"),
        ] {
            guest
                .put(&cancel, &json!({}))
                .await
                .refused(409, "ORDER_NOT_MODIFIABLE");
        }
        let [(to, words)] = &mails(world, "disputed")[..] else {
            panic!("one mail: {:?}", mails(world, "disputed"))
        };
        assert_eq!(to, &[format!("owner.{}@example.org", ours.id.0.simple())]);
        assert!(
            words.contains(&dispute) && words.contains("90.00 EUR"),
            "{words}"
        );
        assert!(!words.contains("secret"), "{words}");

        // The organizer may.
        let some = json!({"amount": 1000, "reason": "Goodwill"});
        ours.organizer
            .post(&path(&order, "/refunds"), &some)
            .await
            .expect(201);
        world.run_jobs().await;
        world.stripe().close_dispute(&dispute, true).expect("won");
        told_again(world, Bring::AsMade).await;
        assert_eq!(again(&guest, &order).await["disputed"], false);
        assert_eq!(moved(world).await, [-9000, 9000]);
        guest
            .put(&of_ticket("cancel"), &json!({}))
            .await
            .expect(200);
        assert_eq!(mails(world, "disputed").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_dispute_counts_as_it_stands_whatever_is_told_last() {
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        let owner = world.member(ours.id, "owner").await.client;
        let organization = format!("/organizations/{}", ours.id);
        let contact = json!({"contact": "desk@lighthouse.example", "version": 1});
        owner.put(&organization, &contact).await.expect(200);
        let event = event_of(&ours.organizer, 5).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        let dispute = world
            .stripe()
            .open_dispute(&payment(world).await)
            .expect("open");
        world.stripe().close_dispute(&dispute, true).expect("won");
        // That it is open is heard last.
        told_again(world, Bring::Reversed).await;
        assert_eq!(again(&guest, &order).await["disputed"], false);
        assert_eq!(
            mails(world, "disputed").len(),
            0,
            "there is nothing to answer"
        );
    })
    .await;
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        let owner = world.member(ours.id, "owner").await.client;
        let organization = format!("/organizations/{}", ours.id);
        let contact = json!({"contact": "desk@lighthouse.example", "version": 1});
        owner.put(&organization, &contact).await.expect(200);
        let event = event_of(&ours.organizer, 5).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        let dispute = world
            .stripe()
            .open_dispute(&payment(world).await)
            .expect("open");
        world.stripe().close_dispute(&dispute, false).expect("lost");
        told_again(world, Bring::Shuffled(5)).await;
        // The bank has given the money back: nobody else does.
        assert_eq!(again(&guest, &order).await["disputed"], true);
        assert_eq!(moved(world).await, [-4500]);
        let cancel = place_of(&order).replace('?', "/cancel?");
        guest
            .put(&cancel, &json!({}))
            .await
            .refused(409, "ORDER_NOT_MODIFIABLE");
        let all = mails(world, "disputed");
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].0, ["desk@lighthouse.example"]);
    })
    .await;
}

#[tokio::test]
async fn money_that_could_not_go_back_is_given_back_again() {
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        world.member(ours.id, "owner").await;
        let event = event_of(&ours.organizer, 5).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        let cancel = place_of(&order).replace('?', "/cancel?");
        guest.put(&cancel, &json!({})).await.expect(200);
        world.run_jobs().await;
        let before = again(&guest, &order).await;
        assert_eq!(
            (&before["status"], &before["refunded"]),
            (&json!("refunded"), &json!(9000))
        );
        let refund: String = sqlx::query_scalar("select provider_id from refunds")
            .fetch_one(world.app.pool())
            .await
            .expect("it is known");
        world
            .stripe()
            .end_refund(&refund, RefundStatus::Failed)
            .expect("it fails");
        told_again(world, Bring::Reversed).await;
        let owed = again(&guest, &order).await;
        assert_eq!(owed["refunded"], 0);
        assert_ne!(
            owed["version"], before["version"],
            "whoever has read it reads it again"
        );
        let told = mails(world, "failed");
        assert_eq!(told.len(), 1);
        assert!(told[0].1.contains("90.00 EUR"), "{told:?}");

        let again_now = json!({"reason": "The account was closed"});
        let refunds = path(&order, "/refunds");
        ours.organizer.post(&refunds, &again_now).await.expect(201);
        ours.organizer
            .post(&refunds, &again_now)
            .await
            .refused(409, "ORDER_NOT_MODIFIABLE");
        world.run_jobs().await;
        assert_eq!(again(&guest, &order).await["refunded"], 9000);
        assert_eq!(left(world, &event).await, 5);
    })
    .await;
}

#[tokio::test]
async fn what_the_policy_kept_can_still_be_given_back() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut event = workshop();
        event["refund_policy"] = json!({"full_until_hours": null, "partial_percent": 50, "partial_until_hours": 0,
                                        "keep_fees": false});
        let event = on_sale(&organizer, &event, &standard()).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        let cancel = place_of(&order).replace('?', "/cancel?");
        assert_eq!(guest.put(&cancel, &json!({})).await.expect(200)["refunded"], 4500);
        let refunds = path(&order, "/refunds");
        let much = json!({"amount": 4501, "reason": "Goodwill"});
        organizer.post(&refunds, &much).await.refused(422, "REFUND_EXCEEDS_PAYMENT");
        let rest = json!({"amount": 4500, "reason": "Goodwill"});
        organizer.post(&refunds, &rest).await.expect(201);
        world.run_jobs().await;
        let order = again(&guest, &order).await;
        assert_eq!((&order["status"], &order["refunded"]), (&json!("refunded"), &json!(9000)));
        assert_eq!(left(world, &event).await, 20);
    })
    .await;
}
