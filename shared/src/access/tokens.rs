//! Access tokens: JWT signed with HS256, read without asking anybody.
//!
//! Each names the key that signed it (`kid`), and every configured key verifies: a new key takes over while
//! the tokens of the old one are still good. Whether the session behind a token is alive is another question,
//! see [`super::by_access_token`].

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AccessError, Person};
use crate::config;
use crate::error::{Error, Result};
use crate::ids::{LoginSessionId, UserId};

/// Signs in development, where nobody is asked for a key. Everybody knows it.
const DEVELOPMENT: (&str, &str) = ("development", DEVELOPMENT_KEY);
pub(crate) const DEVELOPMENT_KEY: &str = "holdfast-development-key-that-everybody-knows";

/// A token as it is handed out.
#[derive(Debug, Clone)]
pub struct AccessToken {
    pub token: String,
    pub expires_at: DateTime<Utc>,
}

/// What a token says.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub person: Person,
    pub issued_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: Uuid,
    sid: Uuid,
    iat: i64,
    exp: i64,
    iss: String,
    aud: String,
}

/// Makes and reads access tokens. One for the whole process.
pub struct Tokens {
    signing: (String, EncodingKey),
    verifying: HashMap<String, DecodingKey>,
    validation: Validation,
    config: config::Auth,
}

impl Tokens {
    #[must_use]
    pub fn new(config: &config::Auth) -> Self {
        let given = config.token_keys.0.iter();
        let mut keys: Vec<(&str, &[u8])> = given
            .map(|(name, secret)| (name.as_str(), secret.expose_secret().as_bytes()))
            .collect();
        if keys.is_empty() {
            tracing::info!(
                "no key for access tokens is set: they are signed with one that everybody knows"
            );
            keys.push((DEVELOPMENT.0, DEVELOPMENT.1.as_bytes()));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[&config.token_issuer]);
        validation.set_audience(&[&config.token_audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // By our own clock, below.
        validation.validate_exp = false;
        let (name, secret) = keys[0];
        Self {
            signing: (name.to_owned(), EncodingKey::from_secret(secret)),
            verifying: keys
                .iter()
                .map(|(name, secret)| ((*name).to_owned(), DecodingKey::from_secret(secret)))
                .collect(),
            validation,
            config: config.clone(),
        }
    }

    /// A token for a person's session, which ends at `session_end`.
    pub fn issue(
        &self,
        person: Person,
        now: DateTime<Utc>,
        session_end: DateTime<Utc>,
    ) -> Result<AccessToken> {
        let expires_at = (now + self.config.access_ttl.delta()).min(session_end);
        let (name, key) = &self.signing;
        let header = Header {
            kid: Some(name.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let claims = Claims {
            sub: person.user_id.0,
            sid: person.session_id.0,
            iat: now.timestamp(),
            exp: expires_at.timestamp(),
            iss: self.config.token_issuer.clone(),
            aud: self.config.token_audience.clone(),
        };
        let token = jsonwebtoken::encode(&header, &claims, key)
            .map_err(|error| Error::Internal(error.into()))?;
        Ok(AccessToken { token, expires_at })
    }

    /// What a good token says.
    pub fn read(&self, token: &str, now: DateTime<Utc>) -> Result<Read, AccessError> {
        let bad = |_| AccessError::BadToken;
        let header = jsonwebtoken::decode_header(token).map_err(bad)?;
        let key = header.kid.and_then(|name| self.verifying.get(&name));
        let key = key.ok_or(AccessError::BadToken)?;
        let read = jsonwebtoken::decode::<Claims>(token, key, &self.validation).map_err(bad)?;
        if read.claims.exp <= now.timestamp() {
            return Err(AccessError::TokenExpired);
        }
        Ok(Read {
            person: Person {
                user_id: UserId(read.claims.sub),
                session_id: LoginSessionId(read.claims.sid),
            },
            issued_at: DateTime::from_timestamp(read.claims.iat, 0).unwrap_or(now),
            expires_at: DateTime::from_timestamp(read.claims.exp, 0).unwrap_or(now),
        })
    }
}
