//! Routes of roles.

use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use shared::ids::{OrganizationId, RoleId};
use shared::page::All;
use shared::roles::{self, NewRole, Role, RoleChange};

use crate::http::allowed::{Allowed, permissions};
use crate::http::answer::{Gone, Made, Once, Reply};
use crate::http::body::Body;
use crate::http::tags::Tag;

permissions! {
    ReadRoles: "roles" "read";
    CreateRoles: "roles" "create";
    WriteRoles: "roles" "write";
    DeleteRoles: "roles" "delete";
}

pub struct Roles;

#[OpenApi(tag = "Tag::Organizations")]
impl Roles {
    /// List roles
    ///
    /// The built-in ones and those of the organization, each with what it may do.
    #[oai(
        path = "/organizations/:organization_id/roles",
        method = "get",
        operation_id = "list_roles"
    )]
    async fn list(
        &self,
        caller: Allowed<ReadRoles>,
        organization_id: Path<OrganizationId>,
    ) -> Reply<Json<All<Role>>> {
        let mut db = caller.read().await?;
        Ok(Json(roles::list(&mut db, organization_id.0).await?))
    }

    /// Create a role
    ///
    /// Nobody can make a role that may do more than they may themselves.
    ///
    /// Errors: ROLE_NAME_TAKEN
    #[oai(
        path = "/organizations/:organization_id/roles",
        method = "post",
        operation_id = "create_role"
    )]
    async fn create(
        &self,
        caller: Allowed<CreateRoles>,
        organization_id: Path<OrganizationId>,
        new: Body<NewRole>,
    ) -> Reply<Once<Made<Role>>> {
        let id = organization_id.0;
        caller
            .once(&new, async |tx| {
                let role = roles::create(tx, id, new.content.clone()).await?;
                let place = format!("/organizations/{id}/roles/{}", role.id);
                Ok(Made::at(&place, role))
            })
            .await
    }

    /// Change a role
    ///
    /// What is named is replaced, what is left out stays. It holds for everybody who has the role, from their
    /// next request on.
    ///
    /// Errors: ROLE_NOT_FOUND, ROLE_BUILT_IN, ROLE_NAME_TAKEN
    #[oai(
        path = "/organizations/:organization_id/roles/:role_id",
        method = "put",
        operation_id = "change_role"
    )]
    async fn change(
        &self,
        caller: Allowed<WriteRoles>,
        organization_id: Path<OrganizationId>,
        role_id: Path<RoleId>,
        change: Body<RoleChange>,
    ) -> Reply<Json<Role>> {
        let (id, role_id) = (organization_id.0, role_id.0);
        let role = caller
            .change(async |tx| roles::change(tx, id, role_id, change.content).await)
            .await?;
        Ok(Json(role))
    }

    /// Remove a role
    ///
    /// Only one that no member and no open invitation has.
    ///
    /// Errors: ROLE_NOT_FOUND, ROLE_BUILT_IN, ROLE_IN_USE
    #[oai(
        path = "/organizations/:organization_id/roles/:role_id",
        method = "delete",
        operation_id = "delete_role"
    )]
    async fn delete(
        &self,
        caller: Allowed<DeleteRoles>,
        organization_id: Path<OrganizationId>,
        role_id: Path<RoleId>,
    ) -> Reply<Gone> {
        caller
            .change(async |tx| roles::delete(tx, organization_id.0, role_id.0).await)
            .await?;
        Ok(Gone::Gone)
    }
}
