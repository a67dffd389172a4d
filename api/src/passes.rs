//! Routes of passes, the one-time tokens for addresses that a browser opens by itself.

use poem_openapi::param::Header;
use poem_openapi::{Object, OpenApi};
use shared::clock::Time;
use shared::error::Invalid;

use crate::http::access::{PASS_IN_QUERY, below_prefix, opens_by_pass};
use crate::http::allowed::Public;
use crate::http::answer::{Reply, Secret};
use crate::http::body::Body;
use crate::http::tags::Tag;

/// What is to be opened.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct NewPass {
    /// The path of a stream or of a picture, like `/orders/{order_id}/stream` or `/tickets/{ticket_id}/qr.svg`.
    #[oai(validator(min_length = 1, max_length = 300))]
    path: String,
}

/// A one-time token for one path.
#[derive(Object)]
struct Pass {
    token: String,
    /// The path with the token, as a browser opens it.
    url: String,
    /// When it is worth nothing any more, unless it was used before.
    expires_at: Time,
}

pub struct Passes;

#[OpenApi(tag = "Tag::Accounts")]
impl Passes {
    /// Make a one-time token for an address
    ///
    /// A browser that opens a stream (`EventSource`) or a picture (`<img>`) by its address cannot send a header. This
    /// token goes into the address as `?token=` instead: it stands for your session, key or order (`Order-Secret`) at
    /// this one path, once, within a minute, and ends with them. A stream that was cut off needs another.
    #[oai(path = "/passes", method = "post", operation_id = "create_pass")]
    async fn create(
        &self,
        public: Public,
        /// What opens the order to a guest.
        #[oai(name = "Order-Secret")]
        order_secret: Header<Option<String>>,
        new: Body<NewPass>,
    ) -> Reply<Secret<Pass>> {
        let path = below_prefix(&new.content.path);
        if !opens_by_pass(path) || path.contains(['?', '#', '%']) {
            let message = "must be the path of a stream or a picture that is opened by a token";
            return Err(Invalid::field("path", message).into());
        }
        let pass = public.pass(order_secret.0.as_deref(), path).await?;
        Ok(Secret::new(Pass {
            url: format!("{}{path}?{PASS_IN_QUERY}={}", crate::PREFIX, pass.token),
            token: pass.token,
            expires_at: pass.expires_at.into(),
        }))
    }
}
