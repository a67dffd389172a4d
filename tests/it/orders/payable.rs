//! Currencies in which a payment is a multiple of more than their minor unit.

use tests::world;

use super::*;

/// An event in a currency, of which half comes back.
fn half_back(currency: &str) -> Value {
    let mut event = workshop();
    event["currency"] = json!(currency);
    event["refund_policy"] = json!({"full_until_hours": null, "partial_percent": 50, "partial_until_hours": 0,
                                    "keep_fees": false});
    event
}

fn at_price(price: i64) -> Value {
    let mut kind = standard();
    kind["price"] = json!(price);
    kind
}

#[tokio::test]
async fn a_price_is_refused_that_nobody_can_pay() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        for (currency, odd, even) in [("ISK", 4_550, 4_500), ("KWD", 4_555, 4_550)] {
            let mut whole = half_back(currency);
            whole["ticket_types"] = json!([at_price(even), at_price(odd)]);
            let refused = organizer.post("/events", &whole).await;
            assert_eq!(
                refused.bad_fields(),
                ["ticket_types[1].price"],
                "{currency}"
            );

            let event = on_sale(&organizer, &half_back(currency), &at_price(even)).await;
            let types = format!(
                "/events/{}/ticket-types",
                event["id"].as_str().expect("an id")
            );
            let mut both = at_price(odd);
            both["member_price"] = json!(odd);
            let refused = organizer.post(&types, &both).await;
            assert_eq!(
                refused.bad_fields(),
                ["member_price", "price"],
                "{currency}"
            );
            let only = event["ticket_types"][0]["id"].as_str().expect("an id");
            let change = json!({"price": odd, "version": 1});
            let refused = organizer.put(&format!("{types}/{only}"), &change).await;
            assert_eq!(refused.bad_fields(), ["price"], "{currency}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_goes_back_can_be_paid_in_every_currency() {
    world(async |world| {
        let organizer = world.organizer("lighthouse").await.organizer;
        let guest = world.stranger();
        for (currency, price, shares, odd) in [
            ("ISK", 3_300, [1_700, 1_600, 1_600], 150),
            ("UGX", 3_300, [1_700, 1_600, 1_600], 199),
            ("KWD", 1_110, [560, 550, 550], 15),
            ("JPY", 333, [167, 166, 166], 0),
        ] {
            let event = on_sale(&organizer, &half_back(currency), &at_price(price)).await;
            let order = bought(world, &guest, &card_order(&event, 3, "pm_card_visa")).await;
            assert_eq!(order["status"], "paid", "{currency}: {order}");
            let id = order["id"].as_str().expect("an id");
            if odd > 0 {
                let odd = json!({"amount": odd, "reason": "Goodwill"});
                let refused = organizer.post(&format!("/orders/{id}/refunds"), &odd).await;
                assert_eq!(refused.bad_fields(), ["amount"], "{currency}");
            }
            let mut back = Vec::new();
            for ticket in order["tickets"].as_array().expect("tickets") {
                let secret = order["secret"].as_str().expect("a secret");
                let ticket = ticket["id"].as_str().expect("an id");
                let cancel = format!("/tickets/{ticket}/cancel?secret={secret}");
                let before = again(&guest, &order).await["refunded"]
                    .as_i64()
                    .expect("money");
                guest.put(&cancel, &json!({})).await.expect(200);
                world.run_jobs().await;
                let after = again(&guest, &order).await["refunded"]
                    .as_i64()
                    .expect("money");
                back.push(after - before);
            }
            assert_eq!(back, shares, "{currency}");
            let refunds = organizer
                .get(&format!("/orders/{id}/refunds"))
                .await
                .expect(200);
            let refunds = refunds.as_array().expect("refunds");
            assert!(
                refunds.iter().all(|refund| refund["status"] == "succeeded"),
                "{refunds:?}"
            );
        }
    })
    .await;
}
