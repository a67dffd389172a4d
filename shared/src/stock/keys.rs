//! Where an event's places lie in Redis.

use crate::ids::EventId;

/// In the order in which the scripts have them: pools, holds, deadlines, holds per buyer.
pub(super) struct Keys(pub [String; 4]);

impl Keys {
    pub fn of(prefix: &str, event_id: EventId) -> Self {
        // The braces are the hash tag: a cluster keeps all keys with the same one together.
        let key = |name: &str| format!("{prefix}:{{{event_id}}}:{name}");
        Self([key("pools"), key("holds"), key("lapsing"), key("buyers")])
    }

    pub fn pools(&self) -> &str {
        &self.0[0]
    }

    pub fn holds(&self) -> &str {
        &self.0[1]
    }
}
