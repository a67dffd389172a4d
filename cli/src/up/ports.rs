//! Ports that a person can remember, as long as nobody else has them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context as _;

/// Hands out ports and keeps them free for whoever is to listen there, until it is dropped.
#[derive(Default)]
pub struct Ports {
    kept: Vec<TcpListener>,
}

impl Ports {
    /// The first free port from `preferred` on.
    pub fn from(&mut self, preferred: u16) -> anyhow::Result<SocketAddr> {
        let mut free = (preferred..=u16::MAX)
            .filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        let listener = free
            .next()
            .with_context(|| format!("no port from {preferred} on is free"))?;
        let address = listener.local_addr()?;
        self.kept.push(listener);
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over_and_none_is_handed_out_twice() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let taken = holder.local_addr().expect("bound").port();
        let mut ports = Ports::default();
        let first = ports.from(taken).expect("some port is free").port();
        assert!(first > taken, "{first} is not after {taken}");
        let second = ports.from(first).expect("some port is free").port();
        assert!(second > first, "{second} is not after {first}");
    }
}
