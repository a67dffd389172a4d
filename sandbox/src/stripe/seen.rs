//! Payments as a test counts them.

use std::collections::BTreeMap;

use super::state::State;

/// A payment, and what became of its money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub id: String,
    pub amount: i64,
    pub currency: String,
    pub status: &'static str,
    /// Charges that took money. More than one is a buyer who paid twice.
    pub charges: usize,
    pub refunded: i64,
    /// What banks have taken for disputes and brought back; below 0 while they keep it.
    pub disputed: i64,
    pub metadata: BTreeMap<String, String>,
}

impl Payment {
    /// Oldest first.
    pub(super) fn all(state: &State) -> Vec<Self> {
        let mut taken: BTreeMap<&str, (usize, i64)> = BTreeMap::new();
        for charge in state.charges.iter().filter(|charge| charge.succeeded()) {
            let (times, refunded) = taken.entry(&charge.intent).or_default();
            *times += 1;
            *refunded += charge.amount_refunded;
        }
        let mut disputed: BTreeMap<&str, i64> = BTreeMap::new();
        for dispute in state.disputes.iter() {
            *disputed.entry(dispute.payment()).or_default() += dispute.moved();
        }
        let payments = state.intents.iter().map(|intent| {
            let (charges, refunded) = taken.get(intent.id.as_str()).copied().unwrap_or_default();
            Self {
                id: intent.id.clone(),
                amount: intent.amount,
                currency: intent.currency.clone(),
                status: intent.status.name(),
                charges,
                refunded,
                disputed: disputed
                    .get(intent.id.as_str())
                    .copied()
                    .unwrap_or_default(),
                metadata: intent.metadata.clone(),
            }
        });
        payments.collect()
    }
}
