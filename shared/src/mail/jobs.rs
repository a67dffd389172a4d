//! The jobs of mail.

use serde::{Deserialize, Serialize};

use crate::ids::MailId;
use crate::jobs::{Job, Queue};

/// Sends one mail.
#[derive(Debug, Serialize, Deserialize)]
pub struct SendMail {
    pub mail_id: MailId,
}

impl Job for SendMail {
    const KIND: &'static str = "mail.send";
    const QUEUE: Queue = Queue::Mail;
}
