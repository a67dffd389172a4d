//! Runs jobs.
//!
//! | module | holds |
//! |---|---|
//! | [`mod@registry`] | what a handler is: its context, its errors, which kind it runs |
//! | [`attempt`] | one attempt at one job, from the stored row to how it ended |
//! | [`ledger`] | how the end of an attempt is written back |
//! | [`queue`] | everything we had to learn about apalis: claiming jobs and running them |
//! | [`engine`] | its lanes and what keeps them going, from the start to the drain |
//! | `heart` | heartbeats, and taking over from those who have none |
//! | `gauges` | how the queues are doing, for the operator |
//! | [`recurring`] | jobs that come back every so often |
//! | [`due`] | the same attempts one after the other, for tests |

mod accounts;
pub mod attempt;
pub mod due;
pub mod engine;
mod gauges;
mod heart;
pub mod ledger;
mod mail;
mod orders;
pub mod queue;
pub mod recurring;
pub mod registry;
mod work;

pub use engine::{Engine, EngineError};
pub use recurring::{CatchUp, Recurring};
pub use registry::{JobContext, JobError, JobResult, Registry};
pub use work::{Hands, registry, run, run_due};
