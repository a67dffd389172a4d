//! The connection to Redis that all commands and scripts share.
//!
//! It comes back by itself when it breaks, and also when it does not: a server that has become a replica in a failover
//! keeps its connections and refuses every write on them, and a machine that has lost its power or its network leaves
//! connections on which no answer ever comes. TCP takes a quarter of an hour to notice that. The address leads to
//! the new primary only when it is looked up and connected to again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value,
};
use tokio::sync::watch;
use tokio::time::Instant;

/// While the address still leads to the server that was left, it is connected to so often and no more.
const REPLACED_AT_MOST_EVERY: Duration = Duration::from_millis(250);

/// Cheap to clone: all clones share one connection.
#[derive(Clone)]
pub struct RedisConnection(Arc<Inner>);

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisConnection").finish_non_exhaustive()
    }
}

struct Inner {
    client: redis::Client,
    current: watch::Sender<Current>,
}

struct Current {
    manager: ConnectionManager,
    /// How many there were before it.
    number: u64,
    since: Instant,
}

impl RedisConnection {
    /// Connects with the first command.
    pub fn new(client: redis::Client) -> RedisResult<Self> {
        let current = Current {
            manager: manager(&client)?,
            number: 0,
            since: Instant::now(),
        };
        let (current, _) = watch::channel(current);
        Ok(Self(Arc::new(Inner { client, current })))
    }

    /// To the server at this address.
    pub fn to(url: &str) -> RedisResult<Self> {
        Self::new(redis::Client::open(url)?)
    }

    /// Ends when commands go over another connection than now. A subscription ends with it, because it hears nothing
    /// on the server that was left.
    pub fn replaced(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut current = self.0.current.subscribe();
        async move {
            if current.changed().await.is_err() {
                // Without any connection left there is nothing to leave it for.
                std::future::pending::<()>().await;
            }
        }
    }

    /// For subscriptions, which need a connection of their own.
    #[must_use]
    pub fn client(&self) -> &redis::Client {
        &self.0.client
    }

    fn current(&self) -> (u64, ConnectionManager) {
        let current = self.0.current.borrow();
        (current.number, current.manager.clone())
    }

    /// Leaves the connection on which a command failed. Answers whether there is another one now.
    fn replace(&self, left: u64, fault: ServerFault) -> bool {
        self.0.current.send_if_modified(|current| {
            if current.number != left || current.since.elapsed() < REPLACED_AT_MOST_EVERY {
                return false;
            }
            match manager(&self.0.client) {
                Ok(manager) => {
                    tracing::warn!(
                        ?fault,
                        "Redis is no server to write to now: connecting again"
                    );
                    metrics::counter!("holdfast_redis_replaced_total").increment(1);
                    *current = Current {
                        manager,
                        number: left + 1,
                        since: Instant::now(),
                    };
                    true
                }
                Err(error) => {
                    tracing::error!(?fault, %error, "Redis cannot be connected to again");
                    false
                }
            }
        });
        self.0.current.borrow().number != left
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        async move {
            let (number, mut manager) = self.current();
            let answer = manager.send_packed_command(cmd).await;
            let fault = match &answer {
                Ok(value) => fault_told(value),
                Err(error) => fault_of(error),
            };
            // What was refused was not carried out; of what was not answered it is not known.
            if let Some(fault) = fault
                && self.replace(number, fault)
                && fault == ServerFault::WritesRefused
            {
                let (_, mut manager) = self.current();
                return manager.send_packed_command(cmd).await;
            }
            answer
        }
        .boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move {
            let (number, mut manager) = self.current();
            let answers = manager.send_packed_commands(pipeline, offset, count).await;
            let fault = match &answers {
                Ok(values) => values.iter().find_map(fault_told),
                Err(error) => fault_of(error),
            };
            // Not sent again: a part of it may have been carried out.
            if let Some(fault) = fault {
                self.replace(number, fault);
            }
            answers
        }
        .boxed()
    }

    fn get_db(&self) -> i64 {
        self.current().1.get_db()
    }
}

fn manager(client: &redis::Client) -> RedisResult<ConnectionManager> {
    let patience = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(Duration::from_secs(2)))
        .set_max_delay(Duration::from_millis(500))
        .set_number_of_retries(1);
    ConnectionManager::new_lazy_with_config(client.clone(), patience)
}

/// What tells that the server at the other end is not the primary any more, or not one to write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerFault {
    /// By a replica; by one that has lost its primary, maybe everything; and by a primary whose replicas have left it.
    WritesRefused,
    /// No answer came in time.
    Silent,
}

fn fault_told(value: &Value) -> Option<ServerFault> {
    match value {
        Value::ServerError(error) => fault_of(&error.clone().into()),
        _ => None,
    }
}

fn fault_of(error: &RedisError) -> Option<ServerFault> {
    let refused = ErrorKind::Server(ServerErrorKind::ReadOnly);
    let lost = ErrorKind::Server(ServerErrorKind::MasterDown);
    let kind = error.kind();
    if kind == refused || kind == lost || error.code() == Some("NOREPLICAS") {
        return Some(ServerFault::WritesRefused);
    }
    error.is_timeout().then_some(ServerFault::Silent)
}
