//! Forms: decodes `application/x-www-form-urlencoded` and `multipart/form-data` (RFC 7578) into a JSON object,
//! and validates it against a schema.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use mediatype::names::BOUNDARY;
use mediatype::{MediaType, ReadParams};
use serde_json::{Map, Value};

use super::fields::{Field, Fields, Style, wrong};
use super::json::{self, JsonSchema};
use super::malformed::malformed;
use super::offload::undecided;
use super::text_encoding::{TextEncoding, without_mark};
use crate::refusal::{Refusal, Violation};
use crate::stages::strict_json;

/// Most parts of one body.
const MAX_PARTS: usize = 1000;

/// A URL-encoded form.
#[derive(Debug)]
pub(crate) struct Form {
    fields: Fields,
    schema: Arc<JsonSchema>,
}

impl Form {
    /// `schema` validates the object of all fields.
    pub(crate) fn new(fields: Fields, schema: Arc<JsonSchema>) -> Self {
        Self { fields, schema }
    }

    /// Checks a body.
    pub(super) fn check(&self, body: &[u8]) -> Result<(), Refusal> {
        let text = std::str::from_utf8(body).map_err(|_| malformed("the body is not UTF-8 text"))?;
        let violations = match self.fields.object(text, "") {
            Ok(object) => self.schema.violations(&Value::Object(object), ""),
            Err(violations) => violations,
        };
        if violations.is_empty() { Ok(()) } else { Err(json::violated("the form", violations)) }
    }
}

/// A multipart form.
#[derive(Debug)]
pub(crate) struct Multipart {
    fields: Fields,
    schema: Arc<JsonSchema>,
}

impl Multipart {
    /// `schema` validates the object of all parts: texts decoded by their type, JSON as it is, and any other part as a
    /// text with as many characters as the part has bytes, so that `maxLength` bounds its size.
    pub(crate) fn new(fields: Fields, schema: Arc<JsonSchema>) -> Self {
        Self { fields, schema }
    }

    /// Checks a body, whose parts are separated by `boundary`.
    pub(super) fn check(&self, boundary: String, body: &Bytes) -> Result<(), Refusal> {
        let judged = pin!(self.judge(boundary, body)).poll(&mut Context::from_waker(Waker::noop()));
        match judged {
            Poll::Ready(judged) => judged,
            // The parser waits for nothing: it has the whole body.
            Poll::Pending => Err(undecided("the multipart parser did not finish")),
        }
    }

    async fn judge(&self, boundary: String, body: &Bytes) -> Result<(), Refusal> {
        let stream = Full::new(body.clone()).into_data_stream();
        let mut parts = multer::Multipart::new(stream, boundary);
        let (mut object, mut violations, mut count) = (Map::new(), Vec::new(), 0);
        loop {
            let part = parts.next_field().await.map_err(|error| broken(&error))?;
            let Some(part) = part else { break };
            count += 1;
            if count > MAX_PARTS {
                return Err(malformed(format!("the body has more than {MAX_PARTS} parts")));
            }
            let Some(name) = part.name().map(str::to_owned) else {
                return Err(malformed("a part has no name"));
            };
            let field = self.fields.iter().find(|field| field.name() == name);
            let (written, file) = (part.content_type().map(ToString::to_string), part.file_name().is_some());
            let kind = Kind::of(written.as_deref(), file, field);
            let accepted = field.is_none_or(|field| is_accepted(field, written.as_deref(), file));
            let bytes = part.bytes().await.map_err(|error| broken(&error))?;
            match kind.value(field, &bytes) {
                _ if !accepted => violations.push(wrong("", &name, "has a media type that is not accepted here")),
                Ok(value) => add(&mut object, name, value, field.is_some_and(Field::is_list), &mut violations),
                Err(problem) => violations.push(wrong("", &name, problem)),
            }
        }
        if violations.is_empty() {
            violations = self.schema.violations(&Value::Object(object), "");
        }
        if violations.is_empty() { Ok(()) } else { Err(json::violated("the form", violations)) }
    }
}

/// The boundary of a multipart body (RFC 2046 §5.1.1).
pub(super) fn boundary(media: &MediaType<'_>) -> Result<String, Refusal> {
    let boundary = media.get_param(BOUNDARY).map(|value| value.unquoted_str().into_owned());
    let boundary = boundary.filter(|boundary| (1..=70).contains(&boundary.len()));
    boundary.ok_or_else(|| malformed("the Content-Type has no boundary of 1 to 70 characters"))
}

/// The content of a part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Json,
    Bytes,
}

impl Kind {
    fn of(media: Option<&str>, file: bool, field: Option<&Field>) -> Self {
        let essence = media.and_then(|media| media.split(';').next()).map(|media| media.trim().to_ascii_lowercase());
        match essence.as_deref() {
            None if file => Self::Bytes,
            None if field.is_some_and(Field::is_json) => Self::Json,
            None => Self::Text,
            Some("text/plain") if !file => Self::Text,
            Some(json) if json == "application/json" || json.ends_with("+json") => Self::Json,
            Some(_) => Self::Bytes,
        }
    }

    fn value(self, field: Option<&Field>, bytes: &[u8]) -> Result<Value, &'static str> {
        let text = || std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text");
        match (self, field) {
            (Self::Json, _) => strict_json::parse(without_mark(bytes)).map_err(|_| "is not acceptable JSON"),
            (Self::Bytes, _) => Ok(Value::String("x".repeat(bytes.len()))),
            (Self::Text, Some(field)) => field.item(text()?, TextEncoding::Plain),
            (Self::Text, None) => Ok(Value::String(text()?.to_owned())),
        }
    }
}

/// Whether a part has one of the media types of its field. A part that names none is text (RFC 7578 §4.4), and is validated as
/// its field; a file is not.
fn is_accepted(field: &Field, written: Option<&str>, file: bool) -> bool {
    match written.or_else(|| file.then_some("application/octet-stream")) {
        Some(written) => MediaType::parse(written).is_ok_and(|media| field.accepts(&media)),
        None => true,
    }
}

/// Adds a part to the object. A repeated name adds to a list, if the schema has one.
fn add(object: &mut Map<String, Value>, name: String, value: Value, list: bool, violations: &mut Vec<Violation>) {
    match (object.get_mut(&name), list) {
        (Some(Value::Array(items)), true) => items.push(value),
        (Some(_), _) => violations.push(wrong("", &name, "occurs more than once; send it once")),
        (None, true) if !value.is_array() => drop(object.insert(name, Value::Array(vec![value]))),
        (None, _) => drop(object.insert(name, value)),
    }
}

fn broken(error: &multer::Error) -> Refusal {
    malformed("the body is not valid multipart/form-data (RFC 7578)").cause(error.to_string())
}

/// The fields of a multipart form: each is text, or JSON if it is an object.
pub(crate) fn parts_of(schema: &Value) -> Fields {
    Fields::of(schema, Style::Form, true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::refusal::Reason;
    use crate::stages::schema::media_type::MediaRange;

    fn schema() -> Value {
        json!({
            "required": ["sku"], "additionalProperties": false,
            "properties": {
                "sku": {"type": "string", "pattern": "^[A-Z]{3}$"},
                "count": {"type": "integer", "minimum": 1},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
                "photo": {"type": "string", "format": "binary", "maxLength": 10},
                "meta": {"type": "object", "required": ["a"]},
            },
        })
    }

    fn plain(schema: &Value) -> Arc<JsonSchema> {
        let mut schema = schema.clone();
        schema["properties"]["photo"].as_object_mut().unwrap().remove("format");
        Arc::new(JsonSchema::new(&schema).unwrap())
    }

    #[test]
    fn forms_are_judged_as_objects() {
        let schema = schema();
        let form = Form::new(Fields::of(&schema, Style::Form, true), plain(&schema));
        for (body, expected) in [
            ("sku=ABC&count=2&tags=a&tags=b", Ok(())),
            ("sku=ABC", Ok(())),
            ("sku=AB+C", Err((Reason::SchemaViolation, "/sku"))),
            ("sku=ABC&count=0", Err((Reason::SchemaViolation, "/count"))),
            ("sku=ABC&count=x", Err((Reason::SchemaViolation, "/count"))),
            ("sku=ABC&sku=DEF", Err((Reason::SchemaViolation, "/sku"))),
            ("sku=ABC&other=1", Err((Reason::SchemaViolation, ""))),
            ("sku=ABC&tags=a&tags=b&tags=c", Err((Reason::SchemaViolation, "/tags"))),
            ("", Err((Reason::SchemaViolation, ""))),
        ] {
            let judged = form.check(body.as_bytes()).map_err(|refusal| {
                (
                    refusal.reason(),
                    refusal.violations().first().map(|violation| violation.pointer.clone()).unwrap_or_default(),
                )
            });
            assert_eq!(judged, expected.map_err(|(reason, pointer)| (reason, pointer.to_owned())), "{body}");
        }
        assert_eq!(form.check(b"sku=\xff").unwrap_err().reason(), Reason::MalformedBody);
        let many: String = (0..500).map(|number| format!("{}{number}=%ff&", "n".repeat(2000))).collect();
        let refusal = form.check(many.as_bytes()).unwrap_err();
        assert_eq!(refusal.violations().len(), 20);
        assert!(
            refusal.violations().iter().all(|violation| violation.pointer.len() < 320),
            "names are not echoed whole"
        );
    }

    #[test]
    fn parts_are_judged_as_objects() {
        let schema = schema();
        let form = Multipart::new(parts_of(&schema), plain(&schema));
        let part = |head: &str, body: &str| format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n");
        let sku = part("name=sku", "ABC");
        let json = |body: &str| part("name=meta\r\ncontent-type: application/json", body);
        let photo = |size: usize| part("name=photo; filename=\"a.png\"\r\ncontent-type: image/png", &"p".repeat(size));
        for (parts, expected) in [
            (vec![sku.clone()], Ok(())),
            (vec![sku.clone(), photo(10), json("{\"a\": 1}"), part("name=count", "3")], Ok(())),
            (vec![sku.clone(), part("name=tags", "a"), part("name=tags", "b")], Ok(())),
            (vec![sku.clone(), photo(11)], Err((Reason::SchemaViolation, "/photo"))),
            (vec![sku.clone(), json("{}")], Err((Reason::SchemaViolation, "/meta"))),
            (vec![sku.clone(), json("{")], Err((Reason::SchemaViolation, "/meta"))),
            (vec![sku.clone(), part("name=count", "0")], Err((Reason::SchemaViolation, "/count"))),
            (vec![sku.clone(), sku.clone()], Err((Reason::SchemaViolation, "/sku"))),
            (vec![sku.clone(), part("name=other", "x")], Err((Reason::SchemaViolation, ""))),
            (vec![photo(1)], Err((Reason::SchemaViolation, ""))),
            (vec![part("filename=a", "x")], Err((Reason::MalformedBody, ""))),
        ] {
            let body = Bytes::from(format!("{}--b--\r\n", parts.concat()));
            let media = MediaType::parse("multipart/form-data; boundary=\"b\"").unwrap();
            let judged = boundary(&media).and_then(|boundary| form.check(boundary, &body)).map_err(|refusal| {
                (
                    refusal.reason(),
                    refusal.violations().first().map(|violation| violation.pointer.clone()).unwrap_or_default(),
                )
            });
            assert_eq!(judged, expected.map_err(|(reason, pointer)| (reason, pointer.to_owned())), "{parts:?}");
        }
        for (media, body) in [
            ("multipart/form-data", "--b--\r\n"),
            ("multipart/form-data; boundary=b", "no parts"),
            ("multipart/form-data; boundary=b", "--b\r\ncontent-disposition: form-data; name=sku\r\n\r\nABC"),
        ] {
            let media = MediaType::parse(media).unwrap();
            let refusal = boundary(&media).and_then(|boundary| form.check(boundary, &Bytes::from(body))).unwrap_err();
            assert_eq!(refusal.reason(), Reason::MalformedBody, "{body}");
        }
    }

    /// F4
    #[test]
    fn a_part_has_a_media_type_that_its_field_accepts() {
        let schema =
            json!({"properties": {"photo": {"type": "string"}, "meta": {"type": "object", "required": ["a"]}}});
        let media = |texts: &[&str]| texts.iter().map(|text| MediaRange::parse(text).unwrap()).collect::<Vec<_>>();
        let field = |name: &str, style, types: &[&str]| {
            Field::new(name, style, true, &schema["properties"][name], &schema).accepting(&media(types))
        };
        let fields = vec![
            field("photo", Style::Form, &["image/png", "image/jpeg"]),
            field("meta", Style::Json, &["application/json"]),
        ];
        let form = Multipart::new(Fields::new(fields), Arc::new(JsonSchema::new(&schema).unwrap()));
        for (head, body, good) in [
            ("name=photo; filename=a\r\ncontent-type: image/png", "x", true),
            ("name=photo; filename=a\r\ncontent-type: Image/JPEG; q=1", "x", true),
            ("name=photo; filename=a\r\ncontent-type: text/html", "<script>", false),
            ("name=photo; filename=a\r\ncontent-type: image/svg+xml", "<svg/>", false),
            ("name=photo; filename=a", "x", false),
            ("name=photo", "x", true),
            ("name=meta\r\ncontent-type: application/json", "{\"a\": 1}", true),
            ("name=meta", "\u{feff}{\"a\": 1}", true),
            ("name=meta", "{}", false),
            ("name=meta", "a", false),
            ("name=meta\r\ncontent-type: text/plain", "{\"a\": 1}", false),
        ] {
            let body = format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n--b--\r\n");
            assert_eq!(form.check("b".to_owned(), &body.into()).is_ok(), good, "{head}");
        }
    }
}
