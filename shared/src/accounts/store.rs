//! Every statement on accounts and their sessions.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::NewAccount;
use super::sessions::NewSession;
use crate::error::Result;
use crate::ids::{LoginSessionId, UserId};

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
