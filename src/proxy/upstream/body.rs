//! Decodes the body of a response piece by piece, up to exactly where it ends (RFC 9112 §6.3, §7.1).

use bytes::{Buf, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use httparse::Status;
use hyper::body::Frame;

use super::head::{Framing, MAX_HEADERS};
use super::link::LinkError;

/// Maximum length of a chunk-size line with its extensions, in bytes.
const MAX_SIZE_LINE: usize = 4 * 1024;
/// Maximum total size of the trailers, in bytes.
const MAX_TRAILERS: usize = 16 * 1024;

/// The position of the next byte within a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// In a body of known length, with this many bytes left; never 0.
    Length(u64),
    /// At a chunk-size line.
    ChunkSize,
    /// In a chunk with this many bytes left; never 0.
    Chunk(u64),
    /// After a chunk's data, at the CRLF that ends it.
    ChunkEnd,
    /// After the last chunk.
    Trailers,
    /// In a body delimited by the close of the connection.
    UntilClose,
    /// After the body.
    End,
}

impl From<Framing> for Position {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::End,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::ChunkSize,
            Framing::UntilClose => Self::UntilClose,
        }
    }
}

impl Position {
    /// Takes the next piece out of `input`. Returns `None` at the end of the body, and when `input` is incomplete:
    /// then it
    /// keeps the beginning of an unfinished line, and more must be appended.
    pub(super) fn take(&mut self, input: &mut Bytes) -> Result<Option<Frame<Bytes>>, LinkError> {
        while !input.is_empty() {
            match *self {
                Self::End => break,
                Self::UntilClose => return Ok(Some(Frame::data(std::mem::take(input)))),
                Self::Length(left) => {
                    let (piece, left) = split(input, left);
                    *self = if left == 0 { Self::End } else { Self::Length(left) };
                    return Ok(Some(Frame::data(piece)));
                }
                Self::Chunk(left) => {
                    let (piece, left) = split(input, left);
                    *self = if left == 0 { Self::ChunkEnd } else { Self::Chunk(left) };
                    return Ok(Some(Frame::data(piece)));
                }
                Self::ChunkSize => match chunk_size(input)? {
                    None => break,
                    Some((size, line)) => {
                        input.advance(line);
                        *self = if size == 0 { Self::Trailers } else { Self::Chunk(size) };
                    }
                },
                Self::ChunkEnd => match &**input {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        *self = Self::ChunkSize;
                    }
                    [b'\r'] => break,
                    _ => return Err(LinkError::Invalid("a chunk does not end where it should")),
                },
                Self::Trailers => match trailers(input)? {
                    None => break,
                    Some((trailers, size)) => {
                        input.advance(size);
                        *self = Self::End;
                        return Ok(Some(trailers).filter(|trailers| !trailers.is_empty()).map(Frame::trailers));
                    }
                },
            }
        }
        Ok(None)
    }
}

/// Splits off what `input` has of a piece of `left` bytes. Returns it, and how many bytes are left after it.
fn split(input: &mut Bytes, left: u64) -> (Bytes, u64) {
    let size = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (input.split_to(size), left - size as u64)
}

/// Parses a chunk-size line. Returns the size, and the length of the line.
fn chunk_size(input: &[u8]) -> Result<Option<(u64, usize)>, LinkError> {
    const FLAW: LinkError = LinkError::Invalid("a chunk's size is malformed");
    match httparse::parse_chunk_size(input) {
        Ok(Status::Complete((line, size))) => {
            // httparse reads a line without digits as 0, and accepts LF in an extension.
            let digits = input.first().is_some_and(u8::is_ascii_hexdigit);
            let one_line = memchr::memchr(b'\n', input) == Some(line - 1);
            if digits && one_line && line <= MAX_SIZE_LINE { Ok(Some((size, line))) } else { Err(FLAW) }
        }
        Ok(Status::Partial) if input.len() < MAX_SIZE_LINE => Ok(None),
        _ => Err(FLAW),
    }
}

/// Parses the trailers. Returns them, and their length in bytes.
fn trailers(input: &[u8]) -> Result<Option<(HeaderMap, usize)>, LinkError> {
    const FLAW: LinkError = LinkError::Invalid("its trailers are malformed or too large");
    let mut room = [httparse::EMPTY_HEADER; MAX_HEADERS];
    match httparse::parse_headers(input, &mut room) {
        Ok(Status::Complete((size, fields))) if size <= MAX_TRAILERS => {
            let mut trailers = HeaderMap::new();
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| FLAW)?;
                let value = HeaderValue::from_bytes(field.value).map_err(|_| FLAW)?;
                trailers.append(name, value);
            }
            Ok(Some((trailers, size)))
        }
        Ok(Status::Partial) if input.len() < MAX_TRAILERS => Ok(None),
        _ => Err(FLAW),
    }
}
