//! The way out: an SMTP server, or a folder when there is none.
//!
//! Connections are kept and used again. The pool is ours because lettre's has no limit on time for an
//! answer, and takes a connection back in the middle of a conversation when one gives up waiting: the next
//! mail would read the answers to the last. Here a connection returns only after a complete one.

use std::path::{Path, PathBuf};
use std::str::Utf8Error;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lettre::address::Envelope;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Category;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use url::Url;

use super::message::{Outgoing, Refusal};
use crate::config::{self, Mailbox};

/// For one whole mail, from connecting to the last answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// Most servers hang up on an idle client after a few minutes.
const LONGEST_IDLE: Duration = Duration::from_mins(1);
/// Servers refuse clients that open too many.
const MOST_CONNECTIONS: usize = 16;

/// Sends mails. One for the whole process.
pub struct Outbox {
    from: Mailbox,
    way: Way,
}

enum Way {
    Smtp(Smtp),
    Folder(PathBuf),
}

/// The setting of the SMTP server is no use. The address itself may hold a password: it is not repeated.
#[derive(Debug, thiserror::Error)]
#[error("HOLDFAST_MAIL_SMTP_URL ([mail] smtp_url) has a bad value: {0}")]
pub struct BadOutbox(String);

impl Outbox {
    pub fn new(config: &config::Mail) -> Result<Self, BadOutbox> {
        let way = match &config.smtp_url {
            Some(url) => Way::Smtp(Smtp::new(url, PATIENCE)?),
            None => Way::Folder(config.folder.clone()),
        };
        if let Way::Folder(folder) = &way {
            tracing::info!(folder = %folder.display(), "no SMTP server is set: mails become .eml files");
        }
        Ok(Self {
            from: config.from.clone(),
            way,
        })
    }

    /// Returns when the mail is with the server, or in the folder. No transaction may be open meanwhile.
    pub async fn send(&self, mail: &Outgoing, now: DateTime<Utc>) -> Result<(), Refusal> {
        let message = mail.compose(&self.from, now)?;
        match &self.way {
            Way::Smtp(smtp) => smtp.send(message.envelope(), &message.formatted()).await,
            Way::Folder(folder) => {
                let path = folder.join(format!("{}.eml", mail.id));
                put(folder, &path, &message.formatted())
                    .await
                    .map_err(|error| {
                        Refusal::ForNow(format!("cannot write {}: {error}", path.display()))
                    })
            }
        }
    }
}

/// Whole or not at all, and in one place however often it is repeated.
async fn put(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("part");
    tokio::fs::create_dir_all(folder).await?;
    tokio::fs::write(&unfinished, bytes).await?;
    tokio::fs::rename(&unfinished, path).await
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

struct Smtp {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    patience: Duration,
    slots: Semaphore,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

enum Security {
    /// TLS from the first byte.
    Tls(TlsParameters),
    /// TLS before anything is said, or nothing is said.
    StartTls(TlsParameters),
    Plain,
}

impl Smtp {
    fn new(url: &SecretString, patience: Duration) -> Result<Self, BadOutbox> {
        let bad = |what: &str| BadOutbox(what.to_owned());
        let url = Url::parse(url.expose_secret())
            .map_err(|_| bad("expected an address like smtp://host:587"))?;
        let host = url
            .host_str()
            .ok_or_else(|| bad("it names no host"))?
            .trim_matches(['[', ']'])
            .to_owned();
        let tls =
            || TlsParameters::new(host.clone()).map_err(|_| bad("TLS needs the name of the host"));
        let wish = url
            .query_pairs()
            .find(|(key, _)| key == "tls")
            .map(|(_, value)| value.into_owned());
        let (security, usual_port) = match (url.scheme(), wish.as_deref()) {
            ("smtps", None) => (Security::Tls(tls()?), 465),
            ("smtp", None | Some("required")) => (Security::StartTls(tls()?), 587),
            ("smtp", Some("none")) => (Security::Plain, 25),
            _ => {
                return Err(bad(
                    "expected smtp:// or smtps://, with nothing or tls=none behind",
                ));
            }
        };
        Ok(Self {
            port: url.port().unwrap_or(usual_port),
            credentials: credentials(&url).map_err(|_| bad("user and password must be UTF-8"))?,
            host,
            security,
            patience,
            slots: Semaphore::new(MOST_CONNECTIONS),
            idle: Mutex::default(),
        })
    }

    async fn send(&self, envelope: &Envelope, message: &[u8]) -> Result<(), Refusal> {
        let _slot = self.slots.acquire().await.expect("never closed");
        let conversation = tokio::time::timeout(self.patience, self.converse(envelope, message));
        conversation.await.unwrap_or_else(|_| {
            Err(Refusal::ForNow(
                "the server takes too long to answer".into(),
            ))
        })
    }

    async fn converse(&self, envelope: &Envelope, message: &[u8]) -> Result<(), Refusal> {
        // Whatever goes wrong before a mail is mentioned is not the mail's fault.
        let mut connection = self
            .connection()
            .await
            .map_err(|error| Refusal::ForNow(error.to_string()))?;
        connection
            .send(envelope, message)
            .await
            .map_err(|error| refusal(&error))?;
        self.idle().push((connection, Instant::now()));
        Ok(())
    }

    async fn connection(&self) -> Result<AsyncSmtpConnection, AnyError> {
        while let Some((mut connection, since)) = self.take_idle() {
            if since.elapsed() < LONGEST_IDLE && connection.test_connected().await {
                return Ok(connection);
            }
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, AnyError> {
        let hello = ClientId::default();
        let address = (self.host.as_str(), self.port);
        let mut connection = match &self.security {
            Security::Tls(tls) => {
                AsyncSmtpConnection::connect_tokio1(address, None, &hello, Some(tls.clone()), None)
                    .await?
            }
            Security::StartTls(_) | Security::Plain => {
                let stream = TcpStream::connect(address).await?;
                // A mail ends with a small write of its own, which would wait 40 ms for company.
                stream.set_nodelay(true)?;
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await?
            }
        };
        if let Security::StartTls(tls) = &self.security {
            connection.starttls(tls.clone(), &hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection
                .auth(&[Mechanism::Plain, Mechanism::Login], credentials)
                .await?;
        }
        Ok(connection)
    }

    fn take_idle(&self) -> Option<(AsyncSmtpConnection, Instant)> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(AsyncSmtpConnection, Instant)>> {
        self.idle.lock().expect("nobody panics while holding it")
    }
}

/// `None` if the address has none.
fn credentials(url: &Url) -> Result<Option<Credentials>, Utf8Error> {
    let decode = |text| Ok(percent_decode_str(text).decode_utf8()?.into_owned());
    let Some(password) = url.password() else {
        return Ok(None);
    };
    Ok(Some(Credentials::new(
        decode(url.username())?,
        decode(password)?,
    )))
}

/// 5xx is the server's last word on a mail, save 53x, which says that we should log in first or better:
/// that is for the operator to put right, and the mail can wait.
fn refusal(error: &smtp::Error) -> Refusal {
    let about_us = error
        .status()
        .is_some_and(|code| code.category == Category::Unspecified3);
    if (error.is_permanent() && !about_us) || error.is_client() {
        Refusal::ForGood(error.to_string())
    } else {
        Refusal::ForNow(error.to_string())
    }
}

#[cfg(test)]
mod tests;
