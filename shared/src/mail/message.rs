//! What a mail is on its way from the transaction that wrote it to the server that takes it.

use chrono::{DateTime, TimeDelta, Utc};
use lettre::Message;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, MultiPart, SinglePart};
use serde_json::Value;

use super::address::one_line;
use super::template::{self, Content};
use crate::config::Mailbox;
use crate::encryption::{Cipher, EncryptionError, Place};
use crate::ids::{MailId, OrganizationId};
use crate::qr;

/// The parameter that lists what a mail shows as QR codes. They are drawn when it is sent: what waits stays small.
pub const PICTURES: &str = "qr";

/// The parameters that whoever has them can use: they are encrypted until the mail is sent.
pub(super) const SECRET_PARAMS: [&str; 4] = ["code", "link", "order_link", PICTURES];

/// The name by which the HTML of a mail shows one of its pictures: `<img src="cid:…">`.
#[must_use]
pub fn picture(at: usize) -> String {
    format!("qr-{}@holdfast", at + 1)
}

/// A mail to be written.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Who it is sent for; `None` for what concerns the whole installation.
    pub organization_id: Option<OrganizationId>,
    /// What it tells of, like `order-paid:<id>`: told once.
    pub cause: String,
    pub recipient: String,
    /// The name of its files in `templates/`.
    pub template: &'static str,
    /// The language the recipient reads. All templates are in English so far.
    pub locale: String,
    /// What its template asks for.
    pub params: Value,
}

/// A mail that is being sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub id: MailId,
    pub organization_id: Option<OrganizationId>,
    pub recipient: String,
    pub template: String,
    pub params: Value,
    pub message_id: String,
    /// This one included.
    pub attempts: i32,
    pub give_up_at: DateTime<Utc>,
}

/// Why a mail was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Asking again would change nothing.
    #[error("{0}")]
    ForGood(String),
    #[error("{0}")]
    ForNow(String),
}

/// What follows from an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Sent,
    Again { at: DateTime<Utc>, error: String },
    Dead { error: String },
}

impl Next {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Again { .. } => "put_off",
            Self::Dead { .. } => "dead",
        }
    }
}

impl Outgoing {
    /// Makes its secret parameters readable again.
    pub(super) fn decrypt(&mut self, cipher: &Cipher) -> Result<(), EncryptionError> {
        cipher.decrypt_all(Place::Mail(self.id.0), &SECRET_PARAMS, &mut self.params)
    }

    /// The mail in the form the server gets. It fails only for good: the same row makes the same mail.
    pub(super) fn compose(&self, from: &Mailbox, now: DateTime<Utc>) -> Result<Message, Refusal> {
        let recipient = self
            .recipient
            .parse()
            .map_err(|error| hopeless("recipient", &error))?;
        let content = template::render(&self.template, &self.params)
            .map_err(|error| hopeless("template", &error))?;
        let (subject, body) = (content.subject.clone(), self.body(content)?);
        Message::builder()
            .from(from.0.clone())
            .to(recipient)
            .subject(one_line(&subject))
            .message_id(Some(self.message_id.clone()))
            .date(now.into())
            .multipart(body)
            .map_err(|error| hopeless("mail", &error))
    }

    /// Text, or HTML with the pictures that it shows.
    fn body(&self, content: Content) -> Result<MultiPart, Refusal> {
        let shown = self.params[PICTURES].as_array();
        let shown = shown.into_iter().flatten().filter_map(Value::as_str);
        let pictures: Vec<SinglePart> = shown
            .enumerate()
            .map(|(at, shown)| inline(at, shown))
            .collect::<Result<_, _>>()?;
        if pictures.is_empty() {
            return Ok(MultiPart::alternative_plain_html(
                content.text,
                content.html,
            ));
        }
        let html = MultiPart::related().singlepart(SinglePart::html(content.html));
        let related = pictures.into_iter().fold(html, MultiPart::singlepart);
        Ok(MultiPart::alternative()
            .singlepart(SinglePart::plain(content.text))
            .multipart(related))
    }
}

fn inline(at: usize, shown: &str) -> Result<SinglePart, Refusal> {
    let png = qr::png(shown).map_err(|error| hopeless("picture", &error))?;
    let kind = ContentType::parse("image/png").expect("a media type");
    let name = format!("qr-{}.png", at + 1);
    Ok(Attachment::new_inline_with_name(picture(at), name).body(png, kind))
}

fn hopeless(what: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::ForGood(format!("bad {what}: {error}"))
}

/// Made from nothing but the mail's id, so that a repetition is recognisable as one.
pub(super) fn message_id(mail_id: MailId, from: &Mailbox) -> String {
    format!("<{mail_id}@{}>", from.0.email.domain())
}

/// Goes on until the server has said yes or no, or time is up.
pub(super) fn after(outcome: Result<(), Refusal>, mail: &Outgoing, now: DateTime<Utc>) -> Next {
    match outcome {
        Ok(()) => Next::Sent,
        Err(Refusal::ForGood(error)) => Next::Dead { error },
        Err(Refusal::ForNow(error)) if now >= mail.give_up_at => Next::Dead { error },
        // The last attempt is made when time is up, not a whole pause earlier or later.
        Err(Refusal::ForNow(error)) => Next::Again {
            at: (now + pause(mail.attempts)).min(mail.give_up_at),
            error,
        },
    }
}

/// 30 seconds, twice as long each time, at most an hour.
fn pause(attempts: i32) -> TimeDelta {
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(7);
    TimeDelta::seconds((30 << doublings).min(3_600))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mail(attempts: i32) -> Outgoing {
        Outgoing {
            id: MailId::fresh(DateTime::UNIX_EPOCH),
            organization_id: None,
            recipient: "Ada <ada@example.org>".into(),
            template: "test".into(),
            params: json!({"installation": "http://127.0.0.1:8080"}),
            message_id: "<x@example.org>".into(),
            attempts,
            give_up_at: DateTime::UNIX_EPOCH + TimeDelta::days(1),
        }
    }

    fn from() -> Mailbox {
        Mailbox(
            "Box Office <office@example.org>"
                .parse()
                .expect("an address"),
        )
    }

    #[test]
    fn pauses_grow_from_half_a_minute_to_an_hour() {
        let pauses: Vec<i64> = (0..=10)
            .map(|attempts| pause(attempts).num_seconds())
            .collect();
        assert_eq!(
            pauses,
            [30, 30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]
        );
    }

    #[test]
    fn a_mail_refused_for_now_is_tried_until_its_time_is_up_and_not_longer() {
        let refusal = || Err(Refusal::ForNow("451".into()));
        let (mut now, mut attempts) = (DateTime::UNIX_EPOCH, 1);
        while let Next::Again { at, .. } = after(refusal(), &mail(attempts), now) {
            assert!(at > now, "it moves on");
            (now, attempts) = (at, attempts + 1);
        }
        assert_eq!(now, mail(1).give_up_at);
        assert!((25..35).contains(&attempts), "{attempts} attempts in a day");
    }

    #[test]
    fn an_answer_is_final() {
        let late = mail(1).give_up_at + TimeDelta::days(9);
        assert_eq!(after(Ok(()), &mail(40), late), Next::Sent);
        let refused = after(
            Err(Refusal::ForGood("550".into())),
            &mail(1),
            DateTime::UNIX_EPOCH,
        );
        assert_eq!(
            refused,
            Next::Dead {
                error: "550".into()
            }
        );
    }

    #[test]
    fn a_repetition_is_the_same_message() {
        let id = MailId::fresh(DateTime::UNIX_EPOCH);
        assert_eq!(message_id(id, &from()), message_id(id, &from()));
        assert_eq!(message_id(id, &from()), format!("<{id}@example.org>"));
    }

    #[test]
    fn a_mail_has_both_parts_and_its_headers() {
        let mail = mail(1)
            .compose(&from(), DateTime::UNIX_EPOCH)
            .expect("a mail");
        let text = String::from_utf8(mail.formatted()).expect("ASCII");
        for part in [
            "From: \"Box Office\" <office@example.org>",
            "To: Ada <ada@example.org>",
            "Message-ID: <x@example.org>",
            "Date: Thu, 01 Jan 1970 00:00:00 +0000",
            "multipart/alternative",
            "text/plain",
            "text/html",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn what_cannot_become_a_mail_never_will() {
        let broken = [
            Outgoing {
                recipient: "nobody".into(),
                ..mail(1)
            },
            Outgoing {
                recipient: "a@b.c\r\nBcc: x@y.z".into(),
                ..mail(1)
            },
            Outgoing {
                template: "nonsense".into(),
                ..mail(1)
            },
            Outgoing {
                params: json!({}),
                ..mail(1)
            },
        ];
        for mail in broken {
            let refusal = mail
                .compose(&from(), DateTime::UNIX_EPOCH)
                .expect_err("no mail");
            assert!(matches!(refusal, Refusal::ForGood(_)), "{refusal}");
        }
    }
}
