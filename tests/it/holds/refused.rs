//! What keeps one from holding places.

use chrono::TimeDelta;
use serde_json::json;
use tests::{on_sale, standard, workshop, world};

use super::wanted;

#[tokio::test]
async fn what_cannot_be_held_is_refused_with_the_reason() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let organizer = &lighthouse.organizer;
        let mut kind = standard();
        kind["min_per_order"] = json!(2);
        kind["max_per_order"] = json!(4);
        kind["sales_start"] = json!("2026-01-16T00:00:00Z");
        let event = on_sale(organizer, &workshop(), &kind).await;
        let stranger = world.stranger();
        stranger
            .post("/holds", &wanted(&event, 2))
            .await
            .refused(409, "SALES_NOT_OPEN");
        world.pass(TimeDelta::days(1));
        for quantity in [1, 5] {
            let answer = stranger.post("/holds", &wanted(&event, quantity)).await;
            let details = answer.refused(422, "QUANTITY_LIMIT");
            assert_eq!((&details["min"], &details["max"]), (&json!(2), &json!(4)));
        }
        let mut twice = wanted(&event, 2);
        twice["items"] = json!([twice["items"][0], twice["items"][0]]);
        let bad = stranger.post("/holds", &twice).await.bad_fields();
        assert_eq!(bad, ["items[1].ticket_type_id"]);
        let mut other = wanted(&event, 2);
        other["items"][0]["ticket_type_id"] = event["id"].clone();
        stranger
            .post("/holds", &other)
            .await
            .refused(404, "TICKET_TYPE_NOT_FOUND");
        let mut other = wanted(&event, 2);
        other["event_id"] = event["ticket_types"][0]["id"].clone();
        stranger
            .post("/holds", &other)
            .await
            .refused(404, "EVENT_NOT_FOUND");

        let mut hidden = standard();
        hidden["hidden"] = json!(true);
        let event = on_sale(organizer, &workshop(), &hidden).await;
        stranger
            .post("/holds", &wanted(&event, 1))
            .await
            .refused(404, "TICKET_TYPE_NOT_FOUND");
        let mut members = standard();
        members["member_price"] = json!(3000);
        let event = on_sale(organizer, &workshop(), &members).await;
        let member = world.member(lighthouse.id, "member").await.client;
        let hold = member.post("/holds", &wanted(&event, 1)).await.expect(201);
        assert_eq!(hold["subtotal"], 3000);
        let hold = stranger
            .post("/holds", &wanted(&event, 1))
            .await
            .expect(201);
        assert_eq!(hold["subtotal"], 4500);
        world.pass(TimeDelta::days(30));
        stranger
            .post("/holds", &wanted(&event, 1))
            .await
            .refused(409, "SALES_ENDED");
    })
    .await;
}

#[tokio::test]
async fn what_is_for_the_vetted_is_held_by_the_vetted() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let mut new = workshop();
        new["required_vetting_level"] = json!(3);
        let event = on_sale(&lighthouse.organizer, &new, &standard()).await;
        let plain = world.member(lighthouse.id, "member").await;
        for client in [&world.stranger(), &plain.client] {
            let refused = client.post("/holds", &wanted(&event, 1)).await;
            refused.refused(404, "EVENT_NOT_FOUND");
        }
        sqlx::query("update members set vetting_level = 3 where user_id = $1")
            .bind(plain.id.0)
            .execute(world.app.pool())
            .await
            .expect("vetted");
        let vetted = plain.client;
        vetted.post("/holds", &wanted(&event, 1)).await.expect(201);
    })
    .await;
}
