//! One flat JSON object a line, so that `request_id`, `job_id` and `trace_id` are searched for in one place.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

pub(super) struct Lines {
    pub(super) service: &'static str,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line(Map::new());
        line.spans(context, event);
        // Later fields win: the event's over its spans', and what every line has over both.
        event.record(&mut line);
        self.fixed(event, &mut line)?;
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

impl Lines {
    fn fixed(&self, event: &Event<'_>, line: &mut Line) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        line.set("timestamp", time);
        line.set("level", event.metadata().level().as_str());
        line.set("target", event.metadata().target());
        line.set("service", self.service);
        Context::map_current(|context| {
            let span = context.span();
            if span.span_context().is_valid() {
                line.set("trace_id", span.span_context().trace_id().to_string());
            }
        });
        Ok(())
    }
}

struct Line(Map<String, Value>);

impl Line {
    /// The fields of all spans around the event, the inner over the outer, and the names of the spans.
    fn spans<S, N>(&mut self, context: &FmtContext<'_, S, N>, event: &Event<'_>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'a> FormatFields<'a> + 'static,
    {
        let leaf = event
            .parent()
            .and_then(|id| context.span(id))
            .or_else(|| context.lookup_current());
        let mut names = Vec::new();
        for span in leaf.iter().flat_map(|leaf| leaf.scope().from_root()) {
            names.push(span.name());
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>()
                && let Ok(Value::Object(fields)) = serde_json::from_str(fields)
            {
                self.0.extend(fields);
            }
        }
        if !names.is_empty() {
            self.set("span", names.join(":"));
        }
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), format!("{value:?}"));
    }
}
