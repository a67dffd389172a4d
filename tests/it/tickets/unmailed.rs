//! Tickets that go back before they are mailed.

use shared::ids::OrderId;
use shared::orders::pay;
use tests::world;

use super::*;
use crate::orders::{again, place_of};

#[tokio::test]
async fn tickets_that_all_went_back_before_their_mail_are_not_mailed() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_giving_back(&organizer, 100, 4_500).await;
        let guest = world.stranger();
        let new = card_order(&event, 2, "pm_card_visa");
        let order = guest.post("/orders", &new).await.expect(202);
        // It is paid, and the job that mails the tickets waits.
        let id = id_of(&order).parse().map(OrderId).expect("an id");
        pay::purchase(&world.app, id).await.expect("paid");
        assert_eq!(again(&guest, &order).await["status"], "paid");
        let cancel = place_of(&order).replace('?', "/cancel?");
        guest.put(&cancel, &json!({})).await.expect(200);
        world.run_jobs().await;
        let mails = world.inbox.messages();
        let mut subjects: Vec<&str> = mails.iter().map(|mail| mail.subject.as_str()).collect();
        subjects.sort_unstable();
        assert_eq!(subjects.len(), 2, "{subjects:?}");
        assert!(
            !subjects.contains(&"Your tickets for Rope Basics"),
            "{subjects:?}"
        );
        let order = again(&guest, &order).await;
        assert_eq!(
            (&order["status"], &order["refunded"]),
            (&json!("refunded"), &json!(9_000))
        );
    })
    .await;
}
