//! Somebody becomes an owner at the moment in which their account goes out of use.

use serde_json::{Value, json};
use shared::access::{Actor, Scope};
use shared::organizations::{members, set_role};
use shared::{Tx, accounts};
use tests::{World, world};

use super::{Founded, built_in, found};

async fn begin(world: &World) -> Tx {
    let tx = world.app.begin(Actor::System, Scope::Everything).await;
    tx.expect("a transaction")
}

/// Commits once the others wait for this transaction, or have not had to.
async fn commit_in_the_middle<T>(world: &World, tx: Tx, others: impl Future<Output = T>) -> T {
    tokio::pin!(others);
    let waiting = "select exists(select from pg_stat_activity
                                 where datname = current_database() and wait_event_type = 'Lock')";
    loop {
        let look = sqlx::query_scalar::<_, bool>(waiting).fetch_one(world.app.pool());
        tokio::select! {
            done = &mut others => {
                tx.commit().await.expect("a commit");
                return done;
            }
            waits = look => if waits.expect("an answer") { break },
        }
    }
    tx.commit().await.expect("a commit");
    others.await
}

async fn root(world: &World) -> tests::SignedIn {
    let root = world.person("root").await;
    world
        .change(async |tx| accounts::make_platform_admin(tx, root.id).await)
        .await;
    root
}

#[tokio::test]
async fn an_owner_does_not_leave_to_one_who_is_being_deactivated() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner;
        let second = lighthouse.with(world, "member").await;
        let mut deactivating = begin(world).await;
        let off = accounts::deactivate(&mut deactivating, second.id).await;
        off.expect("not an owner yet");
        let (promoted, left) = commit_in_the_middle(world, deactivating, async {
            let as_owner = json!({"role_id": built_in("owner")});
            let place = lighthouse.member(&second);
            let promoted = owner.client.put(&place, &as_owner).await;
            (
                promoted,
                owner.client.delete(&lighthouse.member(owner)).await,
            )
        })
        .await;
        promoted.expect(200);
        left.refused(409, "LAST_OWNER");
    })
    .await;
}

#[tokio::test]
async fn nobody_is_deactivated_who_is_becoming_the_only_owner() {
    world(async |world| {
        let root = root(world).await;
        let lighthouse = found(world, "Lighthouse").await;
        let (first, second) = (&lighthouse.owner, lighthouse.with(world, "member").await);
        let mut handing_on = begin(world).await;
        let role: uuid::Uuid = serde_json::from_value(built_in("owner")).expect("an id");
        let role = shared::ids::RoleId(role);
        let given = set_role(&mut handing_on, lighthouse.id, second.id, role).await;
        given.expect("a role");
        let left = members::remove(&mut handing_on, lighthouse.id, first.id.0).await;
        left.expect("another owner is there").done().expect("gone");
        let place = format!("/admin/users/{}", second.id);
        let deactivating = root.client.delete(&place);
        let refused = commit_in_the_middle(world, handing_on, deactivating).await;
        refused.refused(409, "LAST_OWNER");
    })
    .await;
}

#[tokio::test]
async fn nobody_founds_an_organization_on_their_way_out() {
    world(async |world| {
        let ada = world.person("ada").await;
        let mut deactivating = begin(world).await;
        let off = accounts::deactivate(&mut deactivating, ada.id).await;
        off.expect("owns nothing");
        let new = json!({"name": "Lighthouse"});
        let founding = ada.client.post("/organizations", &new);
        let refused = commit_in_the_middle(world, deactivating, founding).await;
        refused.refused(401, "UNAUTHENTICATED");
    })
    .await;
}

#[tokio::test]
async fn the_last_two_owners_cannot_go_at_once_in_whatever_way() {
    world(async |world| {
        let root = root(world).await;
        for round in 0..12 {
            let lighthouse = found(world, &format!("Lighthouse {round}")).await;
            let second = lighthouse.with(world, "member").await;
            let account = format!("/admin/users/{}", second.id);
            let handing_on = async {
                let as_owner = json!({"role_id": built_in("owner")});
                let owner = &lighthouse.owner;
                let place = lighthouse.member(&second);
                owner.client.put(&place, &as_owner).await.expect(200);
                owner.client.delete(&lighthouse.member(owner)).await
            };
            let (left, off) = tokio::join!(handing_on, root.client.delete(&account));
            let both = (left.status, off.status);
            assert!([(204, 409), (409, 204)].contains(&both), "{both:?}");
        }
    })
    .await;
}

/// Locks taken in any other order than everywhere would meet crosswise sooner or later.
#[tokio::test]
async fn changes_of_accounts_and_members_never_wait_for_one_another_in_a_circle() {
    world(async |world| {
        let root = root(world).await;
        let one = found(world, "One").await;
        let two = found(world, "Two").await;
        let (ada, bob) = (world.person("ada").await, world.person("bob").await);
        for organization in [&one, &two] {
            world.join(ada.id, organization.id, "owner").await;
            world.join(bob.id, organization.id, "owner").await;
        }
        let account = |person: &tests::SignedIn| format!("/admin/users/{}", person.id);
        let (of_ada, of_bob) = (account(&ada), account(&bob));
        let role = |at: &Founded, role: &str| -> Value {
            json!({"organization_id": at.id, "role_id": built_in(role)})
        };
        let admin = &root.client;
        for round in 0..15 {
            let other = ["owner", "organizer"][round % 2];
            let changes = [
                (&of_ada, json!({"role": role(&one, other)})),
                (
                    &of_ada,
                    json!({"role": role(&one, other), "is_active": false}),
                ),
                (
                    &of_ada,
                    json!({"role": role(&two, other), "is_active": false}),
                ),
                (
                    &of_bob,
                    json!({"role": role(&one, other), "is_active": false}),
                ),
                (&of_bob, json!({"role": role(&two, "owner")})),
            ];
            let by_admin = changes
                .iter()
                .map(|(place, change)| admin.put(place, change));
            let by_owner = [&one, &two].map(async |at| {
                let as_owner = json!({"role_id": built_in("owner")});
                at.owner.client.put(&at.member(&ada), &as_owner).await
            });
            let (by_admin, by_owner) = futures_util::future::join(
                futures_util::future::join_all(by_admin),
                futures_util::future::join_all(by_owner),
            )
            .await;
            for answer in by_admin.into_iter().chain(by_owner) {
                answer.expect(200);
            }
            for place in [&of_ada, &of_bob] {
                admin
                    .put(place, &json!({"is_active": true}))
                    .await
                    .expect(200);
            }
        }
    })
    .await;
}
