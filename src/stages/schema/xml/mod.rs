//! XML bodies, alone or in a SOAP envelope: judged by XSD 1.0 in one pass, without a tree.
//!
//! Only XML 1.0. No DOCTYPE, and so no custom entities, no external resources and no default attributes; no
//! processing instructions but before the root element. Depth, attributes, names and namespaces are bounded; everything else
//! by the size of the body, which the work and the memory that it may take follow. A violation names the place and what is
//! wrong there, never the value.

mod encoding;
pub(crate) mod parts;
mod soap;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use mediatype::MediaType;

pub(crate) use self::encoding::Charset;
pub(crate) use self::soap::{Called, Soap};
use self::soap::{Envelope, EnvelopeError};
use super::json::violated;
use super::malformed::malformed;
use super::offload::offload;
use crate::body::no_memory;
use crate::budget::{MemoryBudget, Steps};
use crate::refusal::{Refusal, Stage, Violation};
use crate::xsd::compile::compile;
use crate::xsd::components::documents::{Found, Resolver};
use crate::xsd::document::malformed::{Lines, Malformed};
use crate::xsd::document::tokens::Accepts;
use crate::xsd::instance::{Bounds, Judge, Outer, Rejection, Surroundings, Verdict};
use crate::xsd::pointer::pointers;
use crate::xsd::problem::Problem;
use crate::xsd::schema::Schema;
use crate::xsd::validate::Limits;
use crate::xsd::wsdl::Description;

/// Bodies up to this many bytes are judged on the worker, in about a millisecond; larger ones on another thread, and those
/// that turn out to take longer.
pub(super) const AT_ONCE: usize = 64 << 10;
/// Steps on the worker.
const STEPS_AT_ONCE: u64 = 50_000;
/// Steps in all: so many, and so many for each byte.
const STEPS: u64 = 500_000;
const STEPS_PER_BYTE: u64 = 4;
/// Bytes of identifiers, keys, and values in several pieces, in all and for each byte of the body.
const MEMORY: usize = 512 << 10;
const MEMORY_PER_BYTE: usize = 18;
/// Most violations that are reported.
const MAX_VIOLATIONS: usize = 20;
/// Longest detail of one violation, in bytes.
const MAX_DETAIL: usize = 300;

/// What a body may have.
const BOUNDS: Bounds = Bounds {
    markup: Accepts { doctype: false, attributes: 128, name: 1 << 10 },
    instructions: false,
    depth: 256,
    namespaces: 64,
};

/// What a body is found to be: the operations of a WSDL that a request is for, if there is one; or refused.
pub(crate) type Judged = Result<Option<Arc<Called>>, Refusal>;

/// A compiled schema, and what it judges.
#[derive(Clone)]
pub(crate) struct XmlSchema {
    schema: Arc<Schema>,
    /// If present, the body is a SOAP message, and the schema judges the element in its Body.
    soap: Option<Soap>,
}

impl std::fmt::Debug for XmlSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "XmlSchema({:?})", self.soap)
    }
}

impl XmlSchema {
    /// Compiles a schema from its main document, with all that it includes, imports and redefines. The error is every problem
    /// that was found.
    pub(crate) fn new(main: Found, resolve: &mut Resolver<'_>) -> Result<Self, Vec<Problem>> {
        let schema = compile(vec![main], resolve)?;
        Ok(Self { schema: Arc::new(schema), soap: None })
    }

    /// Whether it is the schema of a WSDL.
    pub(crate) fn is_wsdl(&self) -> bool {
        self.description().is_some()
    }

    /// What the WSDL says; `None` if it is another schema.
    pub(crate) fn description(&self) -> Option<&Description> {
        self.schema.description.as_ref()
    }

    /// What it judges by.
    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The same schema, for the content of SOAP messages.
    pub(crate) fn in_envelope(&self, soap: Soap) -> Self {
        Self { soap: Some(soap), ..self.clone() }
    }

    /// The same schema for some operations of its WSDL, by position.
    pub(crate) fn only(&self, operations: &[bool]) -> Self {
        Self { soap: self.soap.as_ref().map(|soap| soap.only(operations.into())), ..self.clone() }
    }

    /// The same schema for a message with these headers, which say what a SOAP message is for; a response is to a request for
    /// what was `called`.
    pub(super) fn of(
        &self,
        media: &MediaType<'_>,
        headers: &HeaderMap,
        called: Option<&Arc<Called>>,
    ) -> Result<Cow<'_, Self>, Refusal> {
        Ok(match &self.soap {
            Some(soap) if self.is_wsdl() => {
                // Positions are those of one WSDL.
                let answers = called.filter(|called| Arc::ptr_eq(&called.schema, &self.schema)).cloned();
                Cow::Owned(self.in_envelope(soap.of(media, headers, answers)?))
            }
            _ => Cow::Borrowed(self),
        })
    }

    /// Judges a body if that takes little time, and is `None` otherwise. `charset` is what its media type says.
    pub(super) fn check_at_once(&self, body: &[u8], charset: Option<Charset>, memory: &MemoryBudget) -> Option<Judged> {
        if body.len() > AT_ONCE {
            return None;
        }
        self.judge(body, charset, memory, Steps::new(STEPS_AT_ONCE))
    }

    /// Judges a body on another thread.
    pub(super) async fn check(&self, body: &Bytes, charset: Option<Charset>, memory: &MemoryBudget) -> Judged {
        let (schema, body, memory) = (self.clone(), body.clone(), memory.clone());
        offload(move || schema.judge_whole(&body, charset, &memory).unwrap_or_else(|| Err(too_complex()))).await
    }

    /// Judges a body here. `None`: it is too complex to judge.
    pub(crate) fn judge_whole(&self, body: &[u8], charset: Option<Charset>, memory: &MemoryBudget) -> Option<Judged> {
        let steps = Steps::new(STEPS.saturating_add(STEPS_PER_BYTE.saturating_mul(body.len() as u64)));
        self.judge(body, charset, memory, steps)
    }

    /// Decides whether a body is acceptable XML, and valid. `None` if the steps are too few.
    fn judge(&self, body: &[u8], charset: Option<Charset>, memory: &MemoryBudget, steps: Steps) -> Option<Judged> {
        let (text, _taken) = match encoding::text(body, charset, memory) {
            Ok(text) => text,
            Err(refusal) => return Some(Err(refusal)),
        };
        let text = &*text;
        let mut message = Message::new(self.soap.as_ref(), self.description());
        Some(match self.judge_in(text, &mut message, steps, memory)? {
            Err(refusal) if refusal.violations().is_empty() => Err(refusal),
            // What is wrong with the envelope comes first: what is in it may not be what is meant.
            judged => match message.finish() {
                Ok(operations) => judged.map(|()| self.called(operations)),
                Err(error) => Err(bad_envelope(text, &error)),
            },
        })
    }

    /// What a message is for, if it is a request.
    fn called(&self, operations: Vec<usize>) -> Option<Arc<Called>> {
        let is_call = self.soap.as_ref().is_some_and(|soap| !soap.is_response()) && !operations.is_empty();
        is_call.then(|| Arc::new(Called { schema: Arc::clone(&self.schema), operations }))
    }

    fn judge_in(
        &self,
        text: &str,
        around: &mut Message<'_>,
        steps: Steps,
        memory: &MemoryBudget,
    ) -> Option<Result<(), Refusal>> {
        let most = MEMORY.saturating_add(MEMORY_PER_BYTE.saturating_mul(text.len()));
        let limits = Limits { steps, memory: most, violations: MAX_VIOLATIONS };
        let mut lines = Lines::new(text);
        let mut judge = Judge::new(&self.schema, around, (BOUNDS, limits), HashSet::new());
        judge.take_from(memory.reserve());
        let judged = match judge.feed(text, true) {
            // Later there may be more, unless it could not have enough alone.
            Err(Rejection::TooComplex) if let Some(kept) = judge.lacks_memory() => {
                let alone = text.len().saturating_add(kept) as u64;
                return (alone <= memory.limit()).then(|| Err(no_memory(Stage::Schema)));
            }
            Err(rejection) => Err(rejection),
            Ok(_) => judge.finish(),
        };
        match judged {
            Ok(()) => Some(Ok(())),
            Err(Rejection::TooComplex) => None,
            Err(Rejection::Malformed(Malformed { offset, message })) => {
                let place = at(lines.place(offset), &message);
                Some(Err(malformed(format!("the body is not acceptable XML: {place}"))))
            }
            Err(Rejection::Invalid(found)) => {
                let violations = pointers(text, &found)
                    .into_iter()
                    .zip(&found)
                    .map(|(pointer, found)| Violation::new(pointer, at(lines.place(found.offset), &found.message)));
                Some(Err(violated("the body", violations.collect())))
            }
        }
    }
}

/// What is around the element that the schema judges: an envelope, or nothing.
#[derive(Debug)]
struct Message<'s>(Option<Envelope<'s>>);

impl<'s> Message<'s> {
    fn new(soap: Option<&Soap>, wsdl: Option<&'s Description>) -> Self {
        Self(soap.map(|soap| Envelope::new(soap.clone(), wsdl)))
    }

    /// Checks at the end that nothing around is wrong. Returns the operations of a WSDL that it is for.
    fn finish(&self) -> Result<Vec<usize>, EnvelopeError> {
        self.0.as_ref().map_or(Ok(Vec::new()), Envelope::finish)
    }
}

impl Surroundings for Message<'_> {
    fn begins(&mut self, element: Outer<'_>) -> Verdict {
        self.0.as_mut().map_or(Verdict::Global, |envelope| envelope.begins(element))
    }

    fn text(&mut self, text: &str, depth: usize, offset: usize) {
        if let Some(envelope) = &mut self.0 {
            envelope.text(text, depth, offset);
        }
    }

    fn blank(&mut self, text: &str, depth: usize, offset: usize) {
        if let Some(envelope) = &mut self.0 {
            envelope.blank(text, depth, offset);
        }
    }
}

fn too_complex() -> Refusal {
    let detail = "too complex to judge: the document has too many keys, references, items of lists or nested elements for its \
                  schema, or long texts for its patterns; send less at a time";
    violated("the body", vec![Violation::new("/", detail)])
}

fn bad_envelope(text: &str, error: &EnvelopeError) -> Refusal {
    let detail = at(Lines::new(text).place(error.offset), &error.message);
    violated("the body", vec![Violation::new(error.path, detail)])
}

/// Words with a place before them.
fn at((line, column): (u32, u32), words: &str) -> String {
    let mut text = format!("line {line}, column {column}: {words}");
    if text.len() > MAX_DETAIL {
        text.truncate(text.floor_char_boundary(MAX_DETAIL));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
