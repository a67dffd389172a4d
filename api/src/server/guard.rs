//! The bytes of a connection, and how long they may take.
//!
//! Between two requests a connection may be idle. From the first byte of a request on, its head must be complete within a
//! time that later bytes do not prolong. While a request is served, only the reader of the answer can be slow.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// From the first byte of a request to the end of its head, or from the start of the connection.
    pub head: Duration,
    /// Without any byte: of the next request, or taken by the reader of an answer.
    pub idle: Duration,
}

/// Whether a request of the connection is being served: its head has arrived, and its answer is not all written.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicBool);

impl Progress {
    /// HTTP/1.1 serves one request at a time.
    pub fn begin(self: &Arc<Self>) -> Serving {
        self.0.store(true, Ordering::Relaxed);
        Serving(Arc::clone(self))
    }

    fn is_serving(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends when it is dropped.
pub(super) struct Serving(Arc<Progress>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// The body of an answer. The request is served until the last of it is written.
pub(super) struct Served<B> {
    body: B,
    _serving: Serving,
}

impl<B> Served<B> {
    pub fn new(body: B, serving: Serving) -> Self {
        Self {
            body,
            _serving: serving,
        }
    }
}

impl<B: Body + Unpin> Body for Served<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is being waited for on the reading side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// The head of the first request, or of a request whose first byte has arrived.
    Head,
    /// The next request.
    Next,
    /// Nothing: a request is served.
    Nothing,
}

/// A connection that fails with `TimedOut` when its caller is too slow.
pub(super) struct Guarded<S = TcpStream> {
    stream: S,
    progress: Arc<Progress>,
    timeouts: Timeouts,
    reading: Reading,
    /// When what is being read must be there.
    read_by: Pin<Box<Sleep>>,
    /// When some of what waits to be written must be taken; nothing while nothing waits.
    write_by: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    pub fn new(stream: S, progress: Arc<Progress>, timeouts: Timeouts) -> Self {
        Self {
            stream,
            progress,
            timeouts,
            reading: Reading::Head,
            read_by: Box::pin(sleep_until(Instant::now() + timeouts.head)),
            write_by: None,
        }
    }

    fn wait_for(&mut self, reading: Reading) {
        if self.reading == reading {
            return;
        }
        self.reading = reading;
        let patience = match reading {
            Reading::Head => self.timeouts.head,
            Reading::Next => self.timeouts.idle,
            Reading::Nothing => return,
        };
        self.read_by.as_mut().reset(Instant::now() + patience);
    }

    fn is_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        self.reading != Reading::Nothing && self.read_by.as_mut().poll(cx).is_ready()
    }

    /// What came of writing, or a failure if the reader has taken nothing for too long.
    fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_by = None;
            return written;
        }
        let idle = self.timeouts.idle;
        let until = || Box::pin(sleep_until(Instant::now() + idle));
        ready!(self.write_by.get_or_insert_with(until).as_mut().poll(cx));
        Poll::Ready(Err(too_slow("reader")))
    }
}

fn too_slow(who: &'static str) -> io::Error {
    metrics::counter!("http_connections_too_slow_total", "who" => who).increment(1);
    io::ErrorKind::TimedOut.into()
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.progress.is_serving() {
            this.wait_for(Reading::Nothing);
        } else if this.reading == Reading::Nothing {
            this.wait_for(Reading::Next);
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.reading == Reading::Next && buf.filled().len() > before {
            this.wait_for(Reading::Head);
        }
        // Looked at even when there was something to read: a byte a second must not go on for ever.
        if this.is_too_slow(cx) {
            return Poll::Ready(Err(too_slow("writer")));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{sleep, timeout};

    const TIMEOUTS: Timeouts = Timeouts {
        head: Duration::from_millis(300),
        idle: Duration::from_secs(2),
    };

    fn connection() -> (Guarded<DuplexStream>, DuplexStream, Arc<Progress>) {
        let (ours, theirs) = duplex(64);
        let progress = Arc::new(Progress::default());
        let guarded = Guarded::new(ours, Arc::clone(&progress), TIMEOUTS);
        (guarded, theirs, progress)
    }

    /// How long it takes until the connection is given up.
    async fn until_closed(guarded: &mut Guarded<DuplexStream>) -> Duration {
        let begun = Instant::now();
        let mut taken = [0; 64];
        loop {
            match guarded.read(&mut taken).await {
                Ok(0) => panic!("the caller is still there"),
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    return begun.elapsed();
                }
            }
        }
    }

    /// A connection whose first request has been answered.
    async fn answered() -> (Guarded<DuplexStream>, DuplexStream) {
        let (mut guarded, mut caller, progress) = connection();
        caller.write_all(b"request").await.expect("there");
        let mut taken = [0; 64];
        assert_eq!(guarded.read(&mut taken).await.expect("in time"), 7);
        let serving = progress.begin();
        // While it is served, the caller has nothing to send and is not hurried.
        let waiting = timeout(2 * TIMEOUTS.head, guarded.read(&mut taken)).await;
        assert!(waiting.is_err(), "{waiting:?}");
        drop(serving);
        (guarded, caller)
    }

    #[tokio::test]
    async fn a_head_must_be_there_in_time_however_many_bytes_come() {
        let (mut silent, _caller, _) = connection();
        let closed = until_closed(&mut silent).await;
        assert!(2 * closed > TIMEOUTS.head, "{closed:?}");

        let (mut guarded, mut caller, _) = connection();
        let trickle = tokio::spawn(async move {
            while caller.write_all(b"x").await.is_ok() {
                sleep(TIMEOUTS.head / 10).await;
            }
        });
        let closed = timeout(20 * TIMEOUTS.head, until_closed(&mut guarded)).await;
        closed.expect("bytes that keep coming prolong nothing");
        drop(guarded);
        trickle.await.expect("hears that it is over");
    }

    #[tokio::test]
    async fn a_connection_may_be_idle_for_longer_than_a_head_may_take() {
        let (mut guarded, _caller) = answered().await;
        let closed = until_closed(&mut guarded).await;
        assert!(2 * closed > TIMEOUTS.idle, "{closed:?}");

        let (mut guarded, mut caller) = answered().await;
        caller.write_all(b"G").await.expect("there");
        let closed = until_closed(&mut guarded).await;
        assert!(closed < TIMEOUTS.idle, "{closed:?} for a head");
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_is_given_up() {
        let (mut guarded, _caller, progress) = connection();
        let _serving = progress.begin();
        let error = guarded.write_all(&[b'x'; 1_000]).await.expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
