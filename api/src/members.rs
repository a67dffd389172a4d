//! Routes of those who belong to an organization.

use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use shared::access::Right;
use shared::ids::{OrganizationId, UserId};
use shared::organizations::invitations::{self, NewInvitation};
use shared::organizations::members::{self, Member, MemberChange};
use shared::page::{Page, Paging};
use uuid::Uuid;

use crate::http::allowed::{Allowed, Belonging, permissions};
use crate::http::answer::{Gone, Made, Once, Reply};
use crate::http::body::Body;
use crate::http::tags::Tag;

permissions! {
    ReadMembers: "members" "read";
    InviteMembers: "members" "create", TIGHT;
    WriteMembers: "members" "write";
}

const CONTACT_DATA: Right = Right {
    resource: "contact_data",
    action: "read",
};

pub struct Members;

#[OpenApi(tag = "Tag::Organizations")]
impl Members {
    /// List members
    ///
    /// By name, and after them whoever is invited. Mail addresses and telephone numbers are told to those who
    /// may read contact data.
    #[oai(
        path = "/organizations/:organization_id/members",
        method = "get",
        operation_id = "list_members"
    )]
    async fn list(
        &self,
        caller: Allowed<ReadMembers>,
        organization_id: Path<OrganizationId>,
        page: Query<Option<u32>>,
        limit: Query<Option<u32>>,
    ) -> Reply<Json<Page<Member>>> {
        let paging = Paging::new(page.0, limit.0)?;
        let (with_contact, now) = (caller.also(CONTACT_DATA), caller.now());
        let mut db = caller.read().await?;
        Ok(Json(
            members::list(&mut db, organization_id.0, with_contact, now, paging).await?,
        ))
    }

    /// Invite somebody
    ///
    /// They get a mail with a link, which works once within seven days. Inviting the same address again sends
    /// a new link and ends the old one. Nobody can give a role that may do more than they may themselves.
    ///
    /// Errors: ALREADY_MEMBER
    #[oai(
        path = "/organizations/:organization_id/members",
        method = "post",
        operation_id = "invite_member"
    )]
    async fn invite(
        &self,
        caller: Allowed<InviteMembers>,
        organization_id: Path<OrganizationId>,
        new: Body<NewInvitation>,
    ) -> Reply<Once<Made<Member>>> {
        let id = organization_id.0;
        caller
            .once(&new, async |tx| {
                let new = new.content.clone();
                let invited = invitations::invite(tx, id, new, caller.config()).await?;
                let place = format!("/organizations/{id}/members/{}", invited.id);
                Ok(Made::at(&place, invited))
            })
            .await
    }

    /// Change a member
    ///
    /// Gives another role or vetting level; what is left out stays. Nobody can give or take a role that may do
    /// more than they may themselves. The rights hold from the member's next request on.
    ///
    /// Errors: MEMBER_NOT_FOUND, LAST_OWNER
    #[oai(
        path = "/organizations/:organization_id/members/:user_id",
        method = "put",
        operation_id = "change_member"
    )]
    async fn change(
        &self,
        caller: Allowed<WriteMembers>,
        organization_id: Path<OrganizationId>,
        user_id: Path<UserId>,
        change: Body<MemberChange>,
    ) -> Reply<Json<Member>> {
        let (id, user_id) = (organization_id.0, user_id.0);
        let with_contact = caller.also(CONTACT_DATA);
        let member = caller
            .change(async |tx| members::change(tx, id, user_id, change.content, with_contact).await)
            .await?;
        Ok(Json(member))
    }

    /// Remove a member, or withdraw an invitation
    ///
    /// Everybody may leave by themselves, save the last owner.
    ///
    /// Errors: MEMBER_NOT_FOUND, LAST_OWNER
    #[oai(
        path = "/organizations/:organization_id/members/:user_id",
        method = "delete",
        operation_id = "remove_member"
    )]
    async fn remove(
        &self,
        caller: Belonging,
        organization_id: Path<OrganizationId>,
        /// The `id` of an item of the list.
        user_id: Path<Uuid>,
    ) -> Reply<Gone> {
        let removal = caller
            .change(async |tx| members::remove(tx, organization_id.0, user_id.0).await)
            .await?;
        removal.done()?;
        Ok(Gone::Gone)
    }
}
