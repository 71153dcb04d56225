//! With what body: decides whether a request's body is what the route asks for.
//!
//! A route with `request` has its body read whole, decoded and checked before anything is sent on, and what is sent on
//! are the very bytes that were checked. A route without streams it through, within bounds. The body comes last of all
//! stages, so that nobody unknown makes us read one.

pub(crate) mod body;
mod encoding;
pub(crate) mod json;
mod shape;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::body::Body as _;

use self::body::{Body, Counter, Source};
use self::encoding::Encoding;
use self::json::JsonSchema;
use crate::refusal::{Members, Reason, Refusal, Stage};

/// What a route asks of a request's body.
#[derive(Debug)]
pub(crate) struct Requirement {
    /// Present: the body must be JSON that keeps to this schema.
    json: Option<Arc<JsonSchema>>,
    /// Most bytes, after decoding.
    max_size: u64,
    /// Deadline for the whole body.
    deadline: Duration,
}

impl Requirement {
    /// `max_size` in bytes; `deadline` for the whole body.
    pub(crate) fn new(json: Option<Arc<JsonSchema>>, max_size: u64, deadline: Duration) -> Self {
        Self { json, max_size, deadline }
    }

    /// Whether bodies are held against a schema.
    pub(crate) fn is_checked(&self) -> bool {
        self.json.is_some()
    }

    /// Decides, and returns the body to send on. `headers` are made to fit it.
    pub(crate) async fn admit(
        &self,
        headers: &mut HeaderMap,
        body: Source,
        counter: &Counter,
    ) -> Result<Body, Refusal> {
        if body.size_hint().lower() > self.max_size {
            return Err(too_large(self.max_size).closing());
        }
        let Some(schema) = &self.json else {
            return Ok(Body::streaming(body, counter, self.max_size, self.deadline));
        };
        accept_media_type(headers)?;
        let encoding = Encoding::of(headers)?;
        let received = Box::pin(body::collect(body, counter, self.max_size, self.deadline)).await?;
        let decoded = encoding.decode(received, self.max_size)?;
        schema.check(&decoded)?;
        // What frames the body upstream follows from the body itself.
        headers.remove(CONTENT_ENCODING);
        Ok(Body::whole(decoded))
    }
}

/// `application/json` or a `+json` type (RFC 6839 §3.1), in UTF-8 (RFC 8259 §8.1).
fn accept_media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let text = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default(),
        _ => "",
    };
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let essence = essence.trim();
    let json = essence.eq_ignore_ascii_case("application/json")
        || essence.split_once('/').is_some_and(|(kind, subtype)| {
            kind.eq_ignore_ascii_case("application")
                && subtype.len() > 5
                && subtype.get(subtype.len() - 5..).is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
        });
    let utf8 = parameters.split(';').filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        !name.trim().eq_ignore_ascii_case("charset") || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if json && utf8 {
        return Ok(());
    }
    Err(Refusal::new(
        Stage::Schema,
        Reason::UnsupportedMediaType,
        "send the body as `Content-Type: application/json`, in UTF-8",
    ))
}

/// Refuses a body past `limit` bytes.
pub(crate) fn too_large(limit: u64) -> Refusal {
    Refusal::new(Stage::Schema, Reason::BodyTooLarge, format!("send a body of at most {limit} bytes"))
}

/// Refuses a body that is not what its form says.
fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Stage::Schema, Reason::MalformedBody, detail).members(Members::default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_media_types() {
        for (value, good) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=UTF-8"), true),
            (Some("application/json;charset=\"utf-8\""), true),
            (Some("application/merge-patch+json"), true),
            (Some("application/json; charset=utf-16"), false),
            (Some("application/json; charset=utf-8; charset=latin1"), false),
            (Some("text/json"), false),
            (Some("application/jsonp"), false),
            (Some("application/+json"), false),
            (Some("text/plain; a=application/json"), false),
            (Some(""), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            assert_eq!(accept_media_type(&headers).is_ok(), good, "{value:?}");
        }
        let mut twice = HeaderMap::new();
        twice.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        twice.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert!(accept_media_type(&twice).is_err());
    }
}
