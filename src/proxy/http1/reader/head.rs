//! Parses a head: checks the request line and the fields one whole line at a time, then builds a [`RequestHead`].

use std::cell::Cell;
use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};

use crate::proxy::headers::accepts_trailers;
use crate::proxy::http1::body_decoder::Framing;
use crate::proxy::http1::fields::{is_token, split_field};
use crate::proxy::http1::framing_error::FramingErrorKind;

/// Maximum length of a target (`http::Uri` keeps offsets in 16 bits).
const TARGET_LIMIT: usize = u16::MAX as usize - 1;
/// How many fields' capacity is kept between requests.
const KEPT_FIELDS: usize = 32;

/// The ranges of the name and the value of each field.
type Fields = Vec<(Range<usize>, Range<usize>)>;

thread_local! {
    /// Room for the fields of a head that is not in use. Idle connections hold none.
    static SPARE: Cell<Fields> = const { Cell::new(Vec::new()) };
}

/// The head of a request.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    /// The target as received.
    pub(crate) uri: Uri,
    /// HTTP/1.0 or HTTP/1.1; the latter also for later minor versions.
    pub(crate) version: Version,
    /// The fields as received.
    pub(crate) headers: HeaderMap,
    /// Whether another request may follow on the connection (RFC 9112 §9.3).
    pub(crate) keep_alive: bool,
    /// Whether the client waits for 100 before it sends the body (RFC 9110 §10.1.1).
    pub(crate) expects_continue: bool,
    /// Whether the response may have trailers (RFC 9110 §6.5.1).
    pub(crate) takes_trailers: bool,
}

/// The parsed lines of a head: the ranges of its parts, and what determines where its message and its connection end.
#[derive(Debug, Default)]
pub(super) struct Head {
    method: Range<usize>,
    target: Range<usize>,
    http_10: bool,
    host: bool,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    takes_trailers: bool,
    fields: Fields,
}

impl Head {
    /// Starts a new head with a request line, without its CRLF, at offset `at`.
    pub(super) fn take_request_line(&mut self, line: &[u8], at: usize) -> Result<(), FramingErrorKind> {
        let space = memchr::memchr(b' ', line).ok_or(FramingErrorKind::RequestLine)?;
        let last = memchr::memrchr(b' ', line).ok_or(FramingErrorKind::RequestLine)?;
        let (method, target, version) = match (line.get(..space), line.get(space + 1..last), line.get(last + 1..)) {
            (Some(method), Some(target), Some(version)) => (method, target, version),
            _ => return Err(FramingErrorKind::RequestLine),
        };
        let single_spaces = !target.is_empty() && memchr::memchr2(b' ', b'\t', target).is_none();
        if method.is_empty() || !method.iter().copied().all(is_token) || !single_spaces {
            return Err(FramingErrorKind::RequestLine);
        }
        let http_10 = match version {
            b"HTTP/1.0" => true,
            // RFC 9110 §2.5: a later minor version is processed as the highest one that is known.
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => false,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(FramingErrorKind::Version),
            _ => return Err(FramingErrorKind::RequestLine),
        };
        check_target(method, target)?;
        let fields = SPARE.take();
        *self = Self { method: at..at + space, target: at + space + 1..at + last, http_10, fields, ..Self::default() };
        Ok(())
    }

    /// Takes one field line, without its CRLF, at offset `at`. `limit` is the maximum number of fields.
    pub(super) fn take_field(&mut self, line: &[u8], at: usize, limit: usize) -> Result<(), FramingErrorKind> {
        if self.fields.len() >= limit {
            return Err(FramingErrorKind::TooManyFields);
        }
        let (end, value) = split_field(line, self.fields.is_empty())?;
        self.fields.push((at..at + end, at + value.start..at + value.end));
        let (name, value) = (line.get(..end).unwrap_or_default(), line.get(value).unwrap_or_default());
        // Match the length first: it alone rules out nearly every name.
        match end {
            2 if name.eq_ignore_ascii_case(b"te") => self.takes_trailers |= accepts_trailers(value),
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host {
                    return Err(FramingErrorKind::HostRepeated);
                }
                self.host = true;
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.take_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.take_length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.take_encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Returns how the body is delimited. Call it after the empty line.
    pub(super) fn framing(&self) -> Result<Framing, FramingErrorKind> {
        if !self.host && !self.http_10 {
            return Err(FramingErrorKind::HostMissing);
        }
        Ok(if self.chunked { Framing::Chunked } else { Framing::Length(self.length.unwrap_or(0)) })
    }

    /// Fills in the request head from the bytes whose lines have all been taken. Values are slices of them.
    pub(super) fn build(
        &mut self,
        bytes: &Bytes,
        framing: Framing,
        head: &mut RequestHead,
    ) -> Result<(), FramingErrorKind> {
        let mut fields = std::mem::take(&mut self.fields);
        let part = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or_default();
        let headers = &mut head.headers;
        headers.try_reserve(fields.len()).map_err(|_| FramingErrorKind::TooManyFields)?;
        for (name, value) in &fields {
            let name = HeaderName::from_bytes(part(name)).map_err(|_| FramingErrorKind::Name)?;
            let value =
                HeaderValue::from_maybe_shared(bytes.slice(value.clone())).map_err(|_| FramingErrorKind::Control)?;
            headers.try_append(name, value).map_err(|_| FramingErrorKind::TooManyFields)?;
        }
        fields.clear();
        fields.shrink_to(KEPT_FIELDS);
        SPARE.set(fields);
        head.method = Method::from_bytes(part(&self.method)).map_err(|_| FramingErrorKind::RequestLine)?;
        head.uri = Uri::from_maybe_shared(bytes.slice(self.target.clone())).map_err(|_| FramingErrorKind::Target)?;
        if head.method == Method::OPTIONS {
            about_the_server(&mut head.uri, part(&self.target));
        }
        head.version = if self.http_10 { Version::HTTP_10 } else { Version::HTTP_11 };
        head.keep_alive = !self.close && (self.keep_alive || !self.http_10);
        head.takes_trailers = self.takes_trailers;
        // RFC 9110 §10.1.1: `Expect` is ignored in HTTP/1.0 and without a body.
        head.expects_continue = self.expects_continue && !self.http_10 && framing != Framing::Length(0);
        Ok(())
    }

    fn take_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), FramingErrorKind> {
        if self.chunked {
            return Err(FramingErrorKind::LengthAndEncoding);
        }
        if self.length.is_some() {
            return Err(FramingErrorKind::LengthRepeated);
        }
        self.length = Some(decimal(value).ok_or(FramingErrorKind::LengthInvalid)?);
        Ok(())
    }

    fn take_encoding(&mut self, value: &[u8]) -> Result<(), FramingErrorKind> {
        if self.http_10 {
            return Err(FramingErrorKind::EncodingInHttp10);
        }
        if self.length.is_some() {
            return Err(FramingErrorKind::LengthAndEncoding);
        }
        if self.chunked {
            return Err(FramingErrorKind::EncodingRepeated);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(FramingErrorKind::EncodingUnsupported);
        }
        self.chunked = true;
        Ok(())
    }
}

/// Reads an absolute-form target of OPTIONS without path and query as one about the server (RFC 9112 §3.2.4), as HTTP/2 has
/// it: `*` beside the authority. `http::Uri` takes a path that is missing for `/`.
fn about_the_server(uri: &mut Uri, target: &[u8]) {
    let authority = uri.authority().filter(|authority| target.ends_with(authority.as_str().as_bytes()));
    if authority.is_none() || uri.scheme().is_none() {
        return;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    if let Ok(about) = Uri::from_parts(parts) {
        *uri = about;
    }
}

/// Accepts only targets that `http::Uri` keeps unchanged.
fn check_target(method: &[u8], target: &[u8]) -> Result<(), FramingErrorKind> {
    if target.len() > TARGET_LIMIT {
        return Err(FramingErrorKind::TargetTooLong);
    }
    let unusual = target.iter().fold(false, |seen, &byte| seen | !matches!(byte, b'!'..=b'~') | is_delimiter(byte));
    if unusual {
        if memchr::memchr(b'#', target).is_some() {
            return Err(FramingErrorKind::Fragment);
        }
        // Browsers do not encode a backtick in a query, and only there does `http::Uri` accept it.
        let query = memchr::memchr(b'?', target).unwrap_or(target.len());
        let admitted = |(at, &byte): (usize, &u8)| match byte {
            b'`' => at > query,
            _ => byte.is_ascii_graphic() && !is_delimiter(byte),
        };
        if !target.iter().enumerate().all(admitted) {
            return Err(FramingErrorKind::Target);
        }
    }
    match target {
        [b'/', ..] | b"*" => Ok(()),
        // Absolute-form (for a proxy) and authority-form (CONNECT) are rare, so a full parse is affordable.
        _ => match Uri::try_from(target) {
            Ok(uri) if method == b"CONNECT" && uri.scheme().is_none() => Ok(()),
            Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Ok(()),
            _ => Err(FramingErrorKind::Target),
        },
    }
}

/// Whether this is a visible character that RFC 3986 excludes from URIs and that parsers treat differently.
fn is_delimiter(byte: u8) -> bool {
    (byte == b'"') | (byte == b'<') | (byte == b'>') | (byte == b'`') | (byte == b'#')
}

/// Parses a decimal number below 2^63, which must consist of digits alone.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut number = 0_i64;
    for &byte in text {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    u64::try_from(number).ok()
}
