//! Routes between services, below `/internal`.

use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use shared::accounts::{self, Profile};
use shared::clock::Time;
use shared::error::Invalid;
use shared::events::seats::{self, Seats};
use shared::ids::{EventId, LoginSessionId};

use crate::http::allowed::Internal;
use crate::http::answer::{Once, Reply};
use crate::http::body::{Body, Digested};
use crate::http::tags::Tag;

#[derive(Object)]
#[oai(deny_unknown_fields)]
struct Presented {
    /// An access token, as a person sends it.
    #[oai(validator(max_length = 4000))]
    token: String,
}

/// What is known of an access token.
#[derive(Object)]
struct Verified {
    /// False for a token that is none of ours, has expired, or whose session is over; nothing else is said then.
    active: bool,
    session_id: Option<LoginSessionId>,
    expires_at: Option<Time>,
    user: Option<Profile>,
}

#[derive(Object)]
#[oai(deny_unknown_fields)]
struct SeatsMoved {
    /// How many seats: below 0 to take them, above 0 to return them.
    #[oai(validator(minimum(value = "-500000"), maximum(value = "500000")))]
    quantity: i32,
    /// The version of the inventory that you have seen.
    version: i64,
}

#[derive(Object)]
#[oai(deny_unknown_fields)]
struct SeatsReturned {
    /// How many seats.
    #[oai(validator(minimum(value = "1"), maximum(value = "500000")))]
    quantity: i32,
    /// The version of the inventory that you have seen.
    version: i64,
}

pub struct InternalPaths;

#[OpenApi(tag = "Tag::Internal")]
impl InternalPaths {
    /// Whose token is this
    #[oai(
        path = "/auth/verify",
        method = "post",
        operation_id = "verify_access_token"
    )]
    async fn verify(&self, service: Internal, presented: Body<Presented>) -> Reply<Json<Verified>> {
        let Some((person, expires_at)) = service.whose(&presented.content.token).await? else {
            return Ok(Json(Verified {
                active: false,
                session_id: None,
                expires_at: None,
                user: None,
            }));
        };
        let profile = accounts::profile(&mut *service.read().await?, person.user_id).await?;
        Ok(Json(Verified {
            active: true,
            session_id: Some(person.session_id),
            expires_at: Some(expires_at.into()),
            user: Some(profile),
        }))
    }

    /// What is free of an event
    ///
    /// Errors: EVENT_NOT_FOUND
    #[oai(
        path = "/events/:event_id",
        method = "get",
        operation_id = "read_seats"
    )]
    async fn seats(&self, service: Internal, event_id: Path<EventId>) -> Reply<Json<Seats>> {
        let seats = seats::seats(service.app(), service.scope(), event_id.0).await?;
        Ok(Json(seats))
    }

    /// Take seats of an event, or return them
    ///
    /// The version is that of the inventory, which grows with every change of what is sold, by whomever. An event
    /// without a total gets one as large as its sessions together.
    ///
    /// Errors: EVENT_NOT_FOUND, EVENT_NOT_ON_SALE, INSUFFICIENT_SEATS, SEATS_NOT_TAKEN, CONCURRENT_UPDATE,
    /// IDEMPOTENCY_IN_FLIGHT, IDEMPOTENCY_KEY_REUSED
    #[oai(
        path = "/events/:event_id/update-availability",
        method = "post",
        operation_id = "update_availability"
    )]
    async fn update_availability(
        &self,
        service: Internal,
        event_id: Path<EventId>,
        moved: Body<SeatsMoved>,
    ) -> Reply<Once<Json<Seats>>> {
        let SeatsMoved { quantity, version } = moved.content;
        match quantity {
            0 => Err(Invalid::field("quantity", "must not be 0").into()),
            ..0 => take(&service, event_id.0, &moved, -quantity, version).await,
            1.. => give_back(&service, event_id.0, &moved, quantity, version).await,
        }
    }

    /// Return seats of an event
    ///
    /// Errors: EVENT_NOT_FOUND, SEATS_NOT_TAKEN, CONCURRENT_UPDATE, IDEMPOTENCY_IN_FLIGHT, IDEMPOTENCY_KEY_REUSED
    #[oai(
        path = "/events/:event_id/return-seats",
        method = "post",
        operation_id = "return_seats"
    )]
    async fn return_seats(
        &self,
        service: Internal,
        event_id: Path<EventId>,
        returned: Body<SeatsReturned>,
    ) -> Reply<Once<Json<Seats>>> {
        let SeatsReturned { quantity, version } = returned.content;
        give_back(&service, event_id.0, &returned, quantity, version).await
    }
}

async fn take(
    service: &Internal,
    id: EventId,
    body: &Body<SeatsMoved>,
    seats: i32,
    version: i64,
) -> Reply<Once<Json<Seats>>> {
    let (app, scope) = (service.app(), service.scope());
    let reserve = async || {
        if !seats::may_take(app, scope, id, seats, version).await? {
            let made = service.change(async |tx| seats::ensure_pool(tx, id).await);
            made.await?;
        }
        seats::reserve(app, id, seats).await
    };
    let reserved = reserve().await;
    let (held, mut taken) = (reserved.as_ref().ok().copied(), false);
    // A refusal is told inside: to a request that was answered before, it does not matter.
    let answer = service
        .once(body, async |tx| {
            let seats = seats::take(app, tx, reserved?, version).await?;
            taken = true;
            Ok(Json(seats))
        })
        .await;
    match (&answer, held) {
        (Err(failure), Some(claim)) => claim.release_after(app, &failure.0).await,
        (Ok(_), Some(claim)) if !taken => claim.release(app).await,
        _ => {}
    }
    answer
}

async fn give_back(
    service: &Internal,
    id: EventId,
    body: &impl Digested,
    seats: i32,
    version: i64,
) -> Reply<Once<Json<Seats>>> {
    service
        .once(body, async |tx| {
            let seats = seats::give_back(service.app(), tx, id, seats, version).await?;
            Ok(Json(seats))
        })
        .await
}
