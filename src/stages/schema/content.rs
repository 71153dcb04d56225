//! The media types that a route accepts, each with the schema of its bodies.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::SizeHint;
use mediatype::MediaType;

use super::encoding::Encoding;
use super::form::{self, Form, Multipart};
use super::json::{self, JsonSchema};
use super::media_type::{self, MediaRange};
use super::offload::offload;
use super::text_encoding::without_mark;
use super::xml::parts::Parts;
use super::xml::{self, Called, Charset, XmlSchema};
use crate::budget::{MemoryBudget, Steps};
use crate::refusal::{Reason, Refusal, Stage};

/// JSON bodies and forms up to this size in bytes are checked on the worker, in about a millisecond; larger ones are
/// offloaded, and those that turn out to take longer.
const AT_ONCE: usize = 256 << 10;

/// The schema of bodies of some media type.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// JSON that conforms to a schema.
    Json(Arc<JsonSchema>),
    /// XML that conforms to a schema.
    Xml(XmlSchema),
    /// `application/x-www-form-urlencoded`.
    Form(Arc<Form>),
    /// `multipart/form-data`.
    Multipart(Arc<Multipart>),
    /// The first refuses, and where only the first does, this is reported.
    Graded(Arc<(Content, Content)>),
    /// Any bytes.
    Unchecked,
}

/// The accepted media types, narrow ranges before wide ones: the most specific applies (OpenAPI 3.1, §4.8.13).
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents(Vec<(MediaRange, Content)>);

impl Contents {
    /// Accepts these ranges; narrower ones take precedence.
    pub(crate) fn new(mut contents: Vec<(MediaRange, Content)>) -> Self {
        contents.sort_by_key(|(range, _)| std::cmp::Reverse(range.narrowness()));
        MediaRange::tell_apart(contents.iter_mut().map(|(range, _)| range));
        Self(contents)
    }

    /// Also accepts others, for the media types that none of these contain.
    pub(crate) fn or(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The accepted ranges.
    pub(crate) fn ranges(&self) -> Vec<String> {
        self.0.iter().map(|(range, _)| range.to_string()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any is checked.
    pub(crate) fn is_checked(&self) -> bool {
        self.0.iter().any(|(_, content)| !matches!(content, Content::Unchecked))
    }

    /// JSON, by its own media type and by those that end in `+json` (RFC 6839 §3.1).
    pub(crate) fn json(schema: &Arc<JsonSchema>) -> Vec<(MediaRange, Content)> {
        ranges(&["application/json", "application/*+json"], &Content::Json(Arc::clone(schema)))
    }

    /// XML (RFC 7303).
    pub(crate) fn xml(schema: &XmlSchema) -> Vec<(MediaRange, Content)> {
        ranges(&["application/xml", "text/xml", "application/*+xml"], &Content::Xml(schema.clone()))
    }

    /// SOAP 1.1, and 1.2 (RFC 3902).
    pub(crate) fn soap(schema: &XmlSchema) -> Vec<(MediaRange, Content)> {
        ranges(&["text/xml", "application/soap+xml"], &Content::Xml(schema.clone()))
    }

    /// Forms as HTML sends them.
    pub(crate) fn form(form: &Arc<Form>) -> Vec<(MediaRange, Content)> {
        ranges(&["application/x-www-form-urlencoded"], &Content::Form(Arc::clone(form)))
    }

    /// Forms with files (RFC 7578).
    pub(crate) fn multipart(form: &Arc<Multipart>) -> Vec<(MediaRange, Content)> {
        ranges(&["multipart/form-data"], &Content::Multipart(Arc::clone(form)))
    }

    /// Whether the body of a message with these headers is not checked.
    pub(super) fn pass(&self, headers: &HeaderMap) -> bool {
        self.0.is_empty() || matches!(self.of(headers), Some((Content::Unchecked, _)))
    }

    /// Returns the schema and the media type of a message; `None` if its media type is not accepted.
    pub(super) fn of<'a>(&'a self, headers: &'a HeaderMap) -> Option<(&'a Content, MediaType<'a>)> {
        let media = media_type::of(headers)?;
        let (position, (_, content)) = self.0.iter().enumerate().find(|(_, (range, _))| range.contains(&media))?;
        // A parameter that no checked type of this name has does not lead to a range that is not checked.
        let mut narrower = self.0.iter().take(position).filter(|(_, content)| !matches!(content, Content::Unchecked));
        if matches!(content, Content::Unchecked) && narrower.any(|(range, _)| range.has_type(&media)) {
            return None;
        }
        content.may_be(&media).then_some((content, media))
    }

    /// Refuses a message of another media type.
    pub(super) fn unsupported(&self) -> Refusal {
        let known: Vec<String> = self.0.iter().map(|(range, _)| format!("`{range}`")).collect();
        let detail = format!("send the body with one `Content-Type`, {}; text in UTF-8", known.join(" or "));
        Refusal::new(Stage::Schema, Reason::UnsupportedMediaType, detail)
    }
}

fn ranges(texts: &[&str], content: &Content) -> Vec<(MediaRange, Content)> {
    texts.iter().filter_map(|text| Some((MediaRange::parse(text)?, content.clone()))).collect()
}

/// Checks a form of this size: here if that takes little time, otherwise on another thread.
async fn in_steps(
    size: usize,
    check: impl Fn(Steps) -> Option<Result<(), Refusal>> + Send + 'static,
) -> Result<(), Refusal> {
    let at_once = if size > AT_ONCE { None } else { check(Steps::new(json::STEPS_AT_ONCE)) };
    match at_once {
        Some(checked) => checked,
        None => {
            let whole = move || check(Steps::new(json::MAX_STEPS)).unwrap_or_else(|| Err(form::too_complex()));
            Box::pin(offload(whole)).await
        }
    }
}

impl Content {
    /// Whether a body may be in the encoding that its media type says.
    fn may_be(&self, media: &MediaType<'_>) -> bool {
        match self {
            Self::Unchecked => true,
            Self::Graded(both) => both.0.may_be(media),
            Self::Xml(_) => Charset::of(media).is_ok(),
            // Django decodes the parts of a form as the form says.
            Self::Json(_) | Self::Form(_) | Self::Multipart(_) => media_type::is_utf8(media),
        }
    }

    /// Judges a body while it comes, if that can be: `size` is what is known of its size.
    pub(super) fn in_parts<'s>(
        &'s self,
        media: &MediaType<'_>,
        headers: &HeaderMap,
        size: &SizeHint,
        memory: &'s MemoryBudget,
        called: Option<&Arc<Called>>,
    ) -> Option<Box<Parts<'s>>> {
        let Self::Xml(schema) = self else { return None };
        let may_be_large = size.exact().is_none_or(|size| size > xml::AT_ONCE as u64);
        let is_plain = may_be_large && matches!(Encoding::of(headers), Ok(Encoding::Identity));
        if is_plain { Parts::new(schema, media, headers, memory, called) } else { None }
    }

    /// Checks that the body of a message with these headers parses and conforms to its schema. What has to be made for that takes
    /// its bytes from `memory`. A SOAP request sets `called`, which its response has to fit.
    pub(super) async fn check(
        &self,
        media: &MediaType<'_>,
        headers: &HeaderMap,
        body: &Bytes,
        memory: &MemoryBudget,
        called: &mut Option<Arc<Called>>,
    ) -> Result<(), Refusal> {
        match self {
            Self::Json(schema) => {
                let at_once = if body.len() > AT_ONCE { None } else { schema.check_at_once(without_mark(body)) };
                if let Some(checked) = at_once {
                    return checked;
                }
                let (schema, body) = (Arc::clone(schema), body.clone());
                // Boxed: rare and large, and it would be a part of every request's future.
                Box::pin(offload(move || schema.check(without_mark(&body)))).await
            }
            Self::Xml(schema) => {
                let charset = Charset::of(media).unwrap_or_default();
                let schema = schema.of(media, headers, called.as_ref())?;
                let judged = match schema.check_at_once(body, charset, memory) {
                    Some(judged) => judged,
                    None => Box::pin(schema.check(body, charset, memory)).await,
                };
                judged.map(|calls| *called = calls)
            }
            Self::Form(form) => {
                let (form, whole) = (Arc::clone(form), body.clone());
                in_steps(body.len(), move |steps| form.check_within(steps, &whole)).await
            }
            Self::Multipart(form) => {
                let (form, boundary, whole) = (Arc::clone(form), form::boundary(media)?, body.clone());
                in_steps(body.len(), move |steps| form.check_within(steps, &boundary, &whole)).await
            }
            Self::Graded(both) => match Box::pin(both.0.check(media, headers, body, memory, called)).await {
                Err(refusal) if Box::pin(both.1.check(media, headers, body, memory, called)).await.is_ok() => {
                    Err(refusal.only_reported())
                }
                checked => checked,
            },
            Self::Unchecked => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;
    use serde_json::json;

    use super::*;
    use crate::stages::schema::object::Fields;

    /// F25: a server that decodes a form as its charset says reads other text than is judged.
    #[test]
    fn what_is_judged_is_utf8_whatever_its_type() {
        let schema = Arc::new(JsonSchema::new(&json!({})).unwrap());
        let multipart = Arc::new(Multipart::new(Fields::default(), Arc::clone(&schema)));
        let form = Arc::new(Form::new(Fields::default(), Arc::clone(&schema)));
        let contents = [Contents::json(&schema), Contents::multipart(&multipart), Contents::form(&form)].concat();
        let contents = Contents::new(contents);
        for media in ["application/json", "multipart/form-data; boundary=b", "application/x-www-form-urlencoded"] {
            for (charset, accepted) in [("utf-8", true), ("utf-7", false), ("iso-8859-1", false)] {
                let value = HeaderValue::from_str(&format!("{media}; charset={charset}")).unwrap();
                let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
                assert_eq!(contents.of(&headers).is_some(), accepted, "{media} {charset}");
            }
        }
    }
}
