//! What is on sale of an event.

use super::*;

#[tokio::test]
async fn a_ticket_type_is_changed_and_removed_until_it_is_sold() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = publish(&organizer, &create(&organizer).await).await;
        let only = event["ticket_types"][0]["id"].as_str().expect("an id").to_owned();
        let types = format!("{}/ticket-types", at(&event));
        let refused = organizer.delete(&format!("{types}/{only}")).await;
        assert_eq!(refused.refused(409, "EVENT_NOT_READY"), json!({"missing": ["a ticket type"]}));

        let late = json!({"name": "Late", "price": 900, "quantity": 5, "included_sessions": ["S1"], "hidden": true});
        world.pass(TimeDelta::minutes(1));
        let late = organizer.post(&types, &late).await.expect(201);
        let place = format!("{types}/{}", late["id"].as_str().expect("an id"));
        let shown = world.stranger().get(&types).await.expect(200);
        assert_eq!(shown["items"].as_array().map(Vec::len), Some(1), "hidden from the public");
        let change = json!({"price": 950, "hidden": false, "quantity": 4, "version": 1});
        let changed = organizer.put(&place, &change).await.expect(200);
        assert_eq!((&changed["price"], &changed["quantity"], &changed["version"]), (&json!(950), &json!(4), &json!(2)));
        let mut shown = world.stranger().get(&types).await.expect(200)["items"][1].clone();
        let live = shown.as_object_mut().and_then(|shown| shown.remove("availability"));
        assert_eq!(live.expect("live numbers")["available"], 4);
        assert_eq!(shown, changed);
        organizer.put(&place, &change).await.refused(409, "CONCURRENT_UPDATE");
        let odd = json!({"sales_start": "2026-02-02T00:00:00Z", "sales_end": "2026-02-01T00:00:00Z", "version": 2});
        assert_eq!(organizer.put(&place, &odd).await.bad_fields(), ["sales_end"]);

        sell(world, &late["id"], 3).await;
        let fewer = json!({"quantity": 2, "version": 2});
        let refused = organizer.put(&place, &fewer).await.refused(409, "CAPACITY_BELOW_SOLD");
        assert_eq!(refused, json!({"taken": 3}));
        let unlimited = json!({"quantity": null, "version": 2});
        organizer.put(&place, &unlimited).await.refused(409, "TICKET_TYPE_HAS_SALES");
        organizer.delete(&place).await.refused(409, "TICKET_TYPE_HAS_SALES");
        let mut shown = world.stranger().get(&types).await.expect(200)["items"][1].clone();
        let live = shown.as_object_mut().and_then(|shown| shown.remove("availability"));
        assert_eq!(live.expect("live numbers")["available"], 4);
        assert_eq!(shown, changed);
        sell(world, &late["id"], -3).await;
        organizer.delete(&place).await.expect(204);
        organizer.delete(&place).await.refused(404, "TICKET_TYPE_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn an_event_is_made_with_its_ticket_types_and_they_may_change_their_sessions() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut new = workshop();
        for alone in ["starts_at", "ends_at", "capacity"] {
            new.as_object_mut().expect("an object").remove(alone);
        }
        new["policies"] = json!("<p>No <script>photos()</script>photographs.</p>");
        new["sessions"] = json!([
            session("Friday", "2026-02-10T18:00:00Z", "2026-02-10T20:00:00Z"),
            session("Saturday", "2026-02-11T18:00:00Z", "2026-02-11T20:00:00Z"),
        ]);
        let kind = |name: &str, sessions: &[&str]| json!({"name": name, "price": 100, "included_sessions": sessions});
        new["ticket_types"] = json!([kind("Friday", &["S1"]), kind("Bad", &["S3"])]);
        new["ticket_types"][1]["min_per_order"] = json!(11);
        assert_eq!(
            organizer.post("/events", &new).await.bad_fields(),
            ["ticket_types[1].included_sessions[0]", "ticket_types[1].min_per_order"]
        );
        new["ticket_types"] = json!([kind("Friday", &["S1"]), kind("Both", &["S2", "S1"])]);
        new["ticket_types"][1]["quantity"] = json!(5);
        let event = organizer.post("/events", &new).await.expect(201);
        assert_eq!(event["policies"], "<p>No photographs.</p>");
        let types = &event["ticket_types"];
        assert_eq!((&types[0]["name"], &types[1]["included_sessions"]), (&json!("Friday"), &json!(["S1", "S2"])));
        let publish = json!({"status": "published", "version": 1});
        organizer.put(&format!("{}/status", at(&event)), &publish).await.expect(200);

        let friday = types[0]["id"].as_str().expect("an id");
        let hold = json!({"event_id": event["id"], "items": [{"ticket_type_id": friday, "quantity": 3}]});
        world.stranger().post("/holds", &hold).await.expect(201);
        let place = format!("{}/ticket-types/{friday}", at(&event));
        let odd = json!({"included_sessions": ["S2", "S2", "S9"], "version": 1});
        assert_eq!(organizer.put(&place, &odd).await.bad_fields(), ["included_sessions[1]", "included_sessions[2]"]);
        let saturday = json!({"included_sessions": ["S2"], "version": 1});
        let moved = organizer.put(&place, &saturday).await.expect(200);
        assert_eq!((&moved["included_sessions"], &moved["version"]), (&json!(["S2"]), &json!(2)));
        // Whoever holds it holds places of the other session now.
        let left = world.stranger().get(&format!("{}/availability", at(&event))).await.expect(200);
        let sessions = [&left["sessions"][0]["held"], &left["sessions"][1]["held"]];
        assert_eq!(sessions, [&json!(0), &json!(3)]);
    })
    .await;
}

#[tokio::test]
async fn the_least_of_an_order_fits_every_limit_whichever_side_is_changed() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = create(&organizer).await;
        let types = format!("{}/ticket-types", at(&event));
        let ticket = |more: Value| {
            let mut ticket = json!({"name": "Group", "price": 900, "included_sessions": ["S1"]});
            let more = more.as_object().expect("fields").clone();
            ticket.as_object_mut().expect("an object").extend(more);
            ticket
        };
        for (fields, bad) in [
            (json!({"min_per_order": 3, "max_per_order": 2}), "max_per_order"),
            (json!({"min_per_order": 3, "max_per_buyer": 2}), "max_per_buyer"),
            (json!({"min_per_order": 3, "quantity": 2}), "quantity"),
            (json!({"min_per_order": 11}), "min_per_order"),
        ] {
            let refused = organizer.post(&types, &ticket(fields.clone())).await;
            assert_eq!(refused.bad_fields(), [bad], "{fields}");
        }
        let fits = json!({"min_per_order": 3, "max_per_order": 3, "max_per_buyer": 3, "quantity": 3});
        let group = organizer.post(&types, &ticket(fits)).await.expect(201);
        let place = format!("{types}/{}", group["id"].as_str().expect("an id"));
        for (change, bad) in [
            (json!({"max_per_order": 2}), "max_per_order"),
            (json!({"max_per_buyer": 2}), "max_per_buyer"),
            (json!({"quantity": 2}), "quantity"),
            (json!({"min_per_order": 4}), "min_per_order"),
        ] {
            let refused = organizer.with("if-match", "\"1\"").put(&place, &change).await;
            assert_eq!(refused.bad_fields(), [bad], "{change}");
        }
        let unlimited = json!({"max_per_order": null, "max_per_buyer": null, "quantity": null, "min_per_order": 10, "version": 1});
        organizer.put(&place, &unlimited).await.expect(200);
        let eleven = json!({"min_per_order": 11, "version": 2});
        assert_eq!(organizer.put(&place, &eleven).await.bad_fields(), ["min_per_order"]);
        // The other side of that limit.
        let nine = json!({"max_tickets_per_order": 9, "version": 1});
        assert_eq!(organizer.put(&at(&event), &nine).await.bad_fields(), ["max_tickets_per_order"]);
        let wider = json!({"max_tickets_per_order": 12, "version": 1});
        organizer.put(&at(&event), &wider).await.expect(200);
        organizer.put(&place, &eleven).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn ticket_types_say_what_can_be_bought_of_them() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = create(&organizer).await;
        let event = publish(&organizer, &event).await;
        let kind = &event["ticket_types"][0]["id"];
        let hold =
            json!({"event_id": event["id"], "items": [{"ticket_type_id": kind, "quantity": 3}]});
        world.stranger().post("/holds", &hold).await.expect(201);
        let types = format!("{}/ticket-types", at(&event));
        let types = world.stranger().get(&types).await.expect(200);
        let [only] = types["items"].as_array().expect("types").as_slice() else {
            panic!("one type: {types}");
        };
        assert_eq!(
            (&only["id"], &only["availability"]["available"]),
            (kind, &json!(17))
        );
        assert_eq!(only["availability"]["is_available"], true);
    })
    .await;
}
