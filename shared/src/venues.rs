//! Venues: where events take place.
//!
//! The model of a plain noun. Anybody may look; whoever has the right in the venue's organization may
//! change it, having said which version they saw. A deleted venue stays in the table, for the events that
//! took place there, and is gone for everybody. A venue that events still need cannot be deleted.

use poem_openapi::{Enum, Object};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, QueryBuilder};

use crate::activity::{self, Activity};
use crate::app::App;
use crate::cache::Changed;
use crate::clock::Time;
use crate::error::{Code, Fault, Result};
use crate::ids::{OrganizationId, VenueId};
use crate::page::{Page, Paging};
use crate::patch::Patch;
use crate::text::escape_like;
use crate::tx::Tx;
use crate::version::Expected;

#[derive(Debug, thiserror::Error)]
pub enum VenueError {
    #[error("There is no such venue.")]
    NotFound,
    #[error("{events} events that are not over still need this venue. Move or cancel them first.")]
    InUse { events: i64 },
}

impl Fault for VenueError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::VenueNotFound,
            Self::InUse { .. } => Code::VenueInUse,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::NotFound => json!({}),
            Self::InUse { events } => json!({ "events": events }),
        }
    }
}

/// Where events take place.
#[derive(Debug, Clone, PartialEq, Serialize, Object, sqlx::FromRow)]
pub struct Venue {
    pub id: VenueId,
    pub organization_id: OrganizationId,
    pub name: String,
    pub address: String,
    pub city: String,
    pub state: Option<String>,
    /// ISO 3166 code of two letters.
    pub country: String,
    pub postal_code: Option<String>,
    /// How many people the place holds.
    pub capacity: i32,
    /// The plan of the place in a form of your own. It is kept as JSON: the order of keys may change.
    pub layout: Option<Value>,
    /// How visitors reach the venue.
    pub contact: Option<String>,
    /// An inactive venue is not offered in lists.
    pub active: bool,
    pub version: i64,
    pub created_at: Time,
    pub updated_at: Time,
}

/// A venue to be made.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub struct NewVenue {
    /// Whose it is; needed only by those who act for more than one organization.
    pub organization_id: Option<OrganizationId>,
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub name: String,
    #[oai(validator(min_length = 1, max_length = 300, pattern = r"\S"))]
    pub address: String,
    #[oai(validator(min_length = 1, max_length = 100, pattern = r"\S"))]
    pub city: String,
    #[oai(validator(max_length = 100))]
    pub state: Option<String>,
    /// ISO 3166 code of two letters.
    #[oai(validator(pattern = "^[A-Z]{2}$"))]
    pub country: String,
    #[oai(validator(max_length = 20))]
    pub postal_code: Option<String>,
    /// How many people the place holds.
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub capacity: i32,
    /// The plan of the place in a form of your own, kept as given.
    pub layout: Option<Value>,
    /// How visitors reach the venue.
    #[oai(validator(max_length = 500))]
    pub contact: Option<String>,
    /// An inactive venue is not offered in lists.
    #[oai(default = "yes")]
    pub active: bool,
}

/// What is to be different; what is left out stays as it is.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields)]
pub struct VenueChange {
    /// The version you have seen, unless you say it by `If-Match`.
    pub version: Option<i64>,
    #[oai(validator(min_length = 1, max_length = 200, pattern = r"\S"))]
    pub name: Patch<String>,
    #[oai(validator(min_length = 1, max_length = 300, pattern = r"\S"))]
    pub address: Patch<String>,
    #[oai(validator(min_length = 1, max_length = 100, pattern = r"\S"))]
    pub city: Patch<String>,
    #[oai(validator(max_length = 100))]
    pub state: Patch<Option<String>>,
    /// ISO 3166 code of two letters.
    #[oai(validator(pattern = "^[A-Z]{2}$"))]
    pub country: Patch<String>,
    #[oai(validator(max_length = 20))]
    pub postal_code: Patch<Option<String>>,
    /// How many people the place holds.
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    pub capacity: Patch<i32>,
    /// The plan of the place in a form of your own, kept as given.
    pub layout: Patch<Option<Value>>,
    /// How visitors reach the venue.
    #[oai(validator(max_length = 500))]
    pub contact: Patch<Option<String>>,
    /// An inactive venue is not offered in lists.
    pub active: Patch<bool>,
}

/// Which venues to list, and in which order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct VenueFilter {
    /// Part of the name, or nearly the name.
    pub q: Option<String>,
    pub city: Option<String>,
    pub organization_id: Option<OrganizationId>,
    /// `None` lists the active ones.
    pub active: Option<bool>,
    pub sort: VenueSort,
    pub descending: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Enum)]
#[oai(rename_all = "snake_case")]
pub enum VenueSort {
    #[default]
    Name,
    City,
    Capacity,
    Created,
}

fn yes() -> bool {
    true
}

pub async fn create(tx: &mut Tx, new: NewVenue) -> Result<Venue> {
    let venue = Venue {
        id: VenueId::fresh(tx.now()),
        organization_id: tx.scope().choose(new.organization_id)?,
        name: new.name,
        address: new.address,
        city: new.city,
        state: new.state,
        country: new.country,
        postal_code: new.postal_code,
        capacity: new.capacity,
        layout: new.layout,
        contact: new.contact,
        active: new.active,
        version: 1,
        created_at: tx.now().into(),
        updated_at: tx.now().into(),
    };
    insert(tx, &venue).await?;
    record(tx, &venue, "venue.created", json!({ "name": venue.name }));
    Ok(venue)
}

pub async fn get(db: &mut PgConnection, id: VenueId) -> Result<Venue> {
    let venue = sqlx::query_as!(
        Venue,
        "select id, organization_id, name, address, city, state, country, postal_code, capacity, layout,
                contact, active, version, created_at, updated_at
         from venues where id = $1 and deleted_at is null",
        id as _,
    );
    Ok(venue
        .fetch_optional(db)
        .await?
        .ok_or(VenueError::NotFound)?)
}

/// The same by way of memory.
pub async fn read(app: &App, id: VenueId) -> Result<Venue> {
    let (shelf, now) = (&app.caches.venues, app.clock.now());
    let load = async || get(&mut *app.read().await?, id).await;
    let kept = app.caches.get(shelf, id, now, load).await?;
    Ok(Venue::clone(&kept))
}

/// A list by way of memory.
pub async fn read_list(app: &App, filter: &VenueFilter, paging: Paging) -> Result<Page<Venue>> {
    let (shelf, now) = (&app.caches.venue_lists, app.clock.now());
    let load = async || list(&mut *app.read().await?, filter, paging).await;
    let kept = app.caches.get(shelf, (filter.clone(), paging), now, load);
    Ok(Page::clone(&*kept.await?))
}

/// What a list weighs in memory, in kilobytes.
pub(crate) fn weight(page: &Page<Venue>) -> u64 {
    let plan = |venue: &Venue| {
        venue
            .layout
            .as_ref()
            .map_or(0, |plan| plan.to_string().len())
    };
    let venues = page.items.iter();
    1 + venues
        .map(|venue| 1 + plan(venue) as u64 / 1_024)
        .sum::<u64>()
}

pub async fn list(
    db: &mut PgConnection,
    filter: &VenueFilter,
    paging: Paging,
) -> Result<Page<Venue>> {
    let mut count = QueryBuilder::new("select count(*) from venues where ");
    filter.condition(&mut count);
    let total: i64 = count.build_query_scalar().fetch_one(&mut *db).await?;

    let mut rows = QueryBuilder::new(
        "select id, organization_id, name, address, city, state, country, postal_code, capacity, layout,
                contact, active, version, created_at, updated_at
         from venues where ",
    );
    filter.condition(&mut rows);
    filter.order(&mut rows);
    rows.push(" limit ")
        .push_bind(paging.limit())
        .push(" offset ")
        .push_bind(paging.offset());
    Ok(paging.of(rows.build_query_as().fetch_all(db).await?, total))
}

/// Changes what is named. Naming what is already so changes nothing, the version included.
pub async fn change(
    tx: &mut Tx,
    id: VenueId,
    seen: Expected,
    change: VenueChange,
) -> Result<Venue> {
    let before = lock(tx, id).await?;
    seen.check(before.version)?;
    let mut venue = change.applied_to(before.clone());
    let changes = activity::changes(&before, &venue, &["contact", "layout"])?;
    if changes.is_empty() {
        return Ok(before);
    }
    venue.version += 1;
    venue.updated_at = tx.now().into();
    update(tx, &venue).await?;
    record(tx, &venue, "venue.changed", Value::Object(changes));
    Ok(venue)
}

pub async fn delete(tx: &mut Tx, id: VenueId, seen: Expected) -> Result<()> {
    let venue = lock(tx, id).await?;
    seen.check(venue.version)?;
    let events = events_to_come(tx, id).await?;
    if events > 0 {
        return Err(VenueError::InUse { events }.into());
    }
    let now = tx.now();
    sqlx::query!(
        "update venues set deleted_at = $2 where id = $1",
        id as _,
        now
    )
    .execute(&mut **tx)
    .await?;
    record(tx, &venue, "venue.deleted", json!({ "name": venue.name }));
    Ok(())
}

impl VenueChange {
    fn applied_to(self, mut venue: Venue) -> Venue {
        self.name.apply(&mut venue.name);
        self.address.apply(&mut venue.address);
        self.city.apply(&mut venue.city);
        self.state.apply(&mut venue.state);
        self.country.apply(&mut venue.country);
        self.postal_code.apply(&mut venue.postal_code);
        self.capacity.apply(&mut venue.capacity);
        self.layout.apply(&mut venue.layout);
        self.contact.apply(&mut venue.contact);
        self.active.apply(&mut venue.active);
        venue
    }
}

impl VenueFilter {
    fn condition(&self, sql: &mut QueryBuilder<Postgres>) {
        // Written out, not bound: the planner must see which of the partial indices fit.
        let active = if self.active.unwrap_or(true) {
            "active"
        } else {
            "not active"
        };
        sql.push("deleted_at is null and ").push(active);
        if let Some(q) = &self.q {
            // By itself, or the planner walks the whole list in its order, looking for a match in every row.
            sql.push(" and id = any(array(select id from venues where deleted_at is null and (lower(name) like '%' || lower(")
                .push_bind(escape_like(q))
                .push(") || '%' or lower(name) % lower(")
                .push_bind(q.clone())
                .push("))))");
        }
        if let Some(city) = &self.city {
            sql.push(" and lower(city) = lower(")
                .push_bind(city.clone())
                .push(")");
        }
        if let Some(organization_id) = self.organization_id {
            sql.push(" and organization_id = ")
                .push_bind(organization_id);
        }
    }

    /// The id settles a tie, so that a page neither repeats nor leaves out a row.
    fn order(&self, sql: &mut QueryBuilder<Postgres>) {
        let direction = if self.descending { "desc" } else { "asc" };
        let columns: &[&str] = match self.sort {
            VenueSort::Name => &["lower(name)", "id"],
            VenueSort::City => &["lower(city)", "lower(name)", "id"],
            VenueSort::Capacity => &["capacity", "id"],
            VenueSort::Created => &["created_at", "id"],
        };
        sql.push(" order by ");
        let mut columns_in_order = sql.separated(", ");
        for column in columns {
            columns_in_order.push(format_args!("{column} {direction}"));
        }
    }
}

fn record(tx: &mut Tx, venue: &Venue, kind: &'static str, data: Value) {
    tx.changed(Changed::Venue(venue.id));
    tx.record(Activity {
        organization_id: Some(venue.organization_id),
        kind,
        subject: venue.id.into(),
        data,
    });
}

/// The venue as it is now, for an event to take. Until the end of the transaction it is neither changed nor deleted.
pub(crate) async fn hold(tx: &mut Tx, id: VenueId) -> Result<Venue> {
    sqlx::query!("select from venues where id = $1 for share", id as _)
        .execute(&mut **tx)
        .await?;
    get(tx, id).await
}

/// The venue as it is now, kept so until the end of the transaction, for those who may change it.
async fn lock(tx: &mut Tx, id: VenueId) -> Result<Venue> {
    sqlx::query!("select from venues where id = $1 for update", id as _)
        .execute(&mut **tx)
        .await?;
    let venue = get(tx, id).await?;
    tx.require(venue.organization_id)?;
    Ok(venue)
}

async fn insert(db: &mut PgConnection, venue: &Venue) -> Result<()> {
    sqlx::query!(
        "insert into venues (id, organization_id, name, address, city, state, country, postal_code,
                             capacity, layout, contact, active, version, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        venue.id as _,
        venue.organization_id as _,
        venue.name,
        venue.address,
        venue.city,
        venue.state,
        venue.country,
        venue.postal_code,
        venue.capacity,
        venue.layout,
        venue.contact,
        venue.active,
        venue.version,
        venue.created_at.0,
        venue.updated_at.0,
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn update(db: &mut PgConnection, venue: &Venue) -> Result<()> {
    sqlx::query!(
        "update venues set name = $2, address = $3, city = $4, state = $5, country = $6, postal_code = $7,
                           capacity = $8, layout = $9, contact = $10, active = $11, version = $12,
                           updated_at = $13
         where id = $1",
        venue.id as _,
        venue.name,
        venue.address,
        venue.city,
        venue.state,
        venue.country,
        venue.postal_code,
        venue.capacity,
        venue.layout,
        venue.contact,
        venue.active,
        venue.version,
        venue.updated_at.0,
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn events_to_come(tx: &mut Tx, id: VenueId) -> Result<i64> {
    let now = tx.now();
    let events = sqlx::query_scalar!(
        r#"select count(*) as "count!" from events
           where venue_id = $1 and ends_at > $2 and status <> 'cancelled'"#,
        id as _,
        now,
    );
    Ok(events.fetch_one(&mut **tx).await?)
}
