//! A small world to look at: an administrator, an organizer with their key, ten attendees, three venues, and events
//! of every kind in them. Safe to run again.

mod events;

use crate::access::{self, Actor, Scope};
use crate::accounts::{self, NewAccount};
use crate::app::App;
use crate::error::Result;
use crate::ids::{OrganizationId, UserId};
use crate::organizations;
use crate::tx::Tx;
use crate::venues::{self, NewVenue};

/// The key of the demo organizer. It is no secret, so it exists in development only.
pub const DEMO_KEY: &str = "hf_demo";

/// Manages the whole installation.
pub const DEMO_ADMIN: &str = "admin@holdfast.example";
/// Owns the demo organization.
pub const DEMO_ORGANIZER: &str = "organizer@holdfast.example";
/// Of every demo account. It is no secret, so they exist in development only.
pub const DEMO_PASSWORD: &str = "demo-lighthouse";

const ATTENDEES: [&str; 10] = [
    "Ada Byron",
    "Ben Okafor",
    "Carla Rossi",
    "Dmitri Sokolov",
    "Elif Kaya",
    "Femi Adeyemi",
    "Greta Lind",
    "Hugo Martins",
    "Ines Vidal",
    "Jun Tanaka",
];

const ORGANIZER: &str = "Lighthouse Events";

/// The addresses of all demo accounts.
#[must_use]
pub fn demo_emails() -> Vec<String> {
    let attendees = (1..=ATTENDEES.len()).map(attendee);
    let others = [DEMO_ADMIN, DEMO_ORGANIZER].map(str::to_owned);
    others.into_iter().chain(attendees).collect()
}

fn attendee(number: usize) -> String {
    format!("attendee{number}@holdfast.example")
}

/// Makes the demo data unless it is there already. The caller has checked that this is development.
pub async fn demo(app: &App) -> Result<()> {
    // Hashing takes long, so all of them share one hash, and it is made before the transaction begins.
    let turn = app.passwords.turn().await?;
    let password_hash = app.passwords.hash(&turn, &DEMO_PASSWORD.into()).await?;
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    if organizations::by_slug(&mut tx, "lighthouse")
        .await?
        .is_some()
    {
        return Ok(());
    }
    let organization_id = organizations::create(&mut tx, ORGANIZER, "lighthouse").await?;
    people(&mut tx, organization_id, &password_hash).await?;
    let role_id = access::built_in_role(&mut tx, "organizer").await?;
    let scopes = access::rights_of_role(&mut tx, role_id).await?;
    let now = tx.now();
    access::store_api_key(&mut tx, organization_id, "Demo", &scopes, DEMO_KEY, now).await?;
    let mut places = Vec::new();
    for (name, address, city, country, capacity) in [
        ("Harbour Hall", "Am Kai 3", "Hamburg", "DE", 1_200),
        ("The Loft", "Rua das Flores 12", "Porto", "PT", 80),
        ("Studio Nord", "Skolegade 7", "Aarhus", "DK", 25),
    ] {
        let venue = NewVenue {
            organization_id: Some(organization_id),
            name: name.into(),
            address: address.into(),
            city: city.into(),
            state: None,
            country: country.into(),
            postal_code: None,
            capacity,
            layout: None,
            contact: None,
            active: true,
        };
        places.push(venues::create(&mut tx, venue).await?);
    }
    events::make(&mut tx, &places).await?;
    tx.commit().await
}

async fn people(tx: &mut Tx, organization_id: OrganizationId, password_hash: &str) -> Result<()> {
    let admin = person(tx, DEMO_ADMIN, "Robin Harbour", password_hash).await?;
    accounts::make_platform_admin(tx, admin).await?;
    let organizer = person(tx, DEMO_ORGANIZER, "Kim Lighthouse", password_hash).await?;
    let owner = access::built_in_role(tx, "owner").await?;
    organizations::add_member(tx, organization_id, organizer, owner).await?;
    for (number, name) in (1..).zip(ATTENDEES) {
        person(tx, &attendee(number), name, password_hash).await?;
    }
    Ok(())
}

async fn person(tx: &mut Tx, email: &str, name: &str, password_hash: &str) -> Result<UserId> {
    let new = NewAccount {
        email: email.to_owned(),
        full_name: name.to_owned(),
        phone: None,
        locale: "en".to_owned(),
        password_hash: Some(password_hash.to_owned()),
    };
    accounts::create(tx, &new).await
}
