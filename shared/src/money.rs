//! Money: whole minor units and a currency. No fraction of a unit exists anywhere.

use serde::{Deserialize, Serialize};

use crate::error::Invalid;

/// An ISO 4217 code, `EUR`. It is checked wherever it is read from outside.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(try_from = "String", into = "String")]
#[sqlx(transparent)]
pub struct Currency(String);

/// An amount in the currency's minor unit: `4500` with `EUR` is 45 euros.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    pub amount: i64,
    pub currency: Currency,
}

impl Money {
    /// `None` when the currencies differ or the sum is more than can be written down.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Option<Self> {
        let amount = self.amount.checked_add(other.amount)?;
        (self.currency == other.currency).then(|| Self {
            amount,
            currency: self.currency.clone(),
        })
    }

    /// Shares by weights, which sum to the whole.
    #[must_use]
    pub fn split(&self, weights: &[u32]) -> Vec<Self> {
        let shares = split(self.amount, weights, self.currency.as_str()).into_iter();
        shares
            .map(|amount| Self {
                amount,
                currency: self.currency.clone(),
            })
            .collect()
    }
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(code: String) -> Result<Self, String> {
        Self::parse(&code).ok_or_else(|| format!("`{code}` is no currency"))
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.0
    }
}

/// Those of ISO 4217 that people pay with.
const CURRENCIES: &str = "\
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD \
    CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ \
    GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR \
    LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN \
    PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB \
    TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG";

impl Currency {
    /// `None` for what is no currency that people pay with.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let known = CURRENCIES
            .split_ascii_whitespace()
            .any(|known| known == code);
        known.then(|| Self(code.to_owned()))
    }

    /// Adds what is wrong with a code that was given.
    pub(crate) fn check(code: &str, invalid: &mut Invalid) {
        if Self::parse(code).is_none() {
            invalid.push("currency", "must be the code of a currency, like EUR");
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What every payment and refund in a currency is a multiple of, in its minor unit. Stripe counts two currencies in
/// hundredths that have none, and takes no single thousandth of those that have them.
#[must_use]
pub fn smallest_payment(currency: &str) -> i64 {
    match currency {
        "ISK" | "UGX" => 100,
        "BHD" | "JOD" | "KWD" | "OMR" | "TND" => 10,
        _ => 1,
    }
}

/// Adds a field whose amount can be neither paid nor paid back.
pub(crate) fn check_payable(
    amount: i64,
    currency: &str,
    field: impl Into<String>,
    invalid: &mut Invalid,
) {
    let unit = smallest_payment(currency);
    if amount % unit != 0 {
        let message = format!("must be a multiple of {unit}: less cannot be paid in {currency}");
        invalid.push(field, message);
    }
}

/// An amount as people read it: `45.00 EUR`. What a unit is made of is as Stripe has it.
#[must_use]
pub fn text(amount: i64, currency: &str) -> String {
    let digits: usize = match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "JPY" | "KMF" | "KRW" | "MGA" | "PYG" | "RWF" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => return format!("{amount} {currency}"),
        "BHD" | "JOD" | "KWD" | "OMR" | "TND" => 3,
        _ => 2,
    };
    let sign = if amount < 0 { "-" } else { "" };
    let units = format!("{:0>width$}", amount.unsigned_abs(), width = digits + 1);
    let (whole, part) = units.split_at(units.len() - digits);
    format!("{sign}{whole}.{part} {currency}")
}

/// Splits an amount by weights so that the shares sum to the whole and each can be paid: each share is rounded towards
/// zero, and the payable units left over go, one each, to the shares that lost most by it (the earlier ones when equal).
/// What is left of an amount that is no multiple of the payable unit is on the first share.
///
/// Weights that sum to nothing put the whole on the first share.
#[must_use]
pub fn split(amount: i64, weights: &[u32], currency: &str) -> Vec<i64> {
    let unit = smallest_payment(currency);
    let shares = split_units(amount / unit, weights).into_iter();
    let mut shares: Vec<i64> = shares.map(|share| share * unit).collect();
    if let Some(first) = shares.first_mut() {
        *first += amount % unit;
    }
    shares
}

fn split_units(amount: i64, weights: &[u32]) -> Vec<i64> {
    let total: i128 = weights.iter().map(|&weight| i128::from(weight)).sum();
    if total == 0 {
        let whole_first = (0..weights.len()).map(|at| if at == 0 { amount } else { 0 });
        return whole_first.collect();
    }
    let magnitude = i128::from(amount).abs();
    let exact = weights.iter().map(|&weight| magnitude * i128::from(weight));
    let (mut shares, losses): (Vec<i128>, Vec<i128>) =
        exact.map(|share| (share / total, share % total)).unzip();
    let mut by_loss: Vec<usize> = (0..weights.len()).collect();
    by_loss.sort_by_key(|&at| (std::cmp::Reverse(losses[at]), at));
    let left_over = usize::try_from(magnitude - shares.iter().sum::<i128>()).unwrap_or_default();
    for &at in by_loss.iter().take(left_over) {
        shares[at] += 1;
    }
    let sign = i128::from(amount.signum());
    let signed = shares.into_iter().map(|share| i64::try_from(sign * share));
    signed
        .map(|share| share.expect("a share is no larger than the whole"))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_remainder_gets_the_unit() {
        assert_eq!(split(100, &[1, 1, 1], "EUR"), [34, 33, 33]);
        assert_eq!(split(10, &[5, 3, 7], "EUR"), [3, 2, 5]);
        assert_eq!(split(-100, &[1, 1, 1], "EUR"), [-34, -33, -33]);
        assert_eq!(split(5, &[0, 0], "EUR"), [5, 0]);
        assert_eq!(split(5, &[], "EUR"), [] as [i64; 0]);
    }

    #[test]
    fn shares_are_multiples_of_what_can_be_paid() {
        assert_eq!(split(10_000, &[1, 1, 1], "ISK"), [3_400, 3_300, 3_300]);
        assert_eq!(split(10_000, &[1, 1, 1], "KWD"), [3_340, 3_330, 3_330]);
        assert_eq!(split(-10_000, &[1, 1, 1], "UGX"), [-3_400, -3_300, -3_300]);
        assert_eq!(split(10_050, &[1, 1], "ISK"), [5_050, 5_000]);
        let mut invalid = Invalid::default();
        check_payable(10_050, "ISK", "price", &mut invalid);
        assert!(invalid.check().is_err());
    }

    #[test]
    fn people_read_units_and_their_parts() {
        assert_eq!(text(4_500, "EUR"), "45.00 EUR");
        assert_eq!(text(-5, "EUR"), "-0.05 EUR");
        assert_eq!(text(4_500, "JPY"), "4500 JPY");
        assert_eq!(text(4_500, "KWD"), "4.500 KWD");
    }

    #[test]
    fn only_money_of_one_currency_adds_up() {
        let money = |amount, code| Money {
            amount,
            currency: Currency::parse(code).expect("a code"),
        };
        assert_eq!(
            money(100, "EUR").plus(&money(-30, "EUR")),
            Some(money(70, "EUR"))
        );
        assert_eq!(money(100, "EUR").plus(&money(100, "USD")), None);
        assert_eq!(money(i64::MAX, "EUR").plus(&money(1, "EUR")), None);
        assert_eq!(
            money(10, "EUR").split(&[1, 2]),
            [money(3, "EUR"), money(7, "EUR")]
        );
    }

    #[test]
    fn a_currency_is_three_capitals() {
        assert!(Currency::parse("EUR").is_some());
        for bad in ["eur", "EURO", "", "E R", "ÄÖ"] {
            assert!(Currency::parse(bad).is_none(), "{bad}");
            let read = serde_json::from_value::<Currency>(serde_json::json!(bad));
            assert!(read.is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_unit_is_made_or_lost(
            amount in any::<i64>(),
            weights in prop::collection::vec(any::<u32>(), 1..20),
            currency in prop::sample::select(vec!["EUR", "ISK", "KWD"]),
        ) {
            let shares = split(amount, &weights, currency);
            let sum: i128 = shares.iter().map(|&share| i128::from(share)).sum();
            prop_assert_eq!(sum, i128::from(amount));
            let unit = smallest_payment(currency);
            prop_assert!(shares[1..].iter().all(|share| share % unit == 0));
            prop_assert_eq!(shares[0] % unit, amount % unit);
        }

        #[test]
        fn a_share_is_within_one_unit_of_its_exact_part(
            amount in 0i64..1_000_000_000,
            weights in prop::collection::vec(1u32..10_000, 1..20),
        ) {
            let total: i128 = weights.iter().map(|&weight| i128::from(weight)).sum();
            for (share, weight) in split(amount, &weights, "EUR").into_iter().zip(&weights) {
                let off = i128::from(share) * total - i128::from(amount) * i128::from(*weight);
                prop_assert!(off.abs() < total);
            }
        }
    }
}
