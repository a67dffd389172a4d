//! Reading events by way of memory.
//!
//! Lists are kept for those who see what strangers see: strangers, services, and people who belong to no organization.
//! An event is kept whole and shown only after its reader was checked. What is left is asked for each time.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::list::{self, Viewer};
use super::{
    EventDetails, EventError, EventFilter, EventNow, EventPage, Listing, Status, details, store,
};
use crate::app::App;
use crate::cache::Shelf;
use crate::error::{Code, Error, Result};
use crate::ids::EventId;
use crate::page::Paging;
use crate::stock::{self, LevelsOf};

/// In summaries: some 30 MB of them.
const LISTED: u64 = 20_000;
/// In kilobytes.
const DETAILS: u64 = 20_000;

pub(crate) struct Events {
    lists: Shelf<(EventFilter, Paging), Listing>,
    /// What is sold, of events that Redis does not know, page by page.
    sold: Shelf<Vec<EventId>, LevelsOf>,
    details: Shelf<EventId, EventDetails>,
    names: Shelf<String, EventId>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            lists: Shelf::new(LISTED, TimeDelta::seconds(30), Listing::weight),
            sold: Shelf::new(LISTED, TimeDelta::seconds(1), |levels| {
                1 + levels.len() as u64
            }),
            details: Shelf::new(DETAILS, TimeDelta::minutes(5), |details| {
                let text = details.event.description.as_ref().map_or(0, String::len);
                let parts = details.sessions.len() + details.ticket_types.len();
                (2 + text / 1_024 + parts / 2) as u64
            }),
            names: Shelf::new(20_000, TimeDelta::minutes(5), |_| 1),
        }
    }
}

impl Events {
    pub(crate) fn forget(&self, id: EventId) {
        self.forget_lists();
        self.details.forget(&id);
    }

    pub(crate) fn forget_lists(&self) {
        self.lists.forget_everything();
        self.sold.forget_everything();
    }

    pub(crate) fn forget_everything(&self) {
        self.forget_lists();
        self.details.forget_everything();
        self.names.forget_everything();
    }
}

/// One page of what the viewer may see, with the numbers of this moment.
pub async fn list(
    app: &App,
    viewer: &Viewer,
    now: DateTime<Utc>,
    filter: &EventFilter,
    paging: Paging,
) -> Result<EventPage> {
    let load = async || list::list(&mut *app.read().await?, viewer, now, filter, paging).await;
    // What can be bought changes with every sale.
    let lasting = !filter.backstage && !filter.available;
    let page = if viewer.like_a_stranger && lasting {
        let key = (filter.clone(), paging);
        let lists = &app.caches.events.lists;
        app.caches.get(lists, key, now, load).await?
    } else {
        Arc::new(load().await?)
    };
    let levels = levels_of(app, now, &page.events()).await?;
    Ok(page.at(&levels, now))
}

/// What is left of each: by Redis, which is asked once for all of them. Of those that it does not know nobody holds a
/// place, and what is sold of them is what Postgres said less than a second ago.
async fn levels_of(app: &App, now: DateTime<Utc>, events: &[EventId]) -> Result<LevelsOf> {
    let mut levels = match app.stock.read_many(now, events).await {
        Err(Error::Unavailable(cause)) => {
            tracing::debug!(%cause, "places are read from Postgres");
            LevelsOf::new()
        }
        known => known?,
    };
    let unknown = events.iter().filter(|id| !levels.contains_key(id));
    let unknown: Vec<EventId> = unknown.copied().collect();
    if !unknown.is_empty() {
        let load = async || stock::durable_levels(&mut *app.read().await?, &unknown).await;
        let sold = &app.caches.events.sold;
        let sold = app.caches.get(sold, unknown.clone(), now, load).await?;
        levels.extend(sold.iter().map(|(id, levels)| (*id, levels.clone())));
    }
    Ok(levels)
}

/// An event with the numbers of this moment.
pub async fn at_this_moment(
    app: &App,
    now: DateTime<Utc>,
    details: EventDetails,
) -> Result<EventNow> {
    let (levels, _) = stock::levels(app, details.event.id).await?;
    Ok(EventNow::at(details, &levels, now))
}

/// An event by its id or its slug, if the viewer may see it, as it is kept.
pub async fn kept(
    app: &App,
    viewer: &Viewer,
    now: DateTime<Utc>,
    name: &str,
) -> Result<Arc<EventDetails>> {
    let kept = match name.parse() {
        Ok(id) => whole(app, now, EventId(id)).await?,
        Err(_) => by_slug(app, now, name).await?,
    };
    if viewer.may_see(app, &kept.event).await? {
        return Ok(kept);
    }
    Err(EventError::NotFound.into())
}

/// An event as everybody may see it, if everybody may: what is hidden is left out.
pub(super) async fn public(app: &App, id: EventId) -> Result<Option<EventDetails>> {
    let kept = match whole(app, app.clock.now(), id).await {
        Err(error) if error.code() == Code::EventNotFound => return Ok(None),
        kept => kept?,
    };
    if kept.event.status == Status::Draft {
        return Ok(None);
    }
    let mut details = EventDetails::clone(&kept);
    details.ticket_types.retain(|kind| !kind.hidden);
    Ok(Some(details))
}

async fn whole(app: &App, now: DateTime<Utc>, id: EventId) -> Result<Arc<EventDetails>> {
    let load = async || {
        let mut db = app.read().await?;
        let event = list::by_id(&mut db, id).await?;
        details(&mut db, event.ok_or(EventError::NotFound)?).await
    };
    let shelf = &app.caches.events.details;
    app.caches.get(shelf, id, now, load).await
}

/// A slug stays with its event, but that of one that is gone may become another's.
async fn by_slug(app: &App, now: DateTime<Utc>, slug: &str) -> Result<Arc<EventDetails>> {
    let names = &app.caches.events.names;
    let find = async || {
        let load = async || {
            let id = store::by_slug(&mut *app.read().await?, slug).await?;
            Ok(id.ok_or(EventError::NotFound)?)
        };
        app.caches.get(names, slug.to_owned(), now, load).await
    };
    match whole(app, now, *find().await?).await {
        Err(error) if error.code() == Code::EventNotFound => {
            names.forget(&slug.to_owned());
            whole(app, now, *find().await?).await
        }
        found => found,
    }
}
