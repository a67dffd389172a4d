//! Reading events by way of memory.
//!
//! Lists are kept for those who see what strangers see: strangers, services, and people who belong to no organization.
//! An event is kept whole and shown only after its reader was checked. What is left is asked for each time.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::list::{self, Viewer};
use super::{EventDetails, EventError, EventFilter, EventPage, Status, details, store, summary};
use crate::app::App;
use crate::cache::Shelf;
use crate::error::{Code, Result};
use crate::ids::EventId;
use crate::page::Paging;
use crate::stock;

/// In summaries: some 30 MB of them.
const LISTED: u64 = 20_000;
/// In kilobytes.
const DETAILS: u64 = 20_000;

pub(crate) struct Events {
    lists: Shelf<(EventFilter, Paging), EventPage>,
    details: Shelf<EventId, EventDetails>,
    names: Shelf<String, EventId>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            lists: Shelf::new(LISTED, TimeDelta::seconds(30), |page| {
                1 + page.items.len() as u64
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
        self.lists.forget_everything();
        self.details.forget(&id);
    }

    pub(crate) fn forget_lists(&self) {
        self.lists.forget_everything();
    }

    pub(crate) fn forget_everything(&self) {
        self.lists.forget_everything();
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
    let mut page = if viewer.like_a_stranger && lasting {
        let key = (filter.clone(), paging);
        let lists = &app.caches.events.lists;
        let kept = app.caches.get(lists, key, now, load).await?;
        EventPage::clone(&kept)
    } else {
        load().await?
    };
    summary::tell_live(&mut *app.read().await?, &mut page.items, now).await?;
    Ok(page)
}

/// An event by its id or its slug, if the viewer may see it, with the numbers of this moment.
pub async fn read(
    app: &App,
    viewer: &Viewer,
    now: DateTime<Utc>,
    name: &str,
) -> Result<EventDetails> {
    let kept = kept(app, viewer, now, name).await?;
    let mut details = EventDetails::clone(&kept);
    let (levels, _) = stock::levels(app, kept.event.id).await?;
    for session in &mut details.sessions {
        let level = levels.get(&session.id.0);
        let sold = level.and_then(|level| level.sold.try_into().ok());
        session.sold = sold.unwrap_or(session.sold);
    }
    Ok(details)
}

/// The same as it is kept: whoever needs the numbers of this moment asks for them.
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
