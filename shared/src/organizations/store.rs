//! Every statement on organizations, their members and invitations.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::invitations::{Invitation, NewInvitation};
use super::members::{Member, MemberStatus, Membership};
use super::{Organization, OrganizationInList};
use crate::clock::Time;
use crate::error::Result;
use crate::ids::{InvitationId, OrganizationId, RoleId, UserId};
use crate::page::Paging;

/// False if the slug is taken.
pub(super) async fn insert(db: &mut PgConnection, new: &Organization) -> Result<bool> {
    let inserted = sqlx::query!(
        "insert into organizations (id, name, slug, currency, time_zone, contact, settings, version,
                                    created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (slug) do nothing",
        new.id as _,
        new.name,
        new.slug,
        new.currency,
        new.time_zone,
        new.contact,
        serde_json::to_value(&new.settings)?,
        new.version,
        new.created_at.0,
        new.updated_at.0,
    );
    Ok(inserted.execute(db).await?.rows_affected() == 1)
}

pub(super) async fn update(db: &mut PgConnection, new: &Organization) -> Result<()> {
    sqlx::query!(
        "update organizations set name = $2, currency = $3, time_zone = $4, contact = $5, settings = $6,
                                  version = $7, updated_at = $8
         where id = $1",
        new.id as _,
        new.name,
        new.currency,
        new.time_zone,
        new.contact,
        serde_json::to_value(&new.settings)?,
        new.version,
        new.updated_at.0,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn get(db: &mut PgConnection, id: OrganizationId) -> Result<Option<Organization>> {
    let row = sqlx::query!(
        "select id, name, slug, currency, time_zone, contact, settings, version, created_at, updated_at
         from organizations where id = $1",
        id as _,
    );
    let Some(row) = row.fetch_optional(db).await? else {
        return Ok(None);
    };
    Ok(Some(Organization {
        id: row.id,
        name: row.name,
        slug: row.slug,
        currency: row.currency,
        time_zone: row.time_zone,
        contact: row.contact,
        settings: serde_json::from_value(row.settings)?,
        version: row.version,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }))
}

/// Rows that refer to the organization can be written meanwhile.
pub(super) async fn lock(db: &mut PgConnection, id: OrganizationId) -> Result<()> {
    sqlx::query!(
        "select from organizations where id = $1 for no key update",
        id as _
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn by_slug(db: &mut PgConnection, slug: &str) -> Result<Option<OrganizationId>> {
    let id = sqlx::query_scalar!("select id from organizations where slug = $1", slug);
    Ok(id.fetch_optional(db).await?)
}

pub(super) async fn count(db: &mut PgConnection, user_id: UserId, all: bool) -> Result<i64> {
    let total = sqlx::query_scalar!(
        r#"select count(*) as "total!"
           from organizations o left join members m on m.organization_id = o.id and m.user_id = $1
           where $2 or m.user_id is not null"#,
        user_id as _,
        all,
    );
    Ok(total.fetch_one(db).await?)
}

pub(super) async fn list(
    db: &mut PgConnection,
    user_id: UserId,
    all: bool,
    paging: Paging,
) -> Result<Vec<OrganizationInList>> {
    let rows = sqlx::query_as!(
        OrganizationInList,
        r#"select o.id, o.name, o.slug, m.role_id as "role_id?: RoleId", r.name as "role?",
                  m.vetting_level as "vetting_level?"
           from organizations o
           left join members m on m.organization_id = o.id and m.user_id = $1
           left join roles r on r.id = m.role_id
           where $2 or m.user_id is not null
           order by lower(o.name), o.id
           limit $3 offset $4"#,
        user_id as _,
        all,
        paging.limit(),
        paging.offset(),
    );
    Ok(rows.fetch_all(db).await?)
}

pub(super) async fn count_members(
    db: &mut PgConnection,
    id: OrganizationId,
    now: DateTime<Utc>,
) -> Result<i64> {
    let total = sqlx::query_scalar!(
        r#"select (select count(*) from members where organization_id = $1)
                + (select count(*) from invitations where organization_id = $1 and expires_at > $2) as "total!""#,
        id as _,
        now,
    );
    Ok(total.fetch_one(db).await?)
}

/// Members by name, then open invitations by age. Contact data only where it is asked for.
pub(super) async fn list_members(
    db: &mut PgConnection,
    id: OrganizationId,
    only: Option<Uuid>,
    with_contact: bool,
    now: DateTime<Utc>,
    paging: Paging,
) -> Result<Vec<Member>> {
    let rows = sqlx::query_as!(
        Member,
        r#"select all_of_them.id as "id!", status as "status!: MemberStatus", full_name,
                  case when $3 then email end as email, case when $3 then phone end as phone, avatar_url,
                  role_id as "role_id!: RoleId", r.name as role, vetting_level as "vetting_level!",
                  since as "since!: Time", expires_at as "expires_at: Time"
           from (
               select u.id, 'active' as status, u.full_name, u.email, u.phone, u.avatar_url, m.role_id,
                      m.vetting_level, m.created_at as since, null::timestamptz as expires_at
               from members m join users u on u.id = m.user_id
               where m.organization_id = $1
               union all
               select id, 'invited', null, email, null, null, role_id, vetting_level, created_at, expires_at
               from invitations
               where organization_id = $1 and expires_at > $4
           ) as all_of_them join roles r on r.id = role_id
           where $2::uuid is null or all_of_them.id = $2
           order by status, lower(full_name), since, all_of_them.id
           limit $5 offset $6"#,
        id as _,
        only,
        with_contact,
        now,
        paging.limit(),
        paging.offset(),
    );
    Ok(rows.fetch_all(db).await?)
}

pub(super) async fn insert_member(
    db: &mut PgConnection,
    id: OrganizationId,
    user_id: UserId,
    to_be: &Membership,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into members (organization_id, user_id, role_id, vetting_level, created_at)
         values ($1, $2, $3, $4, $5)",
        id as _,
        user_id as _,
        to_be.role_id as _,
        to_be.vetting_level,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn membership(
    db: &mut PgConnection,
    id: OrganizationId,
    user_id: UserId,
) -> Result<Option<Membership>> {
    let row = sqlx::query_as!(
        Membership,
        "select role_id, vetting_level from members where organization_id = $1 and user_id = $2",
        id as _,
        user_id as _,
    );
    Ok(row.fetch_optional(db).await?)
}

pub(super) async fn update_member(
    db: &mut PgConnection,
    id: OrganizationId,
    user_id: UserId,
    to_be: &Membership,
) -> Result<()> {
    sqlx::query!(
        "update members set role_id = $3, vetting_level = $4 where organization_id = $1 and user_id = $2",
        id as _,
        user_id as _,
        to_be.role_id as _,
        to_be.vetting_level,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn delete_member(
    db: &mut PgConnection,
    id: OrganizationId,
    user_id: UserId,
) -> Result<()> {
    sqlx::query!(
        "delete from members where organization_id = $1 and user_id = $2",
        id as _,
        user_id as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The organizations in which somebody is an owner.
pub(super) async fn owned_by(
    db: &mut PgConnection,
    owner: RoleId,
    user_id: UserId,
) -> Result<BTreeSet<OrganizationId>> {
    let ids = sqlx::query_scalar!(
        "select organization_id from members where user_id = $1 and role_id = $2",
        user_id as _,
        owner as _,
    );
    Ok(ids.fetch_all(db).await?.into_iter().collect())
}

/// The mail addresses of those with this role whose account is in use.
pub(super) async fn addresses(
    db: &mut PgConnection,
    id: OrganizationId,
    role_id: RoleId,
) -> Result<Vec<String>> {
    let emails = sqlx::query_scalar!(
        "select u.email from members m join users u on u.id = m.user_id
         where m.organization_id = $1 and m.role_id = $2 and u.is_active order by u.email",
        id as _,
        role_id as _,
    );
    Ok(emails.fetch_all(db).await?)
}

/// Whether somebody else can act as an owner: an account that is out of use cannot.
pub(super) async fn has_another(
    db: &mut PgConnection,
    id: OrganizationId,
    role_id: RoleId,
    but: UserId,
) -> Result<bool> {
    let exists = sqlx::query_scalar!(
        r#"select exists(
               select from members m join users u on u.id = m.user_id
               where m.organization_id = $1 and m.role_id = $2 and m.user_id <> $3 and u.is_active
           ) as "exists!""#,
        id as _,
        role_id as _,
        but as _,
    );
    Ok(exists.fetch_one(db).await?)
}

/// Whether somebody with this address belongs to the organization.
pub(super) async fn is_member_by_email(
    db: &mut PgConnection,
    id: OrganizationId,
    email: &str,
) -> Result<bool> {
    let exists = sqlx::query_scalar!(
        r#"select exists(
               select from members m join users u on u.id = m.user_id
               where m.organization_id = $1 and u.email = $2
           ) as "exists!""#,
        id as _,
        email,
    );
    Ok(exists.fetch_one(db).await?)
}

/// How somebody signs and where they get mail.
pub(super) struct PersonNamed {
    pub full_name: String,
    pub email: String,
}

pub(super) async fn person(db: &mut PgConnection, id: UserId) -> Result<Option<PersonNamed>> {
    let person = sqlx::query_as!(
        PersonNamed,
        "select full_name, email from users where id = $1",
        id as _
    );
    Ok(person.fetch_optional(db).await?)
}

/// Takes the place of an earlier invitation of the same address, whose link is dead from then on.
pub(super) async fn put_invitation(
    db: &mut PgConnection,
    id: InvitationId,
    new: &NewInvitation,
    organization_id: OrganizationId,
    hash: &[u8],
    [now, expires_at]: [DateTime<Utc>; 2],
) -> Result<()> {
    sqlx::query!(
        "delete from invitations where organization_id = $1 and email = $2",
        organization_id as _,
        new.email,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "insert into invitations (id, organization_id, email, role_id, vetting_level, hash, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        id as _,
        organization_id as _,
        new.email,
        new.role_id as _,
        new.vetting_level,
        hash,
        now,
        expires_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn invitation(db: &mut PgConnection, hash: &[u8]) -> Result<Option<Invitation>> {
    let found = sqlx::query_as!(
        Invitation,
        "select id, organization_id, email, role_id, vetting_level, expires_at from invitations where hash = $1",
        hash,
    );
    Ok(found.fetch_optional(db).await?)
}

pub(super) async fn invitation_by_id(
    db: &mut PgConnection,
    organization_id: OrganizationId,
    id: Uuid,
) -> Result<Option<Invitation>> {
    let found = sqlx::query_as!(
        Invitation,
        "select id, organization_id, email, role_id, vetting_level, expires_at
         from invitations where organization_id = $1 and id = $2",
        organization_id as _,
        id,
    );
    Ok(found.fetch_optional(db).await?)
}

/// The invitation of this address that can still be accepted.
pub(super) async fn open_invitation_of(
    db: &mut PgConnection,
    organization_id: OrganizationId,
    email: &str,
    now: DateTime<Utc>,
) -> Result<Option<Invitation>> {
    let found = sqlx::query_as!(
        Invitation,
        "select id, organization_id, email, role_id, vetting_level, expires_at
         from invitations where organization_id = $1 and email = $2 and expires_at > $3",
        organization_id as _,
        email,
        now,
    );
    Ok(found.fetch_optional(db).await?)
}

pub(super) async fn delete_invitation(db: &mut PgConnection, id: InvitationId) -> Result<()> {
    sqlx::query!("delete from invitations where id = $1", id as _)
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn forget_invitations(
    db: &mut PgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64> {
    let gone = sqlx::query!(
        "delete from invitations where id in (select id from invitations where expires_at < $1 limit $2)",
        before,
        limit,
    );
    Ok(gone.execute(db).await?.rows_affected())
}

pub(super) async fn how_many_belong(
    db: &mut PgConnection,
    id: OrganizationId,
    people: &[UserId],
) -> Result<usize> {
    let number = sqlx::query_scalar!(
        r#"select count(*) as "count!" from members where organization_id = $1 and user_id = any($2)"#,
        id as _,
        people as _,
    );
    Ok(usize::try_from(number.fetch_one(db).await?).unwrap_or_default())
}
