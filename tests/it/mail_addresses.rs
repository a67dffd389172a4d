//! Addresses that are none, wherever one is asked for, and text that would become a header.

use serde_json::{Value, json};
use tests::{Answer, workshop, world};

use crate::orders::{bought, event_of, free_event_of, wanted};

const HOSTILE: [&str; 4] = [
    "ada@example.org\r\nBcc: eve@example.org",
    "\"ada\\\r\nRCPT TO:<eve@example.org>\"@example.org",
    "ada@example.org, eve@example.org",
    "ada@[127.0.0.1]",
];

fn is_named(answer: Answer, field: &str) {
    let details = answer.refused(400, "VALIDATION_FAILED");
    let fields = details["fields"].as_array().expect("fields");
    assert!(
        fields.iter().any(|it| it["field"] == field),
        "{field}: {details}"
    );
}

#[tokio::test]
async fn an_address_that_could_end_a_header_is_refused_wherever_one_is_asked_for() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await;
        let event = event_of(&organizer.organizer, 5).await;
        let (guest, ada) = (world.stranger(), world.person("ada").await);
        let role = "00000000-0000-7000-8000-000000000002";
        let invitations = format!("/organizations/{}/members", organizer.id);
        let owner = world.member(organizer.id, "owner").await.client;
        for email in HOSTILE {
            let new = json!({"email": email, "password": "correct horse battery", "full_name": "Ada"});
            is_named(guest.post("/auth/register", &new).await, "email");
            is_named(ada.client.put("/users/me", &json!({"email": email})).await, "email");
            let invited = json!({"email": email, "role_id": role});
            is_named(owner.post(&invitations, &invited).await, "email");
            let mut order = json!({"event_id": event["id"], "items": wanted(&event, 1), "email": email,
                                   "payment": {"method": "card", "token": "pm_card_visa"}});
            is_named(guest.post("/orders", &order).await, "email");
            order["email"] = json!("ada@example.org");
            order["attendees"] = json!([{"name": "Ada", "email": email}]);
            is_named(guest.post("/orders", &order).await, "attendees[0].email");
        }
        assert_eq!(world.inbox.messages().len(), 0);
    })
    .await;
}

/// What a person types becomes part of a subject; as the mail arrived, its head has the headers that it should have.
#[tokio::test]
async fn no_text_of_a_person_becomes_a_header_of_a_mail() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let mut new: Value = workshop();
        new["title"] = json!("Jazz\r\nBcc: eve@example.org");
        is_named(organizer.post("/events", &new).await, "title");
        let event = free_event_of(&organizer, 5).await;
        let order = json!({"event_id": event["id"], "items": wanted(&event, 1), "email": "ada@example.org",
                           "attendees": [{"name": "Ada Bcc: eve@example.org"}]});
        bought(world, &world.stranger(), &order).await;
        let [mail] = &world.inbox.messages()[..] else {
            panic!("one mail");
        };
        let raw = String::from_utf8_lossy(&mail.raw).into_owned();
        let (head, _) = raw.split_once("\r\n\r\n").expect("a head");
        let names = head.lines().filter(|line| !line.starts_with([' ', '\t']));
        let names: Vec<String> =
            names.filter_map(|line| Some(line.split_once(':')?.0.to_lowercase())).collect();
        let expected = ["from", "to", "subject", "message-id", "date", "mime-version", "content-type"];
        for name in &names {
            assert!(expected.contains(&name.as_str()), "{name} in {head}");
        }
        assert_eq!(mail.to, ["ada@example.org"]);
    })
    .await;
}
