//! Reading events: who sees which, and the lists.

use chrono::{DateTime, Utc};
use poem_openapi::Enum;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::event::{Event, EventType};
use crate::access::Scope;
use crate::error::Result;
use crate::ids::{EventId, OrganizationId, UserId, VenueId};
use crate::page::{Page, Paging};
use crate::text::escape_like;

/// Who looks.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// Where they may see drafts and whatever else there is.
    pub backstage: Scope,
    /// The same for the events that they teach.
    pub assigned: Scope,
    /// Whose vetting counts.
    pub user_id: Option<UserId>,
}

/// Which events to list, and in which order.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Part of the title, or nearly the title.
    pub q: Option<String>,
    pub event_type: Option<EventType>,
    pub category: Option<String>,
    pub city: Option<String>,
    pub venue_id: Option<VenueId>,
    pub organization_id: Option<OrganizationId>,
    pub date_from: Option<DateTime<Utc>>,
    pub date_to: Option<DateTime<Utc>>,
    /// Those that are over as well.
    pub show_past: bool,
    /// Everything that the viewer may see backstage, and nothing else.
    pub backstage: bool,
    pub featured: Option<bool>,
    pub sort: EventSort,
    pub descending: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum EventSort {
    #[default]
    Date,
    Title,
    Created,
}

const SELECT: &str = "select e.id, e.organization_id, e.title, e.slug, e.short_description, e.description, e.event_type,
        e.category, e.venue_id, e.image_urls, e.teacher_ids, e.time_zone, e.currency, e.status, e.status_reason, e.starts_at,
        e.ends_at, p.capacity as total_capacity, e.max_tickets_per_order, e.required_vetting_level,
        e.is_featured, e.is_sensitive, e.version, e.created_at, e.updated_at
 from events e left join pools p on p.id = e.id where ";

pub(super) async fn by_id(db: &mut PgConnection, id: EventId) -> Result<Option<Event>> {
    let mut sql = QueryBuilder::new(SELECT);
    sql.push("e.id = ").push_bind(id);
    Ok(sql.build_query_as().fetch_optional(db).await?)
}

/// By its id or its slug.
pub(super) async fn one(
    db: &mut PgConnection,
    viewer: &Viewer,
    name: &str,
) -> Result<Option<Event>> {
    let mut sql = QueryBuilder::new(SELECT);
    match name.parse::<Uuid>() {
        Ok(id) => sql.push("e.id = ").push_bind(id),
        Err(_) => sql.push("e.slug = ").push_bind(name.to_owned()),
    };
    sql.push(" and (");
    viewer.sees(&mut sql);
    sql.push(" or ");
    within(&viewer.backstage, &mut sql);
    sql.push(" or ");
    viewer.teaches(&mut sql);
    sql.push(")");
    Ok(sql.build_query_as().fetch_optional(db).await?)
}

pub async fn list(
    db: &mut PgConnection,
    viewer: &Viewer,
    now: DateTime<Utc>,
    filter: &EventFilter,
    paging: Paging,
) -> Result<Page<Event>> {
    let mut count = QueryBuilder::new("select count(*) from events e where ");
    filter.condition(&mut count, viewer, now);
    let total: i64 = count.build_query_scalar().fetch_one(&mut *db).await?;

    let mut rows = QueryBuilder::new(SELECT);
    filter.condition(&mut rows, viewer, now);
    filter.order(&mut rows);
    rows.push(" limit ")
        .push_bind(paging.limit())
        .push(" offset ")
        .push_bind(paging.offset());
    Ok(paging.of(rows.build_query_as().fetch_all(db).await?, total))
}

impl Viewer {
    /// What the public sees, as far as this viewer is vetted.
    fn sees(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push("(e.status <> 'draft' and (e.required_vetting_level = 0");
        if let Some(user_id) = self.user_id {
            sql.push(" or exists (select from members m where m.organization_id = e.organization_id and m.user_id = ")
                .push_bind(user_id)
                .push(" and m.vetting_level >= e.required_vetting_level)");
        }
        sql.push("))");
    }

    fn teaches(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push("(");
        within(&self.assigned, sql);
        sql.push(" and ")
            .push_bind(self.user_id)
            .push(" = any(e.teacher_ids))");
    }
}

fn within(scope: &Scope, sql: &mut QueryBuilder<Postgres>) {
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

impl EventFilter {
    fn condition(&self, sql: &mut QueryBuilder<Postgres>, viewer: &Viewer, now: DateTime<Utc>) {
        if self.backstage {
            within(&viewer.backstage, sql);
        } else {
            viewer.sees(sql);
            sql.push(" and e.status <> 'cancelled'");
        }
        if !self.show_past {
            sql.push(" and e.ends_at > ").push_bind(now);
        }
        if let Some(q) = &self.q {
            // By itself, or the planner walks the whole list in its order, looking for a match in every row.
            sql.push(
                " and e.id = any(array(select id from events where lower(title) like '%' || lower(",
            )
            .push_bind(escape_like(q))
            .push(") || '%' or lower(title) % lower(")
            .push_bind(q.clone())
            .push(")))");
        }
        if let Some(city) = &self.city {
            sql.push(" and e.venue_id in (select id from venues where lower(city) = lower(")
                .push_bind(city.clone())
                .push("))");
        }
        self.narrow(sql);
    }

    fn narrow(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(event_type) = self.event_type {
            sql.push(" and e.event_type = ").push_bind(event_type);
        }
        if let Some(category) = &self.category {
            sql.push(" and lower(e.category) = lower(")
                .push_bind(category.clone())
                .push(")");
        }
        if let Some(venue_id) = self.venue_id {
            sql.push(" and e.venue_id = ").push_bind(venue_id);
        }
        if let Some(organization_id) = self.organization_id {
            sql.push(" and e.organization_id = ")
                .push_bind(organization_id);
        }
        if let Some(from) = self.date_from {
            sql.push(" and e.starts_at >= ").push_bind(from);
        }
        if let Some(to) = self.date_to {
            sql.push(" and e.starts_at <= ").push_bind(to);
        }
        if let Some(featured) = self.featured {
            sql.push(" and e.is_featured = ").push_bind(featured);
        }
    }

    /// The id settles a tie, so that a page neither repeats nor leaves out a row.
    fn order(&self, sql: &mut QueryBuilder<Postgres>) {
        let direction = if self.descending { "desc" } else { "asc" };
        let column = match self.sort {
            EventSort::Date => "e.starts_at",
            EventSort::Title => "lower(e.title)",
            EventSort::Created => "e.created_at",
        };
        sql.push(format_args!(
            " order by {column} {direction}, e.id {direction}"
        ));
    }
}
