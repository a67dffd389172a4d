//! Several requests that are one: under the same key or on the same hold, from other networks, to other processes.

use shared::error::Error;
use shared::holds::{self, HoldError};
use tests::Client;

use super::*;

/// Requests come through a proxy that says where they are from.
const BEHIND_A_PROXY: [(&str, &str); 1] = [("HOLDFAST_HTTP_TRUSTED_PROXIES", "127.0.0.0/8")];
const AT_HOME: &str = "192.0.2.7";
const ON_THE_ROAD: &str = "198.51.100.9";
const KEY: &str = "6f1d2b52-57e3-4b57-9a8e-1f7f3f0b7a11";

fn guest_at(world: &World, address: &str, key: &str) -> Client {
    let guest = world.stranger().with("X-Forwarded-For", address);
    guest.with("Idempotency-Key", key)
}

/// What a refusal that is certain does to what was prepared: nothing was written.
async fn refuse(world: &World, order: &PlacedOrder) {
    let refusal = Error::from(HoldError::TooMany);
    order.withdraw(&world.app, Some(&refusal)).await;
}

async fn write(world: &World, order: &PlacedOrder) {
    let write = async |tx: &mut shared::Tx| orders::place(&world.app, tx, order).await;
    world.change(write).await;
}

#[tokio::test]
async fn a_refused_request_leaves_the_hold_to_another_with_its_key() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = free_event_of(&organizer, 10).await;
        let (first, second) = (prepared(world, &event).await, prepared(world, &event).await);
        assert_eq!(first.id(), second.id(), "one key, one hold");
        refuse(world, &first).await;
        assert_eq!(left(world, &event).await, 8, "the second is being written");
        write(world, &second).await;
        refuse(world, &first).await;
        let found = shared::stock::reconcile(&world.app).await;
        assert_eq!(found.expect("both sides").missing, 0, "it has its places");
        assert_eq!(left(world, &event).await, 8);
    })
    .await;
}

#[tokio::test]
async fn when_each_request_with_a_key_is_refused_its_places_come_back_at_once() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = free_event_of(&organizer, 10).await;
        let (first, second) = (prepared(world, &event).await, prepared(world, &event).await);
        refuse(world, &second).await;
        assert_eq!(left(world, &event).await, 8);
        // The other request's refusal was kept, and is what this one is answered.
        first.withdraw(&world.app, None).await;
        assert_eq!(left(world, &event).await, 10);
    })
    .await;
}

/// Whoever has the token of a hold may send two orders on it, under no key at all.
#[tokio::test]
async fn a_refused_order_leaves_its_hold_to_another_order_on_it() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = free_event_of(&organizer, 10).await;
        let id = event["id"].as_str().and_then(|id| id.parse().ok());
        let details = shared::events::public_details(&world.app, EventId(id.expect("an id"))).await;
        let details = details.expect("Postgres").expect("it is public");
        let buyer = Buyer {
            user_id: None,
            address: AT_HOME.into(),
        };
        let kind = details.ticket_types[0].id;
        let wanted = [Wanted {
            ticket_type_id: kind,
            quantity: 2,
        }];
        let hold = holds::place(&world.app, &details, &buyer, &wanted).await;
        let token = hold.expect("Redis").expect("places").token;
        let prepare = async |email: &str| {
            let new = NewOrder {
                hold_token: Some(token.clone()),
                event_id: None,
                items: Vec::new(),
                attendees: Vec::new(),
                email: Some(email.into()),
                payment: None,
            };
            let order = orders::prepare(&world.app, &details, &buyer, false, new, None).await;
            order.expect("the hold")
        };
        let (first, second) = (
            prepare("ada@example.org").await,
            prepare("grace@example.org").await,
        );
        refuse(world, &first).await;
        // Unless it is an order's, a hold lapses in ten minutes.
        world.pass(TimeDelta::minutes(11));
        assert_eq!(left(world, &event).await, 8);
        // Too much time has passed for what was prepared to be written: it is prepared again, as for every late order.
        drop(second);
        let second = prepare("grace@example.org").await;
        refuse(world, &first).await;
        write(world, &second).await;
        assert_eq!(left(world, &event).await, 8);
    })
    .await;
}

/// The buyer leaves the house while the answer is on its way, and their telephone asks again.
#[tokio::test]
async fn one_key_from_two_addresses_and_two_processes_is_one_order() {
    world_with(&BEHIND_A_PROXY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let new = card_order(&event, 2, "pm_card_visa");
        let other = world.another_process().await;
        let askers: Vec<Client> = (0..12)
            .map(|n| {
                let guest = guest_at(world, [AT_HOME, ON_THE_ROAD][n % 2], KEY);
                if n % 4 < 2 { guest } else { guest.at(&other) }
            })
            .collect();
        let orders = join_all(
            askers
                .iter()
                .map(|guest| guest.post_until_told("/orders", &new)),
        )
        .await;
        let orders: Vec<Value> = orders
            .into_iter()
            .map(|answer| answer.expect(202))
            .collect();
        for order in &orders {
            // Each of them is told what opens the order, or it would be of no use to whoever did not hear the first.
            assert_eq!(
                (&order["id"], &order["secret"]),
                (&orders[0]["id"], &orders[0]["secret"])
            );
        }
        assert_eq!(left(world, &event).await, 8);
        world.run_jobs().await;
        is_paid_once(world, &orders[0], 2).await;
        assert_eq!(count(world, "select count(*) from orders").await, 1);
        let late = guest_at(world, ON_THE_ROAD, KEY).at(&other);
        let late = late.post("/orders", &new).await;
        assert_eq!(late.header("idempotent-replayed"), Some("true"));
        assert_eq!(late.expect(202)["id"], orders[0]["id"]);
        let mut more = new.clone();
        more["items"] = wanted(&event, 3);
        let reused = guest_at(world, ON_THE_ROAD, KEY)
            .post("/orders", &more)
            .await;
        reused.refused(422, "IDEMPOTENCY_KEY_REUSED");
    })
    .await;
}

/// Two strangers may have thought of the same key and want the same, and one may be guessing.
#[tokio::test]
async fn a_key_that_can_be_guessed_tells_nothing_at_another_address() {
    world_with(&BEHIND_A_PROXY, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = free_event_of(&organizer, 10).await;
        let new = free_order(&event, 1);
        let first = guest_at(world, AT_HOME, "order-1")
            .post("/orders", &new)
            .await;
        let first = first.expect(202);
        let other = guest_at(world, ON_THE_ROAD, "order-1")
            .post("/orders", &new)
            .await;
        assert_eq!(other.header("idempotent-replayed"), None);
        let other = other.expect(202);
        assert!(first["id"] != other["id"] && first["secret"] != other["secret"]);
        let again = guest_at(world, AT_HOME, "order-1")
            .post("/orders", &new)
            .await;
        assert_eq!(again.expect(202)["id"], first["id"]);
        world.run_jobs().await;
    })
    .await;
}
