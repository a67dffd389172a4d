//! Routes of the keys of services.

use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use shared::Result;
use shared::access::{Caller, Right, Scope};
use shared::api_keys::{self, ApiKey, NewApiKey, NewlyMadeApiKey};
use shared::ids::{ApiKeyId, OrganizationId};
use shared::page::All;

use crate::http::allowed::{Allowed, Permission, Scheme, permissions};
use crate::http::answer::{Gone, NewSecret, Once, Reply};
use crate::http::body::Body;
use crate::http::tags::Tag;

permissions! {
    ReadApiKeys: "api_keys" "read";
    DeleteApiKeys: "api_keys" "delete";
}

/// The right to make keys, which only people have: a key that leaked must not leave another behind.
pub struct MakeApiKeys;

impl Permission for MakeApiKeys {
    const SCHEMES: &'static [Scheme] = &[Scheme::Bearer];
    const PLACED: bool = true;

    fn scope(caller: &Caller) -> Result<Scope> {
        caller.person()?;
        caller.scope(Right {
            resource: "api_keys",
            action: "create",
        })
    }
}

pub struct ApiKeys;

#[OpenApi(tag = "Tag::Organizations")]
impl ApiKeys {
    /// List API keys
    ///
    /// Without the keys themselves, and without those that were revoked.
    #[oai(
        path = "/organizations/:organization_id/api-keys",
        method = "get",
        operation_id = "list_api_keys"
    )]
    async fn list(
        &self,
        caller: Allowed<ReadApiKeys>,
        organization_id: Path<OrganizationId>,
    ) -> Reply<Json<All<ApiKey>>> {
        let mut db = caller.read().await?;
        Ok(Json(api_keys::list(&mut db, organization_id.0).await?))
    }

    /// Make an API key
    ///
    /// The answer tells the key; nothing tells it again. Nobody can make one that may do more than they may
    /// themselves. It stands for the organization and works until it expires or is revoked.
    #[oai(
        path = "/organizations/:organization_id/api-keys",
        method = "post",
        operation_id = "make_api_key"
    )]
    async fn make(
        &self,
        caller: Allowed<MakeApiKeys>,
        organization_id: Path<OrganizationId>,
        new: Body<NewApiKey>,
    ) -> Reply<Once<NewSecret<NewlyMadeApiKey>>> {
        let id = organization_id.0;
        caller
            .once_with_secret(&new, "key", async |tx| {
                let made = api_keys::make(tx, id, new.content.clone()).await?;
                let place = format!("/organizations/{id}/api-keys/{}", made.about.id);
                Ok(NewSecret::at(&place, made))
            })
            .await
    }

    /// Revoke an API key
    ///
    /// The next request with it is refused.
    ///
    /// Errors: API_KEY_NOT_FOUND
    #[oai(
        path = "/organizations/:organization_id/api-keys/:key_id",
        method = "delete",
        operation_id = "revoke_api_key"
    )]
    async fn revoke(
        &self,
        caller: Allowed<DeleteApiKeys>,
        organization_id: Path<OrganizationId>,
        key_id: Path<ApiKeyId>,
    ) -> Reply<Gone> {
        caller
            .change(async |tx| api_keys::revoke(tx, organization_id.0, key_id.0).await)
            .await?;
        Ok(Gone::Gone)
    }
}
