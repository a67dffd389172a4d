//! What is kept in memory, in two processes at once.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::stock;
use tests::{Answer, Client, World, env, harbour_hall, workshop, world, world_with};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

async fn on_sale(organizer: &Client, new: &Value) -> String {
    let event = organizer.post("/events", new).await.expect(201);
    let place = format!("/events/{}", text(&event["id"]));
    let ticket = json!({"name": "Ticket", "price": 100, "included_sessions": ["S1"]});
    organizer
        .post(&format!("{place}/ticket-types"), &ticket)
        .await
        .expect(201);
    let publish = json!({"status": "published", "version": 1});
    organizer
        .put(&format!("{place}/status"), &publish)
        .await
        .expect(200);
    place
}

/// Asks again until it is so, for a second and some patience with a busy machine.
async fn until(what: &str, so: impl AsyncFn() -> bool) {
    for _ in 0..400 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

async fn until_trusted(world: &World, trusted: bool) {
    until("memory is trusted or not", async || {
        world.app.caches.trusted() == trusted
    })
    .await;
}

#[tokio::test]
async fn a_write_through_one_process_is_seen_by_the_other() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let hall = organizer.post("/venues", &harbour_hall()).await.expect(201);
        let hall_at = format!("/venues/{}", text(&hall["id"]));
        let mut new = workshop();
        new["venue_id"] = hall["id"].clone();
        let place = on_sale(&organizer, &new).await;
        let other = world.stranger().at(&world.another_process().await);
        until_trusted(world, true).await;
        // The other may be listening or not yet; either way it must see what changes.
        for number in 2..12 {
            for path in [
                place.as_str(),
                "/events/rope-basics",
                "/events",
                hall_at.as_str(),
                "/venues?city=hamburg",
            ] {
                other.get(path).await.expect(200);
                world.stranger().get(path).await.expect(200);
            }
            let title = format!("Title {number}");
            let change = json!({"title": title, "version": number});
            organizer.put(&place, &change).await.expect(200);
            // At once where it was written.
            let here = world.stranger();
            assert_eq!(here.get(&place).await.expect(200)["title"], title);
            assert_eq!(
                here.get("/events").await.expect(200)["items"][0]["title"],
                title
            );
            until("the other sees the title", async || {
                other.get("/events/rope-basics").await.expect(200)["title"] == title
                    && other.get("/events").await.expect(200)["items"][0]["title"] == title
            })
            .await;
            let name = format!("Hall {number}");
            let change = json!({"name": name, "version": number - 1});
            organizer.put(&hall_at, &change).await.expect(200);
            let list = here.get("/venues?city=hamburg").await.expect(200);
            assert_eq!(list["items"][0]["name"], name);
            until("the other sees the name", async || {
                let list = other.get("/venues?city=hamburg").await.expect(200);
                list["items"][0]["name"] == name
                    && other.get(&hall_at).await.expect(200)["name"] == name
                    && other.get("/events").await.expect(200)["items"][0]["venue_name"] == name
            })
            .await;
        }
        organizer.post("/venues", &harbour_hall()).await.expect(201);
        until("the other sees the new venue", async || {
            let list = other.get("/venues?city=hamburg").await.expect(200);
            list["total"] == 2
        })
        .await;
        organizer.delete(&place).await.expect(204);
        world
            .stranger()
            .get(&place)
            .await
            .refused(404, "EVENT_NOT_FOUND");
        until("the other sees that it is gone", async || {
            other.get("/events/rope-basics").await.status == 404
        })
        .await;
        // The slug may be another's now.
        let heir = on_sale(&organizer, &workshop()).await;
        until("the heir has the slug", async || {
            let read: Answer = other.get("/events/rope-basics").await;
            read.status == 200 && heir.ends_with(text(&read.body["id"]))
        })
        .await;
    })
    .await;
}

/// A way to Redis that can be cut, as when Redis restarts: connections end, and new ones are refused for a while.
async fn relay(port: u16, to: String, cut: CancellationToken) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .expect("the port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                () = cut.cancelled() => return,
                Ok((mut from, _)) = listener.accept() => {
                    let to = to.clone();
                    open.spawn(async move {
                        let mut to = TcpStream::connect(&to).await.expect("Redis");
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                    });
                }
            }
        }
    });
    port
}

#[tokio::test]
async fn while_redis_is_away_nothing_is_kept_and_afterwards_nothing_old() {
    let url = env("REDIS_URL");
    let (before, at) = url.rsplit_once('@').expect("Redis asks for a password");
    let (address, after) = at.split_once('/').unwrap_or((at, ""));
    let cut = CancellationToken::new();
    let port = relay(0, address.to_owned(), cut.clone()).await;
    let relayed = format!("{before}@127.0.0.1:{port}/{after}");
    world_with(&[("REDIS_URL", &relayed)], async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let place = on_sale(&organizer, &workshop()).await;
        until_trusted(world, true).await;
        let stranger = world.stranger();
        stranger.get(&place).await.expect(200);
        cut.cancel();
        until_trusted(world, false).await;
        // A change of which nobody hears.
        sqlx::query("update events set title = 'Unheard'")
            .execute(world.app.pool())
            .await
            .expect("changed");
        assert_eq!(stranger.get(&place).await.expect(200)["title"], "Unheard");
        let again = CancellationToken::new();
        relay(port, address.to_owned(), again.clone()).await;
        until_trusted(world, true).await;
        assert_eq!(stranger.get(&place).await.expect(200)["title"], "Unheard");
        assert_eq!(
            stranger.get("/events").await.expect(200)["items"][0]["title"],
            "Unheard"
        );
    })
    .await;
}

#[tokio::test]
async fn memory_is_bounded_by_time_and_knows_nothing_of_rights_or_places() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let mut new = workshop();
        new["required_vetting_level"] = json!(3);
        let place = on_sale(&lighthouse.organizer, &new).await;
        let vetted = world.member(lighthouse.id, "door").await;
        until_trusted(world, true).await;
        let level = async |level: i16| {
            sqlx::query("update members set vetting_level = $2 where user_id = $1")
                .bind(vetted.id.0)
                .bind(level)
                .execute(world.app.pool())
                .await
                .expect("vetted");
        };
        let seen = async || {
            let total = vetted.client.get("/events").await.expect(200)["total"].clone();
            (vetted.client.get(&place).await.status, total)
        };
        lighthouse.organizer.get(&place).await.expect(200);
        world
            .stranger()
            .get(&place)
            .await
            .refused(404, "EVENT_NOT_FOUND");
        assert_eq!(seen().await, (404, json!(0)));
        level(3).await;
        assert_eq!(seen().await, (200, json!(1)));
        level(2).await;
        assert_eq!(seen().await, (404, json!(0)));

        let open = on_sale(&lighthouse.organizer, &workshop()).await;
        let stranger = world.stranger();
        let spots = async || {
            stranger.get("/events").await.expect(200)["items"][0]["available_spots"].clone()
        };
        let session = stranger.get(&open).await.expect(200)["sessions"][0]["id"].clone();
        assert_eq!(spots().await, 20);
        let session: uuid::Uuid = text(&session).parse().expect("an id");
        let sell = "update pools set sold = 5, version = version + 1 where id = $1";
        sqlx::query(sell)
            .bind(session)
            .execute(world.app.pool())
            .await
            .expect("sold");
        stock::reconcile(&world.app).await.expect("told");
        assert_eq!(spots().await, 15);
        assert_eq!(
            stranger.get(&open).await.expect(200)["sessions"][0]["sold"],
            5
        );

        // What was changed behind everybody's back is seen after 30 seconds in lists, after 5 minutes otherwise.
        sqlx::query("update events set title = 'Behind'")
            .execute(world.app.pool())
            .await
            .expect("changed");
        let titles = async || {
            let list = stranger.get("/events").await.expect(200)["items"][0]["title"].clone();
            (list, stranger.get(&open).await.expect(200)["title"].clone())
        };
        world.pass(TimeDelta::seconds(31));
        assert_eq!(titles().await.0, "Behind");
        world.pass(TimeDelta::minutes(5));
        assert_eq!(titles().await, (json!("Behind"), json!("Behind")));
        sqlx::query("update pools set sold = 0, version = version + 1 where sold > 0")
            .execute(world.app.pool())
            .await
            .expect("given back");
        stock::reconcile(&world.app).await.expect("told");
    })
    .await;
}

/// Reads again with the tags of an earlier reading; what has changed since is put in their place.
async fn changed(client: &Client, tags: &mut [(String, String)]) -> Vec<String> {
    let mut changed = Vec::new();
    for (path, tag) in tags {
        let again = client.with("if-none-match", tag).get(path).await;
        if again.status == 304 {
            assert_eq!(again.text, "", "{path}");
            continue;
        }
        assert_eq!(again.status, 200, "{path}: {}", again.text);
        again.header("etag").expect("a tag").clone_into(tag);
        changed.push(path.clone());
    }
    changed
}

#[tokio::test]
async fn a_reader_of_an_event_hears_of_every_change_of_it_and_its_parts() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let (organizer, stranger) = (&lighthouse.organizer, world.stranger());
        let place = on_sale(organizer, &workshop()).await;
        let paths = [place.as_str(), "/events/rope-basics", "/events", "/events?q=rope"];
        let mut tags = paths.map(|path| (path.to_owned(), "\"none\"".to_owned()));
        until_trusted(world, true).await;
        assert_eq!(changed(&stranger, &mut tags).await, paths);
        assert!(changed(&stranger, &mut tags).await.is_empty());

        let types = format!("{place}/ticket-types");
        let late = json!({"name": "Late", "price": 200, "included_sessions": ["S1"]});
        let late = organizer.post(&types, &late).await.expect(201);
        assert_eq!(changed(&stranger, &mut tags).await, paths, "a type was added");
        let late = format!("{types}/{}", text(&late["id"]));
        let dearer = json!({"price": 300, "version": 1});
        organizer.put(&late, &dearer).await.expect(200);
        assert_eq!(changed(&stranger, &mut tags).await, paths, "its price changed");
        let wider = json!({"capacity": 30, "version": 1});
        let session = format!("{place}/sessions/S1");
        organizer.put(&session, &wider).await.expect(200);
        assert_eq!(changed(&stranger, &mut tags).await, paths, "a session has grown");
        let item = json!({"ticket_type_id": late.rsplit('/').next(), "quantity": 2});
        let hold = json!({"event_id": text(&stranger.get(&place).await.expect(200)["id"]), "items": [item]});
        stranger.post("/holds", &hold).await.expect(201);
        assert_eq!(changed(&stranger, &mut tags).await, paths, "places are held");
        organizer.delete(&late).await.expect(204);
        assert_eq!(changed(&stranger, &mut tags).await, paths, "a type is gone");
        assert!(changed(&stranger, &mut tags).await.is_empty());

        // None of it moved the event's own version, and a tag of any of its readings names that.
        let tag = tags[0].1.clone();
        assert!(tag.starts_with("\"2-"), "{tag}");
        let title = json!({"title": "Rope Advanced"});
        let change = organizer.with("if-match", &tag);
        change.put(&place, &title).await.expect(200);
        assert_eq!(changed(&stranger, &mut tags).await, paths);
        let title = json!({"title": "Rope for All"});
        change.put(&place, &title).await.refused(409, "CONCURRENT_UPDATE");
    })
    .await;
}

#[tokio::test]
async fn a_reader_who_has_the_list_is_told_so() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let place = on_sale(&organizer, &workshop()).await;
        let stranger = world.stranger();
        let (sessions, types) = (format!("{place}/sessions"), format!("{place}/ticket-types"));
        for path in ["/events", "/events/featured", "/venues", &sessions, &types] {
            let first = stranger.get(path).await;
            let tag = first.header("etag").expect("a tag").to_owned();
            let again = stranger.with("if-none-match", &tag).get(path).await;
            assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
        }
        let tag = stranger
            .get(&types)
            .await
            .header("etag")
            .expect("a tag")
            .to_owned();
        let ticket = json!({"name": "Late", "price": 200, "included_sessions": ["S1"]});
        organizer.post(&types, &ticket).await.expect(201);
        stranger
            .with("if-none-match", &tag)
            .get(&types)
            .await
            .expect(200);
    })
    .await;
}
