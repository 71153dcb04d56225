//! Parses the head of an upstream's response, and drops the fields that are not forwarded to the client.

use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, StatusCode};
use hyper::ext::ReasonPhrase;

use super::error::ResponseError;
use crate::proxy::headers::{self, ResponseFields};
use crate::proxy::http1::body_decoder::Framing;
use crate::proxy::http1::fields::{Line, split_field, strict_line};
use crate::proxy::http1::framing_error::FramingErrorKind;

/// Maximum size of a response's head, in bytes.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Maximum number of a response's header fields, and of its trailers: the most that `limits.headers` may be for requests.
pub(crate) const MAX_HEADERS: usize = 1000;
/// How many fields a list has room for from the start, with those that the proxy adds.
const USUAL_FIELDS: usize = 12;
/// Maximum number of interim responses to one request.
const MAX_INTERIMS: u8 = 16;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// How every head begins.
const START: &[u8] = b"HTTP/1.";
const MALFORMED: ResponseError = ResponseError::Invalid("its head is malformed");
const INVALID_STATUS: ResponseError = ResponseError::Invalid("its status code is invalid");
const TOO_LARGE: ResponseError = ResponseError::Invalid("its head is too large or has too many fields");

/// The head of a response.
#[derive(Debug)]
pub(crate) struct Head {
    /// The final status, never informational (RFC 9110 §15.2).
    pub(crate) status: StatusCode,
    /// The reason phrase, unless it is the standard one.
    pub(crate) reason: Option<ReasonPhrase>,
    /// The header fields that are forwarded to the client.
    pub(crate) fields: ResponseFields,
    /// How the body is delimited, in HTTP/1.1.
    pub(crate) framing: Framing,
    /// Whether the connection may be reused after this response.
    pub(super) keep_alive: bool,
    /// How long the peer keeps the connection without a request, if it says so.
    pub(super) keep_alive_timeout: Option<Duration>,
}

impl Head {
    /// The head of a response in HTTP/2, where frames delimit the body, and the connection goes on. `fields` are all that it has.
    pub(super) fn of_http2(status: StatusCode, fields: HeaderMap) -> Result<Self, ResponseError> {
        if fields.len() > MAX_HEADERS {
            return Err(TOO_LARGE);
        }
        if !(200..600).contains(&status.as_u16()) {
            return Err(INVALID_STATUS);
        }
        if fields.get_all(CONTENT_LENGTH).iter().count() > 1 {
            return Err(ResponseError::Invalid("it has more than one Content-Length"));
        }
        let mut forwarded = ResponseFields::with_capacity(USUAL_FIELDS);
        let mut named = None;
        for (name, value) in fields {
            // Only the first of several values comes with the name.
            named = name.or(named);
            if let Some(name) = &named
                && headers::is_forwarded_downstream(name.as_str())
            {
                forwarded.push(name.clone(), value);
            }
        }
        let framing = Framing::UntilClose;
        Ok(Self { status, reason: None, fields: forwarded, framing, keep_alive: true, keep_alive_timeout: None })
    }
}

/// What each field of an interim response is held with, in bytes: in HTTP/2 it is an entry of a map.
const HELD: usize = 128;

/// The interim responses to one request.
#[derive(Debug, Default)]
pub(crate) struct Interims {
    count: u8,
    /// Bytes of all heads.
    size: usize,
    /// Those that have not been taken.
    heads: Vec<(StatusCode, ResponseFields)>,
}

/// What the fields of a head say about its body and its connection.
#[derive(Default)]
struct Meaning<'a> {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    keep_alive_timeout: Option<Duration>,
    /// `Upgrade` is `websocket`.
    switches: bool,
    /// The hop-by-hop fields that `Connection` names.
    named: Vec<&'a [u8]>,
}

/// Reads the head of the response to a request with this method. Leaves `input` at the beginning of the body. Returns `None`,
/// and changes nothing, while the head is incomplete.
///
/// Interim responses (RFC 9110 §15.2) are kept for the client, except 100, which the proxy has sent itself where the client
/// waited for it.
///
/// `switches`: the request asks for a WebSocket, so that 101 ends the head instead of the response.
pub(crate) fn read(
    input: &mut Bytes,
    method: &Method,
    switches: bool,
    interims: &mut Interims,
) -> Result<Option<Head>, ResponseError> {
    loop {
        // What is not HTTP/1 is refused before its first line is complete, which it may never be.
        if !START.starts_with(input.get(..START.len()).unwrap_or(input)) {
            return Err(MALFORMED);
        }
        let mut lines = Lines { input, at: 0 };
        let Some(line) = lines.take()? else { return Ok(None) };
        let StatusLine { http_11, status, reason } = read_status_line(line)?;
        let Some((meaning, mut fields)) = read_fields(&mut lines)? else { return Ok(None) };
        let size = lines.at;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            if !switches || !http_11 || !meaning.switches {
                return Err(ResponseError::Invalid("it switches protocols, which was not requested"));
            }
            // What follows has no length.
            fields.remove(&CONTENT_LENGTH);
        } else if status.is_informational() {
            interims.take(status, fields)?;
            input.advance(size);
            continue;
        }
        let framing = meaning.framing(method, status, http_11)?;
        let keep_alive = !meaning.close && (http_11 || meaning.keep_alive);
        let keep_alive_timeout = meaning.keep_alive_timeout;
        input.advance(size);
        return Ok(Some(Head { status, reason, fields, framing, keep_alive, keep_alive_timeout }));
    }
}

/// Whether there is more to say of a head that was incomplete when so much of it was there. It is read again from its
/// beginning, so that bytes one by one must not cost one reading each.
pub(crate) fn may_go_on(input: &Bytes, looked_at: usize) -> bool {
    let new = input.get(looked_at..).unwrap_or_default();
    let begins = looked_at < START.len() || input.len() > MAX_HEAD;
    !new.is_empty() && (begins || memchr::memchr(b'\n', new).is_some())
}

/// The lines of a head. They are read as strictly as those of requests, because two parsers may read others in two ways: RFC
/// 9112 §2.2 only permits LF alone, and empty lines before the first.
struct Lines<'a> {
    input: &'a Bytes,
    /// Where the next line begins.
    at: usize,
}

impl<'a> Lines<'a> {
    /// Takes the next line. Returns it without its CRLF, or `None` while it is incomplete.
    fn take(&mut self) -> Result<Option<&'a [u8]>, ResponseError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let line = strict_line(rest, MAX_HEAD.saturating_sub(self.at)).map_err(|_| TOO_LARGE)?;
        let Some(Line { length, content }) = line else { return Ok(None) };
        self.at += length;
        content.map(Some).map_err(|kind| match kind {
            FramingErrorKind::BareLf => ResponseError::Invalid("a line of its head ends in LF without CR"),
            _ => MALFORMED,
        })
    }
}

struct StatusLine {
    /// HTTP/1.1. Later minor versions are read as the highest one that is known here (RFC 9110 §2.5).
    http_11: bool,
    status: StatusCode,
    /// The reason phrase, unless it is the standard one.
    reason: Option<ReasonPhrase>,
}

/// Reads a status line (RFC 9112 §4).
fn read_status_line(line: &[u8]) -> Result<StatusLine, ResponseError> {
    let (http_11, rest) = match line.split_first_chunk() {
        Some((b"HTTP/1.0", rest)) => (false, rest),
        Some(([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'], rest)) => (true, rest),
        _ => return Err(MALFORMED),
    };
    let (code, reason): (_, &[u8]) = match rest {
        [b' ', code @ ..] if code.len() == 3 => (code, b""),
        [b' ', a, b, c, b' ', reason @ ..] => (&[*a, *b, *c], reason),
        _ => return Err(MALFORMED),
    };
    // RFC 9110 §15: a status outside 100 to 599 has no meaning to anybody.
    let status = StatusCode::from_bytes(code).ok().filter(|status| status.as_u16() < 600);
    let status = status.ok_or(INVALID_STATUS)?;
    let reason = if reason.is_ascii() { reason } else { b"" };
    let standard = status.canonical_reason().is_some_and(|standard| standard.as_bytes() == reason);
    let reason = if standard { None } else { ReasonPhrase::try_from(reason).ok() };
    Ok(StatusLine { http_11, status, reason })
}

/// Reads the fields of a head. Returns what they mean here, and those that are forwarded to the client; `None` while the head
/// is incomplete.
fn read_fields<'a>(lines: &mut Lines<'a>) -> Result<Option<(Meaning<'a>, ResponseFields)>, ResponseError> {
    let mut fields = ResponseFields::with_capacity(USUAL_FIELDS);
    let mut meaning = Meaning::default();
    let mut count = 0;
    loop {
        let at = lines.at;
        let Some(line) = lines.take()? else { return Ok(None) };
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > MAX_HEADERS {
            return Err(TOO_LARGE);
        }
        let (end, value) = split_field(line, count == 1).map_err(|_| MALFORMED)?;
        let name = HeaderName::from_bytes(line.get(..end).unwrap_or_default()).map_err(|_| MALFORMED)?;
        meaning.take(&name, line.get(value.clone()).unwrap_or_default())?;
        if headers::is_forwarded_downstream(name.as_str()) {
            let value = lines.input.slice(at + value.start..at + value.end);
            fields.push(name, HeaderValue::from_maybe_shared(value).map_err(|_| MALFORMED)?);
        }
    }
    if !meaning.named.is_empty() {
        headers::remove_named(&mut fields, meaning.named.iter().copied());
    }
    Ok(Some((meaning, fields)))
}

impl Interims {
    /// Takes one of HTTP/2.
    pub(super) fn take_http2(&mut self, status: StatusCode, fields: &HeaderMap) -> Result<(), ResponseError> {
        // RFC 9113 §8.6: HTTP/2 does not switch protocols.
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(INVALID_STATUS);
        }
        let kept = fields.iter().filter(|(name, _)| headers::is_forwarded_downstream(name.as_str()));
        let mut forwarded = ResponseFields::with_capacity(fields.len());
        forwarded.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
        self.take(status, forwarded)
    }

    fn take(&mut self, status: StatusCode, mut fields: ResponseFields) -> Result<(), ResponseError> {
        self.count += 1;
        if self.count > MAX_INTERIMS {
            return Err(ResponseError::Invalid("it has too many interim responses"));
        }
        if status != StatusCode::CONTINUE && self.size < MAX_HEAD {
            // An interim response has no body (RFC 9110 §15.2), so nothing may seem to frame one.
            fields.remove(&CONTENT_LENGTH);
            self.size +=
                fields.iter().map(|(name, value)| name.as_str().len() + value.len() + HELD).sum::<usize>() + HELD;
            self.heads.push((status, fields));
        }
        Ok(())
    }

    /// Whether there were any.
    pub(super) fn are_any(&self) -> bool {
        self.count > 0
    }

    /// Takes the heads that have not been taken.
    pub(crate) fn take_heads(&mut self) -> Vec<(StatusCode, ResponseFields)> {
        std::mem::take(&mut self.heads)
    }
}

impl<'a> Meaning<'a> {
    fn take(&mut self, name: &HeaderName, value: &'a [u8]) -> Result<(), ResponseError> {
        if name == CONTENT_LENGTH {
            let length = decimal(value).ok_or(ResponseError::Invalid("its Content-Length is not a number"))?;
            if self.length.replace(length).is_some() {
                return Err(ResponseError::Invalid("it has more than one Content-Length"));
            }
        } else if name == TRANSFER_ENCODING {
            // The response is framed again for the client, and no other coding is decoded.
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(ResponseError::Invalid("its transfer coding is not `chunked` alone"));
            }
            self.chunked = true;
        } else if name == UPGRADE {
            self.switches = value.eq_ignore_ascii_case(b"websocket");
        } else if *name == KEEP_ALIVE {
            self.keep_alive_timeout = keep_alive_timeout(value);
        } else if name == CONNECTION {
            for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                match option {
                    b"" => {}
                    option if option.eq_ignore_ascii_case(b"close") => self.close = true,
                    option if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                    option => self.named.push(option),
                }
            }
        }
        Ok(())
    }

    fn framing(&self, method: &Method, status: StatusCode, http_11: bool) -> Result<Framing, ResponseError> {
        if self.chunked && self.length.is_some() {
            return Err(ResponseError::Invalid("it has both Content-Length and Transfer-Encoding"));
        }
        if self.chunked && !http_11 {
            return Err(ResponseError::Invalid("it has a Transfer-Encoding in HTTP/1.0"));
        }
        if status == StatusCode::SWITCHING_PROTOCOLS && (self.chunked || self.length.is_some_and(|length| length > 0)) {
            return Err(ResponseError::Invalid("it switches protocols, and has a body"));
        }
        let bodiless = method == Method::HEAD
            || status == StatusCode::SWITCHING_PROTOCOLS
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(match self.length {
            _ if bodiless => Framing::Length(0),
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })
    }
}

/// `timeout` of `Keep-Alive`, in seconds (draft-thomson-hybi-http-timeout-03 §2.1, as servers send it).
fn keep_alive_timeout(value: &[u8]) -> Option<Duration> {
    let mut parameters = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let seconds = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_at_checked(b"timeout=".len())?;
        name.eq_ignore_ascii_case(b"timeout=").then_some(value)
    })?;
    decimal(seconds).map(Duration::from_secs)
}

/// Parses a decimal number, which must consist of digits alone (RFC 9110 §8.6).
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}
