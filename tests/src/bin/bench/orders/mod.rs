//! What buying costs: orders of one hot event, from the request to the ticket, through an API, a worker and Postgres as
//! an installation has them, each in a process of its own. Beside it what the same Postgres can do at best.

mod ceiling;
mod load;
mod shop;
mod waiting;

use serde::Serialize;

use crate::sql;
use ceiling::Ceiling;
use load::{Burst, Steady};
use shop::Shop;
use waiting::Waiting;

/// Orders in one go, and a second.
const FREE: usize = 12_000;
const CARD: usize = 4_000;
const RATE: u32 = 500;
const CARD_RATE: u32 = 100;

#[derive(Serialize)]
pub struct Report {
    synchronous_commit: String,
    fsync: String,
    ceiling: Ceiling,
    stand_in_per_second: f64,
    free: Kind,
    card: Kind,
    waiting: Waiting,
}

#[derive(Serialize)]
struct Kind {
    burst: Burst,
    to_ceiling: f64,
    steady: Steady,
}

pub async fn measure(server: &str, redis: &str) -> anyhow::Result<Report> {
    let mut shop = Shop::open(server, redis).await?;
    let ceiling = ceiling::measure(&shop.database).await?;
    let stand_in_per_second = ceiling::stand_in(&shop.stripe).await?;
    let free = kind(&shop, 0, FREE, RATE, &ceiling).await?;
    let card = kind(&shop, 4_500, CARD, CARD_RATE, &ceiling).await?;
    let waiting = waiting::measure(&mut shop).await?;
    let report = Report {
        synchronous_commit: shop.setting("show synchronous_commit").await?,
        fsync: shop.setting("show fsync").await?,
        ceiling,
        stand_in_per_second,
        free,
        card,
        waiting,
    };
    shop.close(server).await?;
    Ok(report)
}

async fn kind(
    shop: &Shop,
    price: i64,
    orders: usize,
    rate: u32,
    ceiling: &Ceiling,
) -> anyhow::Result<Kind> {
    let offer = shop.offer(price).await?;
    // The first ones find everything cold.
    load::burst(shop, &offer, orders / 10).await?;
    // As autovacuum does within a minute: until then Postgres keeps plans that it made while the tables were empty.
    sql(&shop.database, "analyze".to_owned()).await?;
    let steady = load::steady(shop, &offer, rate).await?;
    let burst = load::burst(shop, &offer, orders).await?;
    Ok(Kind {
        to_ceiling: burst.paid_per_second / ceiling.per_second,
        burst,
        steady,
    })
}

pub fn print(report: &Report) -> anyhow::Result<()> {
    println!(
        "Orders of one hot event, fsync {}, synchronous_commit {}",
        report.fsync, report.synchronous_commit
    );
    println!(
        "  ceiling: one bare transaction each   {:>7.0} a second, {} connections",
        report.ceiling.per_second, report.ceiling.connections
    );
    println!(
        "  the stand-in for Stripe, by itself   {:>7.0} payments a second",
        report.stand_in_per_second
    );
    for (name, kind) in [("free", &report.free), ("card", &report.card)] {
        let (burst, steady) = (&kind.burst, &kind.steady);
        println!(
            "  {name}: {} at once, accepted      {:>7.0} a second",
            burst.orders, burst.accepted_per_second
        );
        println!(
            "  {name}: all of them paid             {:>7.0} a second, {:.0} % of the ceiling; all is done {:.1} s later",
            burst.paid_per_second,
            kind.to_ceiling * 100.0,
            burst.done_seconds_later
        );
        println!(
            "  {name}: {} a second, accepted       {:>7.1} ms p50, {:.1} ms p99",
            steady.rate, steady.accepted_p50_ms, steady.accepted_p99_ms
        );
        println!(
            "  {name}: {} a second, paid           {:>7.1} ms p50, {:.1} ms p99",
            steady.rate, steady.paid_p50_ms, steady.paid_p99_ms
        );
    }
    let waiting = &report.waiting;
    println!(
        "  {} who wait for {} s                {:>7} connections to Postgres used, all answered {:.1} s after it goes on",
        waiting.clients, waiting.seconds, waiting.connections_used, waiting.answered_within_seconds
    );
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}
