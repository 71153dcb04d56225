//! Decodes the body of a request or a response piece by piece, up to exactly where it ends (RFC 9112 §6.3, §7.1).

use bytes::{Buf, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Frame, SizeHint};

use super::fields::{HeadLimits, Strictness, line_content, line_length, split_field};
use super::framing_error::{FramingError, FramingErrorKind};

/// Maximum total size of the trailers, in bytes.
const MAX_TRAILERS: usize = 16 * 1024;
/// Maximum length of a chunk-size line with its extensions, in bytes.
const MAX_SIZE_LINE: usize = 4 * 1024;
/// Maximum total size of the chunk extensions of one request body, in bytes.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Maximum number of hexadecimal digits of a chunk's size: as many as fit 64 bits.
const MAX_DIGITS: u8 = 16;

/// How a body is delimited (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By its length in bytes; 0 when there is no body.
    Length(u64),
    /// By chunked coding.
    Chunked,
    /// By the close of the connection: only responses.
    UntilClose,
}

/// Decodes the bodies of one connection, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct BodyDecoder {
    strictness: Strictness,
    /// Maximum total size of the trailers, in bytes.
    max_trailers: usize,
    /// Maximum number of trailers.
    max_fields: usize,
    state: State,
    /// Size of the current chunk-size line or of the trailers so far, in bytes.
    size: usize,
    /// Total size of the chunk extensions of the current body, in bytes.
    extensions: usize,
    /// Boxed, because few bodies have any, and every connection has a decoder.
    trailers: Option<Box<HeaderMap>>,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A body of known length, with this many bytes left; never 0.
    Length(u64),
    ChunkSize {
        size: u64,
        digits: u8,
    },
    /// The whitespace after a chunk's size.
    ChunkSizeSpace(u64),
    ChunkExtension(u64),
    /// The LF of a chunk-size line.
    ChunkSizeLf(u64),
    /// A chunk's data, with this many bytes left; never 0.
    ChunkData(u64),
    ChunkDataCr,
    ChunkDataLf,
    Trailers,
    /// A body delimited by the close of the connection.
    UntilClose,
    /// The next message.
    End,
    Refused(FramingError),
}

const CHUNK: State = State::ChunkSize { size: 0, digits: 0 };

impl From<Framing> for State {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::End,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => CHUNK,
            Framing::UntilClose => Self::UntilClose,
        }
    }
}

impl BodyDecoder {
    /// Creates the decoder of a client connection: strict, and trailers must be smaller than `limits`.
    pub(super) fn for_requests(limits: HeadLimits) -> Self {
        let max_trailers = limits.size.min(MAX_TRAILERS).saturating_sub(1);
        Self::new(Strictness::Strict, max_trailers, limits.headers)
    }

    /// Creates the decoder of an upstream connection: lenient, with at most `max_fields` trailers.
    pub(crate) fn for_responses(max_fields: usize) -> Self {
        Self::new(Strictness::Lenient, MAX_TRAILERS, max_fields)
    }

    fn new(strictness: Strictness, max_trailers: usize, max_fields: usize) -> Self {
        Self { strictness, max_trailers, max_fields, state: State::End, size: 0, extensions: 0, trailers: None }
    }

    /// Begins the body of the next message.
    pub(crate) fn begin(&mut self, framing: Framing) {
        self.state = framing.into();
        (self.size, self.extensions) = (0, 0);
        self.trailers = None;
    }

    /// Takes the next piece of the body, or its trailers, out of `input`. Returns `None` at the end of the body, and
    /// when `input` is incomplete: then it keeps the beginning of an unfinished trailer, and more must be appended.
    ///
    /// # Errors
    /// The first [`FramingError`]. Every later call returns it again.
    pub(crate) fn decode(&mut self, input: &mut Bytes) -> Result<Option<Frame<Bytes>>, FramingError> {
        self.next_frame(input).map_err(|kind| {
            let error = FramingError { kind };
            self.state = State::Refused(error);
            error
        })
    }

    fn next_frame(&mut self, input: &mut Bytes) -> Result<Option<Frame<Bytes>>, FramingErrorKind> {
        while let Some(&byte) = input.first() {
            match self.state {
                State::End => break,
                State::Refused(error) => return Err(error.kind),
                State::UntilClose => return Ok(Some(Frame::data(std::mem::take(input)))),
                State::Length(left) => {
                    let (piece, left) = split(input, left);
                    self.state = if left == 0 { State::End } else { State::Length(left) };
                    return Ok(Some(Frame::data(piece)));
                }
                State::ChunkData(left) => {
                    let (piece, left) = split(input, left);
                    self.state = if left == 0 { State::ChunkDataCr } else { State::ChunkData(left) };
                    return Ok(Some(Frame::data(piece)));
                }
                State::Trailers => {
                    let limit = self.max_trailers.saturating_sub(self.size);
                    let Some(line) = line_length(input, limit)? else { return Ok(None) };
                    let line = input.split_to(line);
                    self.size += line.len();
                    if self.take_trailer(&line)? {
                        self.state = State::End;
                        return Ok(self.trailers.take().map(|trailers| Frame::trailers(*trailers)));
                    }
                }
                _ => {
                    self.state = self.step(byte)?;
                    input.advance(1);
                }
            }
        }
        Ok(None)
    }

    /// Checks the part of a chunked body that was received with its head, without taking it.
    ///
    /// # Errors
    /// The first [`FramingError`].
    pub(super) fn check_ahead(&self, input: &Bytes) -> Result<(), FramingError> {
        if let State::ChunkSize { .. } = self.state {
            let (mut ahead, mut input) = (self.clone(), input.clone());
            while ahead.decode(&mut input)?.is_some() {}
        }
        Ok(())
    }

    /// Ends a body that is delimited by the close of the connection, which was just closed. Returns whether it was such
    /// a body; any other is incomplete.
    pub(crate) fn close(&mut self) -> bool {
        let delimits = self.state == State::UntilClose;
        if delimits {
            self.state = State::End;
        }
        delimits
    }

    /// Whether the whole body has been taken.
    pub(crate) fn has_ended(&self) -> bool {
        self.state == State::End
    }

    /// Returns the remaining size of the body.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.state {
            State::End => SizeHint::with_exact(0),
            State::Length(left) => SizeHint::with_exact(left),
            _ => SizeHint::new(),
        }
    }

    /// Returns the state after one byte of the framing around chunks.
    fn step(&mut self, byte: u8) -> Result<State, FramingErrorKind> {
        self.size += 1;
        if self.size > MAX_SIZE_LINE {
            return Err(FramingErrorKind::ChunkSize);
        }
        match (self.state, byte) {
            (State::ChunkSize { size, digits }, _) => chunk_size(byte, size, digits, self.strictness),
            (State::ChunkSizeSpace(_), b' ' | b'\t') => Ok(self.state),
            (State::ChunkSizeSpace(size), b';') => Ok(State::ChunkExtension(size)),
            (State::ChunkSizeSpace(size) | State::ChunkExtension(size), b'\r') => Ok(State::ChunkSizeLf(size)),
            (State::ChunkSizeSpace(_), _) => Err(FramingErrorKind::ChunkSize),
            (State::ChunkExtension(_), b'\n') => Err(FramingErrorKind::BareLf),
            (State::ChunkExtension(_), _) => self.extension(byte),
            (State::ChunkSizeLf(size), b'\n') => {
                self.size = 0;
                Ok(if size == 0 { State::Trailers } else { State::ChunkData(size) })
            }
            (State::ChunkSizeLf(_), _) => Err(FramingErrorKind::BareCr),
            (State::ChunkDataCr, b'\r') => Ok(State::ChunkDataLf),
            (State::ChunkDataLf, b'\n') => {
                self.size = 0;
                Ok(CHUNK)
            }
            _ => Err(FramingErrorKind::ChunkEnd),
        }
    }

    /// Skips one byte of a chunk extension: RFC 9112 §7.1.1 requires to ignore the unknown ones, and to limit their total
    /// size. The body is framed again for the upstream, so none is forwarded.
    fn extension(&mut self, byte: u8) -> Result<State, FramingErrorKind> {
        self.extensions += 1;
        let strict = self.strictness == Strictness::Strict;
        let control = (byte < 0x20 && byte != b'\t') || byte == 0x7f;
        if strict && (control || self.extensions > MAX_EXTENSIONS) {
            return Err(FramingErrorKind::ChunkExtension);
        }
        Ok(self.state)
    }

    /// Takes one whole line of the trailers. Returns true after the last.
    fn take_trailer(&mut self, line: &[u8]) -> Result<bool, FramingErrorKind> {
        let text = line_content(line, self.strictness)?;
        if text.is_empty() {
            return Ok(true);
        }
        let trailers = self.trailers.get_or_insert_default();
        if trailers.len() >= self.max_fields {
            return Err(FramingErrorKind::TooManyFields);
        }
        let (name, value) = split_field(text, trailers.is_empty())?;
        let name = HeaderName::from_bytes(text.get(..name).unwrap_or_default()).map_err(|_| FramingErrorKind::Name)?;
        let value = text.get(value).unwrap_or_default();
        let value = HeaderValue::from_bytes(value).map_err(|_| FramingErrorKind::Control)?;
        trailers.try_append(name, value).map_err(|_| FramingErrorKind::TooManyFields)?;
        Ok(false)
    }
}

/// Splits off what `input` has of a piece of `left` bytes. Returns it, and how many bytes are left after it.
fn split(input: &mut Bytes, left: u64) -> (Bytes, u64) {
    let size = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (input.split_to(size), left.saturating_sub(size as u64))
}

/// Returns the state after one byte of a chunk's size.
fn chunk_size(byte: u8, size: u64, digits: u8, strictness: Strictness) -> Result<State, FramingErrorKind> {
    let lenient = strictness == Strictness::Lenient;
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        b'\r' if digits > 0 => return Ok(State::ChunkSizeLf(size)),
        b'\n' if digits > 0 => return Err(FramingErrorKind::BareLf),
        b';' if digits > 0 => return Ok(State::ChunkExtension(size)),
        b' ' | b'\t' if digits > 0 && lenient => return Ok(State::ChunkSizeSpace(size)),
        _ => return Err(FramingErrorKind::ChunkSize),
    };
    if digits == MAX_DIGITS {
        return Err(FramingErrorKind::ChunkSize);
    }
    Ok(State::ChunkSize { size: (size << 4) | u64::from(digit), digits: digits + 1 })
}
