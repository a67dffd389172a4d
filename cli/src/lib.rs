//! The commands of `holdfast`. The binary does nothing but call `main` here.

#[cfg(feature = "product")]
mod admin;
#[cfg(feature = "product")]
mod doctor;
#[cfg(feature = "product")]
mod fitness;
#[cfg(feature = "product")]
mod health;
mod migrations;
#[cfg(feature = "product")]
mod product;
#[cfg(feature = "product")]
mod reference;
#[cfg(feature = "product")]
mod run;
#[cfg(feature = "product")]
mod serve;
pub mod services;
mod settings;
mod signals;
#[cfg(feature = "product")]
mod up;
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
    #[cfg(feature = "product")]
    #[command(flatten)]
    Product(product::Command),
    /// Run a command beside a Postgres and a Redis of its own, which are thrown away afterwards
    WithServices(with_services::WithServices),
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let runtime = tokio::runtime::Runtime::new().expect("the system gives threads and timers");
    let outcome = runtime.block_on(async {
        match command {
            #[cfg(feature = "product")]
            Command::Product(command) => command.run().await,
            Command::WithServices(options) => with_services::with_services(options).await,
        }
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("holdfast: {error:#}");
        ExitCode::FAILURE
    })
}
