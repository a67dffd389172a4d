//! A small world to look at: an organizer, their key, and three venues. Safe to run again.

use crate::access::{self, Actor, Scope};
use crate::app::App;
use crate::error::Result;
use crate::organizations;
use crate::venues::{self, NewVenue};

/// The key of the demo organizer. It is no secret, so it exists in development only.
pub const DEMO_KEY: &str = "hf_demo";

const ORGANIZER: &str = "Lighthouse Events";

/// Makes the demo data unless it is there already. The caller has checked that this is development.
pub async fn demo(app: &App) -> Result<()> {
    let mut tx = app.begin(Actor::System, Scope::Everything).await?;
    if organizations::by_slug(&mut tx, "lighthouse")
        .await?
        .is_some()
    {
        return Ok(());
    }
    let organization_id = organizations::create(&mut tx, ORGANIZER, "lighthouse").await?;
    let role_id = access::built_in_role(&mut tx, "organizer").await?;
    let scopes = access::rights_of_role(&mut tx, role_id).await?;
    let now = tx.now();
    access::store_api_key(&mut tx, organization_id, "Demo", &scopes, DEMO_KEY, now).await?;
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
        venues::create(&mut tx, venue).await?;
    }
    tx.commit().await
}
