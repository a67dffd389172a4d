//! A request that carries an `Idempotency-Key` is carried out once, however often it is sent.

use std::marker::PhantomData;

use poem::http::{HeaderName, HeaderValue, StatusCode};
use poem::{IntoResponse, Response};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use shared::Tx;
use shared::activity::By;
use shared::error::{Error, Invalid, Kind, Result};
use shared::idempotency::{self, Answer, Key};

use super::allowed::{Allowed, Permission};
use super::answer::{Failure, Once, Reply};
use super::body::Digested;
use super::errors;

/// Says that an answer was given before.
const REPLAYED: &str = "idempotent-replayed";
const LONGEST_KEY: usize = 255;

impl<P: Permission> Allowed<P> {
    /// Does the work in one transaction that also keeps its answer under the caller's key, if they sent one.
    pub async fn once<R: IntoResponse>(
        &self,
        body: &impl Digested,
        work: impl AsyncFnOnce(&mut Tx) -> Result<R>,
    ) -> Reply<Once<R>> {
        self.once_but(body, None, work).await
    }

    /// The same for an answer with a secret in the field `secret`: it is told in the first answer only, and
    /// kept nowhere.
    pub async fn once_with_secret<R: IntoResponse>(
        &self,
        body: &impl Digested,
        secret: &'static str,
        work: impl AsyncFnOnce(&mut Tx) -> Result<R>,
    ) -> Reply<Once<R>> {
        self.once_but(body, Some(secret), work).await
    }

    /// The same for work that is not done in Postgres: only an answer to be kept is.
    pub async fn once_elsewhere<R: IntoResponse>(
        &self,
        body: &impl Digested,
        work: impl AsyncFnOnce() -> Result<R>,
    ) -> Reply<Once<R>> {
        if self.access.idempotency_key.is_none() {
            return Ok(work().await?.into_response().into());
        }
        self.once(body, async |_| work().await).await
    }

    /// The same for work that first takes something elsewhere, while no transaction is open: under a name that is the
    /// same for the same request, if it has a key. Without a key there is no answer to keep, and the work may share its
    /// transaction with that of others. `untake` gives it back when the work does not come about,
    /// or has come about meanwhile: then without an error.
    pub async fn once_having<T, R: IntoResponse>(
        &self,
        body: &impl Digested,
        take: impl AsyncFnOnce(Option<[u8; 32]>) -> Result<T>,
        work: impl AsyncFnOnce(&mut Tx, &T) -> Result<R>,
        shared_work: impl AsyncFnOnce(By, &T) -> Result<R>,
        untake: impl AsyncFnOnce(&T, Option<&Error>),
    ) -> Reply<Once<R>> {
        let key = self.key(body)?;
        if let Some(key) = &key
            && let Some(answer) =
                idempotency::kept(&mut *self.read().await?, &self.access.app.cipher, key).await?
        {
            return Ok(replay(answer).into());
        }
        let name = key.as_ref().map(Key::digest);
        let taken = match take(name).await {
            Ok(taken) => taken,
            Err(refusal) => return Err(self.keep_refusal(key, refusal).await?),
        };
        let mut worked = true;
        let done = if name.is_some() {
            worked = false;
            let work = async |tx: &mut Tx| {
                worked = true;
                work(tx, &taken).await
            };
            self.once(body, work).await
        } else {
            let done = shared_work(self.by(), &taken).await;
            done.map(|answer| answer.into_response().into())
                .map_err(Failure)
        };
        match &done {
            Err(failure) => untake(&taken, Some(&failure.0)).await,
            Ok(_) if !worked => untake(&taken, None).await,
            Ok(_) => {}
        }
        done
    }

    async fn once_but<R: IntoResponse>(
        &self,
        body: &impl Digested,
        secret: Option<&'static str>,
        work: impl AsyncFnOnce(&mut Tx) -> Result<R>,
    ) -> Reply<Once<R>> {
        let key = self.key(body)?;
        let mut tx = self.begin().await?;
        if let Some(key) = &key
            && let Some(answer) = idempotency::claim(&mut tx, key).await?
        {
            return Ok(replay(answer).into());
        }
        let response = match work(&mut tx).await {
            Ok(answer) => answer.into_response(),
            Err(refusal) => {
                drop(tx);
                return Err(self.keep_refusal(key, refusal).await?);
            }
        };
        let Some(key) = key else {
            tx.commit().await?;
            return Ok(response.into());
        };
        let (mut answer, response) = taken_down(response).await?;
        if let Some(field) = secret {
            leave_out(&mut answer, field)?;
        }
        idempotency::keep(&mut tx, &key, &answer).await?;
        tx.commit().await?;
        Ok(response.into())
    }

    /// A refusal that would be the same next time is kept too; one that may pass is not.
    async fn keep_refusal(&self, key: Option<Key>, refusal: Error) -> Reply<Failure> {
        let passing = matches!(
            refusal.code().kind(),
            Kind::Conflict | Kind::TooMany | Kind::Internal | Kind::Unavailable
        );
        if let Some(key) = key
            && !passing
        {
            let mut tx = self.begin().await?;
            let response = errors::body(&refusal, tx.now(), &self.access.request_id);
            let (answer, _) = taken_down(response).await?;
            idempotency::keep(&mut tx, &key, &answer).await?;
            tx.commit().await?;
        }
        Ok(Failure(refusal))
    }

    /// The caller's key and what it stands for. The path is the canonical one, by whatever name it was asked.
    fn key(&self, body: &impl Digested) -> Result<Option<Key>> {
        let Some(key) = self.access.idempotency_key.clone() else {
            return Ok(None);
        };
        if key.is_empty() || key.len() > LONGEST_KEY {
            let message = format!("must have between 1 and {LONGEST_KEY} characters");
            return Err(Invalid::field("Idempotency-Key", message).into());
        }
        let request = Sha256::new()
            .chain_update(&self.access.method)
            .chain_update([0])
            .chain_update(&self.access.path)
            .chain_update([0])
            .chain_update(body.digest());
        Ok(Some(Key {
            caller: self.owner_of(&key),
            key,
            fingerprint: request.finalize().to_vec(),
        }))
    }
}

impl<R> Once<R> {
    /// Where the thing is that was made, without what is before its name.
    pub fn made(&self) -> Option<&str> {
        let place = self.response.headers().get("location")?;
        place.to_str().ok()?.rsplit('/').next()
    }

    /// Another answer to the same request.
    #[must_use]
    pub fn instead(self, answer: R) -> Self
    where
        R: IntoResponse,
    {
        let mut response = answer.into_response();
        if let Some(replayed) = self.response.headers().get(REPLAYED) {
            response.headers_mut().insert(REPLAYED, replayed.clone());
        }
        response.into()
    }
}

impl<R> From<Response> for Once<R> {
    fn from(response: Response) -> Self {
        Self {
            response,
            answers_like: PhantomData,
        }
    }
}

/// Writes an answer down; gives it back to be sent.
async fn taken_down(response: Response) -> Result<(Answer, Response)> {
    let (parts, body) = response.into_parts();
    let body = body
        .into_bytes()
        .await
        .map_err(|error| Error::Internal(error.into()))?;
    let headers = parts.headers.iter().filter_map(|(name, value)| {
        Some((
            name.to_string(),
            Value::String(value.to_str().ok()?.to_owned()),
        ))
    });
    let answer = Answer {
        status: i16::try_from(parts.status.as_u16()).expect("a status has three digits"),
        headers: Value::Object(headers.collect::<Map<_, _>>()),
        body: body.to_vec(),
    };
    Ok((answer, Response::from_parts(parts, body.into())))
}

fn leave_out(answer: &mut Answer, field: &str) -> Result<()> {
    let mut body: Value = serde_json::from_slice(&answer.body)?;
    if let Some(fields) = body.as_object_mut() {
        fields.insert(field.to_owned(), Value::Null);
    }
    answer.body = serde_json::to_vec(&body)?;
    Ok(())
}

fn replay(answer: Answer) -> Response {
    let status = u16::try_from(answer.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = Response::builder()
        .status(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .body(answer.body);
    for (name, value) in answer.headers.as_object().into_iter().flatten() {
        let name = HeaderName::try_from(name.as_str());
        let value = value.as_str().map(HeaderValue::from_str);
        if let (Ok(name), Some(Ok(value))) = (name, value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
