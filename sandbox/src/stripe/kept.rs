//! Things by their id, and in the order they were made.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::form::Form;
use super::refusal::Refusal;

/// Something Stripe shows.
pub(super) trait Object {
    fn json(&self) -> Value;
}

/// When it was made, and which one of that second.
type Place = (i64, u64);

#[derive(Debug)]
pub(super) struct Kept<T> {
    by_id: HashMap<String, (Place, T)>,
    in_order: BTreeMap<Place, String>,
    last: u64,
    most: usize,
}

impl<T: Object> Kept<T> {
    pub(super) fn all() -> Self {
        Self::at_most(usize::MAX)
    }

    /// The oldest make room.
    pub(super) fn at_most(most: usize) -> Self {
        Self {
            by_id: HashMap::new(),
            in_order: BTreeMap::new(),
            last: 0,
            most,
        }
    }

    pub(super) fn add(&mut self, id: &str, created: i64, thing: T) {
        self.last += 1;
        let place = (created, self.last);
        self.by_id.insert(id.to_owned(), (place, thing));
        self.in_order.insert(place, id.to_owned());
        if self.in_order.len() > self.most
            && let Some((_, oldest)) = self.in_order.pop_first()
        {
            self.by_id.remove(&oldest);
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&T> {
        self.by_id.get(id).map(|(_, thing)| thing)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.by_id.get_mut(id).map(|(_, thing)| thing)
    }

    pub(super) fn forget(&mut self, id: &str) {
        if let Some((place, _)) = self.by_id.remove(id) {
            self.in_order.remove(&place);
        }
    }

    pub(super) fn newest(&self) -> impl Iterator<Item = &T> {
        self.in_order.values().rev().filter_map(|id| self.get(id))
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.in_order.values().filter_map(|id| self.get(id))
    }

    /// A page as Stripe cuts it: newest first, after `starting_after`, within `created[…]`.
    pub(super) fn page(
        &self,
        path: &str,
        form: &Form,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Value, Refusal> {
        let limit = form.integer("limit")?.unwrap_or(10);
        let limit = usize::try_from(limit)
            .ok()
            .filter(|n| (1..=100).contains(n));
        let limit = limit.ok_or_else(|| Refusal::bad("limit", "Between 1 and 100".into()))?;
        let (from, before) = bounds(form)?;
        let before = match form.get("starting_after") {
            None => (before, 0),
            Some(id) => {
                let found = self.by_id.get(id).map(|(place, _)| *place);
                let after = found.ok_or_else(|| Refusal::names_no("starting_after", path, id))?;
                after.min((before, 0))
            }
        };
        let from = (from, 0).min(before);
        let newest_first = self.in_order.range(from..before).rev();
        let mut found = newest_first
            .filter_map(|(_, id)| self.get(id))
            .filter(|thing| wanted(thing));
        let data: Vec<Value> = found.by_ref().take(limit).map(Object::json).collect();
        let has_more = found.next().is_some();
        Ok(json!({"object": "list", "url": path, "has_more": has_more, "data": data}))
    }
}

/// From when on, and before when.
fn bounds(form: &Form) -> Result<(i64, i64), Refusal> {
    let at = |name: &str| form.integer(name);
    if let Some(moment) = at("created")? {
        return Ok((moment, moment.saturating_add(1)));
    }
    let from = [
        at("created[gte]")?,
        at("created[gt]")?.map(|t| t.saturating_add(1)),
    ];
    let before = [
        at("created[lt]")?,
        at("created[lte]")?.map(|t| t.saturating_add(1)),
    ];
    Ok((
        from.into_iter().flatten().max().unwrap_or(i64::MIN),
        before.into_iter().flatten().min().unwrap_or(i64::MAX),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Object for i64 {
        fn json(&self) -> Value {
            json!({"n": self})
        }
    }

    fn numbers(kept: &Kept<i64>, pairs: &[(&str, &str)]) -> (Vec<i64>, bool) {
        let page = kept.page("/v1/x", &Form::of(pairs), |_| true);
        let page = page.expect("a page");
        let data = page["data"].as_array().expect("a list");
        let numbers = data.iter().filter_map(|n| n["n"].as_i64()).collect();
        (numbers, page["has_more"] == true)
    }

    #[test]
    fn pages_are_newest_first_within_bounds_and_go_on_after_one() {
        let mut kept = Kept::all();
        for n in 0..10 {
            kept.add(&format!("n{n}"), 100 + n / 2, n);
        }
        assert_eq!(numbers(&kept, &[("limit", "2")]), (vec![9, 8], true));
        let on = [("limit", "2"), ("starting_after", "n8")];
        assert_eq!(numbers(&kept, &on), (vec![7, 6], true));
        let within = [("created[gte]", "101"), ("created[lt]", "103")];
        assert_eq!(numbers(&kept, &within), (vec![5, 4, 3, 2], false));
        let nothing = [("created[gt]", "104"), ("created[lte]", "90")];
        assert_eq!(numbers(&kept, &nothing), (vec![], false));
        let page = kept.page("/v1/x", &Form::of(&[("limit", "0")]), |_| true);
        assert!(page.is_err());
    }

    #[test]
    fn the_oldest_make_room() {
        let mut kept = Kept::at_most(2);
        for n in 0..3 {
            kept.add(&n.to_string(), n, n);
        }
        assert!(kept.get("0").is_none());
        assert_eq!(kept.iter().copied().collect::<Vec<_>>(), [1, 2]);
    }
}
