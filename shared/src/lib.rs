//! The business of Holdfast: no HTTP server, no status codes, no reading of the environment.
//!
//! What everything is handed: [`app`] (what a process holds), [`tx`] (the one value through which every
//! change goes), [`clock`] and [`ids`] (time and identity, each with one home), [`config`] (every setting),
//! [`error`] (what can go wrong, in one table).
//!
//! What nouns are made of: [`page`], [`patch`], [`version`], [`money`], [`activity`] (what happened),
//! [`access`] (who may do what).
//!
//! The business itself: [`accounts`] (people, and where they are signed in), [`organizations`] (who sells, and who
//! belongs to them), [`roles`] and [`api_keys`] (what people and services may do there), [`venues`] (where it takes
//! place), [`events`] (what takes place, and what is on sale of it), [`stock`] (what of it is free right now), [`holds`] (places set aside for a
//! buyer), [`orders`] (what is bought, paid, given out and given back), [`qr`] (what a ticket shows at the door), [`seed`] (a small world to look at), [`production`] (what must not be where money moves). Work for later is described in [`jobs`] and done by the `worker` crate.

pub mod access;
pub mod accounts;
pub mod activity;
pub mod api_keys;
pub mod app;
pub mod cache;
pub mod clock;
pub mod config;
pub mod encryption;
pub mod error;
pub mod events;
pub mod holds;
pub mod idempotency;
pub mod ids;
pub mod jobs;
pub mod mail;
pub mod money;
pub mod orders;
pub mod organizations;
pub mod page;
pub mod patch;
pub mod production;
pub mod qr;
pub mod redis_connection;
pub mod roles;
pub mod seed;
pub mod shown;
pub mod stock;
pub mod telemetry;
pub mod text;
mod together;
pub mod tx;
pub mod venues;
pub mod version;

pub use app::App;
pub use error::{Error, Result};
pub use tx::Tx;
