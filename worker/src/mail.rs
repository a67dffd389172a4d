//! The job of mail.

use shared::mail::{self, Next, SendMail};

use crate::registry::{JobContext, JobError, JobResult};
use crate::work::Hands;

/// One attempt at one mail.
///
/// A mail that is refused for good is no failure of the job: the mail's row tells of it, and an operator
/// who has put things right asks for [`mail::resend`].
pub async fn send(context: JobContext<Hands>, job: SendMail) -> JobResult {
    let hands = &context.state;
    let Some(mail) = mail::begin(&hands.app, job.mail_id).await? else {
        return Ok(());
    };

    let outcome = hands.outbox.send(&mail, hands.app.clock.now()).await;

    match mail::settle(&hands.app, &context.id, &mail, outcome).await? {
        Next::Sent | Next::Dead { .. } => Ok(()),
        // What the server said may name the recipient: it stands in the mail's row, not in the log.
        Next::Again { at, .. } => Err(JobError::Later {
            at,
            why: "the mail was not taken".into(),
        }),
    }
}
