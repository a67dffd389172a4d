//! Reading events: who sees which, and the lists.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::event::Event;
use super::filter::EventFilter;
use super::search::{self, Search};
use super::status::Status;
use super::store;
use super::summary::{EventPage, EventSummary};
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

/// Lists are counted this far, so that a page of a long one costs no more than one of a short one. As many matches of
/// `q`, the soonest, are put in order of relevance.
const COUNTED_TO: i64 = 1_000;

/// Ends where the time comes that prices are of.
const SUMMARIES: &str =
    "select e.id, e.organization_id, e.title, e.slug, e.short_description, e.event_type, e.category, e.venue_id,
        v.name as venue_name, v.city, e.image_urls, e.teacher_ids, e.organizer_ids, e.time_zone, e.currency, e.status,
        e.status_reason, e.starts_at, e.ends_at,
        (select count(*) from event_sessions s where s.event_id = e.id and s.active) as session_count,
        coalesce((select p.capacity from pools p where p.id = e.id),
                 (select max(p.capacity) from pools p where p.event_id = e.id and p.kind = 'session'), 0)
            as total_capacity,
        prices.lowest_price, prices.highest_price, e.max_tickets_per_order, e.required_vetting_level, e.is_featured,
        e.is_sensitive, e.version, e.created_at, e.updated_at
 from page join events e on e.id = page.id left join venues v on v.id = e.venue_id
      left join lateral (select min(t.price) as lowest_price, max(t.price) as highest_price
                         from ticket_types t where t.event_id = e.id and is_on_sale(t, ";

const SELECT: &str = "select e.id, e.organization_id, e.title, e.slug, e.short_description, e.description, e.event_type,
        e.category, e.venue_id, e.image_urls, e.teacher_ids, e.time_zone, e.currency, e.status, e.status_reason, e.starts_at,
        e.ends_at, p.capacity as total_capacity, e.max_tickets_per_order, e.required_vetting_level,
        e.is_featured, e.is_sensitive, e.refund_policy, e.organizer_ids, e.version, e.created_at, e.updated_at
 from events e left join pools p on p.id = e.id where ";

pub(super) async fn by_id(db: &mut PgConnection, id: EventId) -> Result<Option<Event>> {
    let mut sql = QueryBuilder::new(SELECT);
    sql.push("e.id = ").push_bind(id);
    Ok(sql.build_query_as().fetch_optional(db).await?)
}

/// One page, without the numbers of this moment: see [`super::summary::tell_live`].
pub async fn list(
    db: &mut PgConnection,
    viewer: &Viewer,
    now: DateTime<Utc>,
    filter: &EventFilter,
    paging: Paging,
) -> Result<EventPage> {
    let asked = filter.q.as_deref().filter(|q| !q.trim().is_empty());
    let mut question = Question {
        filter,
        viewer,
        now,
        search: asked.map(Search::Words),
    };
    let mut counted = question.count(db).await?;
    if counted == 0
        && let Some(q) = asked.filter(|q| search::is_plain(q))
    {
        question.search = Some(Search::Nearly(q));
        counted = question.count(db).await?;
    }
    let mut items = question.page(db, paging).await?;
    let page_size = usize::try_from(paging.limit()).unwrap_or(usize::MAX);
    let has_more = items.len() > page_size;
    items.truncate(page_size);
    let (page, limit) = paging.place();
    Ok(EventPage {
        items,
        total: counted.min(COUNTED_TO),
        total_is_exact: counted <= COUNTED_TO,
        page,
        limit,
        has_more,
    })
}

/// What is asked of the list, however it is answered.
struct Question<'a> {
    filter: &'a EventFilter,
    viewer: &'a Viewer,
    now: DateTime<Utc>,
    search: Option<Search<'a>>,
}

impl Question<'_> {
    fn condition(&self, sql: &mut QueryBuilder<Postgres>) {
        self.filter.condition(sql, self.viewer, self.now);
        if let Some(search) = self.search {
            search.condition(sql);
        }
    }

    async fn count(&self, db: &mut PgConnection) -> Result<i64> {
        let mut sql = QueryBuilder::new("select count(*) from (select from events e where ");
        self.condition(&mut sql);
        if self.search.is_none() {
            // So that it is counted along an index, not along whatever lies at the beginning of the table.
            sql.push(" order by e.starts_at");
        }
        sql.push(" limit ")
            .push_bind(COUNTED_TO + 1)
            .push(") counted");
        // Never a plan that was made for other values: which index is best depends on them.
        let count = sql.build_query_scalar().persistent(false);
        Ok(count.fetch_one(db).await?)
    }

    /// One more than a page holds, if there is one.
    async fn page(&self, db: &mut PgConnection, paging: Paging) -> Result<Vec<EventSummary>> {
        let mut sql = QueryBuilder::new(
            // Numbered after the limit: numbering all of them first would read all of them.
            "with page as materialized (select id, row_number() over () as place from (",
        );
        match self.search {
            Some(search) if self.filter.by_relevance() => {
                self.places_by_relevance(search, &mut sql);
            }
            _ => self.places(&mut sql),
        }
        sql.push(" limit ")
            .push_bind(paging.limit() + 1)
            .push(" offset ")
            .push_bind(paging.offset())
            .push(") chosen) ")
            .push(SUMMARIES)
            .push_bind(self.now)
            .push(")) prices on true order by place");
        Ok(sql.build_query_as().persistent(false).fetch_all(db).await?)
    }

    fn places(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push("select e.id from events e where ");
        self.condition(sql);
        self.filter.order(sql);
    }

    fn places_by_relevance(&self, search: Search<'_>, sql: &mut QueryBuilder<Postgres>) {
        let direction = if self.filter.descending.unwrap_or(true) {
            "desc"
        } else {
            "asc"
        };
        sql.push("select id from (select e.id, e.starts_at, ");
        search.rank(sql);
        sql.push(" as rank from events e where ");
        self.condition(sql);
        sql.push(" order by e.starts_at, e.id limit ")
            .push_bind(COUNTED_TO)
            .push(format_args!(
                ") found order by rank {direction}, starts_at, id"
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
