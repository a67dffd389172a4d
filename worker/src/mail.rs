//! The job of mail.

use shared::access::{Actor, Scope};
use shared::mail::{self, Next, Outbox, SendMail};
use shared::{App, Result};

/// One attempt at one mail. `None` if there was nothing left to do.
///
/// A mail that is refused for good is no failure of the job: the mail's row tells of it, and an operator
/// who has put things right asks for [`mail::resend`].
pub async fn send(app: &App, outbox: &Outbox, job: SendMail) -> Result<Option<Next>> {
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    let mail = mail::begin(&mut tx, job.mail_id, &app.config.mail).await?;
    let now = tx.now();
    tx.commit().await?;
    let Some(mail) = mail else { return Ok(None) };

    let outcome = outbox.send(&mail, now).await;

    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    let next = mail::settle(&mut tx, &mail, outcome).await?;
    tx.commit().await?;
    Ok(Some(next))
}
