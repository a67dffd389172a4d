//! What an organization has decided for itself.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::events::RefundPolicy;
use crate::patch::Patch;

/// What an organization has decided for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Object)]
#[serde(default)]
pub struct Settings {
    /// For how many minutes places are held while somebody buys.
    pub hold_minutes: i32,
    pub refund_policy: RefundPolicy,
    /// How many hours before a session those who come are reminded; none for no reminder.
    pub reminder_hours: Vec<i32>,
}

/// What is to be different; what is left out stays as it is.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields)]
pub struct SettingsChange {
    /// For how many minutes places are held while somebody buys.
    #[oai(validator(minimum(value = "1"), maximum(value = "60")))]
    pub hold_minutes: Patch<i32>,
    /// The whole of it.
    pub refund_policy: Patch<RefundPolicy>,
    /// How many hours before a session those who come are reminded: at most five, each from 1 to 336.
    #[oai(validator(max_items = 5))]
    pub reminder_hours: Patch<Vec<i32>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hold_minutes: 10,
            refund_policy: RefundPolicy::default(),
            reminder_hours: vec![24],
        }
    }
}

impl SettingsChange {
    pub(super) fn applied_to(self, mut settings: Settings) -> Settings {
        self.hold_minutes.apply(&mut settings.hold_minutes);
        self.refund_policy.apply(&mut settings.refund_policy);
        self.reminder_hours.apply(&mut settings.reminder_hours);
        settings.reminder_hours.sort_unstable();
        settings.reminder_hours.dedup();
        settings.reminder_hours.reverse();
        settings
    }
}

impl Settings {
    /// What no field can say by itself.
    pub(super) fn check(&self, invalid: &mut Invalid) {
        let hours = &self.reminder_hours;
        if hours.len() > 5 || hours.iter().any(|hours| !(1..=336).contains(hours)) {
            let message = "must be at most five, each from 1 to 336";
            invalid.push("settings.reminder_hours", message);
        }
        self.refund_policy.check("settings.", invalid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_was_never_decided_has_a_default() {
        let settings: Settings = serde_json::from_str(r#"{"hold_minutes": 5}"#).expect("settings");
        assert_eq!(settings.hold_minutes, 5);
        assert_eq!(settings.reminder_hours, [24]);
        let mut invalid = Invalid::default();
        Settings::default().check(&mut invalid);
        invalid.check().expect("good defaults");
    }

    #[test]
    fn reminders_come_in_the_order_of_their_sending() {
        let change = SettingsChange {
            reminder_hours: Patch::Set(vec![2, 48, 2]),
            ..SettingsChange::default()
        };
        assert_eq!(
            change.applied_to(Settings::default()).reminder_hours,
            [48, 2]
        );
    }

    #[test]
    fn a_policy_gives_less_the_later_it_is() {
        let mut settings = Settings::default();
        settings.refund_policy.partial_percent = 50;
        settings.refund_policy.partial_until_hours = 72;
        settings.reminder_hours = vec![0];
        let mut invalid = Invalid::default();
        settings.check(&mut invalid);
        let error = Error::from(invalid);
        assert_eq!(error.details()["fields"].as_array().map(Vec::len), Some(2));
    }
}
