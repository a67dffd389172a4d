//! Routes of one's own account.

use poem_openapi::OpenApi;
use secrecy::SecretString;
use shared::accounts::{self, NewPassword, Profile, ProfileChange, login, passwords};
use shared::error::{Invalid, Result};

use crate::http::allowed::SignedIn;
use crate::http::answer::{Found, Reply, Versioned};
use crate::http::body::Body;
use crate::http::tags::Tag;

impl Versioned for Profile {
    fn version(&self) -> i64 {
        self.user.version
    }
}

pub struct Users;

#[OpenApi(tag = "Tag::Accounts")]
impl Users {
    /// Read my profile
    #[oai(path = "/users/me", method = "get", operation_id = "read_me")]
    async fn read(&self, caller: SignedIn) -> Reply<Found<Profile>> {
        let mut db = caller.read().await?;
        let profile = accounts::profile(&mut db, caller.person()?.user_id).await?;
        Ok(Found::new(profile))
    }

    /// Change my profile
    ///
    /// What is named is replaced, what is left out stays. A new password needs the old one and ends the other
    /// sessions. A new address counts once the link that is mailed there has been followed.
    ///
    /// Errors: EMAIL_TAKEN, CONCURRENT_UPDATE
    #[oai(path = "/users/me", method = "put", operation_id = "change_me")]
    async fn change(&self, caller: SignedIn, change: Body<ProfileChange>) -> Reply<Found<Profile>> {
        let (person, change) = (caller.person()?, change.content);
        let seen = caller.seen_or_any(change.version)?;
        let password = new_password(&caller, &change).await?;
        let profile = caller
            .change(async |tx| {
                accounts::change_own(tx, person, seen, change, password, caller.config()).await?;
                accounts::profile(tx, person.user_id).await
            })
            .await?;
        Ok(Found::new(profile))
    }
}

/// The password that is to be set, by whoever knows the old one.
async fn new_password(caller: &SignedIn, change: &ProfileChange) -> Result<Option<NewPassword>> {
    let (old, new) = match (&change.old_password, &change.new_password) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(Invalid::field("new_password", "is missing").into()),
        (None, Some(_)) => return Err(Invalid::field("old_password", "is missing").into()),
        (Some(old), Some(new)) => (
            SecretString::from(old.as_str()),
            SecretString::from(new.as_str()),
        ),
    };
    let turn = caller.passwords().turn().await?;
    let claim = login::of_person(&mut *caller.read().await?, caller.person()?.user_id).await?;
    passwords::accept("new_password", &new, claim.email())?;
    if caller.prove(&turn, &claim, &old).await?.is_none() {
        return Err(Invalid::field("old_password", "is not right").into());
    }
    Ok(Some(NewPassword {
        compared: claim.compared(),
        hash: caller.passwords().hash(&turn, &new).await?,
    }))
}
