//! What this product does in the background: which handler runs which job, and what comes back by itself.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use shared::access::{Actor, Scope};
use shared::accounts::jobs::ForgetSessions;
use shared::activity::{self, Seal, Verdict, Verify};
use shared::encryption::EncryptPlain;
use shared::events::{self, Advance};
use shared::idempotency::{self, Forget};
use shared::mail::Outbox;
use shared::orders::jobs::{Audit, Chase, ForgetHeard};
use shared::organizations::invitations::{self, ForgetInvitations};
use shared::stock::{self, Reconcile};
use shared::{App, Result, Tx};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::registry::{JobContext, JobResult, Registry};
use crate::{CatchUp, Engine, Recurring, accounts, due, mail, orders};

/// What the handlers hold.
#[derive(Clone)]
pub struct Hands {
    pub app: App,
    pub outbox: Arc<Outbox>,
}

impl Hands {
    pub fn new(app: App) -> anyhow::Result<Self> {
        let outbox = Arc::new(Outbox::new(&app.config.mail)?);
        Ok(Self { app, outbox })
    }
}

impl JobContext<Hands> {
    /// Does a piece of work in a transaction of its own, as the product itself and because of this job.
    pub(crate) async fn change<T>(
        &self,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T>,
    ) -> Result<T> {
        let tx = self.state.app.begin(Actor::System, Scope::Everything);
        let mut tx = tx.await?.caused_by(&self.id);
        let done = work(&mut tx).await?;
        tx.commit().await?;
        Ok(done)
    }
}

/// Every kind of job there is.
#[must_use]
pub fn registry() -> Registry<Hands> {
    Registry::new()
        .on(mail::send)
        .on(seal)
        .on(forget)
        .on(verify)
        .on(accounts::mail_reset_link)
        .on(accounts::forget_sessions)
        .on(forget_invitations)
        .on(advance_events)
        .on(reconcile_places)
        .on(orders::give_out)
        .on(orders::purchase)
        .on(orders::ask)
        .on(orders::ask_after_end)
        .on(orders::return_stray_payment)
        .on(orders::chase)
        .on(orders::confirm)
        .on(orders::tell)
        .on(orders::pay_back)
        .on(orders::heard)
        .on(orders::refund_all)
        .on(orders::audit)
        .on(orders::forget_heard)
        .on(encrypt_plain)
}

fn recurring() -> Vec<Recurring> {
    let minutes = Duration::from_mins;
    vec![
        Recurring::new(
            "events.advance",
            minutes(1),
            CatchUp::Latest,
            |_| Advance {},
        ),
        // Of the day before the last: whatever was under way at midnight has long been settled.
        Recurring::new("orders.audit", minutes(24 * 60), CatchUp::Each(7), |tick| {
            Audit {
                day: (tick - TimeDelta::hours(25)).date_naive(),
            }
        }),
        Recurring::new(
            "stripe.forget_heard",
            minutes(24 * 60),
            CatchUp::Latest,
            |_| ForgetHeard {},
        ),
        Recurring::new(
            "secrets.encrypt_plain",
            minutes(10),
            CatchUp::Latest,
            |_| EncryptPlain {},
        ),
        Recurring::new("orders.chase", minutes(1), CatchUp::Latest, |_| Chase {}),
        Recurring::new("stock.reconcile", minutes(1), CatchUp::Latest, |_| {
            Reconcile {}
        }),
        Recurring::new(
            "activity.seal",
            Duration::from_secs(10),
            CatchUp::Latest,
            |_| Seal {},
        ),
        Recurring::new("activity.verify", minutes(24 * 60), CatchUp::Latest, |_| {
            Verify {}
        }),
        Recurring::new("idempotency.forget", minutes(60), CatchUp::Latest, |_| {
            Forget {}
        }),
        Recurring::new(
            "account.forget_sessions",
            minutes(60),
            CatchUp::Latest,
            |_| ForgetSessions {},
        ),
        Recurring::new(
            "invitations.forget",
            minutes(24 * 60),
            CatchUp::Latest,
            |_| ForgetInvitations {},
        ),
    ]
}

/// Runs jobs until told to stop, then finishes what it has begun.
pub async fn run(app: App, stop: CancellationToken) -> anyhow::Result<()> {
    let mut beside = JoinSet::new();
    beside.spawn(stock::watch(app.clone()));
    let engine = Engine {
        pool: app.pool().clone(),
        redis: app.redis.connection(),
        prefix: app.redis.prefix().to_owned(),
        settings: app.config.jobs.clone(),
        drain: app.config.http.drain.0,
        registry: registry(),
        recurring: recurring(),
        state: Hands::new(app)?,
    };
    Ok(engine.run(stop).await?)
}

/// Does everything that is due by the app's own clock, for tests. Says how many attempts that took.
pub async fn run_due(hands: &Hands) -> anyhow::Result<usize> {
    let app = &hands.app;
    Ok(due::run_due(app.pool(), &registry(), hands, app.clock.now()).await?)
}

/// How many rows one transaction takes on, so that none is long.
pub(crate) const BATCH: u16 = 1_000;

async fn seal(context: JobContext<Hands>, _: Seal) -> JobResult {
    while context
        .change(async |tx| activity::seal(tx, BATCH.into()).await)
        .await?
        > 0
    {}
    Ok(())
}

async fn encrypt_plain(context: JobContext<Hands>, _: EncryptPlain) -> JobResult {
    while context
        .change(async |tx| shared::orders::encrypt_plain(tx, BATCH.into()).await)
        .await?
        > 0
    {}
    while context
        .change(async |tx| shared::mail::encrypt_plain(tx, BATCH.into()).await)
        .await?
        > 0
    {}
    Ok(())
}

async fn advance_events(context: JobContext<Hands>, _: Advance) -> JobResult {
    while context
        .change(async |tx| events::advance(tx, BATCH.into()).await)
        .await?
        > 0
    {}
    while context
        .change(async |tx| events::follow_prices(tx, BATCH.into()).await)
        .await?
        > 0
    {}
    Ok(())
}

async fn reconcile_places(context: JobContext<Hands>, _: Reconcile) -> JobResult {
    stock::reconcile(&context.state.app).await?;
    Ok(())
}

async fn forget(context: JobContext<Hands>, _: Forget) -> JobResult {
    while context
        .change(async |tx| idempotency::forget(tx, BATCH.into()).await)
        .await?
        > 0
    {}
    Ok(())
}

/// An organization whose lines were tampered with is an alarm, not a failure of the job.
async fn verify(context: JobContext<Hands>, _: Verify) -> JobResult {
    let mut db = context.state.app.read().await?;
    let mut broken = 0;
    for chain in activity::chains(&mut db).await? {
        if let Verdict::Broken { at } = activity::verify(&mut db, chain).await? {
            tracing::error!(organization = ?chain, at, "the chain of activities is broken");
            broken += 1;
        }
    }
    metrics::gauge!("activity_chains_broken").set(broken);
    Ok(())
}

async fn forget_invitations(context: JobContext<Hands>, _: ForgetInvitations) -> JobResult {
    while context
        .change(async |tx| invitations::forget(tx, BATCH.into()).await)
        .await?
        > 0
    {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_has_a_handler() {
        let registry = registry();
        for recurring in recurring() {
            assert!(registry.knows(recurring.kind()), "{recurring:?}");
        }
    }
}
