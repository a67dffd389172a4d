//! Mail: written with what it tells of, sent a moment later.
//!
//! What is guaranteed: a mail exists exactly if the transaction that wrote it committed, and once per cause,
//! however often it is written. It is tried until the server takes it, refuses it for good, or a day has
//! passed; its row says which, and why. One that has been marked as sent is never sent again by itself.
//!
//! What is not: SMTP knows no transaction. If we crash, or the connection breaks, after the server has
//! accepted a mail and before we have written that down, it is sent a second time. The gap is kept narrow:
//! nothing happens between the server's answer and that write, and a repetition carries the same
//! `Message-ID`, by which many mail systems drop it. The other order would lose mails instead.
//!
//! Sending is [`begin`] (a short transaction), [`Outbox::send`] (none), [`settle`] (a short transaction).

mod jobs;
mod message;
mod outbox;
mod store;
mod template;

use serde_json::json;

use crate::activity::Activity;
use crate::config;
use crate::error::{Code, Fault, Result};
use crate::ids::{MailId, OrganizationId};
use crate::tx::Tx;

pub use jobs::SendMail;
pub use message::{Letter, Next, Outgoing, PICTURES, Refusal, picture};
pub use outbox::{BadOutbox, Outbox};

#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("There is no such mail.")]
    NotFound,
}

impl Fault for MailError {
    fn code(&self) -> Code {
        Code::NotFound
    }
}

/// Writes a mail and has it sent, if this transaction commits. `None` if its cause has been told already.
pub async fn write(tx: &mut Tx, letter: Letter) -> Result<Option<MailId>> {
    Ok(write_all(tx, &[letter]).await?.pop())
}

/// Writes mails and has them sent, if this transaction commits; those whose cause has not been told already.
pub async fn write_all(tx: &mut Tx, letters: &[Letter]) -> Result<Vec<MailId>> {
    let now = tx.now();
    let written = store::insert(tx, letters, now).await?;
    for &mail_id in &written {
        tx.enqueue(&SendMail { mail_id });
    }
    Ok(written)
}

/// Takes a mail up for sending. `None` if there is nothing left to do.
pub async fn begin(
    tx: &mut Tx,
    mail_id: MailId,
    config: &config::Mail,
) -> Result<Option<Outgoing>> {
    let give_up_at = tx.now() + config.give_up.delta();
    let message_id = message::message_id(mail_id, &config.from);
    store::begin(tx, mail_id, &message_id, give_up_at).await
}

/// Writes down what came of an attempt and says what follows from it.
pub async fn settle(tx: &mut Tx, mail: &Outgoing, outcome: Result<(), Refusal>) -> Result<Next> {
    let now = tx.now();
    let next = message::after(outcome, mail, now);
    let counts = store::settle(tx, mail, &next, now).await?;
    metrics::counter!("mails_total", "outcome" => next.name()).increment(1);
    if counts && matches!(next, Next::Dead { .. }) {
        // What the server said may name the recipient: it stands in the row, not in the log.
        tracing::warn!(mail_id = %mail.id, "mail given up");
        tx.record(line(mail.organization_id, "mail.dead", mail.id));
    }
    Ok(next)
}

/// Sends a mail again, dead or sent, because an operator says so. One that is on its way is left alone.
pub async fn resend(tx: &mut Tx, mail_id: MailId) -> Result<()> {
    let mail = store::find(tx, mail_id).await?.ok_or(MailError::NotFound)?;
    if !mail.over {
        return Ok(());
    }
    store::reopen(tx, mail_id).await?;
    tx.record(line(mail.organization_id, "mail.resent", mail_id));
    tx.enqueue(&SendMail { mail_id });
    Ok(())
}

fn line(organization_id: Option<OrganizationId>, kind: &'static str, mail_id: MailId) -> Activity {
    Activity {
        organization_id,
        kind,
        subject: mail_id.0,
        data: json!({}),
    }
}
