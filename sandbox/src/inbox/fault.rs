//! What can go wrong with a mail server, on demand.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// A way to misbehave. A recipient of `*` means everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Refuses a recipient for good (550).
    Refuse(String),
    /// Refuses a recipient for now (451).
    Defer(String),
    /// Thinks this long before it answers to a recipient.
    Slow(String, Duration),
    /// Reads one whole message and cuts the connection without an answer. Whether it had been
    /// accepted, only the server knows: `kept` decides.
    DropAfterData { kept: bool },
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(super) fn add(&self, fault: Fault) {
        self.all().push(fault);
    }

    pub(super) fn clear(&self) {
        self.all().clear();
    }

    pub(super) fn refuses(&self, recipient: &str) -> bool {
        self.all()
            .iter()
            .any(|fault| matches!(fault, Fault::Refuse(whom) if means(whom, recipient)))
    }

    pub(super) fn defers(&self, recipient: &str) -> bool {
        self.all()
            .iter()
            .any(|fault| matches!(fault, Fault::Defer(whom) if means(whom, recipient)))
    }

    pub(super) fn pause(&self, recipient: &str) -> Option<Duration> {
        self.all().iter().find_map(|fault| match fault {
            Fault::Slow(whom, pause) if means(whom, recipient) => Some(*pause),
            _ => None,
        })
    }

    /// Each [`Fault::DropAfterData`] hits one message.
    pub(super) fn take_drop_after_data(&self) -> Option<bool> {
        let mut all = self.all();
        let (at, kept) = all.iter().enumerate().find_map(|(at, fault)| match fault {
            Fault::DropAfterData { kept } => Some((at, *kept)),
            _ => None,
        })?;
        all.remove(at);
        Some(kept)
    }

    fn all(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

fn means(whom: &str, recipient: &str) -> bool {
    whom == "*" || whom.eq_ignore_ascii_case(recipient)
}
