//! WebSocket (RFC 6455): a request that asks for it becomes a connection of its own once the upstream agrees.
//!
//! - This file: the handshake, of which both sides must be sure before anything else is sent.
//! - `tunnel` copies bytes both ways until one side closes, the policy or an operator ends it, or nothing is sent for too long.
//! - `frames` follows where frames end, so that the proxy can end the connection with a Close frame of its own.

mod frames;
pub(in crate::proxy) mod tunnel;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use h2::ext::Protocol;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::permission::Credentials;
use super::target::malformed;
use crate::exchange::origin;
use crate::policy::cors::Cors;
use crate::policy::upgrade::WebSocket;
use crate::proxy::headers::ResponseFields;
use crate::proxy::upstream::UpstreamConnection;
use crate::refusal::{Reason, Refusal, Stage};

/// What is hashed with the client's key (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The version of the protocol (RFC 6455 §4.1).
const VERSION: &[u8] = b"13";
/// Bytes that are read and written at once of a WebSocket over HTTP/2. What its client does not take is held in up to two such pieces
/// (one in the tunnel, one in h2), and in what the stream buffers for sending. There may be many of them on a
/// connection, and nothing tells how much of each was sent, so each has to be small.
const MOST_ON_STREAM: usize = 4 * 1024;
/// The protocol, as `Upgrade` names it.
pub(crate) const WEBSOCKET: &str = "websocket";

/// A request that asks for a WebSocket.
pub(super) struct Wanted {
    settings: WebSocket,
    /// What the upstream must answer (RFC 6455 §4.2.2).
    accept: [u8; 28],
    /// The proxy's key for the upstream, if it came over HTTP/2, which has none (RFC 8441 §5.1). There, every good status opens it.
    stream_key: Option<HeaderValue>,
}

/// A connection to an upstream that speaks WebSocket from now on, and what is needed to check again that it may.
pub(crate) struct Upgraded {
    pub(super) settings: WebSocket,
    pub(super) connection: Box<UpstreamConnection>,
    pub(super) credentials: Credentials,
    /// Bytes that are taken at once from either side.
    pub(super) most: usize,
}

/// Returns what a request asks for, on a route with these settings. Whatever asks for no WebSocket, or not in the way that its
/// version of HTTP has, is a request like every other.
pub(super) fn wanted(parts: &Parts, has_body: bool, settings: Option<&WebSocket>) -> Result<Option<Wanted>, Refusal> {
    let is_stream = parts.extensions.get::<Protocol>().is_some();
    if is_stream && settings.is_none() {
        return Err(malformed("this route takes no WebSockets"));
    }
    let Some(settings) = settings else { return Ok(None) };
    if is_stream {
        check_version(&parts.headers)?;
        let key = STANDARD.encode(nonce()?);
        let accept = accept(key.as_bytes());
        return Ok(Some(Wanted { settings: *settings, accept, stream_key: HeaderValue::try_from(key).ok() }));
    }
    let asks = parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && lists(&parts.headers, &CONNECTION, UPGRADE.as_str())
        && lists(&parts.headers, &UPGRADE, WEBSOCKET);
    if !asks {
        return Ok(None);
    }
    if has_body {
        return Err(malformed("a request that asks for a WebSocket has no body"));
    }
    check_version(&parts.headers)?;
    let key = only(&parts.headers, &SEC_WEBSOCKET_KEY)
        .filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16));
    let Some(key) = key else {
        return Err(malformed("send one `Sec-WebSocket-Key`: 16 bytes in Base64"));
    };
    Ok(Some(Wanted { settings: *settings, accept: accept(key), stream_key: None }))
}

fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    match only(headers, &SEC_WEBSOCKET_VERSION) {
        Some(VERSION) => Ok(()),
        _ => Err(malformed("send `Sec-WebSocket-Version: 13`")),
    }
}

/// The bytes of a key (RFC 6455 §4.1).
fn nonce() -> Result<[u8; 16], Refusal> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).map_err(|_| no_nonce())?;
    Ok(nonce)
}

fn no_nonce() -> Refusal {
    let detail = "the WebSocket cannot be opened now; try again later";
    Refusal::new(Stage::Forward, Reason::Overloaded, detail).cause("the system gives no random bytes")
}

/// Refuses a WebSocket that a page of another origin asks for, if `cors` of the API does not list it. Browsers apply no CORS to
/// WebSockets, and send client certificates with them: the page could read what it may not read otherwise (RFC 6455 §10.2). `own` is
/// scheme and authority of the request.
pub(super) fn check_origin(
    cors: Option<&Cors>,
    origin: Option<&HeaderValue>,
    own: (&str, &str),
) -> Result<(), Refusal> {
    let (Some(cors), Some(origin)) = (cors, origin) else { return Ok(()) };
    if cors.allows(origin) || origin.to_str().is_ok_and(|origin| origin::is_own(origin, own)) {
        return Ok(());
    }
    let detail = "pages of this origin may not open WebSockets of this API from a browser";
    Err(Refusal::new(Stage::Request, Reason::CorsRefused, detail))
}

impl Wanted {
    /// Whether this status would open it for the client although the upstream has not switched.
    pub(super) fn is_opened_by(&self, status: StatusCode) -> bool {
        self.stream_key.is_some() && status.is_success()
    }

    /// The field for the upstream that the client has not sent.
    pub(super) fn field(&self) -> Option<(HeaderName, HeaderValue)> {
        self.stream_key.clone().map(|key| (SEC_WEBSOCKET_KEY, key))
    }

    /// Whether an upstream that switched protocols has understood this very request.
    pub(super) fn is_answered_by(&self, fields: &ResponseFields) -> bool {
        let mut accepts = fields.iter().filter(|(name, _)| *name == SEC_WEBSOCKET_ACCEPT);
        matches!((accepts.next(), accepts.next()), (Some((_, accept)), None) if accept.as_bytes() == self.accept)
    }

    /// Goes on with the connection of the response. Of the request, only `credentials` are kept.
    pub(super) fn go_on(self, connection: Box<UpstreamConnection>, credentials: Credentials) -> Box<Upgraded> {
        let most = if self.stream_key.is_some() { MOST_ON_STREAM } else { usize::MAX };
        Box::new(Upgraded { settings: self.settings, connection, credentials, most })
    }
}

/// The answer to a key: the hash is no secret, and shows only that the other side speaks this protocol.
fn accept(key: &[u8]) -> [u8; 28] {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    let mut accept = [0; 28];
    // 20 bytes are 28 characters, so that it always fits.
    let _ = STANDARD.encode_slice(hash.as_ref(), &mut accept);
    accept
}

/// Whether a list of options has this one, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, option: &str) -> bool {
    let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let mut options = values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    options.any(|listed| listed.eq_ignore_ascii_case(option.as_bytes()))
}

/// The value of a field that occurs once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    #[test]
    fn the_answer_to_a_key_is_that_of_the_standard() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), *b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_what_is_plainly_a_handshake_asks_for_a_websocket() {
        const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
        let settings = WebSocket::default();
        let good = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-version", "13")];
        let with = |changes: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in good.iter().chain(&[("sec-websocket-key", KEY)]) {
                if !changes.iter().any(|(other, _)| other == name) {
                    headers.append(*name, HeaderValue::from_static(value));
                }
            }
            for (name, value) in changes.iter().filter(|(_, value)| !value.is_empty()) {
                headers.append(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let asked = |method: Method, version: Version, headers: HeaderMap, has_body: bool| {
            let (mut parts, ()) = http::Request::new(()).into_parts();
            (parts.method, parts.version, parts.headers) = (method, version, headers);
            match wanted(&parts, has_body, Some(&settings)) {
                Ok(Some(_)) => "yes",
                Ok(None) => "no",
                Err(_) => "refused",
            }
        };
        let get = |changes: &[(&'static str, &'static str)]| asked(Method::GET, Version::HTTP_11, with(changes), false);
        assert_eq!(get(&[]), "yes");
        assert_eq!(asked(Method::POST, Version::HTTP_11, with(&[]), false), "no");
        assert_eq!(asked(Method::GET, Version::HTTP_10, with(&[]), false), "no");
        assert_eq!(asked(Method::GET, Version::HTTP_2, with(&[]), false), "no");
        assert_eq!(asked(Method::GET, Version::HTTP_11, with(&[]), true), "refused");
        for (changes, expected) in [
            ([("connection", "keep-alive"), ("upgrade", "websocket")], "no"),
            ([("upgrade", "h2c"), ("x", "")], "no"),
            ([("upgrade", ""), ("x", "")], "no"),
            ([("sec-websocket-version", "8"), ("x", "")], "refused"),
            ([("sec-websocket-version", ""), ("x", "")], "refused"),
            ([("sec-websocket-key", ""), ("x", "")], "refused"),
            ([("sec-websocket-key", "AAAA"), ("x", "")], "refused"),
            ([("sec-websocket-key", KEY), ("sec-websocket-key", KEY)], "refused"),
            ([("sec-websocket-version", "13"), ("sec-websocket-version", "13")], "refused"),
        ] {
            assert_eq!(get(&changes), expected, "{changes:?}");
        }
    }
}
