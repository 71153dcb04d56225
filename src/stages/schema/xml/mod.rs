//! XML bodies: screened by our own guard, then validated against XSD 1.0.
//!
//! The schema is compiled once, with the policy. [`guard`] first accepts only the XML features that a body needs; then
//! [`libxml2`] parses and validates it. A violation names the location and the constraint, never the value.

mod guard;
mod libxml2;
mod namespaces;
mod pattern;
mod place;
mod problem;
mod settings;
mod soap;
mod sources;
mod words;

use std::sync::Arc;

use bytes::Bytes;

use self::guard::Guard;
use self::libxml2::{LibraryError, Verdict};
use self::place::Index;
use self::problem::Position;
pub(crate) use self::problem::XmlProblem;
pub(crate) use self::settings::{Soap, XmlSettings};
use self::soap::{Payload, SoapError};
use self::sources::Sources;
use super::json::violated;
use super::malformed::malformed;
use super::offload::{offload, undecided};
use crate::refusal::{Refusal, Violation};

/// Bodies up to this many bytes are validated on the worker; larger ones on another thread, so that the worker can serve
/// other requests.
const MAX_INLINE: usize = 64 << 10;
/// What to do about a pattern that is slow.
const SLOW_PATTERN: &str = "libxml2 matches by backtracking, which takes hours for some texts: let a repetition and what \
    follows it begin with different characters (`[^@]+@[^@]+`, not `.+@.+`), and write common prefixes once \
    (`a(b|c)`, not `ab|ac`)";
/// Most bytes of a violation's pointer.
const MAX_POINTER: usize = 300;

/// A compiled XSD.
#[derive(Clone)]
pub(crate) struct XmlSchema(Arc<Compiled>);

struct Compiled {
    schema: libxml2::Schema,
    settings: XmlSettings,
}

impl std::fmt::Debug for XmlSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "XmlSchema({:?})", self.0.settings)
    }
}

impl XmlSchema {
    /// Compiles the schema in the file `name`, with all that it includes, imports and redefines. Names are relative to the
    /// policy's folder. `read` returns the text of a file, or why it cannot be read.
    pub(crate) fn new(
        name: &str,
        settings: XmlSettings,
        read: &mut dyn FnMut(&str) -> Result<Arc<str>, String>,
    ) -> Result<Self, XmlProblem> {
        let library = libxml2::load().map_err(|message| XmlProblem {
            help: Some(
                "XML schemas need libxml2: install the package `libxml2` (`libxml2-16` on newer Debian and Ubuntu)"
                    .to_owned(),
            ),
            ..XmlProblem::of(name, message)
        })?;
        let sources = Sources::gather(name, read)?;
        let schema = library.compile(sources.documents()).map_err(|errors| {
            let Some(error) = errors.into_iter().next() else {
                return XmlProblem::of(name, "the schema does not compile, and libxml2 does not say why");
            };
            let file = error.file.as_deref().and_then(|document| sources.name_of(document)).unwrap_or(name);
            let line = Some(error.line).filter(|line| *line > 0);
            XmlProblem { line, ..XmlProblem::of(file, words::of_schema(&error)) }
        })?;
        match sources.patterns().find(|(_, pattern)| !pattern::is_linear(pattern)) {
            Some((place, pattern)) => Err(XmlProblem {
                help: Some(SLOW_PATTERN.to_owned()),
                message: format!("a text can make the pattern `{}` very slow", words::cut(pattern.to_owned(), 100)),
                ..place
            }),
            None => Ok(Self(Arc::new(Compiled { schema, settings }))),
        }
    }

    /// Decides whether a body is well formed, harmless, and valid.
    pub(crate) async fn check(&self, body: &Bytes) -> Result<(), Refusal> {
        if body.len() <= MAX_INLINE {
            return self.0.validate(body);
        }
        let (compiled, body) = (Arc::clone(&self.0), body.clone());
        offload(move || compiled.validate(&body)).await
    }
}

impl Compiled {
    fn validate(&self, body: &[u8]) -> Result<(), Refusal> {
        let text = guard::text(body)
            .map_err(|error| malformed(format!("the body is not acceptable XML: {}", error.message)))?;
        let guard = Guard::new(text, &self.settings);
        let payload = match &self.settings.soap {
            None => guard.finish().map(|()| None).map_err(SoapError::Xml),
            Some(soap) => soap::find_payload(guard, soap).map(Some),
        };
        match payload {
            Ok(None) => self.check_against_schema(text, Some(&[])),
            Ok(Some(Payload::InBody(body))) => self.check_against_schema(text, Some(&[body, 0])),
            Ok(Some(Payload::Fault)) => self.check_against_schema(text, None),
            Err(SoapError::Xml(error)) => Err(unacceptable(guard::position_of(text, error.offset), &error.message)),
            Err(SoapError::Envelope(path, error)) => {
                let detail = words::at(guard::position_of(text, error.offset), &error.message);
                Err(violated("the body", vec![Violation::new(path, detail)]))
            }
        }
    }

    /// Lets libxml2 parse the body, and validate the element at the path `steps`.
    fn check_against_schema(&self, text: &str, steps: Option<&[usize]>) -> Result<(), Refusal> {
        self.schema.validate(text, steps).map_err(|verdict| match verdict {
            Verdict::Malformed(error) => {
                let place = Position { line: error.line as usize, column: error.column as usize };
                unacceptable(place, words::of_malformed(&error))
            }
            Verdict::Invalid(errors) => {
                let index = Index::new(text);
                violated("the body", errors.iter().map(|error| violation(text, &index, error)).collect())
            }
            Verdict::Undecided => undecided("libxml2 could not decide: it is out of memory, or failed"),
        })
    }
}

fn violation(text: &str, index: &Index<'_>, error: &LibraryError) -> Violation {
    let (mut pointer, offset) = index.locate(error.path.as_deref().unwrap_or_default());
    let element = pointer.rsplit('/').next().unwrap_or_default();
    let element = element.split_once('[').map_or(element, |(name, _)| name);
    let detail = words::at(guard::position_of(text, offset), &words::of_violation(error, element));
    if let Some(attribute) = words::attribute(error).filter(|_| !pointer.contains('@')) {
        pointer.extend(["/@", attribute]);
    }
    Violation::new(words::cut(pointer, MAX_POINTER), detail)
}

fn unacceptable(place: Position, words: &str) -> Refusal {
    malformed(format!("the body is not acceptable XML: {}", words::at(place, words)))
}

#[cfg(test)]
mod tests;
