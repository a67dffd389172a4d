//! Streams: how many a caller may follow, how long one lasts, and that it ends with the right that opened it.
//!
//! A stream is one request that goes on for minutes, so what was found out when it was opened is asked again: before every
//! message that not everybody may see, and every few seconds while there is none. When the session is over, the key is
//! revoked or a right is gone, the stream ends; its client connects again and hears why.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use poem_openapi::payload::EventStream;
use shared::App;
use shared::access::{self, Caller, Right, Scope};
use shared::config;
use shared::error::{Code, Fault, Result};

use super::access::Access;
use super::allowed::Public;

/// How often a stream without news says that it lives; so it is found out, too, that nobody listens any more.
const STILL_HERE: Duration = Duration::from_secs(5);
/// How often a caller with credentials is asked for again while there is no news.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// When a refused client may try again.
const RETRY_SECONDS: i64 = 10;

#[derive(Debug, thiserror::Error)]
#[error("You follow as many streams at a time as you may. Close one first.")]
struct TooManyStreams;

impl Fault for TooManyStreams {
    fn code(&self) -> Code {
        Code::RateLimited
    }

    fn details(&self) -> serde_json::Value {
        serde_json::json!({ "retry_after": RETRY_SECONDS })
    }
}

/// The open streams of this process, by who follows them.
#[derive(Debug)]
pub struct Streams {
    per_caller: usize,
    per_network: usize,
    open: Mutex<HashMap<String, usize>>,
}

impl Streams {
    #[must_use]
    pub fn new(http: &config::Http) -> Self {
        Self {
            per_caller: http.streams_per_caller,
            per_network: http.streams_per_network,
            open: Mutex::default(),
        }
    }

    /// Room for one more stream of this caller in this network.
    fn admit(self: &Arc<Self>, caller: Option<String>, network: String) -> Result<Place> {
        let mut place = Place {
            streams: Arc::clone(self),
            names: Vec::new(),
        };
        let caller = caller.map(|caller| (caller, self.per_caller));
        let counted = caller.into_iter().chain([(network, self.per_network)]);
        for (name, most) in counted.filter(|(_, most)| *most > 0) {
            let mut all = self.lock();
            let open = all.entry(name.clone()).or_default();
            if *open >= most {
                drop(all);
                return Err(TooManyStreams.into());
            }
            *open += 1;
            place.names.push(name);
        }
        Ok(place)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room that a stream takes until it is dropped.
#[derive(Debug)]
struct Place {
    streams: Arc<Streams>,
    names: Vec<String>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.streams.lock();
        for name in &self.names {
            if let Some(open) = all.get_mut(name) {
                *open -= 1;
                if *open == 0 {
                    all.remove(name);
                }
            }
        }
    }
}

/// Who opened a stream, and what they held then of the rights that it shows something by.
#[derive(Clone)]
struct Opener {
    app: App,
    caller: Caller,
    held: Vec<(Right, Option<Scope>)>,
}

impl Opener {
    /// Whether the caller may still do what they could when the stream was opened. It cannot be told while Redis or
    /// Postgres is away: a stream that ends is opened again, one that should have ended tells too much.
    async fn holds(&self) -> bool {
        let Ok(now) = access::again(&self.app, &self.caller).await else {
            return false;
        };
        let mut held = self.held.iter();
        held.all(|(right, scope)| now.scope(*right).ok() == *scope)
    }

    async fn until_it_does_not(&self) {
        if self.caller.is_stranger() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(ASK_AGAIN).await;
            if !self.holds().await {
                return;
            }
        }
    }
}

impl Public {
    /// A stream of news that the caller may follow as long as they hold what they hold of `rights`. News that everybody may
    /// hear name none.
    pub fn stream<T: Send + 'static>(
        &self,
        rights: &[Right],
        news: impl futures_util::Stream<Item = T> + Send + 'static,
    ) -> Result<EventStream<BoxStream<'static, T>>> {
        let Access {
            app,
            caller,
            streams,
            network,
            ..
        } = &self.access;
        let known = (!caller.is_stranger()).then(|| self.known_as());
        let place = streams.admit(known, format!("network:{network}"))?;
        let opener = Opener {
            app: app.clone(),
            caller: caller.clone(),
            held: rights
                .iter()
                .map(|right| (*right, caller.scope(*right).ok()))
                .collect(),
        };
        let (asked, watched) = (opener.clone(), opener);
        let is_for_everybody = rights.is_empty() || asked.caller.is_stranger();
        let news = news.then(move |item| {
            let asked = (!is_for_everybody).then(|| asked.clone());
            async move {
                match asked {
                    Some(opener) => opener.holds().await.then_some(item),
                    None => Some(item),
                }
            }
        });
        let news = news.take_while(|item| std::future::ready(item.is_some()));
        let news = news.filter_map(std::future::ready);
        let (end, longest) = (self.until_the_end(), app.config.http.stream_longest.0);
        let over = async move {
            tokio::select! {
                () = end => {}
                () = tokio::time::sleep(longest) => {}
                () = watched.until_it_does_not() => {}
            }
            drop(place);
        };
        let news = news.take_until(Box::pin(over)).boxed();
        Ok(EventStream::new(news).keep_alive(STILL_HERE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(per_caller: usize, per_network: usize) -> Arc<Streams> {
        Arc::new(Streams {
            per_caller,
            per_network,
            open: Mutex::default(),
        })
    }

    #[test]
    fn a_caller_and_a_network_have_no_more_streams_than_they_may() {
        let streams = streams(1, 2);
        let admit = |caller: Option<&str>, network: &str| {
            streams.admit(caller.map(str::to_owned), network.to_owned())
        };
        let ada = admit(Some("ada"), "a").expect("room");
        admit(Some("ada"), "b").expect_err("one each");
        let _stranger = admit(None, "a").expect("room");
        admit(None, "a").expect_err("two of the network");
        // A refusal takes no room.
        admit(Some("ben"), "a").expect_err("two of the network");
        let _ben = admit(Some("ben"), "b").expect("room");
        drop(ada);
        let _ada = admit(Some("ada"), "a").expect("room again");
    }

    #[test]
    fn what_is_closed_is_forgotten() {
        let streams = streams(1, 1);
        drop(streams.admit(Some("ada".to_owned()), "a".to_owned()));
        assert!(streams.lock().is_empty());
    }
}
