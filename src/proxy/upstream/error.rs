//! Why an upstream's response cannot be used.

use std::fmt;
use std::io;

use crate::body::Body;
use crate::error_text;
use crate::proxy::http1::framing_error::FramingError;

/// Why there is no response, or no more of it.
#[derive(Debug)]
pub(crate) enum ResponseError {
    /// The server has not handled the request, and may be sent it again: no byte was sent, on a connection used before, or
    /// HTTP/2 says so (RFC 9113 §8.7).
    Unsent(Body),
    /// The request's body from the client was interrupted; its counter has the reason.
    Interrupted,
    /// The connection failed before any byte of a response. With a copy of the request's body, unless it is streaming.
    Unanswered { error: io::Error, reused: bool, body: Option<Body> },
    /// The connection failed.
    Broken(io::Error),
    /// The response is not valid HTTP, or must not be forwarded.
    Invalid(&'static str),
    /// The body of the response is not valid HTTP/1.1.
    MalformedBody(FramingError),
    /// The server ended the stream of HTTP/2 instead of the response.
    Reset(h2::Reason),
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(_) => f.write_str("the server did not take the request"),
            Self::Interrupted => f.write_str("the client's request body ended early"),
            Self::Unanswered { error, .. } | Self::Broken(error) => {
                write!(f, "the connection failed: {}", error_text::connection(error))
            }
            Self::Invalid(why) => write!(f, "the response is not acceptable: {why}"),
            Self::Reset(reason) => write!(f, "the server reset the stream: {}", reason.description()),
            Self::MalformedBody(error) => write!(f, "the response's body is malformed: {}", error.detail()),
        }
    }
}
