//! Every operation of the document, tried by everybody; who may do what is the reviewed table below.

use api::http::document::document;
use reqwest::Method;
use serde_json::{Value, json};
use shared::accounts;
use tests::{Client, Organizer, World, harbour_hall, workshop, world_with};

/// So many operations by so many callers are more than a minute has room for.
const NO_LIMITS: [(&str, &str); 3] = [
    ("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "0"),
    ("HOLDFAST_LIMITS_ACCOUNT_PER_MINUTE", "0"),
    ("HOLDFAST_LIMITS_NETWORK_PER_MINUTE", "0"),
];

/// Who tries, one letter each, in the order of the table.
const CALLERS: &str = "s: a stranger
 a: a person with an account and nothing else
 m d t g o: members of our organization: plain member, door, teacher, organizer, owner
 r: the owner of another organization
 P: a platform administrator
 k: a key of our organization that may do what an organizer may
 i: a key of the scope `internal`";

/// Who is let in: everybody whose letter stands there.
const EXPECTED: &[(&str, &str)] = &[
    ("accept_invitation", ".amdtgorP.."),
    ("add_session", ".....go.Pk."),
    ("add_ticket_type", ".....go.Pk."),
    ("cancel_event", ".....go.Pk."),
    ("cancel_order", ".....go.Pk."),
    ("cancel_ticket", ".....go.Pk."),
    ("change_event", ".....go.Pk."),
    ("change_event_status", ".....go.Pk."),
    ("change_me", ".amdtgorP.."),
    ("change_member", "......o.P.."),
    ("change_organization", "......o.P.."),
    ("change_role", "......o.P.."),
    ("change_session", ".....go.Pk."),
    ("change_ticket_type", ".....go.Pk."),
    ("change_user", "........P.."),
    ("change_venue", ".....go.Pk."),
    ("create_event", ".....gorPk."),
    ("create_organization", ".amdtgorP.."),
    ("create_pass", ".amdtgorPki"),
    ("create_role", "......o.P.."),
    ("create_venue", ".....gorPk."),
    ("deactivate_user", "........P.."),
    ("delete_event", ".....go.Pk."),
    ("delete_role", "......o.P.."),
    ("delete_session", ".....go.Pk."),
    ("delete_ticket_type", ".....go.Pk."),
    ("delete_venue", ".....go.Pk."),
    ("end_login_session", ".amdtgorP.."),
    ("end_other_login_sessions", ".amdtgorP.."),
    ("extend_hold", "samdtgorPki"),
    ("follow_activity", "......o.P.."),
    ("follow_availability", "samdtgorPki"),
    ("follow_order", ".....go.Pk."),
    ("forgot_password", "samdtgorPki"),
    ("healthz", "samdtgorPki"),
    ("hear_stripe", "samdtgorPki"),
    ("invite_member", "......o.P.."),
    ("list_api_keys", "......o.P.."),
    ("list_event_orders", ".....go.Pk."),
    ("list_events", "samdtgorPki"),
    ("list_featured_events", "samdtgorPki"),
    ("list_login_sessions", ".amdtgorP.."),
    ("list_members", ".....go.Pk."),
    ("list_my_events", ".....gorPk."),
    ("list_organizations", ".amdtgorP.."),
    ("list_refunds", ".....go.Pk."),
    ("list_roles", "......o.P.."),
    ("list_sessions", "samdtgorPki"),
    ("list_ticket_types", "samdtgorPki"),
    ("list_user_orders", "........P.."),
    ("list_user_tickets", ".....gorPk."),
    ("list_users", "........P.."),
    ("list_venues", "samdtgorPki"),
    ("login", "samdtgorPki"),
    ("login_organizer", "samdtgorPki"),
    ("logout", ".amdtgorP.."),
    ("make_api_key", "......o.P.."),
    ("mark_order_paid", ".....go.Pk."),
    ("place_hold", "samdtgorPki"),
    ("place_order", "samdtgorPki"),
    ("purchase_tickets", "samdtgorPki"),
    ("quote_ticket_cancellation", ".....go.Pk."),
    ("read_availability", "samdtgorPki"),
    ("read_event", "samdtgorPki"),
    ("read_event_cancellation", ".....go.Pk."),
    ("read_hold", "samdtgorPki"),
    ("read_me", ".amdtgorP.."),
    ("read_order", ".....go.Pk."),
    ("read_organization", ".....go.Pk."),
    ("read_seats", "..........i"),
    ("read_session", "samdtgorPki"),
    ("read_ticket", ".....go.Pk."),
    ("read_ticket_qr_png", ".....go.Pk."),
    ("read_ticket_qr_svg", ".....go.Pk."),
    ("read_ticket_type", "samdtgorPki"),
    ("read_ticket_type_availability", "samdtgorPki"),
    ("read_user", "........P.."),
    ("read_venue", "samdtgorPki"),
    ("ready", "samdtgorPki"),
    ("refresh", "samdtgorPki"),
    ("refresh_organizer", "samdtgorPki"),
    ("refund_order", ".....go.Pk."),
    ("register", "samdtgorPki"),
    ("register_organizer", "samdtgorPki"),
    ("release_hold", "samdtgorPki"),
    ("remove_member", "......o.P.."),
    ("reset_password", "samdtgorPki"),
    ("return_seats", "..........i"),
    ("revoke_api_key", "......o.P.."),
    ("update_availability", "..........i"),
    ("verify_access_token", "..........i"),
    ("verify_email", "samdtgorPki"),
];

#[tokio::test]
async fn every_operation_lets_in_whom_it_should() {
    world_with(&NO_LIMITS, async |world| {
        let ours = world.organizer("lighthouse").await;
        let rivals = world.organizer("rivals").await;
        let ticket = given_out(world, &ours).await;
        let mut tried = Vec::new();
        for (path, item) in document()["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("methods") {
                let name = operation["operationId"].as_str().expect("an operation id");
                let mut let_in = String::new();
                for (letter, caller) in callers(world, name, &ours, &rivals).await {
                    let allowed = attempt(&ours, &ticket, &caller, method, path, operation).await;
                    let_in.push(if allowed { letter } else { '.' });
                }
                tried.push((name, let_in));
            }
        }
        tried.sort_unstable();
        let tried: Vec<_> = tried
            .iter()
            .map(|(name, let_in)| (*name, let_in.as_str()))
            .collect();
        assert_eq!(
            tried, EXPECTED,
            "review who may do what, then change the table\n{CALLERS}"
        );
    })
    .await;
}

/// Everybody, anew for each operation: some of them end what the caller came in with.
async fn callers(
    world: &World,
    operation: &str,
    ours: &Organizer,
    rivals: &Organizer,
) -> Vec<(char, Client)> {
    let named = |who: &str| format!("{who}.{operation}");
    let mut callers = vec![
        ('s', world.stranger()),
        ('a', world.person(&named("account")).await.client),
    ];
    let roles = [
        ('m', "member"),
        ('d', "door"),
        ('t', "teacher"),
        ('g', "organizer"),
        ('o', "owner"),
    ];
    for (letter, role) in roles {
        let person = world.person(&named(role)).await;
        world.join(person.id, ours.id, role).await;
        callers.push((letter, person.client));
    }
    let rival = world.person(&named("rival")).await;
    world.join(rival.id, rivals.id, "owner").await;
    let admin = world.person(&named("admin")).await;
    world
        .change(async |tx| accounts::make_platform_admin(tx, admin.id).await)
        .await;
    callers.push(('r', rival.client));
    callers.push(('P', admin.client));
    callers.push(('k', ours.organizer.clone()));
    callers.push(('i', world.internal(ours.id).await));
    callers
}

/// Whether the operation, asked for something of ours, lets the caller in. Whoever is told that they may not,
/// or must say who they are, is not let in; whatever else is answered, they were.
async fn attempt(
    ours: &Organizer,
    ticket: &str,
    caller: &Client,
    method: &str,
    path: &str,
    operation: &Value,
) -> bool {
    let venue = ours
        .organizer
        .post("/venues", &harbour_hall())
        .await
        .expect(201);
    let (event, ticket_type) = published(&ours.organizer).await;
    let mut path = path
        .replace("{venue_id}", venue["id"].as_str().expect("an id"))
        .replace("{event_id}", &event)
        .replace("{ticket_type_id}", &ticket_type)
        .replace("{code}", "S1");
    for (name, value) in [
        ("{user_id}", ours.id.to_string()),
        ("{session_id}", ours.id.to_string()),
        ("{ticket_id}", ticket.to_owned()),
        ("{organization_id}", ours.id.to_string()),
        ("{role_id}", ours.id.to_string()),
        ("{key_id}", ours.id.to_string()),
        ("{token}", ours.id.to_string()),
    ] {
        path = path.replace(name, &value);
    }
    if path.contains("{order_id}") {
        path = path.replace("{order_id}", &ordered(ours, &event, &ticket_type).await);
    }
    assert!(
        !path.contains('{'),
        "{path} names something this test cannot make yet"
    );
    let body = operation.get("requestBody").map(|_| body(operation));
    let method: Method = method.to_uppercase().parse().expect("a method");
    let answer = caller.send(method, &path, body).await;
    match (answer.status, answer.body["error"]["code"].as_str()) {
        (401, Some("UNAUTHENTICATED" | "TOKEN_EXPIRED")) | (403, Some("FORBIDDEN"))
        // To those who do not belong to it, an organization does not exist.
        // Nor does an order or a ticket to those whom it is none of.
        | (404, Some("ORGANIZATION_NOT_FOUND" | "ORDER_NOT_FOUND" | "TICKET_NOT_FOUND")) => false,
        (200..500, _) => true,
        _ => panic!("{path} answered {}: {}", answer.status, answer.text),
    }
}

/// The ids of an event that everybody may see and of its ticket type.
async fn published(organizer: &Client) -> (String, String) {
    let event = organizer.post("/events", &workshop()).await.expect(201);
    let id = event["id"].as_str().expect("an id").to_owned();
    let ticket = json!({"name": "Standard", "price": 4500, "included_sessions": ["S1"]});
    let types = format!("/events/{id}/ticket-types");
    let ticket = organizer.post(&types, &ticket).await.expect(201);
    let publish = json!({"status": "published", "version": 1});
    let status = format!("/events/{id}/status");
    organizer.put(&status, &publish).await.expect(200);
    (id, ticket["id"].as_str().expect("an id").to_owned())
}

/// The id of a ticket of ours, of somebody's who is none of the callers.
async fn given_out(world: &World, ours: &Organizer) -> String {
    let (event, ticket_type) = published(&ours.organizer).await;
    let order = ordered(ours, &event, &ticket_type).await;
    world.run_jobs().await;
    let order = ours.organizer.get(&format!("/orders/{order}")).await;
    let ticket = &order.expect(200)["tickets"][0]["id"];
    ticket.as_str().expect("an id").to_owned()
}

/// An order of somebody's who is none of the callers.
async fn ordered(ours: &Organizer, event: &str, ticket_type: &str) -> String {
    let new = json!({
        "event_id": event, "items": [{"ticket_type_id": ticket_type, "quantity": 1}],
        "email": "ada@example.org", "payment": {"method": "card", "token": "pm_card_visa"},
    });
    let order = ours.organizer.post("/orders", &new).await.expect(202);
    order["id"].as_str().expect("an id").to_owned()
}

/// What gets past the checks of the body, where the answer depends on more than who is asking.
fn body(operation: &Value) -> String {
    let body = match operation["operationId"].as_str() {
        Some("create_venue") => harbour_hall(),
        Some("change_venue") => json!({"capacity": 7, "version": 1}),
        Some("create_event") => workshop(),
        Some("change_event") => json!({"category": "Talks", "version": 2}),
        Some("cancel_event") => json!({"version": 2}),
        Some("change_event_status") => {
            json!({"status": "on_hold", "reason": "Storm", "version": 2})
        }
        Some("add_session") => json!({
            "name": "Second", "capacity": 5,
            "starts_at": "2026-02-11T18:00:00Z", "ends_at": "2026-02-11T20:00:00Z",
        }),
        Some("change_ticket_type") => json!({"price": 5000, "version": 1}),
        Some("change_session") => json!({"name": "First", "version": 1}),
        Some("add_ticket_type") => {
            json!({"name": "Late", "price": 1, "included_sessions": ["S1"]})
        }
        Some("create_pass") => json!({"path": "/events/rope-basics/availability/stream"}),
        Some("refund_order") => json!({"reason": "Rain"}),
        _ => json!({}),
    };
    body.to_string()
}
