//! Every operation of the document, tried by everybody; who may do what is the reviewed table below.

use api::http::document::document;
use reqwest::Method;
use serde_json::Value;
use tests::{Client, harbour_hall, world};

/// Who is let in: a stranger, a member without rights, an organizer of another organization, an organizer.
const EXPECTED: &[(&str, [bool; 4])] = &[
    ("change_venue", [false, false, false, true]),
    ("create_venue", [false, false, true, true]),
    ("delete_venue", [false, false, false, true]),
    ("healthz", [true, true, true, true]),
    ("list_venues", [true, true, true, true]),
    ("read_venue", [true, true, true, true]),
    ("ready", [true, true, true, true]),
];

#[tokio::test]
async fn every_operation_lets_in_whom_it_should() {
    world(async |world| {
        let (ours, rivals) = (
            world.organizer("lighthouse").await,
            world.organizer("rivals").await,
        );
        let callers = [
            &world.stranger(),
            &ours.member,
            &rivals.organizer,
            &ours.organizer,
        ];
        let mut tried = Vec::new();
        for (path, item) in document()["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("methods") {
                let name = operation["operationId"].as_str().expect("an operation id");
                let mut let_in = [false; 4];
                for (caller, let_in) in callers.into_iter().zip(&mut let_in) {
                    let venue = ours
                        .organizer
                        .post("/venues", &harbour_hall())
                        .await
                        .expect(201);
                    *let_in = attempt(caller, method, path, operation, &venue).await;
                }
                tried.push((name, let_in));
            }
        }
        tried.sort_unstable();
        assert_eq!(
            tried, EXPECTED,
            "review who may do what, then change the table"
        );
    })
    .await;
}

/// Whether the operation, asked for a venue of ours, lets the caller in.
async fn attempt(
    caller: &Client,
    method: &str,
    path: &str,
    operation: &Value,
    venue: &Value,
) -> bool {
    let path = path.replace("{venue_id}", venue["id"].as_str().expect("an id"));
    assert!(
        !path.contains('{'),
        "{path} names something this test cannot make yet"
    );
    let method: Method = method.to_uppercase().parse().expect("a method");
    let body = operation.get("requestBody").map(|_| match method {
        Method::POST => harbour_hall().to_string(),
        _ => r#"{"capacity": 7, "version": 1}"#.to_owned(),
    });
    let answer = caller.send(method, &path, body).await;
    match answer.status {
        401 | 403 => false,
        200 | 201 | 204 => true,
        _ => panic!("{path} answered {}: {}", answer.status, answer.text),
    }
}
