//! Mail, from the transaction that writes it to the server that takes it, on bad days too.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use sandbox::Fault;
use serde_json::json;
use shared::access::{Actor, Scope};
use shared::ids::MailId;
use shared::mail::{self, Letter};
use tests::{World, world, world_with};

const DEADLINE: Duration = Duration::from_secs(10);

fn letter(recipient: &str, cause: &str) -> Letter {
    Letter {
        organization_id: None,
        cause: cause.into(),
        recipient: recipient.into(),
        template: "test",
        locale: "en".into(),
        params: json!({"installation": "https://tickets.example.org"}),
    }
}

/// Writes a test mail to somebody, in a transaction of its own.
async fn write(world: &World, recipient: &str) -> MailId {
    let written = world
        .change(async |tx| mail::write(tx, letter(recipient, recipient)).await)
        .await;
    written.expect("the first of its cause")
}

/// What is known of a mail.
#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Known {
    status: String,
    attempts: i32,
    last_error: Option<String>,
}

async fn known(world: &World, id: MailId) -> Known {
    let query = sqlx::query_as("select status, attempts, last_error from mails where id = $1");
    query
        .bind(id)
        .fetch_one(world.app.pool())
        .await
        .expect("a mail")
}

async fn assert_sent(world: &World, id: MailId, attempts: i32) {
    let sent = Known {
        status: "sent".into(),
        attempts,
        last_error: None,
    };
    assert_eq!(known(world, id).await, sent);
}

/// Everyone who got a mail, in the order of the alphabet: mails of one moment may come in any.
fn recipients(world: &World) -> Vec<String> {
    let messages = world.inbox.messages();
    let mut all: Vec<String> = messages
        .iter()
        .flat_map(|message| message.to.clone())
        .collect();
    all.sort();
    all
}

async fn eventually(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, met).await.expect("in time");
}

#[tokio::test]
async fn a_mail_is_sent_with_text_and_html() {
    world(async |world| {
        let id = write(world, "ada@example.org").await;
        world.run_jobs().await;

        let [message] = &world.inbox.messages()[..] else {
            panic!("one message")
        };
        assert_eq!(message.to, ["ada@example.org"]);
        assert_eq!(message.subject, "A test mail from Holdfast");
        let told = |part: &Option<String>| {
            part.as_ref()
                .is_some_and(|part| part.contains("tickets.example.org"))
        };
        assert!(told(&message.text) && told(&message.html), "{message:?}");
        assert!(
            message
                .message_id
                .as_ref()
                .is_some_and(|sent| sent.starts_with(&id.to_string()))
        );
        assert_sent(world, id, 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_mail_waits_for_a_server_that_is_down_and_is_sent_once() {
    world(async |world| {
        world.inbox.go_down().await.expect("the port is ours");
        let id = write(world, "ada@example.org").await;
        world.run_jobs().await;
        let waiting = known(world, id).await;
        assert_eq!((waiting.status.as_str(), waiting.attempts), ("waiting", 1));
        assert!(
            waiting
                .last_error
                .is_some_and(|error| error.contains("refused"))
        );

        world.inbox.come_back().expect("the port is ours");
        assert_eq!(world.run_jobs().await, 0, "not before its pause is over");
        world.pass(TimeDelta::seconds(30));
        world.run_jobs().await;
        assert_sent(world, id, 2).await;
        assert_eq!(recipients(world), ["ada@example.org"]);
    })
    .await;
}

#[tokio::test]
async fn a_refused_address_ends_its_own_mail_and_no_other_until_an_operator_sends_it_again() {
    world(async |world| {
        world
            .inbox
            .misbehave(Fault::Refuse("gone@example.org".into()));
        write(world, "ada@example.org").await;
        let refused = write(world, "gone@example.org").await;
        write(world, "bob@example.org").await;
        world.run_jobs().await;

        assert_eq!(recipients(world), ["ada@example.org", "bob@example.org"]);
        let dead = known(world, refused).await;
        assert_eq!((dead.status.as_str(), dead.attempts), ("dead", 1));
        assert!(dead.last_error.is_some_and(|error| error.contains("550")));

        world.inbox.recover();
        world
            .change(async |tx| mail::resend(tx, refused).await)
            .await;
        world.run_jobs().await;
        assert_sent(world, refused, 1).await;
        let story: Vec<String> = world
            .activity_of(&json!(refused))
            .await
            .into_iter()
            .map(|(_, kind, _)| kind)
            .collect();
        assert_eq!(story, ["mail.dead", "mail.resent"]);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_become_a_mail_is_dead_at_once() {
    world(async |world| {
        let id = write(world, "no address at all").await;
        world.run_jobs().await;
        let dead = known(world, id).await;
        assert_eq!((dead.status.as_str(), dead.attempts), ("dead", 1));
        assert!(
            dead.last_error
                .is_some_and(|error| error.starts_with("bad recipient"))
        );
    })
    .await;
}

#[tokio::test]
async fn a_mail_that_is_on_its_way_is_not_sent_again() {
    world(async |world| {
        let id = write(world, "ada@example.org").await;
        world.change(async |tx| mail::resend(tx, id).await).await;
        assert_eq!(world.run_jobs().await, 1);
        assert_eq!(recipients(world).len(), 1);

        world.change(async |tx| mail::resend(tx, id).await).await;
        world.run_jobs().await;
        assert_eq!(recipients(world).len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_slow_answer_blocks_neither_other_mails_nor_the_database() {
    world(async |world| {
        world.inbox.misbehave(Fault::Slow(
            "slow@example.org".into(),
            Duration::from_hours(1),
        ));
        let slow = write(world, "slow@example.org").await;
        let one_worker = world.run_jobs();
        let meanwhile = async {
            eventually(|| world.inbox.connections() == 1).await;
            write(world, "ada@example.org").await;
            world.run_jobs().await;
            assert_eq!(recipients(world), ["ada@example.org"]);
            assert_eq!(known(world, slow).await.status, "sending");
            assert_eq!(
                open_transactions(world).await,
                0,
                "a transaction is open across SMTP"
            );
            world.inbox.go_down().await.expect("the port is ours");
        };
        tokio::join!(one_worker, meanwhile);
        assert_eq!(known(world, slow).await.status, "waiting");

        world.inbox.recover();
        world.inbox.come_back().expect("the port is ours");
        world.pass(TimeDelta::seconds(30));
        world.run_jobs().await;
        assert_sent(world, slow, 2).await;
    })
    .await;
}

/// Whether somebody waits for the table of mails.
async fn waits_for_mails(world: &World) -> bool {
    let waits =
        "select count(*) > 0 from pg_locks where relation = 'mails'::regclass and not granted";
    let waits = sqlx::query_scalar(waits).fetch_one(world.app.pool());
    waits.await.expect("an answer")
}

/// Sending it again would be the other way out.
#[tokio::test]
async fn a_mail_that_was_taken_is_written_down_when_postgres_can_again() {
    let hasty = [("HOLDFAST_DATABASE_LOCK_TIMEOUT", "200ms")];
    world_with(&hasty, async |world| {
        let (ada, thinks) = ("ada@example.org".to_owned(), Duration::from_millis(500));
        world.inbox.misbehave(Fault::Slow(ada, thinks));
        let id = write(world, "ada@example.org").await;
        let meanwhile = async {
            eventually(|| world.inbox.connections() == 1).await;
            let mut away = world.app.pool().begin().await.expect("a transaction");
            sqlx::query("lock table mails in access exclusive mode")
                .execute(&mut *away)
                .await
                .expect("a lock");
            // It is tried, in vain, and tried again.
            for waits in [true, false, true] {
                while waits_for_mails(world).await != waits {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            away.rollback().await.expect("it is back");
        };
        tokio::join!(world.run_jobs(), meanwhile);
        assert_sent(world, id, 1).await;
        assert_eq!(recipients(world), ["ada@example.org"]);
    })
    .await;
}

async fn open_transactions(world: &World) -> i64 {
    let query = sqlx::query_scalar(
        "select count(*) from pg_stat_activity
         where datname = current_database() and state like 'idle in transaction%'",
    );
    query.fetch_one(world.app.pool()).await.expect("an answer")
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_data_means_another_try() {
    world(async |world| {
        world.inbox.misbehave(Fault::DropAfterData { kept: false });
        let id = write(world, "ada@example.org").await;
        world.run_jobs().await;
        assert_eq!(known(world, id).await.status, "waiting");
        world.pass(TimeDelta::seconds(30));
        world.run_jobs().await;
        assert_sent(world, id, 2).await;
        assert_eq!(recipients(world).len(), 1);
    })
    .await;
}

/// The window that SMTP leaves open: what is then sent twice is the same message.
#[tokio::test]
async fn a_mail_accepted_by_a_server_that_never_said_so_comes_twice_as_the_same_message() {
    world(async |world| {
        world.inbox.misbehave(Fault::DropAfterData { kept: true });
        write(world, "ada@example.org").await;
        world.run_jobs().await;
        world.pass(TimeDelta::seconds(30));
        world.run_jobs().await;
        let messages = world.inbox.messages();
        let ids: BTreeSet<_> = messages
            .iter()
            .map(|message| message.message_id.clone())
            .collect();
        assert_eq!((messages.len(), ids.len()), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_died_is_made_again() {
    world(async |world| {
        let id = write(world, "ada@example.org").await;
        let begun = mail::begin(&world.app, id).await.expect("taken up");
        assert!(begun.is_some_and(|mail| mail.attempts == 1));
        world.run_jobs().await;
        assert_sent(world, id, 2).await;
        assert_eq!(recipients(world).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_mail_nobody_takes_is_dead_after_a_day() {
    world(async |world| {
        world.inbox.misbehave(Fault::Defer("*".into()));
        let id = write(world, "ada@example.org").await;
        world.run_jobs().await;
        world.pass(TimeDelta::hours(23));
        world.run_jobs().await;
        assert_eq!(known(world, id).await.status, "waiting");
        world.pass(TimeDelta::hours(1));
        world.run_jobs().await;
        let dead = known(world, id).await;
        assert_eq!((dead.status.as_str(), dead.attempts), ("dead", 3));
        assert!(dead.last_error.is_some_and(|error| error.contains("451")));

        world.inbox.recover();
        world.pass(TimeDelta::days(1));
        assert_eq!(world.run_jobs().await, 0);
        assert!(world.inbox.messages().is_empty());
    })
    .await;
}

#[tokio::test]
async fn without_a_server_mails_become_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    world_with(
        &[
            ("HOLDFAST_MAIL_SMTP_URL", ""),
            ("HOLDFAST_MAIL_FOLDER", path),
        ],
        async |world| {
            let id = write(world, "ada@example.org").await;
            world.run_jobs().await;
            assert_sent(world, id, 1).await;
            let mail =
                std::fs::read_to_string(folder.path().join(format!("{id}.eml"))).expect("a file");
            assert!(mail.contains("To: ada@example.org\r\n"), "{mail}");
            assert_eq!(world.inbox.connections(), 0);
        },
    )
    .await;
}

#[tokio::test]
async fn one_cause_makes_one_mail_however_often_it_is_told() {
    world(async |world| {
        let twice = world
            .change(async |tx| {
                let first = mail::write(tx, letter("ada@example.org", "order-paid:1")).await?;
                Ok((
                    first,
                    mail::write(tx, letter("ada@example.org", "order-paid:1")).await?,
                ))
            })
            .await;
        assert!(matches!(twice, (Some(_), None)), "{twice:?}");
        world.run_jobs().await;
        let later = world
            .change(async |tx| mail::write(tx, letter("eve@example.org", "order-paid:1")).await)
            .await;
        assert_eq!(later, None);
        assert_eq!(world.run_jobs().await, 0);
        assert_eq!(recipients(world), ["ada@example.org"]);
    })
    .await;
}

#[tokio::test]
async fn what_did_not_happen_is_told_to_nobody() {
    world(async |world| {
        let mut tx = world
            .app
            .begin(Actor::System, Scope::Everything)
            .await
            .expect("a transaction");
        mail::write(&mut tx, letter("ada@example.org", "never"))
            .await
            .expect("written");
        drop(tx);
        assert_eq!(world.run_jobs().await, 0);
        assert!(world.inbox.messages().is_empty());
        // Nor does it stand in the way of what happens after all.
        let written = world
            .change(async |tx| mail::write(tx, letter("ada@example.org", "never")).await)
            .await;
        assert!(written.is_some());
        world.run_jobs().await;
        assert_eq!(recipients(world), ["ada@example.org"]);
    })
    .await;
}
