//! One request to an upstream server and its response, over whichever version of HTTP the server speaks.

use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method};
use hyper::body::{Frame, SizeHint};

use super::connection::{Counted, UpstreamConnection};
use super::error::ResponseError;
use super::head::{Head, Interims};
use super::http2::Http2Stream;
use crate::body::Body;
use crate::proxy::deadline::Deadline;
use crate::proxy::headers::UpstreamHeaders;

/// A request and its response.
pub(crate) enum UpstreamExchange {
    /// On a connection of its own until it ends.
    Http1(Box<UpstreamConnection>),
    /// On a connection that it shares.
    Http2(Box<Http2Stream>),
}

/// The head of a request to a server.
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    /// Path and query.
    pub(crate) target: &'a str,
    /// Whether the server is called by TLS.
    pub(crate) is_https: bool,
    /// Host and port that the request is for.
    pub(crate) authority: &'a HeaderValue,
    /// What is added to, and dropped of, the client's fields.
    pub(crate) rules: &'a UpstreamHeaders<'a>,
    /// The client's fields.
    pub(crate) received: &'a HeaderMap,
}

impl UpstreamExchange {
    /// Begins the request, now. Nothing is sent before `poll_head`.
    pub(crate) fn begin(&mut self, head: &RequestHead<'_>, body: Body, now: Instant) {
        let RequestHead { method, target, authority, rules, received, .. } = *head;
        match self {
            Self::Http1(connection) => {
                connection.begin(method, target, |out| rules.write(out, authority, received), body, now);
                connection.switches = rules.switches;
            }
            Self::Http2(stream) => {
                let mut fields = HeaderMap::with_capacity(received.len() + ADDED_FIELDS);
                rules.write(&mut fields, authority, received);
                let scheme = if head.is_https { Scheme::HTTPS } else { Scheme::HTTP };
                stream.begin(method, (scheme, authority, target), fields, body, now);
            }
        }
    }

    /// Sends the request and waits for the head of the response.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, ResponseError>> {
        match self {
            Self::Http1(connection) => connection.poll_head(cx),
            Self::Http2(stream) => stream.poll_head(cx),
        }
    }

    /// Reads the next piece of the response's body, while the rest of the request's is sent.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        match self {
            Self::Http1(connection) => connection.poll_body(cx),
            Self::Http2(stream) => stream.poll_body(cx),
        }
    }

    /// Returns how many bytes were read of the response's body and are not taken yet. A stream of HTTP/2 is bounded by its window.
    pub(crate) fn read_ahead(&self) -> usize {
        match self {
            Self::Http1(connection) => connection.read_ahead(),
            Self::Http2(_) => 0,
        }
    }

    /// Reads little the next time, however much there is.
    pub(crate) fn read_less(&mut self) {
        if let Self::Http1(connection) = self {
            connection.read_less();
        }
    }

    /// Counts the request until it has ended.
    pub(crate) fn count(&mut self, counted: Counted) {
        match self {
            Self::Http1(connection) => connection.count(counted),
            Self::Http2(stream) => stream.count(counted),
        }
    }

    /// Takes the copy of the request's body, to send it elsewhere. Absent if the body is streaming.
    pub(crate) fn take_request(&mut self) -> Option<Body> {
        match self {
            Self::Http1(connection) => connection.take_request(),
            Self::Http2(stream) => stream.take_request(),
        }
    }

    /// Reads and drops the body of the response, if its connection needs that to be kept. Returns whether it has ended.
    pub(crate) fn discard_body(&mut self) -> bool {
        match self {
            Self::Http1(connection) => connection.discard_body(),
            // Others go on beside it.
            Self::Http2(stream) => stream.has_ended(),
        }
    }

    /// Whether the whole body of the response is known to have arrived.
    pub(crate) fn has_arrived(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.has_arrived(),
            Self::Http2(stream) => stream.has_ended(),
        }
    }

    /// Whether the whole body of the response has been read.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.has_ended(),
            Self::Http2(stream) => stream.has_ended(),
        }
    }

    /// Returns the remaining size of the response's body.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(connection) => connection.size_hint(),
            Self::Http2(stream) => stream.size_hint(),
        }
    }

    /// The interim responses.
    pub(crate) fn interims(&mut self) -> &mut Interims {
        match self {
            Self::Http1(connection) => &mut connection.interims,
            Self::Http2(stream) => &mut stream.interims,
        }
    }

    /// The timer for every wait for the server.
    pub(crate) fn deadline(&mut self) -> &mut Deadline {
        match self {
            Self::Http1(connection) => &mut connection.deadline,
            Self::Http2(stream) => &mut stream.deadline,
        }
    }

    /// When the server stopped accepting what is sent to it.
    pub(crate) fn stalled(&self) -> Option<Instant> {
        match self {
            Self::Http1(connection) => connection.stalled,
            Self::Http2(stream) => stream.stalled,
        }
    }

    /// When the request began.
    pub(crate) fn begun(&self) -> Instant {
        match self {
            Self::Http1(connection) => connection.begun,
            Self::Http2(stream) => stream.begun,
        }
    }

    /// Records that nobody waits for the server any more. A connection of HTTP/1.1 ends with its request.
    pub(crate) fn gave_up(&self) {
        if let Self::Http2(stream) = self {
            stream.gave_up();
        }
    }
}

/// How many fields the proxy adds to most requests.
const ADDED_FIELDS: usize = 12;
