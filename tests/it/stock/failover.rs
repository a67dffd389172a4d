//! Redis and Postgres after a failover and after a restart, and Postgres with commits lost; and what is true afterwards.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use holdfast::services::{Place, Promise, Services};
use redis::aio::MultiplexedConnection;
use shared::Error;
use shared::clock::Clock;
use shared::stock::{
    FARTHEST_CLOCK, LONGEST_ORDERING, Placed, compare_after_change, place, reconcile, watch,
};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tests::{world, world_with};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::faults::{event, level};
use super::servers::{eventually, with_own_redis};

/// Two servers of one password, the second a replica of the first, and an address that leads to one of them.
struct Pair {
    servers: [Services; 2],
    leads_to: Arc<Mutex<String>>,
    address: String,
    proxy: JoinHandle<()>,
    _home: TempDir,
}

impl Pair {
    async fn start() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let mut servers = Vec::new();
        for _ in 0..2 {
            let place = Place::throwaway(home.path()).await.expect("a place");
            place.write("password", "pair").expect("a password");
            let mut server = Services::of(place).await.expect("a place");
            let started = server.start_redis(Promise::Fast).await;
            started.expect("Redis starts");
            servers.push(server);
        }
        let Ok(servers) = <[Services; 2]>::try_from(servers) else {
            panic!("two servers");
        };
        let leads_to = Arc::new(Mutex::new(address_of(&servers[0])));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let proxy = tokio::spawn(lead(listener, Arc::clone(&leads_to)));
        let pair = Self {
            servers,
            leads_to,
            address,
            proxy,
            _home: home,
        };
        for server in &pair.servers {
            let mut masterauth = redis::cmd("CONFIG");
            masterauth.arg("SET").arg("masterauth").arg("pair");
            let set = masterauth.exec_async(&mut connect(server).await).await;
            set.expect("Redis answers");
        }
        pair.follow(1, 0).await;
        pair
    }

    fn url(&self) -> String {
        format!("redis://:pair@{}/", self.address)
    }

    /// Makes one a replica of the other, and waits until it knows all.
    async fn follow(&self, replica: usize, primary: usize) {
        let to = address_of(&self.servers[primary]);
        let (host, port) = to.rsplit_once(':').expect("a port");
        let mut replica = connect(&self.servers[replica]).await;
        let mut follow = redis::cmd("REPLICAOF");
        let following = follow.arg(host).arg(port).exec_async(&mut replica).await;
        following.expect("Redis answers");
        eventually("the replica is linked", async || {
            let info = redis::cmd("INFO").arg("replication").to_owned();
            let info: String = info.query_async(&mut replica).await.expect("an answer");
            info.contains("master_link_status:up")
        })
        .await;
    }

    /// The second becomes the primary, and the first its replica; connections are kept.
    async fn fail_over(&self) {
        self.promote().await;
        self.follow(0, 1).await;
    }

    /// The second becomes a primary too, with all that the first knows.
    async fn promote(&self) {
        let mut primary = connect(&self.servers[0]).await;
        let mut wait = redis::cmd("WAIT");
        let told: i64 = wait
            .arg(1)
            .arg(10_000)
            .query_async(&mut primary)
            .await
            .expect("an answer");
        assert_eq!(told, 1, "the replica knows what the primary knows");
        let mut promote = redis::cmd("REPLICAOF");
        let mut second = connect(&self.servers[1]).await;
        let promoted = promote.arg("NO").arg("ONE").exec_async(&mut second).await;
        promoted.expect("Redis answers");
    }

    fn lead_to(&self, server: usize) {
        *self.leads_to.lock().expect("a lock") = address_of(&self.servers[server]);
    }

    async fn remove(self) {
        self.proxy.abort();
        for server in self.servers {
            server.remove().await.expect("it ends");
        }
    }
}

fn address_of(server: &Services) -> String {
    let client = redis::Client::open(server.redis.as_ref().expect("Redis").url());
    let client = client.expect("an address");
    client.get_connection_info().addr().to_string()
}

async fn connect(server: &Services) -> MultiplexedConnection {
    let url = server.redis.as_ref().expect("Redis").url();
    let client = redis::Client::open(url).expect("an address");
    let connection = client.get_multiplexed_async_connection().await;
    connection.expect("Redis answers")
}

/// Each new connection goes where the address leads now; the ones that are there stay.
async fn lead(listener: TcpListener, leads_to: Arc<Mutex<String>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut from, _)) = listener.accept().await {
        let to = leads_to.lock().expect("a lock").clone();
        let Ok(mut to) = TcpStream::connect(to).await else {
            continue;
        };
        connections.spawn(async move { copy_bidirectional(&mut from, &mut to).await });
    }
}

async fn connections_received(server: &Services) -> u64 {
    let mut redis = connect(server).await;
    let mut info = redis::cmd("INFO");
    let info: redis::InfoDict = info
        .arg("stats")
        .query_async(&mut redis)
        .await
        .expect("an answer");
    info.get("total_connections_received").expect("a number")
}

#[tokio::test]
async fn after_a_failover_redis_is_connected_to_again() {
    let pair = Pair::start().await;
    world_with(&[("REDIS_URL", &pair.url())], async |world| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.take(app, 2).await;
        pair.fail_over().await;

        // The address leads to the replica still, which is asked again and again, but not connected to each time.
        let before = connections_received(&pair.servers[0]).await;
        for _ in 0..200 {
            let refused = place(app, &event.hold(app, 1)).await;
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        }
        let connections = connections_received(&pair.servers[0]).await - before;
        assert!(connections < 100, "{connections} connections");

        pair.lead_to(1);
        eventually("places are held again", async || {
            let placed = place(app, &event.hold(app, 1)).await;
            matches!(placed, Ok(Placed::Placed { .. }))
        })
        .await;
        assert_eq!(event.level(app).await.0, level(20, 0, 3));
        // Sessions and limits go the same way, and what is told to other processes.
        let new = world.stranger().get("/events").await;
        assert_eq!(new.status, 200);
        let channel = app.redis.key("changed");
        let mut second = connect(&pair.servers[1]).await;
        eventually("changes are heard at the new primary", async || {
            let mut subscribers = redis::cmd("PUBSUB");
            let number: (String, i64) = subscribers
                .arg("NUMSUB")
                .arg(&channel)
                .query_async(&mut second)
                .await
                .expect("an answer");
            number.1 > 0
        })
        .await;
        let compared = compare_after_change(app).await.expect("both answer");
        assert!(compared.is_some(), "another Redis is compared");
    })
    .await;
    pair.remove().await;
}

#[tokio::test]
async fn a_command_is_sent_again_to_the_new_primary_at_once() {
    let pair = Pair::start().await;
    world_with(&[("REDIS_URL", &pair.url())], async |world| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.take(app, 2).await;
        // A connection that is younger is not left.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        pair.lead_to(1);
        pair.fail_over().await;
        event.take(app, 3).await;
        assert_eq!(event.level(app).await.0, level(20, 0, 5));
    })
    .await;
    pair.remove().await;
}

/// As when the machine of the primary is gone: connections to it stay open, and nothing is answered on them.
#[tokio::test]
async fn a_redis_that_answers_no_more_is_left_for_the_new_primary() {
    let mut pause = redis::cmd("CLIENT");
    pause.arg("PAUSE").arg(120_000).arg("ALL");
    is_left_for_the_new_primary_after(&pause).await;
}

/// As when the network is cut between the primary and its replicas, one of which has taken over.
#[tokio::test]
async fn a_redis_that_has_lost_its_replicas_is_left_for_the_new_primary() {
    let mut least = redis::cmd("CONFIG");
    least.arg("SET").arg("min-replicas-to-write").arg(1);
    is_left_for_the_new_primary_after(&least).await;
}

async fn is_left_for_the_new_primary_after(fault: &redis::Cmd) {
    let pair = Pair::start().await;
    world_with(&[("REDIS_URL", &pair.url())], async |world| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.take(app, 2).await;
        pair.promote().await;
        let made = fault.exec_async(&mut connect(&pair.servers[0]).await).await;
        made.expect("Redis answers");
        let refused = place(app, &event.hold(app, 1)).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");

        pair.lead_to(1);
        eventually("places are held again", async || {
            let placed = place(app, &event.hold(app, 1)).await;
            matches!(placed, Ok(Placed::Placed { .. }))
        })
        .await;
        assert_eq!(event.level(app).await.0, level(20, 0, 3));
    })
    .await;
    pair.remove().await;
}

#[tokio::test]
async fn a_redis_that_was_restarted_is_compared_at_once() {
    with_own_redis(async |world, redis| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.take(app, 2).await;
        compare_after_change(app).await.expect("both answer");
        let none = compare_after_change(app).await.expect("both answer");
        assert_eq!(none, None, "nothing has changed");
        // What Redis was not told of.
        event.sell(app, 4).await.expect("places");
        redis.kill().await;
        redis.start_again().await;
        event.is_live_again(app).await;
        let watching = tokio::spawn(watch(app.clone()));
        eventually("Redis is told", async || {
            event.level(app).await.0 == level(20, 4, 2)
        })
        .await;
        eventually("it is compared once", async || {
            compare_after_change(app)
                .await
                .expect("both answer")
                .is_none()
        })
        .await;
        // It forgets everything while it runs.
        event.sell(app, 1).await.expect("places");
        let flush = redis::cmd("FLUSHALL");
        let emptied = flush.exec_async(&mut app.redis.connection()).await;
        emptied.expect("Redis answers");
        assert_eq!(event.level(app).await.0, level(20, 5, 0));
        watching.abort();
    })
    .await;
}

#[tokio::test]
async fn postgres_has_the_last_word_when_it_has_lost_commits() {
    world(async |world| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.take(app, 2).await;
        let now = app.clock.now();
        let mut told = Vec::new();
        for places in [3, 4] {
            told.push(event.sell(app, places).await.expect("places"));
        }
        let settled = app.stock.settle(now, event.id, &[], &told).await;
        settled.expect("Redis answers");
        assert_eq!(event.level(app).await.0, level(20, 7, 2));
        // As a standby has it that had not heard of the last two.
        let lost =
            "update pools set sold = 0, sold_elsewhere = 0, version = version - 2 where id = $1";
        let lost = sqlx::query(lost).bind(event.session).execute(app.pool());
        lost.await.expect("Postgres");

        reconcile(app).await.expect("both answer");
        assert_eq!(event.level(app).await.0, level(20, 0, 2));
        // What is sold next has a version that Redis has heard of before.
        let next = event.sell(app, 1).await.expect("places");
        let settled = app.stock.settle(now, event.id, &[], &[next]).await;
        settled.expect("Redis answers");
        assert_eq!(event.level(app).await.0, level(20, 1, 2));
    })
    .await;
}

#[tokio::test]
async fn what_redis_hears_while_postgres_is_read_is_not_taken_for_lost() {
    world(async |world| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.take(app, 2).await;
        let now = app.clock.now();
        let heard = app.stock.heard(event.id).await.expect("Redis answers");
        let mut db = app.read().await.expect("Postgres");
        let read = shared::stock::Durable::read(&mut db, event.id).await;
        let read = read.expect("Postgres").after(&heard);
        drop(db);
        let told = event.sell(app, 5).await.expect("places");
        let settled = app.stock.settle(now, event.id, &[], &[told]).await;
        settled.expect("Redis answers");
        app.stock.restore(now, &read).await.expect("Redis answers");
        assert_eq!(event.level(app).await.0, level(20, 5, 2));
    })
    .await;
}

#[tokio::test]
async fn a_time_far_from_the_clock_of_redis_ends_no_holds() {
    world(async |world| {
        let app = &world.app;
        let event = event(world, 20).await;
        let (stock, now) = (app.stock.clone(), Clock::System.now());
        let stock = stock.with_farthest_clock(Some(FARTHEST_CLOCK));
        let mut hold = event.hold(app, 3);
        hold.deadline = now + TimeDelta::seconds(20);
        event.level(app).await;
        let placed = stock.place(now, &hold).await.expect("Redis answers");
        assert!(matches!(placed, Placed::Placed { .. }), "{placed:?}");

        let far = FARTHEST_CLOCK + TimeDelta::seconds(10);
        for wrong in [now + far, now - far] {
            let refused = stock.read(wrong, event.id).await;
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
            let refused = stock.read_many(wrong, &[event.id]).await;
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
            let refused = stock.release(wrong, event.id, hold.id, None).await;
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        }
        let levels = stock.read(now, event.id).await.expect("Redis answers");
        assert_eq!(levels.expect("it is known")[&event.session].held, 3);
        stock.forget(event.id).await.expect("Redis answers");
    })
    .await;
}

/// An order is asked for again after an outage, with the same key, by a process whose clock is a minute late.
#[tokio::test]
async fn a_hold_that_is_asked_for_again_is_kept_for_its_order() {
    world(async |world| {
        let app = &world.app;
        let event = event(world, 20).await;
        let mut by_items = event.hold(app, 2);
        by_items.ordered = true;
        let by_hold = event.hold(app, 3);
        for hold in [&by_items, &by_hold] {
            place(app, hold).await.expect("Redis answers");
        }
        let attach = async || {
            let late = app.clock.now() - TimeDelta::minutes(1);
            let stock = &app.stock;
            let attached = stock
                .attach(
                    late,
                    event.id,
                    by_hold.id,
                    &by_hold.proof,
                    uuid::Uuid::from_u128(9),
                )
                .await;
            attached.expect("Redis answers").expect("it lives")
        };
        assert!(attach().await);
        world.pass(LONGEST_ORDERING - TimeDelta::seconds(61));
        place(app, &by_items).await.expect("Redis answers");
        assert!(!attach().await);
        world.pass(TimeDelta::seconds(90));
        reconcile(app).await.expect("both answer");
        assert_eq!(event.level(app).await.0, level(20, 0, 5));
        // Nobody comes back for them.
        world.pass(LONGEST_ORDERING);
        reconcile(app).await.expect("both answer");
        assert_eq!(event.level(app).await.0, level(20, 0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_postgres_that_was_restarted_is_compared_at_once() {
    let home = tempfile::tempdir().expect("a folder");
    let mut services = Services::throwaway(home.path()).await.expect("a place");
    let started = services.start_postgres(Promise::Durable).await;
    let url = started.expect("Postgres starts").url();
    tests::migrate(&url).await;
    world_with(&[("DATABASE_URL", &url)], async |world| {
        let app = &world.app;
        let event = event(world, 20).await;
        event.take(app, 2).await;
        compare_after_change(app).await.expect("both answer");
        let told = [event.sell(app, 3).await.expect("places")];
        let settled = app.stock.settle(app.clock.now(), event.id, &[], &told);
        settled.await.expect("Redis answers");
        assert_eq!(compare_after_change(app).await.expect("both answer"), None);
        let lost =
            "update pools set sold = 0, sold_elsewhere = 0, version = version - 1 where id = $1";
        let lost = sqlx::query(lost).bind(event.session).execute(app.pool());
        lost.await.expect("Postgres");
        let postgres = services.postgres.as_mut().expect("Postgres");
        postgres.abandon().await.expect("it is gone");
        postgres.start_again().await.expect("it is back");
        eventually("Postgres is another one", async || {
            matches!(compare_after_change(app).await, Ok(Some(_)))
        })
        .await;
        assert_eq!(event.level(app).await.0, level(20, 0, 2));
    })
    .await;
    services.remove().await.expect("it ends");
}

/// As when the old primary is back before the address leads to the new one.
#[tokio::test]
async fn no_connection_to_a_standby_is_kept() {
    let home = tempfile::tempdir().expect("a folder");
    let mut services = Services::throwaway(home.path()).await.expect("a place");
    let started = services.start_postgres(Promise::Durable).await;
    let url = started.expect("Postgres starts").url();
    tests::migrate(&url).await;
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("HOLDFAST_DATABASE_ACQUIRE_TIMEOUT", "500ms"),
    ];
    world_with(&settings, async |world| {
        let app = &world.app;
        let event = event(world, 20).await;
        let operator = url.replace("//holdfast:", "//postgres:");
        let mut db = PgConnection::connect(&operator).await.expect("Postgres");
        let folder: String = sqlx::query_scalar("show data_directory")
            .fetch_one(&mut db)
            .await
            .expect("its folder");
        let postgres = services.postgres.as_mut().expect("Postgres");
        postgres.stop().await.expect("it is gone");
        let signal = std::path::Path::new(&folder).join("standby.signal");
        std::fs::write(signal, "").expect("its folder");
        postgres.start_again().await.expect("it is back");

        // A connection that was of use a moment ago is handed out once more before it is known to be cut.
        eventually("no connection is handed out", async || {
            matches!(app.read().await, Err(Error::Unavailable(_)))
        })
        .await;
        let new = serde_json::json!({"email": "a@example.org", "password": "wrong"});
        let refused = world.stranger().post("/auth/login", &new).await;
        refused.refused(503, "UNAVAILABLE");

        let mut db = PgConnection::connect(&operator).await.expect("Postgres");
        sqlx::query("select pg_promote()")
            .execute(&mut db)
            .await
            .expect("it is a primary");
        eventually("Postgres is read again", async || app.read().await.is_ok()).await;
        event.sell(app, 1).await.expect("places");
    })
    .await;
    services.remove().await.expect("it ends");
}
