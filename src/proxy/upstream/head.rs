//! Parses the head of an upstream's response, and drops the fields that are not forwarded to the client.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use httparse::Status;
use hyper::ext::ReasonPhrase;

use super::error::ResponseError;
use crate::proxy::headers::{self, ResponseFields};
use crate::proxy::http1::body_decoder::Framing;
use crate::proxy::http1::fields::write_line;

/// Maximum size of a response's head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Maximum number of a response's header fields, and of its trailers: the most that `limits.headers` may be for requests.
pub(crate) const MAX_HEADERS: usize = 1000;
/// As many header fields are read without an allocation.
const USUAL_HEADERS: usize = 100;
/// How many fields the proxy itself usually adds to a response.
const ADDED_FIELDS: usize = 3;
/// Maximum number of interim responses to one request.
const MAX_INTERIMS: u8 = 16;

/// The head of a response.
#[derive(Debug)]
pub(crate) struct Head {
    /// The final status, never informational (RFC 9110 §15.2).
    pub(crate) status: StatusCode,
    /// The reason phrase, unless it is the standard one.
    pub(crate) reason: Option<ReasonPhrase>,
    /// The header fields that are forwarded to the client.
    pub(crate) fields: ResponseFields,
    /// How the body is delimited.
    pub(crate) framing: Framing,
    /// Whether the connection may be reused after this response.
    pub(super) keep_alive: bool,
}

/// The interim responses to one request.
#[derive(Debug, Default)]
pub(crate) struct Interims {
    count: u8,
    /// Bytes of all heads.
    size: usize,
    /// Those that have not been taken, as they are sent in HTTP/1.1.
    heads: Vec<u8>,
}

/// What the fields of a head say about its body and its connection.
#[derive(Default)]
struct Meaning {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    /// `Connection` names hop-by-hop fields.
    names_fields: bool,
}

/// Reads the head of the response to a request with this method. Leaves `input` at the beginning of the body. Returns `None`,
/// and changes nothing, while the head is incomplete.
///
/// Interim responses (RFC 9110 §15.2) are kept for the client, except 100, which the proxy has sent itself where the client
/// waited for it.
pub(crate) fn read(input: &mut Bytes, method: &Method, interims: &mut Interims) -> Result<Option<Head>, ResponseError> {
    loop {
        let mut room = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
        let mut more_room = Vec::new();
        let mut parsed = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let mut whole = parser.parse_response_with_uninit_headers(&mut parsed, input, &mut room);
        if whole == Err(httparse::Error::TooManyHeaders) {
            more_room.resize_with(MAX_HEADERS, MaybeUninit::uninit);
            parsed = httparse::Response::new(&mut []);
            whole = parser.parse_response_with_uninit_headers(&mut parsed, input, &mut more_room);
        }
        let size = match whole {
            Ok(Status::Complete(size)) if size <= MAX_HEAD => size,
            Ok(Status::Partial) if input.len() < MAX_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                return Err(ResponseError::Invalid("its head is too large or has too many fields"));
            }
            Err(httparse::Error::Version) if read_as_http_11(input) => continue,
            Err(_) => return Err(ResponseError::Invalid("its head is malformed")),
        };
        check_lines(input.get(..size).unwrap_or_default(), parsed.headers)?;
        // RFC 9110 §15: a status outside 100 to 599 has no meaning to anybody.
        let status = parsed.code.filter(|code| *code < 600).and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(ResponseError::Invalid("its status code is invalid"))?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(ResponseError::Invalid("it switches protocols, which was not requested"));
        }
        if status.is_informational() {
            let (_, fields) = read_fields(input, parsed.headers)?;
            interims.take(status, &fields)?;
            *input = input.slice(size..);
            continue;
        }
        let (meaning, fields) = read_fields(input, parsed.headers)?;
        let reason = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason());
        let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
        let framing = meaning.framing(method, status, parsed.version == Some(1))?;
        let keep_alive = !meaning.close && (parsed.version == Some(1) || meaning.keep_alive);
        *input = input.slice(size..);
        return Ok(Some(Head { status, reason, fields, framing, keep_alive }));
    }
}

/// Makes a later minor version 1.1, the highest one that is known here (RFC 9110 §2.5). Returns whether it was one.
fn read_as_http_11(input: &mut Bytes) -> bool {
    let is_later = matches!(input.get(..8), Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9']));
    if is_later {
        let mut known = BytesMut::from(&b"HTTP/1.1"[..]);
        known.extend_from_slice(input.get(known.len()..).unwrap_or_default());
        *input = known.freeze();
    }
    is_later
}

/// Reads the fields of a head. Returns what they mean here, and those that are forwarded to the client.
fn read_fields(input: &Bytes, parsed: &[httparse::Header<'_>]) -> Result<(Meaning, ResponseFields), ResponseError> {
    const MALFORMED: ResponseError = ResponseError::Invalid("a header field is malformed");
    let mut fields = ResponseFields::with_capacity(parsed.len() + ADDED_FIELDS);
    let mut meaning = Meaning::default();
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| MALFORMED)?;
        // httparse accepts exactly the values that `HeaderValue` does, so those that are dropped here were checked, too.
        meaning.take(&name, header.value)?;
        if headers::is_forwarded_downstream(name.as_str()) {
            let value = HeaderValue::from_maybe_shared(input.slice_ref(header.value)).map_err(|_| MALFORMED)?;
            fields.push(name, value);
        }
    }
    if meaning.names_fields {
        let values = parsed.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
        headers::remove_named(&mut fields, values.map(|header| header.value));
    }
    Ok((meaning, fields))
}

impl Interims {
    fn take(&mut self, status: StatusCode, fields: &ResponseFields) -> Result<(), ResponseError> {
        self.count += 1;
        if self.count > MAX_INTERIMS {
            return Err(ResponseError::Invalid("it has too many interim responses"));
        }
        if status != StatusCode::CONTINUE && self.size < MAX_HEAD {
            let before = self.heads.len();
            let reason = status.canonical_reason().unwrap_or_default();
            self.heads.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
            // An interim response has no body (RFC 9110 §15.2), so nothing may seem to frame one.
            for (name, value) in fields.iter().filter(|(name, _)| name != CONTENT_LENGTH) {
                write_line(&mut self.heads, name.as_str(), value.as_bytes());
            }
            self.heads.extend_from_slice(b"\r\n");
            self.size += self.heads.len() - before;
        }
        Ok(())
    }

    /// Takes the heads that have not been taken.
    pub(crate) fn take_heads(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heads)
    }
}

impl Meaning {
    fn take(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), ResponseError> {
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
        } else if name == CONNECTION {
            for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                match option {
                    b"" => {}
                    option if option.eq_ignore_ascii_case(b"close") => self.close = true,
                    option if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                    _ => self.names_fields = true,
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
        let bodiless = method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(match self.length {
            _ if bodiless => Framing::Length(0),
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })
    }
}

/// Checks that a head begins with its status line and that each of its lines ends in CRLF. httparse skips empty lines
/// before it and accepts LF alone, which RFC 9112 §2.2 permits and which two parsers may read in two ways.
fn check_lines(head: &[u8], headers: &[httparse::Header<'_>]) -> Result<(), ResponseError> {
    if !head.starts_with(b"HTTP/") {
        return Err(ResponseError::Invalid("something precedes its status line"));
    }
    let status = memchr::memchr(b'\n', head).and_then(|end| head.get(..=end)).unwrap_or_default();
    // The values are parts of the head, so what follows one is the end of its line. No other byte is looked at again.
    let after = |value: &[u8]| value.as_ptr().addr().checked_sub(head.as_ptr().addr())?.checked_add(value.len());
    let ends = |value: &[u8]| {
        let rest = after(value).and_then(|end| head.get(end..)).unwrap_or_default();
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        rest.get(blanks..).is_some_and(|rest| rest.starts_with(b"\r\n"))
    };
    let all = status.ends_with(b"\r\n") && headers.iter().all(|header| ends(header.value)) && head.ends_with(b"\r\n");
    if all { Ok(()) } else { Err(ResponseError::Invalid("a line of its head ends in LF without CR")) }
}

/// Parses a decimal number, which must consist of digits alone (RFC 9110 §8.6).
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}
