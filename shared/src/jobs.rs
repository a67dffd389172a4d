//! Stub until the engine lands.
use crate::app::Redis;
use crate::error::Result;
use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::PgConnection;
#[derive(Debug, Clone, Copy)]
pub enum Queue {
    Purchase,
    Mail,
    Background,
}
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    const KIND: &'static str;
    const QUEUE: Queue;
}
pub struct NewJob {
    pub queue: Queue,
}
impl NewJob {
    pub fn new<J: Job>(_job: &J, _now: DateTime<Utc>) -> Result<Self> {
        Ok(Self { queue: J::QUEUE })
    }
}
pub async fn insert(_db: &mut PgConnection, _jobs: &[NewJob]) -> Result<()> {
    Ok(())
}
pub fn wake(_redis: &Redis, _jobs: &[NewJob]) {}
pub async fn install(_pool: &sqlx::PgPool) -> anyhow::Result<()> {
    Ok(())
}
