//! The commands of `holdfast`. The binary does nothing but call `main` here.

mod run;
pub mod services;
mod settings;
mod signals;
mod with_services;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Holdfast: reservations and tickets that are never sold twice.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a command beside a Postgres and a Redis of its own, which are thrown away afterwards
    WithServices(with_services::WithServices),
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let runtime = tokio::runtime::Runtime::new().expect("the system gives threads and timers");
    match runtime.block_on(run(command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdfast: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::WithServices(options) => with_services::run(options).await,
    }
}
