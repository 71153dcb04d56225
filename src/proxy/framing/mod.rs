//! The guard on HTTP/1.x client connections: it watches the raw bytes before hyper parses them and refuses what hyper
//! lets pass or hides from the service (RFC 9112).
//!
//! It does not frame requests for anybody. It admits only the strict subset on which every parser agrees (lines end in
//! CRLF, one length, one `chunked`, no extensions, no folding …), so that hyper here and whatever stands behind agree
//! by construction. What the fields mean is not its business: see `proxy::headers` and `proxy::path`.
//!
//! hyper must be set to take at least as much: `max_headers` and `max_header_size` (and `max_buf_size`) no smaller than
//! the [`HeadLimits`].

mod flaw;
mod head;

use std::mem;

pub(crate) use flaw::Flaw;
use flaw::FlawKind;
use head::{Body, Head, line_content, split_field};

/// hyper's own limit for trailers when none is set; it refuses trailers that reach it.
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

/// The state of one connection, fed with its bytes in order. An ordinary head that comes in one chunk is read where it
/// lies; only a line that is split between chunks is copied, and bodies are skipped without being looked at.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: HeadLimits,
    state: State,
    /// What the lines of the present head said.
    head: Head,
    /// Bytes of the present head or trailers in complete lines; bounded by `limits.size`.
    size: usize,
    /// Trailer fields of the present message.
    trailers: usize,
    /// A line of which the end has not come; bounded by `limits.size`, released with the head.
    pending: Vec<u8>,
    /// Complete heads let through.
    heads: u64,
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

impl Guard {
    /// A guard for a new connection.
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            state: State::RequestLine,
            head: Head::default(),
            size: 0,
            trailers: 0,
            pending: Vec::new(),
            heads: 0,
        }
    }

    /// Looks at the next bytes of the connection, just read and not yet seen by hyper.
    ///
    /// # Errors
    /// The first [`Flaw`]; the connection is dead then, and every further call returns the same. Requests that were
    /// pipelined before the flawed one are good: `bytes[..flaw.offset]` may be delivered to hyper, so that they are
    /// answered, and nothing after it. With `flaw.in_body` the service may have the flawed request already, and its body
    /// must end in an error, never as if it were whole; otherwise the service never sees it.
    pub(crate) fn observe(&mut self, bytes: &[u8]) -> Result<(), Flaw> {
        if let State::Dead(flaw) = self.state {
            return Err(flaw);
        }
        let heads_before = self.heads;
        let mut offset = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.between_messages() {
                offset = bytes.len() - rest.len();
            }
            match self.step(rest) {
                Ok(used) => rest = rest.get(used..).unwrap_or_default(),
                Err(kind) => {
                    let mut in_body = !matches!(self.state, State::RequestLine | State::Fields);
                    if in_body && self.heads > heads_before {
                        // The head came with this chunk, and is not delivered with it.
                        self.heads -= 1;
                        in_body = false;
                    }
                    self.state = State::Dead(Flaw { kind, offset: 0, in_body });
                    self.pending = Vec::new();
                    return Err(Flaw { kind, offset, in_body });
                }
            }
        }
        Ok(())
    }

    /// Complete heads that were let through so far: no fewer than the requests the service sees on this connection.
    pub(crate) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether a head has begun and is not complete, so that a timeout is worth a 408 and not an idle close. An empty
    /// line before the request line does not begin one.
    pub(crate) fn mid_head(&self) -> bool {
        match self.state {
            State::RequestLine => !matches!(self.pending.as_slice(), [] | [b'\r']),
            State::Fields => true,
            _ => false,
        }
    }

    /// Consumes some of `bytes`, which is not empty, and says how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, FlawKind> {
        let first = bytes.first().copied().unwrap_or_default();
        match self.state {
            State::RequestLine | State::Fields | State::Trailers => return self.read_line(bytes),
            State::Length(left) => {
                let (used, left) = skip(bytes, left);
                if left == 0 {
                    self.next_message();
                } else {
                    self.state = State::Length(left);
                }
                return Ok(used);
            }
            State::ChunkData(left) => {
                let (used, left) = skip(bytes, left);
                self.state = if left == 0 { State::ChunkDataCr } else { State::ChunkData(left) };
                return Ok(used);
            }
            State::Dead(flaw) => return Err(flaw.kind),
            State::ChunkSize { size, digits } => self.state = chunk_size(first, size, digits)?,
            State::ChunkSizeLf(size) => match (first, size) {
                (b'\n', 0) => self.state = State::Trailers,
                (b'\n', size) => self.state = State::ChunkData(size),
                _ => return Err(FlawKind::BareCr),
            },
            State::ChunkDataCr if first == b'\r' => self.state = State::ChunkDataLf,
            State::ChunkDataLf if first == b'\n' => self.state = CHUNK,
            State::ChunkDataCr | State::ChunkDataLf => return Err(FlawKind::ChunkEnd),
        }
        Ok(1)
    }

    /// Consumes the rest of a line, or all there is of it.
    fn read_line(&mut self, bytes: &[u8]) -> Result<usize, FlawKind> {
        let end = memchr::memchr(b'\n', bytes).map(|at| at + 1);
        let (part, _) = bytes.split_at(end.unwrap_or(bytes.len()));
        // Size before content, so that the verdict does not depend on how the bytes were split.
        let size = self.size.saturating_add(self.pending.len()).saturating_add(part.len());
        if size > self.line_limit() {
            return Err(FlawKind::TooLarge);
        }
        if end.is_none() {
            self.pending.extend_from_slice(part);
        } else if self.pending.is_empty() {
            self.size = size;
            self.take_line(part)?;
        } else {
            self.size = size;
            let mut line = mem::take(&mut self.pending);
            line.extend_from_slice(part);
            self.take_line(&line)?;
            if !self.between_messages() {
                line.clear();
                self.pending = line;
            }
        }
        Ok(part.len())
    }

    /// Takes one whole line, its LF included.
    fn take_line(&mut self, line: &[u8]) -> Result<(), FlawKind> {
        let text = line_content(line)?;
        match self.state {
            State::RequestLine if text.is_empty() => {
                // One is what RFC 9112 §2.2 asks a server to ignore. hyper ignores any number.
                if self.size > line.len() {
                    return Err(FlawKind::EmptyLines);
                }
            }
            State::RequestLine => {
                self.head = Head::from_request_line(text)?;
                self.state = State::Fields;
            }
            State::Fields if text.is_empty() => {
                let body = self.head.finish()?;
                self.heads += 1;
                self.next_message();
                match body {
                    Body::Length(0) => {}
                    Body::Length(length) => self.state = State::Length(length),
                    Body::Chunked => self.state = CHUNK,
                }
            }
            State::Fields => self.head.take_field(text, self.limits.headers)?,
            _ if text.is_empty() => self.next_message(),
            _ => {
                let first = self.trailers == 0;
                self.trailers += 1;
                if self.trailers > self.limits.headers {
                    return Err(FlawKind::TooManyFields);
                }
                split_field(text, first)?;
            }
        }
        Ok(())
    }

    /// Whether the next byte is the first of a message.
    pub(crate) fn between_messages(&self) -> bool {
        matches!(self.state, State::RequestLine) && self.size == 0 && self.pending.is_empty()
    }

    fn next_message(&mut self) {
        self.state = State::RequestLine;
        self.size = 0;
        self.trailers = 0;
        // An idle connection holds no memory for the heads it once sent in pieces.
        self.pending = Vec::new();
    }

    /// Most bytes the present head or trailers may have.
    fn line_limit(&self) -> usize {
        match self.state {
            State::Trailers => self.limits.size.min(TRAILERS_LIMIT).saturating_sub(1),
            _ => self.limits.size,
        }
    }
}

/// How many of `bytes` belong to a body of which `left` bytes are to come, and how many are left after them.
fn skip(bytes: &[u8], left: u64) -> (usize, u64) {
    let used = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    (used, left.saturating_sub(used as u64))
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
