//! Where an order stands, and what an outcome of its payment makes of it. Pure.

use poem_openapi::Enum;
use serde::{Deserialize, Serialize};
use stripe_api::Payment;

use crate::ids::{AttemptId, OrderId};

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Enum, sqlx::Type)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum OrderStatus {
    /// Written; its payment is under way.
    Pending,
    /// The buyer must act: confirm the payment, or pay at `payment_url`.
    RequiresAction,
    /// Paid or free, with its tickets.
    Paid,
    /// Declined for good, or its places were gone before it was charged; its places are on sale again.
    Failed,
    /// Not paid in time; its places are on sale again.
    Expired,
    Cancelled,
    PartiallyRefunded,
    Refunded,
}

/// What became of a payment, whoever tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The money is there, or none is needed.
    Paid(Received),
    /// The buyer's bank will not have it.
    Declined {
        code: String,
        payment: Option<String>,
    },
    /// Its places were gone before it was charged.
    NoPlaces,
    /// The buyer must act.
    NeedsBuyer(Ask),
    /// It will not be paid any more: the time is over and the payment is closed.
    Expired,
    /// Somebody called it off before it was paid.
    Cancelled { reason: String },
}

/// Money that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub provider: Provider,
    /// The provider's payment.
    pub reference: String,
    pub amount: i64,
    /// What is on the bank statement or the receipt of money that came by hand.
    pub note: Option<String>,
    /// What the payment itself says that it pays for. Only payments at Stripe say so.
    pub claim: Option<Claim>,
}

/// What a payment at Stripe says that it pays for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub order_id: Option<OrderId>,
    pub attempt_id: Option<AttemptId>,
    pub currency: String,
}

/// What an order asks to be paid.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub order_id: OrderId,
    pub total: i64,
    pub currency: &'a str,
    /// Its tries to be paid at Stripe.
    pub attempts: &'a [AttemptId],
}

/// In what a payment differs from what its order asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// It names another order, or none: it is no money of this order.
    Order,
    Attempt,
    Currency,
    Amount,
}

impl Mismatch {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Attempt => "attempt",
            Self::Currency => "currency",
            Self::Amount => "amount",
        }
    }
}

impl Received {
    /// The money of a payment as Stripe has it.
    #[must_use]
    pub fn at_stripe(payment: &Payment) -> Self {
        let named = |name: &str| payment.metadata.get(name)?.parse().ok();
        Self {
            provider: Provider::Stripe,
            reference: payment.id.clone(),
            amount: payment.amount_received,
            note: None,
            claim: Some(Claim {
                order_id: named("order_id").map(OrderId),
                attempt_id: named("attempt_id").map(AttemptId),
                currency: payment.currency.to_uppercase(),
            }),
        }
    }

    /// In what it differs from what the order asks for. Who says that money came by hand, or that nothing is to be paid, names
    /// the order itself.
    #[must_use]
    pub fn mismatch(&self, asked: &Asked<'_>) -> Option<Mismatch> {
        if self.provider == Provider::Stripe {
            let claim = self.claim.as_ref();
            let Some(claim) = claim.filter(|claim| claim.order_id == Some(asked.order_id)) else {
                return Some(Mismatch::Order);
            };
            if !claim
                .attempt_id
                .is_some_and(|id| asked.attempts.contains(&id))
            {
                return Some(Mismatch::Attempt);
            }
            if claim.currency != asked.currency {
                return Some(Mismatch::Currency);
            }
        }
        (self.amount != asked.total).then_some(Mismatch::Amount)
    }
}

/// What the buyer needs to act.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    pub client_secret: Option<String>,
    pub payment_url: Option<String>,
    pub payment: Option<String>,
    pub checkout: Option<String>,
}

/// Who handles the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    Stripe,
    Manual,
    Free,
}

impl Provider {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Manual => "manual",
            Self::Free => "free",
        }
    }
}

/// What an outcome makes of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Take its places for good and give out its tickets.
    Sell,
    /// The money came when the places were given up, or was more than what was asked for: it goes back.
    GiveBack,
    /// It waits for the buyer.
    Ask,
    /// It is over without a sale; its places are on sale again.
    End(OrderStatus),
    /// The money is not what the order asks for: it pays for nothing, is written down and goes back.
    Refuse(Mismatch),
    /// Everything has been done already.
    Nothing,
}

impl OrderStatus {
    /// What an outcome makes of an order that stands here. `reclaimed` says of one whose places were given up that
    /// they are held for it again. Only the money that was asked for sells anything.
    #[must_use]
    pub fn step(self, outcome: &Outcome, asked: &Asked<'_>, reclaimed: bool) -> Step {
        if let Outcome::Paid(received) = outcome {
            match received.mismatch(asked) {
                None => {}
                Some(Mismatch::Order) => return Step::Nothing,
                Some(mismatch) if received.provider == Provider::Stripe => {
                    return Step::Refuse(mismatch);
                }
                Some(_) => return Step::Nothing,
            }
        }
        match (self, outcome) {
            (Self::Pending | Self::RequiresAction, Outcome::Paid(_)) => Step::Sell,
            (Self::Expired | Self::Failed, Outcome::Paid(_)) if reclaimed => Step::Sell,
            // Nothing came that could go back.
            (_, Outcome::Paid(received)) if received.amount == 0 => Step::Nothing,
            // A cancelled order was called off by somebody: it is not revived. One that is paid twice is paid once.
            (_, Outcome::Paid(_)) => Step::GiveBack,
            (Self::Pending | Self::RequiresAction, Outcome::NeedsBuyer(_)) => Step::Ask,
            (
                Self::Pending | Self::RequiresAction,
                Outcome::Declined { .. } | Outcome::NoPlaces,
            ) => Step::End(Self::Failed),
            (Self::Pending | Self::RequiresAction, Outcome::Expired) => Step::End(Self::Expired),
            (Self::Pending | Self::RequiresAction, Outcome::Cancelled { .. }) => {
                Step::End(Self::Cancelled)
            }
            _ => Step::Nothing,
        }
    }

    /// Whether its payment is still open.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Self::Pending | Self::RequiresAction)
    }

    /// Whether it has tickets.
    #[must_use]
    pub const fn is_sold(self) -> bool {
        matches!(self, Self::Paid | Self::PartiallyRefunded)
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::RequiresAction => "requires_action",
            Self::Paid => "paid",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const ALL: [OrderStatus; 8] = [
        OrderStatus::Pending,
        OrderStatus::RequiresAction,
        OrderStatus::Paid,
        OrderStatus::Failed,
        OrderStatus::Expired,
        OrderStatus::Cancelled,
        OrderStatus::PartiallyRefunded,
        OrderStatus::Refunded,
    ];

    #[test]
    fn every_pair_of_a_status_and_an_outcome() {
        use OrderStatus as S;
        let (order_id, attempt_id) = (OrderId(Uuid::from_u128(1)), AttemptId(Uuid::from_u128(2)));
        let attempts = [attempt_id];
        let asked = asked(order_id, &attempts);
        let paid = Outcome::Paid(received(order_id, attempt_id, "EUR", 4_500));
        let declined = Outcome::Declined {
            code: "generic_decline".into(),
            payment: None,
        };
        let ask = Outcome::NeedsBuyer(Ask::default());
        let cancelled = Outcome::Cancelled {
            reason: "buyer".into(),
        };
        let gone = Outcome::NoPlaces;
        let outcomes = [paid, declined, ask, Outcome::Expired, cancelled, gone];
        for status in ALL {
            let steps = outcomes
                .each_ref()
                .map(|outcome| status.step(outcome, &asked, false));
            let expected = match status {
                S::Pending | S::RequiresAction => [
                    Step::Sell,
                    Step::End(S::Failed),
                    Step::Ask,
                    Step::End(S::Expired),
                    Step::End(S::Cancelled),
                    Step::End(S::Failed),
                ],
                _ => [
                    Step::GiveBack,
                    Step::Nothing,
                    Step::Nothing,
                    Step::Nothing,
                    Step::Nothing,
                    Step::Nothing,
                ],
            };
            assert_eq!(steps, expected, "{status:?}");
            let revived = status.step(&outcomes[0], &asked, true) == Step::Sell;
            let can_be = matches!(
                status,
                S::Pending | S::RequiresAction | S::Expired | S::Failed
            );
            assert_eq!(revived, can_be, "{status:?}");
        }
    }

    const fn asked(order_id: OrderId, attempts: &[AttemptId]) -> Asked<'_> {
        Asked {
            order_id,
            total: 4_500,
            currency: "EUR",
            attempts,
        }
    }

    fn received(order_id: OrderId, attempt_id: AttemptId, currency: &str, amount: i64) -> Received {
        Received {
            provider: Provider::Stripe,
            reference: "pi".into(),
            amount,
            note: None,
            claim: Some(Claim {
                order_id: Some(order_id),
                attempt_id: Some(attempt_id),
                currency: currency.into(),
            }),
        }
    }

    proptest! {
        /// Whatever a payment says and wherever the order stands, only the whole price in the right currency, of one of the
        /// order's own tries, sells anything.
        #[test]
        fn nothing_but_the_price_sells(
            status in 0..ALL.len(), reclaimed: bool, order in 1_u128..4, attempt in 1_u128..4,
            dollars: bool, amount in prop_oneof![Just(4_500_i64), 0_i64..10_000], by_hand: bool,
        ) {
            let (ours, attempts) = (OrderId(Uuid::from_u128(1)), [AttemptId(Uuid::from_u128(2))]);
            let (order_id, attempt_id) = (OrderId(Uuid::from_u128(order)), AttemptId(Uuid::from_u128(attempt)));
            let currency = if dollars { "USD" } else { "EUR" };
            let mut money = received(order_id, attempt_id, currency, amount);
            if by_hand {
                money = Received { provider: Provider::Manual, claim: None, ..money };
            }
            let step = ALL[status].step(&Outcome::Paid(money), &asked(ours, &attempts), reclaimed);
            let right = amount == 4_500 && (by_hand || order == 1 && attempt == 2 && !dollars);
            prop_assert!(right || step != Step::Sell && step != Step::GiveBack, "{step:?}");
            if !right && !by_hand && order == 1 {
                prop_assert!(matches!(step, Step::Refuse(_)), "{step:?}");
            }
        }
    }
}
