//! Parameters as Stripe takes them: `metadata[order_id]=…`, in a body or behind a question mark.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use url::form_urlencoded;

use super::refusal::Refusal;

pub(super) type Metadata = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    pub(super) fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    #[cfg(test)]
    pub(super) fn of(pairs: &[(&str, &str)]) -> Self {
        let pairs = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        Self(pairs.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::missing(name))
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let number = text.parse();
        number
            .map(Some)
            .map_err(|_| Refusal::bad(name, format!("Invalid integer: {text}")))
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// What stands under `name[…]`, one level deep.
    pub(super) fn group(&self, name: &str) -> Metadata {
        let inside = |key: &str| {
            let inner = key.strip_prefix(name)?.strip_prefix('[')?;
            Some(inner.strip_suffix(']')?.to_owned())
        };
        let pairs = self.0.iter();
        pairs
            .filter_map(|(key, value)| Some((inside(key)?, value.clone())))
            .collect()
    }

    pub(super) fn metadata(&self, name: &str) -> Result<Metadata, Refusal> {
        let metadata = self.group(name);
        let fits = |(key, value): (&String, &String)| {
            key.chars().count() <= 40 && value.chars().count() <= 500
        };
        if metadata.len() > 50 || !metadata.iter().all(fits) {
            return Err(Refusal::bad(
                name,
                "Metadata has at most 50 keys of 40 characters with values of 500".into(),
            ));
        }
        Ok(metadata)
    }

    /// Like Stripe, refuses a parameter that the operation does not have: a typo must not pass unseen.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        let root = |key: &str| key.split('[').next().unwrap_or_default().to_owned();
        let strange = self.0.keys().find(|key| !known.contains(&&*root(key)));
        strange.map_or(Ok(()), |key| Err(Refusal::unknown_parameter(key)))
    }

    /// Equal for equal requests.
    pub(super) fn fingerprint(&self, path: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (path, &self.0).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_read_encoded_or_not_and_order_does_not_matter() {
        let a = Form::parse(b"amount=500&metadata%5Border_id%5D=o1&metadata[try]=a+b");
        let b = Form::parse(b"metadata[try]=a%20b&metadata[order_id]=o1&amount=500");
        assert_eq!(a.group("metadata")["order_id"], "o1");
        assert_eq!(a.group("metadata")["try"], "a b");
        assert_eq!(a.fingerprint("/x"), b.fingerprint("/x"));
        assert_ne!(a.fingerprint("/x"), a.fingerprint("/y"));
        assert!(a.only(&["amount", "metadata"]).is_ok());
        assert!(a.only(&["amount"]).is_err());
    }
}
