//! The host of a request, and refusals that depend on header fields alone (RFC 9112 §3.2, RFC 9113 §8.3.1).
//!
//! `proxy::http1::reader` checks HTTP/1.x framing on the raw bytes. What the header map shows of it is checked here
//! again, so that HTTP/2 and HTTP/1.x have the same rules.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Uri, Version};

use super::hop_by_hop::connection_options;
use super::rules::is_protected;
use crate::all_bytes::all_bytes;
use crate::policy::header_rules::HeaderRules;
use crate::policy::request_fields::{is_ambiguous, is_ours, is_override, is_said_by_proxies};

/// Maximum length of a host name with its trailing dot (RFC 1035 §2.3.4).
const HOST_LIMIT: usize = 254;

/// Why a request is refused with 400 for its header fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Neither Host nor an authority in the target.
    HostMissing,
    /// More than one Host.
    HostRepeated,
    /// Not a host with an optional port.
    HostInvalid,
    /// Host differs from `:authority`.
    HostMismatch,
    /// An underscore or a dot in a field name: many upstreams read them as a hyphen.
    AmbiguousName,
    /// A field that tells the upstream to take another method or target.
    Override,
    /// Neither http nor https.
    Scheme,
    /// More than one Content-Length.
    LengthRepeated,
    /// Content-Length beside Transfer-Encoding.
    LengthAndEncoding,
    /// `Connection` names an end-to-end field (RFC 9110 §7.6.1).
    ConnectionOption,
}

impl HeaderError {
    /// Returns what the client has to change.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::HostMissing => "Send a Host header field.",
            Self::HostRepeated => "Send exactly one Host header field.",
            Self::HostInvalid => "Send a host name or address with an optional port as the host.",
            Self::HostMismatch => "Send the same host in Host and in :authority.",
            Self::AmbiguousName => "Use hyphens, not underscores or dots, in header field names.",
            Self::Override => "Send the method and the path of the request itself, not others in header fields.",
            Self::Scheme => "Use the scheme http or https.",
            Self::LengthRepeated => "Send Content-Length only once.",
            Self::LengthAndEncoding => "Send either Content-Length or Transfer-Encoding, not both.",
            Self::ConnectionOption => "Name only hop-by-hop header fields in Connection.",
        }
    }
}

/// The host of a request; only [`check`] creates one.
#[derive(Debug)]
pub(crate) struct Host<'a> {
    name: Cow<'a, str>,
    received: Option<Received<'a>>,
}

#[derive(Debug)]
enum Received<'a> {
    Field(&'a HeaderValue),
    Target(&'a str),
}

impl<'a> Host<'a> {
    /// Returns the host in lower case, without port and trailing dot; an IPv6 address in brackets and in its canonical
    /// form. Empty for an HTTP/1.0 request that names none. Borrows if it was received in this form.
    pub(crate) fn name(&self) -> Cow<'a, str> {
        self.name.clone()
    }

    /// Returns host and port as received; none for an HTTP/1.0 request that names none.
    pub(crate) fn to_header(&self) -> Option<HeaderValue> {
        match self.received.as_ref()? {
            Received::Field(value) => Some((*value).clone()),
            Received::Target(authority) => HeaderValue::from_str(authority).ok(),
        }
    }
}

/// Whether a name with underscores cannot be taken for another one, which upstreams may read instead.
fn is_the_only_spelling(name: &HeaderName, headers: &HeaderMap) -> bool {
    let hyphens = name.as_str().replace(['_', '.'], "-");
    let is_another = is_ours(&hyphens) || is_said_by_proxies(&hyphens, false) || is_protected(&hyphens);
    !is_another && !is_override(&hyphens, true) && !headers.contains_key(&*hyphens)
}

/// Determines the host of a request, and refuses requests that are ambiguous by their header fields alone.
///
/// The target's authority (absolute-form, `:authority`) takes precedence over Host, which must be valid all the same.
///
/// # Errors
/// [`HeaderError`]: no host, several, an invalid or a contradicting one; a field name that servers read in two ways; a
/// field that overrides method or target; contradicting lengths; a `Connection` that names an end-to-end field, or one
/// that the policy has; a scheme that is not HTTP's.
///
/// Names with an underscore that the policy itself has are accepted, unless the request has the name with hyphens as well.
pub(crate) fn check<'a>(
    headers: &'a HeaderMap,
    version: Version,
    uri: &'a Uri,
    trusted_peer: bool,
    rules: &HeaderRules,
) -> Result<Host<'a>, HeaderError> {
    if uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(HeaderError::Scheme);
    }
    let host = check_fields(headers, trusted_peer, rules)?;
    let host = match host {
        Some(value) => {
            Some((Authority::parse(value.to_str().map_err(|_| HeaderError::HostInvalid)?)?, Received::Field(value)))
        }
        None => None,
    };
    let target = match uri.authority().map(|authority| authority.as_str()) {
        Some(text) => Some((Authority::parse(text)?, Received::Target(text))),
        None => None,
    };
    let chosen = match (host, target) {
        (Some((host, _)), Some((target, _))) if version > Version::HTTP_11 && host != target => {
            return Err(HeaderError::HostMismatch);
        }
        // Only HTTP/1.1 requires Host even if the target contains the authority.
        (None, Some(_)) if version == Version::HTTP_11 => return Err(HeaderError::HostMissing),
        (_, Some(target)) => target,
        (Some(host), None) => host,
        (None, None) if version < Version::HTTP_11 => return Ok(Host { name: Cow::Borrowed(""), received: None }),
        (None, None) => return Err(HeaderError::HostMissing),
    };
    Ok(Host { name: chosen.0.host, received: Some(chosen.1) })
}

/// Checks the names of the fields, and those that frame the message. Returns the value of Host.
fn check_fields<'a>(
    headers: &'a HeaderMap,
    trusted_peer: bool,
    rules: &HeaderRules,
) -> Result<Option<&'a HeaderValue>, HeaderError> {
    let mut host = None;
    let (mut lengths, mut coded, mut connection) = (0, false, false);
    for (name, value) in headers {
        if name == HOST {
            if host.replace(value).is_some() {
                return Err(HeaderError::HostRepeated);
            }
        } else if name == CONTENT_LENGTH {
            lengths += 1;
        } else if name == TRANSFER_ENCODING {
            coded = true;
        } else if name == CONNECTION {
            connection = true;
        } else if is_ambiguous(name.as_str()) && !(rules.names(name.as_str()) && is_the_only_spelling(name, headers)) {
            return Err(HeaderError::AmbiguousName);
        } else if is_override(name.as_str(), !trusted_peer) && !rules.names(name.as_str()) {
            return Err(HeaderError::Override);
        }
    }
    if lengths > 1 {
        return Err(HeaderError::LengthRepeated);
    }
    if lengths > 0 && coded {
        return Err(HeaderError::LengthAndEncoding);
    }
    let protected = |option: &[u8]| {
        HeaderName::from_bytes(option).is_ok_and(|name| is_protected(name.as_str()) || rules.names(name.as_str()))
    };
    if connection && connection_options(headers).any(protected) {
        return Err(HeaderError::ConnectionOption);
    }
    Ok(host)
}

/// `host [":" port]` in normal form (RFC 3986 §3.2.2, without userinfo).
#[derive(Debug, PartialEq)]
struct Authority<'a> {
    host: Cow<'a, str>,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    fn parse(text: &'a str) -> Result<Self, HeaderError> {
        let (host, port) = if text.starts_with('[') {
            let end = text.find(']').ok_or(HeaderError::HostInvalid)? + 1;
            text.split_at_checked(end).ok_or(HeaderError::HostInvalid)?
        } else {
            let end = text.bytes().position(|byte| byte == b':').unwrap_or(text.len());
            text.split_at_checked(end).ok_or(HeaderError::HostInvalid)?
        };
        Ok(Self { host: normal_host(host).ok_or(HeaderError::HostInvalid)?, port: parse_port(port)? })
    }
}

/// Parses the port of `:8080`. An empty text and `:` have none (RFC 3986 §3.2.3).
fn parse_port(text: &str) -> Result<Option<u16>, HeaderError> {
    match text.strip_prefix(':') {
        None if text.is_empty() => Ok(None),
        Some("") => Ok(None),
        // Digits alone: `parse` would accept a sign.
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map(Some).map_err(|_| HeaderError::HostInvalid)
        }
        _ => Err(HeaderError::HostInvalid),
    }
}

/// Returns the host in normal form. Percent-encoding and sub-delimiters, which RFC 3986 allows in a registered name,
/// are refused: no DNS name has them, and parsers disagree on the host they denote.
fn normal_host(host: &str) -> Option<Cow<'_, str>> {
    if let Some(address) = host.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        let normal = format!("[{address}]");
        return Some(if normal == host { Cow::Borrowed(host) } else { Cow::Owned(normal) });
    }
    if host.len() > HOST_LIMIT {
        return None;
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_mark = |byte: u8| (byte == b'-') | (byte == b'.') | (byte == b'_') | (byte == b'~');
    let is_normal = |byte: u8| byte.is_ascii_lowercase() | byte.is_ascii_digit() | is_mark(byte);
    let has_empty_label =
        name.starts_with('.') || name.ends_with('.') || name.as_bytes().windows(2).any(|two| two == b"..");
    if name.is_empty() || has_empty_label {
        return None;
    }
    match name.as_bytes() {
        bytes if all_bytes(bytes, is_normal) => Some(Cow::Borrowed(name)),
        bytes if all_bytes(bytes, |byte| is_normal(byte) | byte.is_ascii_uppercase()) => {
            Some(Cow::Owned(name.to_ascii_lowercase()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::{Uri, Version};
    use proptest::prelude::*;

    use super::super::tests::map;
    use super::*;

    /// Of an untrusted peer, by a policy that has `x_named` and `x-tenant`.
    fn checked<'a>(headers: &'a HeaderMap, version: Version, uri: &'a Uri) -> Result<Host<'a>, HeaderError> {
        let named = ["x_named", "x-tenant", "x-http-method-override"].map(Box::from);
        check(headers, version, uri, false, &HeaderRules::new(&[], named.into()))
    }

    const V0: Version = Version::HTTP_10;
    const V1: Version = Version::HTTP_11;
    const V2: Version = Version::HTTP_2;

    #[test]
    fn the_host_of_a_request() {
        use HeaderError::{HostInvalid, HostMismatch, HostMissing, HostRepeated};
        for (version, target, hosts, expected) in [
            (V1, "/", &["example.com"][..], Ok("example.com")),
            (V1, "/", &["Example.COM:8443"], Ok("example.com")),
            (V1, "/", &["example.com."], Ok("example.com")),
            (V1, "/", &["example.com.:80"], Ok("example.com")),
            (V1, "/", &["example.com:"], Ok("example.com")),
            (V1, "/", &["localhost"], Ok("localhost")),
            (V1, "/", &["a_b.example"], Ok("a_b.example")),
            (V1, "/", &["10.0.0.1:80"], Ok("10.0.0.1")),
            (V1, "/", &["[::1]:80"], Ok("[::1]")),
            (V1, "/", &["[2001:DB8:0::1]"], Ok("[2001:db8::1]")),
            (V1, "/", &["h:0"], Ok("h")),
            (V1, "/", &["h:65535"], Ok("h")),
            (V1, "/", &[], Err(HostMissing)),
            (V1, "/", &["a", "a"], Err(HostRepeated)),
            (V1, "/", &[""], Err(HostInvalid)),
            (V1, "/", &[":80"], Err(HostInvalid)),
            (V1, "/", &["."], Err(HostInvalid)),
            (V1, "/", &["a..b"], Err(HostInvalid)),
            (V1, "/", &[".a"], Err(HostInvalid)),
            (V1, "/", &["a.."], Err(HostInvalid)),
            (V1, "/", &["h:65536"], Err(HostInvalid)),
            (V1, "/", &["h:+80"], Err(HostInvalid)),
            (V1, "/", &["h:80x"], Err(HostInvalid)),
            (V1, "/", &["h:000080"], Err(HostInvalid)),
            (V1, "/", &["h:80:80"], Err(HostInvalid)),
            (V1, "/", &["user@h"], Err(HostInvalid)),
            (V1, "/", &["h/path"], Err(HostInvalid)),
            (V1, "/", &["h?q"], Err(HostInvalid)),
            (V1, "/", &["h#f"], Err(HostInvalid)),
            (V1, "/", &["a,b"], Err(HostInvalid)),
            (V1, "/", &["a b"], Err(HostInvalid)),
            (V1, "/", &["a%2eb"], Err(HostInvalid)),
            (V1, "/", &["::1"], Err(HostInvalid)),
            (V1, "/", &["[::1"], Err(HostInvalid)),
            (V1, "/", &["[::1]x"], Err(HostInvalid)),
            (V1, "/", &["[fe80::1%25eth0]"], Err(HostInvalid)),
            (V1, "/", &["[v1.x]"], Err(HostInvalid)),
            (V1, "/", &["[]"], Err(HostInvalid)),
            (V1, "http://Target:80/", &["other"], Ok("target")),
            (V1, "http://target/", &[], Err(HostMissing)),
            (V1, "http://target/", &["bad host"], Err(HostInvalid)),
            (V1, "http://user@target/", &["target"], Err(HostInvalid)),
            (V0, "/", &[], Ok("")),
            (V0, "/", &["a"], Ok("a")),
            (V0, "/", &["a b"], Err(HostInvalid)),
            (V0, "http://target/", &[], Ok("target")),
            (V2, "https://a.example/", &[], Ok("a.example")),
            (V2, "https://A.example/", &["a.EXAMPLE."], Ok("a.example")),
            (V2, "https://a.example:8443/", &["a.example:8443"], Ok("a.example")),
            (V2, "https://a.example:8443/", &["a.example"], Err(HostMismatch)),
            (V2, "https://a.example/", &["b.example"], Err(HostMismatch)),
            (V2, "/", &["a.example"], Ok("a.example")),
            (V2, "/", &[], Err(HostMissing)),
            (V2, "https://a.example/", &["a.example", "a.example"], Err(HostRepeated)),
        ] {
            let headers = map(&hosts.iter().map(|host| ("host", *host)).collect::<Vec<_>>());
            let uri: Uri = target.parse().unwrap();
            let got = checked(&headers, version, &uri).map(|host| host.name());
            assert_eq!(got.as_deref(), expected.as_ref().copied(), "{version:?} {target} {hosts:?}");
        }
        let long = "a".repeat(255);
        assert_eq!(checked(&map(&[("host", &long)]), V1, &Uri::from_static("/")).err(), Some(HostInvalid));
        let headers = map(&[("host", "plain.example")]);
        let root = Uri::from_static("/");
        assert!(matches!(checked(&headers, V1, &root).map(|host| host.name()), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn the_host_as_received() {
        for (version, target, hosts, expected) in [
            (V1, "/", &["A.example.:81"][..], Some("A.example.:81")),
            (V1, "http://Target:80/", &["other"], Some("Target:80")),
            (V2, "https://a.example:8443/", &["a.example:8443"], Some("a.example:8443")),
            (V2, "https://a.example/", &[], Some("a.example")),
            (V0, "/", &[], None),
        ] {
            let headers = map(&hosts.iter().map(|host| ("host", *host)).collect::<Vec<_>>());
            let uri: Uri = target.parse().unwrap();
            let header = checked(&headers, version, &uri).unwrap().to_header();
            assert_eq!(header.as_ref().map(|value| value.to_str().unwrap()), expected, "{version:?} {target}");
        }
    }

    #[test]
    fn other_refusals() {
        for (fields, expected) in [
            (&[("x_consumer_id", "1")][..], HeaderError::AmbiguousName),
            (&[("content_length", "1")], HeaderError::AmbiguousName),
            (&[("content-length", "1"), ("content-length", "1")], HeaderError::LengthRepeated),
            (&[("content-length", "1"), ("transfer-encoding", "chunked")], HeaderError::LengthAndEncoding),
            (&[("connection", "close, Host")], HeaderError::ConnectionOption),
            (&[("connection", "x"), ("connection", "Content-Length")], HeaderError::ConnectionOption),
            (&[("connection", "Authorization")], HeaderError::ConnectionOption),
            (&[("connection", "X-Forwarded-For")], HeaderError::ConnectionOption),
            // S17: a name that the policy has, such as that of a parameter.
            (&[("connection", "close, X-Tenant")], HeaderError::ConnectionOption),
            // S4: spellings that servers read as another name, and fields that override what was authorized.
            (&[("x.consumer.id", "1")], HeaderError::AmbiguousName),
            (&[("x_http_method_override", "1")], HeaderError::AmbiguousName),
            (&[("x-http-method", "DELETE")], HeaderError::Override),
            (&[("x-method-override", "DELETE")], HeaderError::Override),
            (&[("x-original-url", "/admin")], HeaderError::Override),
            (&[("x-rewrite-url", "/admin")], HeaderError::Override),
            (&[("x-override-url", "/admin")], HeaderError::Override),
            (&[("x-http-host-override", "b")], HeaderError::Override),
        ] {
            let mut headers = map(fields);
            headers.insert(HOST, "a".parse().unwrap());
            assert_eq!(checked(&headers, V1, &Uri::from_static("/")).err(), Some(expected), "{fields:?}");
            assert!(!expected.detail().is_empty());
        }
        for fields in [
            &[("connection", "keep-alive, TE, Upgrade, HTTP2-Settings, x-mine, X-Consumer-Id")][..],
            &[("content-length", "1"), ("transfer-encodings", "x")],
            &[("transfer-encoding", "chunked")],
            &[("x_named", "1"), ("x-http-method-override", "DELETE"), ("x-original-forwarded-for", "1.1.1.1")],
        ] {
            let mut headers = map(fields);
            headers.insert(HOST, "a".parse().unwrap());
            assert_eq!(
                checked(&headers, V1, &Uri::from_static("/")).map(|host| host.name()).as_deref(),
                Ok("a"),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn a_trusted_peer_may_name_the_target_it_received_but_no_method() {
        let (uri, rules) = (Uri::from_static("/"), HeaderRules::default());
        for (name, trusted, error) in [
            ("x-original-url", true, None),
            ("x-original-url", false, Some(HeaderError::Override)),
            ("x-http-method-override", true, Some(HeaderError::Override)),
        ] {
            let headers = map(&[("host", "a"), (name, "1")]);
            assert_eq!(check(&headers, V1, &uri, trusted, &rules).err(), error, "{name} {trusted}");
        }
    }

    #[test]
    fn only_the_schemes_of_http_are_accepted() {
        let headers = map(&[("host", "a.example")]);
        for (uri, error) in [
            ("ftp://a.example/", Some(HeaderError::Scheme)),
            ("ws://a.example/", Some(HeaderError::Scheme)),
            ("http://a.example/", None),
            ("HTTPS://a.example/", None),
        ] {
            for version in [V1, V2] {
                assert_eq!(checked(&headers, version, &uri.parse().unwrap()).err(), error, "{uri} {version:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_host_is_parsed_and_its_normal_form_is_stable(text in "[a-bA-B0-9.:\\[\\]_~@%é-]{0,24}") {
            if let Ok(authority) = Authority::parse(&text) {
                let again = Authority::parse(&authority.host);
                prop_assert!(again.is_ok_and(|again| again.host == authority.host && again.port.is_none()));
            }
        }
    }
}
