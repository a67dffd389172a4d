//! Routes of organizations, and of what happens in them.

use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use shared::activity::feed::{self, Happening};
use shared::ids::OrganizationId;
use shared::organizations::{
    self, NewOrganization, Organization, OrganizationChange, OrganizationInList,
};
use shared::page::{Feed, Following, Page, Paging};

use crate::http::allowed::{Allowed, SignedIn, permissions};
use crate::http::answer::{Created, Found, Once, Reply, Versioned};
use crate::http::body::Body;
use crate::http::tags::Tag;

permissions! {
    ReadOrganization: "organization" "read";
    WriteOrganization: "organization" "write";
    ReadActivity: "activity" "read";
}

impl Versioned for Organization {
    fn version(&self) -> i64 {
        self.version
    }
}

pub struct Organizations;

#[OpenApi(tag = "Tag::Organizations")]
impl Organizations {
    /// List your organizations
    ///
    /// Those you belong to, by name, each with your role in it.
    #[oai(
        path = "/organizations",
        method = "get",
        operation_id = "list_organizations"
    )]
    async fn list(
        &self,
        caller: SignedIn,
        /// All there are, for platform administrators.
        all: Query<Option<bool>>,
        page: Query<Option<u32>>,
        limit: Query<Option<u32>>,
    ) -> Reply<Json<Page<OrganizationInList>>> {
        let paging = Paging::new(page.0, limit.0)?;
        let all = all.0 == Some(true);
        if all {
            caller.must_be_admin()?;
        }
        let user_id = caller.person()?.user_id;
        let mut db = caller.read().await?;
        Ok(Json(
            organizations::list(&mut db, user_id, all, paging).await?,
        ))
    }

    /// Create an organization
    ///
    /// Whoever creates it is its owner.
    ///
    /// Errors: SLUG_TAKEN
    #[oai(
        path = "/organizations",
        method = "post",
        operation_id = "create_organization"
    )]
    async fn create(
        &self,
        caller: SignedIn,
        new: Body<NewOrganization>,
    ) -> Reply<Once<Created<Organization>>> {
        let owner = caller.person()?.user_id;
        caller
            .once(&new, async |tx| {
                let made = organizations::found(tx, new.content.clone(), owner).await?;
                Ok(Created::at(&format!("/organizations/{}", made.id), made))
            })
            .await
    }

    /// Read an organization
    #[oai(
        path = "/organizations/:organization_id",
        method = "get",
        operation_id = "read_organization"
    )]
    async fn read(
        &self,
        caller: Allowed<ReadOrganization>,
        organization_id: Path<OrganizationId>,
    ) -> Reply<Found<Organization>> {
        let mut db = caller.read().await?;
        Ok(Found::new(
            organizations::get(&mut db, organization_id.0).await?,
        ))
    }

    /// Change an organization
    ///
    /// What is named is replaced, what is left out stays. PATCH is the same operation.
    ///
    /// Errors: CONCURRENT_UPDATE, VERSION_REQUIRED
    #[oai(
        path = "/organizations/:organization_id",
        method = "put",
        operation_id = "change_organization"
    )]
    async fn change(
        &self,
        caller: Allowed<WriteOrganization>,
        organization_id: Path<OrganizationId>,
        change: Body<OrganizationChange>,
    ) -> Reply<Found<Organization>> {
        let seen = caller.seen(change.content.version)?;
        let change = change.content;
        let organization = caller
            .change(async |tx| organizations::change(tx, organization_id.0, seen, change).await)
            .await?;
        Ok(Found::new(organization))
    }

    /// Follow what happens
    ///
    /// Oldest first and without gaps: go on with `next` as `after`, now or later. What has happened appears
    /// some seconds afterwards.
    #[oai(
        path = "/organizations/:organization_id/activity",
        method = "get",
        operation_id = "follow_activity"
    )]
    async fn activity(
        &self,
        caller: Allowed<ReadActivity>,
        organization_id: Path<OrganizationId>,
        /// The `next` of an earlier answer; without it the feed begins at its beginning.
        after: Query<Option<String>>,
        /// At most this many, up to 100.
        limit: Query<Option<u32>>,
    ) -> Reply<Json<Feed<Happening>>> {
        let following = Following::new(after.0.as_deref(), limit.0)?;
        let mut db = caller.read().await?;
        organizations::get(&mut db, organization_id.0).await?;
        Ok(Json(
            feed::follow(&mut db, organization_id.0, following).await?,
        ))
    }
}
