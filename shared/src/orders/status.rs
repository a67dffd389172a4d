//! Where an order stands, and what an outcome of its payment makes of it. Pure.

use poem_openapi::Enum;
use serde::{Deserialize, Serialize};

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
    /// Declined for good; its places are on sale again.
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
    /// Everything has been done already.
    Nothing,
}

impl OrderStatus {
    /// What an outcome makes of an order that stands here. `reclaimed` says of one whose places were given up that
    /// they are held for it again.
    #[must_use]
    pub fn step(self, outcome: &Outcome, reclaimed: bool) -> Step {
        match (self, outcome) {
            (Self::Pending | Self::RequiresAction, Outcome::Paid(_)) => Step::Sell,
            (Self::Expired | Self::Failed, Outcome::Paid(_)) if reclaimed => Step::Sell,
            // Nothing came that could go back.
            (_, Outcome::Paid(received)) if received.amount == 0 => Step::Nothing,
            // A cancelled order was called off by somebody: it is not revived. One that is paid twice is paid once.
            (_, Outcome::Paid(_)) => Step::GiveBack,
            (Self::Pending | Self::RequiresAction, Outcome::NeedsBuyer(_)) => Step::Ask,
            (Self::Pending | Self::RequiresAction, Outcome::Declined { .. }) => {
                Step::End(Self::Failed)
            }
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
        let paid = Outcome::Paid(Received {
            provider: Provider::Stripe,
            reference: "pi".into(),
            amount: 1,
            note: None,
        });
        let declined = Outcome::Declined {
            code: "generic_decline".into(),
            payment: None,
        };
        let ask = Outcome::NeedsBuyer(Ask::default());
        let cancelled = Outcome::Cancelled {
            reason: "buyer".into(),
        };
        let outcomes = [paid, declined, ask, Outcome::Expired, cancelled];
        for status in ALL {
            let steps = outcomes
                .each_ref()
                .map(|outcome| status.step(outcome, false));
            let expected = match status {
                S::Pending | S::RequiresAction => [
                    Step::Sell,
                    Step::End(S::Failed),
                    Step::Ask,
                    Step::End(S::Expired),
                    Step::End(S::Cancelled),
                ],
                _ => [
                    Step::GiveBack,
                    Step::Nothing,
                    Step::Nothing,
                    Step::Nothing,
                    Step::Nothing,
                ],
            };
            assert_eq!(steps, expected, "{status:?}");
            let revived = status.step(&outcomes[0], true) == Step::Sell;
            let can_be = matches!(
                status,
                S::Pending | S::RequiresAction | S::Expired | S::Failed
            );
            assert_eq!(revived, can_be, "{status:?}");
        }
    }
}
