//! The mail catcher as a client sees it: over SMTP with lettre, over bare sockets, and in a browser.

use std::net::SocketAddr;
use std::time::Duration;

use lettre::message::{Attachment, MultiPart, SinglePart, header::ContentType};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message as Mail, Tokio1Executor};
use sandbox::{Fault, Inbox};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

type Transport = AsyncSmtpTransport<Tokio1Executor>;

const SOON: Duration = Duration::from_secs(5);

async fn inbox() -> Inbox {
    Inbox::start(anywhere(), Some(anywhere()))
        .await
        .expect("two free ports")
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn transport(inbox: &Inbox) -> Transport {
    let address = inbox.smtp_addr();
    Transport::builder_dangerous(address.ip().to_string())
        .port(address.port())
        .build()
}

fn mail(to: &str, body: &str) -> Mail {
    Mail::builder()
        .from(
            "Box Office <office@example.org>"
                .parse()
                .expect("an address"),
        )
        .to(to.parse().expect("an address"))
        .subject("Your täglich ticket")
        .message_id(Some("<one@example.org>".to_owned()))
        .multipart(MultiPart::alternative_plain_html(
            body.to_owned(),
            format!("<p>{body}</p>"),
        ))
        .expect("a mail")
}

/// Says `lines` in one go and returns everything the server answers until it hangs up.
async fn say(address: SocketAddr, lines: &[u8]) -> String {
    let mut stream = TcpStream::connect(address)
        .await
        .expect("a listening server");
    stream.write_all(lines).await.expect("a reading server");
    let mut answers = String::new();
    let reading = stream.read_to_string(&mut answers);
    tokio::time::timeout(SOON, reading)
        .await
        .expect("an end")
        .expect("text");
    answers
}

#[tokio::test]
async fn a_mail_arrives_in_all_its_parts() {
    let inbox = inbox().await;
    transport(&inbox)
        .send(mail("ada@example.org", ".\r\n..dots\r\nLiebe Grüße"))
        .await
        .expect("accepted");

    let message = inbox
        .wait_for(|m| m.to == ["ada@example.org"], SOON)
        .await
        .expect("it arrives");
    assert_eq!(message.from, "Box Office <office@example.org>");
    assert_eq!(message.subject, "Your täglich ticket");
    assert_eq!(message.message_id.as_deref(), Some("one@example.org"));
    assert_eq!(
        message.text.as_deref().map(str::trim_end),
        Some(".\r\n..dots\r\nLiebe Grüße")
    );
    assert!(
        message
            .html
            .as_deref()
            .is_some_and(|html| html.starts_with("<p>."))
    );
    assert!(message.attachments.is_empty());
}

#[tokio::test]
async fn attachments_are_named_and_missing_parts_are_missing() {
    let inbox = inbox().await;
    let parts = MultiPart::mixed()
        .singlepart(SinglePart::html("<b>only HTML</b>".to_owned()))
        .singlepart(
            Attachment::new("ticket.pdf".into()).body(vec![0_u8; 2_000], ContentType::TEXT_PLAIN),
        );
    let mail = Mail::builder()
        .from("office@example.org".parse().expect("an address"))
        .to("ada@example.org".parse().expect("an address"))
        .multipart(parts)
        .expect("a mail");
    transport(&inbox).send(mail).await.expect("accepted");

    let message = &inbox.messages()[0];
    assert_eq!(message.attachments, ["ticket.pdf"]);
    assert_eq!(message.html.as_deref(), Some("<b>only HTML</b>"));
    assert_eq!(
        (message.text.as_deref(), message.subject.as_str()),
        (None, "")
    );
}

#[tokio::test]
async fn one_connection_carries_many_mails_newest_first() {
    let inbox = inbox().await;
    let transport = transport(&inbox);
    for n in 0..30 {
        transport
            .send(mail(&format!("guest{n}@example.org"), "hello"))
            .await
            .expect("accepted");
    }
    let messages = inbox.messages();
    assert_eq!(messages.len(), 30);
    assert_eq!(messages[0].to, ["guest29@example.org"]);
    assert!(
        inbox.connections() < 30,
        "{} connections",
        inbox.connections()
    );
    assert!(messages.windows(2).all(|pair| pair[0].id > pair[1].id));
}

#[tokio::test]
async fn credentials_of_both_kinds_are_taken() {
    let inbox = inbox().await;
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let transport = Transport::builder_dangerous("127.0.0.1")
            .port(inbox.smtp_addr().port())
            .credentials(Credentials::new("user".into(), "password".into()))
            .authentication(vec![mechanism])
            .build();
        transport
            .send(mail("ada@example.org", "hello"))
            .await
            .expect("accepted");
    }
    assert_eq!(inbox.messages().len(), 2);
}

#[tokio::test]
async fn commands_may_be_pipelined_and_a_message_may_be_taken_back() {
    let inbox = inbox().await;
    let answers = say(
        inbox.smtp_addr(),
        b"EHLO me\r\nMAIL FROM:<a@b.c> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<gone@b.c>\r\nRSET\r\nDATA\r\nNOOP\r\n\
          mail from:<a@b.c>\r\nrcpt to:<kept@b.c>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n",
    )
    .await;
    let codes: Vec<&str> = answers
        .lines()
        .filter(|l| l.as_bytes()[3] == b' ')
        .map(|l| &l[..3])
        .collect();
    assert_eq!(
        codes,
        [
            "220", "250", "250", "250", "250", "503", "250", "250", "250", "354", "250", "221"
        ]
    );
    let messages = inbox.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].to, ["kept@b.c"]);
    assert_eq!(messages[0].raw, b"Subject: x\r\n\r\n.dot\r\n");
}

#[tokio::test]
async fn what_is_too_long_or_out_of_order_is_refused_and_the_session_goes_on() {
    let inbox = inbox().await;
    let mut talk = b"MAIL FROM:<a@b.c>\r\nEHLO me\r\nNOOP ".to_vec();
    talk.extend(vec![b'x'; 20_000]);
    talk.extend(
        b"\r\nMAIL FROM:<a@b.c> SIZE=999999999\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@b.c>\r\nDATA\r\n",
    );
    talk.extend([b'y'; 1_001]);
    talk.extend(b"\r\n.\r\nBDAT\r\nQUIT\r\n");
    let answers = say(inbox.smtp_addr(), &talk).await;
    let codes: Vec<&str> = answers
        .lines()
        .filter(|l| l.as_bytes()[3] == b' ')
        .map(|l| &l[..3])
        .collect();
    assert_eq!(
        codes,
        [
            "220", "503", "250", "500", "552", "250", "250", "354", "500", "500", "221"
        ]
    );
    assert!(inbox.messages().is_empty());
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused_without_being_kept() {
    let inbox = inbox().await;
    let mut talk = b"EHLO me\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@b.c>\r\nDATA\r\n".to_vec();
    for _ in 0..(11 << 20) / 900 {
        talk.extend([b'z'; 898]);
        talk.extend(b"\r\n");
    }
    talk.extend(b".\r\nQUIT\r\n");
    let answers = say(inbox.smtp_addr(), &talk).await;
    assert!(
        answers.contains("\r\n552 5.3.4 Too large\r\n221 "),
        "{answers}"
    );
    assert!(inbox.messages().is_empty());
}

#[tokio::test]
async fn addresses_are_refused_and_deferred_one_by_one() {
    let inbox = inbox().await;
    let transport = transport(&inbox);
    inbox.misbehave(Fault::Refuse("gone@example.org".into()));
    inbox.misbehave(Fault::Defer("full@example.org".into()));

    let refusal = transport
        .send(mail("gone@example.org", "hello"))
        .await
        .expect_err("refused");
    assert!(refusal.is_permanent(), "{refusal}");
    let deferral = transport
        .send(mail("full@example.org", "hello"))
        .await
        .expect_err("deferred");
    assert!(deferral.is_transient(), "{deferral}");
    transport
        .send(mail("ada@example.org", "hello"))
        .await
        .expect("accepted");

    inbox.recover();
    transport
        .send(mail("gone@example.org", "hello"))
        .await
        .expect("accepted");
    let to: Vec<_> = inbox.messages().iter().flat_map(|m| m.to.clone()).collect();
    assert_eq!(to, ["gone@example.org", "ada@example.org"]);
}

#[tokio::test]
async fn slowness_towards_one_address_leaves_the_others_alone() {
    let inbox = inbox().await;
    let transport = transport(&inbox);
    inbox.misbehave(Fault::Slow(
        "slow@example.org".into(),
        Duration::from_hours(1),
    ));
    let slow = tokio::spawn({
        let transport = transport.clone();
        async move { transport.send(mail("slow@example.org", "hello")).await }
    });
    transport
        .send(mail("ada@example.org", "hello"))
        .await
        .expect("accepted");
    assert!(!slow.is_finished());
    // Even an hour of slowness ends when the server does.
    inbox.go_down().await.expect("the port is ours");
    slow.await.expect("no panic").expect_err("cut off");
}

#[tokio::test]
async fn a_connection_dropped_after_the_data_leaves_the_client_in_doubt() {
    let inbox = inbox().await;
    let transport = transport(&inbox);
    for kept in [true, false] {
        inbox.misbehave(Fault::DropAfterData { kept });
        let doubt = transport
            .send(mail("ada@example.org", "hello"))
            .await
            .expect_err("no answer");
        assert!(!doubt.is_permanent() && !doubt.is_transient(), "{doubt}");
        assert_eq!(inbox.messages().len(), 1);
    }
    transport
        .send(mail("ada@example.org", "hello"))
        .await
        .expect("accepted");
    assert_eq!(inbox.messages().len(), 2);
}

#[tokio::test]
async fn a_server_that_was_down_comes_back_on_the_same_port() {
    let inbox = inbox().await;
    let transport = transport(&inbox);
    transport
        .send(mail("ada@example.org", "one"))
        .await
        .expect("accepted");
    for _ in 0..3 {
        inbox.go_down().await.expect("the port is ours");
        let refused = TcpStream::connect(inbox.smtp_addr())
            .await
            .expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        inbox.come_back().expect("the port is still ours");
        transport
            .send(mail("ada@example.org", "two"))
            .await
            .expect("accepted");
    }
    assert_eq!(inbox.messages().len(), 4);
}

#[tokio::test]
async fn it_stops_when_dropped() {
    let inbox = inbox().await;
    let (smtp, web) = (inbox.smtp_addr(), inbox.web_addr().expect("a page"));
    let mut open = TcpStream::connect(smtp).await.expect("a listening server");
    drop(inbox);
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, open.read_to_end(&mut rest))
        .await
        .expect("it hangs up")
        .ok();
    for address in [smtp, web] {
        let gone = async { while TcpStream::connect(address).await.is_ok() {} };
        tokio::time::timeout(SOON, gone)
            .await
            .expect("nobody listens");
    }
}

#[tokio::test]
async fn waiting_in_vain_tells_what_came_instead() {
    let inbox = inbox().await;
    transport(&inbox)
        .send(mail("ada@example.org", "hello"))
        .await
        .expect("accepted");
    let missing = inbox
        .wait_for(|m| m.to == ["bob@example.org"], Duration::ZERO)
        .await
        .expect_err("nothing for Bob");
    assert_eq!(missing.instead[0].to, ["ada@example.org"]);
}

async fn http(inbox: &Inbox, method: &str, path: &str) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    say(inbox.web_addr().expect("a page"), request.as_bytes()).await
}

#[tokio::test]
async fn the_page_shows_mails_and_runs_nothing_of_them() {
    let inbox = inbox().await;
    let hostile = "</pre></iframe>\"'><script>alert(1)</script>";
    transport(&inbox)
        .send(mail("ada@example.org", hostile))
        .await
        .expect("accepted");

    let list = http(&inbox, "GET", "/").await;
    assert!(
        list.contains("ada@example.org") && list.contains("Your täglich ticket"),
        "{list}"
    );
    assert!(
        list.contains("http-equiv=\"refresh\"")
            && list.contains("content-security-policy: default-src 'none'")
    );

    let page = http(&inbox, "GET", "/messages/1").await;
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    assert!(!page.contains("<script"), "{page}");
    assert_eq!(page.matches("</iframe>").count(), 1, "{page}");
    assert!(
        http(&inbox, "GET", "/messages/1/raw")
            .await
            .contains("content-type: text/plain")
    );
    assert!(
        http(&inbox, "GET", "/messages/2")
            .await
            .starts_with("HTTP/1.1 404")
    );
}

#[tokio::test]
async fn scripts_read_the_inbox_as_json_and_empty_it() {
    let inbox = inbox().await;
    transport(&inbox)
        .send(mail("ada@example.org", "hello"))
        .await
        .expect("accepted");
    let answer = http(&inbox, "GET", "/messages.json").await;
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let messages: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(messages[0]["to"][0], "ada@example.org");
    assert_eq!(
        messages[0]["text"].as_str().map(str::trim_end),
        Some("hello")
    );

    assert!(
        http(&inbox, "DELETE", "/messages")
            .await
            .starts_with("HTTP/1.1 204")
    );
    assert!(inbox.messages().is_empty());
}

#[tokio::test]
async fn the_page_shows_the_pictures_inside_a_mail() {
    let inbox = inbox().await;
    let picture = [0x89, b'P', b'N', b'G', 1, 2, 3];
    let png = ContentType::parse("image/png").expect("a media type");
    let html = "<p>Your code: <img src=\"cid:code-1\"> <img src=\"cid:nobodys\"></p>".to_owned();
    let body = MultiPart::related()
        .singlepart(SinglePart::html(html))
        .singlepart(Attachment::new_inline("code-1".to_owned()).body(picture.to_vec(), png));
    let mail = Mail::builder()
        .from("office@example.org".parse().expect("an address"))
        .to("ada@example.org".parse().expect("an address"))
        .subject("Your ticket")
        .multipart(body)
        .expect("a mail");
    transport(&inbox).send(mail).await.expect("accepted");
    let page = http(&inbox, "GET", "/messages/1").await;
    let shown = "data:image/png;base64,iVBORwECAw==";
    let page = page.replace("&#x2f;", "/").replace("&#x3d;", "=");
    assert!(page.contains(shown), "{page}");
    assert!(!page.contains("cid:code-1"), "{page}");
    assert!(
        page.contains("cid:nobodys"),
        "what is not there is left as it is"
    );
}
