//! Production does not start with what everybody knows, in its settings or in its database.
//!
//! A process starts while Postgres is still away, or has no schema yet. It is looked at as soon as it answers then, and a
//! process that should not have started ends.

use std::time::Duration;

use anyhow::bail;
use shared::App;
use shared::config::{Config, Mode};
use shared::production::{self, Obstacle};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long the start waits for the database to be looked at.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between looks at a database that did not answer.
const PAUSE: Duration = Duration::from_millis(250);

/// Fails with everything in the settings that keeps production from starting.
pub fn of_settings(config: &Config) -> anyhow::Result<()> {
    match config.general.mode {
        Mode::Development => Ok(()),
        Mode::Production => none_of(&production::in_settings(config)),
    }
}

/// The look at the database, which may still be to come.
pub struct Look(Option<JoinHandle<anyhow::Result<()>>>);

impl Look {
    /// Fails with everything that keeps production from starting, as far as it can be told at once. What is found later
    /// cancels `stop`.
    pub async fn begin(app: &App, stop: &CancellationToken) -> anyhow::Result<Self> {
        if app.config.general.mode == Mode::Development {
            return Ok(Self(None));
        }
        let mut found = production::in_settings(&app.config);
        let looked = timeout(PATIENCE, production::in_database(app)).await;
        let looked = looked.ok().and_then(Result::ok);
        let is_looked_at = looked.is_some();
        found.extend(looked.unwrap_or_default());
        none_of(&found)?;
        let (app, stop) = (app.clone(), stop.clone());
        Ok(Self((!is_looked_at).then(|| {
            tokio::spawn(async move {
                let looked = stop.run_until_cancelled(as_soon_as_it_answers(&app)).await;
                let outcome = none_of(&looked.unwrap_or_default());
                if let Err(error) = &outcome {
                    tracing::error!("{error:#}");
                    stop.cancel();
                }
                outcome
            })
        })))
    }

    /// What the look has found, once the process has stopped.
    pub async fn end(self) -> anyhow::Result<()> {
        match self.0 {
            Some(look) => look.await?,
            None => Ok(()),
        }
    }
}

async fn as_soon_as_it_answers(app: &App) -> Vec<Obstacle> {
    loop {
        match production::in_database(app).await {
            Ok(found) => return found,
            Err(error) => tracing::debug!(%error, "the database cannot be looked at yet"),
        }
        sleep(PAUSE).await;
    }
}

fn none_of(found: &[Obstacle]) -> anyhow::Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let lines = found
        .iter()
        .map(|obstacle| format!("\n  - {}. {}", obstacle.what, obstacle.remedy));
    bail!(
        "production does not start like this (HOLDFAST_GENERAL_MODE):{}",
        lines.collect::<String>()
    )
}
