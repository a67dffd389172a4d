//! An SMTP server that keeps every mail to itself, and a page to read them on.
//!
//! It behaves like the server of a provider, also on a bad day: tests tell it a [`Fault`], or take it
//! down and bring it back on the same port. What it keeps is bounded, newest first.

mod fault;
mod message;
mod page;
mod smtp;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::port::{BACKLOG, reserve};
pub use fault::Fault;
use fault::Faults;
pub use message::Message;

/// Older messages make room beyond this many, or beyond this many bytes.
const MOST_MESSAGES: usize = 1_000;
const MOST_BYTES: usize = 64 << 20;

/// A running mail catcher. Stops when dropped, or when its [`stop_token`](Inbox::stop_token) is cancelled.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
    smtp_addr: SocketAddr,
    web_addr: Option<SocketAddr>,
    smtp: Mutex<Smtp>,
    stop: CancellationToken,
}

/// What the SMTP sessions, the page and the tests look at together.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    messages: watch::Sender<Mailbox>,
    faults: Faults,
    connections: AtomicUsize,
}

#[derive(Debug, Default)]
struct Mailbox {
    newest_first: VecDeque<Arc<Message>>,
    bytes: usize,
    last_id: u64,
}

/// A server that is down keeps its port without listening, so that it comes back where it was.
#[derive(Debug)]
enum Smtp {
    Up(Serving),
    Down(TcpSocket),
    /// Between the two, or beyond repair.
    Nowhere,
}

#[derive(Debug)]
struct Serving {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The message a test waited for did not arrive; what did arrive is told instead.
#[derive(Debug)]
pub struct NotArrived {
    pub waited: Duration,
    pub instead: Vec<Arc<Message>>,
}

impl Inbox {
    /// Listens for mail, and for browsers if `web` is given. Port 0 takes any free port.
    pub async fn start(smtp: SocketAddr, web: Option<SocketAddr>) -> io::Result<Self> {
        let listener = reserve(smtp)?.listen(BACKLOG)?;
        let smtp_addr = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let stop = CancellationToken::new();
        let web_addr = match web {
            Some(address) => Some(page::serve(address, Arc::clone(&shared), stop.clone()).await?),
            None => None,
        };
        let smtp = Smtp::Up(Serving::start(listener, &shared, &stop));
        Ok(Self {
            shared,
            smtp_addr,
            web_addr,
            smtp: Mutex::new(smtp),
            stop,
        })
    }

    #[must_use]
    pub fn smtp_addr(&self) -> SocketAddr {
        self.smtp_addr
    }

    /// Where the page is, if one was asked for.
    #[must_use]
    pub fn web_addr(&self) -> Option<SocketAddr> {
        self.web_addr
    }

    /// Cancelling it stops everything; it is cancelled when everything has to stop.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Everything that was accepted and is still kept, newest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.shared.messages()
    }

    /// How many SMTP connections there have been.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Forgets every message.
    pub fn clear(&self) {
        self.shared.clear();
    }

    /// The newest message that is `wanted`, as soon as it has arrived.
    pub async fn wait_for(
        &self,
        wanted: impl Fn(&Message) -> bool,
        deadline: Duration,
    ) -> Result<Arc<Message>, NotArrived> {
        let mut mailbox = self.shared.messages.subscribe();
        let arrived = async {
            let mailbox = mailbox
                .wait_for(|all| all.newest_first.iter().any(|m| wanted(m)))
                .await
                .ok()?;
            mailbox.newest_first.iter().find(|m| wanted(m)).cloned()
        };
        let found = tokio::time::timeout(deadline, arrived).await.ok().flatten();
        found.ok_or_else(|| NotArrived {
            waited: deadline,
            instead: self.messages(),
        })
    }

    /// Behaves badly from now on, until [`recover`](Inbox::recover).
    pub fn misbehave(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    /// Forgets every fault.
    pub fn recover(&self) {
        self.shared.faults.clear();
    }

    /// Stops accepting and cuts every connection: whoever connects now is refused.
    pub async fn go_down(&self) -> io::Result<()> {
        let before = std::mem::replace(&mut *self.smtp(), Smtp::Nowhere);
        let socket = match before {
            Smtp::Up(serving) => {
                serving.end().await;
                reserve(self.smtp_addr)?
            }
            Smtp::Down(socket) => socket,
            Smtp::Nowhere => reserve(self.smtp_addr)?,
        };
        *self.smtp() = Smtp::Down(socket);
        Ok(())
    }

    /// Accepts again, on the same port.
    pub fn come_back(&self) -> io::Result<()> {
        let mut smtp = self.smtp();
        let socket = match std::mem::replace(&mut *smtp, Smtp::Nowhere) {
            Smtp::Up(serving) => {
                *smtp = Smtp::Up(serving);
                return Ok(());
            }
            Smtp::Down(socket) => socket,
            Smtp::Nowhere => reserve(self.smtp_addr)?,
        };
        *smtp = Smtp::Up(Serving::start(
            socket.listen(BACKLOG)?,
            &self.shared,
            &self.stop,
        ));
        Ok(())
    }

    fn smtp(&self) -> std::sync::MutexGuard<'_, Smtp> {
        self.smtp.lock().expect("nobody panics while holding it")
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Serving {
    fn start(listener: TcpListener, shared: &Arc<Shared>, parent: &CancellationToken) -> Self {
        let stop = parent.child_token();
        let task = tokio::spawn(smtp::serve(listener, Arc::clone(shared), stop.clone()));
        Self { stop, task }
    }

    /// Returns when the port is free and every connection is closed.
    async fn end(self) {
        self.stop.cancel();
        if let Err(crash) = self.task.await {
            tracing::error!("the SMTP server ended badly: {crash}");
        }
    }
}

impl Shared {
    fn messages(&self) -> Vec<Arc<Message>> {
        self.messages
            .borrow()
            .newest_first
            .iter()
            .cloned()
            .collect()
    }

    fn message(&self, id: u64) -> Option<Arc<Message>> {
        self.messages
            .borrow()
            .newest_first
            .iter()
            .find(|m| m.id == id)
            .cloned()
    }

    fn clear(&self) {
        self.messages.send_modify(|all| {
            all.newest_first.clear();
            all.bytes = 0;
        });
    }

    fn keep(&self, envelope: smtp::Envelope, raw: Vec<u8>) {
        self.messages.send_modify(|all| all.keep(envelope, raw));
    }
}

impl Mailbox {
    fn keep(&mut self, envelope: smtp::Envelope, raw: Vec<u8>) {
        self.last_id += 1;
        self.bytes += raw.len();
        self.newest_first
            .push_front(Arc::new(Message::read(self.last_id, envelope, raw)));
        while self.newest_first.len() > MOST_MESSAGES || self.bytes > MOST_BYTES {
            let Some(oldest) = self.newest_first.pop_back() else {
                break;
            };
            self.bytes -= oldest.raw.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(mailbox: &mut Mailbox, size: usize) {
        mailbox.keep(smtp::Envelope::default(), vec![b'x'; size]);
    }

    #[test]
    fn the_oldest_messages_make_room() {
        let mut mailbox = Mailbox::default();
        for _ in 0..=MOST_MESSAGES {
            keep(&mut mailbox, 1);
        }
        assert_eq!(
            (mailbox.newest_first.len(), mailbox.bytes),
            (MOST_MESSAGES, MOST_MESSAGES)
        );
        assert_eq!(mailbox.newest_first.back().map(|oldest| oldest.id), Some(2));

        keep(&mut mailbox, MOST_BYTES - 10);
        assert_eq!(
            (mailbox.newest_first.len(), mailbox.bytes),
            (11, MOST_BYTES)
        );
    }
}
