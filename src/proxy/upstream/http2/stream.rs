//! One request on an HTTP/2 connection, and its response.
//!
//! The request that uses a stream drives it, as in HTTP/1.1: the rest of its body is sent while the response is read. Dropping it
//! before the response has ended cancels the call.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::body::{Body as _, Frame, SizeHint};

use super::super::connection::Counted;
use super::super::error::ResponseError;
use super::super::head::{Head, Interims, MAX_HEADERS};
use super::connection::{Http2Connection, io_error};
use crate::body::Body;
use crate::proxy::deadline::Deadline;

/// Most bytes of a streaming body that are kept for a server that has not handled them.
const MAX_KEPT: usize = 16 * 1024;

/// A request on a connection.
pub(crate) struct Http2Stream {
    connection: Rc<Http2Connection>,
    /// The head of the request, until it is sent, and whether that is all.
    request: Option<(Request<()>, bool)>,
    response: Option<ResponseFuture>,
    sending: Option<SendStream<Bytes>>,
    receiving: Option<RecvStream>,
    /// The request's body; all of it was taken if `sending` is absent.
    body: Option<Body>,
    /// What was taken of it, and is not sent.
    piece: Bytes,
    /// A copy of what was taken of a streaming body, as long as that is little, and the response has not begun. A piece itself may
    /// keep a large buffer.
    kept: Option<Vec<u8>>,
    /// A copy of the request's body for a retry, when it is buffered as a whole.
    retry_body: Option<Body>,
    is_head: bool,
    /// Bytes of the response whose window is not given back: they may not have been passed on.
    unreleased: usize,
    /// The rest of a response that says how long it is.
    length: Option<u64>,
    /// The response was read whole.
    ended: bool,
    /// What the connection had answered when the request began.
    answers_before: u64,
    /// The interim responses to the request.
    pub(in crate::proxy::upstream) interims: Interims,
    /// When the server stopped accepting the body.
    pub(in crate::proxy::upstream) stalled: Option<Instant>,
    /// The timer for every wait.
    pub(in crate::proxy::upstream) deadline: Deadline,
    /// When the request began.
    pub(in crate::proxy::upstream) begun: Instant,
    /// Counts the request.
    counted: Option<Counted>,
}

impl Http2Stream {
    /// Returns a stream on this connection, without a request yet.
    pub(super) fn on(connection: Rc<Http2Connection>) -> Box<Self> {
        let (deadline, answers_before) = (connection.begin(), connection.answers());
        Box::new(Self {
            connection,
            request: None,
            response: None,
            sending: None,
            receiving: None,
            body: None,
            piece: Bytes::new(),
            kept: None,
            retry_body: None,
            is_head: false,
            unreleased: 0,
            length: None,
            ended: false,
            answers_before,
            interims: Interims::default(),
            stalled: None,
            deadline,
            begun: Instant::now(),
            counted: None,
        })
    }

    /// Begins the request, now. `fields` are those of its head, except those about the length of the body. Nothing is sent before
    /// `poll_head`.
    pub(in crate::proxy::upstream) fn begin(
        &mut self,
        method: &Method,
        (scheme, authority, target): (Scheme, &HeaderValue, &str),
        mut fields: HeaderMap,
        body: Body,
        now: Instant,
    ) {
        let (ended, length) = (body.is_end_stream(), body.size_hint().exact());
        match length {
            // As in HTTP/1.1.
            Some(0) if ended && !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {}
            Some(length) => drop(fields.insert(CONTENT_LENGTH, length.into())),
            None => {}
        }
        let uri = Uri::builder().scheme(scheme).authority(authority.as_bytes());
        let mut request = Request::new(());
        (*request.method_mut(), *request.headers_mut()) = (method.clone(), fields);
        // Both were read as parts of a URI before. What is none after all is refused when it is sent.
        if let Ok(target) = target.parse::<PathAndQuery>()
            && let Ok(uri) = uri.path_and_query(target).build()
        {
            *request.uri_mut() = uri;
            self.request = Some((request, ended));
        }
        self.retry_body = body.copy();
        self.kept = self.retry_body.is_none().then(Vec::new);
        self.is_head = *method == Method::HEAD;
        self.body = Some(body);
        self.begun = now;
    }

    /// Sends the request and waits for the head of the response.
    pub(in crate::proxy::upstream) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, ResponseError>> {
        if let Some((request, ended)) = self.request.take() {
            match self.connection.send(request, ended) {
                Ok((response, sending)) => {
                    (self.response, self.sending) = (Some(response), Some(sending).filter(|_| !ended));
                }
                Err(error) => return Poll::Ready(Err(self.unsent(error))),
            }
        }
        self.push(cx)?;
        let Some(response) = &mut self.response else {
            return Poll::Ready(Err(ResponseError::Invalid("the request's host or target is not one of HTTP/2")));
        };
        while let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            match interim {
                Ok(interim) => self.interims.take_http2(interim.status(), interim.headers())?,
                Err(error) => return Poll::Ready(Err(self.failed(error))),
            }
        }
        let (head, receiving) = match ready!(Pin::new(response).poll(cx)) {
            Ok(response) => response.into_parts(),
            Err(error) => {
                self.response = None;
                return Poll::Ready(Err(self.failed(error)));
            }
        };
        self.connection.answered();
        (self.response, self.kept) = (None, None);
        let is_bodiless = self.is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.ended = is_bodiless || receiving.is_end_stream();
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        self.length = length.filter(|_| !self.ended);
        self.receiving = Some(receiving);
        Poll::Ready(Head::of_http2(head.status, head.headers))
    }

    /// Reads the next piece of the response's body, while the rest of the request's is sent.
    pub(in crate::proxy::upstream) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        if let Err(error) = self.push(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let Some(receiving) = &mut self.receiving else { return Poll::Ready(None) };
        loop {
            // What was read before has been passed on. This fails only if the stream has ended.
            let _ = receiving.flow_control().release_capacity(std::mem::take(&mut self.unreleased));
            match ready!(receiving.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.connection.answered();
                    self.unreleased = data.len();
                    self.length = self.length.map(|length| length.saturating_sub(data.len() as u64));
                    self.ended = receiving.is_end_stream();
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    if self.ended {
                        return Poll::Ready(None);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(broken(error)))),
                None => break,
            }
        }
        let trailers = ready!(receiving.poll_trailers(cx));
        self.ended = true;
        Poll::Ready(match trailers {
            Ok(None) => None,
            Ok(Some(trailers)) if trailers.len() > MAX_HEADERS => {
                Some(Err(ResponseError::Invalid("it has too many trailers")))
            }
            Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(broken(error))),
        })
    }

    /// Counts the request until it has ended.
    pub(in crate::proxy::upstream) fn count(&mut self, counted: Counted) {
        self.counted = Some(counted);
    }

    /// Takes the copy of the request's body, to send it elsewhere.
    pub(in crate::proxy::upstream) fn take_request(&mut self) -> Option<Body> {
        self.retry_body.take()
    }

    /// Whether the whole response has been read.
    pub(in crate::proxy::upstream) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns the remaining size of the response's body.
    pub(in crate::proxy::upstream) fn size_hint(&self) -> SizeHint {
        match self.length {
            _ if self.ended => SizeHint::with_exact(0),
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::new(),
        }
    }

    /// Records that nobody waits for the server any more.
    pub(in crate::proxy::upstream) fn gave_up(&self) {
        self.connection.gave_up(self.answers_before);
    }

    /// Sends what can be sent now of the body. A returned error ends the request. A failure to send alone does not, because there
    /// may be a response all the same (RFC 9113 §8.1).
    fn push(&mut self, cx: &mut Context<'_>) -> Result<(), ResponseError> {
        let Self { sending: Some(sending), body: Some(body), piece, kept, .. } = self else { return Ok(()) };
        let sent = loop {
            if !piece.is_empty() {
                sending.reserve_capacity(piece.len());
                if sending.capacity() == 0 {
                    match sending.poll_capacity(cx) {
                        Poll::Pending => {
                            self.stalled.get_or_insert_with(Instant::now);
                            return Ok(());
                        }
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(Some(Err(_)) | None) => break Err(()),
                    }
                }
                let part = piece.split_to(sending.capacity().min(piece.len()));
                if part.is_empty() {
                    continue;
                }
                self.stalled = None;
                let is_last = piece.is_empty() && body.is_end_stream();
                match sending.send_data(part, is_last) {
                    Ok(()) if is_last => break Ok(()),
                    Ok(()) => continue,
                    Err(_) => break Err(()),
                }
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Err(_))) => return Err(ResponseError::Interrupted),
                Poll::Ready(None) => break sending.send_data(Bytes::new(), true).map_err(drop),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        keep(kept, &data);
                        *piece = data;
                    }
                    Err(frame) => {
                        *kept = None;
                        let trailers = frame.into_trailers().unwrap_or_default();
                        break sending.send_trailers(trailers).map_err(drop);
                    }
                },
            }
        };
        if sent.is_err() {
            *piece = Bytes::new();
        }
        (self.sending, self.stalled) = (None, None);
        Ok(())
    }

    /// Takes the request's body as it was before anything of it was sent, if that is still known.
    fn take_body(&mut self) -> Option<Body> {
        let mut body = self.body.take()?;
        match self.kept.take() {
            None => self.retry_body.take(),
            Some(kept) => {
                body.put_back(kept.into());
                Some(body)
            }
        }
    }

    /// The request could not be sent on this connection.
    fn unsent(&mut self, error: h2::Error) -> ResponseError {
        match self.take_body() {
            Some(body) => ResponseError::Unsent(body),
            None => ResponseError::Broken(io_error(error)),
        }
    }

    /// Why there is no head of a response.
    fn failed(&mut self, error: h2::Error) -> ResponseError {
        // It is the server that has ended it.
        (self.response, self.sending) = (None, None);
        if self.interims.are_any() {
            return broken(error);
        }
        if is_unhandled(&error) {
            return self.unsent(error);
        }
        let reused = self.answers_before > 0;
        match broken(error) {
            ResponseError::Broken(error) => ResponseError::Unanswered { error, reused, body: self.retry_body.take() },
            other => other,
        }
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        // h2 resets a stream of which one side is open, whether or not anybody waits for it.
        let is_receiving = self.receiving.as_ref().is_some_and(|receiving| !receiving.is_end_stream());
        let is_cancelled = self.response.is_some() || self.sending.is_some() || is_receiving;
        self.connection.end(std::mem::take(&mut self.deadline), is_cancelled);
    }
}

/// Keeps a piece of a streaming body, unless there are too many.
fn keep(kept: &mut Option<Vec<u8>>, piece: &[u8]) {
    match kept {
        Some(before) if before.len() + piece.len() <= MAX_KEPT => before.extend_from_slice(piece),
        _ => *kept = None,
    }
}

/// Whether the server says that it has not handled the request: it refuses the stream, or it ends the connection and the stream is
/// not among those that it has handled (RFC 9113 §6.8, §8.7).
fn is_unhandled(error: &h2::Error) -> bool {
    let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || is_refused)
}

/// Why a response ended early.
fn broken(error: h2::Error) -> ResponseError {
    match error.reason() {
        _ if error.is_library() => ResponseError::Invalid("it violates HTTP/2"),
        Some(reason) if error.is_reset() => ResponseError::Reset(reason),
        _ => ResponseError::Broken(io_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streaming_body_is_kept_as_long_as_it_is_small() {
        let mut kept = Some(Vec::new());
        for (size, expected) in
            [(0, Some(0)), (MAX_KEPT - 1, Some(MAX_KEPT - 1)), (1, Some(MAX_KEPT)), (1, None), (1, None)]
        {
            keep(&mut kept, &vec![0; size]);
            assert_eq!(kept.as_ref().map(Vec::len), expected, "{size}");
        }
    }
}
