//! The commands that run, check and describe the product.

use std::process::ExitCode;
use std::sync::Arc;

use shared::config::Config;

use crate::{admin, doctor, fitness, health, reference, run, serve, settings, up};

#[derive(clap::Args)]
pub struct Audit {
    /// The day, like 2026-01-31, from midnight to midnight in UTC; yesterday unless given
    day: Option<chrono::NaiveDate>,
}

#[derive(clap::Subcommand)]
pub enum Command {
    /// Run everything for development: private servers, demo data, a mail catcher, a stand-in for Stripe, the API and a worker
    Up,
    /// Serve the API
    Api(serve::Serve),
    /// Run jobs
    Worker(serve::Serve),
    /// Bring the database to the current schema
    Migrate,
    /// Fill in the demo data; refused in production
    Seed,
    /// Ask Stripe after every order that waits, compare Redis with Postgres and repair what differs; say what it was
    Reconcile,
    /// Compare the ledger of a day with what Stripe has moved, and fail when they differ
    Audit(Audit),
    /// Manage platform administrators
    #[command(subcommand)]
    Admin(admin::Admin),
    /// Check the settings and what they point to, and say what is wrong
    Doctor,
    /// Ask the process on this machine whether it is ready; fails when it is not
    Health(health::Health),
    /// Catch mails and show them, and take payments as Stripe would: no mail is sent, no money moves
    Sandbox(serve::Sandbox),
    /// Throw away the data that `up` has kept
    CleanData,
    /// Print the OpenAPI document
    #[command(hide = true)]
    Openapi,
    /// Print every setting as a Markdown table
    #[command(hide = true)]
    Settings,
}

impl Command {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up => up::up().await,
            Self::Api(options) => serve::api(options, config()?).await,
            Self::Worker(options) => serve::worker(options, config()?).await,
            Self::Migrate => run::migrate(&config()?).await.map(|()| ExitCode::SUCCESS),
            Self::Seed => run::seed(Arc::new(config()?))
                .await
                .map(|()| ExitCode::SUCCESS),
            Self::Reconcile => run::reconcile(Arc::new(fit_config()?)).await,
            Self::Audit(Audit { day }) => run::audit(Arc::new(fit_config()?), day).await,
            Self::Admin(admin) => admin.run(fit_config()?).await,
            Self::Doctor => doctor::doctor().await,
            Self::Health(options) => health::health(options, &config()?).await,
            Self::Sandbox(options) => serve::sandbox(options).await,
            Self::CleanData => up::clean_data().await,
            Self::Openapi => {
                println!("{:#}", api::http::document::document());
                Ok(ExitCode::SUCCESS)
            }
            Self::Settings => {
                print!("{}", reference::markdown());
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The settings of what signs, encrypts or pays without being the API or a worker, which look into the database as well.
fn fit_config() -> anyhow::Result<Config> {
    let config = config()?;
    fitness::of_settings(&config)?;
    Ok(config)
}

fn config() -> anyhow::Result<Config> {
    Ok(Config::read(&settings::source()?)?)
}
