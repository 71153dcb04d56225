//! Networks that requests may come from (`from`).

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How networks are written.
pub(crate) const HOW_TO_WRITE: &str = "write it with its prefix length, such as `10.0.0.0/8` or `fd00::/8`";
/// Leading bits of an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// Networks, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Networks(Box<[IpNet]>);

impl Networks {
    /// `None` if there are none: a list that lets nobody in is a mistake.
    pub(crate) fn new(networks: Vec<IpNet>) -> Option<Self> {
        (!networks.is_empty()).then(|| Self(networks.into()))
    }

    /// Whether an address is in one of them. An IPv4-mapped address is the IPv4 address.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether an address may be in both.
    pub(crate) fn meet(&self, other: &Self) -> bool {
        let meets = |one: &IpNet, other: &IpNet| one.contains(&other.network()) || other.contains(&one.network());
        self.0.iter().any(|one| other.0.iter().any(|other| meets(one, other)))
    }
}

/// Reads a network, or the network of a single address. One of IPv4-mapped addresses is the IPv4 network.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?.trunc();
    match (network.network().to_canonical(), network.prefix_len().checked_sub(MAPPED_BITS)) {
        (IpAddr::V4(address), Some(prefix)) if network.network().is_ipv6() => {
            Ipv4Net::new(address, prefix).ok().map(IpNet::V4)
        }
        _ => Some(network),
    }
}

/// `10.0.0.0/8, fd00::/8`.
impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, network) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{network}")?;
        }
        Ok(())
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let networks = texts.iter().map(|text| network(text)).collect::<Option<_>>();
        networks
            .and_then(Self::new)
            .ok_or_else(|| serde::de::Error::custom(format!("not a list of networks: {HOW_TO_WRITE}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::new(texts.iter().map(|text| network(text).unwrap()).collect()).unwrap()
    }

    #[test]
    fn an_address_is_in_a_network_however_it_is_written() {
        for (written, address, expected) in [
            (&["10.0.0.0/8"][..], "10.1.2.3", true),
            (&["10.0.0.0/8"], "11.1.2.3", false),
            (&["10.0.0.0/8"], "::ffff:10.1.2.3", true),
            (&["10.9.9.9/8"], "10.1.2.3", true),
            (&["::ffff:10.0.0.0/104"], "10.1.2.3", true),
            (&["::ffff:10.0.0.0/104"], "11.1.2.3", false),
            (&["::ffff:192.0.2.1"], "192.0.2.1", true),
            (&["192.0.2.1"], "192.0.2.1", true),
            (&["192.0.2.1"], "192.0.2.2", false),
            (&["2001:db8::/32"], "2001:db8:1::1", true),
            (&["2001:db8::/32"], "10.1.2.3", false),
            (&["::/0"], "10.1.2.3", false),
            (&["::/0"], "::ffff:10.1.2.3", false),
            (&["0.0.0.0/0"], "2001:db8::1", false),
            // An IPv4-compatible address is none of IPv4's.
            (&["10.0.0.0/8"], "::10.1.2.3", false),
            (&["192.0.2.0/24", "2001:db8::/32"], "2001:db8::9", true),
        ] {
            assert_eq!(networks(written).contain(address.parse().unwrap()), expected, "{written:?} {address}");
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "example.com", "10.0.0.0/8 ", "::/129"] {
            assert_eq!(network(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn networks_are_kept_as_text() {
        let kept = networks(&["10.0.0.0/8", "::ffff:192.0.2.0/120"]);
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(
            (&*text, kept.to_string().as_str()),
            (r#"["10.0.0.0/8","192.0.2.0/24"]"#, "10.0.0.0/8, 192.0.2.0/24")
        );
        assert_eq!(serde_json::from_str::<Networks>(&text).unwrap(), kept);
        for wrong in ["[]", r#"["everywhere"]"#, r#""10.0.0.0/8""#, "null"] {
            assert!(serde_json::from_str::<Networks>(wrong).is_err(), "{wrong}");
        }
        assert!(kept.meet(&networks(&["10.1.0.0/16"])) && networks(&["0.0.0.0/0"]).meet(&kept));
        assert!(!kept.meet(&networks(&["11.0.0.0/8"])));
    }
}
