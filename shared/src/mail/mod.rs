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
//! Sending is [`begin`] (a short transaction), [`Outbox::send`] (none), [`settle`] (a short transaction); mails that begin or
//! end at the same moment share theirs.

mod address;
mod jobs;
mod message;
mod outbox;
mod store;
mod template;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::access::{Actor, Scope};
use crate::activity::{Activity, By};
use crate::app::App;
use crate::encryption::Place;
use crate::error::{Code, Fault, Result};
use crate::ids::{MailId, OrganizationId};
use crate::together::Piece;
use crate::tx::Tx;

pub use address::address;
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
    let cipher = tx.cipher();
    let written = store::insert(tx, &cipher, letters, now).await?;
    for &mail_id in &written {
        tx.enqueue(&SendMail { mail_id });
    }
    Ok(written)
}

/// So often it is tried to write down what came of an attempt, and so long between.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Takes a mail up for sending, together with whatever else is taken up now. `None` if there is nothing left to do.
pub async fn begin(app: &App, mail_id: MailId) -> Result<Option<Outgoing>> {
    app.mails_begun.run(app, Begun(mail_id)).await
}

/// Writes down what came of an attempt, together with whatever else ends now, and says what follows from it.
pub async fn settle(
    app: &App,
    cause: &str,
    mail: &Outgoing,
    outcome: Result<(), Refusal>,
) -> Result<Next> {
    let next = message::after(outcome, mail, app.clock.now());
    let ended = Ended {
        mail: mail.clone(),
        next: next.clone(),
        cause: cause.to_owned(),
    };
    // A mail that was taken and is not written down as sent is sent again: a Postgres that is away for a moment is waited for.
    let mut tries = TRIES;
    while let Err(error) = app.mails_ended.run(app, ended.clone()).await {
        tries -= 1;
        if tries == 0 || error.code() != Code::Unavailable {
            return Err(error);
        }
        sleep(PAUSE).await;
    }
    metrics::counter!("mails_total", "outcome" => next.name()).increment(1);
    Ok(next)
}

/// A mail to be taken up.
#[derive(Clone)]
pub(crate) struct Begun(MailId);

impl Piece for Begun {
    type Done = Option<Outgoing>;

    fn subject(&self) -> Uuid {
        self.0.0
    }

    async fn do_all(app: &App, pieces: &[Self]) -> Result<Vec<Option<Outgoing>>> {
        let config = &app.config.mail;
        let mut tx = app.begin(Actor::System, Scope::Everything).await?;
        let ids: Vec<MailId> = pieces.iter().map(|begun| begun.0).collect();
        let message_id = |id: &MailId| message::message_id(*id, &config.from);
        let message_ids: Vec<String> = ids.iter().map(message_id).collect();
        let give_up_at = tx.now() + config.give_up.delta();
        let begun = store::begin(&mut tx, &ids, &message_ids, give_up_at).await?;
        tx.commit().await?;
        let mut begun: HashMap<MailId, Outgoing> = begun.into_iter().map(|m| (m.id, m)).collect();
        for mail in begun.values_mut() {
            mail.decrypt(&app.cipher)?;
        }
        Ok(ids.iter().map(|id| begun.remove(id)).collect())
    }
}

/// An attempt that is over.
#[derive(Clone)]
pub(crate) struct Ended {
    mail: Outgoing,
    next: Next,
    /// The job that made it.
    cause: String,
}

impl Piece for Ended {
    type Done = ();

    fn subject(&self) -> Uuid {
        self.mail.id.0
    }

    async fn do_all(app: &App, pieces: &[Self]) -> Result<Vec<()>> {
        let mut tx = app.begin(Actor::System, Scope::Everything).await?;
        let ends: Vec<(&Outgoing, &Next)> = pieces.iter().map(|e| (&e.mail, &e.next)).collect();
        let now = tx.now();
        let counted = store::settle(&mut tx, &ends, now).await?;
        let dead = |ended: &&Self| matches!(ended.next, Next::Dead { .. });
        for Self { mail, cause, .. } in pieces.iter().filter(dead) {
            if counted.contains(&mail.id) {
                // What the server said may name the recipient: it stands in the row, not in the log.
                tracing::warn!(mail_id = %mail.id, "mail given up");
                tx.on_behalf_of(By {
                    actor: Actor::System,
                    cause: Some(cause.clone()),
                });
                tx.record(line(mail.organization_id, "mail.dead", mail.id));
            }
        }
        tx.commit().await?;
        Ok(vec![(); pieces.len()])
    }
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

/// Encrypts the links and codes in at most `limit` mails that the version before has written in plain; answers in how many.
pub async fn encrypt_plain(tx: &mut Tx, limit: i64) -> Result<u64> {
    let cipher = tx.cipher();
    let mut mails = store::in_plain(tx, limit).await?;
    for (id, params) in &mut mails {
        cipher.encrypt_all(Place::Mail(*id), &message::SECRET_PARAMS, params);
    }
    store::encrypted(tx, mails).await
}

fn line(organization_id: Option<OrganizationId>, kind: &'static str, mail_id: MailId) -> Activity {
    Activity {
        organization_id,
        kind,
        subject: mail_id.0,
        data: json!({}),
    }
}
