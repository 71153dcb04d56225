//! Schema validation: decides whether a request's parameters and body conform to the route's schemas.
//!
//! On a route with `request`, the whole body is read, decoded and checked before anything is forwarded, and exactly the
//! checked bytes are forwarded. Other routes stream the body, within bounds. This is the last stage, so that no
//! unauthenticated caller can make us read a body.

pub(crate) mod content;
pub(crate) mod cookies;
mod cost;
mod draft;
mod ecma_regex;
mod encoding;
mod fast_path;
pub(crate) mod fields;
pub(crate) mod form;
pub(crate) mod formats;
pub(crate) mod json;
mod malformed;
pub(crate) mod media_type;
mod multipart;
mod multiple;
mod nested;
pub(crate) mod object;
mod offload;
pub(crate) mod parameters;
#[cfg(test)]
mod readers;
pub(crate) mod response;
mod scalar;
pub(crate) mod segment;
mod text_encoding;
pub(crate) mod unambiguous;
mod value_type;
pub(crate) mod xml;

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_RANGE, HeaderName};
use hyper::body::Body as _;

use self::content::{Content, Contents};
use self::encoding::Encoding;
use self::malformed::malformed;
use self::parameters::Parameters;
use self::xml::Called;
use self::xml::parts::Parts;
use crate::body::{Body, Counter, Source, Uncollected, too_large};
use crate::budget::MemoryBudget;
use crate::exchange::Request;
use crate::refusal::Refusal;

/// What a route requires of its requests.
#[derive(Debug)]
pub(crate) struct Requirement {
    /// Schemas of path, query, headers and cookies.
    parameters: Option<Box<Parameters>>,
    /// If present, the body must be one of these; otherwise it is streamed.
    contents: Option<Contents>,
    /// Whether a body is required, if it is checked.
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

/// A request that violates the requirement.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) refusal: Refusal,
    /// The unmodified body, for a route that only reports violations. `None` if the request cannot continue: the client
    /// broke off the body, or it exceeds all bounds.
    pub(crate) body: Option<Body>,
}

impl Requirement {
    /// Allows any body.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { parameters: None, contents: None, required: false, bounds }
    }

    /// Requires a body of one of these media types, or none if it is not `required`.
    pub(crate) fn body(self, contents: Contents, required: bool) -> Self {
        Self { contents: Some(contents), required, ..self }
    }

    /// What path, query, headers and cookies must be.
    pub(crate) fn parameters(self, parameters: Parameters) -> Self {
        Self { parameters: Some(Box::new(parameters)), ..self }
    }

    /// The headers that are validated.
    pub(crate) fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        let headers = self.parameters.as_ref().and_then(|parameters| parameters.headers.as_ref());
        headers.into_iter().flat_map(|group| group.fields.iter().map(|(_, name)| name))
    }

    /// The media types of bodies, as ranges; `None` if any is taken.
    pub(crate) fn media_types(&self) -> Option<Vec<String>> {
        self.contents.as_ref().map(Contents::ranges)
    }

    /// Whether a body is required.
    pub(crate) fn is_required(&self) -> bool {
        self.required
    }

    /// Most bytes of a body.
    pub(crate) fn max_size(&self) -> u64 {
        self.bounds.max_size
    }

    /// Whether requests are validated against a schema.
    pub(crate) fn is_checked(&self) -> bool {
        self.contents.is_some() || self.parameters.is_some()
    }

    /// Most bytes of a body that is held to be checked; `None` if bodies are streamed.
    pub(crate) fn held_size(&self) -> Option<u64> {
        self.contents.as_ref().map(|_| self.bounds.max_size)
    }

    /// Checks a request, and returns the body to forward. A body that is held and decoded takes its bytes from `memory`. A SOAP
    /// request sets `called`, which its response has to fit.
    pub(crate) async fn admit(
        &self,
        request: &Request<'_>,
        body: Source,
        counter: &Counter,
        memory: &MemoryBudget,
        called: &mut Option<Arc<Called>>,
    ) -> Result<Body, Rejected> {
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
        // Many clients always send a Content-Type.
        if !self.required && body.is_end_stream() {
            return Ok(Body::whole(bytes::Bytes::new()));
        }
        let (content, media) = match contents.of(request.headers) {
            None => return Err(untouched(contents.unsupported(), body)),
            Some((Content::Unchecked, _)) => return Ok(Body::streaming(body, counter, max_size, deadline)),
            Some(found) => found,
        };
        if request.headers.contains_key(CONTENT_RANGE) {
            // RFC 9110 §14.5: the body is a part, which the upstream would put into what was never checked with it.
            return Err(untouched(malformed("send the whole body, without `Content-Range`"), body));
        }
        let encoding = match Encoding::of(request.headers) {
            Err(refusal) => return Err(untouched(refusal, body)),
            Ok(encoding) => encoding,
        };
        let mut parts = content.in_parts(&media, request.headers, &body.size_hint(), memory, called.as_ref());
        let look = |come: &[u8]| parts.as_mut().is_some_and(|parts| parts.go_on(come));
        let limits = (max_size, outer_size);
        let received = match Box::pin(crate::body::collect(body, counter, limits, deadline, memory, look)).await {
            Err(Uncollected { refusal, body }) => return Err(Rejected { refusal, body }),
            // A body in chunks shows only now that there is none.
            Ok(received) if received.is_empty() && !self.required => return Ok(Body::whole(received)),
            Ok(received) => received,
        };
        let checked = match encoding.decode(received.clone(), max_size, memory).await {
            Ok(decoded) if ends_valid(parts, &decoded, called) => Ok(()),
            Ok(decoded) => content.check(&media, request.headers, &decoded, memory, called).await,
            Err(refusal) => Err(refusal),
        };
        match checked {
            Ok(()) => Ok(Body::whole(received)),
            Err(refusal) => Err(Rejected { refusal, body: Some(Body::whole(received)) }),
        }
    }
}

/// Whether a body was found valid while it came, whose rest is here now. Sets what it has `called`.
fn ends_valid(parts: Option<Box<Parts<'_>>>, body: &bytes::Bytes, called: &mut Option<Arc<Called>>) -> bool {
    let Some(calls) = parts.and_then(|parts| parts.ends_valid(body)) else { return false };
    *called = calls;
    true
}
