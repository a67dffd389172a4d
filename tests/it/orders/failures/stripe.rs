//! What Stripe does to an order: no answer, a wrong one, a late one, and word of its own.

use super::*;

#[tokio::test]
async fn stripe_does_not_answer_and_has_charged() {
    let hasty = [
        ("HOLDFAST_STRIPE_TIMEOUT", "300ms"),
        ("HOLDFAST_STRIPE_ATTEMPTS", "1"),
    ];
    world_with(&hasty, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        for fault in [Fault::Silence, Fault::CutAfter, Fault::ErrorAfter] {
            world.stripe().misbehave("payment_intents.create", fault, 1);
            let new = card_order(&event, 1, "pm_card_visa");
            let order = bought(world, &world.stranger(), &new).await;
            assert_eq!(
                (&order["status"], charges(world, &order)),
                (&json!("pending"), 1),
                "{fault:?}"
            );
            world.pass(TimeDelta::minutes(2));
            world.run_jobs().await;
            is_paid_once(world, &order, 1).await;
        }
    })
    .await;
}

/// Stripe keeps its own 500 under the key: the truth is found by looking the payment up.
#[tokio::test]
async fn stripe_keeps_a_wrong_answer_and_has_charged() {
    world_with(&[("HOLDFAST_STRIPE_ATTEMPTS", "1")], async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        world
            .stripe()
            .misbehave("payment_intents.create", Fault::ErrorKept, 1);
        let order = bought(
            world,
            &world.stranger(),
            &card_order(&event, 1, "pm_card_visa"),
        )
        .await;
        assert_eq!(order["status"], "pending");
        world.pass(TimeDelta::minutes(2));
        chase(world).await;
        is_paid_once(world, &order, 1).await;
        // The job that was put off finds nothing left to do.
        world.pass(TimeDelta::hours(1));
        world.run_jobs().await;
    })
    .await;
}

#[tokio::test]
async fn stripe_is_down_for_an_hour() {
    let hasty = [
        ("HOLDFAST_STRIPE_TIMEOUT", "300ms"),
        ("HOLDFAST_STRIPE_ATTEMPTS", "1"),
    ];
    world_with(&hasty, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        world.stripe().go_down().await.expect("it is down");
        let order = bought(
            world,
            &world.stranger(),
            &card_order(&event, 2, "pm_card_visa"),
        )
        .await;
        for _ in 0..6 {
            world.pass(TimeDelta::minutes(10));
            chase(world).await;
            // Nobody can say that it was not charged: it waits, and keeps its places.
            assert_eq!(again(&world.stranger(), &order).await["status"], "pending");
            assert_eq!(left(world, &event).await, 8);
        }
        world.stripe().come_back().expect("it is back");
        world.pass(TimeDelta::minutes(2));
        chase(world).await;
        let order = again(&world.stranger(), &order).await;
        assert_eq!(
            (&order["status"], charges(world, &order)),
            (&json!("expired"), 0)
        );
        assert_eq!(left(world, &event).await, 10);
    })
    .await;
}

#[tokio::test]
async fn stripe_charges_and_is_down_for_an_hour() {
    let hasty = [
        ("HOLDFAST_STRIPE_TIMEOUT", "300ms"),
        ("HOLDFAST_STRIPE_ATTEMPTS", "1"),
    ];
    world_with(&hasty, async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        world
            .stripe()
            .misbehave("payment_intents.create", Fault::CutAfter, 1);
        let order = bought(
            world,
            &world.stranger(),
            &card_order(&event, 2, "pm_card_visa"),
        )
        .await;
        world.stripe().go_down().await.expect("it is down");
        for _ in 0..6 {
            world.pass(TimeDelta::minutes(10));
            chase(world).await;
        }
        assert_eq!(again(&world.stranger(), &order).await["status"], "pending");
        world.stripe().come_back().expect("it is back");
        world.pass(TimeDelta::minutes(2));
        chase(world).await;
        is_paid_once(world, &order, 2).await;
    })
    .await;
}

/// It has taken up all that talks with it, and the one payment that a worker begins at a time never ends.
#[tokio::test]
async fn stripe_hangs_and_free_tickets_are_given_out() {
    world_with(&[("HOLDFAST_JOBS_CONCURRENCY", "1")], async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let (event, free) = (
            event_of(&organizer, 10).await,
            free_event_of(&organizer, 10).await,
        );
        world
            .stripe()
            .misbehave("payment_intents.create", Fault::HoldBefore, 1);
        let mut worker = processes::worker(world).await;
        let guest = world.stranger();
        let new = card_order(&event, 1, "pm_card_visa");
        let charged = guest.post("/orders", &new).await.expect(202);
        let asked = world.stripe().until_held(PATIENCE).await;
        asked.expect("it was asked");
        let given = guest.post("/orders", &free_order(&free, 1)).await;
        let given = given.expect(202);
        eventually("the free tickets are there", async || {
            let paid = "select count(*) from orders where status = 'paid'";
            count(world, paid).await == 1
        })
        .await;
        assert_eq!(again(&guest, &given).await["status"], "paid");
        assert_eq!(again(&guest, &charged).await["status"], "pending");
        world.stripe().release();
        eventually("all is done", async || {
            let open = "select count(*) from apalis.jobs where status <> 'Done'";
            count(world, open).await == 0
        })
        .await;
        worker.kill().await.expect("it is gone");
        is_paid_once(world, &charged, 1).await;
    })
    .await;
}

#[tokio::test]
async fn stripe_tells_before_it_answers() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        world
            .stripe()
            .misbehave("payment_intents.create", Fault::HoldAfter, 1);
        let new = card_order(&event, 2, "pm_card_visa");
        let order = world.stranger().post("/orders", &new).await.expect(202);
        let telling = async {
            world
                .stripe()
                .until_held(PATIENCE)
                .await
                .expect("it was asked");
            let told = world.stripe().deliver_webhooks(Bring::AsMade).await;
            assert!(told.iter().all(|told| told.status == 200), "{told:?}");
            // Another worker sees to what was told, while the first still waits for its answer.
            let settled = join(see_to_events(world), async {}).await.0;
            assert!(settled > 0, "something was told");
            is_paid_once(world, &order, 2).await;
            world.stripe().release();
        };
        join(world.run_jobs(), telling).await;
        is_paid_once(world, &order, 2).await;
    })
    .await;
}

/// Sees to everything that Stripe has told, as the job does.
async fn see_to_events(world: &World) -> usize {
    let ids: Vec<String> = sqlx::query_scalar("select id from stripe_events order by received_at")
        .fetch_all(world.app.pool())
        .await
        .expect("events");
    for id in &ids {
        orders::heard(&world.app, id).await.expect("seen to");
    }
    ids.len()
}

#[tokio::test]
async fn stripe_tells_twice_and_backwards() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        world.stripe().misdeliver("payment_intent.succeeded", WebhookFault::Twice, 3);
        let guest = world.stranger();
        let mut orders = Vec::new();
        for card in ["pm_card_visa", "pm_card_mastercard", "pm_card_chargeDeclined"] {
            orders.push(bought(world, &guest, &card_order(&event, 1, card)).await);
        }
        // These are paid in a browser: that they are is known by what Stripe tells alone.
        let mut new = card_order(&event, 1, "");
        new["payment"] = json!({"method": "client"});
        for card in ["pm_card_visa", "pm_card_mastercard"] {
            let order = bought(world, &guest, &new).await;
            let payment = order["client_secret"].as_str().and_then(|it| it.split("_secret").next());
            world.stripe().confirm(payment.expect("a payment"), card).expect("the bank pays");
            assert_eq!(order["status"], "requires_action");
            orders.insert(0, order);
        }
        for order in [Bring::Reversed, Bring::Shuffled(7), Bring::AsMade] {
            for told in world.stripe().deliver_webhooks(order).await {
                assert_eq!(told.status, 200, "{told:?}");
            }
            for known in world.stripe().events() {
                world.stripe().resend(known["id"].as_str().expect("an id"));
            }
            world.run_jobs().await;
        }
        world.stripe().drop_webhooks();
        for order in &orders[..4] {
            is_paid_once(world, order, 1).await;
        }
        let declined = again(&guest, &orders[4]).await;
        assert_eq!((&declined["status"], &declined["version"]), (&json!("failed"), &orders[4]["version"]));
        let events = count(world, "select count(*) from stripe_events").await;
        let jobs = "select count(*) from apalis.jobs where convert_from(job, 'UTF8') like '%stripe.heard%'";
        assert!(count(world, jobs).await <= events, "each was seen to once");
    })
    .await;
}

#[tokio::test]
async fn stripe_never_tells() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let event = event_of(&organizer, 10).await;
        let mut new = card_order(&event, 2, "");
        new["payment"] = json!({"method": "client"});
        let guest = world.stranger();
        let order = bought(world, &guest, &new).await;
        assert_eq!(order["status"], "requires_action");
        let secret = order["client_secret"].as_str().expect("a secret");
        let payment = secret.split("_secret").next().expect("a payment");
        world
            .stripe()
            .confirm(payment, "pm_card_visa")
            .expect("confirmed");
        world.stripe().drop_webhooks();
        world.pass(TimeDelta::minutes(1));
        chase(world).await;
        is_paid_once(world, &order, 2).await;
    })
    .await;
}

#[tokio::test]
async fn stripe_is_never_told_to_slow_down_and_what_it_told_is_forgotten_one_day() {
    world_with(&[("HOLDFAST_LIMITS_ANONYMOUS_PER_MINUTE", "3")], async |world| {
        let now = world.app.clock.now().timestamp();
        for n in 0..20 {
            let event = json!({"id": format!("evt_{n}"), "object": "event", "type": "payout.paid", "created": now,
                               "data": {"object": {"id": "po_1", "object": "payout"}}});
            let signature = sandbox::stripe::sign(WEBHOOK_SECRET, now, event.to_string().as_bytes());
            let stripe = world.stranger().with("Stripe-Signature", &signature);
            stripe.post("/webhooks/stripe", &event).await.expect(200);
        }
        assert_eq!(count(world, "select count(*) from stripe_events").await, 20);
        world.pass(TimeDelta::days(61));
        world.change(async |tx| { tx.enqueue(&ForgetHeard {}); Ok(()) }).await;
        world.run_jobs().await;
        assert_eq!(count(world, "select count(*) from stripe_events").await, 0);
    })
    .await;
}
