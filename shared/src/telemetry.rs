//! What an operator sees: log lines, traces and metrics.
//!
//! A trace id is born with the outermost span, travels with requests and jobs as a W3C `traceparent`, and
//! stands in every log line, whether or not traces are exported. They are exported only when a collector
//! is configured. Secrets stay out of logs because they are `secrecy` types, which do not print themselves.

mod json;

use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{Metadata, Span, Subscriber, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, filter, fmt};

use crate::config::{self, BadConfig, LogFormat};

/// How long a stopping process waits for the collector to take the last spans.
const LAST_FLUSH: Duration = Duration::from_secs(3);

/// Seconds, from a lookup in memory to a call that has gone wrong.
const DURATIONS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Seconds, for what waits (`…_age_seconds`): from at once to a day.
const AGES: [f64; 11] = [
    0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 14_400.0, 86_400.0,
];

/// Keep it until the process ends: dropping it sends what has not been exported yet.
#[must_use = "the last spans are lost unless it lives until the end of the process"]
pub struct Guard {
    spans: SdkTracerProvider,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.spans.shutdown_with_timeout(LAST_FLUSH) {
            tracing::warn!("the last spans did not reach the collector: {error}");
        }
    }
}

/// Starts logging and tracing for this process. Called once, inside the runtime, before anything worth a line.
pub fn init(config: &config::Telemetry, service: &'static str) -> Result<Guard, BadConfig> {
    let (subscriber, guard) = build(config, service, io::stderr)?;
    subscriber
        .try_init()
        .map_err(|error| BadConfig(vec![error.to_string()]))?;
    Ok(guard)
}

fn build<W>(
    config: &config::Telemetry,
    service: &'static str,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + use<W>, Guard), BadConfig>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let exporting = config.otlp_endpoint.is_some();
    let spans = provider(config, service)?;
    let traces = tracing_opentelemetry::layer()
        .with_tracer(spans.tracer("holdfast"))
        .with_threads(false)
        .with_location(false)
        .with_tracked_inactivity(false)
        .with_filter(filter::filter_fn(move |about| traced(about, exporting)));
    let wanted = log_filter(&config.log)?.and(filter::filter_fn(holds_no_mail));
    let lines = lines(config.format, service, writer).with_filter(wanted);
    // Traces come first, so that a line already finds its trace id.
    Ok((
        Registry::default().with(traces).with(lines),
        Guard { spans },
    ))
}

/// What becomes part of a trace: our spans, never the collector client's own; events only if somebody will see them.
fn traced(about: &Metadata<'_>, exporting: bool) -> bool {
    const PLUMBING: [&str; 5] = ["h2", "hyper", "hyper_util", "tonic", "tower"];
    let origin = about.target().split("::").next().unwrap_or_default();
    about.level() <= &LevelFilter::INFO
        && (exporting || about.is_span())
        && !PLUMBING.contains(&origin)
}

fn log_filter(directives: &str) -> Result<EnvFilter, BadConfig> {
    EnvFilter::builder().parse(directives).map_err(|error| {
        BadConfig(vec![format!(
            "HOLDFAST_TELEMETRY_LOG ([telemetry] log) has a bad value: {error}"
        )])
    })
}

/// The client that sends mails writes whole mails into its debug lines, with the links and codes in them: whatever the
/// setting says, nothing below `info` is taken from it.
fn holds_no_mail(about: &Metadata<'_>) -> bool {
    about.level() <= &LevelFilter::INFO || !about.target().starts_with("lettre")
}

fn lines<S, W>(
    format: LogFormat,
    service: &'static str,
    writer: W,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    match format {
        LogFormat::Pretty => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer
            .fmt_fields(fmt::format::JsonFields::new())
            .event_format(json::Lines { service })
            .boxed(),
    }
}

/// Without a collector spans get their ids and nothing else: no attribute is kept, nothing is queued.
fn provider(
    config: &config::Telemetry,
    service: &'static str,
) -> Result<SdkTracerProvider, BadConfig> {
    let Some(endpoint) = &config.otlp_endpoint else {
        return Ok(SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOff)
            .build());
    };
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint.0.clone()).build().map_err(|error| {
        BadConfig(vec![format!("HOLDFAST_TELEMETRY_OTLP_ENDPOINT ([telemetry] otlp_endpoint) has a bad value: {error}")])
    })?;
    let about_us = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    // Everything is sampled here, also what a caller without a collector of its own has begun;
    // to thin traces out is the collector's business.
    Ok(SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .with_batch_exporter(exporter)
        .with_resource(about_us)
        .build())
}

/// Where we are, for whoever goes on with the work: the next service, or a job.
#[must_use]
pub fn current_traceparent() -> Option<String> {
    Context::map_current(|context| {
        let span = context.span();
        let here = span.span_context();
        here.is_valid().then(|| {
            format!(
                "00-{}-{}-{:02x}",
                here.trace_id(),
                here.span_id(),
                here.trace_flags().to_u8()
            )
        })
    })
}

/// Makes `span` a child of where `traceparent` comes from. To be called before the span is entered.
/// What is no `traceparent` is ignored, as the standard wants it: the span begins a trace of its own.
pub fn continue_trace(span: &Span, traceparent: &str) {
    let context = TraceContextPropagator::new()
        .extract_with_context(&Context::new(), &Traceparent(traceparent));
    if context.span().span_context().is_valid() {
        // Fails only where nobody traces, or for a span that has already begun.
        let _ = span.set_parent(context);
    }
}

struct Traceparent<'a>(&'a str);

impl Extractor for Traceparent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// The process's metrics. The first call installs the recorder; the macros of `metrics` before that are lost.
pub fn metrics() -> &'static PrometheusHandle {
    static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let handle = recorder_builder()
            .install_recorder()
            .expect("nobody else installs a recorder");
        keep_up(handle.clone());
        handle
    })
}

fn recorder_builder() -> PrometheusBuilder {
    PrometheusBuilder::new()
        .set_buckets(&DURATIONS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_age_seconds".into()), &AGES)
        })
        .expect("there are buckets")
}

/// Observations pile up until they are sorted into buckets: a process that nobody scrapes must not grow.
fn keep_up(handle: PrometheusHandle) {
    let upkeep = move || loop {
        std::thread::sleep(Duration::from_secs(5));
        handle.run_upkeep();
    };
    let started = std::thread::Builder::new()
        .name("metrics-upkeep".into())
        .spawn(upkeep);
    if let Err(error) = started {
        tracing::warn!("metrics are sorted only when scraped: {error}");
    }
}

#[cfg(test)]
mod tests;
