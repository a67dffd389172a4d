//! Permission is what hands out the data.
//!
//! Routes hold nothing. A handler that wants to read or change anything takes an [`Allowed`] as its first
//! argument, which says who may come in; whoever forgets has nothing to work with:
//!
//! | argument | lets in | with the scope |
//! |---|---|---|
//! | [`Public`] | anybody | nothing |
//! | [`Teller`] | anybody, uncounted: who it is must be proved by a signature | nothing |
//! | [`SignedIn`] | a person who is signed in | nothing: they act for themselves |
//! | [`Belonging`] | who belongs to the organization of the path, or to any | where they belong |
//! | `Allowed<P>` of a right `P` | whoever holds the right somewhere | where they hold it |
//! | [`Admin`] | platform administrators | everything |
//! | [`Internal`] | services with a key of the scope `internal` | the key's organization |
//!
//! A path below `/organizations/{organization_id}` narrows the scope of a right to that organization; to those
//! who do not belong to it, it does not exist.
//!
//! Each counts the request against the caller's limit and puts itself into the document.

use std::marker::PhantomData;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use secrecy::SecretString;
use shared::access::passes::{self, Pass};
use shared::access::{self, AccessToken, Caller, Person, Right, Scope};
use shared::accounts::login::{self, Proof};
use shared::accounts::passwords::{Passwords, Turn};
use shared::accounts::sessions::Device;
use shared::activity::By;
use shared::app::Reader;
use shared::config::Config;
use shared::error::{Invalid, Kind, Result};
use shared::events::{self, Part};
use shared::holds::Buyer;
use shared::ids::{EventId, OrganizationId, UserId};
use shared::stock::Claim;
use shared::version::{Expected, VersionError};
use shared::{App, Tx};
use tokio_util::sync::WaitForCancellationFutureOwned;
use uuid::Uuid;

use super::access::Access;
use super::address::Address;
use super::answer::{Failure, version_in};
use super::limits::Limiter;

/// More of what a browser calls itself is not kept.
const LONGEST_USER_AGENT: usize = 300;
/// Characters of a random key that nobody else has; a UUID has more.
const UNGUESSABLE: usize = 20;

/// Who may come in, and where they may act.
pub trait Permission: Send + Sync + 'static {
    /// How callers show who they are; none where nobody is asked.
    const SCHEMES: &'static [Scheme];
    /// Counted against the tighter limit of their address as well.
    const TIGHT: bool = false;
    /// Counted against the limits of the caller and of their address.
    const COUNTED: bool = true;
    /// About the organization that the path names, if it names one.
    const PLACED: bool = false;

    /// The bounds within which this caller may act, if they may come in at all.
    fn scope(caller: &Caller) -> Result<Scope>;
}

/// A way of showing who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Bearer,
    ApiKey,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::ApiKey => "api_key",
        }
    }

    fn described(self) -> MetaSecurityScheme {
        let plain = MetaSecurityScheme {
            ty: "apiKey",
            description: Some("A key of an organization, made for a service."),
            name: Some("X-Api-Key"),
            key_in: Some("header"),
            scheme: None,
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        match self {
            Self::ApiKey => plain,
            Self::Bearer => MetaSecurityScheme {
                ty: "http",
                description: Some("The access token of a person, from logging in."),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: Some("JWT"),
                ..plain
            },
        }
    }
}

/// Declares the rights a module's operations ask for.
macro_rules! permissions {
    ($($name:ident: $resource:literal $action:literal $(, $tight:ident)?;)+) => {$(
        pub struct $name;

        impl $crate::http::allowed::Permission for $name {
            const SCHEMES: &'static [$crate::http::allowed::Scheme] = &[
                $crate::http::allowed::Scheme::Bearer,
                $crate::http::allowed::Scheme::ApiKey,
            ];
            $(const TIGHT: bool = $crate::http::allowed::$tight;)?
            const PLACED: bool = true;

            fn scope(
                caller: &shared::access::Caller,
            ) -> shared::Result<shared::access::Scope> {
                caller.scope(shared::access::Right { resource: $resource, action: $action })
            }
        }
    )+};
}
pub(crate) use permissions;

/// Says of a permission that it is counted more tightly.
pub(crate) const TIGHT: bool = true;

/// For services that tell us things and prove by a signature who they are: they are many calls from few addresses.
pub type Teller = Allowed<SignedTeller>;
/// Anybody may do this. Whoever does give credentials must give good ones.
pub type Public = Allowed<Anybody>;
/// The same for operations that guess at secrets or send mails: counted more tightly.
pub type AtTheDoor = Allowed<Newcomer>;
/// For people who are signed in, about what is their own.
pub type SignedIn = Allowed<AnyPerson>;
/// The same for operations that ask for the password or send mails: counted like those at the door.
pub type ProvingAgain = Allowed<PersonAtTheDoor>;
/// For those who belong to an organization, whatever they may do there.
pub type Belonging = Allowed<AnyMember>;
/// For platform administrators.
pub type Admin = Allowed<PlatformAdmin>;
/// For services of ours, by a key of the scope `internal`.
pub type Internal = Allowed<OurService>;

pub struct SignedTeller;
pub struct Anybody;
pub struct Newcomer;
pub struct AnyPerson;
pub struct PersonAtTheDoor;
pub struct AnyMember;
pub struct PlatformAdmin;
pub struct OurService;

impl Permission for Anybody {
    const SCHEMES: &'static [Scheme] = &[];

    fn scope(_: &Caller) -> Result<Scope> {
        Ok(Scope::nothing())
    }
}

impl Permission for SignedTeller {
    const SCHEMES: &'static [Scheme] = &[];
    const COUNTED: bool = false;

    fn scope(_: &Caller) -> Result<Scope> {
        Ok(Scope::nothing())
    }
}

impl Permission for Newcomer {
    const SCHEMES: &'static [Scheme] = &[];
    const TIGHT: bool = true;

    fn scope(_: &Caller) -> Result<Scope> {
        Ok(Scope::nothing())
    }
}

impl Permission for AnyPerson {
    const SCHEMES: &'static [Scheme] = &[Scheme::Bearer];

    fn scope(caller: &Caller) -> Result<Scope> {
        caller.person().map(|_| Scope::nothing())
    }
}

impl Permission for PersonAtTheDoor {
    const SCHEMES: &'static [Scheme] = AnyPerson::SCHEMES;
    const TIGHT: bool = true;

    fn scope(caller: &Caller) -> Result<Scope> {
        AnyPerson::scope(caller)
    }
}

/// Permissions that let in nobody but people.
pub trait OfPeople: Permission {}

impl OfPeople for AnyPerson {}
impl OfPeople for PersonAtTheDoor {}

impl Permission for AnyMember {
    const SCHEMES: &'static [Scheme] = &[Scheme::Bearer, Scheme::ApiKey];
    const PLACED: bool = true;

    fn scope(caller: &Caller) -> Result<Scope> {
        caller.belonging()
    }
}

impl Permission for PlatformAdmin {
    const SCHEMES: &'static [Scheme] = &[Scheme::Bearer];

    fn scope(caller: &Caller) -> Result<Scope> {
        caller.platform_admin()
    }
}

impl Permission for OurService {
    const SCHEMES: &'static [Scheme] = &[Scheme::ApiKey];

    fn scope(caller: &Caller) -> Result<Scope> {
        caller.internal()
    }
}

/// The caller may come in as `P` says, and act in the organizations of its scope.
pub struct Allowed<P> {
    pub(super) access: Access,
    scope: Scope,
    permission: PhantomData<P>,
}

impl<P: Permission> Allowed<P> {
    /// What the process has in its hands, for readings by way of memory, and for what is neither reading nor a change.
    pub fn app(&self) -> &App {
        &self.access.app
    }

    /// Who buys, if it is the caller.
    pub fn buyer(&self) -> Buyer {
        Buyer {
            user_id: self.user_id(),
            address: self.access.address.clone(),
        }
    }

    /// Whose `Idempotency-Key` it is. Callers without an account have no name, and their address changes with their network: a
    /// key that nobody comes upon by chance is theirs wherever they are. A shorter one is theirs at their address alone, or
    /// strangers who chose the same would hear each other's answers.
    pub(super) fn owner_of(&self, key: &str) -> String {
        let actor = &self.access.caller.actor;
        if actor.id().is_none() && key.len() >= UNGUESSABLE {
            actor.kind().to_owned()
        } else {
            self.known_as()
        }
    }

    /// What tells this caller from others: strangers by where they are.
    pub(super) fn known_as(&self) -> String {
        let Access {
            caller, address, ..
        } = &self.access;
        match caller.actor.id() {
            Some(id) => format!("{}:{id}", caller.actor.kind()),
            None => format!("{}:{address}", caller.actor.kind()),
        }
    }

    /// Until the process is about to end.
    pub fn until_the_end(&self) -> WaitForCancellationFutureOwned {
        self.access.stop.clone().cancelled_owned()
    }

    /// The secret of an order that the caller presents: in its header, or by a pass.
    pub fn order_secret(&self, header: Option<String>) -> Option<String> {
        header.or_else(|| self.access.order_secret.clone())
    }

    /// A one-time token that stands for the caller, and for the secret that they present, at this path.
    pub async fn pass(&self, order_secret: Option<&str>, path: &str) -> Result<Pass> {
        let Access { app, caller, .. } = &self.access;
        passes::issue(app, caller, order_secret, path).await
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<Reader> {
        self.access.app.read().await
    }

    /// Whether the caller belongs to an organization; services do not.
    pub fn belongs_somewhere(&self) -> bool {
        let nowhere = |scope| scope == Scope::nothing();
        self.user_id().is_some() && !self.access.caller.belonging().is_ok_and(nowhere)
    }

    /// When the request came in, or a moment later.
    pub fn now(&self) -> DateTime<Utc> {
        self.access.app.clock.now()
    }

    /// Whether the caller holds another right as well, wherever they may act.
    pub fn also(&self, right: Right) -> bool {
        match (&self.scope, self.access.caller.scope(right)) {
            (_, Ok(Scope::Everything)) => true,
            (Scope::Organizations(here), Ok(Scope::Organizations(held))) => {
                here.iter().all(|id| held.contains(id))
            }
            _ => false,
        }
    }

    /// Where the caller holds another right, wherever it came in.
    pub fn reach(&self, right: Right) -> Scope {
        let held = self.access.caller.scope(right);
        held.unwrap_or_else(|_| Scope::nothing())
    }

    /// The person who is calling, if it is one.
    pub fn user_id(&self) -> Option<UserId> {
        let person = self.access.caller.person();
        person.ok().map(|person| person.user_id)
    }

    pub fn config(&self) -> &Config {
        &self.access.app.config
    }

    pub fn passwords(&self) -> &Arc<Passwords> {
        &self.access.app.passwords
    }

    /// What the request tells of the machine it comes from.
    pub fn device(&self) -> Device {
        let shortened = |agent: &String| agent.chars().take(LONGEST_USER_AGENT).collect();
        Device {
            address: Some(self.access.address.clone()),
            user_agent: self.access.user_agent.as_ref().map(shortened),
        }
    }

    /// Compares a password with that of an account, unless that has failed too often.
    pub async fn prove(
        &self,
        turn: &Turn<'_>,
        claim: &login::Claim,
        password: &SecretString,
    ) -> Result<Proof> {
        let Access { app, address, .. } = &self.access;
        claim.prove(app, turn, password, address).await
    }

    /// An access token for somebody's session.
    pub fn issue(&self, person: Person, session_end: DateTime<Utc>) -> Result<AccessToken> {
        self.access
            .app
            .tokens
            .issue(person, self.now(), session_end)
    }

    /// Where the caller may act.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The caller, and the request.
    pub(super) fn by(&self) -> By {
        By {
            actor: self.access.caller.actor,
            cause: Some(self.access.request_id.0.clone()),
        }
    }

    /// Opens a change with the caller as its actor and the scope as its bounds.
    pub(super) async fn begin(&self) -> Result<Tx> {
        let Access {
            app,
            caller,
            request_id,
            ..
        } = &self.access;
        let tx = app.begin(caller.actor, self.scope.clone()).await?;
        Ok(tx.caused_by(request_id.0.clone()))
    }

    /// Takes places out of the rush that a smaller capacity does away with.
    pub async fn set_aside(
        &self,
        event_id: EventId,
        part: Part<'_>,
        capacity: Option<i32>,
    ) -> Result<Option<Claim>> {
        events::set_aside(&self.access.app, &self.scope, event_id, part, capacity).await
    }

    /// Does the work in one transaction; places that were set aside for it go back if it is refused.
    pub async fn change_having<T>(
        &self,
        aside: Option<Claim>,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T>,
    ) -> Result<T> {
        let done = self.change(work).await;
        if let (Err(failure), Some(claim)) = (&done, aside) {
            claim.release_after(&self.access.app, failure).await;
        }
        done
    }

    /// Does the work in one transaction.
    pub async fn change<T>(&self, work: impl AsyncFnOnce(&mut Tx) -> Result<T>) -> Result<T> {
        let mut tx = self.begin().await?;
        let done = work(&mut tx).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// The version the caller has seen, told by `If-Match` or in the body. Telling none is an error.
    pub fn seen(&self, in_body: Option<i64>) -> Result<Expected> {
        self.seen_if_told(in_body)?
            .ok_or_else(|| VersionError::Required.into())
    }

    /// The same where telling is up to the caller.
    pub fn seen_or_any(&self, in_body: Option<i64>) -> Result<Expected> {
        Ok(self.seen_if_told(in_body)?.unwrap_or(Expected::Any))
    }

    fn seen_if_told(&self, in_body: Option<i64>) -> Result<Option<Expected>> {
        let Some(header) = &self.access.if_match else {
            return Ok(in_body.map(Expected::Exactly));
        };
        if header == "*" {
            return Ok(Some(in_body.map_or(Expected::Any, Expected::Exactly)));
        }
        let version = version_in(header)
            .ok_or_else(|| Invalid::field("If-Match", "must be the ETag of a reading, or *"))?;
        if in_body.is_some_and(|other| other != version) {
            return Err(Invalid::field("version", "is another than that of `If-Match`").into());
        }
        Ok(Some(Expected::Exactly(version)))
    }
}

impl Teller {
    /// To be called when the signature proves nothing: it was anybody who called.
    pub async fn count_stranger(&self, request: &Request) -> Result<()> {
        let Access { app, .. } = &self.access;
        let address = Address::of(request, &app.config.http);
        let limiter: &Arc<Limiter> = request
            .data()
            .expect("the limiter is given to every request");
        limiter.count_address(request, address, self.now()).await
    }
}

impl Internal {
    /// Whose access token this is and until when; `None` if it is not good, or not any more.
    pub async fn whose(&self, token: &str) -> Result<Option<(Person, DateTime<Utc>)>> {
        let app = &self.access.app;
        match access::by_access_token(app, token).await {
            Ok(caller) => {
                let expires_at = app.tokens.read(token, self.now())?.expires_at;
                Ok(Some((caller.person()?, expires_at)))
            }
            Err(error) if error.code().kind() == Kind::Unauthenticated => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl<P: OfPeople> Allowed<P> {
    /// Who is calling, and in which session of theirs.
    pub fn person(&self) -> Result<Person> {
        self.access.caller.person()
    }
}

impl SignedIn {
    /// Fails unless the person is a platform administrator.
    pub fn must_be_admin(&self) -> Result<()> {
        self.access.caller.platform_admin().map(|_| ())
    }
}

/// Where the caller may act, in the organization that the path names if it names one.
fn scope<P: Permission>(request: &Request, caller: &Caller) -> Result<Scope> {
    let named = organization_in(request.uri().path()).filter(|_| P::PLACED);
    let Some(named) = named else {
        return P::scope(caller);
    };
    let id: Uuid = named
        .parse()
        .map_err(|_| Invalid::field("organization_id", "must be a valid uuid"))?;
    caller.within(OrganizationId(id), P::scope(caller))
}

/// The organization that a path is below, with the prefix or without.
fn organization_in(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(crate::PREFIX).unwrap_or(path);
    rest.strip_prefix("/organizations/")?.split('/').next()
}

impl<'a, P: Permission> ApiExtractor<'a> for Allowed<P> {
    const TYPES: &'static [ApiExtractorType] = if P::SCHEMES.is_empty() {
        &[ApiExtractorType::PoemExtractor]
    } else {
        &[ApiExtractorType::SecurityScheme]
    };
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        for scheme in P::SCHEMES {
            registry.create_security_scheme(scheme.name(), scheme.described());
        }
    }

    fn security_schemes() -> Vec<&'static str> {
        P::SCHEMES.iter().map(|scheme| scheme.name()).collect()
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let access = Access::of(request, P::TIGHT, P::COUNTED)
            .await
            .map_err(Failure)?;
        let scope = scope::<P>(request, &access.caller).map_err(Failure)?;
        Ok(Self {
            access,
            scope,
            permission: PhantomData,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::organization_in;

    #[test]
    fn a_path_below_an_organization_names_it() {
        for path in ["/organizations/7", "/api/v1/organizations/7/members/8"] {
            assert_eq!(organization_in(path), Some("7"), "{path}");
        }
        for path in ["/organizations", "/venues/7", "/users/organizations/7"] {
            assert_eq!(organization_in(path), None, "{path}");
        }
    }
}
