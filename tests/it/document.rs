//! The document is a reviewed file, and it is true.

use api::http::aliases::ALIASES;
use api::http::described::{json_schema, methods_of};
use api::http::document::document;
use serde_json::Value;
use tests::world;

const REVIEWED: &str = include_str!("../../docs/openapi.json");

#[test]
fn the_reviewed_document_is_current() {
    let reviewed: Value = serde_json::from_str(REVIEWED).expect("JSON");
    let advice = "docs/openapi.json is out of date: run `make reference` and review the difference";
    assert!(reviewed == *document(), "{advice}");
}

#[test]
fn every_schema_compiles() {
    for name in document()["components"]["schemas"]
        .as_object()
        .expect("schemas")
        .keys()
    {
        let compiled = jsonschema::validator_for(&json_schema(name));
        compiled.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn follow(value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    let found = document().pointer(reference.trim_start_matches('#'));
                    assert!(found.is_some(), "{reference} leads nowhere");
                }
                fields.values().for_each(follow);
            }
            Value::Array(items) => items.iter().for_each(follow),
            _ => {}
        }
    }
    follow(document());
}

#[test]
fn every_operation_is_described() {
    for (path, item) in document()["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            for field in ["summary", "operationId", "tags", "responses"] {
                assert!(
                    !operation[field].is_null(),
                    "{method} {path} has no {field}"
                );
            }
        }
    }
}

#[test]
fn the_list_of_old_names_is_current() {
    let page = include_str!("../../docs/aliases.md");
    let rows = ALIASES
        .iter()
        .map(|(method, old, now)| format!("| {method} | `{old}` | `{now}` |\n"));
    let table = format!("| --- | --- | --- |\n{}", rows.collect::<String>());
    assert!(
        page.ends_with(&table),
        "docs/aliases.md must end with:\n{table}"
    );
    for (method, _, now) in ALIASES {
        let known = methods_of(&format!("/api/v1{now}"));
        assert!(
            known.iter().any(|known| known == method),
            "{method} {now} is no operation"
        );
    }
}

#[tokio::test]
async fn the_document_and_its_page_are_served() {
    world(async |world| {
        let served = world.stranger().get("/openapi.json").await.expect(200);
        assert_eq!(served, *document());
        let yaml = world.stranger().get("/openapi.yaml").await;
        assert!(yaml.text.contains("operationId: create_venue"));

        let page = world.stranger().get("/docs").await;
        assert_eq!(page.status, 200);
        assert!(
            page.text.contains("IDEMPOTENCY_KEY_REUSED"),
            "the page shows the completed document"
        );
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(
            !policy.contains("http"),
            "the page may reach for nothing outside: {policy}"
        );
    })
    .await;
}

/// What the tables of faults and attacks name as proof is there: each name leads to a module or a function of the tests.
#[test]
fn every_test_that_the_documentation_names_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = root.expect("the project");
    let mut code = String::new();
    for folder in ["tests/it", "cli/tests", "shared/src/config"] {
        read_code(&root.join(folder), &mut code);
    }
    let mut missing = Vec::new();
    let mut named = 0;
    for page in ["docs/security.md", "docs/reliability.md"] {
        let text = std::fs::read_to_string(root.join(page)).expect("a page");
        for name in text.split('`').filter(|name| name.contains("::")) {
            named += 1;
            let last = name.rsplit("::").next().expect("a name");
            let there =
                code.contains(&format!("fn {last}(")) || code.contains(&format!("mod {last};"));
            if !there {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(named > 50, "{named} names were found");
    assert_eq!(missing, Vec::<String>::new());
}

fn read_code(folder: &std::path::Path, code: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_code(&path, code);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            code.push_str(&std::fs::read_to_string(&path).expect("a text"));
        }
    }
}
