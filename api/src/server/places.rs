//! How many connections there may be: of all callers together, and of one network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::config::{self, Networks};

use crate::http::address::Address;

/// Counts what is open.
#[derive(Debug, Clone)]
pub(super) struct Places {
    most: usize,
    most_of_network: usize,
    proxies: Arc<Networks>,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    /// Of networks that have any.
    by_network: HashMap<String, usize>,
}

/// Why there is no place for another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Process,
    Network,
}

impl Full {
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Network => "network",
        }
    }
}

impl Places {
    pub fn new(http: &config::Http) -> Self {
        Self {
            most: http.connections,
            most_of_network: http.connections_per_network,
            proxies: Arc::new(http.trusted_proxies.clone()),
            open: Arc::default(),
        }
    }

    /// A place that is free again when it is dropped.
    pub fn admit(&self, peer: IpAddr) -> Result<Place, Full> {
        let peer = peer.to_canonical();
        // Behind a proxy are all of its callers.
        let counted =
            self.most_of_network > 0 && !peer.is_loopback() && !self.proxies.contain(peer);
        let network = counted.then(|| Address::Known(peer).network());
        let mut open = self.lock();
        if open.all >= self.most {
            return Err(Full::Process);
        }
        if let Some(network) = &network {
            let of_network = open.by_network.entry(network.clone()).or_default();
            if *of_network >= self.most_of_network {
                return Err(Full::Network);
            }
            *of_network += 1;
        }
        open.all += 1;
        drop(open);
        Ok(Place {
            network,
            places: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Place {
    network: Option<String>,
    places: Places,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.lock();
        open.all -= 1;
        let Some(network) = &self.network else { return };
        if let Some(of_network) = open.by_network.get_mut(network) {
            *of_network -= 1;
            if *of_network == 0 {
                open.by_network.remove(network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::config::FromSetting as _;

    fn places(most: usize, most_of_network: usize) -> Places {
        let proxies = Networks::from_setting("10.0.0.0/8").expect("networks");
        Places {
            most,
            most_of_network,
            proxies: Arc::new(proxies),
            open: Arc::default(),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_network_takes_no_more_than_its_share_and_gives_it_back() {
        let places = places(100, 2);
        let first = places.admit(address("2001:db8::1")).expect("room");
        let _second = places.admit(address("2001:db8::2")).expect("room");
        let third = places.admit(address("2001:db8:0:0:9::3"));
        assert_eq!(third.expect_err("the same 64 bits"), Full::Network);
        let _elsewhere = places.admit(address("2001:db8:0:1::1")).expect("room");
        drop(first);
        let _third = places.admit(address("2001:db8::3")).expect("room again");
    }

    #[test]
    fn proxies_and_this_machine_share_the_room_of_all() {
        let places = places(4, 1);
        let callers = ["10.0.0.1", "10.0.0.1", "127.0.0.1", "::1"];
        let open: Vec<Place> = callers
            .map(|caller| places.admit(address(caller)).expect("room"))
            .into();
        let refused = places.admit(address("127.0.0.1"));
        assert_eq!(refused.expect_err("four are open"), Full::Process);
        drop(open);
        places.admit(address("127.0.0.1")).expect("room again");
        assert!(places.lock().by_network.is_empty());
    }
}
