//! Only public data may be kept by a cache, and only of callers without credentials.

use std::collections::BTreeSet;

use api::http::caching::PUBLIC_DATA;
use api::http::document::document;
use serde_json::{Value, json};
use shared::accounts;
use tests::{Answer, Client, World, harbour_hall, world_with};

use crate::orders::{again, bought, card_order, event_of};

/// So many operations by so few callers are more than a minute has room for.
const NO_LIMITS: [(&str, &str); 2] = [
    ("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "0"),
    ("HOLDFAST_LIMITS_ACCOUNT_PER_MINUTE", "0"),
];

/// The readings that ask for no right and are personal all the same: a secret of the caller's opens them.
const OPENED_BY_A_SECRET: [&str; 9] = [
    "list_refunds",
    "follow_order",
    "quote_ticket_cancellation",
    "read_hold",
    "read_order",
    "read_ticket",
    "read_ticket_qr_png",
    "read_ticket_qr_svg",
    "read_seats",
];

/// Every reading operation: path, name, whether anybody may ask.
fn readings() -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    let paths = document()["paths"].as_object().expect("paths");
    paths.iter().filter_map(|(path, item)| {
        let reading = item.get("get")?;
        let open = reading["security"] == json!([]);
        Some((path.as_str(), reading["operationId"].as_str()?, open))
    })
}

fn policy(answer: &Answer) -> &str {
    answer.header("cache-control").expect("a policy")
}

/// The ids by which paths name things of ours.
struct Things(Vec<(&'static str, String)>);

impl Things {
    async fn of(world: &World, organizer: &tests::Organizer, guest: &Client) -> (Self, Value) {
        let event = event_of(&organizer.organizer, 20).await;
        let venue = organizer.organizer.post("/venues", &harbour_hall()).await;
        let order = bought(world, guest, &card_order(&event, 1, "pm_card_visa")).await;
        let hold = json!({"event_id": event["id"], "items": crate::orders::wanted(&event, 1)});
        let hold = guest.post("/holds", &hold).await.expect(201);
        let text = |thing: &Value| thing.as_str().expect("text").to_owned();
        let things = vec![
            ("{event_id}", text(&event["id"])),
            ("{ticket_type_id}", text(&event["ticket_types"][0]["id"])),
            ("{venue_id}", text(&venue.expect(201)["id"])),
            ("{order_id}", text(&order["id"])),
            ("{ticket_id}", text(&order["tickets"][0]["id"])),
            ("{organization_id}", organizer.id.to_string()),
            ("{code}", "S1".to_owned()),
            ("{token}", text(&hold["token"])),
            ("{user_id}", "me".to_owned()),
        ];
        (Self(things), order)
    }

    fn at(&self, path: &str) -> String {
        let fill = |path: String, (name, value): &(&str, String)| path.replace(name, value);
        self.0.iter().fold(path.to_owned(), fill)
    }
}

#[test]
fn public_data_is_what_anybody_reads_without_a_secret() {
    let as_pattern = |path: &str| {
        let parts = path.split('/').map(|part| match part.strip_prefix('{') {
            Some(name) => format!(":{}", name.trim_end_matches('}')),
            None => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join("/")
    };
    let open = readings().filter(|(_, name, open)| *open && !OPENED_BY_A_SECRET.contains(name));
    let mut open: BTreeSet<String> = open.map(|(path, ..)| as_pattern(path)).collect();
    open.extend(["/docs", "/openapi.json", "/openapi.yaml"].map(str::to_owned));
    let public: BTreeSet<String> = PUBLIC_DATA.map(str::to_owned).into();
    assert_eq!(open, public, "review which answers a cache may keep");
}

#[tokio::test]
async fn personal_answers_are_stored_by_no_cache() {
    world_with(&NO_LIMITS, async |world| {
        let organizer = world.organizer("lighthouse").await;
        let guest = world.stranger();
        let (things, order) = Things::of(world, &organizer, &guest).await;
        let owner = world.member(organizer.id, "owner").await;
        world
            .change(async |tx| accounts::make_platform_admin(tx, owner.id).await)
            .await;
        let secret = order["secret"].as_str().expect("a secret");
        let opened = guest.with("order-secret", secret);
        let service = world.internal(organizer.id).await;
        for (path, name, _) in readings() {
            let mut path = things.at(path);
            if name == "read_user" {
                path = path.replace("/me", &format!("/{}", owner.id));
            }
            assert!(
                !path.contains('{'),
                "{path} names something that is missing here"
            );
            let public = OPENED_BY_A_SECRET.contains(&name);
            let caller = match name {
                "read_seats" => &service,
                _ if public => &opened,
                _ => &owner.client,
            };
            let answer = caller.get(&path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            assert!(
                policy(&answer).contains("no-store"),
                "{path}: {}",
                policy(&answer)
            );
        }
        let read = again(&guest, &order).await;
        assert_eq!(read["id"], order["id"]);
        let changed = owner
            .client
            .put("/users/me", &json!({"full_name": "Ada"}))
            .await;
        assert_eq!(policy(&changed), "no-store");
        let refused = world.stranger().get("/users/me").await;
        assert_eq!(policy(&refused), "no-store");
    })
    .await;
}

#[tokio::test]
async fn public_data_may_be_kept_and_is_asked_for_again() {
    world_with(&NO_LIMITS, async |world| {
        let organizer = world.organizer("lighthouse").await;
        let stranger = world.stranger();
        let (things, _) = Things::of(world, &organizer, &stranger).await;
        for pattern in PUBLIC_DATA {
            let parts = pattern.split('/').map(|part| match part.strip_prefix(':') {
                Some(name) => format!("{{{name}}}"),
                None => part.to_owned(),
            });
            let path = things.at(&parts.collect::<Vec<_>>().join("/"));
            let answer = stranger.get(&path).await;
            assert_eq!(answer.status, 200, "{path}");
            let kept = policy(&answer);
            assert!(!kept.contains("no-store"), "{path}: {kept}");
        }
        let event = things.at("/events/{event_id}");
        let read = stranger.get(&event).await;
        let tag = read.header("etag").expect("a tag");
        let again = stranger.with("if-none-match", tag).get(&event).await;
        assert_eq!((again.status, policy(&again)), (304, "no-cache"));
        let member = organizer.member.get(&event).await;
        assert_eq!(policy(&member), "no-store");
    })
    .await;
}
