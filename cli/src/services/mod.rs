//! Private Postgres and Redis servers of a project: on free ports, with their files below `.holdfast/`, never the
//! machine's own. They are kept for development and thrown away after tests.

mod account;
mod install;
mod place;
mod postgres;
mod programs;
mod redis;
mod server;

use std::path::Path;
use std::time::Duration;

use redis::Kind;
use tokio::time::{Instant, sleep};

pub use place::{HOME, Place};
pub use postgres::Postgres;
pub use redis::Redis;
pub use server::free_port;

/// What the servers of a place promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Nothing is forced to disk: fast, and gone with the machine.
    Fast,
    /// What is committed is on disk, as in production.
    Durable,
}

/// The servers of one place.
pub struct Services {
    place: Place,
    pub postgres: Option<Postgres>,
    pub redis: Option<Redis>,
}

impl Services {
    /// Servers that last for one run, after those of killed runs are cleared away.
    pub async fn throwaway(home: &Path) -> anyhow::Result<Self> {
        for place in Place::abandoned(home).await? {
            let left_over = Self::of(place).await?;
            left_over.remove().await?;
        }
        Self::of(Place::throwaway(home).await?).await
    }

    /// The servers of this place, none of them running.
    pub async fn of(place: Place) -> anyhow::Result<Self> {
        redis::stop_orphan(&place).await?;
        postgres::stop_orphan(&place).await?;
        Ok(Self {
            place,
            postgres: None,
            redis: None,
        })
    }

    pub async fn start_postgres(&mut self, promise: Promise) -> anyhow::Result<&Postgres> {
        let programs = install::postgres().await?;
        let started = Postgres::start(&self.place, programs, promise == Promise::Durable).await?;
        Ok(self.postgres.insert(started))
    }

    pub async fn start_redis(&mut self, promise: Promise) -> anyhow::Result<&Redis> {
        self.start_kind_of_redis(match promise {
            Promise::Durable => Kind::Durable,
            Promise::Fast => Kind::Throwaway,
        })
        .await
    }

    /// A Redis that is ready to become part of a cluster.
    pub async fn start_redis_node(&mut self) -> anyhow::Result<&Redis> {
        self.start_kind_of_redis(Kind::ClusterNode).await
    }

    async fn start_kind_of_redis(&mut self, kind: Kind) -> anyhow::Result<&Redis> {
        let program = install::redis().await?;
        let started = Redis::start(&self.place, program, kind).await?;
        Ok(self.redis.insert(started))
    }

    /// Ends only when one of the servers does, and says why.
    pub async fn end(&mut self) -> anyhow::Error {
        let Self {
            postgres, redis, ..
        } = self;
        tokio::select! {
            Some(error) = ends(postgres.as_mut().map(Postgres::ends)) => error,
            Some(error) = ends(redis.as_mut().map(Redis::ends)) => error,
            else => std::future::pending().await,
        }
    }

    /// Stops what runs and keeps its data.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(mut redis) = self.redis.take() {
            redis.stop().await?;
        }
        if let Some(mut postgres) = self.postgres.take() {
            postgres.stop().await?;
        }
        Ok(())
    }

    /// Stops what runs and removes its data.
    pub async fn remove(mut self) -> anyhow::Result<()> {
        if let Some(mut redis) = self.redis.take() {
            redis.stop().await?;
        }
        if let Some(mut postgres) = self.postgres.take() {
            postgres.abandon().await?;
        }
        // A process that was killed in the middle of its start may still be writing its last file.
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.place.clear().is_err() && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
        self.place.clear()
    }
}

async fn ends(server: Option<impl Future<Output = anyhow::Error>>) -> Option<anyhow::Error> {
    match server {
        Some(server) => Some(server.await),
        None => None,
    }
}
