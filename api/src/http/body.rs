//! Reads a JSON body and checks it against its own schema in the document, so that every bad field is named.

use std::time::Duration;

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use poem::error::ReadBodyError;
use poem::http::Method;
use poem::{Request, RequestBody};
use poem_openapi::payload::{Json, ParsePayload, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::ParseFromJSON;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use shared::App;
use shared::error::{Code, Fault, Invalid, Result};

use super::answer::Failure;
use super::described;

const KIB: usize = 1_024;
/// The largest body of the operations below a path, where it is smaller than the setting `http.body_limit`.
const LIMITS: [(&str, usize); 5] = [
    ("/auth/", 8 * KIB),
    ("/users/", 8 * KIB),
    ("/holds", 64 * KIB),
    ("/orders", 64 * KIB),
    ("/tickets", 64 * KIB),
];
/// Of the operation that is `POST /orders` by an older name.
const PURCHASE: &str = "/tickets/purchase";
/// So many values, those within others included, are in no body that is meant well. A million of them fit into 2 MB and take
/// 60 MB once they are read.
const MOST_VALUES: usize = 50_000;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request that cannot be read as what it says it is.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("The body is no JSON: {0}.")]
    NoJson(serde_json::Error),
    #[error("Send the body as `application/json`.")]
    NotJsonType,
    #[error("The body is larger than {limit} bytes.")]
    TooLarge { limit: usize },
    #[error("The body has more than {MOST_VALUES} values.")]
    TooManyValues,
    #[error("The body ended before it was complete.")]
    CutOff,
}

impl Fault for BodyError {
    fn code(&self) -> Code {
        match self {
            Self::NoJson(_) | Self::CutOff => Code::MalformedRequest,
            Self::NotJsonType => Code::UnsupportedMediaType,
            Self::TooLarge { .. } | Self::TooManyValues => Code::PayloadTooLarge,
        }
    }
}

/// What can be told apart from another request's content.
pub trait Digested {
    fn digest(&self) -> [u8; 32];
}

/// A JSON body, checked.
pub struct Body<T> {
    pub content: T,
    digest: [u8; 32],
}

impl<T> Digested for Body<T> {
    fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl<'a, T: ParseFromJSON + 'static> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: <Json<T> as Payload>::CONTENT_TYPE,
                schema: T::schema_ref(),
            }],
            required: <Json<T> as ParsePayload>::IS_REQUIRED,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(read(request, body).await.map_err(Failure)?)
    }
}

/// A body byte for byte as it came, because its signature is of that.
pub struct Raw(pub Vec<u8>);

impl<'a> ApiExtractor<'a> for Raw {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Body<Value> as ApiExtractor>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        <Body<Value> as ApiExtractor>::request_meta()
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(whole(request, body).await.map_err(Failure)?))
    }
}

async fn read<T: ParseFromJSON>(request: &Request, body: &mut RequestBody) -> Result<Body<T>> {
    let kind = request.content_type();
    if kind.is_some_and(|kind| !<Json<T> as Payload>::check_content_type(kind)) {
        return Err(BodyError::NotJsonType.into());
    }
    let bytes = whole(request, body).await?;
    if has_more_values_than(&bytes, MOST_VALUES) {
        return Err(BodyError::TooManyValues.into());
    }
    let value: Value = match kind {
        Some(_) => serde_json::from_slice(&bytes).map_err(BodyError::NoJson)?,
        // A deletion may come without a body; anything else that comes without has lost it.
        None if bytes.is_empty() && *request.method() == Method::DELETE => {
            Value::Object(serde_json::Map::new())
        }
        None => return Err(BodyError::NotJsonType.into()),
    };
    check(&T::name(), &value)?;
    refuse_nul(&value)?;
    let content = T::parse_from_json(Some(value))
        .map_err(|error| Invalid::field("body", error.into_message()))?;
    Ok(Body {
        content,
        digest: Sha256::digest(&bytes).into(),
    })
}

/// The body as it is once unpacked, within the limit, in time.
async fn whole(request: &Request, body: &mut RequestBody) -> Result<Vec<u8>> {
    let app: &App = request.data().expect("the app is given to every request");
    let limit = limit_of(request.uri().path()).min(app.config.http.body_limit);
    let reading = body
        .take()
        .map_err(|_| BodyError::CutOff)?
        .into_bytes_limit(limit);
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(ReadBodyError::PayloadTooLarge)) => Err(BodyError::TooLarge { limit }.into()),
        Ok(Err(_)) | Err(_) => Err(BodyError::CutOff.into()),
    }
}

/// The largest body for a path, in bytes.
fn limit_of(path: &str) -> usize {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    if path.ends_with(PURCHASE) {
        return 64 * KIB;
    }
    let limit = LIMITS.iter().find(|(below, _)| path.starts_with(below));
    limit.map_or(usize::MAX, |(_, limit)| *limit)
}

/// Counts what begins a value or stands between two, outside of texts, before any of it takes memory.
fn has_more_values_than(json: &[u8], most: usize) -> bool {
    let (mut values, mut in_text, mut escaped) = (1_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values > most
}

/// Every violation of the schema, each by the name of its field. How long lists are is looked at before what is in them: all
/// violations are collected before the first can be told, so a list without a bound would decide what a refusal costs.
fn check(schema: &str, value: &Value) -> Result<()> {
    let validator = described::compiled(schema, || described::json_schema(schema));
    if validator.is_valid(value) {
        return Ok(());
    }
    let sizes = described::compiled(&format!("{schema} sizes"), || {
        described::sizes(described::json_schema(schema))
    });
    for validator in [sizes, validator] {
        let mut invalid = Invalid::default();
        for violation in validator.iter_errors(value) {
            if invalid.is_full() {
                break;
            }
            tell(&violation, &mut invalid);
        }
        invalid.check()?;
    }
    Ok(())
}

/// Postgres keeps no NUL in a text.
fn refuse_nul(value: &Value) -> Result<()> {
    match nul_in(value) {
        None => Ok(()),
        Some(pointer) => {
            let place = Some(dotted(&pointer)).filter(|place| !place.is_empty());
            let message = "must not contain the character NUL";
            Err(Invalid::field(place.unwrap_or_else(|| "body".into()), message).into())
        }
    }
}

/// Where the first text with a NUL is, as a JSON pointer.
fn nul_in(value: &Value) -> Option<String> {
    let below = |part: String, place: String| format!("/{part}{place}");
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(at, item)| Some(below(at.to_string(), nul_in(item)?)))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if name.contains('\0') {
                return Some(String::new());
            }
            let name = || name.replace('~', "~0").replace('/', "~1");
            Some(below(name(), nul_in(value)?))
        }),
        _ => None,
    }
}

/// What is wrong with one value, if anything.
pub(super) fn first_violation(schema: &Value, value: &Value) -> Option<String> {
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .ok()?;
    let violation = validator.iter_errors(value).next()?;
    Some(expectation(violation.kind()).unwrap_or_else(|| violation.masked().to_string()))
}

fn tell(violation: &ValidationError<'_>, invalid: &mut Invalid) {
    let place = dotted(violation.instance_path().as_str());
    match violation.kind() {
        ValidationErrorKind::Required { property } => {
            invalid.push(
                join(&place, property.as_str().unwrap_or_default()),
                "is missing",
            );
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            for field in unexpected {
                invalid.push(join(&place, field), "is not a field of this request");
            }
        }
        // What may be null: say what is wrong with what is there instead.
        ValidationErrorKind::AnyOf { context } if !violation.instance().is_null() => {
            for violation in context.iter().flatten().filter(|it| !wants_null(it)) {
                tell(violation, invalid);
            }
        }
        kind => {
            let place = if place.is_empty() {
                "body".to_owned()
            } else {
                place
            };
            invalid.push(
                place,
                expectation(kind).unwrap_or_else(|| violation.masked().to_string()),
            );
        }
    }
}

fn wants_null(violation: &ValidationError<'_>) -> bool {
    matches!(
        violation.kind(),
        ValidationErrorKind::Type { kind: TypeKind::Single(kind) } if kind.to_string() == "null"
    )
}

/// What was expected instead, in words.
fn expectation(kind: &ValidationErrorKind) -> Option<String> {
    Some(match kind {
        ValidationErrorKind::Type {
            kind: TypeKind::Single(kind),
        } => format!("must be of type {kind}"),
        ValidationErrorKind::Type {
            kind: TypeKind::Multiple(kinds),
        } => {
            let kinds: Vec<String> = kinds.iter().map(|kind| kind.to_string()).collect();
            format!("must be of type {}", kinds.join(" or "))
        }
        ValidationErrorKind::MaxItems { limit } => format!("must have at most {limit} items"),
        ValidationErrorKind::MaxProperties { limit } => {
            format!("must have at most {limit} fields")
        }
        ValidationErrorKind::MinLength { limit: 1 } => "must not be empty".into(),
        ValidationErrorKind::MinLength { limit } => {
            format!("must have at least {limit} characters")
        }
        ValidationErrorKind::MaxLength { limit } => format!("must have at most {limit} characters"),
        ValidationErrorKind::Minimum { limit } => format!("must be at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("must be at most {limit}"),
        ValidationErrorKind::Pattern { pattern } if pattern == r"\S" => "must not be blank".into(),
        ValidationErrorKind::Pattern { pattern } => format!("must match {pattern}"),
        ValidationErrorKind::Enum { options } => format!("must be one of {options}"),
        ValidationErrorKind::Format { format } => format!("must be a valid {format}"),
        _ => return None,
    })
}

/// `/attendees/0/email` as people write it: `attendees[0].email`.
fn dotted(pointer: &str) -> String {
    pointer
        .split('/')
        .skip(1)
        .fold(String::new(), |place, part| {
            if part.bytes().all(|byte| byte.is_ascii_digit()) {
                format!("{place}[{part}]")
            } else {
                join(&place, &part.replace("~1", "/").replace("~0", "~"))
            }
        })
}

fn join(place: &str, field: &str) -> String {
    if place.is_empty() {
        field.to_owned()
    } else {
        format!("{place}.{field}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_people_write_them() {
        assert_eq!(dotted("/attendees/0/email"), "attendees[0].email");
        assert_eq!(dotted(""), "");
        assert_eq!(dotted("/a~1b"), "a/b");
    }

    #[test]
    fn values_are_counted_outside_of_texts() {
        let count = |json: &str| (0..20).find(|most| !has_more_values_than(json.as_bytes(), *most));
        assert_eq!(count("1"), Some(1));
        assert_eq!(count("[1,2,3]"), Some(4));
        assert_eq!(count(r#"{"a": "1,2,[", "b": "\",[", "c": [{}]}"#), Some(6));
    }

    #[test]
    fn a_nul_is_named_by_its_place() {
        let value = serde_json::json!({"a": [1, {"b/c": "x\u{0}"}]});
        assert_eq!(
            nul_in(&value).map(|it| dotted(&it)).as_deref(),
            Some("a[1].b/c")
        );
        assert_eq!(nul_in(&serde_json::json!({"a": ["fine", null]})), None);
    }

    #[test]
    fn the_way_to_a_hold_and_an_account_takes_small_bodies() {
        assert_eq!(limit_of("/api/v1/auth/login"), 8 * KIB);
        assert_eq!(limit_of("/holds"), 64 * KIB);
        assert_eq!(limit_of("/api/v1/events/x/tickets/purchase"), 64 * KIB);
        assert_eq!(limit_of("/api/v1/events"), usize::MAX);
    }
}
