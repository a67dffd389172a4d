//! The project's `migrations` folder, run on a throwaway database as its files are at this moment.
//!
//! Whoever changes the schema needs it before the changed queries compile, so this must not depend on them: the
//! migrations that `holdfast migrate` runs are part of `shared`, and so are the queries.

use std::path::Path;

use apalis_postgres::PostgresStorage;
use sqlx::PgPool;
use sqlx::migrate::Migrator;

pub async fn run(database_url: &str) -> anyhow::Result<()> {
    let pool = PgPool::connect(database_url).await?;
    // Queries on jobs are checked too, against the tables that the job engine brings along.
    PostgresStorage::setup(&pool).await?;
    Migrator::new(Path::new("migrations"))
        .await?
        .run(&pool)
        .await?;
    pool.close().await;
    Ok(())
}
