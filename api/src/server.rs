//! Accepting connections, and what one of them may cost.
//!
//! HTTP/1.1 alone: TLS and HTTP/2 are for the proxy in front. A connection that sends no request, sends it a byte at a time
//! or does not read its answer is closed after a bounded time; the connections of a process and of a network are counted, and
//! one too many is refused before anything is read from it. poem's own server has none of these bounds.
//!
//! | file | holds |
//! |---|---|
//! | `guard` | the bytes of a connection, and how long they may take |
//! | `places` | how many connections there may be |

mod guard;
mod places;

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, TryStreamExt as _, stream};
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use poem::endpoint::BoxEndpoint;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, EndpointExt as _, Response};
use shared::config;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use guard::{Guarded, Progress, Served, Timeouts};
use places::{Place, Places};

/// What a connection may keep in memory of a request's head. The heads of browsers stay below 16 KiB.
const LARGEST_HEAD: usize = 32 << 10;
/// Between attempts to accept while the process has no file descriptors left, say.
const PAUSE: Duration = Duration::from_millis(50);
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Serves until `close`, then lets what has begun go on for as long as `drain`.
pub(crate) async fn serve(
    listener: TcpListener,
    endpoint: impl Endpoint + 'static,
    http: &config::Http,
    close: impl Future<Output = ()>,
    drain: Duration,
) -> io::Result<()> {
    let local = listener.local_addr()?;
    tracing::info!(address = %local, "listening");
    let server = Arc::new(Server {
        endpoint: endpoint.map_to_response().boxed(),
        local,
        timeouts: Timeouts {
            head: http.head_timeout.0,
            idle: http.idle_timeout.0,
        },
        body_timeout: http.body_timeout.0,
        ending: CancellationToken::new(),
        over: CancellationToken::new(),
    });
    let places = Places::new(http);
    let connections = TaskTracker::new();
    let mut close = std::pin::pin!(close);
    loop {
        let accepted = tokio::select! {
            () = &mut close => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match places.admit(peer.ip()) {
                Ok(place) => {
                    let connection = Arc::clone(&server).serve(stream, peer, place);
                    connections.spawn(connection);
                }
                Err(full) => {
                    metrics::counter!("http_connections_refused_total", "reason" => full.name())
                        .increment(1);
                    refuse(stream);
                }
            },
            Err(error) if is_of_the_caller(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted for a moment");
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    server.ending.cancel();
    connections.close();
    if timeout(drain, connections.wait()).await.is_err() {
        server.over.cancel();
        connections.wait().await;
    }
    tracing::info!(address = %local, "stopped listening");
    Ok(())
}

/// Says why in one packet, without waiting for anything.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _hung_up_meanwhile = stream.write(REFUSAL);
    }
}

/// The caller went away before being accepted.
fn is_of_the_caller(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

struct Server {
    endpoint: BoxEndpoint<'static, Response>,
    local: SocketAddr,
    timeouts: Timeouts,
    body_timeout: Duration,
    /// No connection takes another request.
    ending: CancellationToken,
    /// What is still under way is given up.
    over: CancellationToken,
}

impl Server {
    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, _place: Place) {
        // Messages of streams are small and must not wait for each other.
        let _nothing_to_lose = stream.set_nodelay(true);
        let progress = Arc::new(Progress::default());
        let guarded = Guarded::new(stream, Arc::clone(&progress), self.timeouts);
        let service = service_fn(|request| {
            // From here on the head has arrived.
            let served = progress.begin();
            let answer = self.answer(request, peer);
            async move { Ok::<_, Infallible>(answer.await.map(|body| Served::new(body, served))) }
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(LARGEST_HEAD)
            .serve_connection(TokioIo::new(guarded), service);
        let mut connection = std::pin::pin!(connection);
        let ended = async {
            tokio::select! {
                ended = &mut connection => return ended,
                () = self.ending.cancelled() => {}
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        };
        if let Some(Err(error)) = self.over.run_until_cancelled(ended).await {
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }

    fn answer(
        &self,
        request: hyper::Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = hyper::Response<BoxBody<Bytes, io::Error>>> {
        let bodyless = request.body().is_end_stream();
        let (local, peer) = (LocalAddr(Addr::from(self.local)), RemoteAddr(peer.into()));
        let mut request = poem::Request::from((request, local, peer, Scheme::HTTP));
        if !bodyless {
            let until = Instant::now() + self.body_timeout;
            let body = request.take_body();
            request.set_body(before(until, body));
        }
        self.endpoint.get_response(request).map(Into::into)
    }
}

/// The body, which fails when it has not arrived by then.
fn before(until: Instant, body: poem::Body) -> poem::Body {
    let chunks = body.into_bytes_stream();
    let timed = stream::try_unfold(chunks, move |mut chunks| async move {
        let next = timeout_at(until, chunks.try_next()).await;
        let next = next.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        Ok::<_, io::Error>(next?.map(|chunk| (chunk, chunks)))
    });
    poem::Body::from_bytes_stream(timed)
}
