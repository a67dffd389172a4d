//! Routes between services, below `/internal`.

use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use shared::accounts::{self, Profile};
use shared::clock::Time;
use shared::ids::LoginSessionId;

use crate::http::allowed::Internal;
use crate::http::answer::Reply;
use crate::http::body::Body;
use crate::http::tags::Tag;

#[derive(Object)]
#[oai(deny_unknown_fields)]
struct Presented {
    /// An access token, as a person sends it.
    #[oai(validator(max_length = 4000))]
    token: String,
}

/// What is known of an access token.
#[derive(Object)]
struct Verified {
    /// False for a token that is none of ours, has expired, or whose session is over; nothing else is said then.
    active: bool,
    session_id: Option<LoginSessionId>,
    expires_at: Option<Time>,
    user: Option<Profile>,
}

pub struct InternalPaths;

#[OpenApi(tag = "Tag::Internal")]
impl InternalPaths {
    /// Whose token is this
    #[oai(
        path = "/auth/verify",
        method = "post",
        operation_id = "verify_access_token"
    )]
    async fn verify(&self, service: Internal, presented: Body<Presented>) -> Reply<Json<Verified>> {
        let Some((person, expires_at)) = service.whose(&presented.content.token).await? else {
            return Ok(Json(Verified {
                active: false,
                session_id: None,
                expires_at: None,
                user: None,
            }));
        };
        let profile = accounts::profile(&mut *service.read().await?, person.user_id).await?;
        Ok(Json(Verified {
            active: true,
            session_id: Some(person.session_id),
            expires_at: Some(expires_at.into()),
            user: Some(profile),
        }))
    }
}
