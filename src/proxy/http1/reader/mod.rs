//! Reads the requests of an HTTP/1.x client connection (RFC 9112): heads, bodies, and exactly where each ends.
//!
//! It accepts only the strict subset on which all parsers agree: lines end in CRLF, one length, one `chunked`, no
//! extensions, no folding. So upstreams see the same requests by construction. The meaning of fields is handled
//! elsewhere:
//! see `proxy::headers` and `proxy::request::path`.

mod flaw;
mod head;

use bytes::{Buf, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Frame, SizeHint};

pub(crate) use flaw::Flaw;
use flaw::FlawKind;
pub(crate) use head::RequestHead;
use head::{Framing, Head, line_content, split_field};

/// Maximum total size of the trailers, in bytes.
const TRAILERS_LIMIT: usize = 16 * 1024;

/// Maximum number of hexadecimal digits of a chunk's size: as many as fit 64 bits.
const CHUNK_DIGITS: u8 = 16;

/// The limits on a head; trailers have the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadLimits {
    /// Maximum size in bytes, from the request line to the empty line, both included.
    pub(crate) size: usize,
    /// Maximum number of header fields.
    pub(crate) headers: usize,
}

/// The state of one connection. The reader takes what it has parsed out of the input; the rest of the input is the
/// beginning of what follows.
#[derive(Debug)]
pub(crate) struct Reader {
    limits: HeadLimits,
    state: State,
    /// The parsed lines of the current head.
    head: Head,
    /// Size of the complete lines of the current head or trailers, in bytes.
    size: usize,
    trailers: HeaderMap,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum State {
    RequestLine,
    Fields,
    /// A body of known length, with this many bytes left; never 0.
    Length(u64),
    ChunkSize {
        size: u64,
        digits: u8,
    },
    /// The LF of a chunk-size line.
    ChunkSizeLf(u64),
    /// A chunk's data, with this many bytes left; never 0.
    ChunkData(u64),
    ChunkDataCr,
    ChunkDataLf,
    Trailers,
    /// The connection was refused.
    Refused(Flaw),
}

const CHUNK: State = State::ChunkSize { size: 0, digits: 0 };

impl Reader {
    /// Creates the reader of a new connection.
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self { limits, state: State::RequestLine, head: Head::default(), size: 0, trailers: HeaderMap::new() }
    }

    /// Takes the head of the next request out of `input`. Returns `None` while it is incomplete: then `input` keeps its
    /// beginning, and more must be appended. Call it only after the body of the previous request was taken.
    ///
    /// # Errors
    /// The first [`Flaw`], as soon as its line is complete. Every later call returns it again.
    pub(crate) fn head(&mut self, input: &mut Bytes) -> Result<Option<RequestHead>, Flaw> {
        while let State::RequestLine | State::Fields = self.state {
            let Some(line) = self.line(input, self.size)? else { return Ok(None) };
            let first = self.size;
            self.size += line;
            let line = input.get(first..self.size).unwrap_or_default();
            if let Some(framing) = self.take_line(line, first).map_err(|kind| self.refuse(kind))? {
                let head = self.head.build(&input.split_to(self.size), framing);
                self.size = 0;
                self.state = match framing {
                    Framing::Length(0) => State::RequestLine,
                    Framing::Length(length) => State::Length(length),
                    Framing::Chunked => CHUNK,
                };
                return head.map(Some).map_err(|kind| self.refuse(kind));
            }
        }
        match self.state {
            State::Refused(flaw) => Err(flaw),
            _ => Ok(None),
        }
    }

    /// Takes the next piece of a request's body, or its trailers, out of `input`. Returns `None` at the end of the
    /// body,
    /// and when `input` is incomplete: then it keeps the beginning of an unfinished line.
    ///
    /// # Errors
    /// The first [`Flaw`]. Every later call returns it again.
    pub(crate) fn body(&mut self, input: &mut Bytes) -> Result<Option<Frame<Bytes>>, Flaw> {
        while let Some(&byte) = input.first() {
            match self.state {
                State::RequestLine | State::Fields => break,
                State::Refused(flaw) => return Err(flaw),
                State::Length(left) => {
                    let (piece, left) = split(input, left);
                    self.state = if left == 0 { State::RequestLine } else { State::Length(left) };
                    return Ok(Some(Frame::data(piece)));
                }
                State::ChunkData(left) => {
                    let (piece, left) = split(input, left);
                    self.state = if left == 0 { State::ChunkDataCr } else { State::ChunkData(left) };
                    return Ok(Some(Frame::data(piece)));
                }
                State::Trailers => {
                    let Some(line) = self.line(input, 0)? else { return Ok(None) };
                    let line = input.split_to(line);
                    self.size += line.len();
                    if self.take_trailer(&line).map_err(|kind| self.refuse(kind))? {
                        (self.state, self.size) = (State::RequestLine, 0);
                        let trailers = std::mem::take(&mut self.trailers);
                        return Ok(Some(trailers).filter(|trailers| !trailers.is_empty()).map(Frame::trailers));
                    }
                }
                _ => {
                    self.state = self.step(byte).map_err(|kind| self.refuse(kind))?;
                    input.advance(1);
                }
            }
        }
        Ok(None)
    }

    /// Checks the part of a body that was received with its head, without taking it, so that a flaw in it refuses the
    /// request.
    ///
    /// # Errors
    /// The first [`Flaw`].
    pub(crate) fn check_ahead(&self, input: &Bytes) -> Result<(), Flaw> {
        if let State::ChunkSize { .. } = self.state {
            let mut ahead = Self { state: self.state, ..Self::new(self.limits) };
            let mut input = input.clone();
            while ahead.body(&mut input)?.is_some() {}
        }
        Ok(())
    }

    /// Whether a head has begun and is incomplete, so that a timeout is answered with 408 instead of an idle close. An
    /// empty line before the request line does not begin a head.
    pub(crate) fn mid_head(&self, input: &[u8]) -> bool {
        match self.state {
            State::RequestLine => !matches!(input.get(self.size..).unwrap_or_default(), [] | [b'\r']),
            State::Fields => true,
            _ => false,
        }
    }

    /// Whether the whole body of the last request has been taken.
    pub(crate) fn between_messages(&self) -> bool {
        matches!(self.state, State::RequestLine)
    }

    /// Returns the remaining size of the body.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.state {
            State::RequestLine => SizeHint::with_exact(0),
            State::Length(left) => SizeHint::with_exact(left),
            _ => SizeHint::new(),
        }
    }

    fn refuse(&mut self, kind: FlawKind) -> Flaw {
        let flaw = Flaw { kind };
        self.state = State::Refused(flaw);
        flaw
    }

    /// Returns the length of the line that begins at `start`, including its LF, or `None` while it is incomplete.
    fn line(&mut self, input: &[u8], start: usize) -> Result<Option<usize>, Flaw> {
        let rest = input.get(start..).unwrap_or_default();
        let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
        // Check the size before the content, so that the result does not depend on how the bytes were split into reads.
        if self.size.saturating_add(end.unwrap_or(rest.len())) > self.size_limit() {
            return Err(self.refuse(FlawKind::TooLarge));
        }
        Ok(end)
    }

    /// Takes one whole line of a head, at offset `at`. Returns the framing of the body after the last line.
    fn take_line(&mut self, line: &[u8], at: usize) -> Result<Option<Framing>, FlawKind> {
        let text = line_content(line)?;
        match self.state {
            State::RequestLine if text.is_empty() => {
                // RFC 9112 §2.2 asks a server to ignore one empty line.
                if at > 0 {
                    return Err(FlawKind::EmptyLines);
                }
            }
            State::RequestLine => {
                self.head.take_request_line(text, at)?;
                self.state = State::Fields;
            }
            _ if text.is_empty() => return self.head.framing().map(Some),
            _ => self.head.take_field(text, at, self.limits.headers)?,
        }
        Ok(None)
    }

    /// Takes one whole line of the trailers. Returns true after the last.
    fn take_trailer(&mut self, line: &[u8]) -> Result<bool, FlawKind> {
        let text = line_content(line)?;
        if text.is_empty() {
            return Ok(true);
        }
        if self.trailers.len() >= self.limits.headers {
            return Err(FlawKind::TooManyFields);
        }
        let (name, value) = split_field(text, self.trailers.is_empty())?;
        let name = HeaderName::from_bytes(text.get(..name).unwrap_or_default()).map_err(|_| FlawKind::Name)?;
        let value = text.get(value).unwrap_or_default();
        let value = HeaderValue::from_bytes(value).map_err(|_| FlawKind::Control)?;
        self.trailers.try_append(name, value).map_err(|_| FlawKind::TooManyFields)?;
        Ok(false)
    }

    /// Returns the state after one byte of the framing around chunks.
    fn step(&self, byte: u8) -> Result<State, FlawKind> {
        match self.state {
            State::ChunkSize { size, digits } => chunk_size(byte, size, digits),
            State::ChunkSizeLf(size) => match (byte, size) {
                (b'\n', 0) => Ok(State::Trailers),
                (b'\n', size) => Ok(State::ChunkData(size)),
                _ => Err(FlawKind::BareCr),
            },
            State::ChunkDataCr if byte == b'\r' => Ok(State::ChunkDataLf),
            State::ChunkDataLf if byte == b'\n' => Ok(CHUNK),
            _ => Err(FlawKind::ChunkEnd),
        }
    }

    /// Returns the maximum size of the current head or trailers, in bytes.
    fn size_limit(&self) -> usize {
        match self.state {
            State::Trailers => self.limits.size.min(TRAILERS_LIMIT).saturating_sub(1),
            _ => self.limits.size,
        }
    }
}

/// Splits off what `input` has of a piece of `left` bytes. Returns it, and how many bytes are left after it.
fn split(input: &mut Bytes, left: u64) -> (Bytes, u64) {
    let size = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (input.split_to(size), left.saturating_sub(size as u64))
}

/// Returns the state after one byte of a chunk-size line. Extensions are legal (RFC 9112 §7.1.1) but refused: no client
/// sends them, and request smuggling exploits parsers that skip them differently.
fn chunk_size(byte: u8, size: u64, digits: u8) -> Result<State, FlawKind> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        b'\r' if digits > 0 => return Ok(State::ChunkSizeLf(size)),
        b'\n' if digits > 0 => return Err(FlawKind::BareLf),
        b';' if digits > 0 => return Err(FlawKind::ChunkExtension),
        _ => return Err(FlawKind::ChunkSize),
    };
    if digits == CHUNK_DIGITS {
        return Err(FlawKind::ChunkSize);
    }
    Ok(State::ChunkSize { size: (size << 4) | u64::from(digit), digits: digits + 1 })
}

#[cfg(test)]
mod tests;
