//! Where a request came from: who is believed about it, and what the upstream is told.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use http::Version;
use http::header::{HeaderMap, HeaderName, HeaderValue, VIA};
use ipnet::IpNet;

use crate::refusal::X_REQUEST_ID;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Most elements of X-Forwarded-For that are looked at; no real chain of trusted proxies is this long.
const HOPS_LIMIT: usize = 32;

/// Longest element that can be an address with a port.
const ELEMENT_LIMIT: usize = 64;

/// Who asks, as far as it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// The peer, or whom the trusted proxies name; never an IPv4-mapped IPv6 address.
    pub(crate) address: IpAddr,
    /// Whether the peer is one of the trusted proxies.
    pub(crate) trusted_peer: bool,
}

/// What the upstream is told about the way of a request.
#[derive(Debug)]
pub(crate) struct ForwardedFacts {
    /// Address of the TCP peer, canonical.
    pub(crate) peer: IpAddr,
    /// `http` or `https`: how the request came to us.
    pub(crate) scheme: &'static str,
    /// The host it was for, with its port, as it came; absent when HTTP/1.0 named none.
    pub(crate) host: Option<HeaderValue>,
    /// How it came to us, for Via.
    pub(crate) version: Version,
    /// Id of the request.
    pub(crate) request_id: HeaderValue,
}

/// Finds who asks: walks X-Forwarded-For from its end as long as the hop that wrote an element is trusted. What is not
/// an address ends the walk at the last hop that was believed. Ports are tolerated.
pub(crate) fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> Client {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut address = peer.to_canonical();
    let trusted_peer = is_trusted(&address);
    if trusted_peer {
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let elements = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
        for hop in elements.take(HOPS_LIMIT).map_while(parse_element) {
            address = hop;
            if !is_trusted(&address) {
                break;
            }
        }
    }
    Client { address, trusted_peer }
}

/// Sets what the upstream always gets. To be called after `strip_request`: forwarded fields that are still there came
/// from a trusted peer. X-Forwarded-For is continued, and -Proto and -Host, which tell of the first hop, are kept.
pub(crate) fn set_forwarded(headers: &mut HeaderMap, facts: &ForwardedFacts) {
    let chain = appended(headers, facts.peer);
    headers.insert(X_FORWARDED_FOR, chain);
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(facts.scheme));
    if let Some(host) = &facts.host {
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
    }
    // Another line of the same list (RFC 9110 §5.3), so nothing is copied.
    headers.append(VIA, via(facts.version));
    headers.insert(X_REQUEST_ID, facts.request_id.clone());
}

/// The chain so far, on one line because many upstreams read only one, and the peer at its end.
fn appended(headers: &HeaderMap, peer: IpAddr) -> HeaderValue {
    let mut chain = BytesMut::new();
    for line in headers.get_all(X_FORWARDED_FOR) {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    // Neither fails: the buffer grows, and values joined by commas are a value.
    let _ = write!(chain, "{peer}");
    HeaderValue::from_maybe_shared(chain.freeze()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Our element of Via: the protocol in which the request came, and a pseudonym (RFC 9110 §7.6.3).
fn via(version: Version) -> HeaderValue {
    match version {
        Version::HTTP_10 => HeaderValue::from_static("1.0 bartizan"),
        Version::HTTP_2 => HeaderValue::from_static("2 bartizan"),
        _ => HeaderValue::from_static("1.1 bartizan"),
    }
}

/// An address, perhaps with a port: `192.0.2.1`, `192.0.2.1:567`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
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

    use super::super::tests::{lines, map};
    use super::*;

    #[test]
    fn who_is_believed() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "2001:db8::/32"].map(|net| net.parse().unwrap()).to_vec();
        let many = ["10.0.0.9"; 40].join(",");
        for (peer, chain, address, trusted_peer) in [
            ("198.51.100.1", &[][..], "198.51.100.1", false),
            ("198.51.100.1", &["1.1.1.1"], "198.51.100.1", false),
            ("10.0.0.1", &[], "10.0.0.1", true),
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1", true),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1", true),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1,10.0.0.2"], "1.1.1.1", true),
            ("10.0.0.1", &["6.6.6.6", "1.1.1.1", "10.0.0.2"], "1.1.1.1", true),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3", true),
            ("10.0.0.1", &["1.1.1.1, unknown"], "10.0.0.1", true),
            ("10.0.0.1", &["1.1.1.1, , 10.0.0.2"], "10.0.0.2", true),
            ("10.0.0.1", &["1.1.1.1, garbage, 10.0.0.2"], "10.0.0.2", true),
            ("10.0.0.1", &[""], "10.0.0.1", true),
            ("10.0.0.1", &["1.2.3.4:567"], "1.2.3.4", true),
            ("10.0.0.1", &["[2001:db9::1]:80"], "2001:db9::1", true),
            ("10.0.0.1", &["[2001:db9::1]"], "2001:db9::1", true),
            ("10.0.0.1", &["2001:db9::1"], "2001:db9::1", true),
            ("10.0.0.1", &["::ffff:1.2.3.4"], "1.2.3.4", true),
            ("10.0.0.1", &["1.1.1.1, ::ffff:10.0.0.2"], "1.1.1.1", true),
            ("::ffff:10.0.0.1", &["1.1.1.1"], "1.1.1.1", true),
            ("::ffff:198.51.100.1", &["1.1.1.1"], "198.51.100.1", false),
            ("2001:db8::5", &["1.1.1.1"], "1.1.1.1", true),
            ("10.0.0.1", &["01.1.1.1"], "10.0.0.1", true),
            ("10.0.0.1", &["1.1.1.1", &many], "10.0.0.9", true),
        ] {
            let headers = map(&chain.iter().map(|line| ("x-forwarded-for", *line)).collect::<Vec<_>>());
            let expected = Client { address: address.parse().unwrap(), trusted_peer };
            assert_eq!(client_address(&headers, peer.parse().unwrap(), &trusted), expected, "{peer} {chain:?}");
        }
    }

    fn told(fields: &[(&str, &str)], peer: &str, host: Option<&'static str>, version: Version) -> Vec<String> {
        let mut headers = map(fields);
        let facts = ForwardedFacts {
            peer: peer.parse().unwrap(),
            scheme: "http",
            host: host.map(HeaderValue::from_static),
            version,
            request_id: HeaderValue::from_static("id"),
        };
        set_forwarded(&mut headers, &facts);
        lines(&headers)
    }

    #[test]
    fn what_the_upstream_is_told() {
        assert_eq!(
            told(&[], "10.0.0.1", Some("a.example:81"), Version::HTTP_11),
            [
                "via: 1.1 bartizan",
                "x-forwarded-for: 10.0.0.1",
                "x-forwarded-host: a.example:81",
                "x-forwarded-proto: http",
                "x-request-id: id",
            ]
        );
        assert_eq!(
            told(&[], "2001:db8::1", None, Version::HTTP_10),
            ["via: 1.0 bartizan", "x-forwarded-for: 2001:db8::1", "x-forwarded-proto: http", "x-request-id: id",]
        );
        let fields = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "10.0.0.2, 10.0.0.3"),
            ("x-forwarded-host", "first.example"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "theirs"),
            ("via", "1.1 edge"),
        ];
        assert_eq!(
            told(&fields, "10.0.0.1", Some("a"), Version::HTTP_2),
            [
                "via: 1.1 edge",
                "via: 2 bartizan",
                "x-forwarded-for: 1.1.1.1, 10.0.0.2, 10.0.0.3, 10.0.0.1",
                "x-forwarded-host: first.example",
                "x-forwarded-proto: https",
                "x-request-id: id",
            ]
        );
    }

    proptest! {
        #[test]
        fn any_chain_is_walked(chain in "[0-9a-f.:,\\[\\] ]{0,60}") {
            let headers = map(&[("x-forwarded-for", &chain)]);
            let _ = client_address(&headers, IpAddr::from([10, 0, 0, 1]), &["0.0.0.0/0".parse().unwrap()]);
        }
    }
}
