//! The server's side of SMTP (RFC 5321), as much of it as a client that sends mail can ask for.
//!
//! Commands may be pipelined, credentials of any kind are accepted, a connection carries any number of
//! messages. Lines, messages, recipients, connections and idle time are limited, so that a client gone
//! wrong is told so.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;

/// RFC 5321 has 512, but credentials and long addresses need more.
const LONGEST_COMMAND: usize = 4_096;
/// RFC 5321, 4.5.3.1.6: a line of a message, with its end.
const LONGEST_LINE: usize = 1_000;
const LARGEST_MESSAGE: usize = 10 << 20;
const MOST_RECIPIENTS: usize = 100;
const MOST_CONNECTIONS: usize = 256;
const LONGEST_SILENCE: Duration = Duration::from_mins(5);

/// Whom a message is from and for, as SMTP tells it; the headers may say something else.
#[derive(Debug, Clone, Default)]
pub(super) struct Envelope {
    pub(super) from: String,
    pub(super) to: Vec<String>,
}

/// Accepts until it is stopped, and returns when the last connection is closed.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let sessions = TaskTracker::new();
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let accepting = async {
        loop {
            let place = Arc::clone(&places)
                .acquire_owned()
                .await
                .expect("never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    let session = Session::new(stream, Arc::clone(&shared)).run();
                    let stop = stop.clone();
                    sessions.spawn(async move {
                        // A client that goes away, with or without a word, is no news.
                        let _ = stop.run_until_cancelled(session).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept an SMTP connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
    drop(listener);
    sessions.close();
    sessions.wait().await;
}

struct Session {
    stream: BufStream<TcpStream>,
    shared: Arc<Shared>,
    greeted: bool,
    /// `Some` between MAIL and the end of the message.
    envelope: Option<Envelope>,
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    /// The client is gone, or has been silent for too long.
    End,
}

/// Whether the conversation goes on.
type Goes = io::Result<ControlFlow<()>>;
const ON: ControlFlow<()> = ControlFlow::Continue(());
const OVER: ControlFlow<()> = ControlFlow::Break(());

impl Session {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        Self {
            stream: BufStream::new(stream),
            shared,
            greeted: false,
            envelope: None,
        }
    }

    async fn run(mut self) -> io::Result<()> {
        self.say("220 sandbox ESMTP, keeps every mail to itself")
            .await?;
        while self.turn().await?.is_continue() {}
        Ok(())
    }

    /// One command and its answer.
    async fn turn(&mut self) -> Goes {
        let line = match self.line(LONGEST_COMMAND).await? {
            Line::Whole(line) => line,
            Line::TooLong => return self.answer("500 5.5.6 Line too long").await,
            Line::End => return Ok(OVER),
        };
        let Ok(line) = String::from_utf8(line) else {
            return self.answer("500 5.5.2 Commands are UTF-8").await;
        };
        let line = line.trim_end();
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => self.ehlo().await,
            "HELO" => {
                self.greet();
                self.answer("250 sandbox").await
            }
            "MAIL" => self.mail(rest).await,
            "RCPT" => self.recipient(rest).await,
            "DATA" => self.data().await,
            "AUTH" => self.auth(rest).await,
            "RSET" => {
                self.envelope = None;
                self.answer("250 2.0.0 Forgotten").await
            }
            "NOOP" => self.answer("250 2.0.0 Here").await,
            "VRFY" => self.answer("252 2.1.5 Try it").await,
            "QUIT" => {
                self.say("221 2.0.0 Goodbye").await?;
                Ok(OVER)
            }
            _ => self.answer("500 5.5.1 Unknown command").await,
        }
    }

    fn greet(&mut self) {
        self.greeted = true;
        self.envelope = None;
    }

    async fn ehlo(&mut self) -> Goes {
        self.greet();
        let lines = format!(
            "250-sandbox\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n\
             250-AUTH PLAIN LOGIN\r\n250 SIZE {LARGEST_MESSAGE}"
        );
        self.answer(&lines).await
    }

    async fn mail(&mut self, rest: &str) -> Goes {
        if !self.greeted || self.envelope.is_some() {
            return self.answer("503 5.5.1 Not now").await;
        }
        let Some((from, options)) = path(rest, "FROM:") else {
            return self.answer("501 5.5.4 Expected MAIL FROM:<address>").await;
        };
        let announced = options
            .split(' ')
            .find_map(|option| option.strip_prefix("SIZE=")?.parse::<usize>().ok());
        if announced.is_some_and(|size| size > LARGEST_MESSAGE) {
            return self.answer("552 5.3.4 Too large").await;
        }
        self.envelope = Some(Envelope {
            from: from.to_owned(),
            to: Vec::new(),
        });
        self.answer("250 2.1.0 Sender taken").await
    }

    async fn recipient(&mut self, rest: &str) -> Goes {
        let Some((to, _)) = path(rest, "TO:").filter(|(to, _)| !to.is_empty()) else {
            return self.answer("501 5.5.4 Expected RCPT TO:<address>").await;
        };
        if let Some(pause) = self.shared.faults.pause(to) {
            tokio::time::sleep(pause).await;
        }
        let (refuses, defers) = (
            self.shared.faults.refuses(to),
            self.shared.faults.defers(to),
        );
        let reply = match &mut self.envelope {
            None => "503 5.5.1 MAIL comes first",
            Some(_) if refuses => "550 5.1.1 No such mailbox",
            Some(_) if defers => "451 4.2.1 Not now, try later",
            Some(envelope) if envelope.to.len() >= MOST_RECIPIENTS => {
                "452 4.5.3 Too many recipients"
            }
            Some(envelope) => {
                envelope.to.push(to.to_owned());
                "250 2.1.5 Recipient taken"
            }
        };
        self.answer(reply).await
    }

    async fn data(&mut self) -> Goes {
        let Some(envelope) = self.envelope.take_if(|envelope| !envelope.to.is_empty()) else {
            return self.answer("503 5.5.1 RCPT comes first").await;
        };
        self.say("354 Go on, end with a dot on a line of its own")
            .await?;
        let message = match self.text().await? {
            Text::Whole(message) => message,
            Text::Refused(why) => return self.answer(why).await,
            Text::End => return Ok(OVER),
        };
        let dropped_kept = self.shared.faults.take_drop_after_data();
        if dropped_kept != Some(false) {
            self.shared.keep(envelope, message);
        }
        match dropped_kept {
            Some(_) => Ok(OVER),
            None => self.answer("250 2.0.0 Kept").await,
        }
    }

    /// The lines of a message up to its final dot. One that is too much is read to its end all the same:
    /// an answer in the middle of it would be taken for the answer to something else.
    async fn text(&mut self) -> io::Result<Text> {
        let mut message = Vec::new();
        let mut refused = None;
        loop {
            match self.line(LONGEST_LINE + 1).await? {
                Line::End => return Ok(Text::End),
                Line::TooLong => refused = Some("500 5.6.0 Line of more than 1000 octets"),
                Line::Whole(line) if line == b".\r\n" => break,
                Line::Whole(line) => {
                    let line = line.strip_prefix(b".").unwrap_or(&line);
                    if line.len() > LONGEST_LINE {
                        refused = Some("500 5.6.0 Line of more than 1000 octets");
                    } else if message.len() + line.len() > LARGEST_MESSAGE {
                        refused = Some("552 5.3.4 Too large");
                    } else if refused.is_none() {
                        message.extend_from_slice(line);
                    }
                }
            }
        }
        Ok(refused.map_or(Text::Whole(message), Text::Refused))
    }

    /// PLAIN with or without an initial response, LOGIN in two questions. Everyone is let in.
    async fn auth(&mut self, rest: &str) -> Goes {
        let mut words = rest.split_ascii_whitespace();
        let mechanism = words.next().unwrap_or_default().to_ascii_uppercase();
        let questions: &[&str] = match (mechanism.as_str(), words.next()) {
            ("PLAIN", Some(_)) => &[],
            ("PLAIN", None) => &["334 "],
            // "Password:" alone when the user's name came with the command, else "Username:" first.
            ("LOGIN", Some(_)) => &["334 UGFzc3dvcmQ6"],
            ("LOGIN", None) => &["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"],
            _ => return self.answer("504 5.5.4 PLAIN or LOGIN").await,
        };
        for question in questions {
            self.say(question).await?;
            match self.line(LONGEST_COMMAND).await? {
                Line::Whole(line) if line.trim_ascii() == b"*" => {
                    return self.answer("501 5.7.0 As you like").await;
                }
                Line::Whole(_) => {}
                Line::TooLong => return self.answer("500 5.5.6 Line too long").await,
                Line::End => return Ok(OVER),
            }
        }
        self.answer("235 2.7.0 Welcome").await
    }

    async fn answer(&mut self, reply: &str) -> Goes {
        self.say(reply).await?;
        Ok(ON)
    }

    async fn say(&mut self, reply: &str) -> io::Result<()> {
        self.stream.write_all(reply.as_bytes()).await?;
        self.stream.write_all(b"\r\n").await?;
        self.stream.flush().await
    }

    /// A line with its end. Of one that is too long, only the fact is kept in memory.
    async fn line(&mut self, longest: usize) -> io::Result<Line> {
        let reading = read_line(&mut self.stream, longest);
        match tokio::time::timeout(LONGEST_SILENCE, reading).await {
            Ok(line) => line,
            Err(_) => Ok(Line::End),
        }
    }
}

enum Text {
    Whole(Vec<u8>),
    Refused(&'static str),
    End,
}

async fn read_line(stream: &mut BufStream<TcpStream>, longest: usize) -> io::Result<Line> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        line.clear();
        stream
            .take(longest as u64)
            .read_until(b'\n', &mut line)
            .await?;
        match line.last() {
            None => return Ok(Line::End),
            Some(b'\n') if too_long => return Ok(Line::TooLong),
            Some(b'\n') => return Ok(Line::Whole(line)),
            Some(_) if line.len() < longest => return Ok(Line::End),
            Some(_) => too_long = true,
        }
    }
}

/// The address and the options of `FROM:<address> OPTIONS`.
fn path<'a>(rest: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (head, tail) = rest.split_at_checked(keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let (address, options) = tail.trim_start().strip_prefix('<')?.split_once('>')?;
    Some((address, options.trim_start()))
}
