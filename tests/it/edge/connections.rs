//! Callers that hold connections without asking for anything.

use std::time::Duration;

use futures_util::future::join_all;
use tests::{World, world_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(world: &World) -> TcpStream {
    let address = world.base.trim_start_matches("http://");
    let connected = TcpStream::connect(address).await;
    connected.expect("somebody listens")
}

/// A request of which the end is missing.
async fn half_open(world: &World) -> TcpStream {
    let mut stream = connect(world).await;
    let half = b"GET /api/v1/venues HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    // A connection that was refused at once may be gone already.
    let _ = stream.write_all(half).await;
    stream
}

/// Everything that comes until the connection is closed.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let closed = timeout(PATIENCE, stream.read_to_end(&mut read)).await;
    // Reset counts as closed: not everything that was sent has been read.
    let _ = closed.expect("closed in time");
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn half_open_requests_keep_nobody_from_being_served_and_are_closed() {
    let soon = ("HOLDFAST_HTTP_HEAD_TIMEOUT", "2s");
    world_with(&[soon], async |world| {
        let begun = Instant::now();
        let mut slow = join_all((0..200).map(|_| half_open(world))).await;
        for _ in 0..20 {
            world.stranger().get("/venues").await.expect(200);
        }
        // Bytes that come one after the other prolong nothing.
        let closed = slow.iter_mut().enumerate().map(async |(number, stream)| {
            if number % 4 == 0 {
                while stream.write_all(b"x").await.is_ok() && begun.elapsed() < PATIENCE {
                    sleep(Duration::from_millis(200)).await;
                }
            }
            assert_eq!(until_closed(stream).await, "");
        });
        join_all(closed).await;
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        world.stranger().get("/venues").await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_refused_at_once_and_room_comes_back() {
    let few = ("HOLDFAST_HTTP_CONNECTIONS", "20");
    let soon = ("HOLDFAST_HTTP_HEAD_TIMEOUT", "3s");
    world_with(&[few, soon], async |world| {
        let mut taken = Vec::new();
        for _ in 0..20 {
            taken.push(half_open(world).await);
        }
        let begun = Instant::now();
        let answer = until_closed(&mut connect(world).await).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("retry-after: 2"), "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(2), "not at once");
        join_all(taken.iter_mut().map(until_closed)).await;
        world.stranger().get("/venues").await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let soon = ("HOLDFAST_HTTP_BODY_TIMEOUT", "1s");
    world_with(&[soon], async |world| {
        let mut stream = connect(world).await;
        let head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                    Content-Length: 100\r\n\r\n{\"email\"";
        stream.write_all(head.as_bytes()).await.expect("sent");
        let answer = until_closed(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert!(answer.contains("MALFORMED_REQUEST"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time_and_serves_until_then() {
    let settings = [
        ("HOLDFAST_HTTP_HEAD_TIMEOUT", "1s"),
        ("HOLDFAST_HTTP_IDLE_TIMEOUT", "4s"),
    ];
    world_with(&settings, async |world| {
        let mut stream = connect(world).await;
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        let begun = Instant::now();
        stream.write_all(request).await.expect("sent");
        sleep(Duration::from_secs(2)).await;
        // Longer than a head may take, and still open.
        stream.write_all(request).await.expect("sent");
        let answers = until_closed(&mut stream).await;
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
        assert!(begun.elapsed() >= Duration::from_secs(4), "closed early");
    })
    .await;
}
