//! The public list: finding events by words, filters and prices.

use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::stock;
use tests::{Client, World, harbour_hall, workshop, world};

/// An event on sale, with one ticket type of each price.
async fn on_sale(organizer: &Client, new: &Value, prices: &[i64]) -> Value {
    let event = organizer.post("/events", new).await.expect(201);
    let place = format!("/events/{}", text(&event["id"]));
    for price in prices {
        let ticket = json!({"name": "Ticket", "price": price, "included_sessions": ["S1"]});
        let types = format!("{place}/ticket-types");
        organizer.post(&types, &ticket).await.expect(201);
    }
    let publish = json!({"status": "published", "version": 1});
    organizer
        .put(&format!("{place}/status"), &publish)
        .await
        .expect(200)
}

fn titled(title: &str) -> Value {
    let mut new = workshop();
    new["title"] = json!(title);
    new
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// The titles that the public list answers, in its order.
async fn titles(client: &Client, query: &str) -> Vec<String> {
    let list = client.get(&format!("/events?{query}")).await.expect(200);
    let items = list["items"].as_array().expect("items").iter();
    items
        .map(|event| text(&event["title"]).to_owned())
        .collect()
}

async fn sell(world: &World, pool: &Value, number: i32) {
    let pool: uuid::Uuid = text(pool).parse().expect("an id");
    sqlx::query("update pools set sold = sold + $2, version = version + 1 where id = $1")
        .bind(pool)
        .bind(number)
        .execute(world.app.pool())
        .await
        .expect("places");
    stock::reconcile(&world.app).await.expect("told");
}

#[tokio::test]
async fn words_are_found_wherever_they_stand_and_titles_first() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let hall = organizer.post("/venues", &harbour_hall()).await.expect(201);
        let mut opera = titled("Carmen am Abend");
        opera["venue_id"] = hall["id"].clone();
        opera["short_description"] = json!("Große Oper");
        opera["description"] =
            json!("<p class=\"sailing\">Ein Knoten &amp; ein <b>Café</b>/Bistro</p>");
        on_sale(&organizer, &opera, &[100]).await;
        let mut knots = titled("Knoten für Segler");
        knots["short_description"] = json!("Rock/Pop dazu");
        on_sale(&organizer, &knots, &[100]).await;
        on_sale(&organizer, &titled("Node.js at the Open-Air"), &[100]).await;

        let stranger = world.stranger();
        for (query, found) in [
            ("q=knoten", vec!["Knoten für Segler", "Carmen am Abend"]),
            (
                "q=knoten&sort=title&order=asc",
                vec!["Carmen am Abend", "Knoten für Segler"],
            ),
            (
                "q=knoten&order=asc",
                vec!["Carmen am Abend", "Knoten für Segler"],
            ),
            ("search=CAFE", vec!["Carmen am Abend"]),
            ("q=fur+segl", vec!["Knoten für Segler"]),
            ("q=grosse+oper", vec!["Carmen am Abend"]),
            ("q=hamburg", vec!["Carmen am Abend"]),
            ("q=harbour+hall", vec!["Carmen am Abend"]),
            ("q=pop", vec!["Knoten für Segler"]),
            ("q=node", vec!["Node.js at the Open-Air"]),
            ("q=open-ai", vec!["Node.js at the Open-Air"]),
            ("q=%22am+abend%22", vec!["Carmen am Abend"]),
            ("q=%22abend+am%22+-x", vec![]),
            ("q=knoten+-segler", vec!["Carmen am Abend"]),
            (
                "q=carmen+or+node&sort=title",
                vec!["Carmen am Abend", "Node.js at the Open-Air"],
            ),
            // Typos, in a title, a venue and a city; not what only the HTML says.
            ("q=Knotne+fur+segler", vec!["Knoten für Segler"]),
            ("q=habrour+hall", vec!["Carmen am Abend"]),
            ("q=hambrug", vec!["Carmen am Abend"]),
            ("q=sailing", vec![]),
            ("q=zzzzzz", vec![]),
        ] {
            assert_eq!(titles(&stranger, query).await, found, "{query}");
        }
        for harmless in [
            "q=",
            "q=%27%27%3A*%26%21",
            "q=%25_%5C",
            "q=-",
            "q=+",
            "q=%22",
        ] {
            titles(&stranger, harmless).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_is_found_by_what_its_venue_is_called_today() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let hall = organizer.post("/venues", &harbour_hall()).await.expect(201);
        let place = format!("/venues/{}", text(&hall["id"]));
        let mut new = workshop();
        new["venue_id"] = hall["id"].clone();
        on_sale(&organizer, &new, &[100]).await;
        let rename = json!({"name": "Elbspeicher", "city": "Altona", "version": 1});
        organizer.put(&place, &rename).await.expect(200);
        let stranger = world.stranger();
        for (query, found) in [
            ("q=hamburg", 0),
            ("q=elbspeicher", 1),
            ("q=harbour", 0),
            ("city=hamburg", 0),
            ("city=altona", 1),
            ("city=ALTONA&event_type=class&show_past=true", 1),
            ("q=alto", 1),
        ] {
            assert_eq!(titles(&stranger, query).await.len(), found, "{query}");
        }
        let summary = stranger.get("/events").await.expect(200)["items"][0].clone();
        assert_eq!(
            (&summary["venue_name"], &summary["city"]),
            (&json!("Elbspeicher"), &json!("Altona"))
        );
        let nowhere = json!({"venue_id": null, "version": summary["version"]});
        let event = format!("/events/{}", text(&summary["id"]));
        organizer.put(&event, &nowhere).await.expect(200);
        assert_eq!(titles(&stranger, "city=altona").await.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn filters_combine_and_sorts_go_both_ways() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let organizer = &lighthouse.organizer;
        let teacher = world.member(lighthouse.id, "teacher").await;
        let hall = organizer.post("/venues", &harbour_hall()).await.expect(201);
        let mut cheap = titled("Beta");
        cheap["venue_id"] = hall["id"].clone();
        cheap["organizer_ids"] = json!([teacher.id]);
        on_sale(organizer, &cheap, &[500, 9_000]).await;
        world.pass(TimeDelta::minutes(1));
        let mut dear = titled("alpha");
        dear["starts_at"] = json!("2026-02-09T18:00:00Z");
        dear["event_type"] = json!("concert");
        dear["is_featured"] = json!(true);
        on_sale(organizer, &dear, &[4_000]).await;
        world.pass(TimeDelta::minutes(1));
        on_sale(organizer, &titled("Gamma"), &[0]).await;

        let stranger = world.stranger();
        let combined = format!(
            "city=hamburg&venue_id={}&organizer_id={}&organization_id={}&event_type=class&category=WORKSHOPS\
             &price_min=500&price_max=600&available=true&featured=false&q=beta&show_past=true\
             &date_from=2026-02-01T00:00:00Z&date_to=2026-03-01T00:00:00Z",
            text(&hall["id"]), teacher.id, lighthouse.id
        );
        for (query, found) in [
            (combined.as_str(), vec!["Beta"]),
            ("sort=date", vec!["alpha", "Beta", "Gamma"]),
            ("sort=title", vec!["alpha", "Beta", "Gamma"]),
            ("sort=title&order=desc", vec!["Gamma", "Beta", "alpha"]),
            ("sort=newest", vec!["Gamma", "alpha", "Beta"]),
            ("sort=newest&order=asc", vec!["Beta", "alpha", "Gamma"]),
            ("sort=price", vec!["Gamma", "Beta", "alpha"]),
            ("sort=price&order=desc", vec!["alpha", "Beta", "Gamma"]),
            ("price_max=0", vec!["Gamma"]),
            ("price_min=3000&sort=title", vec!["alpha", "Beta"]),
            ("price_min=1000&price_max=4500", vec!["alpha"]),
            ("price_min=600&price_max=3999", vec![]),
            ("price_min=600&price_max=500", vec![]),
            ("price_min=9000&price_max=9223372036854775807", vec!["Beta"]),
            ("price_min=-9223372036854775808&price_max=0", vec!["Gamma"]),
            ("event_type=concert&price_max=100", vec![]),
            ("sort=title&limit=1&page=2", vec!["Beta"]),
        ] {
            assert_eq!(titles(&stranger, query).await, found, "{query}");
        }
        let nobody = format!("organizer_id={}", world.person("nobody").await.id);
        assert_eq!(titles(&stranger, &nobody).await.len(), 0);
        let bad = stranger.get("/events?sort=cheapest").await;
        bad.refused(400, "VALIDATION_FAILED");
        let bad = stranger.get("/events?price_min=much").await;
        bad.refused(400, "VALIDATION_FAILED");
        let featured = stranger.get("/events/featured").await.expect(200);
        assert_eq!((&featured["total"], &featured["items"][0]["title"]), (&json!(1), &json!("alpha")));
    })
    .await;
}

#[tokio::test]
async fn prices_follow_the_windows_of_sales() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = organizer.post("/events", &workshop()).await.expect(201);
        let place = format!("/events/{}", text(&event["id"]));
        let types = format!("{place}/ticket-types");
        let early = json!({"name": "Early", "price": 1_000, "included_sessions": ["S1"], "sales_end": "2026-01-20T00:00:00Z"});
        let late = json!({"name": "Late", "price": 2_000, "included_sessions": ["S1"], "sales_start": "2026-01-20T00:00:00Z"});
        let secret = json!({"name": "Friends", "price": 1, "included_sessions": ["S1"], "hidden": true});
        for ticket in [&early, &late, &secret] {
            organizer.post(&types, ticket).await.expect(201);
        }
        let publish = json!({"status": "published", "version": 1});
        organizer.put(&format!("{place}/status"), &publish).await.expect(200);

        let stranger = world.stranger();
        let shown = stranger.get("/events").await.expect(200)["items"][0].clone();
        assert_eq!((&shown["lowest_price"], &shown["highest_price"]), (&json!(1_000), &json!(1_000)));
        assert_eq!(titles(&stranger, "price_max=1500").await.len(), 1);
        world.pass(TimeDelta::days(5));
        let shown = stranger.get("/events").await.expect(200)["items"][0].clone();
        assert_eq!((&shown["lowest_price"], &shown["highest_price"]), (&json!(2_000), &json!(2_000)));
        assert_eq!(world.change(async |tx| shared::events::follow_prices(tx, 10).await).await, 1);
        assert_eq!(world.change(async |tx| shared::events::follow_prices(tx, 10).await).await, 0);
        assert_eq!(titles(&stranger, "price_max=1500").await.len(), 0);
        assert_eq!(titles(&stranger, "price_min=1500").await.len(), 1);
        assert_eq!(titles(&stranger, "price_min=1500&price_max=2500").await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn summaries_tell_how_many_tickets_of_one_type_are_left() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut new = workshop();
        for alone in ["starts_at", "ends_at", "capacity"] {
            new.as_object_mut().expect("an object").remove(alone);
        }
        new["sessions"] = json!([
            {"name": "A", "starts_at": "2026-02-10T18:00:00Z", "ends_at": "2026-02-10T20:00:00Z", "capacity": 20},
            {"name": "B", "starts_at": "2026-02-11T18:00:00Z", "ends_at": "2026-02-11T20:00:00Z", "capacity": 30},
        ]);
        let event = organizer.post("/events", &new).await.expect(201);
        let place = format!("/events/{}", text(&event["id"]));
        let types = format!("{place}/ticket-types");
        let both = json!({"name": "Both", "price": 10, "included_sessions": ["S1", "S2"], "min_per_order": 2});
        organizer.post(&types, &both).await.expect(201);
        let few = json!({"name": "Few", "price": 20, "included_sessions": ["S2"], "quantity": 5});
        let few = organizer.post(&types, &few).await.expect(201);

        let mine = organizer.get("/admin/events").await.expect(200)["items"][0].clone();
        assert_eq!(mine["available_spots"], 0, "a draft sells nothing");
        let publish = json!({"status": "published", "version": 1});
        organizer.put(&format!("{place}/status"), &publish).await.expect(200);
        let stranger = world.stranger();
        let shown = async |left: i32, sold_out: bool| {
            let list = stranger.get("/events").await.expect(200);
            let found = &list["items"][0];
            assert_eq!((&found["available_spots"], &found["sold_out"]), (&json!(left), &json!(sold_out)), "{found}");
            let available = stranger.get("/events?available=true").await.expect(200);
            assert_eq!(available["total"], i32::from(!sold_out));
            found.clone()
        };
        let first = shown(20, false).await;
        assert_eq!((&first["session_count"], &first["total_capacity"]), (&json!(2), &json!(30)));
        assert_eq!((&first["upcoming"], &first["past"]), (&json!(true), &json!(false)));
        // One place of S1 is less than an order of both must have, so the few are left.
        sell(world, &event["sessions"][0]["id"], 19).await;
        shown(5, false).await;
        sell(world, &few["id"], 5).await;
        shown(0, true).await;
        sell(world, &event["sessions"][0]["id"], -10).await;
        shown(11, false).await;
        let limited = json!({"total_capacity": 7, "version": 2});
        organizer.put(&place, &limited).await.expect(200);
        assert_eq!(shown(7, false).await["total_capacity"], 7);
        sell(world, &event["sessions"][0]["id"], -9).await;
        sell(world, &few["id"], -5).await;
    })
    .await;
}

#[tokio::test]
async fn a_long_list_is_counted_to_sixty_and_leafed_through_to_its_end() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = on_sale(&organizer, &workshop(), &[100]).await;
        let id: uuid::Uuid = text(&event["id"]).parse().expect("an id");
        let copies = "insert into events (id, organization_id, title, slug, event_type, image_urls, teacher_ids, time_zone,
                          currency, status, starts_at, ends_at, max_tickets_per_order, required_vetting_level, is_featured,
                          is_sensitive, version, created_at, updated_at)
                      select gen_random_uuid(), organization_id, title, slug || n, event_type, image_urls, teacher_ids,
                             time_zone, currency, status, starts_at, ends_at, max_tickets_per_order, 0, false, false,
                             version, created_at, updated_at
                      from events, generate_series(1, 1049) n where id = $1";
        sqlx::query(copies).bind(id).execute(world.app.pool()).await.expect("copies");
        let stranger = world.stranger();
        let first = stranger.get("/events").await.expect(200);
        let told = |page: &Value| (page["total"].clone(), page["total_is_exact"].clone(), page["has_more"].clone());
        assert_eq!(told(&first), (json!(60), json!(false), json!(true)));
        let mine = organizer.get("/admin/events?limit=100").await.expect(200);
        assert_eq!(told(&mine), (json!(1000), json!(false), json!(true)));
        let third = stranger.get("/events?limit=50&page=3").await.expect(200);
        assert_eq!(told(&third), (json!(150), json!(false), json!(true)), "as many as were seen");
        let last = stranger.get("/events?limit=50&page=21").await.expect(200);
        assert_eq!(told(&last), (json!(1050), json!(true), json!(false)));
        let mut seen = std::collections::BTreeSet::new();
        for page in 1..=11 {
            let part = stranger.get(&format!("/events?limit=100&page={page}")).await.expect(200);
            assert_eq!(part["has_more"], page < 11);
            for event in part["items"].as_array().expect("items") {
                assert!(seen.insert(text(&event["id"]).to_owned()), "shown twice");
            }
        }
        assert_eq!(seen.len(), 1050);
        let by_words = stranger.get("/events?q=rope&limit=50&page=2").await.expect(200);
        assert_eq!(told(&by_words), (json!(60), json!(false), json!(false)));
        // In order of time all of what is found can be leafed through.
        let mut seen = std::collections::BTreeSet::new();
        for page in 1..=11 {
            let part = stranger.get(&format!("/events?q=rope&sort=date&limit=100&page={page}")).await.expect(200);
            assert_eq!(part["has_more"], page < 11, "{page}");
            for event in part["items"].as_array().expect("items") {
                assert!(seen.insert(text(&event["id"]).to_owned()), "shown twice");
            }
        }
        assert_eq!(seen.len(), 1050);
        sqlx::query("delete from events where id <> $1").bind(id).execute(world.app.pool()).await.expect("gone");
    })
    .await;
}

#[tokio::test]
async fn an_event_has_the_refund_policy_of_its_organization_unless_it_says_otherwise() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let organizer = &lighthouse.organizer;
        let plain = organizer.post("/events", &workshop()).await.expect(201);
        assert_eq!(plain["refund_policy"]["full_until_hours"], 48);
        let strict = json!({"full_until_hours": 72, "partial_percent": 50, "partial_until_hours": 24, "keep_fees": true});
        let mut new = workshop();
        new["refund_policy"] = strict.clone();
        let event = organizer.post("/events", &new).await.expect(201);
        assert_eq!(event["refund_policy"], strict);
        new["refund_policy"]["partial_until_hours"] = json!(73);
        let refused = organizer.post("/events", &new).await;
        assert_eq!(refused.bad_fields(), ["refund_policy.partial_until_hours"]);
        new["refund_policy"]["partial_percent"] = json!(101);
        let refused = organizer.post("/events", &new).await;
        // The schema speaks first; then what no field can say by itself.
        assert_eq!(refused.bad_fields(), ["refund_policy.partial_percent"]);
        new["refund_policy"] = json!({"full_until_hours": 8761, "partial_percent": "half", "partial_until_hours": 24, "fees": 1});
        assert_eq!(
            organizer.post("/events", &new).await.bad_fields(),
            ["refund_policy.fees", "refund_policy.full_until_hours", "refund_policy.keep_fees", "refund_policy.partial_percent"]
        );
        new["refund_policy"] = json!("none");
        assert_eq!(organizer.post("/events", &new).await.bad_fields(), ["refund_policy"]);

        let place = format!("/events/{}", text(&event["id"]));
        let lenient = json!({"full_until_hours": 0, "partial_percent": 0, "partial_until_hours": 0, "keep_fees": false});
        let change = json!({"refund_policy": lenient, "version": 1});
        assert_eq!(organizer.put(&place, &change).await.expect(200)["refund_policy"], lenient);
        let part = json!({"refund_policy": {"keep_fees": true}, "version": 2});
        assert_eq!(
            organizer.put(&place, &part).await.bad_fields(),
            ["refund_policy.partial_percent", "refund_policy.partial_until_hours"],
            "the whole of it"
        );
    })
    .await;
}

#[tokio::test]
async fn organizers_of_an_event_belong_to_the_organization() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let teacher = world.member(lighthouse.id, "teacher").await;
        let stranger = world.person("somebody").await;
        let mut new = workshop();
        new["organizer_ids"] = json!([teacher.id, stranger.id]);
        let refused = lighthouse.organizer.post("/events", &new).await;
        assert_eq!(refused.bad_fields(), ["organizer_ids"]);
        new["organizer_ids"] = json!([teacher.id]);
        let event = lighthouse.organizer.post("/events", &new).await.expect(201);
        // Whoever may see the events they are assigned to sees this draft.
        let place = format!("/events/{}", text(&event["id"]));
        assert_eq!(
            teacher.client.get(&place).await.expect(200)["organizer_ids"],
            json!([teacher.id])
        );
        let nobody = json!({"organizer_ids": [], "version": 1});
        lighthouse.organizer.put(&place, &nobody).await.expect(200);
        teacher
            .client
            .get(&place)
            .await
            .refused(404, "EVENT_NOT_FOUND");
    })
    .await;
}

/// Lists are counted to 60; nobody leafs through more than that to what they have named.
#[tokio::test]
async fn what_is_titled_just_so_comes_first_however_many_are_sooner() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let hall = organizer.post("/venues", &harbour_hall()).await.expect(201);
        for at in 0..62 {
            let mut sooner = titled(&format!("Evening {at}"));
            sooner["venue_id"] = hall["id"].clone();
            on_sale(&organizer, &sooner, &[100]).await;
        }
        let mut later = titled("Harbour");
        later["starts_at"] = json!("2026-09-10T18:00:00Z");
        later["ends_at"] = json!("2026-09-10T20:00:00Z");
        on_sale(&organizer, &later, &[100]).await;
        let stranger = world.stranger();
        for typed in ["harbour", "HARBOUR", "+Harbour+"] {
            let found = titles(&stranger, &format!("q={typed}&limit=1")).await;
            assert_eq!(found, ["Harbour"], "{typed}");
        }
        // Filters count for it too, and no page has it twice.
        let soon = titles(
            &stranger,
            "q=harbour&date_to=2026-06-01T00:00:00Z&limit=100",
        )
        .await;
        assert!(
            soon.len() >= 60 && !soon.contains(&"Harbour".to_owned()),
            "{soon:?}"
        );
        let all = titles(&stranger, "q=harbour&limit=100").await;
        assert_eq!(all.iter().filter(|title| *title == "Harbour").count(), 1);
        assert_eq!(
            titles(&stranger, &format!("q={}", "a".repeat(200)))
                .await
                .len(),
            0
        );
        let long = stranger
            .get(&format!("/events?q={}", "a".repeat(201)))
            .await;
        assert_eq!(long.bad_fields(), ["q"]);
    })
    .await;
}

#[tokio::test]
async fn titles_are_in_the_order_in_which_people_look_for_them() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let hall = organizer.post("/venues", &harbour_hall()).await.expect(201);
        let mut there = titled("Zed");
        there["venue_id"] = hall["id"].clone();
        on_sale(&organizer, &there, &[100]).await;
        for title in ["über alles", "Émile", "Hamburg by night", "beta"] {
            let mut later = titled(title);
            later["starts_at"] = json!("2026-02-12T18:00:00Z");
            later["ends_at"] = json!("2026-02-12T20:00:00Z");
            on_sale(&organizer, &later, &[100]).await;
        }
        let stranger = world.stranger();
        let by_title = titles(&stranger, "sort=title").await;
        assert_eq!(
            by_title,
            ["beta", "Émile", "Hamburg by night", "über alles", "Zed"]
        );
        // However it is typed, what is called so comes before what is there.
        for typed in ["hamburg", "hambrug"] {
            let found = titles(&stranger, &format!("q={typed}")).await;
            assert_eq!(found, ["Hamburg by night", "Zed"], "{typed}");
        }
    })
    .await;
}
