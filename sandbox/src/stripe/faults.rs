//! What can go wrong with Stripe, on demand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// A way to misbehave towards a request. "Before" leaves nothing behind, "after" has done everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 429; nothing is done.
    TooManyRequests,
    /// 500; nothing is done.
    ErrorBefore,
    /// Done and kept under its key, but the answer is a 500: a retry hears the truth.
    ErrorAfter,
    /// Done, and the 500 itself is kept under the key, as Stripe does: only looking it up tells the truth.
    ErrorKept,
    /// The connection is cut; nothing is done.
    CutBefore,
    /// Done; the connection is cut.
    CutAfter,
    /// Done, and never answered.
    Silence,
    /// Done after this long.
    Slow(Duration),
    /// Taken in, and done when [`release`](super::Stripe::release) says so, whether or not anybody still waits.
    HoldBefore,
    /// Done at once, and answered when [`release`](super::Stripe::release) says so.
    HoldAfter,
}

impl Fault {
    /// As the control endpoint names them.
    pub(super) fn named(name: &str, millis: u64) -> Option<Self> {
        Some(match name {
            "too_many_requests" => Self::TooManyRequests,
            "error_before" => Self::ErrorBefore,
            "error_after" => Self::ErrorAfter,
            "error_kept" => Self::ErrorKept,
            "cut_before" => Self::CutBefore,
            "cut_after" => Self::CutAfter,
            "silence" => Self::Silence,
            "slow" => Self::Slow(Duration::from_millis(millis)),
            "hold_before" => Self::HoldBefore,
            "hold_after" => Self::HoldAfter,
            _ => return None,
        })
    }
}

/// A way to misbehave towards the receiver of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookFault {
    /// Sent two times.
    Twice,
    /// Put aside until [`send_late_webhooks`](super::Stripe::send_late_webhooks).
    Late,
    Never,
    /// Signed with another secret.
    Forged,
    /// Signed as if it were an hour old.
    Stale,
}

impl WebhookFault {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "twice" => Self::Twice,
            "late" => Self::Late,
            "never" => Self::Never,
            "forged" => Self::Forged,
            "stale" => Self::Stale,
            _ => return None,
        })
    }
}

/// Faults that wait for their victims, first come, first served.
#[derive(Debug)]
pub(super) struct Plan<F> {
    planned: Mutex<Vec<Planned<F>>>,
    any: AtomicBool,
}

#[derive(Debug)]
struct Planned<F> {
    on: String,
    fault: F,
    left: usize,
}

impl<F> Default for Plan<F> {
    fn default() -> Self {
        Self {
            planned: Mutex::default(),
            any: AtomicBool::new(false),
        }
    }
}

impl<F: Copy> Plan<F> {
    /// For the next `times` whose kind begins with `on`.
    pub(super) fn add(&self, on: &str, fault: F, times: usize) {
        let mut planned = self.all();
        planned.push(Planned {
            on: on.to_owned(),
            fault,
            left: times,
        });
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn clear(&self) {
        self.all().clear();
        self.any.store(false, Ordering::Release);
    }

    pub(super) fn take(&self, kind: &str) -> Option<F> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut all = self.all();
        let planned = all
            .iter_mut()
            .find(|p| p.left > 0 && kind.starts_with(&p.on))?;
        planned.left -= 1;
        let fault = planned.fault;
        all.retain(|planned| planned.left > 0);
        self.any.store(!all.is_empty(), Ordering::Release);
        Some(fault)
    }

    fn all(&self) -> MutexGuard<'_, Vec<Planned<F>>> {
        self.planned.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_as_often_as_told_and_only_its_kind() {
        let plan = Plan::default();
        plan.add("refunds", Fault::Silence, 1);
        plan.add("payment_intents.create", Fault::CutAfter, 2);
        assert_eq!(plan.take("payment_intents.retrieve"), None);
        for _ in 0..2 {
            assert_eq!(plan.take("payment_intents.create"), Some(Fault::CutAfter));
        }
        assert_eq!(plan.take("payment_intents.create"), None);
        assert_eq!(plan.take("refunds.create"), Some(Fault::Silence));
        plan.add("", Fault::ErrorBefore, 1);
        plan.clear();
        assert_eq!(plan.take("refunds.create"), None);
    }
}
