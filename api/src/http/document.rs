//! The OpenAPI document: what the code says of itself, completed by what holds for all operations.
//!
//! An operation names the failures of its own in the last line of its description, `Errors: CODE, …`. Here
//! they become responses, next to those that any operation of its kind can answer. The same document checks
//! request bodies and parameters, so it cannot promise what the server does not keep.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use poem_openapi::registry::Registry;
use serde_json::{Map, Value, json};
use shared::error::Code;

use super::access::{PASS_IN_QUERY, below_prefix, opens_by_pass};
use super::answer::ErrorBody;
use super::errors::status_of;
use crate::{INTERNAL_PREFIX, PREFIX, internal_service, ops, service};

static DOCUMENT: LazyLock<Value> = LazyLock::new(build);

/// The document as it is served and kept in the repository.
#[must_use]
pub fn document() -> &'static Value {
    &DOCUMENT
}

pub(super) const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn build() -> Value {
    let mut document = parse(&service().spec());
    prefix_paths(&mut document, PREFIX);
    let mut internal = parse(&internal_service().spec());
    prefix_paths(&mut internal, INTERNAL_PREFIX);
    join(&mut document, internal);
    join(&mut document, parse(&ops::service().spec()));
    document["info"] = json!({
        "title": "Holdfast",
        "description": include_str!("../../description.md"),
        "version": env!("CARGO_PKG_VERSION"),
        "license": {"name": "Apache-2.0"},
    });
    for (name, schema) in error_schemas() {
        document["components"]["schemas"][name] = schema;
    }
    document["servers"] = json!([{"url": "/"}]);
    close_requests(&mut document);
    say_null(&mut document);
    write_whole_numbers(&mut document);
    for_each_operation(&mut document, complete);
    document
}

/// No operation has the body of failures as its own answer, so nobody else brings it in.
fn error_schemas() -> Vec<(String, Value)> {
    let mut registry = Registry::new();
    // Not imported: the trait has an `is_empty` of its own, which strings would get.
    <ErrorBody as poem_openapi::types::Type>::register(&mut registry);
    let schemas = registry.schemas.into_iter();
    schemas
        .map(|(name, schema)| (name, json!(schema)))
        .collect()
}

fn parse(spec: &str) -> Value {
    serde_json::from_str(spec).expect("poem-openapi writes JSON")
}

fn prefix_paths(document: &mut Value, prefix: &str) {
    let paths = std::mem::take(&mut document["paths"]);
    let Value::Object(paths) = paths else { return };
    document["paths"] = paths
        .into_iter()
        .map(|(path, item)| (format!("{prefix}{path}"), item))
        .collect::<Map<_, _>>()
        .into();
}

/// Adds the paths and components of another document.
fn join(document: &mut Value, other: Value) {
    match (document, other) {
        (Value::Object(document), Value::Object(other)) => {
            for (key, value) in other {
                join(document.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(document), Value::Array(other)) => {
            for item in other {
                if !document.contains(&item) {
                    document.push(item);
                }
            }
        }
        (document @ Value::Null, other) => *document = other,
        _ => {}
    }
}

fn for_each_operation(document: &mut Value, change: impl Fn(&str, &str, &mut Value)) {
    let Some(paths) = document["paths"].as_object_mut() else {
        return;
    };
    for (path, item) in paths {
        for method in METHODS {
            if let Some(operation) = item.get_mut(method) {
                change(method, path, operation);
            }
        }
    }
}

/// Request bodies take no field that is not theirs.
fn close_requests(document: &mut Value) {
    let mut open: Vec<String> = Vec::new();
    for item in document["paths"]
        .as_object()
        .into_iter()
        .flat_map(|paths| paths.values())
    {
        for operation in METHODS.iter().filter_map(|method| item.get(method)) {
            open.extend(references(&operation["requestBody"]));
        }
    }
    let mut closed = BTreeSet::new();
    while let Some(name) = open.pop() {
        if closed.insert(name.clone()) {
            let schema = &mut document["components"]["schemas"][&name];
            schema["additionalProperties"] = json!(false);
            open.extend(references(schema));
        }
    }
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match value.as_str() {
                Some(path) if key == "$ref" => {
                    vec![path.trim_start_matches("#/components/schemas/").to_owned()]
                }
                _ => references(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// A field that may be left out may be null as well. In a change, null means something of its own and the
/// field's type says so.
fn say_null(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else {
        return;
    };
    for (_, schema) in schemas
        .iter_mut()
        .filter(|(name, _)| !name.ends_with("Change"))
    {
        let required: Vec<Value> = schema["required"].as_array().cloned().unwrap_or_default();
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
            continue;
        };
        for (name, property) in properties {
            let given =
                required.iter().any(|field| field == name) || property.get("default").is_some();
            if given {
                continue;
            }
            if let Some(reference) = property.get("$ref").cloned() {
                *property = json!({"allOf": [{"$ref": reference}]});
            }
            property["nullable"] = json!(true);
        }
    }
}

/// poem-openapi keeps bounds as floating point; a reader expects `500000`.
fn write_whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(Ok(whole)) = number.to_string().strip_suffix(".0").map(str::parse::<i64>) {
                *value = json!(whole);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(write_whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(write_whole_numbers),
        _ => {}
    }
}

/// Adds the headers and failures that an operation of this kind has.
fn complete(method: &str, path: &str, operation: &mut Value) {
    let own = take_errors(operation, path);
    let has_body = operation.get("requestBody").is_some();
    if let Some(answer) = operation.pointer_mut("/responses/200/description")
        && answer == ""
    {
        *answer = json!("The answer.");
    }
    let guarded = operation
        .get("security")
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    if !guarded {
        operation["security"] = json!([]);
    }
    if !path.starts_with("/api") && !path.starts_with("/internal") {
        return;
    }
    // What is said at the door holds passwords and tokens: no answer is kept to be given again.
    let at_the_door = path.starts_with(&format!("{PREFIX}/auth/"));
    let creates = method == "post" && operation["responses"].get("201").is_some() && !at_the_door;
    if creates || own.contains(&Code::IdempotencyInFlight) {
        add_header(
            operation,
            "Idempotency-Key",
            "The same key makes a repeated request the same request.",
        );
    }
    // Another service tells the version in the body.
    if own.contains(&Code::ConcurrentUpdate) && !path.starts_with("/internal") {
        add_header(
            operation,
            "If-Match",
            "The ETag of the version you have seen, or `*` for any.",
        );
    }
    if method == "get" && opens_by_pass(below_prefix(path)) {
        add_parameter(
            operation,
            "query",
            PASS_IN_QUERY,
            "A one-time token for this path, from `POST /passes`, where no header can be set.",
        );
    }
    if method == "get" && has_header(operation, "ETAG") {
        add_header(
            operation,
            "If-None-Match",
            "The ETag you have; 304 if it is still so.",
        );
        operation["responses"]["304"] = json!({"description": "You have it already."});
    }
    let mut codes = own;
    codes.extend([Code::RateLimited, Code::Internal, Code::Unavailable]);
    if has_body || operation.get("parameters").is_some() {
        codes.push(Code::ValidationFailed);
    }
    if has_body {
        codes.extend([
            Code::MalformedRequest,
            Code::PayloadTooLarge,
            Code::UnsupportedMediaType,
        ]);
    }
    // Credentials that are given must be good, on open operations too.
    codes.extend([Code::Unauthenticated, Code::TokenExpired]);
    if guarded {
        codes.push(Code::Forbidden);
        if path.contains("/organizations/{organization_id}") {
            codes.push(Code::OrganizationNotFound);
        }
    }
    if creates {
        codes.extend([Code::IdempotencyInFlight, Code::IdempotencyKeyReused]);
    }
    for code in codes {
        add_error(operation, code);
    }
}

/// The codes of the `Errors:` line, which is taken out of the description.
fn take_errors(operation: &mut Value, path: &str) -> Vec<Code> {
    let description = operation["description"].as_str().unwrap_or_default();
    let (text, codes) = description
        .split_once("Errors:")
        .unwrap_or((description, ""));
    let codes = codes
        .split(',')
        .map(str::trim)
        .filter(|code| !code.is_empty());
    let codes = codes.map(|name| {
        let known = Code::ALL
            .iter()
            .find(|code| code.as_str() == name.trim_matches('`'));
        *known.unwrap_or_else(|| panic!("{path} names the unknown error {name}"))
    });
    let codes = codes.collect();
    operation["description"] = json!(text.trim());
    codes
}

fn add_header(operation: &mut Value, name: &str, description: &str) {
    add_parameter(operation, "header", name, description);
}

fn add_parameter(operation: &mut Value, place: &str, name: &str, description: &str) {
    let longest = if place == "header" { 255 } else { 4_096 };
    let parameter = json!({
        "name": name, "in": place, "required": false, "description": description,
        "schema": {"type": "string", "maxLength": longest},
    });
    match operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut)
    {
        Some(parameters) => parameters.push(parameter),
        None => operation["parameters"] = json!([parameter]),
    }
}

fn has_header(operation: &Value, name: &str) -> bool {
    operation
        .pointer(&format!("/responses/200/headers/{name}"))
        .is_some()
}

fn add_error(operation: &mut Value, code: Code) {
    let status = status_of(code).as_u16().to_string();
    let line = format!("`{code}`: {}", code.meaning());
    let responses = &mut operation["responses"];
    match responses.get_mut(&status) {
        Some(response) => {
            let others = response["description"].as_str().unwrap_or_default();
            response["description"] = json!(format!("{others}\n\n{line}"));
            if let Some(codes) = response["x-codes"].as_array_mut() {
                codes.push(json!(code.as_str()));
            }
        }
        None => {
            responses[&status] = json!({
                "description": line,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
                "x-codes": [code.as_str()],
            });
        }
    }
}
