//! Stripe's test payment methods, and what becomes of whoever pays with them.

/// What a card does when it is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Pays,
    /// A bank debit: the money is on its way for days, and arrives or does not.
    PaysSlowly,
    /// Pays, and the payment is disputed at once.
    PaysThenDisputes,
    /// Pays; a refund stays pending until told otherwise.
    RefundsSlowly,
    /// Pays; a refund succeeds at first and fails later.
    RefundsFail,
    Declines {
        code: &'static str,
        decline_code: Option<&'static str>,
        message: &'static str,
    },
    /// The buyer has to prove who they are first.
    AsksTheBuyer,
}

const DECLINED: &str = "Your card was declined.";

const fn declines(decline_code: &'static str, message: &'static str) -> Behaviour {
    Behaviour::Declines {
        code: "card_declined",
        decline_code: Some(decline_code),
        message,
    }
}

const fn fails(code: &'static str, message: &'static str) -> Behaviour {
    Behaviour::Declines {
        code,
        decline_code: None,
        message,
    }
}

/// Stripe writes some of these with the brand, `pm_card_visa_chargeDeclined`; both are known.
pub(super) fn behaviour(method: &str) -> Option<Behaviour> {
    if method == "pm_usBankAccount" {
        return Some(Behaviour::PaysSlowly);
    }
    let rest = method.strip_prefix("pm_card_")?;
    let rest = rest.strip_prefix("visa_").unwrap_or(rest);
    Some(match rest {
        "visa" | "debit" | "mastercard" | "mastercard_debit" | "mastercard_prepaid" | "amex"
        | "discover" | "diners" | "jcb" | "unionpay" | "us" | "de" | "fr" | "gb" | "at" => {
            Behaviour::Pays
        }
        "chargeDeclined" | "chargeCustomerFail" => declines("generic_decline", DECLINED),
        "chargeDeclinedInsufficientFunds" => {
            declines("insufficient_funds", "Your card has insufficient funds.")
        }
        "chargeDeclinedLostCard" => declines("lost_card", DECLINED),
        "chargeDeclinedStolenCard" => declines("stolen_card", DECLINED),
        "chargeDeclinedFraudulent" => declines("fraudulent", DECLINED),
        "chargeDeclinedVelocityLimitExceeded" => declines("card_velocity_exceeded", DECLINED),
        "chargeDeclinedExpiredCard" => fails("expired_card", "Your card has expired."),
        "chargeDeclinedIncorrectCvc" => {
            fails("incorrect_cvc", "Your card's security code is incorrect.")
        }
        "chargeDeclinedProcessingError" => fails(
            "processing_error",
            "An error occurred while processing your card. Try again in a little bit.",
        ),
        "authenticationRequired"
        | "authenticationRequiredOnSetup"
        | "threeDSecure2Required"
        | "threeDSecureRequired" => Behaviour::AsksTheBuyer,
        "createDispute" => Behaviour::PaysThenDisputes,
        "pendingRefund" => Behaviour::RefundsSlowly,
        "refundFail" => Behaviour::RefundsFail,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_with_and_without_the_brand() {
        for name in ["pm_card_chargeDeclined", "pm_card_visa_chargeDeclined"] {
            assert_eq!(behaviour(name), Some(declines("generic_decline", DECLINED)));
        }
        assert_eq!(behaviour("pm_card_visa"), Some(Behaviour::Pays));
        assert_eq!(behaviour("pm_card_unheardOf"), None);
        assert_eq!(behaviour("tok_visa"), None);
    }
}
