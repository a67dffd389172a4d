//! Organizations, through the API: founding one, who belongs to it, what they may do, what happened.

mod activity;
mod api_keys;
mod founding;
mod invitations;
mod members;
mod owners;
mod roles;

use serde_json::{Value, json};
use shared::ids::{OrganizationId, RoleId};
use tests::{Client, SignedIn, World};

/// An organization, founded by a person who owns it.
struct Founded {
    id: OrganizationId,
    /// `/organizations/{id}`
    place: String,
    owner: SignedIn,
}

impl Founded {
    fn at(&self, rest: &str) -> String {
        format!("{}{rest}", self.place)
    }

    /// Somebody in one of the built-in roles.
    async fn with(&self, world: &World, role: &str) -> SignedIn {
        world.member(self.id, role).await
    }

    fn member(&self, person: &SignedIn) -> String {
        self.at(&format!("/members/{}", person.id))
    }

    /// A role of its own, made by the owner.
    async fn role(&self, name: &str, rights: &[&str]) -> Value {
        let new = json!({ "name": name, "rights": rights });
        let made = self.owner.client.post(&self.at("/roles"), &new).await;
        made.expect(201)
    }

    /// Gives somebody a role by the hand of the owner.
    async fn give(&self, person: &SignedIn, role_id: &Value) {
        let change = json!({ "role_id": role_id });
        let given = self.owner.client.put(&self.member(person), &change).await;
        given.expect(200);
    }
}

async fn found(world: &World, name: &str) -> Founded {
    let founder = name.to_lowercase().replace(' ', "-");
    let owner = world.person(&format!("founder.{founder}")).await;
    let made = owner
        .client
        .post("/organizations", &json!({ "name": name }))
        .await
        .expect(201);
    let id: uuid::Uuid = made["id"].as_str().expect("an id").parse().expect("an id");
    Founded {
        id: OrganizationId(id),
        place: format!("/organizations/{id}"),
        owner,
    }
}

/// The id of a built-in role, as everybody can look it up.
fn built_in(role: &str) -> Value {
    let number = ["owner", "organizer", "teacher", "door", "member"];
    let number = number.iter().position(|name| *name == role);
    let number = 1 + u128::try_from(number.expect("a role")).expect("small");
    let id = uuid::Uuid::from_u128(0x7000_8000_0000_0000_0000 + number);
    json!(RoleId(id))
}

/// One field of every item.
fn each<'a>(list: &'a Value, field: &str) -> Vec<&'a Value> {
    let items = list["items"].as_array().expect("items").iter();
    items.map(|item| &item[field]).collect()
}

/// The token in the last mail to somebody.
fn mailed_token(world: &World, email: &str) -> String {
    let messages = world.inbox.messages();
    let theirs = messages.iter().filter(|message| message.to == [email]);
    let mut tokens = theirs.filter_map(|message| {
        let (_, rest) = message.text.as_ref()?.split_once("?token=")?;
        rest.split_whitespace().next()
    });
    // The newest come first.
    let last = tokens.next();
    last.expect("a mail with a link").to_owned()
}

async fn accept(client: &Client, token: &str) -> tests::Answer {
    let path = format!("/invitations/{token}/accept");
    client.send(reqwest::Method::POST, &path, None).await
}
