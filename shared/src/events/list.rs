//! Reading events: who sees which, and the lists.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::event::{Event, EventDetails};
use super::filter::EventFilter;
use super::search::{self, Search};
use super::store;
use super::summary::{Listed, Listing};
use crate::access::Scope;
use crate::app::App;
use crate::error::Result;
use crate::ids::{EventId, UserId};
use crate::page::Paging;
use crate::shown::Last;

/// Who looks.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// Where they may see drafts and whatever else there is.
    pub backstage: Scope,
    /// The same for the events that they teach or organize.
    pub assigned: Scope,
    /// Whose vetting counts.
    pub user_id: Option<UserId>,
    /// Belongs to no organization and acts for none, so that the public lists are the same as for strangers.
    pub like_a_stranger: bool,
}

/// Lists are counted this far, or to the end of the page, so that none costs more because there are more events. Of what is
/// in order of relevance there is no more than that, or one page: so many matches, the soonest, are put in order.
const COUNTED_TO: i64 = 60;
/// And so many that are titled just as was asked for, however late they are.
const TITLED: i64 = 10;
/// Organizers want to know how many events they have.
const COUNTED_TO_BACKSTAGE: i64 = 1_000;

const COLUMNS: &str =
    "select e.id, e.organization_id, e.title, e.slug, e.short_description, e.event_type, e.category, e.venue_id,
        e.image_urls, e.teacher_ids, e.organizer_ids, e.time_zone, e.currency, e.status, e.status_reason, e.starts_at,
        e.ends_at, p.capacity as own_capacity, e.max_tickets_per_order, e.required_vetting_level, e.is_featured,
        e.is_sensitive, e.refund_policy, e.version, e.created_at, e.updated_at, e.never_published, ";

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
    let asked = search::Asked::read(db, filter.q.as_deref()).await?;
    let mut question = Question {
        filter,
        viewer,
        now,
        search: asked.as_ref().map(Search::Words),
    };
    let counted_to = question.counted_to(paging);
    let mut found = question.find(db, paging).await?;
    if found.counted == 0
        && let Some(asked) = asked.as_ref().filter(|asked| asked.is_plain)
    {
        question.search = Some(Search::Nearly(asked));
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
        last: Last::default(),
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

    fn counted_to(&self, paging: Paging) -> i64 {
        let most = if self.filter.backstage {
            COUNTED_TO_BACKSTAGE
        } else {
            COUNTED_TO
        };
        if self.by_relevance().is_some() {
            return most.max(paging.limit());
        }
        most.max(paging.offset() + paging.limit())
    }

    fn by_relevance(&self) -> Option<Search<'_>> {
        self.search.filter(|_| self.filter.by_relevance())
    }

    async fn find(&self, db: &mut PgConnection, paging: Paging) -> Result<Found> {
        let most = self.counted_to(paging);
        match self.by_relevance() {
            Some(search) => self.most_relevant(db, search, most, paging).await,
            None => self.in_order(db, most, paging).await,
        }
    }

    /// Counts and chooses in one go: whoever has counted to the end has seen the first pages.
    async fn in_order(&self, db: &mut PgConnection, most: i64, paging: Paging) -> Result<Found> {
        let mut sql = QueryBuilder::new(
            // Numbered after the limit: numbering all of them first would read all of them.
            "with found as materialized (select id, row_number() over () as place from (select e.id from events e where ",
        );
        self.condition(&mut sql);
        self.filter.order(&mut sql);
        sql.push(" limit ").push_bind(most + 1);
        sql.push(") chosen) select (select count(*) from found) as counted, array(select id from found where place > ")
            .push_bind(paging.offset())
            .push(" and place <= ")
            .push_bind(paging.offset() + paging.limit() + 1)
            .push(" order by place) as ids");
        // Never a plan that was made for other values: which index is best depends on them.
        Ok(sql.build_query_as().persistent(false).fetch_one(db).await?)
    }

    /// The soonest in the order of relevance. Should there be more of them, what is titled just so comes first, however
    /// late it is.
    async fn most_relevant(
        &self,
        db: &mut PgConnection,
        search: Search<'_>,
        most: i64,
        paging: Paging,
    ) -> Result<Found> {
        let best_first = self.filter.descending.unwrap_or(true);
        let direction = if best_first { "desc" } else { "asc" };
        let mut sql = QueryBuilder::new("select id from (select e.id, e.starts_at, ");
        search.rank(&mut sql);
        sql.push(" as rank from events e where ");
        self.condition(&mut sql);
        sql.push(" order by e.starts_at, e.id limit ")
            .push_bind(most + 1)
            .push(format_args!(
                ") soonest order by rank {direction}, starts_at, id"
            ));
        let found = sql.build_query_scalar().persistent(false);
        let mut ids: Vec<Uuid> = found.fetch_all(&mut *db).await?;
        let counted = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        if counted > most && best_first {
            let titled = self.titled(db, search).await?;
            ids.retain(|id| !titled.contains(id));
            ids.splice(..0, titled);
        }
        let place = |number: i64| usize::try_from(number).unwrap_or(usize::MAX).min(ids.len());
        // Only so many have been put in order.
        let end = (paging.offset() + paging.limit() + 1).min(most);
        let page = place(paging.offset())..place(end).max(place(paging.offset()));
        Ok(Found {
            counted,
            ids: ids.drain(page).collect(),
        })
    }

    async fn titled(&self, db: &mut PgConnection, search: Search<'_>) -> Result<Vec<Uuid>> {
        let mut sql = QueryBuilder::new("select e.id from events e where ");
        search.titled(&mut sql);
        sql.push(" and ");
        self.condition(&mut sql);
        sql.push(" order by e.starts_at, e.id limit ")
            .push_bind(TITLED);
        Ok(sql
            .build_query_scalar()
            .persistent(false)
            .fetch_all(db)
            .await?)
    }
}

impl Viewer {
    /// Somebody of whom nothing is known.
    #[must_use]
    pub fn stranger() -> Self {
        Self {
            backstage: Scope::nothing(),
            assigned: Scope::nothing(),
            user_id: None,
            like_a_stranger: true,
        }
    }

    /// What the public sees, as far as this viewer is vetted.
    pub(super) fn sees(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push(
            "(e.status <> 'draft' and not e.never_published and (e.required_vetting_level = 0",
        );
        if let Some(user_id) = self.user_id {
            sql.push(" or exists (select from members m where m.organization_id = e.organization_id and m.user_id = ")
                .push_bind(user_id)
                .push(" and m.vetting_level >= e.required_vetting_level)");
        }
        if self.backstage != Scope::nothing() {
            sql.push(" or ");
            within(&self.backstage, sql);
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
        match (level, self.user_id) {
            _ if event.is_out_of_sight() => Ok(false),
            (1.., None) => Ok(false),
            (1.., Some(user_id)) => {
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
