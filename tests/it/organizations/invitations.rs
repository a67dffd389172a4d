use chrono::TimeDelta;
use serde_json::json;
use tests::world;

use super::{accept, built_in, each, found, mailed_token};

#[tokio::test]
async fn somebody_is_invited_by_mail_and_joins_once() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let place = lighthouse.at("/members");
        let new = json!({"email": "Ben@Example.org", "role_id": built_in("organizer"), "vetting_level": 3});
        let invited = lighthouse.owner.client.post(&place, &new).await;
        let location = invited.header("location").expect("a location").to_owned();
        let invited = invited.expect(201);
        assert_eq!((&invited["status"], &invited["role"]), (&json!("invited"), &json!("organizer")));
        assert!(location.ends_with(invited["id"].as_str().expect("an id")));

        world.run_jobs().await;
        let mail = world.inbox.messages().pop().expect("a mail");
        assert_eq!(mail.to, ["ben@example.org"]);
        assert_eq!(mail.subject, "You are invited to Lighthouse");
        let text = mail.text.clone().expect("a text");
        assert!(text.contains("founder.lighthouse invites you to join Lighthouse as organizer"), "{text}");
        assert!(text.contains("until 22 January 2026, 10:30 UTC"), "{text}");
        let token = mailed_token(world, "ben@example.org");

        // The link is for one person.
        let other = world.person("other").await;
        accept(&world.stranger(), &token).await.refused(401, "UNAUTHENTICATED");
        accept(&other.client, &token).await.refused(403, "INVITATION_FOR_ANOTHER");
        accept(&other.client, "guessed").await.refused(404, "INVITATION_NOT_FOUND");

        let ben = world.person("ben").await;
        ben.client.get(&lighthouse.place).await.refused(404, "ORGANIZATION_NOT_FOUND");
        let joined = accept(&ben.client, &token).await.expect(200);
        assert_eq!((&joined["role"], &joined["vetting_level"]), (&json!("organizer"), &json!(3)));
        ben.client.get(&lighthouse.place).await.expect(200);
        accept(&ben.client, &token).await.refused(404, "INVITATION_NOT_FOUND");
        let list = lighthouse.owner.client.get(&place).await.expect(200);
        assert_eq!(each(&list, "status"), ["active", "active"]);
        let again = lighthouse.owner.client.post(&place, &new).await;
        again.refused(409, "ALREADY_MEMBER");

        let told = world.activity_of(&invited["id"]).await;
        let kinds: Vec<&str> = told.iter().map(|(_, kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["invitation.sent", "invitation.accepted"]);
        assert!(told.iter().all(|(_, _, data)| !data.to_string().contains("ben")));
    })
    .await;
}

#[tokio::test]
async fn the_link_itself_is_kept_as_a_hash() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let new = json!({"email": "ben@example.org", "role_id": built_in("door")});
        let answer = lighthouse
            .owner
            .client
            .post(&lighthouse.at("/members"), &new)
            .await;
        world.run_jobs().await;
        let token = mailed_token(world, "ben@example.org");
        assert!(!answer.text.contains(&token));
        let rows: Vec<String> =
            sqlx::query_scalar("select row_to_json(i)::text from invitations i union all select row_to_json(m)::text from mails m")
                .fetch_all(world.app.pool())
                .await
                .expect("rows");
        assert!(rows.iter().all(|row| !row.contains(&token)), "{rows:?}");
    })
    .await;
}

#[tokio::test]
async fn an_invitation_ends_after_a_week() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let new = json!({"email": "ben@example.org", "role_id": built_in("door")});
        lighthouse
            .owner
            .client
            .post(&lighthouse.at("/members"), &new)
            .await
            .expect(201);
        world.run_jobs().await;
        let token = mailed_token(world, "ben@example.org");
        world.pass(TimeDelta::days(7));
        let ben = world.person("ben").await;
        accept(&ben.client, &token)
            .await
            .refused(410, "INVITATION_EXPIRED");
        let owner = world.again(&lighthouse.owner);
        let list = owner.get(&lighthouse.at("/members")).await.expect(200);
        assert_eq!(list["total"], 1);

        world.pass(TimeDelta::days(31));
        world
            .change(async |tx| {
                assert_eq!(shared::organizations::invitations::forget(tx, 10).await?, 1);
                Ok(())
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn an_invitation_is_withdrawn_or_replaced() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = &lighthouse.owner.client;
        let place = lighthouse.at("/members");
        let ben = world.person("ben").await;
        let new = json!({"email": "ben@example.org", "role_id": built_in("door")});
        owner.post(&place, &new).await.expect(201);
        world.run_jobs().await;
        let first = mailed_token(world, "ben@example.org");
        let better = json!({"email": "ben@example.org", "role_id": built_in("organizer")});
        let second = owner.post(&place, &better).await.expect(201);
        world.run_jobs().await;
        accept(&ben.client, &first)
            .await
            .refused(404, "INVITATION_NOT_FOUND");
        let list = owner.get(&place).await.expect(200);
        assert_eq!(each(&list, "role"), ["owner", "organizer"]);
        let kind = "select count(*) from activities where kind = 'invitation.withdrawn'";
        let withdrawn = async || -> i64 {
            let count = sqlx::query_scalar(kind).fetch_one(world.app.pool()).await;
            count.expect("activities")
        };
        assert_eq!(withdrawn().await, 1, "the first one, by the second");

        let second = format!("{place}/{}", second["id"].as_str().expect("an id"));
        let door = lighthouse.with(world, "door").await;
        door.client.delete(&second).await.refused(403, "FORBIDDEN");
        owner.delete(&second).await.expect(204);
        owner.delete(&second).await.refused(404, "MEMBER_NOT_FOUND");
        let token = mailed_token(world, "ben@example.org");
        accept(&ben.client, &token)
            .await
            .refused(404, "INVITATION_NOT_FOUND");
        assert_eq!(owner.get(&place).await.expect(200)["total"], 2);
    })
    .await;
}

#[tokio::test]
async fn nobody_replaces_an_invitation_that_offers_more_than_they_may() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let place = lighthouse.at("/members");
        let as_owner = json!({"email": "ben@example.org", "role_id": built_in("owner")});
        let owner = &lighthouse.owner.client;
        owner.post(&place, &as_owner).await.expect(201);
        world.run_jobs().await;
        let token = mailed_token(world, "ben@example.org");

        let host = lighthouse.with(world, "member").await;
        let role = lighthouse.role("Host", &["members:create"]).await;
        lighthouse.give(&host, &role["id"]).await;
        let as_member = json!({"email": "ben@example.org", "role_id": built_in("member")});
        let refused = host.client.post(&place, &as_member).await;
        refused.refused(403, "FORBIDDEN");
        // One that has expired offers nothing any more.
        let ben = world.person("ben").await;
        let joined = accept(&ben.client, &token).await.expect(200);
        assert_eq!(joined["role"], "owner");
        let as_owner = json!({"email": "eve@example.org", "role_id": built_in("owner")});
        owner.post(&place, &as_owner).await.expect(201);
        world.pass(TimeDelta::days(8));
        let as_member = json!({"email": "eve@example.org", "role_id": built_in("member")});
        let host = world.again(&host);
        host.post(&place, &as_member).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn following_a_link_twice_at_once_joins_once() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let new = json!({"email": "ben@example.org", "role_id": built_in("door")});
        lighthouse
            .owner
            .client
            .post(&lighthouse.at("/members"), &new)
            .await
            .expect(201);
        world.run_jobs().await;
        let token = mailed_token(world, "ben@example.org");
        let ben = world.person("ben").await;
        let (first, second) =
            tokio::join!(accept(&ben.client, &token), accept(&ben.client, &token));
        let (won, lost) = if first.status == 200 {
            (first, second)
        } else {
            (second, first)
        };
        won.expect(200);
        lost.refused(404, "INVITATION_NOT_FOUND");
        let told = world.activity_of(&json!(ben.id)).await;
        assert_eq!(
            told.iter()
                .filter(|(_, kind, _)| kind == "member.added")
                .count(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_sends_one_mail() {
    world(async |world| {
        let lighthouse = found(world, "Lighthouse").await;
        let owner = lighthouse.owner.client.with("idempotency-key", "k1");
        let new = json!({"email": "ben@example.org", "role_id": built_in("door")});
        let first = owner
            .post(&lighthouse.at("/members"), &new)
            .await
            .expect(201);
        let again = owner
            .post(&lighthouse.at("/members"), &new)
            .await
            .expect(201);
        assert_eq!(first, again);
        world.run_jobs().await;
        assert_eq!(world.inbox.messages().len(), 1);

        let bad = json!({"email": "nobody", "role": "door"});
        let fields = lighthouse
            .owner
            .client
            .post(&lighthouse.at("/members"), &bad)
            .await;
        assert_eq!(fields.bad_fields(), ["email", "role", "role_id"]);
    })
    .await;
}
