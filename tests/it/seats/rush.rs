//! Many who take seats at once, and for how long they keep each other waiting.

use futures_util::future::join_all;
use serde_json::json;
use tests::{Client, on_sale, standard, workshop, world, world_with};

use super::{seats_of, take, wanted};

const NO_LIMIT: [(&str, &str); 2] = [
    ("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "0"),
    ("HOLDFAST_HOLDS_PER_ADDRESS", "100"),
];

/// Takes seats until it gets them, with the version that the refusal tells.
async fn insist(service: &Client, update: &str, seats: i64) -> usize {
    let mut version = json!(1);
    for tries in 1..1_000 {
        let answer = service.post(update, &take(seats, &version)).await;
        if answer.status == 200 {
            return tries;
        }
        version = answer.refused(409, "CONCURRENT_UPDATE")["current_version"].clone();
    }
    panic!("never got through");
}

#[tokio::test]
async fn fifty_who_hammer_all_get_through_and_the_total_is_exact() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let mut event = workshop();
        event["capacity"] = json!(100);
        let event = on_sale(&lighthouse.organizer, &event, &standard()).await;
        let service = world.internal(lighthouse.id).await;
        let place = seats_of(&event);
        let update = format!("{place}/update-availability");
        join_all((0..50).map(|_| insist(&service, &update, 2))).await;
        let seats = service.get(&place).await.expect(200);
        assert_eq!(
            (&seats["available_seats"], &seats["version"]),
            (&json!(0), &json!(51))
        );
        let more = service.post(&update, &take(1, &json!(51))).await;
        more.refused(409, "INSUFFICIENT_SEATS");
    })
    .await;
}

#[tokio::test]
async fn those_who_come_first_at_once_to_an_event_without_a_total_all_get_through() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let service = world.internal(lighthouse.id).await;
        for _ in 0..8 {
            let event = on_sale(&lighthouse.organizer, &workshop(), &standard()).await;
            let update = format!("{}/update-availability", seats_of(&event));
            join_all((0..20).map(|_| insist(&service, &update, 1))).await;
            let seats = service.get(&seats_of(&event)).await.expect(200);
            assert_eq!(seats["available_seats"], 0);
        }
    })
    .await;
}

#[tokio::test]
async fn the_same_request_five_times_at_once_takes_seats_once() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let event = on_sale(&lighthouse.organizer, &workshop(), &standard()).await;
        let service = world.internal(lighthouse.id).await;
        let update = format!("{}/update-availability", seats_of(&event));
        let keyed = service.with("idempotency-key", "booking-8");
        let body = take(2, &json!(1));
        let answers = join_all((0..5).map(|_| keyed.post(&update, &body))).await;
        assert!(answers.iter().any(|answer| answer.status == 200));
        for answer in answers {
            if answer.status != 200 {
                answer.refused(409, "IDEMPOTENCY_IN_FLIGHT");
            }
        }
        assert_eq!(keyed.post(&update, &body).await.expect(200)["version"], 2);
        let seats = service.get(&seats_of(&event)).await.expect(200);
        assert_eq!(
            (&seats["available_seats"], &seats["version"]),
            (&json!(18), &json!(2))
        );
    })
    .await;
}

#[tokio::test]
async fn buyers_and_a_service_in_a_rush_never_have_more_than_there_is() {
    world_with(&NO_LIMIT, async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let mut event = workshop();
        event["capacity"] = json!(60);
        event["total_capacity"] = json!(60);
        let event = on_sale(&lighthouse.organizer, &event, &standard()).await;
        let service = world.internal(lighthouse.id).await;
        let update = format!("{}/update-availability", seats_of(&event));
        let stranger = world.stranger();
        let wanted = wanted(&event, 1);
        let buying = join_all((0..4).map(async |_| {
            let mut held = 0;
            while stranger.post("/holds", &wanted).await.status == 201 {
                held += 1;
            }
            held
        }));
        let serving = async {
            let (mut version, mut taken) = (json!(1), 0_i32);
            for _ in 0..20 {
                let answer = service.post(&update, &take(2, &version)).await;
                if answer.status != 200 {
                    answer.refused(409, "INSUFFICIENT_SEATS");
                    break;
                }
                version = answer.expect(200)["version"].clone();
                taken += 2;
            }
            taken
        };
        let (bought, taken) = tokio::join!(buying, serving);
        let held: i32 = bought.into_iter().sum();
        assert!(taken > 0 && held > 0, "{taken} and {held}");
        assert_eq!(60, taken + held, "all are taken, and none twice");
    })
    .await;
}

/// Notes for each change of a pool how long its row was locked: from the change to the commit.
const TIMED: &str = "
    create table locked (millis float8 not null);
    create function begun() returns trigger language plpgsql as $$
    begin
        perform set_config('test.begun', extract(epoch from clock_timestamp())::text, true);
        return new;
    end $$;
    create function ended() returns trigger language plpgsql as $$
    begin
        insert into locked values
            ((extract(epoch from clock_timestamp()) - current_setting('test.begun')::float8) * 1000);
        return null;
    end $$;
    create trigger begun before update on pools for each row execute function begun();
    create constraint trigger ended after update on pools deferrable initially deferred
        for each row execute function ended();";

#[tokio::test]
async fn the_row_of_the_pool_is_locked_for_less_than_10_ms() {
    world(async |world| {
        let lighthouse = world.organizer("lighthouse").await;
        let mut event = workshop();
        event["capacity"] = json!(100);
        let event = on_sale(&lighthouse.organizer, &event, &standard()).await;
        let service = world.internal(lighthouse.id).await;
        let timed = sqlx::raw_sql(TIMED).execute(world.app.pool());
        timed.await.expect("triggers");
        let update = format!("{}/update-availability", seats_of(&event));
        for version in 1..=100 {
            service
                .post(&update, &take(1, &json!(version)))
                .await
                .expect(200);
        }
        let (number, most): (i64, f64) = sqlx::query_as(
            "select count(*), percentile_cont(0.9) within group (order by millis) from locked",
        )
        .fetch_one(world.app.pool())
        .await
        .expect("times");
        // A machine that is busy with other tests may stop any one in the middle.
        assert_eq!(number, 100);
        assert!(most < 10.0, "nine of ten within {most} ms");
    })
    .await;
}
