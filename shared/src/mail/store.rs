//! Every statement on mails.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::message::{Letter, Next, Outgoing, SECRET_PARAMS};
use crate::encryption::{Cipher, Place};
use crate::error::Result;
use crate::ids::{MailId, OrganizationId};

/// Answers those whose cause had no mail before.
pub(super) async fn insert(
    db: &mut PgConnection,
    cipher: &Cipher,
    letters: &[Letter],
    now: DateTime<Utc>,
) -> Result<Vec<MailId>> {
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = letters.iter().map(|_| MailId::fresh(now).0).collect();
    let organizations: Vec<Option<Uuid>> = letters
        .iter()
        .map(|letter| letter.organization_id.map(|id| id.0))
        .collect();
    let texts = |of: fn(&Letter) -> &str| -> Vec<String> {
        letters.iter().map(|letter| of(letter).to_owned()).collect()
    };
    let params: Vec<Value> = ids
        .iter()
        .zip(letters)
        .map(|(id, letter)| {
            let mut params = letter.params.clone();
            cipher.encrypt_all(Place::Mail(*id), &SECRET_PARAMS, &mut params);
            params
        })
        .collect();
    let inserted = sqlx::query_scalar!(
        r#"insert into mails (id, organization_id, cause, recipient, template, locale, params, created_at, encrypted)
           select id, organization_id, cause, recipient, template, locale, params, $8, true
           from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[])
                as letter (id, organization_id, cause, recipient, template, locale, params)
           on conflict (cause) do nothing
           returning id as "id: MailId""#,
        &ids,
        &organizations as &[Option<Uuid>],
        &texts(|letter| &letter.cause),
        &texts(|letter| &letter.recipient),
        &texts(|letter| letter.template),
        &texts(|letter| &letter.locale),
        &params,
        now,
    );
    Ok(inserted.fetch_all(db).await?)
}

/// Those that are being sent are taken up again: whoever did so last has died over them. Answers those that were there to be
/// sent, in any order.
pub(super) async fn begin(
    db: &mut PgConnection,
    ids: &[MailId],
    message_ids: &[String],
    give_up_at: DateTime<Utc>,
) -> Result<Vec<Outgoing>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let mails = sqlx::query_as!(
        Outgoing,
        r#"update mails m
           set status = 'sending', attempts = attempts + 1,
               message_id = coalesce(m.message_id, begun.message_id), give_up_at = coalesce(give_up_at, $3)
           from unnest($1::uuid[], $2::text[]) as begun (id, message_id)
           where m.id = begun.id and status in ('waiting', 'sending')
           returning m.id, organization_id, recipient, template, params,
                     m.message_id as "message_id!", attempts, give_up_at as "give_up_at!""#,
        &ids,
        message_ids,
        give_up_at,
    );
    Ok(mails.fetch_all(db).await?)
}

/// Success counts whoever reports it. A failure counts unless another attempt has begun since. Answers what counts.
pub(super) async fn settle(
    db: &mut PgConnection,
    ends: &[(&Outgoing, &Next)],
    now: DateTime<Utc>,
) -> Result<Vec<MailId>> {
    let ids: Vec<Uuid> = ends.iter().map(|(mail, _)| mail.id.0).collect();
    let attempts: Vec<i32> = ends.iter().map(|(mail, _)| mail.attempts).collect();
    let (statuses, errors): (Vec<&str>, Vec<Option<&str>>) = ends
        .iter()
        .map(|(_, next)| match next {
            Next::Sent => ("sent", None),
            Next::Again { error, .. } => ("waiting", Some(error.as_str())),
            Next::Dead { error } => ("dead", Some(error.as_str())),
        })
        .unzip();
    let settled = sqlx::query_scalar!(
        r#"update mails m
           set status = ended.status, last_error = ended.error,
               sent_at = case when ended.status = 'sent' then $5::timestamptz end,
               -- A link is a secret; the mail has it now, and nobody needs it here.
               params = case when ended.status = 'sent' then params - 'link' else params end
           from unnest($1::uuid[], $2::int[], $3::text[], $4::text[]) as ended (id, attempts, status, error)
           where m.id = ended.id and m.status in ('waiting', 'sending')
                 and (ended.status = 'sent' or m.attempts = ended.attempts)
           returning m.id as "id: MailId""#,
        &ids,
        &attempts,
        &statuses as _,
        &errors as _,
        now,
    );
    Ok(settled.fetch_all(db).await?)
}

/// A mail as an operator finds it, locked.
pub(super) struct Found {
    pub(super) organization_id: Option<OrganizationId>,
    pub(super) over: bool,
}

pub(super) async fn find(db: &mut PgConnection, id: MailId) -> Result<Option<Found>> {
    let found = sqlx::query_as!(
        Found,
        r#"select organization_id, status in ('sent', 'dead') as "over!" from mails where id = $1 for update"#,
        id as _,
    )
    .fetch_optional(db)
    .await?;
    Ok(found)
}

/// As if it had never been tried, save that a repetition stays recognisable.
pub(super) async fn reopen(db: &mut PgConnection, id: MailId) -> Result<()> {
    sqlx::query!(
        "update mails
         set status = 'waiting', attempts = 0, last_error = null, give_up_at = null, sent_at = null
         where id = $1",
        id as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Mails whose links and codes stand in plain, locked.
pub(super) async fn in_plain(db: &mut PgConnection, limit: i64) -> Result<Vec<(Uuid, Value)>> {
    let mails = sqlx::query!(
        "select id, params from mails where not encrypted order by id limit $1 for update skip locked",
        limit,
    );
    let mails = mails.fetch_all(db).await?.into_iter();
    Ok(mails.map(|row| (row.id.0, row.params)).collect())
}

pub(super) async fn encrypted(db: &mut PgConnection, mails: Vec<(Uuid, Value)>) -> Result<u64> {
    let (ids, params): (Vec<Uuid>, Vec<Value>) = mails.into_iter().unzip();
    let done = sqlx::query!(
        "update mails m set params = kept.params, encrypted = true
         from unnest($1::uuid[], $2::jsonb[]) as kept (id, params) where m.id = kept.id",
        &ids,
        &params,
    );
    Ok(done.execute(db).await?.rows_affected())
}
