//! Reading events by way of memory.
//!
//! Lists are kept for those who see what strangers see: strangers, and people who belong to no organization.
//! An event is kept whole and shown only after its reader was checked. What is left is asked for each time, and as long as
//! it is the same, the answer is too, and is not written out again.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::event::Numbers;
use super::list::{self, Viewer};
use super::{EventDetails, EventError, EventFilter, EventNow, EventPage, Listing, details, store};
use crate::app::App;
use crate::cache::Shelf;
use crate::error::{Code, Error, Result};
use crate::ids::EventId;
use crate::page::Paging;
use crate::shown::{Last, Shown};
use crate::stock::{self, LevelsOf};

/// In kilobytes.
const LISTED: u64 = 30_000;
/// In kilobytes.
const DETAILS: u64 = 30_000;

pub(crate) struct Events {
    lists: Shelf<(EventFilter, Paging), Listing>,
    /// What is sold, of events that Redis does not know, page by page.
    sold: Shelf<Vec<EventId>, LevelsOf>,
    details: Shelf<EventId, Kept>,
    names: Shelf<String, EventId>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            lists: Shelf::new(LISTED, TimeDelta::seconds(30), Listing::weight),
            sold: Shelf::new(20_000, TimeDelta::seconds(1), |levels| {
                1 + levels.len() as u64
            }),
            details: Shelf::new(DETAILS, TimeDelta::minutes(5), Kept::weight),
            names: Shelf::new(20_000, TimeDelta::minutes(5), |_| 1),
        }
    }
}

/// An event as it is kept.
struct Kept {
    whole: Arc<KeptEvent>,
    /// Without what is hidden.
    public: Arc<KeptEvent>,
}

/// An event as some see it, without the numbers of this moment.
pub struct KeptEvent {
    details: EventDetails,
    last: Last<Numbers, EventNow>,
}

impl Deref for KeptEvent {
    type Target = EventDetails;

    fn deref(&self) -> &EventDetails {
        &self.details
    }
}

impl From<EventDetails> for KeptEvent {
    fn from(details: EventDetails) -> Self {
        Self {
            details,
            last: Last::default(),
        }
    }
}

impl From<EventDetails> for Kept {
    fn from(details: EventDetails) -> Self {
        let whole = Arc::new(KeptEvent::from(details));
        if whole.ticket_types.iter().all(|kind| !kind.hidden) {
            let public = Arc::clone(&whole);
            return Self { whole, public };
        }
        let mut open = whole.details.clone();
        open.ticket_types.retain(|kind| !kind.hidden);
        let public = Arc::new(open.into());
        Self { whole, public }
    }
}

impl Kept {
    /// In kilobytes, as it is kept and as it was shown last.
    fn weight(&self) -> u64 {
        let both = !Arc::ptr_eq(&self.whole, &self.public);
        let public = if both { self.public.size() } else { 0 };
        1 + (2 * (self.whole.size() + public) / 1_024) as u64
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
) -> Result<Shown<EventPage>> {
    // What can be bought changes with every sale.
    let lasting = !filter.backstage && !filter.available;
    let page = if viewer.like_a_stranger && lasting {
        let key = (filter.clone(), paging);
        let lists = &app.caches.events.lists;
        // Whoever asks first, all others are shown it too.
        let stranger = Viewer::stranger();
        let load =
            async || list::list(&mut *app.read().await?, &stranger, now, filter, paging).await;
        app.caches.get(lists, key, now, load).await?
    } else {
        Arc::new(list::list(&mut *app.read().await?, viewer, now, filter, paging).await?)
    };
    let levels = levels_of(app, now, page.events()).await?;
    Ok(page.at(&levels, now))
}

/// What is left of each: by Redis, which is asked once for all of them. Of those that it does not know nobody holds a
/// place, and what is sold of them is what Postgres said less than a second ago.
async fn levels_of(app: &App, now: DateTime<Utc>, events: Vec<EventId>) -> Result<Arc<LevelsOf>> {
    let levels = match app.looks.look(&app.stock, now, events.clone()).await {
        Err(Error::Unavailable(cause)) => {
            tracing::debug!(%cause, "places are read from Postgres");
            Arc::default()
        }
        known => known?,
    };
    let unknown = events.iter().filter(|id| !levels.contains_key(id));
    let unknown: Vec<EventId> = unknown.copied().collect();
    if unknown.is_empty() {
        return Ok(levels);
    }
    let load = async || stock::durable_levels(&mut *app.read().await?, &unknown).await;
    let sold = &app.caches.events.sold;
    let sold = app.caches.get(sold, unknown.clone(), now, load).await?;
    // Others have asked for more.
    let known = events.iter().filter_map(|id| Some((*id, levels.get(id)?)));
    let sold = sold.iter().map(|(id, levels)| (*id, levels));
    let all = known.chain(sold).map(|(id, levels)| (id, levels.clone()));
    Ok(Arc::new(all.collect()))
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

/// The same of one that is kept, written out.
pub async fn shown(app: &App, event: &KeptEvent, now: DateTime<Utc>) -> Result<Shown<EventNow>> {
    let (levels, _) = stock::levels(app, event.event.id).await?;
    let numbers = event.numbers(&levels, now);
    let with = |numbers: &Numbers| EventNow::with(event.details.clone(), numbers);
    Ok(event.last.show(numbers, with))
}

/// An event by its id or its slug, if the viewer may see it, and as they may see it.
pub async fn kept(
    app: &App,
    viewer: &Viewer,
    now: DateTime<Utc>,
    name: &str,
) -> Result<Arc<KeptEvent>> {
    let kept = match name.parse() {
        Ok(id) => by_id(app, now, EventId(id)).await?,
        Err(_) => by_slug(app, now, name).await?,
    };
    let event = &kept.whole.event;
    if !viewer.may_see(app, event).await? {
        return Err(EventError::NotFound.into());
    }
    let backstage = viewer.backstage.require(event.organization_id).is_ok();
    let seen = if backstage { &kept.whole } else { &kept.public };
    Ok(Arc::clone(seen))
}

/// An event as everybody may see it, if everybody may: what is hidden is left out.
pub(super) async fn public(app: &App, id: EventId) -> Result<Option<Arc<KeptEvent>>> {
    let kept = match by_id(app, app.clock.now(), id).await {
        Err(error) if error.code() == Code::EventNotFound => return Ok(None),
        kept => kept?,
    };
    let public = &kept.public;
    Ok((!public.event.is_out_of_sight()).then(|| Arc::clone(public)))
}

async fn by_id(app: &App, now: DateTime<Utc>, id: EventId) -> Result<Arc<Kept>> {
    let load = async || {
        let mut db = app.read().await?;
        let event = list::by_id(&mut db, id).await?;
        let event = event.ok_or(EventError::NotFound)?;
        details(&mut db, event).await.map(Kept::from)
    };
    let shelf = &app.caches.events.details;
    app.caches.get(shelf, id, now, load).await
}

/// A slug stays with its event, but that of one that is gone may become another's.
async fn by_slug(app: &App, now: DateTime<Utc>, slug: &str) -> Result<Arc<Kept>> {
    let names = &app.caches.events.names;
    let find = async || {
        let load = async || {
            let id = store::by_slug(&mut *app.read().await?, slug).await?;
            Ok(id.ok_or(EventError::NotFound)?)
        };
        app.caches.get(names, slug.to_owned(), now, load).await
    };
    match by_id(app, now, *find().await?).await {
        Err(error) if error.code() == Code::EventNotFound => {
            names.forget(&slug.to_owned());
            by_id(app, now, *find().await?).await
        }
        found => found,
    }
}
