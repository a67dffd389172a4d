//! `holdfast admin`: what nobody may do over the network.

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use secrecy::{ExposeSecret as _, SecretString};
use shared::config::Config;

use crate::run::{self, MadeAdmin};

#[derive(clap::Subcommand)]
pub enum Admin {
    /// Make a platform administrator, who sees and manages everything; an account that exists becomes one
    Create(Create),
}

#[derive(clap::Args)]
pub struct Create {
    /// The mail address of the account
    #[arg(long)]
    email: String,
    /// The name of a new account
    #[arg(long, default_value = "Administrator")]
    name: String,
    /// Read the password of a new account from standard input; without this one is made up and printed once
    #[arg(long)]
    password_stdin: bool,
}

impl Admin {
    pub async fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let Self::Create(options) = self;
        let given = if options.password_stdin {
            Some(password()?)
        } else {
            None
        };
        match run::make_admin(Arc::new(config), &options.email, &options.name, given).await? {
            MadeAdmin::Promoted => println!(
                "{} is a platform administrator now, with the password it had.",
                options.email
            ),
            MadeAdmin::New { made_up: None } => {
                println!("{} is a platform administrator.", options.email);
            }
            MadeAdmin::New {
                made_up: Some(password),
            } => println!(
                "{} is a platform administrator. The password, which is shown only here: {}",
                options.email,
                password.expose_secret()
            ),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The first line, whatever ends it.
fn password() -> anyhow::Result<SecretString> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("the password cannot be read")?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "no password came on standard input");
    Ok(line.into())
}
