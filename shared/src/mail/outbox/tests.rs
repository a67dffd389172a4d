use std::net::SocketAddr;

use chrono::TimeDelta;
use sandbox::{Fault, Inbox};
use serde_json::json;

use super::*;
use crate::ids::MailId;

async fn inbox() -> Inbox {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    Inbox::start(anywhere, None).await.expect("a free port")
}

fn outbox(inbox: &Inbox) -> Outbox {
    outbox_of(&format!("smtp://{}?tls=none", inbox.smtp_addr()), PATIENCE).expect("a good address")
}

fn outbox_of(url: &str, patience: Duration) -> Result<Outbox, BadOutbox> {
    let smtp = Smtp::new(&url.into(), patience)?;
    Ok(Outbox {
        from: from(),
        way: Way::Smtp(smtp),
    })
}

fn from() -> Mailbox {
    Mailbox(
        "Box Office <office@example.org>"
            .parse()
            .expect("an address"),
    )
}

fn mail(recipient: &str) -> Outgoing {
    let id = MailId::fresh(DateTime::UNIX_EPOCH);
    Outgoing {
        id,
        organization_id: None,
        recipient: recipient.into(),
        template: "test".into(),
        params: json!({"installation": "https://tickets.example.org"}),
        message_id: super::super::message::message_id(id, &from()),
        attempts: 1,
        give_up_at: DateTime::UNIX_EPOCH + TimeDelta::days(1),
    }
}

async fn send(outbox: &Outbox, mail: &Outgoing) -> Result<(), Refusal> {
    outbox.send(mail, DateTime::UNIX_EPOCH).await
}

fn is_for_now(outcome: &Result<(), Refusal>) -> bool {
    matches!(outcome, Err(Refusal::ForNow(_)))
}

#[tokio::test]
async fn mails_arrive_with_text_and_html_over_one_connection() {
    let inbox = inbox().await;
    let outbox = outbox(&inbox);
    for _ in 0..5 {
        assert_eq!(send(&outbox, &mail("Ada <ada@example.org>")).await, Ok(()));
    }
    let messages = inbox.messages();
    assert_eq!((messages.len(), inbox.connections()), (5, 1));
    let message = &messages[0];
    assert_eq!(
        (message.from.as_str(), &message.to[..]),
        (
            "Box Office <office@example.org>",
            &["ada@example.org".into()][..]
        )
    );
    assert_eq!(message.subject, "A test mail from Holdfast");
    assert!(
        message
            .text
            .as_deref()
            .is_some_and(|text| text.contains("mail works"))
    );
    assert!(
        message
            .html
            .as_deref()
            .is_some_and(|html| html.contains("mail works"))
    );
}

#[tokio::test]
async fn one_refused_address_is_refused_and_the_others_go_through() {
    let inbox = inbox().await;
    let outbox = outbox(&inbox);
    inbox.misbehave(Fault::Refuse("gone@example.org".into()));
    inbox.misbehave(Fault::Defer("full@example.org".into()));
    let refused = send(&outbox, &mail("gone@example.org")).await;
    assert!(
        matches!(&refused, Err(Refusal::ForGood(why)) if why.contains("550")),
        "{refused:?}"
    );
    let deferred = send(&outbox, &mail("full@example.org")).await;
    assert!(
        matches!(&deferred, Err(Refusal::ForNow(why)) if why.contains("451")),
        "{deferred:?}"
    );
    assert_eq!(send(&outbox, &mail("ada@example.org")).await, Ok(()));
    assert_eq!(inbox.messages().len(), 1);
}

#[tokio::test]
async fn a_server_that_was_down_is_found_again() {
    let inbox = inbox().await;
    let outbox = outbox(&inbox);
    assert_eq!(send(&outbox, &mail("ada@example.org")).await, Ok(()));
    inbox.go_down().await.expect("the port is ours");
    assert!(is_for_now(&send(&outbox, &mail("ada@example.org")).await));
    inbox.come_back().expect("the port is ours");
    assert_eq!(send(&outbox, &mail("ada@example.org")).await, Ok(()));
    assert_eq!(inbox.messages().len(), 2);
}

/// What lettre's own pool would get wrong: the next mail must not read the answers to the one given up.
#[tokio::test]
async fn a_slow_answer_is_given_up_and_never_taken_for_the_answer_to_the_next_mail() {
    let inbox = inbox().await;
    let url = format!("smtp://{}?tls=none", inbox.smtp_addr());
    let outbox = outbox_of(&url, Duration::from_millis(300)).expect("a good address");
    inbox.misbehave(Fault::Slow(
        "slow@example.org".into(),
        Duration::from_hours(1),
    ));
    inbox.misbehave(Fault::Refuse("gone@example.org".into()));
    assert_eq!(send(&outbox, &mail("ada@example.org")).await, Ok(()));
    for _ in 0..3 {
        assert!(is_for_now(&send(&outbox, &mail("slow@example.org")).await));
        assert!(matches!(
            send(&outbox, &mail("gone@example.org")).await,
            Err(Refusal::ForGood(_))
        ));
        assert_eq!(send(&outbox, &mail("ada@example.org")).await, Ok(()));
    }
    assert!(
        inbox
            .messages()
            .iter()
            .all(|message| message.to == ["ada@example.org"])
    );
    assert_eq!(inbox.messages().len(), 4);
}

#[tokio::test]
async fn a_slow_answer_holds_up_nobody_else() {
    let inbox = inbox().await;
    let outbox = outbox(&inbox);
    inbox.misbehave(Fault::Slow(
        "slow@example.org".into(),
        Duration::from_hours(1),
    ));
    let slow = mail("slow@example.org");
    tokio::select! {
        outcome = send(&outbox, &slow) => panic!("the slow one came first: {outcome:?}"),
        () = async {
            for _ in 0..20 {
                assert_eq!(send(&outbox, &mail("ada@example.org")).await, Ok(()));
            }
        } => {}
    }
}

#[tokio::test]
async fn a_connection_lost_after_the_data_is_doubt_and_the_repetition_shows_as_one() {
    let inbox = inbox().await;
    let outbox = outbox(&inbox);
    inbox.misbehave(Fault::DropAfterData { kept: true });
    let mail = mail("ada@example.org");
    assert!(is_for_now(&send(&outbox, &mail).await));
    assert_eq!(send(&outbox, &mail).await, Ok(()));
    let ids: Vec<_> = inbox
        .messages()
        .iter()
        .map(|message| message.message_id.clone())
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn credentials_are_said_but_never_to_a_server_without_tls_unless_told_so() {
    let inbox = inbox().await;
    let plain = format!("smtp://user:p%40ss@{}", inbox.smtp_addr());
    let demanding = outbox_of(&plain, PATIENCE).expect("a good address");
    let outcome = send(&demanding, &mail("ada@example.org")).await;
    assert!(
        matches!(&outcome, Err(Refusal::ForNow(why)) if why.contains("STARTTLS")),
        "{outcome:?}"
    );
    assert!(inbox.messages().is_empty());

    let trusting = outbox_of(&format!("{plain}?tls=none"), PATIENCE).expect("a good address");
    assert_eq!(send(&trusting, &mail("ada@example.org")).await, Ok(()));
}

#[test]
fn a_bad_address_is_named_without_its_password() {
    let bad = [
        "nonsense hunter2",
        "http://u:hunter2@h",
        "smtp:hunter2",
        "smtp://u:hunter2@h?tls=maybe",
        "smtps://u:hunter2@h?tls=none",
        "smtp://u:hunter2%ff@h",
    ];
    for url in bad {
        let error = outbox_of(url, PATIENCE)
            .err()
            .unwrap_or_else(|| panic!("{url} was taken"))
            .to_string();
        assert!(
            error.starts_with("HOLDFAST_MAIL_SMTP_URL ([mail] smtp_url) has a bad value: "),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn without_a_server_mails_become_files_once_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config::Mail {
        smtp_url: None,
        folder: folder.path().join("not/yet/there"),
        from: from(),
        give_up: config::Span(Duration::from_secs(1)),
    };
    let outbox = Outbox::new(&config).expect("nothing to get wrong");
    let mail = mail("ada@example.org");
    for _ in 0..2 {
        assert_eq!(send(&outbox, &mail).await, Ok(()));
    }
    let files: Vec<_> = std::fs::read_dir(&config.folder)
        .expect("it is there")
        .collect();
    assert_eq!(files.len(), 1);
    let text =
        std::fs::read_to_string(config.folder.join(format!("{}.eml", mail.id))).expect("a file");
    assert!(
        text.contains("To: ada@example.org\r\n") && text.contains("text/html"),
        "{text}"
    );
}
