//! Places in Redis: the scripts held against a model, on one server and on a cluster, and what they stand.

mod books;
mod event;
mod failover;
mod faults;
mod holds;
mod model;
mod run;
pub mod servers;
mod steps;

use std::cell::Cell;

use proptest::test_runner::{Config, TestRunner};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use run::Run;
use servers::Cluster;
use shared::ids;
use steps::story;
use tokio::runtime::{Builder, Runtime};

const EVENTS: usize = 3;
const STEPS: usize = 125;

/// Tells stories until one is not borne out. That one is made as short as can be, printed, and kept beside the tests
/// by its seed, so that it is told again first the next time.
fn tell(
    runtime: &Runtime,
    connection: &(impl ConnectionLike + Clone + Send),
    own_server: bool,
    stories: u32,
) {
    let config = Config {
        cases: stories,
        max_shrink_iters: 1_000,
        source_file: Some(file!()),
        test_name: Some("stock"),
        ..Config::default()
    };
    let prefix = format!("model:{}", ids::fresh(tests::start_of_time()));
    let told = Cell::new(0);
    let outcome = TestRunner::new(config).run(&story(EVENTS, STEPS), |(shapes, steps)| {
        told.set(told.get() + 1);
        let prefix = format!("{prefix}:{}", told.get());
        let mut run = Run::new(connection, &prefix, own_server, &shapes);
        runtime.block_on(run.run(&steps));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert!(told.get() >= stories);
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

#[test]
fn the_scripts_do_what_the_model_does() {
    let runtime = runtime();
    let client = redis::Client::open(tests::env("REDIS_URL")).expect("an address");
    let connection = runtime.block_on(client.get_multiplexed_async_connection());
    let connection: MultiplexedConnection = connection.expect("Redis answers");
    tell(&runtime, &connection, false, 80);
}

#[test]
fn they_do_so_on_a_cluster() {
    let runtime = runtime();
    let cluster = runtime.block_on(Cluster::start());
    let connection = runtime.block_on(cluster.connection());
    runtime.block_on(async {
        let shapes = vec![(vec![1], vec![1]); EVENTS];
        let mut run = Run::new(&connection, "spread", true, &shapes);
        run.begin().await;
        let keys = cluster.keys().await;
        run.end().await;
        assert!(
            keys.iter().all(|number| *number > 0),
            "each node has an event: {keys:?}"
        );
        assert_eq!(cluster.keys().await, [0, 0, 0]);
    });
    tell(&runtime, &connection, true, 80);
    runtime.block_on(cluster.remove());
}
