//! JSON that was written out already, because its tag is made from what it says.

use std::marker::PhantomData;

use poem::{IntoResponse, Response};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::{ToJSON, Type};

/// The JSON of a `T`.
pub struct Rendered<T> {
    text: String,
    is: PhantomData<fn() -> T>,
}

impl<T: ToJSON> Rendered<T> {
    pub fn of(thing: &T) -> Self {
        Self {
            text: thing.to_json_string(),
            is: PhantomData,
        }
    }

    pub fn text(&self) -> &str {
        &self.text
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
        self.text
            .with_content_type(Self::CONTENT_TYPE)
            .into_response()
    }
}
