//! Routes of venues.

use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use shared::ids::{OrganizationId, VenueId};
use shared::page::{Page, Paging};
use shared::venues::{self, NewVenue, Venue, VenueChange, VenueFilter, VenueSort};

use crate::http::allowed::{Allowed, Public, permissions};
use crate::http::answer::{Created, Found, Gone, Listed, Once, Reply, Versioned};
use crate::http::body::Body;
use crate::http::tags::{Direction, Tag};

permissions! {
    CreateVenues: "venues" "create";
    WriteVenues: "venues" "write";
    DeleteVenues: "venues" "delete";
}

impl Versioned for Venue {
    fn version(&self) -> i64 {
        self.version
    }
}

pub struct Venues;

#[OpenApi(tag = "Tag::Venues")]
impl Venues {
    /// List venues
    ///
    /// `q` finds part of a name, or nearly a name.
    #[oai(path = "/venues", method = "get", operation_id = "list_venues")]
    #[expect(
        clippy::too_many_arguments,
        reason = "one for each filter that the document names"
    )]
    async fn list(
        &self,
        public: Public,
        q: Query<Option<String>>,
        /// Another name of `q`.
        search: Query<Option<String>>,
        city: Query<Option<String>>,
        organization_id: Query<Option<OrganizationId>>,
        /// `false` lists the inactive ones instead.
        active: Query<Option<bool>>,
        sort: Query<Option<VenueSort>>,
        order: Query<Option<Direction>>,
        page: Query<Option<u32>>,
        limit: Query<Option<u32>>,
    ) -> Reply<Listed<Page<Venue>>> {
        let paging = Paging::new(page.0, limit.0)?;
        let filter = VenueFilter {
            q: q.0.or(search.0),
            city: city.0,
            organization_id: organization_id.0,
            active: active.0,
            sort: sort.0.unwrap_or_default(),
            descending: order.0 == Some(Direction::Desc),
        };
        let list = venues::read_list(public.app(), &filter, paging).await?;
        Ok(Listed::new(list))
    }

    /// Create a venue
    #[oai(path = "/venues", method = "post", operation_id = "create_venue")]
    async fn create(
        &self,
        caller: Allowed<CreateVenues>,
        new: Body<NewVenue>,
    ) -> Reply<Once<Created<Venue>>> {
        caller
            .once(&new, async |tx| {
                let venue = venues::create(tx, new.content.clone()).await?;
                Ok(Created::at(&format!("/venues/{}", venue.id), venue))
            })
            .await
    }

    /// Read a venue
    ///
    /// Errors: VENUE_NOT_FOUND
    #[oai(
        path = "/venues/:venue_id",
        method = "get",
        operation_id = "read_venue"
    )]
    async fn read(&self, public: Public, venue_id: Path<VenueId>) -> Reply<Found<Venue>> {
        let venue = venues::read(public.app(), venue_id.0).await?;
        Ok(Found::new(venue))
    }

    /// Change a venue
    ///
    /// What is named is replaced, what is left out stays. PATCH is the same operation.
    ///
    /// Errors: VENUE_NOT_FOUND, CONCURRENT_UPDATE, VERSION_REQUIRED
    #[oai(
        path = "/venues/:venue_id",
        method = "put",
        operation_id = "change_venue"
    )]
    async fn change(
        &self,
        caller: Allowed<WriteVenues>,
        venue_id: Path<VenueId>,
        change: Body<VenueChange>,
    ) -> Reply<Found<Venue>> {
        let seen = caller.seen(change.content.version)?;
        let change = change.content;
        let venue = caller
            .change(async |tx| venues::change(tx, venue_id.0, seen, change).await)
            .await?;
        Ok(Found::new(venue))
    }

    /// Delete a venue
    ///
    /// It stays known to the events that took place there, and is gone for everybody else.
    ///
    /// Errors: VENUE_NOT_FOUND, VENUE_IN_USE, CONCURRENT_UPDATE
    #[oai(
        path = "/venues/:venue_id",
        method = "delete",
        operation_id = "delete_venue"
    )]
    async fn delete(&self, caller: Allowed<DeleteVenues>, venue_id: Path<VenueId>) -> Reply<Gone> {
        let seen = caller.seen_or_any(None)?;
        caller
            .change(async |tx| venues::delete(tx, venue_id.0, seen).await)
            .await?;
        Ok(Gone::Gone)
    }
}
