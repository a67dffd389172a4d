//! Bodies that are made to be expensive.

use std::time::Instant;

use serde_json::{Value, json};
use tests::{World, world};

/// An anonymous request with so many wrong elements; how many fields are told, and the time it took.
async fn wrong_items(world: &World, count: usize) -> (usize, std::time::Duration) {
    let items = vec![json!(0); count];
    let body = json!({"event_id": "019a0000-0000-7000-8000-000000000000", "items": items});
    let began = Instant::now();
    let details = world.stranger().post("/holds", &body).await;
    let details = details.refused(400, "VALIDATION_FAILED");
    (
        details["fields"].as_array().expect("fields").len(),
        began.elapsed(),
    )
}

/// A list without end was once compared with itself: 60,000 wrong elements kept a core busy for 26 seconds.
#[tokio::test]
async fn a_list_that_is_too_long_is_refused_before_anything_in_it_is_looked_at() {
    world(async |world| {
        let (fields, _) = wrong_items(world, 51).await;
        assert_eq!(fields, 1, "its length is told, not what is in it");
        let (few, _) = wrong_items(world, 50).await;
        assert_eq!(few, 50);
        // As many as the body may have bytes for.
        let (fields, took) = wrong_items(world, 30_000).await;
        assert_eq!(fields, 1);
        assert!(took.as_secs() < 5, "{took:?}");
    })
    .await;
}

#[tokio::test]
async fn unknown_fields_are_named_up_to_fifty() {
    world(async |world| {
        let unknown = |count: usize| -> Value {
            let fields = (0..count).map(|n| (format!("field_{n}"), json!(n)));
            Value::Object(fields.collect())
        };
        for (count, expected) in [(20, 20 + 2), (60, 1), (3_000, 1)] {
            let details = world.stranger().post("/holds", &unknown(count)).await;
            let details = details.refused(400, "VALIDATION_FAILED");
            let fields = details["fields"].as_array().expect("fields").len();
            assert_eq!(fields, expected, "of {count}: {details}");
        }
    })
    .await;
}

#[tokio::test]
async fn bodies_have_a_limit_by_what_their_operation_needs() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let padded =
            |size: usize| json!({"email": "ada@example.org", "password": "x".repeat(size)});
        let guest = world.stranger();
        guest
            .post("/auth/login", &padded(9_000))
            .await
            .refused(413, "PAYLOAD_TOO_LARGE");
        guest
            .post("/holds", &padded(70_000))
            .await
            .refused(413, "PAYLOAD_TOO_LARGE");
        guest
            .post("/orders", &padded(70_000))
            .await
            .refused(413, "PAYLOAD_TOO_LARGE");
        // What an organizer writes may be larger, but not made of values without number.
        organizer
            .post("/events", &padded(70_000))
            .await
            .refused(400, "VALIDATION_FAILED");
        let many = json!({"layout": vec![0; 60_000]});
        organizer
            .post("/venues", &many)
            .await
            .refused(413, "PAYLOAD_TOO_LARGE");
    })
    .await;
}

/// Lists in requests have a bound, so that the sizes of a body can be refused before its schema is walked.
#[test]
fn every_list_in_a_request_has_a_bound() {
    let document: Value =
        serde_json::from_str(include_str!("../../docs/openapi.json")).expect("JSON");
    let mut unbounded = Vec::new();
    let paths = document["paths"].as_object().expect("paths").values();
    let operations = paths.flat_map(|item| item.as_object().expect("operations").values());
    for operation in operations {
        let content = operation["requestBody"]["content"].as_object();
        for media in content.into_iter().flat_map(|content| content.values()) {
            find_unbounded(&document, &media["schema"], &mut Vec::new(), &mut unbounded);
        }
    }
    assert_eq!(unbounded, Vec::<String>::new());
}

fn find_unbounded(
    document: &Value,
    schema: &Value,
    seen: &mut Vec<String>,
    found: &mut Vec<String>,
) {
    if let Some(name) = schema["$ref"].as_str() {
        if !seen.iter().any(|known| known == name) {
            seen.push(name.to_owned());
            let pointer = name.trim_start_matches('#');
            let named = document.pointer(pointer).expect("a schema");
            find_unbounded(document, named, seen, found);
        }
        return;
    }
    if schema["type"] == "array" && schema["maxItems"].is_null() {
        found.push(format!("{seen:?}: {schema}"));
    }
    let members = ["allOf", "anyOf", "oneOf"].into_iter();
    let members = members.filter_map(|key| schema[key].as_array()).flatten();
    let properties = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|it| it.values());
    for part in members.chain(properties).chain(schema.get("items")) {
        find_unbounded(document, part, seen, found);
    }
}
