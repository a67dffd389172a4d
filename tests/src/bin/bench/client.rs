//! A client that does next to nothing itself, so that what is measured is the server.

use std::net::SocketAddr;

use anyhow::ensure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection that is kept.
pub struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            answer: vec![0; 1 << 14],
        })
    }

    /// Reads the answer to its end, and that it is 200.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<&[u8]> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
        self.ask(&request, 200).await
    }

    /// The same for something that is accepted, or made if that was `waited` for.
    pub async fn post(
        &mut self,
        path: &str,
        body: &str,
        more: &str,
        status: u16,
    ) -> anyhow::Result<&[u8]> {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n{more}\r\n{body}"
        );
        self.ask(&request, status).await
    }

    /// The body of the answer.
    async fn ask(&mut self, request: &str, status: u16) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request.as_bytes()).await?;
        let (mut read, mut ends) = (0, None);
        while ends.is_none_or(|(_, whole)| read < whole) {
            if read == self.answer.len() {
                self.answer.resize(2 * read, 0);
            }
            let more = self.stream.read(&mut self.answer[read..]).await?;
            ensure!(more > 0, "the answer ended early");
            read += more;
            ends = ends.or_else(|| length(&self.answer[..read]));
        }
        let answer = &self.answer[..read];
        let expected = format!("HTTP/1.1 {status}");
        ensure!(
            answer.starts_with(expected.as_bytes()),
            "{} was answered {}",
            request.lines().next().unwrap_or_default(),
            String::from_utf8_lossy(answer)
        );
        Ok(&answer[ends.map_or(0, |(head, _)| head)..])
    }
}

/// Of the head and of the whole answer, once the head is there.
fn length(answer: &[u8]) -> Option<(usize, usize)> {
    let head = answer.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).ok()?.to_lowercase();
    let (_, rest) = text.split_once("content-length: ")?;
    let body: usize = rest.split("\r\n").next()?.parse().ok()?;
    Some((head, head + body))
}
