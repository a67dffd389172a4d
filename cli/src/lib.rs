//! The commands of `holdfast`. The binary does nothing but call `main` here.

mod doctor;
mod health;
mod reference;
mod run;
mod serve;
pub mod services;
mod settings;
mod signals;
mod up;
mod with_services;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use shared::config::Config;

/// Holdfast: reservations and tickets that are never sold twice.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything for development: private servers, demo data, a mail catcher, the API and a worker
    Up,
    /// Serve the API
    Api(serve::Serve),
    /// Run jobs
    Worker(serve::Serve),
    /// Bring the database to the current schema
    Migrate,
    /// Fill in the demo data; refused in production
    Seed,
    /// Check the settings and what they point to, and say what is wrong
    Doctor,
    /// Ask the process on this machine whether it is ready; fails when it is not
    Health(health::Health),
    /// Catch mails and show them, instead of sending them to anybody
    Sandbox(serve::Sandbox),
    /// Run a command beside a Postgres and a Redis of its own, which are thrown away afterwards
    WithServices(with_services::WithServices),
    /// Throw away the data that `up` has kept
    CleanData,
    /// Print the OpenAPI document
    #[command(hide = true)]
    Openapi,
    /// Print every setting as a Markdown table
    #[command(hide = true)]
    Settings,
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let runtime = tokio::runtime::Runtime::new().expect("the system gives threads and timers");
    let outcome = runtime.block_on(dispatch(command));
    outcome.unwrap_or_else(|error| {
        eprintln!("holdfast: {error:#}");
        ExitCode::FAILURE
    })
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up => up::up().await,
        Command::Api(options) => serve::api(options, config()?).await,
        Command::Worker(options) => serve::worker(options, config()?).await,
        Command::Migrate => run::migrate(&config()?).await.map(|()| ExitCode::SUCCESS),
        Command::Seed => run::seed(Arc::new(config()?))
            .await
            .map(|()| ExitCode::SUCCESS),
        Command::Doctor => doctor::doctor().await,
        Command::Health(options) => health::health(options, &config()?).await,
        Command::Sandbox(options) => serve::sandbox(options).await,
        Command::WithServices(options) => with_services::with_services(options).await,
        Command::CleanData => up::clean_data().await,
        Command::Openapi => {
            println!("{:#}", api::http::document::document());
            Ok(ExitCode::SUCCESS)
        }
        Command::Settings => {
            print!("{}", reference::markdown());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn config() -> anyhow::Result<Config> {
    Ok(Config::read(&settings::source()?)?)
}
