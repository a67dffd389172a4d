//! Routes of the sessions of an event.

use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use shared::events::{self, EventDetails, EventError, NewSession, Part, Session, SessionChange};
use shared::ids::EventId;
use shared::page::All;

use crate::events::{at_this_moment, find};
use crate::http::allowed::{Allowed, Public, permissions};
use crate::http::answer::{Created, Found, Gone, Listed, Once, Reply, Versioned};
use crate::http::body::Body;
use crate::http::tags::Tag;

permissions! {
    CreateSessions: "sessions" "create";
    WriteSessions: "sessions" "write";
    DeleteSessions: "sessions" "delete";
}

impl Versioned for Session {
    fn version(&self) -> i64 {
        self.version
    }
}

pub struct Sessions;

#[OpenApi(tag = "Tag::Events")]
impl Sessions {
    /// List the sessions of an event
    ///
    /// Errors: EVENT_NOT_FOUND
    #[oai(
        path = "/events/:event_id/sessions",
        method = "get",
        operation_id = "list_sessions"
    )]
    async fn sessions(
        &self,
        public: Public,
        event_id: Path<String>,
    ) -> Reply<Listed<All<Session>>> {
        let items = sessions_now(&public, &event_id.0).await?;
        Ok(Listed::new(All { items }))
    }

    /// Add a session
    ///
    /// It gets the next code; one that was given is not given again.
    ///
    /// Errors: EVENT_NOT_FOUND, EVENT_NOT_MODIFIABLE
    #[oai(
        path = "/events/:event_id/sessions",
        method = "post",
        operation_id = "add_session"
    )]
    async fn add_session(
        &self,
        caller: Allowed<CreateSessions>,
        event_id: Path<EventId>,
        new: Body<NewSession>,
    ) -> Reply<Once<Created<Session>>> {
        caller
            .once(&new, async |tx| {
                let made = events::add_session(tx, event_id.0, new.content.clone()).await?;
                let place = format!("/events/{}/sessions/{}", event_id.0, made.code);
                Ok(Created::at(&place, made))
            })
            .await
    }

    /// Read a session
    ///
    /// Errors: EVENT_NOT_FOUND, SESSION_NOT_FOUND
    #[oai(
        path = "/events/:event_id/sessions/:code",
        method = "get",
        operation_id = "read_session"
    )]
    async fn session(
        &self,
        public: Public,
        event_id: Path<String>,
        code: Path<String>,
    ) -> Reply<Found<Session>> {
        let mut sessions = sessions_now(&public, &event_id.0).await?.into_iter();
        let session = sessions.find(|session| session.code == code.0);
        Ok(Found::with_more(
            session.ok_or(EventError::SessionNotFound)?,
        ))
    }

    /// Change a session
    ///
    /// Errors: EVENT_NOT_FOUND, SESSION_NOT_FOUND, EVENT_NOT_MODIFIABLE, CAPACITY_BELOW_SOLD, CONCURRENT_UPDATE,
    /// VERSION_REQUIRED
    #[oai(
        path = "/events/:event_id/sessions/:code",
        method = "put",
        operation_id = "change_session"
    )]
    async fn change_session(
        &self,
        caller: Allowed<WriteSessions>,
        event_id: Path<EventId>,
        code: Path<String>,
        change: Body<SessionChange>,
    ) -> Reply<Found<Session>> {
        let (seen, id) = (caller.seen(change.content.version)?, event_id.0);
        let (code, change) = (&code.0, change.content);
        let capacity = change.capacity.named();
        let aside = caller.set_aside(id, Part::Session(code), capacity).await?;
        let session = caller
            .change_having(aside, async |tx| {
                events::change_session(tx, id, code, seen, change, aside).await
            })
            .await?;
        Ok(Found::new(session))
    }

    /// Delete a session
    ///
    /// Errors: EVENT_NOT_FOUND, SESSION_NOT_FOUND, EVENT_NOT_MODIFIABLE, SESSION_IN_USE, CONCURRENT_UPDATE
    #[oai(
        path = "/events/:event_id/sessions/:code",
        method = "delete",
        operation_id = "delete_session"
    )]
    async fn delete_session(
        &self,
        caller: Allowed<DeleteSessions>,
        event_id: Path<EventId>,
        code: Path<String>,
    ) -> Reply<Gone> {
        let seen = caller.seen_or_any(None)?;
        caller
            .change(async |tx| events::delete_session(tx, event_id.0, &code.0, seen).await)
            .await?;
        Ok(Gone::Gone)
    }
}

/// The sessions of an event, with what is sold of each right now.
async fn sessions_now(public: &Public, name: &str) -> shared::Result<Vec<Session>> {
    let event = EventDetails::clone(&*find(public, name).await?);
    Ok(at_this_moment(public, event).await?.details.sessions)
}
