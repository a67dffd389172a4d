//! Lists, page by page.

use std::ops::Range;

use serde::Deserialize;
use stripe_types::{RangeBoundsTs, RangeQueryTs};

/// Some of what there is, newest first.
#[derive(Debug, Clone)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// To be handed in for the page after this one, if there is one.
    pub next: Option<String>,
}

/// As many as Stripe gives at a time.
pub(crate) const PAGE: i64 = 100;

#[derive(Deserialize)]
pub(crate) struct WirePage<T> {
    data: Vec<T>,
    #[serde(default)]
    has_more: bool,
}

impl<T> WirePage<T> {
    pub(crate) fn page(self, id: impl Fn(&T) -> &String) -> Page<T> {
        let last = self.data.last().map(|last| id(last).clone());
        Page {
            items: self.data,
            next: last.filter(|_| self.has_more),
        }
    }
}

/// From the first second on, and before the second.
pub(crate) fn created(within: &Range<i64>) -> RangeQueryTs {
    RangeQueryTs::Bounds(RangeBoundsTs {
        gte: Some(within.start),
        lt: Some(within.end),
        ..RangeBoundsTs::default()
    })
}
