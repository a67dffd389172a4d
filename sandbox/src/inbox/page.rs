//! The inbox in a browser. Works without JavaScript and without internet.
//!
//! A mail's HTML is hostile until proven otherwise: it is shown in a frame that may run nothing, load nothing
//! and belongs to no origin. Only its links work: they open in a tab of their own.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use minijinja::{Environment, context};
use poem::http::{StatusCode, header};
use poem::listener::TcpAcceptor;
use poem::middleware::SetHeader;
use poem::web::{Data, Html, Json, Path};
use poem::{Endpoint, EndpointExt as _, Route, Server, get, handler};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Message, Shared};

/// How long open requests may take when the inbox stops.
const PATIENCE: Duration = Duration::from_secs(1);
const CONTENT_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'";

static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    for (name, source) in [
        ("layout.html", include_str!("pages/layout.html")),
        ("list.html", include_str!("pages/list.html")),
        ("message.html", include_str!("pages/message.html")),
    ] {
        pages
            .add_template(name, source)
            .expect("the pages are part of the program and parse");
    }
    pages
});

/// Returns the address once browsers can connect.
pub(super) async fn serve(
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let server = Server::new_with_acceptor(TcpAcceptor::from_tokio(listener)?);
    tokio::spawn(async move {
        let serving = server.run_with_graceful_shutdown(
            routes(shared),
            stop.cancelled_owned(),
            Some(PATIENCE),
        );
        if let Err(error) = serving.await {
            tracing::error!("the inbox page ended: {error}");
        }
    });
    Ok(address)
}

fn routes(shared: Arc<Shared>) -> impl Endpoint {
    Route::new()
        .at("/", get(list))
        .at("/messages", poem::delete(clear))
        .at("/messages.json", get(json))
        .at("/messages/:id", get(show))
        .at("/messages/:id/raw", get(raw))
        .with(
            SetHeader::new()
                .overriding(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY)
                .overriding(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
                .overriding(header::REFERRER_POLICY, "no-referrer")
                .overriding(header::CACHE_CONTROL, "no-store"),
        )
        .data(shared)
}

#[handler]
fn list(Data(shared): Data<&Arc<Shared>>) -> poem::Result<Html<String>> {
    let rows: Vec<_> = shared
        .messages()
        .iter()
        .map(|m| context! { message => &**m, age => age(m) })
        .collect();
    render("list.html", context! { rows })
}

#[handler]
fn show(Data(shared): Data<&Arc<Shared>>, Path(id): Path<u64>) -> poem::Result<Html<String>> {
    let found = find(shared, id)?;
    render(
        "message.html",
        context! { message => &*found, html => found.html_with_pictures(), age => age(&found) },
    )
}

#[handler]
fn raw(Data(shared): Data<&Arc<Shared>>, Path(id): Path<u64>) -> poem::Result<poem::Response> {
    let bytes = find(shared, id)?.raw.clone();
    Ok(poem::Response::builder()
        .content_type("text/plain; charset=utf-8")
        .body(bytes))
}

#[handler]
fn json(Data(shared): Data<&Arc<Shared>>) -> Json<Vec<Message>> {
    Json(
        shared
            .messages()
            .iter()
            .map(|m| Message::clone(m))
            .collect(),
    )
}

#[handler]
fn clear(Data(shared): Data<&Arc<Shared>>) -> StatusCode {
    shared.clear();
    StatusCode::NO_CONTENT
}

fn find(shared: &Shared, id: u64) -> poem::Result<Arc<Message>> {
    shared
        .message(id)
        .ok_or_else(|| poem::Error::from_string("No such message", StatusCode::NOT_FOUND))
}

fn render(page: &str, values: minijinja::Value) -> poem::Result<Html<String>> {
    let page = PAGES
        .get_template(page)
        .and_then(|page| page.render(values));
    page.map(Html).map_err(poem::error::InternalServerError)
}

/// "just now", "5 min ago": no clock needed, and what one wants to know when waiting for a mail.
fn age(message: &Message) -> String {
    match message.arrived.elapsed().as_secs() {
        0..10 => "just now".to_owned(),
        seconds @ 10..60 => format!("{seconds} s ago"),
        seconds @ 60..3_600 => format!("{} min ago", seconds / 60),
        seconds => format!("{} h ago", seconds / 3_600),
    }
}
