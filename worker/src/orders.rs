//! The jobs of orders.

use chrono::TimeDelta;
use shared::error::Error;
use shared::orders::jobs::{
    Ask, AskAfterEnd, Audit, Chase, Confirm, ForgetHeard, GiveOut, Heard, PayBack, Purchase,
    RefundAll, Tell,
};
use shared::orders::stray_payments::{self, ReturnStrayPayment};
use shared::orders::{self, Back, EVENT_CANCELLED, Given, pay, refunds};
use shared::{App, Result};

use crate::registry::{JobContext, JobError, JobResult};
use crate::work::{BATCH, Hands};

/// How long Stripe is not asked again after the same order or refund.
const PATIENCE: TimeDelta = TimeDelta::seconds(50);
/// When it is asked again where nobody answered.
const AGAIN: TimeDelta = TimeDelta::minutes(1);

pub async fn purchase(context: JobContext<Hands>, job: Purchase) -> JobResult {
    pay::purchase(&context.state.app, job.order_id).await?;
    Ok(())
}

pub async fn give_out(context: JobContext<Hands>, job: GiveOut) -> JobResult {
    pay::give_out(&context.state.app, job.order_id).await?;
    Ok(())
}

pub async fn ask(context: JobContext<Hands>, job: Ask) -> JobResult {
    let app = &context.state.app;
    or_later(app, pay::ask(app, job.order_id).await)?;
    Ok(())
}

pub async fn ask_after_end(context: JobContext<Hands>, job: AskAfterEnd) -> JobResult {
    let app = &context.state.app;
    or_later(app, pay::ask_after_end(app, job.order_id).await)?;
    Ok(())
}

pub async fn return_stray_payment(
    context: JobContext<Hands>,
    job: ReturnStrayPayment,
) -> JobResult {
    let app = &context.state.app;
    or_later(
        app,
        stray_payments::return_money(app, &job.payment_id).await,
    )?;
    Ok(())
}

/// A peer that is away is no failure of the job, which would die of a long outage: it waits, and is the only one of its
/// subject that does.
fn or_later<T>(app: &App, answer: Result<T>) -> Result<T, JobError> {
    answer.map_err(|error| match error {
        Error::Unavailable(cause) => {
            tracing::warn!(%cause, "asked again in a minute");
            JobError::Later {
                at: app.clock.now() + AGAIN,
                why: cause.to_string(),
            }
        }
        error => error.into(),
    })
}

/// One job for each order and refund to ask after: one that Stripe does not answer for keeps no other waiting. Where the
/// job of an earlier minute still waits, there is no second one.
pub async fn chase(context: JobContext<Hands>, _: Chase) -> JobResult {
    let limit = i64::from(BATCH);
    context
        .change(async |tx| {
            let before = tx.now() - PATIENCE;
            for order_id in orders::to_ask(tx, before, limit).await? {
                tx.enqueue_one(&Ask { order_id }, order_id);
            }
            let now = tx.now();
            for order_id in orders::ended_to_ask(tx, now, limit).await? {
                tx.enqueue_one(&AskAfterEnd { order_id }, order_id);
            }
            for refund_id in refunds::to_ask(tx, before, limit).await? {
                tx.enqueue_one(&PayBack { refund_id }, refund_id);
            }
            Ok(())
        })
        .await?;
    Ok(())
}

pub async fn confirm(context: JobContext<Hands>, job: Confirm) -> JobResult {
    let config = &context.state.app.config;
    context
        .change(async |tx| orders::confirm(tx, config, &job.orders).await)
        .await?;
    Ok(())
}

pub async fn tell(context: JobContext<Hands>, job: Tell) -> JobResult {
    let config = &context.state.app.config;
    context
        .change(async |tx| orders::tell(tx, config, &job).await)
        .await?;
    Ok(())
}

pub async fn pay_back(context: JobContext<Hands>, job: PayBack) -> JobResult {
    let app = &context.state.app;
    let Some(outcome) = or_later(app, refunds::ask(app, job.refund_id).await)? else {
        return Ok(());
    };
    context
        .change(async |tx| refunds::settle(tx, job.refund_id, &outcome).await)
        .await?;
    Ok(())
}

pub async fn heard(context: JobContext<Hands>, job: Heard) -> JobResult {
    orders::heard(&context.state.app, &job.event_id).await?;
    Ok(())
}

/// Differences are an alarm for somebody to look at, not a failure of the job.
pub async fn audit(context: JobContext<Hands>, job: Audit) -> JobResult {
    let report = orders::audit::audit(&context.state.app, job.day).await?;
    for difference in &report.differences {
        tracing::error!(day = %job.day, %difference, "the books differ from Stripe's");
    }
    metrics::gauge!("holdfast_ledger_differences")
        .set(u32::try_from(report.differences.len()).unwrap_or(u32::MAX));
    Ok(())
}

pub async fn forget_heard(context: JobContext<Hands>, _: ForgetHeard) -> JobResult {
    while context
        .change(async |tx| orders::forget_heard(tx, BATCH.into()).await)
        .await?
        > 0
    {}
    Ok(())
}

/// Each order in a transaction of its own: one that cannot be undone now keeps no other from it, and is tried again
/// when the job comes back, like whatever is left when the job is cut off.
pub async fn refund_all(context: JobContext<Hands>, job: RefundAll) -> JobResult {
    let app = &context.state.app;
    let (mut after, mut outcome) = (None, Ok(()));
    loop {
        let mut db = app.read().await?;
        let open = orders::open_of(&mut db, job.event_id, after, BATCH.into()).await?;
        drop(db);
        after = open.last().copied();
        if after.is_none() {
            return Ok(outcome?);
        }
        for order_id in open {
            outcome = undo(&context, app, order_id).await.and(outcome);
        }
    }
}

async fn undo(
    context: &JobContext<Hands>,
    app: &App,
    order_id: shared::ids::OrderId,
) -> Result<()> {
    pay::call_off(app, order_id, EVENT_CANCELLED).await?;
    context
        .change(async |tx| {
            orders::give_up_if_sold(tx, order_id, &Given::All, Back::Whole, EVENT_CANCELLED).await
        })
        .await
}
