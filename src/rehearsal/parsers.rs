//! Parsers of what comes from outside, each called alone on bytes. For fuzz targets, which need them without a policy.
//!
//! `None` is input that the parser refuses.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use bytes::Bytes;
use http::{HeaderMap, Method};
use mediatype::MediaType;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;

use crate::budget::{MemoryBudget, Steps};
use crate::policy::units::{Period, Rate, Size};
use crate::proxy::http1::body_decoder::BodyDecoder;
use crate::proxy::request::path as request_path;
use crate::proxy::upstream::{Interims, MAX_HEADERS, read_head};
use crate::stages::auth::api_key_format;
use crate::stages::auth::certificate::{self, ClientTrust};
use crate::stages::auth::client_key;
use crate::stages::auth::introspection;
use crate::stages::auth::key_location;
use crate::stages::auth::key_set::KeySet;
use crate::stages::mask::{self, Hidden, Mask, Replacement, Rule};
use crate::stages::schema::xml;
use crate::stages::schema::xml::parts::Parts;
use crate::stages::strict_json;
use crate::state::registry::entry::{Entry, Kind};
use crate::xsd::compile::compile;
use crate::xsd::components::documents::Found;
use crate::xsd::document::tokens::Accepts;
use crate::xsd::instance::{Bounds, Judge, Rejection, judge};
use crate::xsd::pointer::pointers;
use crate::xsd::schema::Schema;
use crate::xsd::validate::Limits;

/// Returns the normal form of the path of a request.
pub fn path(text: &str) -> Option<String> {
    request_path::normalise(text, request_path::EncodedSlashes::Refused).ok().map(std::borrow::Cow::into_owned)
}

/// Reads what an upstream answers to a request with this method, as it arrives in pieces of at most `piece` bytes.
/// Returns the status, the number of header fields and the size of the body; the body may be incomplete.
pub fn response(sent: &[u8], piece: usize, method: &Method) -> Option<(u16, usize, usize)> {
    let (mut input, mut interims) = (Bytes::new(), Interims::default());
    let mut pieces = sent.chunks(piece.max(1));
    let mut more = |input: &mut Bytes| {
        let next = pieces.next();
        *input = [input.as_ref(), next.unwrap_or_default()].concat().into();
        next.is_some()
    };
    let head = loop {
        match read_head(&mut input, method, false, &mut interims).ok()? {
            Some(head) => break head,
            None if more(&mut input) => {}
            None => return None,
        }
    };
    let mut decoder = BodyDecoder::for_responses(MAX_HEADERS);
    decoder.begin(head.framing);
    let mut size = 0;
    while !decoder.has_ended() {
        match decoder.decode(&mut input).ok()? {
            Some(frame) => size += frame.into_data().map_or(0, |data| data.len()),
            None if more(&mut input) => {}
            None => break,
        }
    }
    Some((head.status.as_u16(), head.fields.iter().len(), size))
}

/// Reads the key set of an issuer. Returns the number of usable keys.
pub fn key_set(document: &[u8]) -> Option<usize> {
    KeySet::from_jwks(document).ok().map(|(set, _)| set.keys().len())
}

/// Reads the metadata of an issuer. Returns the URL of its key set.
pub fn metadata(document: &[u8], issuer: &str) -> Option<String> {
    key_location::key_set_url(document, issuer).ok().map(|url| url.to_string())
}

/// Reads the public key that a partner sends of a new client. Returns what is kept of it, and its thumbprint.
pub fn client_key(document: &[u8]) -> Option<(serde_json::Value, String)> {
    let jwk = strict_json::parse(document).ok()?;
    let (key, _) = client_key::read(jwk.as_object()?).ok()?;
    Some((key.jwk, key.thumbprint.into()))
}

/// Reads the answer of an introspection endpoint. Returns whether the token is active.
pub fn introspection(answer: &[u8]) -> Option<bool> {
    introspection::is_active(answer).ok()
}

/// Reads a client certificate. Returns the number of its names.
pub fn certificate(der: &[u8]) -> Option<usize> {
    let trust = ClientTrust { identity: Default::default(), verifier: WebPkiClientVerifier::no_client_auth() };
    let listener = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    certificate::read(&[CertificateDer::from(der)], listener, &trust).map(|read| read.names.len())
}

/// Reads an entry of a store as each of its kinds. Returns what every kind that fits stores again.
pub fn entry(bytes: &[u8]) -> Vec<Vec<u8>> {
    let read = Kind::ALL.into_iter().filter_map(|kind| Entry::decode(kind, bytes).ok());
    read.map(|entry| entry.encode()).collect()
}

/// Returns whether a text begins like one of our API keys and has no valid checksum.
pub fn is_mistyped_key(text: &[u8]) -> bool {
    api_key_format::is_mistyped(text)
}

/// Hides what is at these paths of a JSON text, each with what stands in its place. Returns what is left.
pub fn mask(paths: &[(&str, &str)], text: &[u8]) -> Option<Vec<u8>> {
    masking(paths)?(text)
}

/// The same for one text after another: the paths are read once.
pub fn masking(paths: &[(&str, &str)]) -> Option<impl Fn(&[u8]) -> Option<Vec<u8>>> {
    let hidden = hidden(paths)?;
    Some(move |text: &[u8]| mask::rewrite(hidden.clone(), text, &MemoryBudget::new(u64::MAX)).ok().map(Vec::from))
}

/// Like `mask`, for a text that comes in pieces of this size.
pub fn mask_in_pieces(paths: &[(&str, &str)], text: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut rewriter = mask::Rewriter::new(hidden(paths)?, &MemoryBudget::new(u64::MAX));
    let mut masked = Vec::new();
    for piece in text.chunks(size) {
        rewriter.push(piece).ok()?;
        masked.extend(rewriter.take());
    }
    rewriter.finish().ok().map(|()| masked)
}

fn hidden(paths: &[(&str, &str)]) -> Option<Hidden> {
    let rule = |(path, otherwise): &(&str, &str)| Rule::new(path, Vec::new(), Replacement::read(otherwise)?).ok();
    Mask::new(paths.iter().map(rule).collect::<Option<_>>()?).hidden(|_| false)
}

/// An XML Schema.
#[derive(Debug)]
pub struct Xml(xml::XmlSchema);

impl Xml {
    /// Compiles a schema.
    pub fn new(schema: &str) -> Option<Self> {
        let main = Found { file: "main.xsd".into(), bytes: schema.as_bytes().into() };
        xml::XmlSchema::new(main, &mut |_| Ok(None)).ok().map(Self)
    }

    /// Whether a body is found valid while it comes, in pieces of `size` bytes. `look` gets the bytes that are counted, after each.
    pub fn judge_as_it_comes(&self, body: &[u8], size: usize, mut look: impl FnMut(u64)) -> bool {
        let memory = MemoryBudget::new(u64::MAX);
        let (media, headers) = (MediaType::parse("text/xml"), HeaderMap::new());
        let parts = media.ok().and_then(|media| Parts::new(&self.0, &media, &headers, &memory, None));
        let Some(mut parts) = parts else { return false };
        for come in (0..body.len()).step_by(size.max(1)) {
            while parts.go_on(body.get(..come).unwrap_or_default()) {}
            look(memory.in_use());
        }
        while parts.go_on(body) {}
        parts.ends_valid(body).is_some()
    }

    /// Whether a body is valid. `None`: it is too complex to judge.
    pub fn judge(&self, body: &[u8]) -> Option<bool> {
        self.0.judge_whole(body, None, &MemoryBudget::new(u64::MAX)).map(|judged| judged.is_ok())
    }

    /// Judges a document that comes in pieces of about `size` bytes. The error is what is wrong with it, and where.
    ///
    /// # Errors
    /// When the document is not well-formed, or violates the schema.
    pub fn judge_in_pieces(&self, text: &str, size: usize) -> Result<(), String> {
        let markup = Accepts { doctype: false, attributes: 128, name: 1 << 10 };
        let bounds = Bounds { markup, instructions: false, depth: 256, namespaces: 64 };
        let limits = Limits { steps: Steps::new(10_000_000), memory: 16 << 20, violations: 20 };
        let mut judge = Judge::new(self.0.schema(), (), (bounds, limits), HashSet::new());
        let judged = (|| {
            let mut used = 0;
            for come in (0..text.len()).step_by(size.max(1)).map(|come| text.ceil_char_boundary(come)) {
                let part = text.get(used..come).unwrap_or_default();
                used = used.saturating_add(judge.feed(part, false)?);
            }
            judge.feed(text.get(used..).unwrap_or_default(), true)?;
            judge.finish()
        })();
        judged.map_err(|rejection| match rejection {
            Rejection::Invalid(found) => format!("{:?} {found:?}", pointers(text, &found)),
            other => format!("{other:?}"),
        })
    }
}

/// Reads a duration, a size and a rate. Returns each that fits as it is displayed.
pub fn quantities(text: &str) -> Vec<String> {
    fn shown<T: FromStr + ToString>(text: &str) -> Option<String> {
        T::from_str(text).ok().map(|quantity| quantity.to_string())
    }
    [shown::<Period>(text), shown::<Size>(text), shown::<Rate>(text)].into_iter().flatten().collect()
}

/// What is accepted of documents that an [`XmlSchema`] judges.
const XML: Bounds = Bounds {
    markup: Accepts { doctype: false, attributes: 128, name: 1 << 10 },
    instructions: true,
    depth: 256,
    namespaces: 64,
};

/// An XML Schema without a policy.
pub struct XmlSchema(Schema);

impl XmlSchema {
    /// Compiles the first of these documents, each with its name; the others are what it may refer to.
    ///
    /// # Errors
    /// The constraint and the words of the first problem.
    pub fn new(documents: &[(&str, &[u8])]) -> Result<Self, String> {
        let found = |(name, bytes): &(&str, &[u8])| Found { file: (*name).into(), bytes: (*bytes).into() };
        let first = documents.iter().take(1).map(found).collect();
        let compiled = compile(first, &mut |reference| {
            Ok(documents.iter().find(|(name, _)| Some(*name) == reference.location).map(found))
        });
        compiled.map(Self).map_err(|problems| {
            let words = problems.first().map(|problem| format!("{}: {}", problem.constraint, problem.message));
            words.unwrap_or_default()
        })
    }

    /// Whether a document is valid. `None`: it is not well-formed, or too complex to judge.
    pub fn judge(&self, text: &str) -> Option<bool> {
        let limits = Limits { steps: Steps::new(2_000_000), memory: 2 << 20, violations: 20 };
        match judge(&self.0, text, (), (XML, limits), HashSet::new()) {
            Ok(()) => Some(true),
            Err(Rejection::Invalid(_)) => Some(false),
            Err(_) => None,
        }
    }
}
