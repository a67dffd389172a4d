//! Mails about what became of an order after it was paid.

use chrono::TimeDelta;
use serde_json::json;
use shared::ids::OrderId;
use shared::orders::jobs::Ask;
use tests::world;

use super::mails::mail_about;
use super::*;
use crate::orders::{again, card_order, event_of, place_of};

/// The words of the only mail with these in its subject.
fn words(world: &World, subject: &str) -> String {
    let mail = mail_about(world, subject);
    assert!(mail.html.is_some());
    mail.text.clone().expect("a text")
}

#[tokio::test]
async fn whoever_gives_a_ticket_back_hears_of_it_and_of_the_money() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 5).await;
        let (guest, order) = guest_with(world, &event, 2).await;
        world.inbox.clear();
        for _ in 0..2 {
            let cancel = of_ticket(&order, 0, "/cancel");
            guest.put(&cancel, &json!({})).await.expect(200);
            world.run_jobs().await;
        }
        let given = words(world, "Tickets for Rope Basics given back");
        let code = |at: usize| order["tickets"][at]["code"].as_str().expect("a code");
        assert!(
            given.contains(code(0)) && !given.contains(code(1)),
            "{given}"
        );
        assert!(given.contains("45.00 EUR goes back to you."), "{given}");
        assert!(!given.contains("is cancelled"), "{given}");
        let refunded = words(world, "Your refund for Rope Basics");
        assert!(
            refunded.contains("we have given 45.00 EUR back"),
            "{refunded}"
        );
        assert_eq!(world.inbox.messages().len(), 2);

        let cancel = of_ticket(&order, 1, "/cancel");
        guest.put(&cancel, &json!({})).await.expect(200);
        world.inbox.clear();
        world.run_jobs().await;
        let given = words(world, "given back");
        assert!(
            given.contains("your order for Rope Basics is cancelled"),
            "{given}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_ticket_that_brings_nothing_says_so() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_giving_back(&organizer, 0, 4500).await;
        let (guest, order) = guest_with(world, &event, 1).await;
        world.inbox.clear();
        let cancel = of_ticket(&order, 0, "/cancel");
        guest.put(&cancel, &json!({})).await.expect(200);
        world.run_jobs().await;
        let given = words(world, "given back");
        assert!(given.contains("No money goes back"), "{given}");
        assert_eq!(world.inbox.messages().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn everybody_hears_that_an_event_is_cancelled() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 9).await;
        guest_with(world, &event, 2).await;
        let mut waiting = card_order(&event, 1, "");
        waiting["payment"] = json!({"method": "manual"});
        waiting["email"] = json!("grace@example.org");
        world.stranger().post("/orders", &waiting).await.expect(202);
        world.run_jobs().await;
        world.inbox.clear();

        let status = format!("/events/{}/status", id_of(&event));
        let cancelled = json!({"status": "cancelled", "reason": "Storm", "version": 2});
        organizer.put(&status, &cancelled).await.expect(200);
        world.run_jobs().await;
        let all = world.inbox.messages();
        let to = |whom: &str| {
            let theirs = all.iter().filter(|mail| mail.to == [whom]);
            let mut theirs: Vec<_> = theirs
                .map(|m| (m.subject.as_str(), m.text.as_deref()))
                .collect();
            theirs.sort();
            theirs
        };
        let [(first, Some(cancelled)), (second, _)] = to("ada@example.org")[..] else {
            panic!("two mails: {all:?}")
        };
        assert_eq!(
            (first, second),
            ("Rope Basics is cancelled", "Your refund for Rope Basics")
        );
        assert!(
            cancelled.contains("90.00 EUR goes back to you."),
            "{cancelled}"
        );
        let [(_, Some(cancelled))] = to("grace@example.org")[..] else {
            panic!("one mail: {all:?}")
        };
        assert!(cancelled.contains("nothing to pay"), "{cancelled}");
    })
    .await;
}

/// Money that comes when the order has expired and its places are sold.
#[tokio::test]
async fn money_that_comes_too_late_is_announced_to_go_back() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 1).await;
        let guest = world.stranger();
        let mut slow = card_order(&event, 1, "");
        slow["payment"] = json!({"method": "manual"});
        let slow = guest.post("/orders", &slow).await.expect(202);
        world.pass(TimeDelta::days(8));
        let order_id = OrderId(id_of(&slow).parse().expect("an id"));
        world
            .change(async |tx| {
                tx.enqueue(&Ask { order_id });
                Ok(())
            })
            .await;
        world.run_jobs().await;
        assert_eq!(again(&guest, &slow).await["status"], "expired");
        guest_with(world, &event, 1).await;
        world.inbox.clear();

        let payments = format!("/orders/{}/payments", id_of(&slow));
        let late = organizer
            .post(&payments, &json!({"reference": "slip 7"}))
            .await;
        late.refused(409, "ORDER_NOT_MODIFIABLE");
        world.run_jobs().await;
        let told = words(world, "Your payment for Rope Basics goes back");
        assert!(
            told.contains("45.00 EUR") && told.contains("came too late"),
            "{told}"
        );
        let refunded = words(world, "Your refund");
        assert!(refunded.contains("from the organizer"), "{refunded}");
        assert_eq!(world.inbox.messages().len(), 2);
        guest.get(&place_of(&slow)).await.expect(200);
    })
    .await;
}
