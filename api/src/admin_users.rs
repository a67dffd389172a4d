//! Routes by which platform administrators manage accounts.

use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use shared::accounts::{self, Profile, User, UserChange, UserFilter, UserSort};
use shared::ids::{OrganizationId, UserId};
use shared::page::{Page, Paging};

use crate::http::allowed::Admin;
use crate::http::answer::{Found, Gone, Reply};
use crate::http::body::Body;
use crate::http::tags::{Direction, Tag};

pub struct AdminUsers;

#[OpenApi(tag = "Tag::Administration")]
impl AdminUsers {
    /// List accounts
    ///
    /// `q` finds part of a name or of an address.
    #[oai(path = "/admin/users", method = "get", operation_id = "list_users")]
    #[expect(
        clippy::too_many_arguments,
        reason = "one for each filter that the document names"
    )]
    async fn list(
        &self,
        admin: Admin,
        q: Query<Option<String>>,
        /// Another name of `q`.
        search: Query<Option<String>>,
        active: Query<Option<bool>>,
        /// Those who belong to this organization.
        organization_id: Query<Option<OrganizationId>>,
        sort: Query<Option<UserSort>>,
        order: Query<Option<Direction>>,
        page: Query<Option<u32>>,
        limit: Query<Option<u32>>,
    ) -> Reply<Json<Page<User>>> {
        let paging = Paging::new(page.0, limit.0)?;
        let filter = UserFilter {
            q: q.0.or(search.0),
            active: active.0,
            organization_id: organization_id.0,
            sort: sort.0.unwrap_or_default(),
            descending: order.0 == Some(Direction::Desc),
        };
        let mut db = admin.read().await?;
        Ok(Json(accounts::list(&mut db, &filter, paging).await?))
    }

    /// Read an account
    ///
    /// Errors: USER_NOT_FOUND
    #[oai(
        path = "/admin/users/:user_id",
        method = "get",
        operation_id = "read_user"
    )]
    async fn read(&self, admin: Admin, user_id: Path<UserId>) -> Reply<Found<Profile>> {
        let mut db = admin.read().await?;
        Ok(Found::new(accounts::profile(&mut db, user_id.0).await?))
    }

    /// Change an account
    ///
    /// What is named is replaced, what is left out stays. Nothing here makes a platform administrator.
    ///
    /// Errors: USER_NOT_FOUND, ORGANIZATION_NOT_FOUND, MEMBER_NOT_FOUND, LAST_OWNER, CONCURRENT_UPDATE
    #[oai(
        path = "/admin/users/:user_id",
        method = "put",
        operation_id = "change_user"
    )]
    async fn change(
        &self,
        admin: Admin,
        user_id: Path<UserId>,
        change: Body<UserChange>,
    ) -> Reply<Found<Profile>> {
        let seen = admin.seen_or_any(change.content.version)?;
        let change = change.content;
        let profile = admin
            .change(async |tx| {
                accounts::change(tx, user_id.0, seen, change).await?;
                accounts::profile(tx, user_id.0).await
            })
            .await?;
        Ok(Found::new(profile))
    }

    /// Deactivate an account
    ///
    /// Ends all of its sessions and lets nobody log in to it. What it has bought and done stays. The last owner of an
    /// organization cannot be deactivated before somebody else is its owner.
    ///
    /// Errors: USER_NOT_FOUND, LAST_OWNER
    #[oai(
        path = "/admin/users/:user_id",
        method = "delete",
        operation_id = "deactivate_user"
    )]
    async fn deactivate(&self, admin: Admin, user_id: Path<UserId>) -> Reply<Gone> {
        admin
            .change(async |tx| accounts::deactivate(tx, user_id.0).await)
            .await?;
        Ok(Gone::Gone)
    }
}
