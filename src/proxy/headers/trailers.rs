//! The trailers of a request, without those that the policy drops from heads.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::rules::{remove, strip_trailers};
use crate::body::Source;
use crate::policy::header_rules::HeaderRules;

/// A body without the trailers that a policy drops or reads from heads.
#[derive(Debug)]
pub(crate) struct PolicyTrailers {
    body: Source,
    rules: Arc<HeaderRules>,
}

impl PolicyTrailers {
    /// Wraps a body where the policy has rules of its own; others have had their trailers removed already.
    pub(crate) fn wrap(body: Source, rules: &Arc<HeaderRules>) -> Source {
        let Source::Client(..) = body else { return body };
        if !rules.has_any() {
            return body;
        }
        Source::client(Self { body, rules: Arc::clone(rules) }, strip_trailers)
    }
}

impl Body for PolicyTrailers {
    type Data = Bytes;
    type Error = Box<dyn Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Box<dyn Error>>>> {
        let Self { body, rules } = &mut *self;
        Pin::new(body).poll_frame(cx).map_ok(|frame| match frame.into_trailers() {
            Ok(mut trailers) => {
                remove(&mut trailers, |name| rules.drops_trailer(name));
                Frame::trailers(trailers)
            }
            Err(data) => data,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
