//! What readers are shown: JSON that is written out once for all who are shown the same.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use poem_openapi::types::ToJSON;
use sha2::{Digest as _, Sha256};

/// So much of a digest tells every two answers apart.
const DIGEST: usize = 12;

/// The JSON of a `T`, and what tells it from every other.
pub struct Shown<T> {
    pub json: Bytes,
    pub digest: Arc<str>,
    is: PhantomData<fn() -> T>,
}

impl<T: ToJSON> Shown<T> {
    pub fn of(thing: &T) -> Self {
        let json = Bytes::from(thing.to_json_string());
        let digest = hex::encode(&Sha256::digest(&json)[..DIGEST]);
        Self {
            json,
            digest: digest.into(),
            is: PhantomData,
        }
    }
}

impl<T> Clone for Shown<T> {
    fn clone(&self) -> Self {
        Self {
            json: self.json.clone(),
            digest: Arc::clone(&self.digest),
            is: PhantomData,
        }
    }
}

/// How something was shown last, and with which numbers: while they are the same it is shown like that again.
pub(crate) struct Last<N, T>(Mutex<Option<(N, Shown<T>)>>);

impl<N, T> Default for Last<N, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<N: PartialEq, T: ToJSON> Last<N, T> {
    /// As it is with these numbers, made of nothing else than of them and of what this belongs to.
    pub fn show(&self, numbers: N, make: impl FnOnce(&N) -> T) -> Shown<T> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, shown)) = &*lock()
            && *known == numbers
        {
            return shown.clone();
        }
        let shown = Shown::of(&make(&numbers));
        *lock() = Some((numbers, shown.clone()));
        shown
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_same_numbers_are_written_out_once() {
        let (last, written) = (Last::default(), Cell::new(0));
        let show = |number: i32| {
            last.show(number, |number| {
                written.set(written.get() + 1);
                format!("{number} left")
            })
        };
        let (first, again, other) = (show(3), show(3), show(2));
        assert_eq!(&first.json[..], br#""3 left""#);
        assert_eq!(first.json, again.json);
        assert_eq!(first.digest, again.digest);
        assert_eq!(&other.json[..], br#""2 left""#);
        assert_ne!(first.digest, other.digest);
        assert_eq!(written.get(), 2);
        assert_eq!(&show(3).json[..], br#""3 left""#);
    }
}
