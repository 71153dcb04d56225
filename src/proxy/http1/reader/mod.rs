//! Reads the requests of an HTTP/1.x client connection (RFC 9112): heads, bodies, and exactly where each ends.
//!
//! It accepts only the strict subset on which all parsers agree: lines end in CRLF, one length, one `chunked`, no
//! folding. So upstreams see the same requests by construction. The meaning of fields is handled
//! elsewhere: see `proxy::headers` and `proxy::request::path`.

mod head;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::body_decoder::{BodyDecoder, Framing};
use super::fields::{HeadLimits, Line, strict_line};
use super::framing_error::{FramingError, FramingErrorKind};
use head::Head;
pub(crate) use head::RequestHead;

/// The state of one connection. The reader takes what it has parsed out of the input; the rest of the input is the
/// beginning of what follows.
#[derive(Debug)]
pub(crate) struct Reader {
    limits: HeadLimits,
    state: State,
    /// The parsed lines of the current head.
    head: Head,
    /// Size of the complete lines of the current head, in bytes.
    size: usize,
    body: BodyDecoder,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum State {
    RequestLine,
    Fields,
    /// Nothing: all lines of a head are there, and are not taken yet.
    Whole(Framing),
    Body,
    /// The connection was refused.
    Refused(FramingError),
}

impl Reader {
    /// Creates the reader of a new connection.
    pub(crate) fn new(limits: HeadLimits) -> Self {
        let body = BodyDecoder::for_requests(limits);
        Self { limits, state: State::RequestLine, head: Head::default(), size: 0, body }
    }

    /// Takes the head of the next request out of `input`. Returns `None` while it is incomplete: then `input` keeps its
    /// beginning, and more must be appended. Call it only after the body of the previous request was taken.
    ///
    /// # Errors
    /// The first [`FramingError`], as soon as its line is complete. Every later call returns it again.
    pub(crate) fn head(&mut self, input: &mut Bytes) -> Result<Option<RequestHead>, FramingError> {
        if !self.find_head(input)? {
            return Ok(None);
        }
        let mut head = RequestHead::default();
        self.take_head(input, &mut head)?;
        Ok(Some(head))
    }

    /// Reads the lines of the next head, and leaves them in `input`. Returns whether it is complete, so that `take_head` takes it.
    ///
    /// # Errors
    /// As for `head`.
    pub(super) fn find_head(&mut self, input: &[u8]) -> Result<bool, FramingError> {
        while let State::RequestLine | State::Fields = self.state {
            let first = self.size;
            let rest = input.get(first..).unwrap_or_default();
            let line = strict_line(rest, self.limits.size.saturating_sub(first)).map_err(|kind| match self.state {
                // RFC 9112 §3: what makes a request line long is its target.
                State::RequestLine => self.refuse(FramingErrorKind::TargetTooLong),
                _ => self.refuse(kind),
            })?;
            let Some(Line { length, content }) = line else { return Ok(false) };
            self.size += length;
            content.and_then(|text| self.take_line(text, first)).map_err(|kind| self.refuse(kind))?;
        }
        match self.state {
            State::Refused(error) => Err(error),
            State::Whole(_) => Ok(true),
            _ => Ok(false),
        }
    }

    /// Takes a complete head out of `input`, and fills in `head`, which must be a new one. It is large: to return it would copy it.
    ///
    /// # Errors
    /// As for `head`.
    pub(super) fn take_head(&mut self, input: &mut Bytes, head: &mut RequestHead) -> Result<(), FramingError> {
        let framing = match self.state {
            State::Whole(framing) => framing,
            State::Refused(error) => return Err(error),
            _ => return Err(self.refuse(FramingErrorKind::RequestLine)),
        };
        let lines = input.split_to(self.size);
        self.size = 0;
        self.body.begin(framing);
        self.state = if self.body.has_ended() { State::RequestLine } else { State::Body };
        self.head.build(&lines, framing, head).map_err(|kind| self.refuse(kind))
    }

    /// Takes the next piece of a request's body, or its trailers, out of `input`. Returns `None` at the end of the
    /// body, and when `input` is incomplete: then it keeps the beginning of an unfinished trailer.
    ///
    /// # Errors
    /// The first [`FramingError`]. Every later call returns it again.
    pub(crate) fn body(&mut self, input: &mut Bytes) -> Result<Option<Frame<Bytes>>, FramingError> {
        match self.state {
            State::RequestLine | State::Fields | State::Whole(_) => return Ok(None),
            State::Refused(error) => return Err(error),
            State::Body => {}
        }
        let frame = self.body.decode(input).map_err(|error| self.refuse(error.kind))?;
        if self.body.has_ended() {
            self.state = State::RequestLine;
        }
        Ok(frame)
    }

    /// Checks the part of a body that was received with its head, without taking it, so that an error in it refuses the
    /// request.
    ///
    /// # Errors
    /// The first [`FramingError`].
    pub(crate) fn check_ahead(&self, input: &Bytes) -> Result<(), FramingError> {
        self.body.check_ahead(input)
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
        self.body.size_hint()
    }

    fn refuse(&mut self, kind: FramingErrorKind) -> FramingError {
        let error = FramingError { kind };
        self.state = State::Refused(error);
        error
    }

    /// Takes one whole line of a head, without its CRLF, at offset `at`.
    fn take_line(&mut self, text: &[u8], at: usize) -> Result<(), FramingErrorKind> {
        match self.state {
            State::RequestLine if text.is_empty() => {
                // RFC 9112 §2.2 asks a server to ignore one empty line.
                if at > 0 {
                    return Err(FramingErrorKind::EmptyLines);
                }
            }
            State::RequestLine => {
                self.head.take_request_line(text, at)?;
                self.state = State::Fields;
            }
            _ if text.is_empty() => self.state = State::Whole(self.head.framing()?),
            _ => self.head.take_field(text, at, self.limits.headers)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
