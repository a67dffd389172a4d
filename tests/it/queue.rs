//! The job engine against real Postgres and Redis, and against everything that can go wrong with it.

mod enqueue;
mod failures;
mod lives;
mod operate;
mod place;
mod recurring;
mod rush;
