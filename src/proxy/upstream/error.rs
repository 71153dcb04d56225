//! Why an upstream's response cannot be used.

use std::fmt;
use std::io;

use crate::body::Body;
use crate::error_text;
use crate::proxy::http1::framing_error::FramingError;

/// Why there is no response, or no more of it.
#[derive(Debug)]
pub(crate) enum ResponseError {
    /// No byte of the request was sent, on a connection used before: the request may be sent on another one.
    Unsent(Body),
    /// The request's body from the client was interrupted; its counter has the reason.
    Interrupted,
    /// The connection failed before any byte of a response. With a copy of the request's body, unless it is streaming.
    Unanswered { error: io::Error, reused: bool, body: Option<Body> },
    /// The connection failed.
    Broken(io::Error),
    /// The response is not valid HTTP/1.1, or must not be forwarded.
    Invalid(&'static str),
    /// The body of the response is not valid HTTP/1.1.
    MalformedBody(FramingError),
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(_) => f.write_str("the connection closed before the request was sent"),
            Self::Interrupted => f.write_str("the client's request body ended early"),
            Self::Unanswered { error, .. } | Self::Broken(error) => {
                write!(f, "the connection failed: {}", error_text::connection(error))
            }
            Self::Invalid(why) => write!(f, "the response is not acceptable: {why}"),
            Self::MalformedBody(error) => write!(f, "the response's body is malformed: {}", error.detail()),
        }
    }
}
