//! A database and a Redis prefix of a test's own, and what tests do there.

use std::process::Stdio;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use shared::clock::Clock;
use shared::jobs::{self, Job, NewJob};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row as _};
use tests::queue::{Act, Probe, config, engine, registry};
use tests::{Database, env};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use worker::EngineError;

pub struct Place {
    pub pool: PgPool,
    pub database: String,
    pub redis_url: String,
    pub prefix: String,
    /// Nothing if the database is on a server of its own, and goes with that.
    to_remove: Option<Database>,
}

/// A running engine, stopped by its end.
pub struct Running {
    pub stop: CancellationToken,
    pub task: JoinHandle<Result<(), EngineError>>,
}

impl Running {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }
}

/// The real time, as the engine has it.
pub fn now() -> DateTime<Utc> {
    Clock::System.now()
}

impl Place {
    pub async fn new() -> Self {
        let database = Database::from_template().await;
        let (url, prefix) = (database.url.clone(), database.name.clone());
        Self::at(url, prefix, Some(database)).await
    }

    /// On a server that the test has for itself.
    pub async fn elsewhere(url: String) -> Self {
        tests::migrate(&url).await;
        let prefix = format!("test_{}", shared::ids::fresh(now()).simple());
        Self::at(url, prefix, None).await
    }

    async fn at(url: String, prefix: String, to_remove: Option<Database>) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .connect(&url)
            .await
            .expect("the new database");
        sqlx::query(tests::queue::RUNS)
            .execute(&pool)
            .await
            .expect("the table of the tests");
        Self {
            pool,
            database: url,
            redis_url: env("REDIS_URL"),
            prefix,
            to_remove,
        }
    }

    pub fn engine(&self) -> worker::Engine<PgPool> {
        engine(
            self.pool.clone(),
            &self.redis_url,
            &self.prefix,
            config().jobs,
        )
    }

    pub fn start(&self) -> Running {
        start(self.engine())
    }

    /// A worker in a process of its own.
    pub fn process(&self, concurrency: usize) -> Child {
        Command::new(env!("CARGO_BIN_EXE_test_worker"))
            .args([
                &self.database,
                &self.redis_url,
                &self.prefix,
                &concurrency.to_string(),
            ])
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a worker process")
    }

    pub async fn enqueue_all(&self, jobs: &[NewJob]) {
        let mut tx = self.pool.begin().await.expect("a transaction");
        jobs::insert(&mut tx, jobs).await.expect("written");
        tx.commit().await.expect("committed");
    }

    pub async fn enqueue<J: Job>(&self, job: &J) -> String {
        let job = NewJob::new(job, now());
        self.enqueue_all(std::slice::from_ref(&job)).await;
        job.id().to_owned()
    }

    pub async fn probe(&self, name: &str, act: Act) -> String {
        self.enqueue(&Probe {
            name: name.into(),
            act,
        })
        .await
    }

    /// Runs what is due at `now`, without an engine.
    pub async fn run_due(&self, now: DateTime<Utc>) -> usize {
        worker::due::run_due(&self.pool, &registry(), &self.pool, now)
            .await
            .expect("run")
    }

    pub async fn row(&self, id: &str) -> Stored {
        sqlx::query_as("select status, attempts, run_at, lock_by, last_result ->> 'Err' as error from apalis.jobs where id = $1")
            .bind(id)
            .fetch_one(&self.pool)
            .await
            .expect("the job")
    }

    /// A number out of the database.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query(query)
            .fetch_one(&self.pool)
            .await
            .expect("an answer")
            .get(0)
    }

    pub async fn runs(&self) -> i64 {
        self.count("select count(*) from runs").await
    }

    /// Waits until the number is as wanted, for as long as is said.
    pub async fn until(&self, limit: Duration, wanted: i64, query: &'static str) {
        let begun = Instant::now();
        loop {
            // An answer may fail: some tests take the database away.
            let answer = sqlx::query(query)
                .fetch_one(&self.pool)
                .await
                .map(|row| row.get::<i64, _>(0));
            if matches!(answer, Ok(number) if number == wanted) {
                return;
            }
            assert!(
                begun.elapsed() < limit,
                "after {limit:?} still {answer:?}, not {wanted}: {query}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(database) = self.to_remove.take() else {
            return;
        };
        // On a runtime of its own: that of the test is busy dropping us.
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(database.remove());
        });
        let _ = removed.join();
    }
}

/// What a test looks at in a row of apalis.
#[derive(Debug, sqlx::FromRow)]
pub struct Stored {
    pub status: String,
    pub attempts: i32,
    pub run_at: DateTime<Utc>,
    pub lock_by: Option<String>,
    pub error: Option<String>,
}

pub fn start(engine: worker::Engine<PgPool>) -> Running {
    let stop = CancellationToken::new();
    Running {
        task: tokio::spawn(engine.run(stop.clone())),
        stop,
    }
}
