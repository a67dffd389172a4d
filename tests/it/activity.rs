//! Activities only grow, and a line changed, lost or slipped in is found.

use shared::activity::{self, Verdict};
use shared::ids::OrganizationId;
use sqlx::{AssertSqlSafe, Executor as _};
use tests::{World, harbour_hall, world};

async fn seal(world: &World) -> usize {
    world.change(async |tx| activity::seal(tx, 100).await).await
}

async fn verdict(world: &World, organization: OrganizationId) -> Verdict {
    let mut db = world.app.read().await.expect("a connection");
    activity::verify(&mut db, Some(organization))
        .await
        .expect("a verdict")
}

#[tokio::test]
async fn the_database_refuses_to_change_or_remove_a_line() {
    world(async |world| {
        world.organizer("lighthouse").await;
        for sealed in [false, true] {
            if sealed {
                assert_eq!(seal(world).await, 1);
            }
            for statement in [
                "update activities set kind = 'nothing.happened'",
                "update activities set data = '{}', position = 7, hash = 'x'",
                "update activities set position = null, hash = null",
                "delete from activities",
                "truncate activities cascade",
            ] {
                let error = world
                    .app
                    .pool()
                    .execute(statement)
                    .await
                    .expect_err(statement);
                assert!(
                    error.to_string().contains("activities only grow"),
                    "{error}"
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn tampering_behind_the_back_of_the_database_is_found() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        for _ in 0..3 {
            lighthouse
                .organizer
                .post("/venues", &harbour_hall())
                .await
                .expect(201);
        }
        // One of its making, one of the key's first use, three of venues.
        assert_eq!(seal(world).await, 5);
        assert_eq!(
            verdict(world, lighthouse.id).await,
            Verdict::Whole { lines: 5 }
        );

        for (tampering, found_at) in [
            (
                r#"update activities set data = '{"name": "Hall of Mirrors"}' where position = 2"#,
                2,
            ),
            (
                "update activities set at = at - interval '1 day' where position = 3",
                3,
            ),
            (
                "update activities set actor_id = null where position = 4",
                4,
            ),
            ("delete from activities where position = 3", 3),
            ("delete from activities where position = 4", 4),
            ("delete from activities where position = 5", 5),
        ] {
            let sql = format!(
                "alter table activities disable trigger user; {tampering};
                 alter table activities enable trigger user"
            );
            let mut tx = world.app.pool().begin().await.expect("a transaction");
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut *tx)
                .await
                .expect("the tampering");
            let verdict = activity::verify(&mut tx, Some(lighthouse.id))
                .await
                .expect("a verdict");
            assert_eq!(verdict, Verdict::Broken { at: found_at }, "{tampering}");
            tx.rollback().await.expect("all is well again");
        }
        assert_eq!(
            verdict(world, lighthouse.id).await,
            Verdict::Whole { lines: 5 }
        );
    })
    .await;
}

#[tokio::test]
async fn many_sealers_at_once_make_one_chain() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        for _ in 0..5 {
            lighthouse
                .organizer
                .post("/venues", &harbour_hall())
                .await
                .expect(201);
        }
        let (a, b, c) = tokio::join!(seal(world), seal(world), seal(world));
        assert_eq!(a + b + c, 7);
        assert_eq!(
            verdict(world, lighthouse.id).await,
            Verdict::Whole { lines: 7 }
        );
    })
    .await;
}

#[tokio::test]
async fn a_line_names_the_request_that_caused_it() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let made = organizer.post("/venues", &harbour_hall()).await;
        let request = made.header("x-request-id").expect("an id").to_owned();
        made.expect(201);
        let cause = "select cause from activities where kind = 'venue.created'";
        let cause: String = sqlx::query_scalar(cause)
            .fetch_one(world.app.pool())
            .await
            .expect("a line");
        assert_eq!(cause, request);
    })
    .await;
}
