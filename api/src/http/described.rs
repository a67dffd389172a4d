//! Looks things up in the document: what a path knows, and whether a request is as it was described.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, RwLock};

use jsonschema::Validator;
use poem::Request;
use poem::http::Uri;
use serde_json::{Map, Value, json};

use super::document::{METHODS, document};

/// The methods that a path knows, for `Allow`.
#[must_use]
pub fn methods_of(path: &str) -> Vec<String> {
    let Some(item) = item_at(path) else {
        return Vec::new();
    };
    let known =
        |method: &str| item.get(method).is_some() || method == "patch" && item.get("put").is_some();
    let methods = METHODS.iter().filter(|method| known(method));
    methods.map(|method| method.to_uppercase()).collect()
}

fn item_at(path: &str) -> Option<&'static Value> {
    let paths = document()["paths"].as_object()?;
    paths
        .iter()
        .find(|(template, _)| values_in(template, path).is_some())
        .map(|(_, item)| item)
}

/// The parts of `path` that stand where `template` has a name.
fn values_in<'a>(template: &'a str, path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let (shape, parts): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    if shape.len() != parts.len() {
        return None;
    }
    let mut values = Vec::new();
    for (shape, part) in shape.into_iter().zip(parts) {
        match shape
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'))
        {
            Some(name) => values.push((name, part)),
            None if shape == part => {}
            None => return None,
        }
    }
    Some(values)
}

/// Every parameter of the path and the query that is not as its operation describes it.
#[must_use]
pub fn bad_parameters(method: &str, path: &str, query: &str) -> Vec<(String, String)> {
    let method = if method == "HEAD" {
        "get"
    } else {
        &method.to_lowercase()
    };
    let Some(operation) = item_at(path).and_then(|item| item.get(method)) else {
        return Vec::new();
    };
    let mut templates = document()["paths"].as_object().into_iter().flatten();
    let in_path = templates
        .find_map(|(template, _)| values_in(template, path))
        .unwrap_or_default();
    let in_path = in_path
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let query: Vec<(String, String)> = pairs_of(query);
    let given: Vec<(String, String)> = in_path.chain(query).collect();
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters
        .filter_map(|parameter| bad_parameter(parameter, &given))
        .collect()
}

fn pairs_of(query: &str) -> Vec<(String, String)> {
    let uri = format!("http://any/?{query}").parse::<Uri>();
    let request = uri.map(|uri| Request::builder().uri(uri).finish());
    request
        .ok()
        .and_then(|request| request.params().ok())
        .unwrap_or_default()
}

fn bad_parameter(parameter: &Value, given: &[(String, String)]) -> Option<(String, String)> {
    let name = parameter["name"].as_str()?;
    let text = given
        .iter()
        .find(|(given, _)| given == name)
        .map(|(_, text)| text);
    let Some(text) = text else {
        let missing = parameter["required"] == json!(true) && parameter["in"] != "header";
        return missing.then(|| (name.to_owned(), "is missing".to_owned()));
    };
    let schema = &parameter["schema"];
    let value = match schema["type"].as_str() {
        Some("integer" | "number" | "boolean") => serde_json::from_str(text).unwrap_or(json!(text)),
        _ => json!(text),
    };
    let message = super::body::first_violation(&rooted(schema.clone()), &value)?;
    Some((name.to_owned(), message))
}

/// Compiles the schema of every body, so that no request has to: it takes long enough for the first ones to keep everybody
/// waiting.
pub(crate) fn prepare() {
    let paths = document()["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(_, item)| METHODS.iter().filter_map(|it| item.get(*it)));
    for operation in operations {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let name = schema.as_str().and_then(|it| it.rsplit('/').next());
        if let Some(name) = name {
            compiled(name, || json_schema(name));
            compiled(&format!("{name} sizes"), || sizes(json_schema(name)));
        }
    }
}

/// A schema of the document, compiled once. `key` stands for it.
pub(super) fn compiled(key: &str, schema: impl FnOnce() -> Value) -> Arc<Validator> {
    static COMPILED: LazyLock<RwLock<HashMap<String, Arc<Validator>>>> =
        LazyLock::new(RwLock::default);
    let known = COMPILED
        .read()
        .expect("nobody panics while writing")
        .get(key)
        .cloned();
    known.unwrap_or_else(|| {
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema());
        let validator = Arc::new(validator.expect("a test compiles every schema of the document"));
        let mut compiled = COMPILED.write().expect("nobody panics while writing");
        compiled.insert(key.to_owned(), validator.clone());
        validator
    })
}

/// Where a value is otherwise than a schema of the document says, if anywhere. For tests of what is answered.
#[must_use]
pub fn violation(schema: &Value, value: &Value) -> Option<String> {
    let validator = compiled(&schema.to_string(), || rooted(schema.clone()));
    let violation = validator.iter_errors(value).next()?;
    Some(format!(
        "{}: {violation}",
        violation.instance_path().as_str()
    ))
}

/// A schema of the document in the dialect of JSON Schema.
#[must_use]
pub fn json_schema(name: &str) -> Value {
    rooted(json!({ "$ref": format!("#/components/schemas/{name}") }))
}

/// Fields that a request may have beyond those that it knows, for each of them to be named.
const UNKNOWN_FIELDS: usize = 50;

/// Of a schema no more than how many items and fields there may be. It can be held against any value at a cost that grows with
/// the value alone, with few violations.
pub(super) fn sizes(schema: Value) -> Value {
    let Value::Object(fields) = schema else {
        return json!({});
    };
    let mut kept = Map::new();
    let is_closed = fields.get("additionalProperties") == Some(&json!(false));
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("$ref" | "maxItems" | "maxProperties", value) => {
                kept.insert(key, value);
            }
            ("items" | "components", value) => {
                kept.insert(key, sizes(value));
            }
            ("properties" | "schemas", Value::Object(members)) => {
                if is_closed && key == "properties" {
                    let most = members.len() + UNKNOWN_FIELDS;
                    kept.insert("maxProperties".into(), json!(most));
                }
                let members = members.into_iter().map(|(name, it)| (name, sizes(it)));
                kept.insert(key, Value::Object(members.collect()));
            }
            // One of these, or nothing: its sizes hold whichever it is, since they say nothing of what is no list.
            ("anyOf" | "allOf" | "oneOf", Value::Array(members)) => {
                kept.insert("allOf".into(), members.into_iter().map(sizes).collect());
            }
            _ => {}
        }
    }
    Value::Object(kept)
}

fn rooted(schema: Value) -> Value {
    static COMPONENTS: LazyLock<Value> = LazyLock::new(|| {
        translated(json!({"schemas": document()["components"]["schemas"].clone()}))
    });
    let mut root = translated(schema);
    root["components"] = COMPONENTS.clone();
    root
}

/// OpenAPI 3.0 says `nullable` and names the width of integers; JSON Schema has types and bounds.
fn translated(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut fields: Map<_, _> = fields
                .into_iter()
                .map(|(key, value)| (key, translated(value)))
                .collect();
            let bounds = match fields.get("format").and_then(Value::as_str) {
                Some("int32") => Some((i64::from(i32::MIN), json!(i32::MAX))),
                Some("int64") => Some((i64::MIN, json!(i64::MAX))),
                Some("uint32") => Some((0, json!(u32::MAX))),
                Some("uint64") => Some((0, json!(u64::MAX))),
                _ => None,
            };
            if let Some((least, most)) = bounds {
                fields.entry("minimum").or_insert(json!(least));
                fields.entry("maximum").or_insert(most);
            }
            if fields.remove("nullable") == Some(json!(true)) {
                return json!({"anyOf": [fields, {"type": "null"}]});
            }
            Value::Object(fields)
        }
        Value::Array(items) => items.into_iter().map(translated).collect(),
        other => other,
    }
}
