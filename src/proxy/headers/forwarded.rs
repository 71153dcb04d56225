//! The client's address, from the peer and what trusted proxies report.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Maximum number of elements of X-Forwarded-For that are read; no real chain of trusted proxies is this long.
const HOPS_LIMIT: usize = 32;

/// Maximum length of an element; an address with a port is never longer.
const ELEMENT_LIMIT: usize = 64;

/// The client of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// The peer, or the client that the trusted proxies report; never an IPv4-mapped IPv6 address.
    pub(crate) address: IpAddr,
    /// Whether the peer is one of the trusted proxies.
    pub(crate) trusted_peer: bool,
    /// Whether that address is a trusted proxy's, which does not say for which client it sends the request.
    pub(crate) is_hidden: bool,
}

/// Determines the client: reads X-Forwarded-For from its end as long as the hop that wrote an element is trusted. An
/// element that is not an address ends this at the last trusted hop. Ports are ignored.
pub(crate) fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> Client {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut address = peer.to_canonical();
    let trusted_peer = is_trusted(&address);
    let mut is_hidden = trusted_peer;
    if trusted_peer {
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let elements = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
        for (hops, element) in elements.enumerate() {
            // A proxy that writes no address, or a chain that is too long, hides who is before it.
            let hop = parse_element(element).filter(|_| hops < HOPS_LIMIT);
            is_hidden = hop.is_none();
            address = hop.unwrap_or(address);
            if is_hidden || !is_trusted(&address) {
                break;
            }
        }
    }
    Client { address, trusted_peer, is_hidden }
}

/// Parses an address with an optional port: `192.0.2.1`, `192.0.2.1:567`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:80`.
fn parse_element(element: &[u8]) -> Option<IpAddr> {
    let element = element.trim_ascii();
    if element.len() > ELEMENT_LIMIT {
        return None;
    }
    let text = str::from_utf8(element).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let address = text.parse().ok().or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()));
    address.or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::map;
    use super::*;

    #[test]
    fn which_hops_are_trusted() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "2001:db8::/32"].map(|net| net.parse().unwrap()).to_vec();
        let many = ["10.0.0.9"; 40].join(",");
        for (peer, chain, address, who) in [
            ("198.51.100.1", &[][..], "198.51.100.1", "peer"),
            ("198.51.100.1", &["1.1.1.1"], "198.51.100.1", "peer"),
            ("10.0.0.1", &[], "10.0.0.1", "hidden"),
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1", "named"),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1", "named"),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1,10.0.0.2"], "1.1.1.1", "named"),
            ("10.0.0.1", &["6.6.6.6", "1.1.1.1", "10.0.0.2"], "1.1.1.1", "named"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3", "named"),
            ("10.0.0.1", &["1.1.1.1, unknown"], "10.0.0.1", "hidden"),
            ("10.0.0.1", &["1.1.1.1, , 10.0.0.2"], "10.0.0.2", "hidden"),
            ("10.0.0.1", &["1.1.1.1, garbage, 10.0.0.2"], "10.0.0.2", "hidden"),
            ("10.0.0.1", &[""], "10.0.0.1", "hidden"),
            ("10.0.0.1", &["1.2.3.4:567"], "1.2.3.4", "named"),
            ("10.0.0.1", &["[2001:db9::1]:80"], "2001:db9::1", "named"),
            ("10.0.0.1", &["[2001:db9::1]"], "2001:db9::1", "named"),
            ("10.0.0.1", &["2001:db9::1"], "2001:db9::1", "named"),
            ("10.0.0.1", &["::ffff:1.2.3.4"], "1.2.3.4", "named"),
            ("10.0.0.1", &["1.1.1.1, ::ffff:10.0.0.2"], "1.1.1.1", "named"),
            ("::ffff:10.0.0.1", &["1.1.1.1"], "1.1.1.1", "named"),
            ("::ffff:198.51.100.1", &["1.1.1.1"], "198.51.100.1", "peer"),
            ("2001:db8::5", &["1.1.1.1"], "1.1.1.1", "named"),
            ("10.0.0.1", &["01.1.1.1"], "10.0.0.1", "hidden"),
            ("10.0.0.1", &["1.1.1.1", &many], "10.0.0.9", "hidden"),
        ] {
            let headers = map(&chain.iter().map(|line| ("x-forwarded-for", *line)).collect::<Vec<_>>());
            let (trusted_peer, is_hidden) = (who != "peer", who == "hidden");
            let expected = Client { address: address.parse().unwrap(), trusted_peer, is_hidden };
            assert_eq!(client_address(&headers, peer.parse().unwrap(), &trusted), expected, "{peer} {chain:?}");
        }
    }

    proptest! {
        #[test]
        fn any_chain_is_read(chain in "[0-9a-f.:,\\[\\] ]{0,60}") {
            let headers = map(&[("x-forwarded-for", &chain)]);
            let _ = client_address(&headers, IpAddr::from([10, 0, 0, 1]), &["0.0.0.0/0".parse().unwrap()]);
        }
    }
}
