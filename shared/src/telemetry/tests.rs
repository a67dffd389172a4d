use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing::{Span, info, info_span};

use super::*;

/// A place to write log lines to, and to read them back.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
    }

    fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

fn settings(log: &str, format: LogFormat) -> config::Telemetry {
    config::Telemetry {
        log: log.into(),
        format,
        otlp_endpoint: None,
    }
}

/// What `work` logs under the given settings.
fn log_of(config: &config::Telemetry, work: impl FnOnce()) -> Paper {
    let paper = Paper::default();
    let writer = paper.clone();
    let (subscriber, guard) =
        build(config, "test", move || writer.clone()).expect("valid settings");
    tracing::subscriber::with_default(subscriber, work);
    drop(guard);
    paper
}

#[test]
fn a_json_line_is_flat_and_complete() {
    let paper = log_of(&settings("info", LogFormat::Json), || {
        let request = info_span!("request", request_id = "r1", status = tracing::field::Empty);
        let _entered = request.enter();
        let order = info_span!("order", order_id = 7);
        let _entered = order.enter();
        request.record("status", 201);
        info!(seats = 3, paid = true, "placed");
    });
    let [line] = &paper.lines()[..] else {
        panic!("one line, not {}", paper.text())
    };
    for (field, value) in [
        ("message", json!("placed")),
        ("level", json!("INFO")),
        ("service", json!("test")),
        ("target", json!("shared::telemetry::tests")),
        ("span", json!("request:order")),
        ("request_id", json!("r1")),
        ("status", json!(201)),
        ("order_id", json!(7)),
        ("seats", json!(3)),
        ("paid", json!(true)),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert!(
        line["timestamp"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z')),
        "{line}"
    );
    assert_eq!(line["trace_id"].as_str().map(str::len), Some(32), "{line}");
}

#[test]
fn a_trace_travels_from_a_request_to_its_job_and_into_the_log_without_a_collector() {
    let paper = log_of(&settings("info", LogFormat::Json), || {
        let carried = info_span!("request").in_scope(|| {
            info!("request");
            current_traceparent().expect("inside a span")
        });
        let job = info_span!("job");
        continue_trace(&job, &carried);
        job.in_scope(|| {
            info!("job");
            let again = current_traceparent().expect("inside a span");
            assert_eq!(again[..35], carried[..35], "same trace");
            assert_ne!(again[36..52], carried[36..52], "another span");
        });
        info!("outside");
    });
    let lines = paper.lines();
    assert!(lines[0]["trace_id"].is_string());
    assert_eq!(lines[0]["trace_id"], lines[1]["trace_id"]);
    assert_eq!(lines[2].get("trace_id"), None);
}

#[test]
fn a_trace_travels_even_if_its_spans_are_too_quiet_for_the_log() {
    log_of(&settings("error", LogFormat::Json), || {
        info_span!("request").in_scope(|| assert!(current_traceparent().is_some()));
    });
}

#[test]
fn a_known_traceparent_is_continued() {
    log_of(&settings("info", LogFormat::Pretty), || {
        let span = info_span!("request");
        continue_trace(
            &span,
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
        let here = span.in_scope(|| current_traceparent().expect("inside a span"));
        assert!(
            here.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
            "{here}"
        );
    });
}

#[test]
fn what_is_no_traceparent_is_ignored() {
    for hostile in [
        "",
        "00",
        "garbage",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    ] {
        log_of(&settings("info", LogFormat::Pretty), || {
            let span = info_span!("request");
            continue_trace(&span, hostile);
            let here = span.in_scope(|| current_traceparent().expect("a trace of its own"));
            assert!(
                !here.contains("0af7651916cd43dd8448eb211c80319c"),
                "{hostile} became {here}"
            );
        });
    }
}

#[test]
fn without_a_span_or_a_subscriber_there_is_no_trace() {
    assert_eq!(current_traceparent(), None);
    continue_trace(
        &Span::none(),
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    assert_eq!(current_traceparent(), None);
}

#[test]
fn secrets_do_not_print_themselves() {
    let secret = secrecy::SecretString::from("hunter2");
    for format in [LogFormat::Pretty, LogFormat::Json] {
        let paper = log_of(
            &settings("trace", format),
            || info!(?secret, url = ?Some(&secret), "connecting"),
        );
        assert!(
            paper.text().contains("connecting") && !paper.text().contains("hunter2"),
            "{}",
            paper.text()
        );
    }
}

#[test]
fn a_bad_filter_is_named() {
    let bad = build(
        &settings("info,shared=loud", LogFormat::Pretty),
        "test",
        io::sink,
    )
    .err()
    .expect("refused");
    assert!(
        bad.to_string()
            .starts_with("HOLDFAST_TELEMETRY_LOG ([telemetry] log) has a bad value"),
        "{bad}"
    );
}

#[test]
fn metrics_render_in_buckets() {
    let recorder = recorder_builder().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        metrics::counter!("holds_total", "outcome" => "placed").increment(2);
        metrics::histogram!("http_request_duration_seconds").record(0.004);
        metrics::histogram!("job_age_seconds").record(200.0);
    });
    let page = recorder.handle().render();
    for line in [
        "holds_total{outcome=\"placed\"} 2",
        "http_request_duration_seconds_bucket{le=\"0.0025\"} 0",
        "http_request_duration_seconds_bucket{le=\"0.005\"} 1",
        "job_age_seconds_bucket{le=\"300\"} 1",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

/// Just enough of a collector: it takes every request and shows its body.
async fn collector() -> (config::Url, tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>) {
    let (bodies, arrived) = tokio::sync::mpsc::unbounded_channel();
    let export = poem::endpoint::make(move |mut request: poem::Request| {
        let bodies = bodies.clone();
        async move {
            bodies
                .send(request.take_body().into_vec().await.expect("a body"))
                .expect("a listening test");
            poem::Response::builder()
                .content_type("application/grpc")
                .header("grpc-status", "0")
                .finish()
        }
    });
    let routes = poem::Route::new().at(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        export,
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = config::Url(format!("http://{}", listener.local_addr().expect("bound")));
    let acceptor = poem::listener::TcpAcceptor::from_tokio(listener).expect("a listener");
    tokio::spawn(poem::Server::new_with_acceptor(acceptor).run(routes));
    (url, arrived)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_a_collector_at_the_latest_when_the_process_ends() {
    let (url, mut arrived) = collector().await;
    let config = config::Telemetry {
        otlp_endpoint: Some(url),
        ..settings("error", LogFormat::Json)
    };
    let mut trace_id = String::new();
    log_of(&config, || {
        info_span!("buy_a_ticket", order_id = "order-7").in_scope(|| {
            let here = current_traceparent().expect("inside a span");
            assert!(here.ends_with("-01"), "sampled: {here}");
            here[3..35].clone_into(&mut trace_id);
        });
    });
    let body = arrived
        .try_recv()
        .expect("exported before the guard was gone");
    let has = |needle: &[u8]| body.windows(needle.len()).any(|window| window == needle);
    assert!(has(b"buy_a_ticket") && has(b"order-7") && has(b"service.name"));
    assert!(has(&hex::decode(trace_id).expect("hex")));
}

#[test]
fn a_bad_collector_is_named() {
    let config = config::Telemetry {
        otlp_endpoint: Some(config::Url("http://[".into())),
        ..settings("info", LogFormat::Json)
    };
    let bad = build(&config, "test", io::sink).err().expect("refused");
    assert!(
        bad.to_string()
            .starts_with("HOLDFAST_TELEMETRY_OTLP_ENDPOINT"),
        "{bad}"
    );
}
