//! Accounts: people, and where they are signed in.
//!
//! | file | holds |
//! |---|---|
//! | [`sessions`] | where somebody is signed in, and the refresh tokens that keep them so |

pub mod sessions;
mod store;

use serde_json::json;

use crate::activity::Activity;
use crate::error::{Code, Fault, OnConstraint as _, Result};
use crate::ids::UserId;
use crate::tx::Tx;

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("There is an account with this address already.")]
    EmailTaken,
}

impl Fault for AccountError {
    fn code(&self) -> Code {
        match self {
            Self::EmailTaken => Code::EmailTaken,
        }
    }
}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// As [`normal_email`] writes it.
    pub email: String,
    pub full_name: String,
    pub phone: Option<String>,
    pub locale: String,
    /// A PHC string; `None` until its owner chooses a password by link.
    pub password_hash: Option<String>,
}

/// The one way in which an address is written and compared.
#[must_use]
pub fn normal_email(typed: &str) -> String {
    typed.trim().to_lowercase()
}

pub async fn create(tx: &mut Tx, new: &NewAccount) -> Result<UserId> {
    let (id, now) = (UserId::fresh(tx.now()), tx.now());
    store::insert(tx, id, new, now)
        .await
        .on_constraint("users_email_key", || AccountError::EmailTaken)?;
    tx.record(line(id, "user.created", json!({})));
    Ok(id)
}

/// What happens to an account concerns no organization.
fn line(user_id: UserId, kind: &'static str, data: serde_json::Value) -> Activity {
    Activity {
        organization_id: None,
        kind,
        subject: user_id.into(),
        data,
    }
}
