//! JSON that was written out already, because its tag is made from what it says, or because others are shown the same.

use poem::{IntoResponse, Response};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::{ToJSON, Type};
use shared::shown::Shown;

/// The JSON of a `T`.
pub struct Rendered<T>(Shown<T>);

impl<T: ToJSON> Rendered<T> {
    pub fn of(thing: &T) -> Self {
        Self(Shown::of(thing))
    }

    pub fn digest(&self) -> &str {
        &self.0.digest
    }
}

impl<T> From<Shown<T>> for Rendered<T> {
    fn from(shown: Shown<T>) -> Self {
        Self(shown)
    }
}

impl<T: Type> Payload for Rendered<T> {
    const CONTENT_TYPE: &'static str = Json::<T>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type> IntoResponse for Rendered<T> {
    fn into_response(self) -> Response {
        self.0
            .json
            .with_content_type(Self::CONTENT_TYPE)
            .into_response()
    }
}
