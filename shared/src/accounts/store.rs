//! Every statement on accounts, their sessions and links.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::links::Purpose;
use super::sessions::{Device, EndedBy, NewSession, Session};
use super::user::{Membership, User};
use super::{NewAccount, UserFilter};
use crate::error::Result;
use crate::ids::{LoginSessionId, UserId};
use crate::page::{Page, Paging};
use crate::text::escape_like;

pub(super) async fn insert(
    db: &mut PgConnection,
    id: UserId,
    new: &NewAccount,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into users (id, email, full_name, phone, locale, password_hash, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)",
        id as _,
        new.email,
        new.full_name,
        new.phone,
        new.locale,
        new.password_hash,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn get(db: &mut PgConnection, id: UserId) -> Result<Option<User>> {
    let user = sqlx::query_as!(
        User,
        "select id, email, email_verified_at, pending_email, full_name, phone, avatar_url, locale,
                is_platform_admin, is_active, version, last_login_at, created_at, updated_at
         from users where id = $1",
        id as _,
    );
    Ok(user.fetch_optional(db).await?)
}

/// The account as it is now, kept so until the end of the transaction.
pub(super) async fn lock(db: &mut PgConnection, id: UserId) -> Result<Option<User>> {
    sqlx::query!("select from users where id = $1 for no key update", id as _)
        .execute(&mut *db)
        .await?;
    get(db, id).await
}

pub(super) async fn id_by_email(db: &mut PgConnection, email: &str) -> Result<Option<UserId>> {
    let id = sqlx::query_scalar!("select id from users where email = $1", email);
    Ok(id.fetch_optional(db).await?)
}

pub(super) async fn has_verified(db: &mut PgConnection, id: UserId, email: &str) -> Result<bool> {
    let verified = sqlx::query_scalar!(
        r#"select exists (select from users where id = $1 and email = $2 and email_verified_at is not null) as "verified!""#,
        id as _,
        email,
    );
    Ok(verified.fetch_one(db).await?)
}

pub(super) struct Credentials {
    pub id: UserId,
    pub password_hash: Option<String>,
    pub is_active: bool,
}

pub(super) async fn credentials_by_email(
    db: &mut PgConnection,
    email: &str,
) -> Result<Option<Credentials>> {
    let found = sqlx::query_as!(
        Credentials,
        "select id, password_hash, is_active from users where email = $1",
        email
    );
    Ok(found.fetch_optional(db).await?)
}

/// What an account's password is compared with, kept so until the end of the transaction.
pub(super) async fn lock_credentials(
    db: &mut PgConnection,
    id: UserId,
) -> Result<Option<Credentials>> {
    let found = sqlx::query_as!(
        Credentials,
        "select id, password_hash, is_active from users where id = $1 for no key update",
        id as _
    );
    Ok(found.fetch_optional(db).await?)
}

pub(super) async fn password_of(db: &mut PgConnection, id: UserId) -> Result<Option<String>> {
    let kept = sqlx::query_scalar!("select password_hash from users where id = $1", id as _);
    Ok(kept.fetch_optional(db).await?.flatten())
}

pub(super) async fn set_password(
    db: &mut PgConnection,
    id: UserId,
    password_hash: &str,
) -> Result<()> {
    sqlx::query!(
        "update users set password_hash = $2 where id = $1",
        id as _,
        password_hash
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn logged_in(db: &mut PgConnection, id: UserId, now: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "update users set last_login_at = $2 where id = $1",
        id as _,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn update(db: &mut PgConnection, user: &User) -> sqlx::Result<()> {
    sqlx::query!(
        "update users set email = $2, email_verified_at = $3, pending_email = $4, full_name = $5, phone = $6,
                          avatar_url = $7, locale = $8, is_platform_admin = $9, is_active = $10, version = $11,
                          updated_at = $12
         where id = $1",
        user.id as _,
        user.email,
        user.email_verified_at.map(|at| at.0),
        user.pending_email,
        user.full_name,
        user.phone,
        user.avatar_url,
        user.locale,
        user.is_platform_admin,
        user.is_active,
        user.version,
        user.updated_at.0,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn memberships(db: &mut PgConnection, id: UserId) -> Result<Vec<Membership>> {
    let memberships = sqlx::query_as!(
        Membership,
        r#"select m.organization_id, o.name as organization, m.role_id, r.name as role, m.vetting_level,
                  array(select resource || ':' || action from role_rights where role_id = m.role_id order by 1)
                      as "permissions!"
           from members m
           join organizations o on o.id = m.organization_id
           join roles r on r.id = m.role_id
           where m.user_id = $1
           order by m.created_at, m.organization_id"#,
        id as _,
    );
    Ok(memberships.fetch_all(db).await?)
}

pub(super) async fn list(
    db: &mut PgConnection,
    filter: &UserFilter,
    paging: Paging,
) -> Result<Page<User>> {
    let mut count = QueryBuilder::new("select count(*) from users where true");
    condition(filter, &mut count);
    let total: i64 = count.build_query_scalar().fetch_one(&mut *db).await?;

    let mut rows = QueryBuilder::new(
        "select id, email, email_verified_at, pending_email, full_name, phone, avatar_url, locale,
                is_platform_admin, is_active, version, last_login_at, created_at, updated_at
         from users where true",
    );
    condition(filter, &mut rows);
    let (column, direction) = (
        filter.sort.column(),
        if filter.descending { "desc" } else { "asc" },
    );
    rows.push(format_args!(
        " order by {column} {direction}, id {direction}"
    ));
    rows.push(" limit ")
        .push_bind(paging.limit())
        .push(" offset ")
        .push_bind(paging.offset());
    Ok(paging.of(rows.build_query_as().fetch_all(db).await?, total))
}

fn condition(filter: &UserFilter, sql: &mut QueryBuilder<Postgres>) {
    if let Some(q) = &filter.q {
        sql.push(" and lower(full_name) || ' ' || email like '%' || ")
            .push_bind(escape_like(&q.to_lowercase()))
            .push(" || '%'");
    }
    if let Some(active) = filter.active {
        sql.push(" and is_active = ").push_bind(active);
    }
    if let Some(organization_id) = filter.organization_id {
        sql.push(" and exists (select from members m where m.user_id = users.id and m.organization_id = ")
            .push_bind(organization_id)
            .push(")");
    }
}

/// Whether somebody is a platform administrator or an owner of an organization.
pub(super) async fn is_powerful(db: &mut PgConnection, id: UserId) -> Result<bool> {
    let powerful = sqlx::query_scalar!(
        r#"select is_platform_admin
                  or exists(select from members m join roles r on r.id = m.role_id
                            where m.user_id = users.id and r.organization_id is null and r.name = 'owner') as "powerful!"
           from users where id = $1"#,
        id as _,
    );
    Ok(powerful.fetch_optional(db).await?.unwrap_or(false))
}

/// From where somebody has signed in before, the last first; at most `limit`.
pub(super) async fn devices_of(
    db: &mut PgConnection,
    user_id: UserId,
    but: LoginSessionId,
    limit: i64,
) -> Result<Vec<Device>> {
    let devices = sqlx::query_as!(
        Device,
        "select address, user_agent from login_sessions where user_id = $1 and id <> $2
         order by created_at desc limit $3",
        user_id as _,
        but as _,
        limit,
    );
    Ok(devices.fetch_all(db).await?)
}

pub(super) async fn insert_session(db: &mut PgConnection, new: &NewSession<'_>) -> Result<()> {
    sqlx::query!(
        "insert into login_sessions (id, user_id, address, user_agent, created_at, last_used_at, expires_at, latest_end)
         values ($1, $2, $3, $4, $5, $5, $6, $7)",
        new.id as _,
        new.user_id as _,
        new.device.address,
        new.device.user_agent,
        new.now,
        new.expires_at,
        new.latest_end,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn insert_refresh_token(
    db: &mut PgConnection,
    session_id: LoginSessionId,
    hash: &[u8],
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into refresh_tokens (hash, session_id, issued_at) values ($1, $2, $3)",
        hash,
        session_id as _,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A session and one of its refresh tokens, kept so until the end of the transaction.
pub(super) struct Presented {
    pub session_id: LoginSessionId,
    pub user_id: UserId,
    pub created_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub latest_end: DateTime<Utc>,
    pub ended: bool,
    pub user_is_active: bool,
    pub spent_at: Option<DateTime<Utc>>,
}

pub(super) async fn lock_presented(
    db: &mut PgConnection,
    hash: &[u8],
) -> Result<Option<Presented>> {
    // The lock comes first, so that the token is read as whoever held the lock before has left it.
    sqlx::query!(
        "select from login_sessions where id = (select session_id from refresh_tokens where hash = $1) for update",
        hash
    )
    .execute(&mut *db)
    .await?;
    let presented = sqlx::query_as!(
        Presented,
        r#"select s.id as session_id, s.user_id, s.created_at, s.last_used_at, s.expires_at, s.latest_end,
                  s.ended_at is not null as "ended!",
                  u.is_active as user_is_active, t.spent_at
           from refresh_tokens t
           join login_sessions s on s.id = t.session_id
           join users u on u.id = s.user_id
           where t.hash = $1"#,
        hash,
    );
    Ok(presented.fetch_optional(db).await?)
}

pub(super) async fn spend(db: &mut PgConnection, hash: &[u8], now: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "update refresh_tokens set spent_at = $2 where hash = $1",
        hash,
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn prolong(
    db: &mut PgConnection,
    id: LoginSessionId,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update login_sessions set last_used_at = $2, expires_at = $3 where id = $1",
        id as _,
        now,
        expires_at
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn sessions_of(
    db: &mut PgConnection,
    user_id: UserId,
    now: DateTime<Utc>,
) -> Result<Vec<Session>> {
    let sessions = sqlx::query_as!(
        Session,
        r#"select id, address, user_agent, created_at as "created_at: _", last_used_at as "last_used_at: _",
                  expires_at as "expires_at: _", false as "current!"
           from login_sessions
           where user_id = $1 and ended_at is null and expires_at > $2
           order by last_used_at desc, id desc"#,
        user_id as _,
        now,
    );
    Ok(sessions.fetch_all(db).await?)
}

/// Ends the named session of somebody, or all but the named one; answers which were alive until now.
pub(super) async fn end_sessions(
    db: &mut PgConnection,
    user_id: UserId,
    only: Option<LoginSessionId>,
    but: Option<LoginSessionId>,
    by: EndedBy,
    now: DateTime<Utc>,
) -> Result<Vec<LoginSessionId>> {
    let ended = sqlx::query_scalar!(
        "update login_sessions set ended_at = $5, ended_by = $4
         where user_id = $1 and ended_at is null and ($2::uuid is null or id = $2)
           and ($3::uuid is null or id <> $3)
         returning id",
        user_id as _,
        only as _,
        but as _,
        by.name(),
        now,
    );
    Ok(ended.fetch_all(db).await?)
}

pub(super) async fn ended_since(
    db: &mut PgConnection,
    user_id: UserId,
    only: Option<LoginSessionId>,
    since: DateTime<Utc>,
) -> Result<Vec<LoginSessionId>> {
    let ended = sqlx::query_scalar!(
        "select id from login_sessions
         where user_id = $1 and ended_at >= $3 and ($2::uuid is null or id = $2)",
        user_id as _,
        only as _,
        since,
    );
    Ok(ended.fetch_all(db).await?)
}

pub(super) async fn forget_sessions(
    db: &mut PgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64> {
    let sessions = sqlx::query!(
        "delete from login_sessions where id in
             (select id from login_sessions where expires_at < $1 order by expires_at limit $2)",
        before,
        limit,
    );
    let sessions = sessions.execute(&mut *db).await?.rows_affected();
    let links = sqlx::query!(
        "delete from account_links where hash in
             (select hash from account_links where expires_at < $1 order by expires_at limit $2)",
        before,
        limit,
    );
    Ok(sessions + links.execute(db).await?.rows_affected())
}

pub(super) async fn insert_link(
    db: &mut PgConnection,
    hash: &[u8],
    user_id: UserId,
    purpose: Purpose,
    email: &str,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into account_links (hash, user_id, purpose, email, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6)",
        hash,
        user_id as _,
        purpose.name(),
        email,
        now,
        expires_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) struct Link {
    pub user_id: UserId,
    pub email: String,
}

/// A link that works. Whoever has locked the account keeps it so until the end of the transaction.
pub(super) async fn link(
    db: &mut PgConnection,
    hash: &[u8],
    purpose: Purpose,
    now: DateTime<Utc>,
) -> Result<Option<Link>> {
    let link = sqlx::query_as!(
        Link,
        "select user_id, email from account_links
         where hash = $1 and purpose = $2 and used_at is null and expires_at > $3",
        hash,
        purpose.name(),
        now,
    );
    Ok(link.fetch_optional(db).await?)
}

/// Those that somebody has not used yet work no more.
pub(super) async fn use_up_links(
    db: &mut PgConnection,
    user_id: UserId,
    purpose: Purpose,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update account_links set used_at = $3 where user_id = $1 and purpose = $2 and used_at is null",
        user_id as _,
        purpose.name(),
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whose link this was, if it has been used.
pub(super) async fn whose_used_link(
    db: &mut PgConnection,
    hash: &[u8],
    purpose: Purpose,
) -> Result<Option<UserId>> {
    let user_id = sqlx::query_scalar!(
        "select user_id from account_links where hash = $1 and purpose = $2 and used_at is not null",
        hash,
        purpose.name(),
    );
    Ok(user_id.fetch_optional(db).await?)
}

/// Links to confirm an address that were mailed not long ago.
pub(super) struct Verifications {
    pub last_to_address: Option<DateTime<Utc>>,
    pub by_account: i64,
    pub first_by_account: Option<DateTime<Utc>>,
}

pub(super) async fn verifications(
    db: &mut PgConnection,
    user_id: UserId,
    email: &str,
    to_address_since: DateTime<Utc>,
    by_account_since: DateTime<Utc>,
) -> Result<Verifications> {
    let found = sqlx::query_as!(
        Verifications,
        r#"select max(created_at) filter (where email = $2 and created_at > $3) as last_to_address,
                  count(*) filter (where user_id = $1 and created_at > $4) as "by_account!",
                  min(created_at) filter (where user_id = $1 and created_at > $4) as first_by_account
           from account_links
           where purpose = 'verify' and (user_id = $1 or email = $2)"#,
        user_id as _,
        email,
        to_address_since,
        by_account_since,
    );
    Ok(found.fetch_one(db).await?)
}

pub(super) async fn mailed_since(
    db: &mut PgConnection,
    user_id: UserId,
    purpose: Purpose,
    since: DateTime<Utc>,
) -> Result<bool> {
    let mailed = sqlx::query_scalar!(
        r#"select exists(select from account_links
                         where user_id = $1 and purpose = $2 and used_at is null and created_at > $3) as "mailed!""#,
        user_id as _,
        purpose.name(),
        since,
    );
    Ok(mailed.fetch_one(db).await?)
}
