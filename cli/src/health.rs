//! `holdfast health`: asks the process beside it whether it is ready. For containers' health checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use shared::config::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATH: &str = "/health/ready";
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any answer about health is long.
const LONGEST_ANSWER: u64 = 64 * 1024;

#[derive(clap::Args)]
pub struct Health {
    /// Ask the worker instead of the API
    #[arg(long)]
    worker: bool,
}

pub async fn health(options: Health, config: &Config) -> anyhow::Result<ExitCode> {
    let address = if options.worker {
        config.http.worker_listen
    } else {
        config.http.listen
    };
    println!("{}", ask(address).await?);
    Ok(ExitCode::SUCCESS)
}

/// The body of the answer of a process that is ready; an error that says why it is not.
pub async fn ask(listen: SocketAddr) -> anyhow::Result<String> {
    let address = reachable(listen);
    let answer = timeout(PATIENCE, get(address)).await;
    let answer =
        answer.with_context(|| format!("{address} does not answer within {PATIENCE:?}"))??;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is no HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(
        status == "200",
        "{address} is not ready (status {status}): {}",
        body.trim()
    );
    Ok(body.trim().to_owned())
}

async fn get(address: SocketAddr) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await;
    let mut stream = stream.with_context(|| format!("nothing listens on {address}"))?;
    // HTTP 1.0: the answer comes in one piece and ends with the connection.
    stream
        .write_all(format!("GET {PATH} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream
        .take(LONGEST_ANSWER)
        .read_to_string(&mut answer)
        .await?;
    Ok(answer)
}

/// Where a process can be reached that listens on every address.
#[must_use]
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    (ip, listen.port()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_process_on_every_address_is_reached_on_the_local_one() {
        let cases = [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ];
        for (listen, expected) in cases {
            let listen: SocketAddr = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), expected);
        }
    }

    async fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let mut asked = [0; 256];
            let read = stream.read(&mut asked).await.expect("a request");
            assert!(asked[..read].starts_with(b"GET /health/ready HTTP/1."));
            stream.write_all(answer.as_bytes()).await.expect("answered");
        });
        address
    }

    #[tokio::test]
    async fn ready_is_told_from_not_ready_and_from_nobody() {
        let ready = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        assert_eq!(ask(ready).await.expect("ready"), "{}");
        let unready =
            answering("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"redis\":\"down\"}").await;
        let message = ask(unready).await.expect_err("not ready").to_string();
        assert!(
            message.contains("503") && message.contains("redis"),
            "{message}"
        );
        let message = ask(unready).await.expect_err("gone").to_string();
        assert!(message.contains("nothing listens"), "{message}");
    }
}
