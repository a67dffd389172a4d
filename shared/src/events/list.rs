//! Reading events: who sees which, and the lists.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::event::{Event, EventDetails};
use super::filter::EventFilter;
use super::search::{self, Search};
use super::status::Status;
use super::store;
use super::summary::{Listed, Listing};
use crate::access::Scope;
use crate::app::App;
use crate::error::Result;
use crate::ids::{EventId, UserId};
use crate::page::Paging;

/// Who looks.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// Where they may see drafts and whatever else there is.
    pub backstage: Scope,
    /// The same for the events that they teach or organize.
    pub assigned: Scope,
    /// Whose vetting counts.
    pub user_id: Option<UserId>,
    /// Belongs to no organization, so that the public lists are the same as for strangers.
    pub like_a_stranger: bool,
}

/// Lists are counted this far, so that a page of a long one costs no more than one of a short one.
const COUNTED_TO: i64 = 1_000;
/// What is searched for is counted this far: as many matches, the soonest, are put in order of relevance.
const SEARCHED_TO: i64 = 200;

const COLUMNS: &str =
    "select e.id, e.organization_id, e.title, e.slug, e.short_description, e.event_type, e.category, e.venue_id,
        e.image_urls, e.teacher_ids, e.organizer_ids, e.time_zone, e.currency, e.status, e.status_reason, e.starts_at,
        e.ends_at, p.capacity as own_capacity, e.max_tickets_per_order, e.required_vetting_level, e.is_featured,
        e.is_sensitive, e.refund_policy, e.version, e.created_at, e.updated_at, ";

pub(super) async fn by_id(db: &mut PgConnection, id: EventId) -> Result<Option<Event>> {
    let mut sql = QueryBuilder::new(COLUMNS);
    sql.push(
        "e.description, e.policies from events e left join pools p on p.id = e.id where e.id = ",
    )
    .push_bind(id);
    Ok(sql.build_query_as().fetch_optional(db).await?)
}

/// One page, without the numbers of this moment.
pub async fn list(
    db: &mut PgConnection,
    viewer: &Viewer,
    now: DateTime<Utc>,
    filter: &EventFilter,
    paging: Paging,
) -> Result<Listing> {
    let asked = filter.q.as_deref().filter(|q| !q.trim().is_empty());
    let mut question = Question {
        filter,
        viewer,
        now,
        search: asked.map(Search::Words),
    };
    let counted_to = question.counted_to(paging);
    let mut found = question.find(db, paging).await?;
    if found.counted == 0
        && let Some(q) = asked.filter(|q| search::is_plain(q))
    {
        question.search = Some(Search::Nearly(q));
        found = question.find(db, paging).await?;
    }
    let page_size = usize::try_from(paging.limit()).unwrap_or(usize::MAX);
    let has_more = found.ids.len() > page_size;
    found.ids.truncate(page_size);
    Ok(Listing {
        items: listed(db, &found.ids).await?,
        total: found.counted.min(counted_to),
        total_is_exact: found.counted <= counted_to,
        paging,
        has_more,
    })
}

/// These events, in this order, with all that the numbers of a moment are made of.
pub(super) async fn listed(db: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Listed>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = QueryBuilder::new(COLUMNS);
    sql.push(
        "null as description, null as policies, v.name as venue_name, v.city
         from events e left join pools p on p.id = e.id left join venues v on v.id = e.venue_id where e.id = any(",
    )
    .push_bind(ids.to_vec())
    .push(")");
    let mut rows: Vec<Row> = sql.build_query_as().fetch_all(&mut *db).await?;
    let place = |row: &Row| ids.iter().position(|id| *id == row.event.id.0);
    rows.sort_by_key(place);
    let mut sessions = store::sessions_of(db, ids).await?;
    let mut types = store::ticket_types_of(db, ids).await?;
    let whole = |row: Row| Listed {
        venue_name: row.venue_name,
        city: row.city,
        details: EventDetails {
            sessions: sessions.remove(&row.event.id).unwrap_or_default(),
            ticket_types: types.remove(&row.event.id).unwrap_or_default(),
            event: row.event,
        },
    };
    Ok(rows.into_iter().map(whole).collect())
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    event: Event,
    venue_name: Option<String>,
    city: Option<String>,
}

/// What is asked of the list, however it is answered.
struct Question<'a> {
    filter: &'a EventFilter,
    viewer: &'a Viewer,
    now: DateTime<Utc>,
    search: Option<Search<'a>>,
}

/// What was found.
#[derive(sqlx::FromRow)]
struct Found {
    /// On all pages, up to one more than lists are counted to.
    counted: i64,
    /// Of the page, and one more if there is one.
    ids: Vec<Uuid>,
}

impl Question<'_> {
    fn condition(&self, sql: &mut QueryBuilder<Postgres>) {
        self.filter.condition(sql, self.viewer, self.now);
        if let Some(search) = self.search {
            search.condition(sql);
        }
    }

    /// How far it is counted: a deep page of what is searched for in order of time has counted further.
    fn counted_to(&self, paging: Paging) -> i64 {
        match (self.search, self.filter.prices_asked()) {
            (None, false) => COUNTED_TO,
            _ if self.by_relevance().is_some() => SEARCHED_TO,
            _ => SEARCHED_TO.max(paging.offset() + paging.limit()),
        }
    }

    fn by_relevance(&self) -> Option<Search<'_>> {
        self.search.filter(|_| self.filter.by_relevance())
    }

    /// What fits is looked for among the soonest events first, if enough of them are expected to fit; so a common word
    /// costs no more among many events than among few.
    async fn find(&self, db: &mut PgConnection, paging: Paging) -> Result<Found> {
        if let Some(until) = self.horizon(db, paging).await? {
            let near = self.find_until(db, paging, Some(until)).await?;
            if near.counted > self.counted_to(paging) {
                return Ok(near);
            }
        }
        self.find_until(db, paging, None).await
    }

    /// Counts and chooses in one go: whoever has counted to the end has seen the first pages.
    async fn find_until(
        &self,
        db: &mut PgConnection,
        paging: Paging,
        until: Option<DateTime<Utc>>,
    ) -> Result<Found> {
        let (first, last) = (paging.offset(), paging.offset() + paging.limit() + 1);
        let most = self.counted_to(paging);
        let mut sql = QueryBuilder::new(
            // Numbered after the limit: numbering all of them first would read all of them.
            "with found as materialized (select id, row_number() over () as place from (",
        );
        let last = if let Some(search) = self.by_relevance() {
            self.most_relevant(search, until, &mut sql);
            // Only so many have been put in order.
            last.min(most)
        } else {
            self.in_order(last.max(most + 1), until, &mut sql);
            last
        };
        sql.push(") chosen) select (select count(*) from found) as counted, array(select id from found where place > ")
            .push_bind(first)
            .push(" and place <= ")
            .push_bind(last)
            .push(" order by place) as ids");
        // Never a plan that was made for other values: which index is best depends on them.
        Ok(sql.build_query_as().persistent(false).fetch_one(db).await?)
    }

    /// The beginning of an event before which, by what Postgres expects, twice as many fit as are counted; nothing if so few
    /// fit that all of them can be looked at.
    async fn horizon(
        &self,
        db: &mut PgConnection,
        paging: Paging,
    ) -> Result<Option<DateTime<Utc>>> {
        let asked = self.search.is_some() || self.filter.prices_asked();
        if !asked || !self.filter.soonest_first(self.search.is_some()) {
            return Ok(None);
        }
        let mut sql = QueryBuilder::new("explain (format json) select from events e where ");
        self.condition(&mut sql);
        let plan = sql.build_query_scalar::<Value>().persistent(false);
        let plan = plan.fetch_one(&mut *db).await?;
        let expected = plan[0]["Plan"]["Plan Rows"].as_i64().unwrap_or(0);
        let enough = 2 * self.counted_to(paging);
        if expected <= 2 * enough {
            return Ok(None);
        }
        let from = self.filter.date_from.unwrap_or(DateTime::UNIX_EPOCH);
        let beginning = sqlx::query_scalar!(
            "select starts_at from events
             where status in ('published', 'postponed', 'on_hold', 'in_progress') and starts_at >= $1
             order by starts_at
             offset (select (greatest(reltuples, 0)::float8 * $2::bigint / $3::bigint)::bigint from pg_class
                     where oid = 'events_open_by_start'::regclass)
             limit 1",
            from,
            enough,
            expected,
        );
        Ok(beginning.fetch_optional(db).await?)
    }

    fn within(&self, until: Option<DateTime<Utc>>, sql: &mut QueryBuilder<Postgres>) {
        self.condition(sql);
        if let Some(until) = until {
            sql.push(" and e.starts_at <= ").push_bind(until);
        }
    }

    fn in_order(&self, last: i64, until: Option<DateTime<Utc>>, sql: &mut QueryBuilder<Postgres>) {
        sql.push("select e.id from events e where ");
        self.within(until, sql);
        self.filter.order(sql);
        sql.push(" limit ").push_bind(last);
    }

    fn most_relevant(
        &self,
        search: Search<'_>,
        until: Option<DateTime<Utc>>,
        sql: &mut QueryBuilder<Postgres>,
    ) {
        let direction = if self.filter.descending.unwrap_or(true) {
            "desc"
        } else {
            "asc"
        };
        sql.push("select id from (select e.id, e.starts_at, ");
        search.rank(sql);
        sql.push(" as rank from events e where ");
        self.within(until, sql);
        sql.push(" order by e.starts_at, e.id limit ")
            .push_bind(SEARCHED_TO + 1)
            .push(format_args!(
                ") soonest order by rank {direction}, starts_at, id"
            ));
    }
}

impl Viewer {
    /// What the public sees, as far as this viewer is vetted.
    pub(super) fn sees(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push("(e.status <> 'draft' and (e.required_vetting_level = 0");
        if let Some(user_id) = self.user_id {
            sql.push(" or exists (select from members m where m.organization_id = e.organization_id and m.user_id = ")
                .push_bind(user_id)
                .push(" and m.vetting_level >= e.required_vetting_level)");
        }
        sql.push("))");
    }

    /// Whether they may see this event, as they are vetted and as their rights are now. Postgres is asked for vetting
    /// only.
    pub(super) async fn may_see(&self, app: &App, event: &Event) -> Result<bool> {
        let (organization_id, level) = (event.organization_id, event.required_vetting_level);
        if self.backstage.require(organization_id).is_ok() {
            return Ok(true);
        }
        let assigned = |id| event.teacher_ids.contains(&id) || event.organizer_ids.contains(&id);
        if self.user_id.is_some_and(assigned) && self.assigned.require(organization_id).is_ok() {
            return Ok(true);
        }
        match (event.status, level, self.user_id) {
            (Status::Draft, ..) | (_, 1.., None) => Ok(false),
            (_, 1.., Some(user_id)) => {
                let mut db = app.read().await?;
                store::vetted(&mut db, organization_id, user_id, level).await
            }
            _ => Ok(true),
        }
    }
}

pub(super) fn within(scope: &Scope, sql: &mut QueryBuilder<Postgres>) {
    match scope {
        Scope::Everything => sql.push("true"),
        Scope::Organizations(ids) => {
            let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
            sql.push("e.organization_id = any(")
                .push_bind(ids)
                .push(")")
        }
    };
}
