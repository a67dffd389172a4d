//! A client that holds every answer against the document.

use std::time::Duration;

use api::http::described;
use api::http::document::document;
use futures_util::stream;
use reqwest::{Method, header};
use serde_json::{Value, json};

/// Somebody who calls the API.
#[derive(Clone)]
pub struct Client {
    base: String,
    key: Option<String>,
    headers: Vec<(String, String)>,
    in_chunks: bool,
    http: reqwest::Client,
}

/// An answer, already held against the document.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: header::HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Client {
    #[must_use]
    pub fn new(base: &str, key: Option<&str>) -> Self {
        Self {
            base: base.to_owned(),
            key: key.map(str::to_owned),
            headers: Vec::new(),
            in_chunks: false,
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
        }
    }

    /// The same caller, not saying beforehand how long a body is.
    #[must_use]
    pub fn in_chunks(&self) -> Self {
        Self {
            in_chunks: true,
            ..self.clone()
        }
    }

    /// The same caller, sending one more header.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// The same caller, asking another process.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        let mut client = self.clone();
        base.clone_into(&mut client.base);
        client
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body.to_string())).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Opens a stream of server-sent events.
    pub async fn follow(&self, path: &str) -> Events {
        let mut request = self.http.get(format!("{}/api/v1{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        Events {
            response,
            read: String::new(),
        }
    }

    /// Posts as clients are told to: what is refused for the moment is sent again, after the pause that the refusal names. It
    /// carries an `Idempotency-Key`, or it would happen twice.
    pub async fn post_until_told(&self, path: &str, body: &Value) -> Answer {
        loop {
            let answer = self.post(path, body).await;
            match answer.pause() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return answer,
            }
        }
    }

    /// Posts to a process that may die meanwhile: nothing if it did not answer.
    pub async fn try_post(&self, path: &str, body: &Value) -> Option<Answer> {
        let body = Some(body.to_string());
        self.try_send(Method::POST, path, body).await.ok()
    }

    /// Sends anything, well formed or not. `path` is below `/api/v1` unless it names a place of its own.
    pub async fn send(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        let answer = self.try_send(method, path, body).await;
        answer.expect("an answer")
    }

    async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> reqwest::Result<Answer> {
        let absolute = [
            "/api",
            "/healthz",
            "/health/",
            "/docs",
            "/openapi",
            "/metrics",
            "/internal",
            "//",
        ];
        let path = if absolute.iter().any(|start| path.starts_with(start)) {
            path.to_owned()
        } else {
            format!("/api/v1{path}")
        };
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        let typed = self.headers.iter().any(|(name, _)| name == "content-type");
        if let Some(body) = body {
            if !typed {
                request = request.header("content-type", "application/json");
            }
            request = if self.in_chunks {
                let chunk = Ok::<_, std::io::Error>(body);
                request.body(reqwest::Body::wrap_stream(stream::iter([chunk])))
            } else {
                request.body(body)
            };
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let endless = headers.get(header::CONTENT_TYPE);
        let endless = endless.is_some_and(|kind| kind == "text/event-stream");
        let text = if endless {
            String::new()
        } else {
            response.text().await?
        };
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Answer {
            status,
            headers,
            body,
            text,
        };
        if !self.headers.iter().any(|(name, _)| name == "x-envelope") {
            answer.is_documented(&method, &path);
        }
        Ok(answer)
    }
}

/// Server-sent events, one after the other.
pub struct Events {
    response: reqwest::Response,
    read: String,
}

impl Events {
    /// The next message, or nothing when the stream has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some((event, rest)) = self.read.split_once("\n\n") {
                let data: Vec<&str> = event
                    .lines()
                    .filter_map(|l| l.strip_prefix("data: "))
                    .collect();
                let message = serde_json::from_str(&data.join("\n")).ok();
                self.read = String::from(rest);
                if message.is_some() {
                    return message;
                }
            }
            let chunk = self.response.chunk().await.ok()??;
            self.read
                .push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// The first message from now on that is as wanted; a test waits ten seconds for it at most.
    #[track_caller]
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> impl Future<Output = Value> {
        let at = std::panic::Location::caller();
        async move {
            let found = async {
                loop {
                    let message = self
                        .next()
                        .await
                        .unwrap_or_else(|| panic!("{at}: the stream ended"));
                    if wanted(&message) {
                        return message;
                    }
                }
            };
            let patience = Duration::from_secs(10);
            let found = tokio::time::timeout(patience, found).await;
            found.unwrap_or_else(|_| panic!("{at}: no such message came"))
        }
    }
}

impl Answer {
    /// The body of a success with this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// The error of a failure with this status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        let error = &self.body["error"];
        assert_eq!(
            (self.status, &error["code"]),
            (status, &json!(code)),
            "{}",
            self.text
        );
        for field in ["message", "timestamp", "request_id"] {
            assert!(error[field].is_string(), "no {field}: {}", self.text);
        }
        error["details"].clone()
    }

    /// The names of the fields that a failure says are bad, sorted.
    #[track_caller]
    pub fn bad_fields(self) -> Vec<String> {
        let details = self.refused(400, "VALIDATION_FAILED");
        let fields = details["fields"].as_array().expect("fields").iter();
        let mut names: Vec<String> = fields
            .map(|field| field["field"].as_str().expect("a name").to_owned())
            .collect();
        names.sort();
        names
    }

    /// Everything that is told, but for what names this one request.
    #[must_use]
    pub fn told(&self) -> Value {
        let mut body = self.body.clone();
        if let Some(error) = body["error"].as_object_mut() {
            error.remove("request_id");
        }
        body
    }

    /// How long to wait before the same request is sent again, if that is what the answer asks for.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        if self.body["error"]["code"] == "IDEMPOTENCY_IN_FLIGHT" {
            return Some(Duration::from_millis(20));
        }
        let passing = matches!(self.status, 429 | 503);
        let seconds = self.header("retry-after")?.parse().ok()?;
        passing.then(|| Duration::from_secs(seconds))
    }

    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// No operation answers what its description does not say.
    fn is_documented(&self, method: &Method, path: &str) {
        let path = path.split('?').next().unwrap_or(path);
        let Some(operation) = operation(method, path) else {
            return;
        };
        let response = &operation["responses"][self.status.to_string()];
        assert!(
            response.is_object(),
            "{method} {path} answered {}, which is not documented: {}",
            self.status,
            self.text
        );
        let schema = response["content"]
            .as_object()
            .and_then(|content| content.values().next());
        if let Some(schema) = schema.map(|content| &content["schema"])
            && !self.body.is_null()
        {
            let violation = described::violation(schema, &self.body);
            assert_eq!(
                violation, None,
                "{method} {path} answered otherwise than documented: {}",
                self.text
            );
        }
        if let Some(code) = self.body["error"]["code"].as_str() {
            let codes = response["x-codes"].as_array().expect("codes");
            assert!(
                codes.iter().any(|known| known == code),
                "{method} {path} answered {code}, which is not documented"
            );
        }
    }
}

fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let paths = document()["paths"].as_object()?;
    let matching = paths.iter().find(|(template, _)| {
        let (shape, parts): (Vec<_>, Vec<_>) =
            (template.split('/').collect(), path.split('/').collect());
        let fits = |(shape, part): (&&str, &&str)| shape.starts_with('{') || shape == part;
        shape.len() == parts.len() && shape.iter().zip(&parts).all(fits)
    });
    matching.and_then(|(_, item)| item.get(method.as_str().to_lowercase()))
}
