//! Servers that a test has for itself, so that it may harm them.

use std::time::Duration;

use holdfast::services::{Place, Promise, Services};
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use tempfile::TempDir;
use tests::{World, world_with};
use tokio::time::{Instant, sleep};

/// A Redis that keeps its data over a crash.
pub struct Own {
    services: Services,
    _home: TempDir,
}

impl Own {
    pub async fn start() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let mut services = Services::throwaway(home.path()).await.expect("a place");
        let started = services.start_redis(Promise::Durable).await;
        started.expect("Redis starts");
        Self {
            services,
            _home: home,
        }
    }

    pub fn url(&self) -> String {
        self.services.redis.as_ref().expect("Redis").url()
    }

    pub async fn stop(&mut self) {
        let redis = self.services.redis.as_mut().expect("Redis");
        redis.stop().await.expect("it stops");
    }

    pub async fn kill(&mut self) {
        let redis = self.services.redis.as_mut().expect("Redis");
        redis.kill().await.expect("it is gone");
    }

    pub async fn start_again(&mut self) {
        let redis = self.services.redis.as_mut().expect("Redis");
        redis.start_again().await.expect("it starts again");
    }

    pub async fn remove(self) {
        self.services.remove().await.expect("it ends");
    }
}

/// A world with a Redis of its own.
pub async fn with_own_redis(test: impl AsyncFnOnce(&World, &mut Own)) {
    let mut redis = Own::start().await;
    let url = redis.url();
    world_with(&[("REDIS_URL", &url)], async |world| {
        test(world, &mut redis).await;
    })
    .await;
    redis.remove().await;
}

const SLOTS: usize = 16_384;

/// Redis on three nodes, each with a third of the keys.
pub struct Cluster {
    nodes: Vec<Services>,
    _home: TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let place = Place::throwaway(home.path()).await.expect("a place");
            // A client of a cluster has one password for all of it.
            place.write("password", "cluster").expect("a password");
            let mut node = Services::of(place).await.expect("a place");
            let started = node.start_redis_node().await;
            started.expect("a node starts");
            nodes.push(node);
        }
        let cluster = Self { nodes, _home: home };
        cluster.join().await;
        cluster
    }

    fn urls(&self) -> Vec<String> {
        let nodes = self.nodes.iter();
        nodes
            .map(|node| node.redis.as_ref().expect("Redis").url())
            .collect()
    }

    async fn nodes(&self) -> Vec<MultiplexedConnection> {
        let mut connections = Vec::new();
        for url in self.urls() {
            let client = redis::Client::open(url).expect("an address");
            let connection = client.get_multiplexed_async_connection().await;
            connections.push(connection.expect("a node answers"));
        }
        connections
    }

    async fn join(&self) {
        let mut nodes = self.nodes().await;
        let number = nodes.len();
        for (at, node) in nodes.iter_mut().enumerate() {
            let mut slots = redis::cmd("CLUSTER");
            slots.arg("ADDSLOTS");
            for slot in SLOTS * at / number..SLOTS * (at + 1) / number {
                slots.arg(slot);
            }
            slots.exec_async(node).await.expect("slots");
        }
        for url in &self.urls()[1..] {
            let port = url.trim_end_matches('/').rsplit(':').next();
            let mut meet = redis::cmd("CLUSTER");
            meet.arg("MEET").arg("127.0.0.1").arg(port);
            meet.exec_async(&mut nodes[0]).await.expect("they meet");
        }
        for node in &mut nodes {
            eventually("the cluster is one", async || {
                let info = redis::cmd("CLUSTER").arg("INFO").to_owned();
                let info: String = info.query_async(node).await.expect("a node answers");
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
            .await;
        }
    }

    pub async fn connection(&self) -> ClusterConnection {
        let client = ClusterClient::new(self.urls()).expect("addresses");
        let connection = client.get_async_connection().await;
        connection.expect("the cluster answers")
    }

    /// How many keys each node has.
    pub async fn keys(&self) -> Vec<usize> {
        let mut keys = Vec::new();
        for node in &mut self.nodes().await {
            let size = redis::cmd("DBSIZE").query_async(node).await;
            keys.push(size.expect("a node answers"));
        }
        keys
    }

    pub async fn remove(self) {
        for node in self.nodes {
            node.remove().await.expect("it ends");
        }
    }
}

/// Waits until something is true that comes about by itself, and not forever.
pub async fn eventually(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_true().await {
        assert!(Instant::now() < deadline, "it does not come true: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
