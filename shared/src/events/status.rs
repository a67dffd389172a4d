//! The life of an event, in one place.

use chrono::{DateTime, Utc};
use poem_openapi::Enum;
use serde::{Deserialize, Serialize};

/// Where an event is in its life.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Enum,
    sqlx::Type,
)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Status {
    /// Only its organization sees it.
    Draft,
    /// To be seen and bought.
    Published,
    /// To be seen; its new time is not known yet.
    Postponed,
    /// To be seen, and not sold for a while.
    OnHold,
    /// It has begun.
    InProgress,
    /// It is over.
    Completed,
    /// It will not take place.
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 7] = [
        Self::Draft,
        Self::Published,
        Self::Postponed,
        Self::OnHold,
        Self::InProgress,
        Self::Completed,
        Self::Cancelled,
    ];

    /// Where the clock has moved it by `now`: only what takes place begins and ends.
    #[must_use]
    pub fn by_the_clock(
        self,
        starts_at: DateTime<Utc>,
        ends_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Self {
        match self {
            Self::Published | Self::InProgress if ends_at <= now => Self::Completed,
            Self::Published if starts_at <= now => Self::InProgress,
            other => other,
        }
    }

    /// Where somebody may move it. What begins and ends by the clock is moved by nobody.
    #[must_use]
    pub const fn reachable(self) -> &'static [Self] {
        match self {
            Self::Draft => &[Self::Published, Self::Cancelled],
            Self::Published => &[Self::Postponed, Self::OnHold, Self::Cancelled],
            Self::Postponed => &[Self::Published, Self::OnHold, Self::Cancelled],
            Self::OnHold => &[Self::Published, Self::Postponed, Self::Cancelled],
            Self::InProgress => &[Self::Cancelled],
            Self::Completed | Self::Cancelled => &[],
        }
    }

    /// Whether more than its description can still change.
    #[must_use]
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::InProgress | Self::Completed | Self::Cancelled)
    }

    /// Whether places can be bought, as far as the event goes.
    #[must_use]
    pub const fn is_on_sale(self) -> bool {
        matches!(self, Self::Published | Self::InProgress)
    }

    /// Whether somebody must say why.
    #[must_use]
    pub const fn needs_reason(self) -> bool {
        matches!(self, Self::Postponed | Self::OnHold | Self::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From each state (row) to each (column), in the order of `ALL`.
    const MOVES: [(Status, &str); 7] = [
        (Status::Draft, ".y....y"),
        (Status::Published, "..yy..y"),
        (Status::Postponed, ".y.y..y"),
        (Status::OnHold, ".yy...y"),
        (Status::InProgress, "......y"),
        (Status::Completed, "......."),
        (Status::Cancelled, "......."),
    ];

    #[test]
    fn every_pair_is_decided() {
        for (from, row) in MOVES {
            let moves = Status::ALL.iter().map(|to| {
                if from.reachable().contains(to) {
                    'y'
                } else {
                    '.'
                }
            });
            assert_eq!(moves.collect::<String>(), row, "{from:?}");
        }
    }

    #[test]
    fn the_clock_moves_what_takes_place_and_nothing_else() {
        let at = |hour: i64| DateTime::from_timestamp(hour * 3_600, 0).expect("a time");
        // From eight to ten.
        let moved = |from: Status, hour| from.by_the_clock(at(8), at(10), at(hour));
        for from in Status::ALL {
            let (before, while_on, after) = match from {
                Status::Published => (from, Status::InProgress, Status::Completed),
                Status::InProgress => (from, from, Status::Completed),
                _ => (from, from, from),
            };
            assert_eq!(moved(from, 7), before, "{from:?}");
            assert_eq!(
                [8, 9].map(|hour| moved(from, hour)),
                [while_on; 2],
                "{from:?}"
            );
            assert_eq!(
                [10, 11].map(|hour| moved(from, hour)),
                [after; 2],
                "{from:?}"
            );
        }
    }

    #[test]
    fn what_is_over_stays_as_it_is() {
        let closed = Status::ALL.into_iter().filter(|status| !status.is_open());
        let expected = [Status::InProgress, Status::Completed, Status::Cancelled];
        assert_eq!(closed.collect::<Vec<_>>(), expected);
        assert!(!Status::Published.needs_reason());
        assert!(Status::Cancelled.needs_reason());
    }
}
