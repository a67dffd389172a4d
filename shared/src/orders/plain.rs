//! Secrets of orders and codes of tickets that the version before has written in plain: they stay what they are, and are
//! kept as a hash and a text that is encrypted.

use uuid::Uuid;

use crate::encryption::Place;
use crate::error::Result;
use crate::tx::Tx;

/// Moves at most `limit` of each over; answers how many it has moved.
pub async fn encrypt_plain(tx: &mut Tx, limit: i64) -> Result<u64> {
    Ok(encrypt_orders(tx, limit).await? + encrypt_tickets(tx, limit).await?)
}

async fn encrypt_orders(tx: &mut Tx, limit: i64) -> Result<u64> {
    let plain = sqlx::query!(
        r#"select id, secret as "secret!" from orders where secret is not null order by id limit $1
           for update skip locked"#,
        limit,
    );
    let plain = plain.fetch_all(&mut **tx).await?;
    let cipher = tx.cipher();
    let ids: Vec<Uuid> = plain.iter().map(|row| row.id).collect();
    let kept = plain
        .iter()
        .map(|row| cipher.keep(Place::OrderSecret(row.id), &row.secret));
    let (hashes, encrypted): (Vec<Vec<u8>>, Vec<Vec<u8>>) = kept.unzip();
    let moved = sqlx::query!(
        "update orders o set secret = null, secret_hash = kept.hash, secret_encrypted = kept.encrypted
         from unnest($1::uuid[], $2::bytea[], $3::bytea[]) as kept (id, hash, encrypted) where o.id = kept.id",
        &ids,
        &hashes,
        &encrypted,
    );
    Ok(moved.execute(&mut **tx).await?.rows_affected())
}

async fn encrypt_tickets(tx: &mut Tx, limit: i64) -> Result<u64> {
    let plain = sqlx::query!(
        r#"select id, code as "code!" from tickets where code is not null order by id limit $1
           for update skip locked"#,
        limit,
    );
    let plain = plain.fetch_all(&mut **tx).await?;
    let cipher = tx.cipher();
    let ids: Vec<Uuid> = plain.iter().map(|row| row.id).collect();
    let kept = plain
        .iter()
        .map(|row| cipher.keep(Place::TicketCode(row.id), &row.code));
    let (hashes, encrypted): (Vec<Vec<u8>>, Vec<Vec<u8>>) = kept.unzip();
    let moved = sqlx::query!(
        "update tickets t set code = null, code_hash = kept.hash, code_encrypted = kept.encrypted
         from unnest($1::uuid[], $2::bytea[], $3::bytea[]) as kept (id, hash, encrypted) where t.id = kept.id",
        &ids,
        &hashes,
        &encrypted,
    );
    Ok(moved.execute(&mut **tx).await?.rows_affected())
}
