//! Where a request comes from.
//!
//! A connection tells its peer. Behind reverse proxies that is the nearest proxy, and the caller stands in a header that
//! each proxy adds the hop before it to. Everything left of what our own proxies added can be written by the caller, so
//! the hops are read from the right, past the proxies of `HOLDFAST_HTTP_TRUSTED_PROXIES` and no further. A hop that cannot
//! be read makes the caller unknown: unknown callers share one bucket of every limit, and are never taken for this machine.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use poem::http::HeaderMap;
use poem::{Addr, Request};
use shared::config::{self, ForwardedHeader, Networks};

/// The address that a request comes from, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    Known(IpAddr),
    Unknown,
}

impl Address {
    /// The caller's address, or that of the nearest hop which is no proxy of ours.
    #[must_use]
    pub fn of(request: &Request, http: &config::Http) -> Self {
        match &**request.remote_addr() {
            Addr::SocketAddr(peer) => {
                let (trusted, header) = (&http.trusted_proxies, http.forwarded_header);
                behind(peer.ip(), request.headers(), trusted, header)
            }
            _ => Self::Unknown,
        }
    }

    /// Whether the request was made on this machine.
    #[must_use]
    pub fn is_this_machine(self) -> bool {
        matches!(self, Self::Known(address) if address.is_loopback())
    }

    /// What limits are counted by: one household or company can have any number of IPv6 addresses.
    #[must_use]
    pub fn network(self) -> String {
        match self {
            Self::Known(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string()
            }
            Self::Known(address) => address.to_string(),
            Self::Unknown => self.to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(address) => address.fmt(f),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

fn behind(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &Networks,
    header: ForwardedHeader,
) -> Address {
    // A dual-stack listener hands out IPv4 peers as IPv6 addresses.
    let mut nearest = peer.to_canonical();
    if !trusted.contain(nearest) {
        return Address::Known(nearest);
    }
    for line in headers.get_all(header.name()).iter().rev() {
        let Ok(line) = line.to_str() else {
            return Address::Unknown;
        };
        for hop in line.rsplit(',') {
            let Some(hop) = read(hop.trim(), header) else {
                return Address::Unknown;
            };
            if !trusted.contain(hop) {
                return Address::Known(hop);
            }
            nearest = hop;
        }
    }
    // A proxy that names nobody, or a request that began at one of them.
    Address::Known(nearest)
}

fn read(hop: &str, header: ForwardedHeader) -> Option<IpAddr> {
    let node = match header {
        ForwardedHeader::XForwardedFor => hop,
        ForwardedHeader::Forwarded => {
            let mut pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
            let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
            node.trim().trim_matches('"')
        }
    };
    let plain = node
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = plain.unwrap_or(node).parse::<IpAddr>().ok();
    let with_port = || node.parse::<SocketAddr>().ok().map(|node| node.ip());
    Some(address.or_else(with_port)?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::config::FromSetting as _;

    #[track_caller]
    fn comes_from(header: &str, peer: &str, lines: &[&[u8]], expected: &str) {
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = poem::http::HeaderName::try_from(header).expect("a name");
            let line = poem::http::HeaderValue::from_bytes(line).expect("a value");
            headers.append(name, line);
        }
        let ours = Networks::from_setting("127.0.0.1, 10.0.0.0/8, fd00::/8").expect("networks");
        let header = ForwardedHeader::from_setting(header).expect("a header");
        let peer = peer.parse().expect("an address");
        let address = behind(peer, &headers, &ours, header);
        assert_eq!(address.to_string(), expected, "{peer} {lines:?}");
    }

    #[test]
    fn hops_are_read_from_the_right_past_trusted_proxies_and_no_further() {
        let cases: [(&str, &[&[u8]], &str); 12] = [
            // Whoever is no proxy of ours can say what they like.
            ("192.0.2.1", &[b"198.51.100.7"], "192.0.2.1"),
            ("127.0.0.1", &[b"198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &[b"127.0.0.1, 198.51.100.7"], "198.51.100.7"),
            (
                "10.1.2.3",
                &[b"203.0.113.9, 198.51.100.7, 10.0.0.4"],
                "198.51.100.7",
            ),
            (
                "10.1.2.3",
                &[b"203.0.113.9", b"198.51.100.7"],
                "198.51.100.7",
            ),
            ("::ffff:10.1.2.3", &[b"198.51.100.7:4711"], "198.51.100.7"),
            ("fd00::1", &[b"[2001:db8::7]:4711"], "2001:db8::7"),
            ("fd00::1", &[b"2001:db8::7"], "2001:db8::7"),
            ("10.1.2.3", &[b"10.0.0.4"], "10.0.0.4"),
            ("10.1.2.3", &[], "10.1.2.3"),
            // What is left of the first stranger is never looked at.
            ("10.1.2.3", &[b"nonsense, 198.51.100.7"], "198.51.100.7"),
            (
                "10.1.2.3",
                &[b"\xff", b"198.51.100.7, 10.0.0.4"],
                "198.51.100.7",
            ),
        ];
        for (peer, lines, expected) in cases {
            comes_from("x-forwarded-for", peer, lines, expected);
        }
    }

    #[test]
    fn a_hop_that_cannot_be_read_makes_the_caller_unknown() {
        let unreadable: [&[u8]; 6] = [
            b"",
            b"unknown",
            b"198.51.100.7, ",
            b"198.51.100.7, _hidden",
            b"198.51.100.7, \xe9",
            b"fe80::1%eth0",
        ];
        for line in unreadable {
            comes_from("x-forwarded-for", "127.0.0.1", &[line], "unknown");
        }
        assert!(!Address::Unknown.is_this_machine());
        assert_eq!(Address::Unknown.network(), "unknown");
    }

    #[test]
    fn the_header_of_the_standard_is_read_where_it_was_chosen() {
        let cases: [(&[u8], &str); 6] = [
            (b"for=198.51.100.7", "198.51.100.7"),
            (
                b"for=127.0.0.1, For=\"[2001:db8::7]:4711\";proto=https;by=10.0.0.4",
                "2001:db8::7",
            ),
            // An open quotation mark of the caller does not swallow what the proxy adds.
            (b"for=\"127.0.0.1, for=198.51.100.7", "198.51.100.7"),
            (b"for=unknown", "unknown"),
            (b"for=_hidden, for=10.0.0.4", "unknown"),
            (b"proto=https", "unknown"),
        ];
        for (line, expected) in cases {
            comes_from("forwarded", "127.0.0.1", &[line], expected);
        }
    }
}
