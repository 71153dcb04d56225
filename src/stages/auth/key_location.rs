//! Where key sets are found: at a URL, or by the metadata that an issuer publishes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use serde_json::Value;

use crate::egress::{Egress, Trust};
use crate::stages::strict_json;
use crate::url::{Form, HttpUrl};

/// A key set to fetch, as the policy says. Issuers with equal ones share a set.
#[derive(Clone)]
pub(crate) struct RemoteKeys {
    /// Where it is.
    pub(crate) location: Location,
    /// How long it stays valid after it was last fetched.
    pub(crate) stale_for: Duration,
    /// The authorities to trust when fetching it.
    pub(crate) trust: Trust,
    /// How it is called.
    pub(crate) egress: Arc<Egress>,
}

impl RemoteKeys {
    /// Whether both name the same key set, and trust the same authorities.
    pub(super) fn is_same_set(&self, other: &Self) -> bool {
        (&self.location, &self.trust) == (&other.location, &other.trust)
    }
}

impl PartialEq for RemoteKeys {
    fn eq(&self, other: &Self) -> bool {
        self.is_same_set(other) && (self.stale_for, &self.egress) == (other.stale_for, &other.egress)
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteKeys({})", self.location)
    }
}

/// Where a key set is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// Its URL.
    Jwks(Uri),
    /// The issuer's metadata (OpenID Connect Discovery 1.0 §4, RFC 8414 §3).
    Discover {
        /// The exact `iss`, which the document must have as its `issuer`.
        issuer: Box<str>,
        /// URLs of the document, in the order they are tried.
        documents: [Uri; 2],
    },
}

impl Location {
    /// The metadata of the issuer with this `iss`, which is this URL.
    pub(crate) fn discover(issuer: &str, url: &HttpUrl) -> Option<Self> {
        let (scheme, authority) = (url.uri().scheme_str()?, url.authority());
        let path = url.uri().path().trim_end_matches('/');
        // OpenID Connect appends to the path, RFC 8414 §3.1 inserts before it.
        let openid = format!("{scheme}://{authority}{path}/.well-known/openid-configuration").parse().ok()?;
        let oauth = format!("{scheme}://{authority}/.well-known/oauth-authorization-server{path}").parse().ok()?;
        Some(Self::Discover { issuer: issuer.into(), documents: [openid, oauth] })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jwks(url) => url.fmt(f),
            Self::Discover { issuer, .. } => write!(f, "discovery of {issuer}"),
        }
    }
}

/// The `jwks_uri` of a metadata document, whose `issuer` must be this one (RFC 8414 §3.3).
pub(crate) fn key_set_url(document: &[u8], issuer: &str) -> Result<Uri, String> {
    let document = strict_json::parse(document).map_err(|error| format!("not JSON: {error}"))?;
    match document.get("issuer").and_then(Value::as_str) {
        Some(named) if named == issuer => {}
        Some(named) => return Err(format!("the metadata are of issuer {named:?}, not of {issuer:?}")),
        None => return Err("the metadata have no `issuer`".to_owned()),
    }
    let url = document.get("jwks_uri").and_then(Value::as_str);
    let url = url.ok_or_else(|| "the metadata have no `jwks_uri`".to_owned())?;
    let wrong = |why: &str| format!("the `jwks_uri` of the metadata cannot be used: {why}");
    let url = HttpUrl::parse(url, Form::DOCUMENT).map_err(|error| wrong(error.message))?;
    // An issuer elsewhere has no business on this machine, where http would be safe.
    let encrypted = issuer.starts_with("https:");
    if url.is_https() || (url.is_safe() && !encrypted) {
        Ok(url.uri().clone())
    } else {
        Err(wrong("it is not an https URL"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn where_metadata_are() {
        for (issuer, openid, oauth) in [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example/tenant/",
                "https://a.example/tenant/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server/tenant",
            ),
        ] {
            let documents = [openid.parse().unwrap(), oauth.parse().unwrap()];
            let url = HttpUrl::parse(issuer, Form::IDENTIFIER).unwrap();
            assert_eq!(Location::discover(issuer, &url), Some(Location::Discover { issuer: issuer.into(), documents }));
        }
    }

    #[test]
    fn metadata_are_believed_for_their_own_issuer_alone() {
        let issuer = "https://a.example";
        let judge = |document: Value| key_set_url(document.to_string().as_bytes(), issuer).ok();
        let good = json!({"issuer": issuer, "jwks_uri": "https://keys.example/jwks"});
        assert_eq!(judge(good.clone()), Some("https://keys.example/jwks".parse().unwrap()));
        for (member, value) in [
            ("issuer", json!("https://a.example/")),
            ("issuer", json!("https://b.example")),
            ("issuer", Value::Null),
            ("jwks_uri", json!("http://keys.example/jwks")),
            ("jwks_uri", json!("http://127.0.0.1/jwks")),
            ("jwks_uri", json!("/jwks")),
            ("jwks_uri", json!("https://keys.example:90000/jwks")),
            ("jwks_uri", json!("https://user@keys.example/jwks")),
            ("jwks_uri", json!("https://keys.example/jwks#1")),
            ("jwks_uri", Value::Null),
        ] {
            let mut document = good.clone();
            document[member] = value;
            assert_eq!(judge(document.clone()), None, "{document}");
        }
    }

    #[test]
    fn an_issuer_on_this_machine_may_have_its_keys_here_too() {
        let issuer = "http://127.0.0.1:9000";
        let document = json!({"issuer": issuer, "jwks_uri": "http://127.0.0.1:9000/jwks"});
        assert!(key_set_url(document.to_string().as_bytes(), issuer).is_ok());
    }
}
