//! The end-to-end tests, in one binary. Run them by `make test`.

mod accounts;
mod activity;
mod authorisation;
mod document;
mod events;
mod http;
mod idempotency;
mod mail;
mod organizations;
mod queue;
mod stock;
mod venues;
mod worker;
