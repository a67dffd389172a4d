//! What a buyer sees: the checkout, the question of the bank; and for the developer, the latest payments.
//!
//! Works without JavaScript and without internet.

use std::sync::LazyLock;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::http::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, header};
use minijinja::{Environment, context};

use super::form::Form;
use super::refusal::Refusal;
use super::server::{Page, plain};
use super::state::State;
use super::{Shared, checkout, payments};

const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
/// As many as one looks at.
const MOST_LISTED: usize = 50;

static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    for (name, source) in [
        ("layout.html", include_str!("pages/layout.html")),
        ("list.html", include_str!("pages/list.html")),
        ("checkout.html", include_str!("pages/checkout.html")),
        ("authenticate.html", include_str!("pages/authenticate.html")),
        ("message.html", include_str!("pages/message.html")),
    ] {
        pages
            .add_template(name, source)
            .expect("the pages are part of the program and parse");
    }
    pages
});

pub(super) fn answer(shared: &Shared, head: &Parts, body: &[u8]) -> Page {
    let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    let query = Form::parse(head.uri.query().unwrap_or_default().as_bytes());
    let form = Form::parse(body);
    let page = shared.with(|state| match (head.method.as_str(), path.as_slice()) {
        ("GET", [""]) => Ok(list(state)),
        ("GET", ["checkout", id]) => show_checkout(state, id, None),
        ("POST", ["checkout", id]) => pay(state, id, &form),
        ("GET", ["authenticate", id]) => ask(state, id, &query),
        ("POST", ["authenticate", id]) => answered(state, id, &form),
        _ => Ok(plain(StatusCode::NOT_FOUND, "There is no such page")),
    });
    page.unwrap_or_else(|refusal| message(&refusal))
}

fn list(state: &State) -> Page {
    let payments: Vec<_> = state
        .intents
        .newest()
        .take(MOST_LISTED)
        .map(|intent| {
            context! { id => intent.id, amount => money(intent.amount, &intent.currency), status => intent.status.name(),
            metadata => intent.metadata }
        })
        .collect();
    html(StatusCode::OK, "list.html", context! { payments })
}

fn show_checkout(state: &State, id: &str, trouble: Option<&str>) -> Result<Page, Refusal> {
    let session = state.session(id)?;
    let open = session.status == checkout::Status::Open;
    let values = context! {
        name => session.name, amount => money(session.amount, &session.currency), open, trouble,
        cancel_url => session.cancel_url, id => session.id,
        complete => session.status == checkout::Status::Complete,
    };
    Ok(html(StatusCode::OK, "checkout.html", values))
}

fn pay(state: &mut State, id: &str, form: &Form) -> Result<Page, Refusal> {
    let method = form.required("payment_method")?;
    match state.pay_session(id, method) {
        Ok(_) => {}
        Err(decline) if decline.status == 402 => {
            return show_checkout(state, id, Some(&decline.message));
        }
        Err(refusal) => return Err(refusal),
    }
    let session = state.session(id)?;
    if session.status == checkout::Status::Complete {
        return Ok(redirect(&session.success_page()));
    }
    let intent = session.intent.clone().unwrap_or_default();
    Ok(redirect(&state.intent(&intent)?.authentication_page()))
}

fn ask(state: &State, id: &str, query: &Form) -> Result<Page, Refusal> {
    let intent = secret_intent(state, id, query)?;
    let values = context! {
        id, client_secret => intent.client_secret, amount => money(intent.amount, &intent.currency),
        waits => intent.status == payments::Status::NeedsAction,
    };
    Ok(html(StatusCode::OK, "authenticate.html", values))
}

fn answered(state: &mut State, id: &str, form: &Form) -> Result<Page, Refusal> {
    secret_intent(state, id, form)?;
    let succeeds = form.required("result")? == "succeeds";
    state.buyer_answers(id, succeeds)?;
    let intent = state.intent(id)?;
    let session = intent.session.as_deref().map(|id| state.session(id));
    let next = match session.transpose()? {
        Some(session) if session.status == checkout::Status::Complete => {
            Some(session.success_page())
        }
        Some(session) => Some(session.page()),
        None => intent.return_url().map(str::to_owned),
    };
    Ok(next.map_or_else(
        || {
            let text = format!("The payment is now {}.", intent.status.name());
            html(StatusCode::OK, "message.html", context! { text })
        },
        |next| redirect(&next),
    ))
}

/// Whoever knows the secret of a payment is its buyer.
fn secret_intent<'a>(
    state: &'a State,
    id: &str,
    form: &Form,
) -> Result<&'a payments::Intent, Refusal> {
    let secret = form.required("client_secret")?;
    let intent = state.intent(id)?;
    if intent.client_secret == secret {
        Ok(intent)
    } else {
        Err(Refusal::no_such("payment_intent", id))
    }
}

impl State {
    /// The buyer proves who they are, or does not; a checkout that this pays is complete.
    pub(super) fn buyer_answers(&mut self, id: &str, succeeds: bool) -> Result<(), Refusal> {
        self.authenticate(id, succeeds)?;
        if let Some(session) = self.intent(id)?.session.clone() {
            self.complete_session(&session)?;
        }
        Ok(())
    }
}

fn message(refusal: &Refusal) -> Page {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    html(status, "message.html", context! { text => refusal.message })
}

fn html(status: StatusCode, name: &str, values: minijinja::Value) -> Page {
    let rendered = PAGES
        .get_template(name)
        .and_then(|page| page.render(values));
    let Ok(text) = rendered else {
        return plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The page cannot be shown",
        );
    };
    let mut page = Response::new(Full::new(Bytes::from(text)));
    *page.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        page.headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    page
}

fn redirect(to: &str) -> Page {
    let Ok(to) = HeaderValue::from_str(to) else {
        return plain(StatusCode::BAD_REQUEST, "The address to go on to is none");
    };
    let mut page = plain(StatusCode::SEE_OTHER, "");
    page.headers_mut().insert(header::LOCATION, to);
    page
}

/// `12.50 EUR`, `1250 JPY`.
fn money(amount: i64, currency: &str) -> String {
    let whole = [
        "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf",
        "xof", "xpf",
    ];
    let name = currency.to_uppercase();
    if whole.contains(&currency) {
        format!("{amount} {name}")
    } else {
        format!("{}.{:02} {name}", amount / 100, amount % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!(money(1_205, "eur"), "12.05 EUR");
        assert_eq!(money(1_205, "jpy"), "1205 JPY");
    }
}
