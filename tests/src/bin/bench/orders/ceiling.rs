//! What the servers can do at best.

use std::time::{Duration, Instant};

use serde::Serialize;
use shared::clock::Clock;
use shared::ids;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use stripe_api::{NewPayment, Settings};
use tokio::task::JoinSet;
use uuid::Uuid;

const SPAN: Duration = Duration::from_secs(3);
const CONNECTIONS: [usize; 5] = [1, 2, 4, 8, 16];
const PAYING: usize = 32;
const TABLES: &str = "
    create table bare_pools (id int primary key, sold int not null);
    create table bare_orders (id uuid primary key, email text not null, total bigint not null);
    insert into bare_pools values (1, 0)";

/// The number of connections with which it was best.
#[derive(Serialize)]
pub struct Ceiling {
    pub per_second: f64,
    pub connections: usize,
}

/// Transactions that insert an order and take its place of the one pool, and do nothing else.
pub async fn measure(database: &str) -> anyhow::Result<Ceiling> {
    let options: PgConnectOptions = database.parse()?;
    let mut connection = options.connect().await?;
    sqlx::raw_sql(TABLES).execute(&mut connection).await?;
    let mut best = Ceiling {
        per_second: 0.0,
        connections: 0,
    };
    for connections in CONNECTIONS {
        let mut buyers = JoinSet::new();
        for _ in 0..connections {
            buyers.spawn(buy(options.clone()));
        }
        let per_second = rate(buyers).await?;
        if per_second > best.per_second {
            best = Ceiling {
                per_second,
                connections,
            };
        }
    }
    Ok(best)
}

async fn buy(options: PgConnectOptions) -> anyhow::Result<usize> {
    let mut connection = options.connect().await?;
    let (mut bought, until) = (0, Instant::now() + SPAN);
    while Instant::now() < until {
        let id: Uuid = ids::fresh(Clock::System.now());
        let mut tx = connection.begin().await?;
        sqlx::query("insert into bare_orders values ($1, 'ada@example.org', 0)")
            .bind(id)
            .execute(&mut *tx)
            .await?;
        sqlx::query("update bare_pools set sold = sold + 1 where id = 1")
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        bought += 1;
    }
    Ok(bought)
}

#[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
async fn rate(mut all: JoinSet<anyhow::Result<usize>>) -> anyhow::Result<f64> {
    let mut done = 0;
    while let Some(each) = all.join_next().await {
        done += each??;
    }
    Ok(done as f64 / SPAN.as_secs_f64())
}

/// Payments by card that the stand-in for Stripe takes, asked as a worker asks.
pub async fn stand_in(url: &str) -> anyhow::Result<f64> {
    let stripe = stripe_api::Client::new(Settings {
        secret_key: Some("sk_test_bench".into()),
        url: url.to_owned(),
        timeout: Duration::from_secs(10),
        attempts: 1,
    })?;
    let new = NewPayment {
        amount_minor: 4_500,
        currency: "EUR".to_owned(),
        method: Some("pm_card_visa".to_owned()),
        confirm: true,
        metadata: [].into(),
        description: None,
        return_url: None,
    };
    let mut payers = JoinSet::new();
    for _ in 0..PAYING {
        let (stripe, new) = (stripe.clone(), new.clone());
        payers.spawn(async move {
            let (mut paid, until) = (0, Instant::now() + SPAN);
            while Instant::now() < until {
                let key = ids::fresh(Clock::System.now()).to_string();
                stripe.create_payment(&new, &key).await?;
                paid += 1;
            }
            anyhow::Ok(paid)
        });
    }
    rate(payers).await
}
