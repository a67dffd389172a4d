//! The end-to-end tests, in one binary. Run them by `make test`.

mod accounts;
mod activity;
mod authorisation;
mod availability;
mod cache;
mod document;
mod edge;
mod events;
mod holds;
mod hostile_bodies;
mod http;
mod idempotency;
mod mail;
mod orders;
mod organizations;
mod places;
mod processes;
mod queue;
mod search;
mod seats;
mod secrets;
mod stock;
mod stripe;
mod tickets;
mod venues;
mod worker;
