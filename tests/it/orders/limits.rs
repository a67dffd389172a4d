//! Who may buy what, how many, when and at which price: looked at for the hold, and again for the order.

use chrono::TimeDelta;
use futures_util::future::join_all;
use shared::Tx;
use shared::events::{self, SessionChange, Status, StatusChange, TicketTypeChange};
use shared::ids::{EventId, TicketTypeId};
use shared::patch::Patch;
use shared::version::Expected;
use tests::{SignedIn, world, world_with};

use super::*;

/// An event of twenty places, of one type that differs from the usual one.
async fn event_with(organizer: &Client, differs: &Value) -> Value {
    let mut kind = standard();
    for (name, value) in differs.as_object().expect("fields") {
        kind[name] = value.clone();
    }
    on_sale(organizer, &workshop(), &kind).await
}

async fn held(client: &Client, event: &Value, quantity: i32) -> Value {
    let hold = json!({"event_id": event["id"], "items": wanted(event, quantity)});
    client.post("/holds", &hold).await.expect(201)
}

/// An order on a hold.
fn on(hold: &Value) -> Value {
    json!({"hold_token": hold["token"], "email": "ada@example.org",
           "payment": {"method": "card", "token": "pm_card_visa"}})
}

fn place_of_type(event: &Value) -> String {
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    let (event_id, type_id) = (text(&event["id"]), text(&event["ticket_types"][0]["id"]));
    format!("/events/{event_id}/ticket-types/{type_id}")
}

/// How many of these orders are placed at once; the others are refused for the limit.
async fn placed(buyers: impl Iterator<Item = (Client, Value)>, most: i64) -> usize {
    let orders = buyers.map(|(client, new)| async move { client.post("/orders", &new).await });
    let (placed, refused): (Vec<_>, Vec<_>) = join_all(orders)
        .await
        .into_iter()
        .partition(|answer| answer.status == 202);
    for refused in refused {
        let details = refused.refused(422, "QUANTITY_LIMIT");
        assert_eq!(details["max"], json!(most));
        assert_eq!(
            details["already"],
            Value::Null,
            "it may be another's address"
        );
    }
    placed.len()
}

#[tokio::test]
async fn an_address_has_so_many_however_it_is_written() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_with(&organizer, &json!({"max_per_buyer": 3})).await;
        let names = ["ada@example.org", "ADA@example.org", " Ada@Example.Org "];
        let buyers = (0..10).map(|at| {
            let mut new = card_order(&event, 1, "pm_card_visa");
            new["email"] = json!(names[at % names.len()]);
            (world.stranger(), new)
        });
        assert_eq!(placed(buyers, 3).await, 3);
        assert_eq!(
            left(world, &event).await,
            17,
            "what was refused is on sale again"
        );
        world.run_jobs().await;
        let other = json!({"email": "grace@example.org"});
        let mut new = card_order(&event, 3, "pm_card_visa");
        new["email"] = other["email"].clone();
        bought(world, &world.stranger(), &new).await;
    })
    .await;
}

#[tokio::test]
async fn an_account_has_so_many_whatever_addresses_it_names() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_with(&organizer, &json!({"max_per_buyer": 2})).await;
        let ada = world.person("ada").await.client;
        let buyers = (0..10).map(|at| {
            let mut new = card_order(&event, 1, "pm_card_visa");
            new["email"] = json!(format!("ada.{at}@example.org"));
            (ada.clone(), new)
        });
        assert_eq!(placed(buyers, 2).await, 2);
        assert_eq!(left(world, &event).await, 18);
    })
    .await;
}

#[tokio::test]
async fn whoever_gives_a_ticket_back_may_have_another() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_with(&organizer, &json!({"max_per_buyer": 2})).await;
        let guest = world.stranger();
        let order = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        let one = card_order(&event, 1, "pm_card_visa");
        guest
            .post("/orders", &one)
            .await
            .refused(422, "QUANTITY_LIMIT");
        let (ticket, secret) = (&order["tickets"][0]["id"], &order["secret"]);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let cancel = format!("/tickets/{}/cancel?secret={}", text(ticket), text(secret));
        guest.put(&cancel, &json!({})).await.expect(200);
        let order = bought(world, &guest, &one).await;
        assert_eq!(order["status"], "paid");
        guest
            .post("/orders", &one)
            .await
            .refused(422, "QUANTITY_LIMIT");
    })
    .await;
}

#[tokio::test]
async fn one_order_has_so_many_of_a_type_and_of_an_event() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let limits = json!({"min_per_order": 2, "max_per_order": 4});
        let event = event_with(&organizer, &limits).await;
        let guest = world.stranger();
        for quantity in [1, 5] {
            let order = guest
                .post("/orders", &card_order(&event, quantity, "pm_card_visa"))
                .await;
            let details = order.refused(422, "QUANTITY_LIMIT");
            assert_eq!((&details["min"], &details["max"]), (&json!(2), &json!(4)));
        }
        // The limit is lowered between the hold and the order.
        let hold = held(&guest, &event, 4).await;
        let change = json!({"max_per_order": 3, "version": 1});
        organizer
            .put(&place_of_type(&event), &change)
            .await
            .expect(200);
        guest
            .post("/orders", &on(&hold))
            .await
            .refused(422, "QUANTITY_LIMIT");
        assert_eq!(
            bought(world, &guest, &on(&held(&guest, &event, 3).await)).await["paid"],
            13_500
        );
    })
    .await;
}

#[tokio::test]
async fn a_sale_ends_between_the_hold_and_the_order() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let ends =
            json!({"sales_start": "2026-01-15T10:32:00Z", "sales_end": "2026-01-15T10:36:00Z"});
        let event = event_with(&organizer, &ends).await;
        let guest = world.stranger();
        let now = card_order(&event, 1, "pm_card_visa");
        guest
            .post("/orders", &now)
            .await
            .refused(409, "SALES_NOT_OPEN");
        world.pass(TimeDelta::minutes(3));
        let hold = held(&guest, &event, 1).await;
        world.pass(TimeDelta::minutes(4));
        guest
            .post("/orders", &on(&hold))
            .await
            .refused(409, "SALES_ENDED");
        guest
            .post("/orders", &now)
            .await
            .refused(409, "SALES_ENDED");

        let event = event_with(&organizer, &json!({})).await;
        let hold = held(&guest, &event, 1).await;
        let status = format!("/events/{}/status", event["id"].as_str().expect("an id"));
        let pause = json!({"status": "on_hold", "reason": "Storm", "version": event["version"]});
        organizer.put(&status, &pause).await.expect(200);
        guest
            .post("/orders", &on(&hold))
            .await
            .refused(409, "EVENT_NOT_ON_SALE");
    })
    .await;
}

#[tokio::test]
async fn what_is_hidden_after_the_hold_is_not_ordered() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_with(&organizer, &json!({})).await;
        let guest = world.stranger();
        let hold = held(&guest, &event, 1).await;
        let hide = json!({"hidden": true, "version": 1});
        organizer
            .put(&place_of_type(&event), &hide)
            .await
            .expect(200);
        guest
            .post("/orders", &on(&hold))
            .await
            .refused(404, "TICKET_TYPE_NOT_FOUND");
        let now = card_order(&event, 1, "pm_card_visa");
        guest
            .post("/orders", &now)
            .await
            .refused(404, "TICKET_TYPE_NOT_FOUND");
        // Whoever may see it may sell it.
        organizer.post("/orders", &now).await.expect(202);
    })
    .await;
}

async fn vet(world: &World, member: &SignedIn, level: i16) {
    sqlx::query("update members set vetting_level = $2 where user_id = $1")
        .bind(member.id.0)
        .bind(level)
        .execute(world.app.pool())
        .await
        .expect("vetted");
}

#[tokio::test]
async fn who_is_vetted_no_more_does_not_order_what_they_held() {
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        let mut event = workshop();
        event["required_vetting_level"] = json!(3);
        let event = on_sale(&ours.organizer, &event, &standard()).await;
        let member = world.member(ours.id, "member").await;
        let now = card_order(&event, 1, "pm_card_visa");
        for client in [&world.stranger(), &member.client] {
            client
                .post("/orders", &now)
                .await
                .refused(404, "EVENT_NOT_FOUND");
        }
        vet(world, &member, 3).await;
        let (first, second) = (
            held(&member.client, &event, 1).await,
            held(&member.client, &event, 1).await,
        );
        member.client.post("/orders", &on(&first)).await.expect(202);
        vet(world, &member, 2).await;
        let refused = member.client.post("/orders", &on(&second)).await;
        refused.refused(404, "EVENT_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn the_price_of_a_hold_is_for_whoever_holds_it() {
    world(async |world| {
        let ours = world.organizer("lighthouse").await;
        let event = event_with(&ours.organizer, &json!({"member_price": 3000})).await;
        let (ada, grace) = (world.person("ada").await, world.person("grace").await);
        world.join(ada.id, ours.id, "member").await;
        let hold = held(&ada.client, &event, 2).await;
        assert_eq!(hold["subtotal"], 6000);
        for other in [&world.stranger(), &grace.client] {
            other
                .post("/orders", &on(&hold))
                .await
                .refused(410, "HOLD_EXPIRED");
        }
        // What was promised is kept: the price has changed, and she is no member any more.
        let change = json!({"price": 9900, "member_price": 9000, "version": 1});
        ours.organizer
            .put(&place_of_type(&event), &change)
            .await
            .expect(200);
        sqlx::query("delete from members where user_id = $1")
            .bind(ada.id.0)
            .execute(world.app.pool())
            .await
            .expect("she leaves");
        let order = ada.client.post("/orders", &on(&hold)).await.expect(202);
        assert_eq!(
            (&order["total"], &order["items"][0]["price"]),
            (&json!(6000), &json!(3000))
        );
        let now = card_order(&event, 1, "pm_card_visa");
        assert_eq!(
            ada.client.post("/orders", &now).await.expect(202)["total"],
            9900
        );
        world.run_jobs().await;
    })
    .await;
}

#[tokio::test]
async fn prices_and_the_policy_are_those_of_the_moment_of_the_order() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_with(&organizer, &json!({})).await;
        let guest = world.stranger();
        let before = bought(world, &guest, &card_order(&event, 2, "pm_card_visa")).await;
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let quote = format!(
            "/tickets/{}/cancellation?secret={}",
            text(&before["tickets"][0]["id"]),
            text(&before["secret"])
        );
        let quoted = guest.get(&quote).await.expect(200);
        assert_eq!(quoted["refund_amount"], 4500);

        let dearer = json!({"price": 9900, "version": 1});
        organizer
            .put(&place_of_type(&event), &dearer)
            .await
            .expect(200);
        let place = format!("/events/{}", text(&event["id"]));
        let version = &organizer.get(&place).await.expect(200)["version"];
        let never = json!({"full_until_hours": null, "partial_percent": 0, "partial_until_hours": 0,
                           "keep_fees": false});
        let change = json!({"refund_policy": never, "version": version});
        organizer.put(&place, &change).await.expect(200);

        assert_eq!(again(&guest, &before).await, before);
        assert_eq!(guest.get(&quote).await.expect(200), quoted);
        let after = bought(world, &guest, &card_order(&event, 1, "pm_card_visa")).await;
        assert_eq!(
            (&after["paid"], &after["currency"]),
            (&json!(9900), &before["currency"])
        );
        let cancel = place_of(&after).replace('?', "/cancel?");
        assert_eq!(
            guest.put(&cancel, &json!({})).await.expect(200)["refunded"],
            0
        );
        let cancel = place_of(&before).replace('?', "/cancel?");
        assert_eq!(
            guest.put(&cancel, &json!({})).await.expect(200)["refunded"],
            9000
        );
    })
    .await;
}

#[tokio::test]
async fn what_an_attendee_says_has_bounds() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_with(&organizer, &json!({})).await;
        let mut new = card_order(&event, 2, "pm_card_visa");
        new["attendees"] = json!([{"name": "Ada", "answers": {"why": "x".repeat(20_000)}}]);
        let bad = world.stranger().post("/orders", &new).await.bad_fields();
        assert_eq!(bad, ["attendees[0].answers"]);
        let other = held(
            &world.stranger(),
            &event_with(&organizer, &json!({})).await,
            1,
        )
        .await;
        let mut new = on(&other);
        new["event_id"] = event["id"].clone();
        let bad = world.stranger().post("/orders", &new).await.bad_fields();
        assert_eq!(bad, ["event_id"]);
    })
    .await;
}

#[tokio::test]
async fn nobody_keeps_an_event_from_others_by_promising_to_pay() {
    let few = [("HOLDFAST_HOLDS_PER_ADDRESS", "3")];
    world_with(&few, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_with(&organizer, &json!({})).await;
        let mut new = card_order(&event, 1, "");
        let guest = world.stranger();
        let promises = ["manual", "client", "checkout"];
        let orders = (0..10).map(|at| {
            new["payment"] = json!({"method": promises[at % promises.len()]});
            (guest.clone(), new.clone())
        });
        let orders: Vec<_> = orders.collect();
        let answers = orders.iter().map(|(guest, new)| guest.post("/orders", new));
        let answers = join_all(answers).await;
        let (placed, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|a| a.status == 202);
        assert_eq!(placed.len(), 3);
        for refused in refused {
            refused.refused(409, "TOO_MANY_HOLDS");
        }
        assert_eq!(left(world, &event).await, 17);
        // Who sells for the organizer does so for many.
        organizer.post("/orders", &new).await.expect(202);
        let card = card_order(&event, 1, "pm_card_visa");
        guest.post("/orders", &card).await.expect(202);
    })
    .await;
}

/// What everybody remembers of an event is not what it is any more.
async fn changed_unheard(
    world: &World,
    event: &Value,
    change: impl AsyncFnOnce(&mut Tx, EventId) -> shared::Result<()>,
) {
    let place = format!("/events/{}", event["id"].as_str().expect("an id"));
    let remembered = world.stranger().get(&place).await.expect(200);
    let id = EventId(id_of(event));
    world.change_unheard(async |tx| change(tx, id).await).await;
    let still = world.stranger().get(&place).await.expect(200);
    assert_eq!(still, remembered, "it is remembered as it was");
}

fn id_of(of: &Value) -> uuid::Uuid {
    of["id"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .expect("an id")
}

#[tokio::test]
async fn an_order_never_has_a_price_that_is_remembered_only() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let kind = TicketTypeId(id_of(&event["ticket_types"][0]));
        let new = card_order(&event, 2, "pm_card_visa");
        let guest = world.stranger();
        for (price, guest) in [
            (5_000, &guest),
            (6_000, &guest.with("Idempotency-Key", "k")),
        ] {
            changed_unheard(world, &event, async |tx, id| {
                let change = TicketTypeChange {
                    price: Patch::Set(price),
                    ..TicketTypeChange::default()
                };
                let seen = Expected::Any;
                events::change_ticket_type(tx, id, kind, seen, change, None).await?;
                Ok(())
            })
            .await;
            let order = guest.post("/orders", &new).await.expect(202);
            assert_eq!(order["total"], 2 * price);
        }
        world.run_jobs().await;
        assert_eq!(left(world, &event).await, 6, "the first tries hold nothing");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_sold_of_an_event_that_is_on_sale_in_memory_only() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        changed_unheard(world, &event, async |tx, id| {
            let to = StatusChange {
                status: Status::OnHold,
                reason: Some("Storm".into()),
                version: None,
            };
            events::set_status(tx, id, Expected::Any, to).await?;
            Ok(())
        })
        .await;
        let new = card_order(&event, 2, "pm_card_visa");
        let answer = world.stranger().post("/orders", &new).await;
        answer.refused(409, "EVENT_NOT_ON_SALE");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_sold_for_a_session_that_is_stopped() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        changed_unheard(world, &event, async |tx, id| {
            let stopped = SessionChange {
                active: Patch::Set(false),
                ..SessionChange::default()
            };
            events::change_session(tx, id, "S1", Expected::Any, stopped, None).await?;
            Ok(())
        })
        .await;
        let new = card_order(&event, 2, "pm_card_visa");
        let answer = world.stranger().post("/orders", &new).await;
        answer.refused(409, "EVENT_NOT_ON_SALE");
        assert_eq!(left(world, &event).await, 0, "there is nothing to be had");
    })
    .await;
}

#[tokio::test]
async fn nobody_is_sold_other_sessions_than_they_chose() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = on_sale(&organizer, &workshop(), &standard()).await;
        let stranger = world.stranger();
        let hold = held(&stranger, &event, 6).await;
        let sessions = format!("/events/{}/sessions", event["id"].as_str().expect("an id"));
        let session = json!({"name": "Small room", "capacity": 4,
                             "starts_at": "2026-02-02T18:00:00Z", "ends_at": "2026-02-02T20:00:00Z"});
        organizer.post(&sessions, &session).await.expect(201);
        let both = json!({"included_sessions": ["S1", "S2"], "version": 1});
        let place = place_of_type(&event);
        organizer.put(&place, &both).await.expect(200);

        let refused = stranger.post("/orders", &on(&hold)).await;
        refused.refused(410, "HOLD_EXPIRED");
        let left = left(world, &event).await;
        assert_eq!(left, 4, "what was held is on sale again");
        let hold = held(&stranger, &event, 4).await;
        bought(world, &stranger, &on(&hold)).await;
    })
    .await;
}

/// How many tickets an address has is told to the account that has shown the address to be its own, and to nobody else.
#[tokio::test]
async fn what_an_address_has_bought_is_told_to_its_owner_alone() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_with(&organizer, &json!({"max_per_buyer": 2})).await;
        let ada = world.person("ada").await;
        let mut new = card_order(&event, 2, "pm_card_visa");
        new["email"] = json!("ada@example.org");
        ada.client.post("/orders", &new).await.expect(202);
        world.run_jobs().await;
        let mut more = card_order(&event, 1, "pm_card_visa");
        more["email"] = json!("ada@example.org");
        let grace = world.person("grace").await.client;
        let told = async |who: &Client| {
            let refused = who.post("/orders", &more).await;
            let text = refused.text.clone();
            (
                refused.refused(422, "QUANTITY_LIMIT")["already"].clone(),
                text.contains("has 2"),
            )
        };
        for stranger in [&world.stranger(), &grace, &ada.client] {
            assert_eq!(told(stranger).await, (Value::Null, false));
        }
        sqlx::query("update users set email_verified_at = now() where id = $1")
            .bind(ada.id.0)
            .execute(world.app.pool())
            .await
            .expect("it is hers");
        assert_eq!(told(&ada.client).await, (json!(2), true));
        assert_eq!(told(&grace).await, (Value::Null, false));
    })
    .await;
}

/// Whoever tries stolen cards learns no more than an honest buyer needs; the organizer sees what the bank said.
#[tokio::test]
async fn a_buyer_is_told_a_coarse_reason_and_the_organizer_the_precise_one() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_with(&organizer, &json!({"max_per_buyer": 20})).await;
        let cards = [
            (
                "pm_card_chargeDeclinedStolenCard",
                "declined",
                "stolen_card",
            ),
            ("pm_card_chargeDeclinedFraudulent", "declined", "fraudulent"),
            (
                "pm_card_chargeDeclinedIncorrectCvc",
                "declined",
                "incorrect_cvc",
            ),
            (
                "pm_card_chargeDeclinedInsufficientFunds",
                "insufficient_funds",
                "insufficient_funds",
            ),
        ];
        for (card, coarse, precise) in cards {
            let order = bought(world, &world.stranger(), &card_order(&event, 1, card)).await;
            assert_eq!(
                (&order["status"], &order["reason"]),
                (&json!("failed"), &json!(coarse))
            );
            assert!(
                coarse == precise || !order.to_string().contains(precise),
                "{order}"
            );
            let lines = world.activity_of(&order["id"]).await;
            let mut codes = lines.iter().map(|(_, _, data)| &data["payment"]["code"]);
            assert!(codes.any(|code| code == precise), "{lines:?}");
        }
    })
    .await;
}
