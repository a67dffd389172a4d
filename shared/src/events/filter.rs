//! Which events a list is of, and in which order.

use chrono::{DateTime, Utc};
use poem_openapi::Enum;
use sqlx::{Postgres, QueryBuilder};

use super::event::EventType;
use super::list::{Viewer, within};
use super::status::Status;
use crate::ids::{OrganizationId, UserId, VenueId};

/// The title as it is sorted and looked for: as the index has it.
pub(super) const TITLE: &str = r#"lower(e.title) collate "und-x-icu""#;

/// Which events to list, and in which order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct EventFilter {
    /// Words of the title, the descriptions, the venue or the city.
    pub q: Option<String>,
    pub event_type: Option<EventType>,
    pub category: Option<String>,
    pub city: Option<String>,
    pub venue_id: Option<VenueId>,
    pub organization_id: Option<OrganizationId>,
    pub organizer_id: Option<UserId>,
    pub date_from: Option<DateTime<Utc>>,
    pub date_to: Option<DateTime<Utc>>,
    /// Something on sale costs that or more.
    pub price_min: Option<i64>,
    /// Something on sale costs that or less.
    pub price_max: Option<i64>,
    /// Only where a ticket can be bought now, by what is durably sold.
    pub available: bool,
    /// Those that are over as well.
    pub show_past: bool,
    /// Everything that the viewer may see backstage, and nothing else.
    pub backstage: bool,
    pub status: Option<Status>,
    pub featured: Option<bool>,
    /// By relevance if there is a `q`, else by date.
    pub sort: Option<EventSort>,
    /// The newest, the most relevant come first unless said otherwise; all else goes upwards.
    pub descending: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Enum)]
#[oai(rename_all = "snake_case")]
pub enum EventSort {
    Date,
    /// By the lowest price of what is on sale; where nothing is on sale, last.
    Price,
    Title,
    Newest,
    /// How well it fits `q`; without one, by date.
    Relevance,
}

/// What can still be seen in the public list without asking for the past, as the index says it.
const OPEN: &str = "e.status in ('published', 'postponed', 'on_hold', 'in_progress')";

impl EventFilter {
    pub(super) fn condition(
        &self,
        sql: &mut QueryBuilder<Postgres>,
        viewer: &Viewer,
        now: DateTime<Utc>,
    ) {
        if self.backstage {
            within(&viewer.backstage, sql);
        } else {
            viewer.sees(sql);
        }
        match (self.backstage, self.show_past) {
            (true, true) => {}
            (true, false) => _ = sql.push(" and e.ends_at > ").push_bind(now),
            (false, true) => _ = sql.push(" and e.status <> 'cancelled'"),
            (false, false) => {
                sql.push(" and ")
                    .push(OPEN)
                    .push(" and e.ends_at > ")
                    .push_bind(now);
            }
        }
        self.of_what(sql);
        self.of_whom_and_where(sql);
        self.when(sql);
        self.for_how_much(sql);
        if self.available {
            still_sold(sql, now);
        }
    }

    fn of_what(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(event_type) = self.event_type {
            sql.push(" and e.event_type = ").push_bind(event_type);
        }
        if let Some(category) = &self.category {
            sql.push(" and lower(e.category) = lower(")
                .push_bind(category.clone())
                .push(")");
        }
        if let Some(status) = self.status {
            sql.push(" and e.status = ").push_bind(status);
        }
        match self.featured {
            // Written out, not bound: the planner must see which of the partial indices fit.
            Some(true) => _ = sql.push(" and e.is_featured"),
            Some(false) => _ = sql.push(" and not e.is_featured"),
            None => {}
        }
    }

    fn of_whom_and_where(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(city) = &self.city {
            sql.push(" and e.city = lower(")
                .push_bind(city.clone())
                .push(")");
        }
        if let Some(venue_id) = self.venue_id {
            sql.push(" and e.venue_id = ").push_bind(venue_id);
        }
        if let Some(organization_id) = self.organization_id {
            sql.push(" and e.organization_id = ")
                .push_bind(organization_id);
        }
        if let Some(organizer_id) = self.organizer_id {
            sql.push(" and e.organizer_ids @> array[")
                .push_bind(organizer_id)
                .push("::uuid]");
        }
    }

    fn when(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(from) = self.date_from {
            sql.push(" and e.starts_at >= ").push_bind(from);
        }
        if let Some(to) = self.date_to {
            sql.push(" and e.starts_at <= ").push_bind(to);
        }
    }

    /// Something on sale costs that much.
    fn for_how_much(&self, sql: &mut QueryBuilder<Postgres>) {
        // Beyond any price; a range of Postgres neither ends at the last number nor before it begins.
        let bound = |price: i64| price.clamp(-1, 1_000_000_000);
        let (least, most) = (self.price_min.map(bound), self.price_max.map(bound));
        if let Some(least) = least {
            sql.push(" and e.highest_price >= ").push_bind(least);
        }
        if let Some(most) = most {
            sql.push(" and e.lowest_price <= ").push_bind(most);
        }
        match (least, most) {
            (Some(least), Some(most)) if least > most => _ = sql.push(" and false"),
            (Some(least), Some(most)) => {
                sql.push(" and e.prices && int8range(")
                    .push_bind(least)
                    .push(", ")
                    .push_bind(most)
                    .push(", '[]')");
            }
            _ => {}
        }
    }

    /// The id settles a tie, so that a page neither repeats nor leaves out a row.
    pub(super) fn order(&self, sql: &mut QueryBuilder<Postgres>) {
        let newest = self.sort == Some(EventSort::Newest);
        let direction = if self.descending.unwrap_or(newest) {
            "desc"
        } else {
            "asc"
        };
        let column = match self.sort {
            Some(EventSort::Title) => TITLE,
            Some(EventSort::Newest) => "e.created_at",
            Some(EventSort::Price) => {
                sql.push(format_args!(
                    " order by e.lowest_price {direction} nulls last, e.id {direction}"
                ));
                return;
            }
            Some(EventSort::Date | EventSort::Relevance) | None => "e.starts_at",
        };
        sql.push(format_args!(
            " order by {column} {direction}, e.id {direction}"
        ));
    }

    pub(super) fn by_relevance(&self) -> bool {
        matches!(self.sort, None | Some(EventSort::Relevance))
    }
}

/// A ticket can be bought, by what is durably sold: what others hold at the moment may come back.
fn still_sold(sql: &mut QueryBuilder<Postgres>, now: DateTime<Utc>) {
    sql.push(" and e.lowest_price is not null and exists (select from ticket_types t where t.event_id = e.id and is_on_sale(t, ")
        .push_bind(now)
        .push(") and not exists (select from ticket_type_sessions i join event_sessions s on s.id = i.session_id
                where i.ticket_type_id = t.id and (not s.active or t.sales_end is null and s.starts_at <= ")
        .push_bind(now)
        .push(")) and not exists (select from ticket_type_pools d join pools p on p.id = d.pool_id
                where d.ticket_type_id = t.id and p.capacity - p.sold < t.min_per_order))");
}
