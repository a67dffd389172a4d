//! Money that comes when its order is over, and other limits hold by then.

use super::late::{HASTY, charged_late, expired_too_early, has_gone_back};
use super::*;

/// An event with a total, and a ticket type with a quantity.
async fn event_with_limits(organizer: &Client) -> Value {
    let (mut event, mut kind) = (workshop(), standard());
    event["total_capacity"] = json!(4);
    kind["quantity"] = json!(4);
    on_sale(organizer, &event, &kind).await
}

fn place_of_event(event: &Value) -> String {
    format!("/events/{}", id_of(event))
}

fn place_of_type(event: &Value) -> String {
    let kind = id_of(&event["ticket_types"][0]);
    format!("{}/ticket-types/{kind}", place_of_event(event))
}

#[tokio::test]
async fn late_money_is_kept_when_the_limits_of_its_order_were_removed_and_places_exist() {
    world_with(&HASTY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_with_limits(&organizer).await;
        let order = expired_too_early(world, &event).await;
        let no_quantity = json!({"quantity": null, "version": 1});
        let kind = place_of_type(&event);
        organizer.put(&kind, &no_quantity).await.expect(200);
        let no_total = json!({"total_capacity": null, "version": event["version"]});
        let place = place_of_event(&event);
        organizer.put(&place, &no_total).await.expect(200);
        charged_late(world).await;
        is_paid_once(world, &order, 2).await;
        assert_eq!(left(world, &event).await, 18, "of the session alone");
    })
    .await;
}

#[tokio::test]
async fn late_money_goes_back_when_a_limit_came_since_and_is_reached() {
    world_with(&HASTY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let order = expired_too_early(world, &event).await;
        let total = json!({"total_capacity": 1, "version": event["version"]});
        let place = place_of_event(&event);
        organizer.put(&place, &total).await.expect(200);
        charged_late(world).await;
        world.stripe().deliver_webhooks(Bring::AsMade).await;
        world.run_jobs().await;
        has_gone_back(world, &order).await;
        assert_eq!(left(world, &event).await, 1);
    })
    .await;
}
