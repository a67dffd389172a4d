//! Accounts, through the API: signing up, in and out, passwords, links, one's own profile.

mod admin;
mod credentials;
mod links;
mod notices;
mod profile;
mod sessions;
mod tokens;
mod untold;

use serde_json::{Value, json};
use tests::{Client, World};

const PASSWORD: &str = "correct horse battery";

fn registration(name: &str) -> Value {
    json!({"email": format!("{name}@example.org"), "password": PASSWORD, "full_name": name})
}

/// Registers somebody, who is signed in by that.
async fn register(world: &World, name: &str) -> Value {
    let answer = world
        .stranger()
        .post("/auth/register", &registration(name))
        .await;
    answer.expect(201)
}

fn credentials(name: &str, password: &str) -> Value {
    json!({"email": format!("{name}@example.org"), "password": password})
}

async fn log_in(world: &World, name: &str) -> Value {
    let answer = world
        .stranger()
        .post("/auth/login", &credentials(name, PASSWORD))
        .await;
    answer.expect(200)
}

fn bearer(world: &World, tokens: &Value) -> Client {
    world.with_token(tokens["access_token"].as_str().expect("a token"))
}

fn refresh_of(tokens: &Value) -> Value {
    json!({ "refresh_token": tokens["refresh_token"] })
}

/// The kinds of what was recorded about a thing, oldest first.
async fn kinds(world: &World, subject: &Value) -> Vec<String> {
    let told = world.activity_of(subject).await.into_iter();
    told.map(|(_, kind, _)| kind).collect()
}

/// The token of the last link of a kind that was mailed to somebody.
fn mailed_token(world: &World, name: &str, kind: &str) -> String {
    let to = format!("{name}@example.org");
    let messages = world.inbox.messages();
    let tokens = messages
        .iter()
        .filter(|message| message.to == [to.as_str()]);
    let mut tokens = tokens.filter_map(|message| {
        let text = message.text.as_ref()?;
        let (_, rest) = text.split_once(&format!("/{kind}?token="))?;
        rest.split_whitespace().next()
    });
    // The newest come first.
    tokens.next().expect("a mail with a link").to_owned()
}
