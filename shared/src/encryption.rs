//! Secrets that must be told again later. The database has their hash, by which a presented secret is recognised, and
//! their text encrypted with a key that is not in the database.
//!
//! The hash need not be a slow one: each of these secrets has at least 128 random bits. An encrypted secret is bound to its
//! place, so that it cannot be moved to another row and shown there. Its first bytes name the key. The first key of the
//! settings encrypts, all of them decrypt.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::config;
use crate::error::{Error, Result};
use crate::ids;
use crate::jobs::{Job, Queue};

/// Encrypts in development, where nobody is asked for a key. Everybody knows it.
const DEVELOPMENT: (&str, &str) = ("development", DEVELOPMENT_KEY);
pub(crate) const DEVELOPMENT_KEY: &str = "holdfast-development-encryption-that-everybody-knows";

/// The form of what is encrypted. A later one can be told from it.
const VERSION: u8 = 1;
const NAME_LEN: usize = 4;
const HEAD_LEN: usize = 1 + NAME_LEN + NONCE_LEN;

/// How an encrypted text begins where it stands among others.
const MARK: &str = "encrypted:";

#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    #[error(
        "a secret was encrypted by a key that HOLDFAST_AUTH_ENCRYPTION_KEYS does not name any more; put it back at the end of the list"
    )]
    UnknownKey,
    #[error("an encrypted secret was changed, or moved to another row")]
    Broken,
}

impl From<EncryptionError> for Error {
    fn from(error: EncryptionError) -> Self {
        Self::Internal(error.into())
    }
}

/// Encrypts what the version before has written in plain.
#[derive(Debug, Serialize, Deserialize)]
pub struct EncryptPlain {}

impl Job for EncryptPlain {
    const KIND: &'static str = "secrets.encrypt_plain";
    const QUEUE: Queue = Queue::Background;
}

/// What an encrypted secret is, and of which row.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    OrderSecret(Uuid),
    TicketCode(Uuid),
    Mail(Uuid),
    /// What a pass stands for, by the hash that it is found by.
    Pass([u8; 32]),
    /// An answer kept under an idempotency key, by the digest of the request.
    Answer([u8; 32]),
}

impl Place {
    fn bytes(self) -> Vec<u8> {
        let of = |what: &str, id: &[u8]| [what.as_bytes(), &[0], id].concat();
        match self {
            Self::OrderSecret(id) => of("order-secret", id.as_bytes()),
            Self::TicketCode(id) => of("ticket-code", id.as_bytes()),
            Self::Mail(id) => of("mail", id.as_bytes()),
            Self::Pass(name) => of("pass", &name),
            Self::Answer(digest) => of("answer", &digest),
        }
    }
}

/// The keys of the installation. One for the whole process.
pub struct Cipher {
    keys: Vec<Key>,
}

struct Key {
    name: [u8; NAME_LEN],
    aead: LessSafeKey,
}

impl Key {
    fn of(name: &str, secret: &str) -> Self {
        let digest = Sha256::digest(name);
        let bytes = Sha256::new()
            .chain_update("holdfast encryption")
            .chain_update([0])
            .chain_update(secret)
            .finalize();
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).expect("a key has 32 bytes");
        Self {
            name: digest[..NAME_LEN].try_into().expect("four bytes"),
            aead: LessSafeKey::new(key),
        }
    }
}

impl Cipher {
    #[must_use]
    pub fn new(config: &config::Auth) -> Arc<Self> {
        let given = config.encryption_keys.0.iter();
        let mut keys: Vec<Key> = given
            .map(|(name, secret)| Key::of(name, secret.expose_secret()))
            .collect();
        if keys.is_empty() {
            keys.push(Key::of(DEVELOPMENT.0, DEVELOPMENT.1));
        }
        Arc::new(Self { keys })
    }

    #[must_use]
    pub fn encrypt(&self, place: Place, secret: &str) -> Vec<u8> {
        let key = &self.keys[0];
        let nonce: [u8; NONCE_LEN] = ids::random_bytes()[..NONCE_LEN]
            .try_into()
            .expect("as many as a nonce has");
        let mut encrypted = [&[VERSION][..], &key.name, &nonce].concat();
        let mut text = secret.as_bytes().to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.aead
            .seal_in_place_append_tag(nonce, Aad::from(place.bytes()), &mut text)
            .expect("a secret is short");
        encrypted.extend(text);
        encrypted
    }

    pub fn decrypt(&self, place: Place, encrypted: &[u8]) -> Result<String, EncryptionError> {
        if encrypted.len() < HEAD_LEN || encrypted[0] != VERSION {
            return Err(EncryptionError::Broken);
        }
        let (head, text) = encrypted.split_at(HEAD_LEN);
        let (name, nonce) = head[1..].split_at(NAME_LEN);
        let mut keys = self.keys.iter();
        let key = keys.find(|key| key.name == name);
        let key = key.ok_or(EncryptionError::UnknownKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| EncryptionError::Broken)?;
        let mut text = text.to_vec();
        let decrypted = key
            .aead
            .open_in_place(nonce, Aad::from(place.bytes()), &mut text);
        let decrypted = decrypted.map_err(|_| EncryptionError::Broken)?;
        String::from_utf8(decrypted.to_vec()).map_err(|_| EncryptionError::Broken)
    }

    /// A secret as it is written into the database: its hash, and itself encrypted.
    #[must_use]
    pub fn keep(&self, place: Place, secret: &str) -> (Vec<u8>, Vec<u8>) {
        (hash(secret), self.encrypt(place, secret))
    }

    /// Cipher every text below one of these names, however deep.
    pub fn encrypt_all(&self, place: Place, names: &[&str], value: &mut Value) {
        each_text_below(names, value, &mut |text| {
            if !text.starts_with(MARK) {
                *text = format!(
                    "{MARK}{}",
                    STANDARD_NO_PAD.encode(self.encrypt(place, text))
                );
            }
            Ok(())
        })
        .expect("encrypting cannot fail");
    }

    /// Decrypts what [`Cipher::encrypt_all`] has encrypted. What is not encrypted stays as it is.
    pub fn decrypt_all(
        &self,
        place: Place,
        names: &[&str],
        value: &mut Value,
    ) -> Result<(), EncryptionError> {
        each_text_below(names, value, &mut |text| {
            if let Some(encrypted) = text.strip_prefix(MARK) {
                let encrypted = STANDARD_NO_PAD.decode(encrypted);
                *text = self.decrypt(place, &encrypted.map_err(|_| EncryptionError::Broken)?)?;
            }
            Ok(())
        })
    }
}

fn each_text_below(
    names: &[&str],
    value: &mut Value,
    change: &mut impl FnMut(&mut String) -> Result<(), EncryptionError>,
) -> Result<(), EncryptionError> {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if names.contains(&&**name) => change(text)?,
                    Value::Array(items) if names.contains(&&**name) => {
                        for item in items {
                            match item {
                                Value::String(text) => change(text)?,
                                other => each_text_below(names, other, change)?,
                            }
                        }
                    }
                    other => each_text_below(names, other, change)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| each_text_below(names, item, change)),
        _ => Ok(()),
    }
}

/// By what a secret is recognised when it is presented.
#[must_use]
pub fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// A secret as a row keeps it. Rows of the version before have it in plain until a job has encrypted it.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptSecret {
    pub plain: Option<String>,
    pub hash: Option<Vec<u8>>,
    pub encrypted: Option<Vec<u8>>,
}

impl KeptSecret {
    /// In a time that does not tell how much of it is right.
    pub fn is(&self, told: &str) -> bool {
        let kept = match (&self.hash, &self.plain) {
            (Some(kept), _) => kept.clone(),
            (None, Some(plain)) => hash(plain),
            (None, None) => return false,
        };
        hash(told) == kept
    }

    pub fn reveal(self, cipher: &Cipher, place: Place) -> Result<String, EncryptionError> {
        match (self.encrypted, self.plain) {
            (Some(encrypted), _) => cipher.decrypt(place, &encrypted),
            (None, Some(plain)) => Ok(plain),
            (None, None) => Err(EncryptionError::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::TokenKeys;

    const OLD: (&str, &str) = ("old", "0123456789abcdef0123456789abcdef");
    const NEW: (&str, &str) = ("new", "fedcba9876543210fedcba9876543210");

    fn with(keys: &[(&str, &str)]) -> Arc<Cipher> {
        let mut auth = config::tests::development().auth;
        let keys = keys
            .iter()
            .map(|(name, key)| ((*name).to_owned(), (*key).into()));
        auth.encryption_keys = TokenKeys(keys.collect());
        Cipher::new(&auth)
    }

    fn place(n: u128) -> Place {
        Place::TicketCode(Uuid::from_u128(n))
    }

    #[test]
    fn a_secret_is_decrypted_in_its_place_and_nowhere_else() {
        let cipher = with(&[NEW]);
        let encrypted = cipher.encrypt(place(1), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        let text = String::from_utf8_lossy(&encrypted).into_owned();
        assert!(!text.contains("01ARZ3"), "{text}");
        let decrypted = cipher.decrypt(place(1), &encrypted).expect("decrypted");
        assert_eq!(decrypted, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        for elsewhere in [place(2), Place::OrderSecret(Uuid::from_u128(1))] {
            let refused = cipher.decrypt(elsewhere, &encrypted).expect_err("moved");
            assert!(matches!(refused, EncryptionError::Broken));
        }
        for at in [0, HEAD_LEN - 1, HEAD_LEN, encrypted.len() - 1] {
            let mut changed = encrypted.clone();
            changed[at] ^= 1;
            assert!(cipher.decrypt(place(1), &changed).is_err(), "byte {at}");
        }
        assert!(cipher.decrypt(place(1), &[]).is_err());
        assert_ne!(
            encrypted,
            cipher.encrypt(place(1), "01ARZ3NDEKTSV4RRFFQ69G5FAV")
        );
    }

    #[test]
    fn a_new_key_in_front_leaves_what_the_old_one_encrypted_readable() {
        let encrypted = with(&[OLD]).encrypt(place(1), "secret");
        assert_eq!(
            with(&[NEW, OLD])
                .decrypt(place(1), &encrypted)
                .expect("decrypted"),
            "secret"
        );
        let refused = with(&[NEW])
            .decrypt(place(1), &encrypted)
            .expect_err("no key");
        assert!(matches!(refused, EncryptionError::UnknownKey));
        let anew = with(&[NEW, OLD]).encrypt(place(1), "secret");
        assert_eq!(
            with(&[NEW]).decrypt(place(1), &anew).expect("decrypted"),
            "secret"
        );
    }

    #[test]
    fn texts_below_their_names_are_encrypted_once_and_the_rest_is_left() {
        let cipher = with(&[NEW]);
        let whole = json!({"event": "code", "tickets": [{"code": "A", "name": "Ada"}], "qr": ["A"], "link": null});
        let (names, mut value) = (["code", "qr", "link"], whole.clone());
        cipher.encrypt_all(place(1), &names, &mut value);
        let once = value.clone();
        cipher.encrypt_all(place(1), &names, &mut value);
        assert_eq!(value, once);
        assert_eq!(
            (&value["event"], &value["tickets"][0]["name"]),
            (&json!("code"), &json!("Ada"))
        );
        for encrypted in [&value["tickets"][0]["code"], &value["qr"][0]] {
            assert!(
                encrypted
                    .as_str()
                    .is_some_and(|text| text.starts_with(MARK)),
                "{encrypted}"
            );
        }
        cipher
            .decrypt_all(place(1), &names, &mut value)
            .expect("decrypted");
        assert_eq!(value, whole);
    }
}
