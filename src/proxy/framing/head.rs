//! The lines of a head: request line and fields, judged one whole line at a time. No state across chunks, no body.

use http::Uri;

use super::flaw::FlawKind;

/// Longest target hyper reads (`http::Uri` keeps offsets in 16 bits).
const TARGET_LIMIT: usize = u16::MAX as usize - 1;

/// What of a head decides where its message ends.
#[derive(Debug, Default)]
pub(super) struct Head {
    http_10: bool,
    host: bool,
    length: Option<u64>,
    chunked: bool,
    fields: usize,
}

/// How the body of a message is delimited (RFC 9112 §6.3; a request has no other way).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes; 0 when there is none.
    Length(u64),
    /// Chunked coding.
    Chunked,
}

impl Head {
    /// Reads a request line, without its CRLF.
    pub(super) fn from_request_line(line: &[u8]) -> Result<Self, FlawKind> {
        let space = memchr::memchr(b' ', line).ok_or(FlawKind::RequestLine)?;
        let last = memchr::memrchr(b' ', line).ok_or(FlawKind::RequestLine)?;
        let (method, target, version) = match (line.get(..space), line.get(space + 1..last), line.get(last + 1..)) {
            (Some(method), Some(target), Some(version)) => (method, target, version),
            _ => return Err(FlawKind::RequestLine),
        };
        let single_spaces = !target.is_empty() && memchr::memchr2(b' ', b'\t', target).is_none();
        if method.is_empty() || !method.iter().copied().all(is_token) || !single_spaces {
            return Err(FlawKind::RequestLine);
        }
        let http_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ if version.starts_with(b"HTTP/") => return Err(FlawKind::Version),
            _ => return Err(FlawKind::RequestLine),
        };
        check_target(method, target)?;
        Ok(Self { http_10, ..Self::default() })
    }

    /// Takes one field line, without its CRLF.
    pub(super) fn take_field(&mut self, line: &[u8], limit: usize) -> Result<(), FlawKind> {
        let first = self.fields == 0;
        self.fields += 1;
        if self.fields > limit {
            return Err(FlawKind::TooManyFields);
        }
        let (name, value) = split_field(line, first)?;
        // Lengths first: nearly every name is dismissed by them alone.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host {
                    return Err(FlawKind::HostRepeated);
                }
                self.host = true;
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.take_length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.take_encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    /// The empty line came: how the body is delimited.
    pub(super) fn finish(&self) -> Result<Body, FlawKind> {
        if !self.host && !self.http_10 {
            return Err(FlawKind::HostMissing);
        }
        Ok(if self.chunked { Body::Chunked } else { Body::Length(self.length.unwrap_or(0)) })
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), FlawKind> {
        if self.chunked {
            return Err(FlawKind::LengthAndEncoding);
        }
        if self.length.is_some() {
            return Err(FlawKind::LengthRepeated);
        }
        self.length = Some(decimal(value).ok_or(FlawKind::LengthInvalid)?);
        Ok(())
    }

    fn take_encoding(&mut self, value: &[u8]) -> Result<(), FlawKind> {
        if self.http_10 {
            return Err(FlawKind::EncodingInHttp10);
        }
        if self.length.is_some() {
            return Err(FlawKind::LengthAndEncoding);
        }
        if self.chunked {
            return Err(FlawKind::EncodingRepeated);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(FlawKind::EncodingUnsupported);
        }
        self.chunked = true;
        Ok(())
    }
}

/// The line without its CRLF, when it has one and holds no other control character than tabs (RFC 9110 §5.5).
pub(super) fn line_content(line: &[u8]) -> Result<&[u8], FlawKind> {
    let text = line.strip_suffix(b"\r\n").ok_or(FlawKind::BareLf)?;
    // No early exit: the compiler turns this loop into vector instructions.
    let control = text.iter().fold(false, |seen, &byte| seen | ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7f));
    match control {
        false => Ok(text),
        true if memchr::memchr(0, text).is_some() => Err(FlawKind::Nul),
        true if memchr::memchr(b'\r', text).is_some() => Err(FlawKind::BareCr),
        true => Err(FlawKind::Control),
    }
}

/// Name and trimmed value of a field line (RFC 9112 §5); `first` when no field came before it.
pub(super) fn split_field(line: &[u8], first: bool) -> Result<(&[u8], &[u8]), FlawKind> {
    let end = line.iter().position(|&byte| !is_token(byte)).unwrap_or(line.len());
    match line.split_at_checked(end) {
        Some(([], [b':', ..])) => Err(FlawKind::EmptyName),
        // Controls other than tabs are gone, so this trims what RFC 9110 calls OWS.
        Some((name, [b':', value @ ..])) => Ok((name, value.trim_ascii())),
        Some(([], [b' ' | b'\t', ..])) if first => Err(FlawKind::LeadingWhitespace),
        Some(([], [b' ' | b'\t', ..])) => Err(FlawKind::Folding),
        Some((_, rest)) if memchr::memchr(b':', rest).is_none() => Err(FlawKind::MissingColon),
        Some((_, [b' ' | b'\t', ..])) => Err(FlawKind::SpaceBeforeColon),
        _ => Err(FlawKind::Name),
    }
}

/// Admits the targets that `http::Uri` takes as they are, so that a request is never lost between here and hyper.
fn check_target(method: &[u8], target: &[u8]) -> Result<(), FlawKind> {
    if target.len() > TARGET_LIMIT {
        return Err(FlawKind::TargetTooLong);
    }
    let unusual = target.iter().fold(false, |seen, &byte| seen | !matches!(byte, b'!'..=b'~') | is_delimiter(byte));
    if unusual {
        if memchr::memchr(b'#', target).is_some() {
            return Err(FlawKind::Fragment);
        }
        // Browsers leave a backtick in a query as it is, and only there does hyper take it.
        let query = memchr::memchr(b'?', target).unwrap_or(target.len());
        let admitted = |(at, &byte): (usize, &u8)| match byte {
            b'`' => at > query,
            _ => byte.is_ascii_graphic() && !is_delimiter(byte),
        };
        if !target.iter().enumerate().all(admitted) {
            return Err(FlawKind::Target);
        }
    }
    match target {
        [b'/', ..] | b"*" => Ok(()),
        // Absolute-form (for a proxy) and authority-form (CONNECT) are rare, so they may cost a full parse.
        _ => match Uri::try_from(target) {
            Ok(uri) if method == b"CONNECT" && uri.scheme().is_none() => Ok(()),
            Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Ok(()),
            _ => Err(FlawKind::Target),
        },
    }
}

/// Visible characters that RFC 3986 leaves out of URIs and that are read differently.
fn is_delimiter(byte: u8) -> bool {
    (byte == b'"') | (byte == b'<') | (byte == b'>') | (byte == b'`') | (byte == b'#')
}

/// A non-negative decimal number below 2^63, digits alone.
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

/// `tchar` (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut at = 0;
        while at < 256 {
            let byte = at as u8;
            table[at] = byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
            at += 1;
        }
        table
    };
    TOKEN[usize::from(byte)]
}
