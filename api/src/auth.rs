//! Routes of signing up, in and out.

use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use secrecy::SecretString;
use shared::access::Person;
use shared::accounts::sessions::{self, EndedBy, Opened, Session};
use shared::accounts::{self, Membership, NewAccount, User, links, login, passwords};
use shared::error::Result;
use shared::ids::{LoginSessionId, UserId};

use crate::http::allowed::{Allowed, AtTheDoor, Permission, SignedIn};
use crate::http::answer::{Accepted, Gone, NewSecret, Reply, Secret};
use crate::http::body::Body;
use crate::http::tags::Tag;

/// An account to be made.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct Registration {
    #[oai(validator(max_length = 254))]
    email: String,
    /// At least 8 characters, not the address, and none of those that everybody uses.
    #[oai(validator(min_length = 8, max_length = 200))]
    password: String,
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    full_name: String,
    #[oai(validator(max_length = 40))]
    phone: Option<String>,
    /// The language of mails, `en` or `pt-BR`.
    #[oai(
        default = "english",
        validator(pattern = "^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length = 35)
    )]
    locale: String,
}

/// An account and the organization it is to own.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct OrganizerRegistration {
    #[oai(validator(max_length = 254))]
    email: String,
    /// At least 8 characters, not the address, and none of those that everybody uses.
    #[oai(validator(min_length = 8, max_length = 200))]
    password: String,
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    full_name: String,
    #[oai(validator(max_length = 40))]
    phone: Option<String>,
    /// The language of mails, `en` or `pt-BR`.
    #[oai(
        default = "english",
        validator(pattern = "^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length = 35)
    )]
    locale: String,
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    organization_name: String,
}

impl OrganizerRegistration {
    /// The person, and the name of their organization.
    fn apart(self) -> (Registration, String) {
        let person = Registration {
            email: self.email,
            password: self.password,
            full_name: self.full_name,
            phone: self.phone,
            locale: self.locale,
        };
        (person, self.organization_name)
    }
}

#[derive(Object)]
#[oai(deny_unknown_fields)]
struct Login {
    #[oai(validator(max_length = 254))]
    email: String,
    #[oai(validator(max_length = 200))]
    password: String,
}

#[derive(Object)]
#[oai(deny_unknown_fields)]
struct Refresh {
    #[oai(validator(max_length = 100))]
    refresh_token: String,
}

#[derive(Object)]
#[oai(deny_unknown_fields)]
struct Forgotten {
    #[oai(validator(max_length = 254))]
    email: String,
}

#[derive(Object)]
#[oai(deny_unknown_fields)]
struct Reset {
    /// From the mailed link.
    #[oai(validator(max_length = 100))]
    token: String,
    /// At least 8 characters, not the address, and none of those that everybody uses.
    #[oai(validator(min_length = 8, max_length = 200))]
    new_password: String,
}

#[derive(Object)]
#[oai(deny_unknown_fields)]
struct Confirmation {
    /// From the mailed link.
    #[oai(validator(max_length = 100))]
    token: String,
}

/// What keeps somebody signed in.
#[derive(Object)]
struct Tokens {
    /// Send it as `Authorization: Bearer`.
    access_token: String,
    /// `Bearer`.
    token_type: String,
    /// Seconds until the access token expires.
    expires_in: i64,
    /// Good for one refresh, which hands out the next one.
    refresh_token: String,
    session_id: LoginSessionId,
}

/// Somebody who has just signed in.
#[derive(Object)]
struct Welcome {
    #[oai(flatten)]
    tokens: Tokens,
    user: User,
}

/// Somebody of the back office who has just signed in.
#[derive(Object)]
struct OrganizerWelcome {
    #[oai(flatten)]
    tokens: Tokens,
    /// The id of the account.
    admin_id: UserId,
    user: User,
    /// `platform_admin`, or the role in the first organization; none for those who belong to no organization.
    role: Option<String>,
    /// What the roles in all organizations allow, like `events:read`.
    permissions: Vec<String>,
    organizations: Vec<Membership>,
}

#[derive(Object)]
struct Sessions {
    items: Vec<Session>,
}

fn english() -> String {
    "en".into()
}

pub struct Auth;

#[OpenApi(tag = "Tag::Accounts")]
impl Auth {
    /// Register
    ///
    /// Makes an account and signs it in. A mailed link confirms the address. An `Idempotency-Key` is not looked at
    /// here, since the answer holds tokens, which are told once and kept nowhere: repeated, this answers EMAIL_TAKEN,
    /// and logging in goes on from there.
    ///
    /// Errors: EMAIL_TAKEN
    #[oai(path = "/auth/register", method = "post", operation_id = "register")]
    async fn register(
        &self,
        door: AtTheDoor,
        registration: Body<Registration>,
    ) -> Reply<NewSecret<Welcome>> {
        let new = account(&door, registration.content).await?;
        let opened = door
            .change(async |tx| {
                let user_id = accounts::register(tx, &new, door.config()).await?;
                sessions::open(tx, user_id, &door.device(), &door.config().auth).await
            })
            .await?;
        let welcome = welcome(&door, opened).await?;
        Ok(NewSecret::at("/users/me", welcome))
    }

    /// Log in
    ///
    /// Says no more than that address and password do not belong together, whatever the reason. Failed logins
    /// make the next ones wait.
    ///
    /// Errors: INVALID_CREDENTIALS
    #[oai(path = "/auth/login", method = "post", operation_id = "login")]
    async fn login(&self, door: AtTheDoor, login: Body<Login>) -> Reply<Secret<Welcome>> {
        let opened = log_in(&door, login.content).await?;
        Ok(Secret::new(welcome(&door, opened).await?))
    }

    /// Refresh the tokens
    ///
    /// A refresh token works once. Used a second time it ends its session, since it is in two hands; a second
    /// use within a few seconds of the first is taken for a client that asked twice, and is only refused.
    ///
    /// Errors: INVALID_CREDENTIALS, ALREADY_REFRESHED
    #[oai(path = "/auth/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(&self, door: AtTheDoor, refresh: Body<Refresh>) -> Reply<Secret<Tokens>> {
        Ok(Secret::new(renew(&door, refresh.content).await?))
    }

    /// Log out
    ///
    /// Ends this session: its tokens stop working at once.
    ///
    /// Errors: LOGIN_SESSION_NOT_FOUND
    #[oai(path = "/auth/logout", method = "post", operation_id = "logout")]
    async fn logout(&self, caller: SignedIn) -> Reply<Gone> {
        let Person {
            user_id,
            session_id,
        } = caller.person()?;
        caller
            .change(async |tx| sessions::end(tx, user_id, session_id, EndedBy::Logout).await)
            .await?;
        Ok(Gone::Gone)
    }

    /// Ask for a new password
    ///
    /// Mails a link, if there is an account with this address. The answer is the same if there is none.
    #[oai(
        path = "/auth/password/forgot",
        method = "post",
        operation_id = "forgot_password"
    )]
    async fn forgot(&self, door: AtTheDoor, forgotten: Body<Forgotten>) -> Reply<Accepted> {
        let email = forgotten.content.email;
        door.change(async |tx| links::ask_for_reset(tx, &email).await)
            .await?;
        Ok(Accepted::Accepted)
    }

    /// Set a new password
    ///
    /// By the token of a mailed link. Ends all sessions of the account.
    ///
    /// Errors: LINK_NOT_FOUND
    #[oai(
        path = "/auth/password/reset",
        method = "post",
        operation_id = "reset_password"
    )]
    async fn reset(&self, door: AtTheDoor, reset: Body<Reset>) -> Reply<Gone> {
        let turn = door.passwords().turn().await?;
        let token = SecretString::from(reset.content.token);
        let password = SecretString::from(reset.content.new_password);
        let user = links::whose_reset(&mut *door.read().await?, &token, door.now()).await;
        let user = match user {
            Ok(user) => user,
            Err(refusal) => {
                // Maybe the link has been used, and only Redis was not told what that ended.
                door.change(async |tx| links::tell_of_reset(tx, &token).await)
                    .await?;
                return Err(refusal.into());
            }
        };
        passwords::accept("new_password", &password, &user.email)?;
        let hash = door.passwords().hash(&turn, &password).await?;
        door.change(async |tx| links::reset_password(tx, &token, &hash).await)
            .await?;
        Ok(Gone::Gone)
    }

    /// Confirm a mail address
    ///
    /// By the token of a mailed link. Moves the account to a new address where that was asked.
    ///
    /// Errors: LINK_NOT_FOUND, EMAIL_TAKEN
    #[oai(
        path = "/auth/email/verify",
        method = "post",
        operation_id = "verify_email"
    )]
    async fn verify(&self, door: AtTheDoor, confirmation: Body<Confirmation>) -> Reply<Gone> {
        let token = SecretString::from(confirmation.content.token);
        door.change(async |tx| links::verify_email(tx, &token).await)
            .await?;
        Ok(Gone::Gone)
    }

    /// List my sessions
    #[oai(
        path = "/auth/sessions",
        method = "get",
        operation_id = "list_login_sessions"
    )]
    async fn sessions(&self, caller: SignedIn) -> Reply<Json<Sessions>> {
        let mut db = caller.read().await?;
        let items = sessions::list(&mut db, caller.person()?, caller.now()).await?;
        Ok(Json(Sessions { items }))
    }

    /// End all my sessions but this one
    #[oai(
        path = "/auth/sessions",
        method = "delete",
        operation_id = "end_other_login_sessions"
    )]
    async fn end_others(&self, caller: SignedIn) -> Reply<Gone> {
        let Person {
            user_id,
            session_id,
        } = caller.person()?;
        caller
            .change(async |tx| {
                sessions::end_all(tx, user_id, Some(session_id), EndedBy::Revoked).await
            })
            .await?;
        Ok(Gone::Gone)
    }

    /// End one of my sessions
    ///
    /// Its tokens stop working at once.
    ///
    /// Errors: LOGIN_SESSION_NOT_FOUND
    #[oai(
        path = "/auth/sessions/:session_id",
        method = "delete",
        operation_id = "end_login_session"
    )]
    async fn end(&self, caller: SignedIn, session_id: Path<LoginSessionId>) -> Reply<Gone> {
        let user_id = caller.person()?.user_id;
        caller
            .change(async |tx| sessions::end(tx, user_id, session_id.0, EndedBy::Revoked).await)
            .await?;
        Ok(Gone::Gone)
    }

    /// Register as an organizer
    ///
    /// Makes an account and an organization that it owns, and signs it in. An `Idempotency-Key` is not looked at
    /// here, since the answer holds tokens, which are told once and kept nowhere: repeated, this answers EMAIL_TAKEN,
    /// and logging in goes on from there.
    ///
    /// Errors: EMAIL_TAKEN
    #[oai(
        path = "/auth/admin/register",
        method = "post",
        operation_id = "register_organizer"
    )]
    async fn register_organizer(
        &self,
        door: AtTheDoor,
        registration: Body<OrganizerRegistration>,
    ) -> Reply<NewSecret<OrganizerWelcome>> {
        let (person, organization_name) = registration.content.apart();
        let new = account(&door, person).await?;
        let opened = door
            .change(async |tx| {
                let user_id =
                    accounts::register_organizer(tx, &new, &organization_name, door.config())
                        .await?;
                sessions::open(tx, user_id, &door.device(), &door.config().auth).await
            })
            .await?;
        let welcome = organizer_welcome(&door, opened).await?;
        Ok(NewSecret::at("/users/me", welcome))
    }

    /// Log in to the back office
    ///
    /// The same login, answered with role and permissions.
    ///
    /// Errors: INVALID_CREDENTIALS
    #[oai(
        path = "/auth/admin/login",
        method = "post",
        operation_id = "login_organizer"
    )]
    async fn login_organizer(
        &self,
        door: AtTheDoor,
        login: Body<Login>,
    ) -> Reply<Secret<OrganizerWelcome>> {
        let opened = log_in(&door, login.content).await?;
        Ok(Secret::new(organizer_welcome(&door, opened).await?))
    }

    /// Refresh the tokens of the back office
    ///
    /// The same as refreshing any others.
    ///
    /// Errors: INVALID_CREDENTIALS, ALREADY_REFRESHED
    #[oai(
        path = "/auth/admin/refresh",
        method = "post",
        operation_id = "refresh_organizer"
    )]
    async fn refresh_organizer(
        &self,
        door: AtTheDoor,
        refresh: Body<Refresh>,
    ) -> Reply<Secret<Tokens>> {
        Ok(Secret::new(renew(&door, refresh.content).await?))
    }
}

/// The account that somebody asks for, its password hashed.
async fn account(door: &AtTheDoor, registration: Registration) -> Result<NewAccount> {
    let email = accounts::valid_email("email", &registration.email)?;
    let password = SecretString::from(registration.password);
    passwords::accept("password", &password, &email)?;
    let turn = door.passwords().turn().await?;
    accounts::is_free(&mut *door.read().await?, &email).await?;
    Ok(NewAccount {
        email,
        full_name: registration.full_name,
        phone: registration.phone,
        locale: registration.locale,
        password_hash: Some(door.passwords().hash(&turn, &password).await?),
    })
}

async fn log_in(door: &AtTheDoor, login: Login) -> Result<Opened> {
    let password = SecretString::from(login.password);
    let turn = door.passwords().turn().await?;
    let config = &door.config().auth;
    let claim = login::look_up(&mut *door.read().await?, &login.email).await?;
    let proof = door.prove(&turn, &claim, &password).await?;
    let outcome = door
        .change(async |tx| login::settle(tx, &claim, proof, &door.device(), config).await)
        .await?;
    // Whoever is refused waits a while, which must not keep others waiting.
    drop(turn);
    outcome.opened(config).await
}

async fn renew(door: &AtTheDoor, refresh: Refresh) -> Result<Tokens> {
    let token = SecretString::from(refresh.refresh_token);
    let refreshed = door
        .change(async |tx| sessions::refresh(tx, &token, &door.config().auth).await)
        .await?;
    tokens(door, refreshed.opened()?)
}

fn tokens<P: Permission>(door: &Allowed<P>, opened: Opened) -> Result<Tokens> {
    let person = Person {
        user_id: opened.user_id,
        session_id: opened.session_id,
    };
    let access = door.issue(person, opened.expires_at)?;
    Ok(Tokens {
        access_token: access.token,
        token_type: "Bearer".into(),
        expires_in: (access.expires_at - door.now()).num_seconds(),
        refresh_token: opened.refresh_token,
        session_id: opened.session_id,
    })
}

async fn welcome(door: &AtTheDoor, opened: Opened) -> Result<Welcome> {
    let user = accounts::get(&mut *door.read().await?, opened.user_id).await?;
    Ok(Welcome {
        tokens: tokens(door, opened)?,
        user,
    })
}

async fn organizer_welcome(door: &AtTheDoor, opened: Opened) -> Result<OrganizerWelcome> {
    let profile = accounts::profile(&mut *door.read().await?, opened.user_id).await?;
    Ok(OrganizerWelcome {
        tokens: tokens(door, opened)?,
        admin_id: profile.user.id,
        role: profile.role(),
        permissions: profile.permissions(),
        user: profile.user,
        organizations: profile.organizations,
    })
}
