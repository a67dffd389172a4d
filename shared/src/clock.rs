//! The one place that asks the machine what time it is.
//!
//! Everything else is handed a time. Tests hand in a clock that they move themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use std::borrow::Cow;

use chrono::{DateTime, Datelike as _, SecondsFormat, TimeDelta, Utc};
use poem_openapi::registry::MetaSchemaRef;
use poem_openapi::types::{
    ParseError, ParseFromJSON, ParseFromParameter, ParseResult, ToJSON, Type,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug)]
pub enum Clock {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands still until it is told to move.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.timestamp_micros())))
    }

    /// Microseconds, because that is what Postgres keeps: a time read back equals the time written.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the home of the system's time")]
    pub fn now(&self) -> DateTime<Utc> {
        let micros = match self {
            Self::System => Utc::now().timestamp_micros(),
            Self::Manual(micros) => micros.load(Ordering::SeqCst),
        };
        DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Whether it goes by itself, as the clocks of other machines do.
    #[must_use]
    pub const fn is_of_the_system(&self) -> bool {
        matches!(self, Self::System)
    }

    /// Moves a manual clock; the system's clock cannot be moved.
    pub fn advance(&self, by: TimeDelta) {
        match self {
            Self::Manual(micros) => {
                let by = by.num_microseconds().expect("a span that fits a clock");
                micros.fetch_add(by, Ordering::SeqCst);
            }
            Self::System => panic!("the system's clock cannot be moved"),
        }
    }
}

/// A moment as the API writes it: RFC 3339 in UTC, with `Z`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Time(pub DateTime<Utc>);

impl From<DateTime<Utc>> for Time {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time)
    }
}

impl Type for Time {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "string(date-time)".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        DateTime::<Utc>::schema_ref()
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl Time {
    /// As it is kept and written, if it can be: to the microsecond, in a year of four digits. A leap second is the
    /// beginning of the next one.
    fn kept(time: DateTime<Utc>) -> ParseResult<Self> {
        let kept = DateTime::from_timestamp_micros(time.timestamp_micros());
        let kept = kept.filter(|time| (1..=9999).contains(&time.year()));
        kept.map(Self)
            .ok_or_else(|| ParseError::custom("must be in a year from 1 to 9999, in UTC"))
    }
}

impl ParseFromJSON for Time {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let time = DateTime::<Utc>::parse_from_json(value);
        Self::kept(time.map_err(ParseError::propagate)?)
    }
}

impl ParseFromParameter for Time {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        let time = DateTime::<Utc>::parse_from_parameter(value);
        Self::kept(time.map_err(ParseError::propagate)?)
    }
}

impl ToJSON for Time {
    fn to_json(&self) -> Option<Value> {
        Some(self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_is_kept() {
        for (text, kept) in [
            (
                "2030-01-01T00:00:00.1234569Z",
                "2030-01-01T00:00:00.123456Z",
            ),
            ("2030-06-30T23:59:60Z", "2030-07-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("2030-01-01T02:00:00+02:00", "2030-01-01T00:00:00Z"),
        ] {
            let time = Time::parse_from_json(Some(text.into())).expect(text);
            assert_eq!(time.to_json(), Some(kept.into()), "{text}");
        }
        for text in [
            "9999-12-31T23:59:59-12:00",
            "0001-01-01T00:00:00+14:00",
            "today",
        ] {
            assert!(Time::parse_from_json(Some(text.into())).is_err(), "{text}");
            assert!(Time::parse_from_parameter(text).is_err(), "{text}");
        }
    }
}
