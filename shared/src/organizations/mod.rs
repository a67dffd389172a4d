//! Organizations: who sells. Everything below belongs to one.
//!
//! Whoever makes an organization is its owner, and it never loses its last one. Everything that decides who
//! belongs to it, in which role, happens behind the lock of its row: one thing after the other.
//!
//! | file | holds |
//! |---|---|
//! | `settings` | what an organization has decided for itself |
//! | [`members`] | who belongs to it |
//! | [`invitations`] | how somebody comes to belong to it |
//! | `store` | every statement |

pub mod invitations;
pub mod members;
mod settings;
mod store;

use chrono_tz::Tz;
use poem_openapi::Object;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::access::{self, AccessError};
use crate::accounts;
use crate::activity::{self, Activity};
use crate::app::App;
use crate::cache::Changed;
use crate::clock::Time;
use crate::error::{Code, Fault, Invalid, Result};
use crate::ids::{OrganizationId, RoleId, UserId};
use crate::mail;
use crate::money::Currency;
use crate::page::{Page, Paging};
use crate::patch::Patch;
use crate::text::slugs_for;
use crate::tx::Tx;
use crate::version::Expected;

pub use members::{add as add_member, set_role};
pub use settings::{Settings, SettingsChange};

#[derive(Debug, thiserror::Error)]
pub enum OrganizationError {
    #[error("There is no such organization.")]
    NotFound,
    #[error("Another organization has this slug. Choose another, or leave it out.")]
    SlugTaken,
}

impl Fault for OrganizationError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::OrganizationNotFound,
            Self::SlugTaken => Code::SlugTaken,
        }
    }
}

/// Who sells.
#[derive(Debug, Clone, PartialEq, Serialize, Object)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
    /// Its name in addresses; it stays the same for ever.
    pub slug: String,
    /// ISO 4217 code of what it sells in, unless an event says otherwise.
    pub currency: String,
    /// IANA name of the zone its times are told in, unless an event says otherwise.
    pub time_zone: String,
    /// How its customers reach it.
    pub contact: Option<String>,
    pub settings: Settings,
    pub version: i64,
    pub created_at: Time,
    pub updated_at: Time,
}

/// An organization to be made.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct NewOrganization {
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub name: String,
    /// Its name in addresses, for ever; made from the name if it is left out.
    #[oai(validator(min_length = 2, max_length = 60, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$"))]
    pub slug: Option<String>,
    /// ISO 4217 code.
    #[oai(default = "euro", validator(pattern = "^[A-Z]{3}$"))]
    pub currency: String,
    /// IANA name, `Europe/Berlin`.
    #[oai(default = "utc", validator(max_length = 60))]
    pub time_zone: String,
    /// How its customers reach it.
    #[oai(validator(max_length = 500))]
    pub contact: Option<String>,
}

/// What is to be different; what is left out stays as it is.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields)]
pub struct OrganizationChange {
    /// The version you have seen, unless you say it by `If-Match`.
    pub version: Option<i64>,
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub name: Patch<String>,
    /// ISO 4217 code. What has been sold stays in its currency.
    #[oai(validator(pattern = "^[A-Z]{3}$"))]
    pub currency: Patch<String>,
    /// IANA name, `Europe/Berlin`.
    #[oai(validator(max_length = 60))]
    pub time_zone: Patch<String>,
    /// How its customers reach it.
    #[oai(validator(max_length = 500))]
    pub contact: Patch<Option<String>>,
    pub settings: Patch<SettingsChange>,
}

/// An organization as those see it who belong to it.
#[derive(Debug, Clone, PartialEq, Object)]
pub struct OrganizationInList {
    pub id: OrganizationId,
    pub name: String,
    pub slug: String,
    /// Your role in it. None for a platform administrator who looks at all.
    pub role_id: Option<RoleId>,
    pub role: Option<String>,
    /// How well it knows you, from 0 to 9.
    pub vetting_level: Option<i16>,
}

fn euro() -> String {
    "EUR".into()
}

fn utc() -> String {
    "UTC".into()
}

/// Makes an organization that nobody belongs to yet.
pub async fn create(tx: &mut Tx, name: &str, slug: &str) -> Result<OrganizationId> {
    let new = NewOrganization {
        slug: Some(slug.into()),
        ..NewOrganization::named(name)
    };
    Ok(make(tx, new).await?.id)
}

/// Makes an organization and the person who asks for it its owner.
pub async fn found(tx: &mut Tx, new: NewOrganization, owner: UserId) -> Result<Organization> {
    if !accounts::hold(tx, owner).await? {
        // Deactivated since the request was let in: the organization would have no owner from the start.
        return Err(AccessError::SessionOver.into());
    }
    let organization = make(tx, new).await?;
    let role_id = access::built_in_role(tx, OWNER).await?;
    members::add(tx, organization.id, owner, role_id).await?;
    Ok(organization)
}

/// The role that an organization never has nobody in.
pub(crate) const OWNER: &str = "owner";

async fn make(tx: &mut Tx, new: NewOrganization) -> Result<Organization> {
    let mut invalid = Invalid::default();
    check_time_zone(&new.time_zone, &mut invalid);
    Currency::check(&new.currency, &mut invalid);
    invalid.check()?;
    let id = OrganizationId::fresh(tx.now());
    let slugs = match new.slug {
        Some(slug) => vec![slug],
        None => slugs_for(&new.name, id.into()),
    };
    let mut organization = Organization {
        id,
        name: new.name,
        slug: String::new(),
        currency: new.currency,
        time_zone: new.time_zone,
        contact: new.contact,
        settings: Settings::default(),
        version: 1,
        created_at: tx.now().into(),
        updated_at: tx.now().into(),
    };
    for slug in slugs {
        organization.slug = slug;
        if store::insert(tx, &organization).await? {
            let data = json!({ "name": organization.name });
            record(tx, id, "organization.created", data);
            return Ok(organization);
        }
    }
    Err(OrganizationError::SlugTaken.into())
}

pub async fn get(db: &mut PgConnection, id: OrganizationId) -> Result<Organization> {
    let organization = store::get(db, id).await?;
    Ok(organization.ok_or(OrganizationError::NotFound)?)
}

/// Those that somebody belongs to, by name; all there are if `all`.
pub async fn list(
    db: &mut PgConnection,
    user_id: UserId,
    all: bool,
    paging: Paging,
) -> Result<Page<OrganizationInList>> {
    let total = store::count(db, user_id, all).await?;
    let items = store::list(db, user_id, all, paging).await?;
    Ok(paging.of(items, total))
}

/// Changes what is named. Naming what is already so changes nothing, the version included.
pub async fn change(
    tx: &mut Tx,
    id: OrganizationId,
    seen: Expected,
    change: OrganizationChange,
) -> Result<Organization> {
    let before = lock(tx, id).await?;
    tx.require(id)?;
    seen.check(before.version)?;
    let mut organization = change.applied_to(before.clone());
    let mut invalid = Invalid::default();
    check_time_zone(&organization.time_zone, &mut invalid);
    if organization.currency != before.currency {
        Currency::check(&organization.currency, &mut invalid);
    }
    organization.settings.check(&mut invalid);
    invalid.check()?;
    let changes = activity::changes(&before, &organization, &["contact"])?;
    if changes.is_empty() {
        return Ok(before);
    }
    organization.version += 1;
    organization.updated_at = tx.now().into();
    store::update(tx, &organization).await?;
    tx.changed(Changed::Organization(id));
    record(tx, id, "organization.changed", Value::Object(changes));
    Ok(organization)
}

/// Whether these are members, each named once.
pub async fn belong(db: &mut PgConnection, id: OrganizationId, people: &[UserId]) -> Result<bool> {
    Ok(store::how_many_belong(db, id, people).await? == people.len())
}

/// Where to write to it: its contact if that is a mail address, else to its owners.
pub(crate) async fn addresses(db: &mut PgConnection, id: OrganizationId) -> Result<Vec<String>> {
    let contact = get(db, id).await?.contact;
    let contact = contact.filter(|contact| mail::address(contact).is_some());
    if let Some(contact) = contact {
        return Ok(vec![contact]);
    }
    let owner = access::built_in_role(db, OWNER).await?;
    store::addresses(db, id, owner).await
}

/// The organization with this slug, if there is one.
pub async fn by_slug(db: &mut PgConnection, slug: &str) -> Result<Option<OrganizationId>> {
    store::by_slug(db, slug).await
}

/// For how many minutes the organization holds places for a buyer.
pub(crate) async fn hold_minutes(app: &App, id: OrganizationId) -> Result<i32> {
    let load = async || {
        let organization = get(&mut *app.read().await?, id).await?;
        Ok(organization.settings.hold_minutes)
    };
    let shelf = &app.caches.hold_minutes;
    let minutes = app.caches.get(shelf, id, app.clock.now(), load).await?;
    Ok(*minutes)
}

/// The organization as it is now. Until the end of the transaction nobody else changes it, or who belongs to it.
pub(crate) async fn lock(tx: &mut Tx, id: OrganizationId) -> Result<Organization> {
    store::lock(tx, id).await?;
    get(tx, id).await
}

impl NewOrganization {
    /// One that has everything to decide yet.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            slug: None,
            currency: euro(),
            time_zone: utc(),
            contact: None,
        }
    }
}

impl OrganizationChange {
    fn applied_to(self, mut organization: Organization) -> Organization {
        self.name.apply(&mut organization.name);
        self.currency.apply(&mut organization.currency);
        self.time_zone.apply(&mut organization.time_zone);
        self.contact.apply(&mut organization.contact);
        if let Patch::Set(settings) = self.settings {
            organization.settings = settings.applied_to(organization.settings);
        }
        organization
    }
}

/// Adds what is wrong with a time zone that was given.
pub(crate) fn check_time_zone(name: &str, invalid: &mut Invalid) {
    if name.parse::<Tz>().is_err() {
        let message = "must be the IANA name of a time zone, like Europe/Berlin";
        invalid.push("time_zone", message);
    }
}

pub(crate) fn record(tx: &mut Tx, id: OrganizationId, kind: &'static str, data: Value) {
    tx.record(Activity {
        organization_id: Some(id),
        kind,
        subject: id.into(),
        data,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_zone_has_an_iana_name() {
        let is_known = |name| {
            let mut invalid = Invalid::default();
            check_time_zone(name, &mut invalid);
            invalid.check().is_ok()
        };
        for good in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"] {
            assert!(is_known(good), "{good}");
        }
        for bad in ["", "Berlin", "europe/berlin", "+02:00", "CEST"] {
            assert!(!is_known(bad), "{bad}");
        }
    }
}
