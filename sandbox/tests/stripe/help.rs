use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sandbox::Stripe;
use sandbox::stripe::{Delivery, Options, Target};
use serde_json::Value;

pub const SOON: Duration = Duration::from_secs(5);
pub const THEN: i64 = 1_790_000_000;

/// A stand-in, somebody with its secret key, and the time.
pub struct Desk {
    pub stripe: Stripe,
    pub client: Client,
    now: Arc<AtomicI64>,
}

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub base: String,
}

pub struct Answer {
    pub status: u16,
    pub replayed: bool,
    pub body: Value,
}

pub fn desk() -> Desk {
    desk_with(None, Delivery::WhenTold)
}

pub fn desk_with(webhooks: Option<Target>, delivery: Delivery) -> Desk {
    let now = Arc::new(AtomicI64::new(THEN));
    let time = Arc::clone(&now);
    let options = Options {
        now: Arc::new(move || time.load(Ordering::SeqCst)),
        public_url: None,
        webhooks,
        delivery,
    };
    let stripe = Stripe::start(([127, 0, 0, 1], 0).into(), options).expect("a free port");
    let client = Client::new(&stripe);
    Desk {
        stripe,
        client,
        now,
    }
}

impl Desk {
    pub fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    /// A payment of 50.00, confirmed with this card.
    pub async fn pay(&self, method: &str, key: &str) -> Answer {
        self.client
            .post("payment_intents", &paying(method), key)
            .await
    }
}

pub fn paying(method: &str) -> String {
    format!(
        "amount=5000&currency=eur&confirm=true&payment_method={method}&metadata[order_id]=order-1"
    )
}

impl Client {
    pub fn new(stripe: &Stripe) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Self {
            http: http.build().expect("a client"),
            base: stripe.url(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        let request = self.http.get(format!("{}/v1/{path}", self.base));
        answer(request.bearer_auth("sk_test_desk"))
            .await
            .expect("an answer")
    }

    pub async fn post(&self, path: &str, form: &str, key: &str) -> Answer {
        self.try_post(path, form, key).await.expect("an answer")
    }

    pub async fn try_post(&self, path: &str, form: &str, key: &str) -> reqwest::Result<Answer> {
        let mut request = self.request(path, form).bearer_auth("sk_test_desk");
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        answer(request).await
    }

    pub fn request(&self, path: &str, form: &str) -> reqwest::RequestBuilder {
        let request = self.http.post(format!("{}/v1/{path}", self.base));
        let kind = "application/x-www-form-urlencoded";
        request.header("content-type", kind).body(form.to_owned())
    }

    pub async fn control(&self, path: &str, body: Value) -> Answer {
        let request = self.http.post(format!("{}/_control/{path}", self.base));
        answer(request.body(body.to_string()))
            .await
            .expect("an answer")
    }

    /// A page, and where it sends the browser.
    pub async fn page(&self, url: &str, form: Option<&str>) -> (u16, String, String) {
        let request = match form {
            Some(form) => self.http.post(url).body(form.to_owned()),
            None => self.http.get(url),
        };
        let page = request.send().await.expect("a page");
        let status = page.status().as_u16();
        let next = page.headers().get("location");
        let next = next.and_then(|next| next.to_str().ok()).unwrap_or_default();
        (status, next.to_owned(), page.text().await.expect("text"))
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    Ok(Answer {
        status: response.status().as_u16(),
        replayed: response.headers().contains_key("idempotent-replayed"),
        body: response.json().await?,
    })
}

impl Answer {
    pub fn id(&self) -> &str {
        self.body["id"].as_str().expect("an id")
    }

    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}
