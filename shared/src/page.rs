//! Pages for people who leaf through a list.

use poem_openapi::Object;
use poem_openapi::types::{ParseFromJSON, ToJSON, Type};

use crate::error::{Invalid, Result};

const DEFAULT_LIMIT: u32 = 20;
const LARGEST_LIMIT: u32 = 100;
/// Leafing further than this is no longer leafing; it would only make Postgres count rows to throw away.
const LAST_ROW: u32 = 1_000_000;

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Paging {
    page: u32,
    limit: u32,
}

impl Paging {
    pub fn new(page: Option<u32>, limit: Option<u32>) -> Result<Self> {
        let (page, limit) = (page.unwrap_or(1), limit.unwrap_or(DEFAULT_LIMIT));
        let mut invalid = Invalid::default();
        if !(1..=LARGEST_LIMIT).contains(&limit) {
            invalid.push("limit", format!("must be between 1 and {LARGEST_LIMIT}"));
        }
        if page == 0 || page.saturating_mul(limit) > LAST_ROW {
            invalid.push(
                "page",
                format!("must be at least 1, and end before row {LAST_ROW}"),
            );
        }
        invalid.check()?;
        Ok(Self { page, limit })
    }

    #[must_use]
    pub fn limit(self) -> i64 {
        self.limit.into()
    }

    /// Which page it is, and how many rows one has, as answers say it.
    #[must_use]
    pub fn place(self) -> (u32, u32) {
        (self.page, self.limit)
    }

    #[must_use]
    pub fn offset(self) -> i64 {
        i64::from(self.page - 1) * i64::from(self.limit)
    }

    /// The answer for these rows out of `total`.
    #[must_use]
    pub fn of<T: Type + ParseFromJSON + ToJSON>(self, items: Vec<T>, total: i64) -> Page<T> {
        let seen = self.offset() + i64::try_from(items.len()).unwrap_or(i64::MAX);
        Page {
            items,
            total,
            page: self.page,
            limit: self.limit,
            has_more: seen < total,
        }
    }
}

/// One page of a list.
#[derive(Debug, Clone, Object)]
pub struct Page<T: Type + ParseFromJSON + ToJSON> {
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: i64,
    pub page: u32,
    pub limit: u32,
    pub has_more: bool,
}

/// Which part of a feed is asked for: what comes after a place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Following {
    pub after: i64,
    limit: u32,
}

impl Following {
    /// `after` is the `next` of an earlier answer; without it the feed begins at its beginning.
    pub fn new(after: Option<&str>, limit: Option<u32>) -> Result<Self> {
        let limit = limit.unwrap_or(LARGEST_LIMIT);
        let mut invalid = Invalid::default();
        if !(1..=LARGEST_LIMIT).contains(&limit) {
            invalid.push("limit", format!("must be between 1 and {LARGEST_LIMIT}"));
        }
        let place = after.map_or(Some(0), |after| after.parse().ok());
        let place = place.filter(|place| *place >= 0);
        if place.is_none() {
            invalid.push("after", "must be the `next` of an earlier answer");
        }
        invalid.check()?;
        Ok(Self {
            after: place.unwrap_or_default(),
            limit,
        })
    }

    #[must_use]
    pub fn limit(self) -> i64 {
        self.limit.into()
    }

    /// The answer for these items, the last of which is at the place `last`.
    #[must_use]
    pub fn of<T: Type + ParseFromJSON + ToJSON>(self, items: Vec<T>, last: Option<i64>) -> Feed<T> {
        let next = last.unwrap_or(self.after).to_string();
        Feed { items, next }
    }
}

/// A part of a feed, oldest first.
#[derive(Debug, Object)]
pub struct Feed<T: Type + ParseFromJSON + ToJSON> {
    pub items: Vec<T>,
    /// Ask with this as `after` for what comes next, now or later. At the end of the feed there is nothing
    /// yet, and the answer is empty.
    pub next: String,
}

/// A list too short to leaf through.
#[derive(Debug, Object)]
pub struct All<T: Type + ParseFromJSON + ToJSON> {
    pub items: Vec<T>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_are_named_when_broken() {
        let error = Paging::new(Some(0), Some(101)).expect_err("out of bounds");
        assert_eq!(error.details()["fields"].as_array().map(Vec::len), Some(2));
        Paging::new(Some(u32::MAX), Some(100)).expect_err("no end in sight");
    }

    proptest! {
        #[test]
        fn leafing_shows_each_row_once(total in 0u32..500, limit in 1u32..=LARGEST_LIMIT) {
            let rows: Vec<u32> = (0..total).collect();
            let mut seen: Vec<u32> = Vec::new();
            for page in 1.. {
                let paging = Paging::new(Some(page), Some(limit)).expect("within bounds");
                let from = usize::try_from(paging.offset()).expect("small");
                let items: Vec<u32> = rows.iter().skip(from).take(limit as usize).copied().collect();
                let page = paging.of(items, total.into());
                seen.extend(&page.items);
                if !page.has_more { break; }
            }
            prop_assert_eq!(seen, rows);
        }
    }
}
