//! Routes of one's own account.

use poem_openapi::OpenApi;
use secrecy::SecretString;
use shared::accounts::{self, Profile, ProfileChange, Proved, login, passwords};
use shared::error::{Invalid, Result};
use shared::patch::Patch;

use crate::http::allowed::{ProvingAgain, SignedIn};
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
    /// sessions. A new address needs the password as well, and counts once the link that is mailed there has been
    /// followed; the old address is told. Naming it again mails another link, at most once a minute. Moving to an
    /// address that was mailed one within a minute, or for the sixth time within an hour, is RATE_LIMITED.
    ///
    /// Errors: EMAIL_TAKEN, CONCURRENT_UPDATE
    #[oai(path = "/users/me", method = "put", operation_id = "change_me")]
    async fn change(
        &self,
        caller: ProvingAgain,
        change: Body<ProfileChange>,
    ) -> Reply<Found<Profile>> {
        let (person, change) = (caller.person()?, change.content);
        let seen = caller.seen_or_any(change.version)?;
        let proved = proved(&caller, &change).await?;
        let profile = caller
            .change(async |tx| {
                accounts::change_own(tx, person, seen, change, proved, caller.config()).await?;
                accounts::profile(tx, person.user_id).await
            })
            .await?;
        Ok(Found::new(profile))
    }
}

/// What the password of today is needed for, by whoever knows it.
async fn proved(caller: &ProvingAgain, change: &ProfileChange) -> Result<Option<Proved>> {
    if let Patch::Set(email) = &change.email {
        accounts::valid_email("email", email)?;
    }
    let user_id = caller.person()?.user_id;
    let claim = login::of_person(&mut *caller.read().await?, user_id).await?;
    let needed = change.new_password.is_some() || change.moves_from(claim.email());
    let old = match (&change.old_password, needed) {
        (None, false) => return Ok(None),
        (None, true) => return Err(Invalid::field("old_password", "is missing").into()),
        (Some(_), false) => return Err(Invalid::field("new_password", "is missing").into()),
        (Some(old), true) => SecretString::from(old.as_str()),
    };
    let new = change.new_password.as_deref().map(SecretString::from);
    if let Some(new) = &new {
        passwords::accept("new_password", new, claim.email())?;
    }
    let turn = caller.passwords().turn().await?;
    let proof = caller.prove(&turn, &claim, &old).await?;
    if !proof.is_right() {
        caller
            .change(async |tx| login::proof_failed(tx, user_id, &proof).await)
            .await?;
    }
    proof.accepted()?;
    let new_hash = match &new {
        Some(new) => Some(caller.passwords().hash(&turn, new).await?),
        None => None,
    };
    Ok(Some(Proved {
        compared: claim.compared(),
        new_hash,
    }))
}
