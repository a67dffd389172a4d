//! The jobs of accounts.

use serde::{Deserialize, Serialize};

use crate::ids::UserId;
use crate::jobs::{Job, Queue};

/// Mails a link to set a new password. Nobody's is asked for like anybody's, so that asking tells nothing.
#[derive(Debug, Serialize, Deserialize)]
pub struct MailResetLink {
    pub user_id: Option<UserId>,
}

impl Job for MailResetLink {
    const KIND: &'static str = "account.mail_reset_link";
    const QUEUE: Queue = Queue::Mail;
}

/// Removes what is left of sessions and links that were over long ago.
#[derive(Debug, Serialize, Deserialize)]
pub struct ForgetSessions {}

impl Job for ForgetSessions {
    const KIND: &'static str = "account.forget_sessions";
    const QUEUE: Queue = Queue::Background;
}
