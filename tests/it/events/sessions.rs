//! The dated parts of an event.

use super::*;

#[tokio::test]
async fn a_session_gets_the_next_code_and_never_a_used_one() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = create(&organizer).await;
        let sessions = format!("{}/sessions", at(&event));
        let second = session("Second", "2026-02-11T18:00:00Z", "2026-02-11T20:00:00Z");
        let third = session("Third", "2026-02-12T18:00:00Z", "2026-02-12T20:00:00Z");
        let (one, other) = tokio::join!(
            organizer.post(&sessions, &second),
            organizer.post(&sessions, &third)
        );
        let mut made = [
            one.expect(201)["code"].clone(),
            other.expect(201)["code"].clone(),
        ];
        made.sort_by_key(ToString::to_string);
        assert_eq!(made, ["S2", "S3"]);
        assert_eq!(world.stranger().get(&sessions).await.status, 404);

        organizer
            .delete(&format!("{sessions}/S3"))
            .await
            .expect(204);
        let fourth = organizer.post(&sessions, &third).await.expect(201);
        assert_eq!(fourth["code"], "S4");
        organizer
            .delete(&format!("{sessions}/S3"))
            .await
            .refused(404, "SESSION_NOT_FOUND");

        let last = json!({"ends_at": "2026-02-13T02:00:00Z", "version": 1});
        organizer
            .put(&format!("{sessions}/S4"), &last)
            .await
            .expect(200);
        let event = organizer.get(&at(&event)).await.expect(200);
        assert_eq!(codes(&event["sessions"]), ["S1", "S2", "S4"]);
        assert_eq!(event["ends_at"], "2026-02-13T02:00:00Z");

        let ticket =
            json!({"name": "Both", "price": 0, "included_sessions": ["S1", "S4"], "quantity": 5});
        organizer
            .post(&format!("{}/ticket-types", at(&event)), &ticket)
            .await
            .expect(201);
        organizer
            .delete(&format!("{sessions}/S4"))
            .await
            .refused(409, "SESSION_IN_USE");
        organizer
            .delete(&format!("{sessions}/S2"))
            .await
            .expect(204);
        let stale = json!({"name": "Other", "version": 1});
        organizer
            .put(&format!("{sessions}/S4"), &stale)
            .await
            .refused(409, "CONCURRENT_UPDATE");
        let backwards = json!({"ends_at": "2026-02-01T02:00:00Z", "version": 2});
        assert_eq!(
            organizer
                .put(&format!("{sessions}/S4"), &backwards)
                .await
                .bad_fields(),
            ["ends_at"]
        );
    })
    .await;
}

/// One that is over by a slip of the hand would be over for good.
#[tokio::test]
async fn a_session_is_not_moved_into_the_past() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = create(&organizer).await;
        let event = publish(&organizer, &event).await;
        let place = format!("{}/sessions/S1", at(&event));
        let past = json!({"starts_at": "2020-02-10T18:00:00Z", "ends_at": "2020-02-10T20:00:00Z", "version": 1});
        let fields = organizer.put(&place, &past).await.bad_fields();
        assert_eq!(fields, ["ends_at", "starts_at"]);
        let renamed = json!({"name": "Evening", "version": 1});
        organizer.put(&place, &renamed).await.expect(200);
    })
    .await;
}
