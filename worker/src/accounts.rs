//! The jobs of accounts.

use shared::accounts::jobs::{ForgetSessions, MailResetLink};
use shared::accounts::{links, sessions};

use crate::registry::{JobContext, JobResult};
use crate::work::{BATCH, Hands};

pub async fn mail_reset_link(context: JobContext<Hands>, job: MailResetLink) -> JobResult {
    let config = &context.state.app.config;
    context
        .change(async |tx| links::mail_reset(tx, job.user_id, config).await)
        .await?;
    Ok(())
}

pub async fn forget_sessions(context: JobContext<Hands>, _: ForgetSessions) -> JobResult {
    while context
        .change(async |tx| sessions::forget(tx, BATCH.into()).await)
        .await?
        > 0
    {}
    Ok(())
}
