//! A name in a client certificate, with its kind: an entry of its subjectAltName.
//!
//! The kind is part of the identity. An authority that may only vouch for some DNS names is not held back from writing
//! any text into a URI or an email address: name constraints apply to each kind by itself (RFC 5280 §4.2.1.10).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How each kind is written in policies, stores and the admin API.
const HOW_TO_WRITE: &str = "write `dns:NAME` (or the name alone), `uri:URI` or `email:ADDRESS`";
/// Longest DNS name and longest label, in bytes (RFC 1035 §2.3.4).
const NAME_LIMIT: usize = 253;
const LABEL_LIMIT: usize = 63;
/// Longest URI or email address, in bytes.
const TEXT_LIMIT: usize = 2048;

/// A name in a client certificate, in the form that is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum CertificateName {
    /// A DNS name in lower case, without a trailing dot. Its first label may be `*`.
    Dns(Box<str>),
    /// A URI; scheme and host are in lower case.
    Uri(Box<str>),
    /// An email address; its domain is in lower case.
    Email(Box<str>),
}

impl CertificateName {
    /// A DNS name of ASCII labels (RFC 9525 §6.3); `None` if it is not one.
    pub(crate) fn dns(text: &str) -> Option<Self> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let rest = name.strip_prefix("*.").unwrap_or(name);
        // A wildcard is the whole first label and nothing else.
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = |label: &str| (1..=LABEL_LIMIT).contains(&label.len()) && label.bytes().all(byte);
        (name.len() <= NAME_LIMIT && rest.split('.').all(label)).then(|| Self::Dns(name.to_ascii_lowercase().into()))
    }

    /// A URI; `None` if it has no scheme. Scheme and host are case-insensitive, the rest is not (RFC 5280 §7.4).
    pub(crate) fn uri(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        let named = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        if !named || rest.is_empty() || !is_plain(text) {
            return None;
        }
        let mut uri = format!("{}:", scheme.to_ascii_lowercase());
        match rest.strip_prefix("//") {
            None => uri.push_str(rest),
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                let (user, host) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
                uri.extend(["//", user, &host.to_ascii_lowercase(), path]);
            }
        }
        Some(Self::Uri(uri.into()))
    }

    /// An email address; `None` if it is not one. Its domain is case-insensitive, the rest is not (RFC 5280 §7.5).
    pub(crate) fn email(text: &str) -> Option<Self> {
        let (local, domain) = text.rsplit_once('@')?;
        let good = !local.is_empty() && !domain.is_empty() && is_plain(text);
        good.then(|| Self::Email(format!("{local}@{}", domain.to_ascii_lowercase()).into()))
    }

    /// The wildcard that covers this DNS name: a wildcard stands for exactly one label (RFC 9525 §6.3).
    pub(crate) fn wildcard(&self) -> Option<Self> {
        match self {
            Self::Dns(name) => name.split_once('.').map(|(_, parent)| Self::Dns(format!("*.{parent}").into())),
            _ => None,
        }
    }

    /// The parent of the DNS names that this wildcard covers; `None` if it is not a wildcard.
    pub(crate) fn covered_parent(&self) -> Option<&str> {
        match self {
            Self::Dns(name) => name.strip_prefix("*."),
            _ => None,
        }
    }

    /// The parent of this DNS name; `None` for a wildcard and for the other kinds.
    pub(crate) fn parent(&self) -> Option<&str> {
        match self {
            Self::Dns(name) => name.split_once('.').filter(|(first, _)| *first != "*").map(|(_, parent)| parent),
            _ => None,
        }
    }
}

/// Printable ASCII without blanks, and not too long to keep.
fn is_plain(text: &str) -> bool {
    text.len() <= TEXT_LIMIT && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// As written: `dns:NAME`, `uri:URI`, `email:ADDRESS`; without a kind, a DNS name. The error says how to write it.
impl FromStr for CertificateName {
    type Err = &'static str;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        let name = match written.split_once(':') {
            Some(("dns", name)) => Self::dns(name),
            Some(("uri", uri)) => Self::uri(uri),
            Some(("email", address)) => Self::email(address),
            Some(_) => None,
            None => Self::dns(written),
        };
        name.ok_or(HOW_TO_WRITE)
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Uri(uri) => write!(f, "uri:{uri}"),
            Self::Email(address) => write!(f, "email:{address}"),
        }
    }
}

impl Serialize for CertificateName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CertificateName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S3: a name has a kind, and two names of different kinds are never the same.
    #[test]
    fn names_have_a_kind_and_one_spelling() {
        for (written, expected) in [
            ("dns:Acme.Example", "dns:acme.example"),
            ("Acme.Example.", "dns:acme.example"),
            ("dns:*.Acme.example", "dns:*.acme.example"),
            ("a_b-1.example", "dns:a_b-1.example"),
            ("uri:SPIFFE://Acme.Example/Batch?X", "uri:spiffe://acme.example/Batch?X"),
            ("uri:https://User@Acme.Example", "uri:https://User@acme.example"),
            ("uri:URN:Acme:Batch", "uri:urn:Acme:Batch"),
            ("email:Ops@Acme.Example", "email:Ops@acme.example"),
        ] {
            let name = written.parse::<CertificateName>();
            assert_eq!(name.as_ref().map(ToString::to_string).as_deref(), Ok(expected), "{written}");
            assert_eq!(expected.parse(), name, "{expected}");
        }
        for written in [
            "",
            "dns:",
            "dns:.",
            "dns:a..b",
            "dns:*",
            "dns:a.*.b",
            "dns:a*.b",
            "dns:*a.b",
            "dns:b\u{fc}cher.example",
            "dns:a b",
            "dns:a\0.b",
            "dns:spiffe://acme/batch",
            "spiffe://acme/batch",
            "ops@acme.example",
            "uri:acme.example",
            "uri:1a:b",
            "uri:a:",
            "email:acme.example",
            "email:@acme.example",
            "email:a b@acme.example",
            "DNS:acme.example",
        ] {
            assert_eq!(written.parse::<CertificateName>(), Err(HOW_TO_WRITE), "{written}");
        }
        assert!(CertificateName::dns(&format!("{}.example", "a".repeat(64))).is_none());
        assert_ne!(CertificateName::Uri("acme.example".into()), CertificateName::Dns("acme.example".into()));
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let name = |text| CertificateName::dns(text).unwrap();
        assert_eq!(name("a.acme.example").wildcard(), Some(name("*.acme.example")));
        assert_eq!(name("*.acme.example").covered_parent(), Some("acme.example"));
        assert_eq!((name("a.acme.example").parent(), name("*.acme.example").parent()), (Some("acme.example"), None));
        assert_eq!((name("localhost").wildcard(), name("localhost").parent()), (None, None));
    }
}
