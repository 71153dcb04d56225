//! With what body: decides whether a request's body is what the route asks for.
//!
//! A route with `request` has its body read whole, decoded and checked before anything is sent on, and what is sent on
//! are the very bytes that were checked. A route without streams it through, within bounds. The body comes last of all
//! stages, so that nobody unknown makes us read one.

pub(crate) mod content;
mod encoding;
mod fast_path;
pub(crate) mod fields;
pub(crate) mod form;
pub(crate) mod json;
pub(crate) mod media_type;
mod offload;
pub(crate) mod parameters;
pub(crate) mod response;
pub(crate) mod xml;

use std::time::Duration;

use http::header::CONTENT_TYPE;
use hyper::body::Body as _;

use self::content::{Content, Contents};
use self::encoding::Encoding;
use self::parameters::Parameters;
use crate::body::{Body, Counter, Source, Uncollected, too_large};
use crate::exchange::Request;
use crate::refusal::{Members, Reason, Refusal, Stage};

/// What a route asks of its requests.
#[derive(Debug)]
pub(crate) struct Requirement {
    /// What path, query, headers and cookies must be.
    parameters: Option<Box<Parameters>>,
    /// Present: the body must be one of these. Absent: it is streamed through.
    contents: Option<Contents>,
    /// Whether there must be a body, where it is looked at.
    required: bool,
    bounds: Bounds,
}

/// Bounds of a request's body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most bytes, before and after decoding.
    pub(crate) max_size: u64,
    /// Most bytes that are let through where `max_size` is only reported.
    pub(crate) outer_size: u64,
    /// Deadline for the whole body.
    pub(crate) deadline: Duration,
}

/// A request that is not as it must be.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// Why.
    pub(crate) refusal: Refusal,
    /// Its body, untouched, for a route that only reports. None where there is no going on: the client broke it off, or it
    /// is past all bounds.
    pub(crate) body: Option<Body>,
}

impl Requirement {
    /// A body of any kind.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { parameters: None, contents: None, required: false, bounds }
    }

    /// A body of one of these kinds; whether there must be one.
    pub(crate) fn body(self, contents: Contents, required: bool) -> Self {
        Self { contents: Some(contents), required, ..self }
    }

    /// What path, query, headers and cookies must be.
    pub(crate) fn parameters(self, parameters: Parameters) -> Self {
        Self { parameters: Some(Box::new(parameters)), ..self }
    }

    /// Whether a request is held against a schema.
    pub(crate) fn is_checked(&self) -> bool {
        self.contents.is_some() || self.parameters.is_some()
    }

    /// Decides, and returns the body to send on.
    pub(crate) async fn admit(&self, request: &Request<'_>, body: Source, counter: &Counter) -> Result<Body, Rejected> {
        let Bounds { max_size, outer_size, deadline } = self.bounds;
        let untouched = |refusal, body: Source| {
            let fits = body.size_hint().lower() <= outer_size;
            Rejected { refusal, body: fits.then(|| Body::streaming(body, counter, outer_size, deadline)) }
        };
        if let Some(parameters) = &self.parameters
            && let Err(refusal) = parameters.check(request)
        {
            return Err(untouched(refusal, body));
        }
        if body.size_hint().lower() > max_size {
            return Err(untouched(too_large(max_size).closing(), body));
        }
        let Some(contents) = &self.contents else {
            return Ok(Body::streaming(body, counter, max_size, deadline));
        };
        if !self.required && body.is_end_stream() && !request.headers.contains_key(CONTENT_TYPE) {
            return Ok(Body::whole(bytes::Bytes::new()));
        }
        let (content, media) = match contents.of(request.headers) {
            None => return Err(untouched(contents.unsupported(), body)),
            Some((Content::Unchecked, _)) => return Ok(Body::streaming(body, counter, max_size, deadline)),
            Some(found) => found,
        };
        let encoding = match Encoding::of(request.headers) {
            Err(refusal) => return Err(untouched(refusal, body)),
            Ok(encoding) => encoding,
        };
        let received = match Box::pin(crate::body::collect(body, counter, (max_size, outer_size), deadline)).await {
            Err(Uncollected { refusal, body }) => return Err(Rejected { refusal, body }),
            Ok(received) => received,
        };
        let judged = match encoding.decode(received.clone(), max_size) {
            Ok(decoded) => content.check(&media, &decoded).await,
            Err(refusal) => Err(refusal),
        };
        let body = Body::whole(received);
        match judged {
            Ok(()) => Ok(body),
            Err(refusal) => Err(Rejected { refusal, body: Some(body) }),
        }
    }
}

/// Refuses a body that is not what its form says.
fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Stage::Schema, Reason::MalformedBody, detail).members(Members::default())
}
