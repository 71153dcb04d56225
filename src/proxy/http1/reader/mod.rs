//! Reads the requests of an HTTP/1.x client connection (RFC 9112): heads, bodies, and exactly where each ends.
//!
//! It takes only the strict subset on which every parser agrees: lines end in CRLF, one length, one `chunked`, no
//! extensions, no folding. So whatever stands behind sees the same requests by construction. What the fields mean is not its
//! business: see `proxy::headers` and `proxy::request::path`.

mod flaw;
mod head;

use bytes::{Buf, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Frame, SizeHint};

pub(crate) use flaw::Flaw;
use flaw::FlawKind;
pub(crate) use head::RequestHead;
use head::{Framing, Head, line_content, split_field};

/// Trailers together, in bytes.
const TRAILERS_LIMIT: usize = 16 * 1024;

/// Most hexadecimal digits of a chunk's size: what fits 64 bits.
const CHUNK_DIGITS: u8 = 16;

/// How large a head may be; trailers have the same limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadLimits {
    /// Bytes from the first of the request line to the empty line, both counted.
    pub(crate) size: usize,
    /// Header fields.
    pub(crate) headers: usize,
}

/// The state of one connection. It takes what it has understood out of the bytes that came, in order; what is left of them
/// is the beginning of what comes next.
#[derive(Debug)]
pub(crate) struct Reader {
    limits: HeadLimits,
    state: State,
    /// What the lines of the present head said.
    head: Head,
    /// Bytes of the present head or trailers in complete lines.
    size: usize,
    trailers: HeaderMap,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum State {
    RequestLine,
    Fields,
    /// Body of known length: so many bytes are left, never 0.
    Length(u64),
    ChunkSize {
        size: u64,
        digits: u8,
    },
    /// LF of a chunk's size line.
    ChunkSizeLf(u64),
    /// Data of a chunk: so many bytes are left, never 0.
    ChunkData(u64),
    ChunkDataCr,
    ChunkDataLf,
    Trailers,
    /// Refused.
    Dead(Flaw),
}

const CHUNK: State = State::ChunkSize { size: 0, digits: 0 };

impl Reader {
    /// For a new connection.
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self { limits, state: State::RequestLine, head: Head::default(), size: 0, trailers: HeaderMap::new() }
    }

    /// Takes the next request's head out of `input`. `None`: its end has not come, and `input` holds what has, for more to
    /// be put behind it. Nothing is asked for before the body of the request before it has been taken.
    ///
    /// # Errors
    /// The first [`Flaw`], as soon as the line that has it is there; the connection is dead then, and stays so.
    pub(crate) fn head(&mut self, input: &mut Bytes) -> Result<Option<RequestHead>, Flaw> {
        while let State::RequestLine | State::Fields = self.state {
            let Some(line) = self.line(input, self.size)? else { return Ok(None) };
            let first = self.size;
            self.size += line;
            let line = input.get(first..self.size).unwrap_or_default();
            if let Some(framing) = self.take_line(line, first).map_err(|kind| self.die(kind))? {
                let head = self.head.build(&input.split_to(self.size), framing);
                self.size = 0;
                self.state = match framing {
                    Framing::Length(0) => State::RequestLine,
                    Framing::Length(length) => State::Length(length),
                    Framing::Chunked => CHUNK,
                };
                return head.map(Some).map_err(|kind| self.die(kind));
            }
        }
        match self.state {
            State::Dead(flaw) => Err(flaw),
            _ => Ok(None),
        }
    }

    /// Takes the next piece of a request's body, or its trailers, out of `input`. `None` at its end, and when there is too
    /// little: then `input` holds what there is of an unfinished line.
    ///
    /// # Errors
    /// The first [`Flaw`]; the connection is dead then, and stays so.
    pub(crate) fn body(&mut self, input: &mut Bytes) -> Result<Option<Frame<Bytes>>, Flaw> {
        while let Some(&byte) = input.first() {
            match self.state {
                State::RequestLine | State::Fields => break,
                State::Dead(flaw) => return Err(flaw),
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
                    if self.take_trailer(&line).map_err(|kind| self.die(kind))? {
                        (self.state, self.size) = (State::RequestLine, 0);
                        let trailers = std::mem::take(&mut self.trailers);
                        return Ok(Some(trailers).filter(|trailers| !trailers.is_empty()).map(Frame::trailers));
                    }
                }
                _ => {
                    self.state = self.step(byte).map_err(|kind| self.die(kind))?;
                    input.advance(1);
                }
            }
        }
        Ok(None)
    }

    /// Judges what has come of a body, without taking it: what comes with its head is refused with it.
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

    /// Whether a head has begun and is not complete, so that a timeout is worth a 408 and not an idle close. An empty
    /// line before the request line does not begin one.
    pub(crate) fn mid_head(&self, input: &[u8]) -> bool {
        match self.state {
            State::RequestLine => !matches!(input.get(self.size..).unwrap_or_default(), [] | [b'\r']),
            State::Fields => true,
            _ => false,
        }
    }

    /// Whether the body of the last request has been taken whole.
    pub(crate) fn between_messages(&self) -> bool {
        matches!(self.state, State::RequestLine)
    }

    /// What is still to come of the body.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.state {
            State::RequestLine => SizeHint::with_exact(0),
            State::Length(left) => SizeHint::with_exact(left),
            _ => SizeHint::new(),
        }
    }

    fn die(&mut self, kind: FlawKind) -> Flaw {
        let flaw = Flaw { kind };
        self.state = State::Dead(flaw);
        flaw
    }

    /// How long the line is that begins at `start`, its LF included; `None` when its end has not come.
    fn line(&mut self, input: &[u8], start: usize) -> Result<Option<usize>, Flaw> {
        let rest = input.get(start..).unwrap_or_default();
        let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
        // Size before content, so that the verdict does not depend on how the bytes came.
        if self.size.saturating_add(end.unwrap_or(rest.len())) > self.size_limit() {
            return Err(self.die(FlawKind::TooLarge));
        }
        Ok(end)
    }

    /// Takes one whole line of a head, which stands there after so many bytes. Says how the body is framed, after the last.
    fn take_line(&mut self, line: &[u8], at: usize) -> Result<Option<Framing>, FlawKind> {
        let text = line_content(line)?;
        match self.state {
            State::RequestLine if text.is_empty() => {
                // One is what RFC 9112 §2.2 asks a server to ignore.
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

    /// Takes one whole line of the trailers. True after the last.
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

    /// The state after one byte of what stands around chunks.
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

    /// Most bytes the present head or trailers may have.
    fn size_limit(&self) -> usize {
        match self.state {
            State::Trailers => self.limits.size.min(TRAILERS_LIMIT).saturating_sub(1),
            _ => self.limits.size,
        }
    }
}

/// What there is of a piece of `left` bytes, and how many are left after it.
fn split(input: &mut Bytes, left: u64) -> (Bytes, u64) {
    let size = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (input.split_to(size), left.saturating_sub(size as u64))
}

/// The state after one byte of a chunk's size line. Extensions are legal (RFC 9112 §7.1.1) and refused all the same:
/// no client sends them, and parsers that skip them differently are how chunked bodies are smuggled.
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
