//! What is called without a proxy.

use std::net::IpAddr;

use ipnet::IpNet;

/// What is called without a proxy: `no_proxy`, and always this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NoProxy {
    everything: bool,
    networks: Vec<IpNet>,
    /// In lower case, without a dot at the end; one that begins with a dot is a suffix.
    names: Vec<Box<str>>,
}

impl NoProxy {
    /// Adds `*`, an address, a network, a name, or the end of names after a dot. Returns false if it is none of these.
    pub(crate) fn add(&mut self, text: &str) -> bool {
        if text == "*" {
            self.everything = true;
        } else if let Ok(network) = text.parse::<IpNet>() {
            self.networks.push(network.trunc());
        } else if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            self.networks.push(address.into());
        } else {
            let name = text.strip_suffix('.').unwrap_or(text);
            let labels = name.strip_prefix('.').unwrap_or(name);
            let label = |label: &str| {
                !label.is_empty()
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            };
            if !labels.split('.').all(label) {
                return false;
            }
            self.names.push(name.to_ascii_lowercase().into());
        }
        true
    }

    /// Returns whether a host is called without a proxy. Names are compared as they are, and not looked up.
    pub(crate) fn has(&self, host: &str) -> bool {
        if self.everything {
            return true;
        }
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return address.is_loopback() || self.networks.iter().any(|network| network.contains(&address));
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let fits = |name: &str| if name.starts_with('.') { host.ends_with(name) } else { host == name };
        host == "localhost" || self.names.iter().any(|name| fits(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_networks_are_excepted() {
        let mut some = NoProxy::default();
        for text in ["es.example.com", ".svc", "10.0.0.0/8", "192.0.2.7", "fd00::/8", "[2001:db8::1]"] {
            assert!(some.add(text), "{text}");
        }
        for text in ["", ".", "a..b", "http://a", "a b", "10.0.0.0/33", "*.svc", "a:80"] {
            assert!(!NoProxy::default().add(text), "{text}");
        }
        for (host, direct) in [
            ("es.example.com", true),
            ("ES.Example.com.", true),
            ("a.es.example.com", false),
            ("example.com", false),
            ("otel.monitoring.svc", true),
            ("svc", false),
            ("notsvc", false),
            ("10.1.2.3", true),
            ("11.1.2.3", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12::1", true),
            ("[fd12::1]", true),
            ("[2001:db8::1]", true),
            ("2001:db8::2", false),
            // This machine.
            ("localhost", true),
            ("127.0.0.5", true),
            ("::1", true),
        ] {
            assert_eq!(some.has(host), direct, "{host}");
        }
        let mut all = NoProxy::default();
        assert!(all.add("*") && all.has("example.com") && !NoProxy::default().has("example.com"));
    }
}
