//! Takes what a client, an upstream or an operator sends, as bytes, through the code that `run` uses.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;

use super::request::{Moment, ParsedHead};
use super::trace::RehearsalTrace;
use super::{Rehearsal, Verdict, verdict};
use crate::admin;
use crate::chain::{self, Trace};
use crate::exchange::Peer;
use crate::proxy::http1::fields::HeadLimits;
use crate::proxy::http1::framing_error::FramingError;
use crate::proxy::http1::reader::Reader;
use crate::proxy::request::target;
use crate::refusal::Refusal;
use crate::stages::schema::response::Expected;

/// The bytes of a client connection, as they arrive.
struct Arriving<'a> {
    reader: Reader,
    /// What has arrived and is not parsed yet.
    input: Bytes,
    pieces: std::slice::Chunks<'a, u8>,
}

impl Rehearsal {
    /// Reads the requests of one connection, whose bytes arrive in pieces of at most `piece` bytes, and decides about each.
    /// Ends like a connection: with the first request that is incomplete, or refused for its framing. `second` is the time,
    /// since 1970. Needs a tokio runtime with time.
    pub async fn connection(&self, sent: &[u8], piece: usize, second: i64) -> Vec<Verdict> {
        self.decisions(sent, piece, second).await.iter().map(|decided| decided.as_ref().err().map(verdict)).collect()
    }

    /// The same for the first request of a connection that arrives at once. Returns why it is refused, in words.
    pub async fn why_refused(&self, sent: &[u8], second: i64) -> Option<String> {
        let mut decisions = self.decisions(sent, sent.len(), second).await.into_iter();
        match decisions.next() {
            None => Some("the request is incomplete".to_owned()),
            Some(decided) => decided.err().as_ref().map(in_words),
        }
    }

    async fn decisions(&self, sent: &[u8], piece: usize, second: i64) -> Vec<Result<(), Refusal>> {
        let at = Timestamp::from_second(second).unwrap_or_default();
        let moment = Moment { at, since: Duration::ZERO };
        let limits = self.policy().limits();
        let reader = Reader::new(HeadLimits { size: limits.header_size, headers: limits.headers });
        let mut arriving = Arriving { reader, input: Bytes::new(), pieces: sent.chunks(piece.max(1)) };
        let peer = Peer::new(([127, 0, 0, 1], 1).into(), None);
        let mut decisions = Vec::new();
        loop {
            match arriving.request() {
                Ok(None) => return decisions,
                Ok(Some((head, body))) => {
                    let mut trace = RehearsalTrace::of(head.method.as_str(), head.uri.path());
                    decisions.push(self.decide(&head, body, &peer, moment, &mut trace).await);
                }
                Err(error) => {
                    decisions.push(Err(target::malformed_framing(error)));
                    return decisions;
                }
            }
        }
    }

    /// Decides about the response of an upstream to a request with this method and path, which must have a route.
    /// `None`: it goes to the client.
    pub async fn response(
        &self,
        method: &Method,
        path: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Verdict {
        self.released(method, path, status, headers, body).await.err().as_ref().map(verdict)
    }

    /// The same, with why it is refused, in words.
    pub async fn why_withheld(
        &self,
        method: &Method,
        path: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Option<String> {
        self.released(method, path, status, headers, body).await.err().as_ref().map(in_words)
    }

    async fn released(
        &self,
        method: &Method,
        path: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<(), Refusal> {
        let route = self.policy().route("", method, path, None)?;
        let Some(requirement) = &route.response else { return Ok(()) };
        let Some(expected) = requirement.of(status, headers) else { return Ok(()) };
        let mut trace = Trace::default();
        match expected {
            Expected::Nothing if body.is_empty() => Ok(()),
            Expected::Contents(_) if body.is_empty() && requirement.accepts_nothing(status) => Ok(()),
            Expected::Nothing => chain::release_undescribed(route, requirement, status, &mut trace),
            Expected::Contents(contents) => {
                let fits = body.len() as u64 <= requirement.max_size;
                let whole = if fits { Ok(body) } else { Err(requirement.too_large()) };
                chain::release(self.in_force(), route, requirement, contents, headers, whole, &mut trace).await
            }
        }
    }

    /// Decides about an operator's request on the registry. Returns the status.
    pub async fn operate(&self, method: &Method, target: &str, body: &[u8]) -> StatusCode {
        admin::without_store(self.in_force(), method, target, body).await
    }
}

/// Status, code, and what is wrong, at which place.
fn in_words(refusal: &Refusal) -> String {
    let (status, code) = verdict(refusal);
    let mut text = format!("{status} {code}: {}", refusal.logged().unwrap_or(refusal.detail()));
    for found in refusal.violations() {
        text.push_str(&format!(" | {} {}", found.pointer, found.detail));
    }
    text
}

impl Arriving<'_> {
    /// Appends the next piece to the input. Returns false after the last.
    fn more(&mut self) -> bool {
        let next = self.pieces.next();
        self.input = [self.input.as_ref(), next.unwrap_or_default()].concat().into();
        next.is_some()
    }

    /// Returns the next request, or `None` if it is incomplete.
    fn request(&mut self) -> Result<Option<(ParsedHead, Bytes)>, FramingError> {
        let head = loop {
            match self.reader.head(&mut self.input)? {
                Some(head) => break head,
                None if self.more() => {}
                None => return Ok(None),
            }
        };
        let mut body = BytesMut::new();
        while !self.reader.between_messages() {
            match self.reader.body(&mut self.input)? {
                Some(frame) => body.extend_from_slice(&frame.into_data().unwrap_or_default()),
                None if self.reader.between_messages() || self.more() => {}
                None => return Ok(None),
            }
        }
        Ok(Some((head.into(), body.freeze())))
    }
}
