//! A mail as a person, or a test, wants to see it.

use std::fmt;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_parser::{Addr, MessageParser, MimeHeaders as _};
use serde::Serialize;

use super::smtp::Envelope;

#[derive(Clone, Serialize)]
pub struct Message {
    /// Counts up from 1 as messages arrive.
    pub id: u64,
    /// As the reader is told; the envelope's sender if the mail names none.
    pub from: String,
    /// Who it was really delivered to, as told by the envelope.
    pub to: Vec<String>,
    pub subject: String,
    /// The `Message-ID`, without its angle brackets.
    pub message_id: Option<String>,
    /// The `Date` as written in the mail.
    pub date: Option<String>,
    pub text: Option<String>,
    pub html: Option<String>,
    /// Names of the attachments.
    pub attachments: Vec<String>,
    /// Pictures inside the mail, by the `cid:` that its HTML shows them under.
    #[serde(skip)]
    pub(super) pictures: Vec<Picture>,
    /// The mail as it came over the wire, dots unstuffed.
    #[serde(skip)]
    pub raw: Vec<u8>,
    #[serde(skip)]
    pub(super) arrived: Instant,
}

/// Without the raw form, so that a failing test shows something readable.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("to", &self.to)
            .field("subject", &self.subject)
            .field("message_id", &self.message_id)
            .field("text", &self.text)
            .field("html", &self.html)
            .field("attachments", &self.attachments)
            .finish_non_exhaustive()
    }
}

impl Message {
    /// Whatever was sent becomes a message: what cannot be parsed is shown as its raw text.
    pub(super) fn read(id: u64, envelope: Envelope, raw: Vec<u8>) -> Self {
        let parsed = MessageParser::default().parse(&raw);
        let parsed = parsed.as_ref();
        Self {
            id,
            from: parsed.and_then(sender).unwrap_or(envelope.from),
            to: envelope.to,
            subject: parsed
                .and_then(|m| m.subject())
                .unwrap_or_default()
                .to_owned(),
            message_id: parsed.and_then(|m| m.message_id()).map(str::to_owned),
            date: parsed
                .and_then(|m| m.date())
                .map(mail_parser::DateTime::to_rfc3339),
            text: match parsed {
                Some(message) => own_text(message),
                None => Some(String::from_utf8_lossy(&raw).into_owned()),
            },
            html: parsed.and_then(own_html),
            attachments: parsed.map(attachments).unwrap_or_default(),
            pictures: parsed.map(pictures).unwrap_or_default(),
            raw,
            arrived: Instant::now(),
        }
    }
}

/// A picture inside a mail.
#[derive(Clone)]
pub(super) struct Picture {
    content_id: String,
    /// The picture itself, as an address: the frame that shows the mail loads nothing.
    url: String,
}

fn pictures(message: &mail_parser::Message<'_>) -> Vec<Picture> {
    let shown = |part: &mail_parser::MessagePart<'_>| {
        let kind = part.content_type()?;
        let of = kind
            .subtype()
            .filter(|of| ["png", "jpeg", "gif", "webp"].contains(of))?;
        let is_picture = kind.ctype() == "image";
        is_picture.then(|| Picture {
            content_id: part.content_id().unwrap_or_default().to_owned(),
            url: format!(
                "data:image/{of};base64,{}",
                STANDARD.encode(part.contents())
            ),
        })
    };
    message.parts.iter().filter_map(shown).collect()
}

impl Message {
    /// The HTML with the pictures that came inside the mail.
    pub(super) fn html_with_pictures(&self) -> Option<String> {
        let html = self.html.clone()?;
        let pictures = self.pictures.iter().filter(|it| !it.content_id.is_empty());
        Some(pictures.fold(html, |html, picture| {
            html.replace(
                &format!("\"cid:{}\"", picture.content_id),
                &format!("\"{}\"", picture.url),
            )
        }))
    }
}

fn sender(message: &mail_parser::Message<'_>) -> Option<String> {
    message.from()?.first().map(mailbox)
}

fn mailbox(who: &Addr<'_>) -> String {
    let address = who.address().unwrap_or_default();
    match who.name() {
        Some(name) => format!("{name} <{address}>"),
        None => address.to_owned(),
    }
}

/// The plain text that was sent. The parser would also make one out of the HTML, which hides that it is missing.
fn own_text(message: &mail_parser::Message<'_>) -> Option<String> {
    let part = message
        .text_bodies()
        .find(|part| part.is_text() && !part.is_text_html())?;
    part.text_contents().map(str::to_owned)
}

fn own_html(message: &mail_parser::Message<'_>) -> Option<String> {
    let part = message.html_bodies().find(|part| part.is_text_html())?;
    part.text_contents().map(str::to_owned)
}

fn attachments(message: &mail_parser::Message<'_>) -> Vec<String> {
    message
        .attachments()
        .map(|part| part.attachment_name().unwrap_or("unnamed").to_owned())
        .collect()
}
