//! A web page of a known origin may send every header that the document names, and read every header that it promises.

use std::collections::BTreeSet;

use api::http::cors::EXPOSED_HEADERS;
use api::http::document::document;
use reqwest::Method;
use serde_json::Value;
use tests::world_with;

/// What a page may read without being allowed to.
const ALWAYS_READABLE: [&str; 2] = ["cache-control", "content-type"];

fn operations() -> impl Iterator<Item = &'static Value> {
    let paths = document()["paths"].as_object().expect("paths").values();
    paths.flat_map(|item| item.as_object().expect("operations").values())
}

/// Sent by Stripe's servers alone.
fn is_sent_by_pages(name: &str) -> bool {
    name != "stripe-signature"
}

fn request_headers() -> BTreeSet<String> {
    let parameters = operations().filter_map(|operation| operation["parameters"].as_array());
    let parameters = parameters.flatten();
    let headers = parameters.filter(|parameter| parameter["in"] == "header");
    let schemes = document()["components"]["securitySchemes"].as_object();
    let schemes = schemes.expect("schemes").values();
    let keys = schemes.filter(|scheme| scheme["in"] == "header");
    let named = headers.chain(keys).filter_map(|it| it["name"].as_str());
    let undocumented = [
        "Authorization",
        "Content-Type",
        "traceparent",
        "X-Envelope",
        "X-Request-Id",
    ];
    let named = named.chain(undocumented).map(str::to_lowercase);
    named.filter(|name| is_sent_by_pages(name)).collect()
}

fn response_headers() -> BTreeSet<String> {
    let responses = operations().filter_map(|operation| operation["responses"].as_object());
    let headers = responses.flat_map(|responses| responses.values());
    let headers = headers.filter_map(|response| response["headers"].as_object());
    headers
        .flat_map(|headers| headers.keys())
        .map(|name| name.to_lowercase())
        .collect()
}

#[tokio::test]
async fn every_documented_request_header_passes_a_preflight() {
    let origin = [("HOLDFAST_HTTP_CORS_ORIGINS", "https://shop.example")];
    world_with(&origin, async |world| {
        let headers = request_headers();
        assert!(headers.contains("order-secret"), "{headers:?}");
        assert!(headers.contains("idempotency-key"), "{headers:?}");
        for header in headers {
            let page = world.stranger().with("origin", "https://shop.example");
            let asking = page
                .with("access-control-request-method", "PUT")
                .with("access-control-request-headers", &header);
            let asked = asking.send(Method::OPTIONS, "/orders", None).await;
            let allowed = asked.header("access-control-allow-headers");
            let mut allowed = allowed.expect("headers").split(',').map(str::trim);
            assert!(
                allowed.any(|name| name == header),
                "{header} is not let through"
            );
        }
    })
    .await;
}

#[test]
fn every_documented_response_header_can_be_read_by_a_page() {
    let promised = response_headers();
    assert!(promised.contains("etag"), "{promised:?}");
    for name in promised {
        let readable = EXPOSED_HEADERS.contains(&&*name) || ALWAYS_READABLE.contains(&&*name);
        assert!(readable, "{name} cannot be read");
    }
}
