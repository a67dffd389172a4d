//! Routes of invitations that were mailed to somebody.

use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use shared::organizations::OrganizationInList;
use shared::organizations::invitations;

use crate::http::allowed::SignedIn;
use crate::http::answer::Reply;
use crate::http::tags::Tag;

pub struct Invitations;

#[OpenApi(tag = "Tag::Organizations")]
impl Invitations {
    /// Accept an invitation
    ///
    /// For the person whose account has the address that the invitation was mailed to. It works once. An
    /// `Idempotency-Key` is not looked at here: repeated, this answers INVITATION_NOT_FOUND, and the list of one's
    /// organizations says whether the first request went through.
    ///
    /// Errors: INVITATION_NOT_FOUND, INVITATION_FOR_ANOTHER, INVITATION_EXPIRED, ALREADY_MEMBER
    #[oai(
        path = "/invitations/:token/accept",
        method = "post",
        operation_id = "accept_invitation"
    )]
    async fn accept(
        &self,
        caller: SignedIn,
        token: Path<String>,
    ) -> Reply<Json<OrganizationInList>> {
        let user_id = caller.person()?.user_id;
        let token = token.0.into();
        let joined = caller
            .change(async |tx| invitations::accept(tx, &token, user_id).await)
            .await?;
        Ok(Json(joined))
    }
}
