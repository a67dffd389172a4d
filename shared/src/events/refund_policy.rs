//! What part of their money buyers get back when they cancel. Pure: the moment is handed in.

use chrono::{DateTime, TimeDelta, Utc};
use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use crate::error::Invalid;

/// What buyers get back when they cancel: everything until some time before the beginning, then a part, then nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Object)]
#[oai(deny_unknown_fields)]
pub struct RefundPolicy {
    /// Everything comes back up to so many hours before the beginning. None: never.
    #[oai(validator(minimum(value = "0"), maximum(value = "8760")))]
    pub full_until_hours: Option<i32>,
    /// After that this much comes back, in percent …
    #[oai(validator(minimum(value = "0"), maximum(value = "100")))]
    pub partial_percent: i32,
    /// … up to so many hours before the beginning.
    #[oai(validator(minimum(value = "0"), maximum(value = "8760")))]
    pub partial_until_hours: i32,
    /// Whether fees are kept.
    pub keep_fees: bool,
}

impl Default for RefundPolicy {
    fn default() -> Self {
        Self {
            full_until_hours: Some(48),
            partial_percent: 0,
            partial_until_hours: 0,
            keep_fees: false,
        }
    }
}

impl RefundPolicy {
    /// What no field can say by itself. `place` is where the policy stands in the request.
    pub(crate) fn check(&self, place: &str, invalid: &mut Invalid) {
        let backwards = |full| self.partial_percent > 0 && self.partial_until_hours > full;
        if self.full_until_hours.is_some_and(backwards) {
            let message = "must not be more than `full_until_hours`";
            invalid.push(format!("{place}refund_policy.partial_until_hours"), message);
        }
    }

    /// How much comes back at a moment, in percent. The last second of a period belongs to it.
    #[must_use]
    pub fn percent(&self, begins: DateTime<Utc>, at: DateTime<Utc>) -> i64 {
        let in_time = |hours: i32| at <= begins - TimeDelta::hours(hours.into());
        if self.full_until_hours.is_some_and(in_time) {
            return 100;
        }
        if in_time(self.partial_until_hours) {
            return self.partial_percent.into();
        }
        0
    }

    /// The last moment at which everything comes back, if there is one.
    #[must_use]
    pub fn full_until(&self, begins: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let hours = self.full_until_hours?;
        Some(begins - TimeDelta::hours(hours.into()))
    }

    /// The last moment at which anything comes back.
    #[must_use]
    pub fn anything_until(&self, begins: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let partly = begins - TimeDelta::hours(self.partial_until_hours.into());
        let partly = Some(partly).filter(|_| self.partial_percent > 0);
        self.full_until(begins).max(partly)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> RefundPolicy {
        RefundPolicy {
            full_until_hours: Some(48),
            partial_percent: 50,
            partial_until_hours: 24,
            keep_fees: true,
        }
    }

    #[test]
    fn the_last_second_of_a_period_belongs_to_it() {
        let begins = DateTime::UNIX_EPOCH + TimeDelta::days(30);
        let back = |hours, seconds| {
            let at = begins - TimeDelta::hours(hours) + TimeDelta::seconds(seconds);
            policy().percent(begins, at)
        };
        assert_eq!([back(48, 0), back(48, 1)], [100, 50]);
        assert_eq!([back(24, 0), back(24, 1)], [50, 0]);
        assert_eq!(back(0, 3_600), 0);
    }

    #[test]
    fn without_a_time_for_everything_only_the_part_comes_back() {
        let never = RefundPolicy {
            full_until_hours: None,
            keep_fees: false,
            ..policy()
        };
        let begins = DateTime::UNIX_EPOCH + TimeDelta::days(3_000);
        assert_eq!(never.percent(begins, DateTime::UNIX_EPOCH), 50);
    }

    prop_compose! {
        fn any_policy()(
            full in proptest::option::of(0i32..8_760), percent in 0i32..=100, partial in 0i32..8_760, keep_fees: bool,
        ) -> RefundPolicy {
            let partial = full.map_or(partial, |full| partial.min(full));
            RefundPolicy { full_until_hours: full, partial_percent: percent, partial_until_hours: partial, keep_fees }
        }
    }

    proptest! {
        #[test]
        fn nobody_gets_back_more_than_was_paid_or_more_by_waiting(
            policy in any_policy(), early in 0i64..9_000 * 3_600, later in 0i64..9_000 * 3_600,
        ) {
            let mut invalid = Invalid::default();
            policy.check("", &mut invalid);
            prop_assert!(invalid.check().is_ok());
            let begins = DateTime::UNIX_EPOCH + TimeDelta::hours(9_000);
            let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
            let first = policy.percent(begins, at(early));
            let second = policy.percent(begins, at(early + later));
            prop_assert!((0..=100).contains(&first));
            prop_assert!(second <= first, "full_until comes first, so time only takes away");
        }
    }
}
