//! Forms: decodes `application/x-www-form-urlencoded` and `multipart/form-data` (RFC 7578) into a JSON object,
//! and validates it against a schema.

use std::borrow::Cow;
use std::sync::Arc;

use mediatype::{MediaType, ReadParams};

use super::cookies::check_query;
use super::draft::Draft;
use super::fields::{Field, wrong};
use super::json::{self, JsonSchema};
use super::malformed::malformed;
use super::media_type::is_utf8;
use super::multipart::{self, Part};
use super::object::{Fields, MAX_MEMORY};
use super::text_encoding::{TextEncoding, has_broken_escapes};
use crate::budget::Steps;
use crate::refusal::{Refusal, Violation};
use crate::stages::strict_json::Intake;

/// The name that says the encoding of a whole form (RFC 7578 §4.6).
const CHARSET: &str = "_charset_";
const NOT_UTF8: &str = "the form says in `_charset_` that it is not UTF-8";

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

    /// Checks a body within some steps. Returns `None` if they are too few.
    pub(super) fn check_within(&self, steps: Steps, body: &[u8]) -> Option<Result<(), Refusal>> {
        let intake = Intake::new(MAX_MEMORY, steps);
        match self.object(body, &intake) {
            Ok(object) => judged(object, intake, &self.schema),
            Err(refusal) => Some(Err(refusal)),
        }
    }

    pub(super) fn object(&self, body: &[u8], intake: &Intake) -> Result<Object, Refusal> {
        let text = std::str::from_utf8(body).ok().filter(|text| text.is_ascii());
        let text = text.ok_or_else(|| malformed("the form is not ASCII; write other characters as %XX, in UTF-8"))?;
        if text.split('&').any(|pair| !pair.is_empty() && !pair.contains('=')) {
            // Some servers skip it, and others take it for an empty value.
            return Err(malformed("the form has a name without a `=`"));
        }
        if has_broken_escapes(text) {
            return Err(malformed("the form has a `%` without two hexadecimal digits behind it; write %25"));
        }
        check_query(text).map_err(|problem| malformed(format!("the form {problem}")))?;
        if text.split('&').filter_map(|pair| pair.strip_prefix("_charset_=")).any(|charset| !is_utf8_name(charset)) {
            return Err(malformed(NOT_UTF8));
        }
        Ok(self.fields.object(text, "", intake))
    }
}

/// A multipart form.
#[derive(Debug)]
pub(crate) struct Multipart {
    fields: Fields,
    schema: Arc<JsonSchema>,
}

impl Multipart {
    /// `schema` validates the object of all parts. What it calls text is text, whatever a part says of itself. Only where it
    /// asks for nothing but a length may a part be a file: a text with as many characters as the part has bytes, so that
    /// `maxLength` bounds its size.
    pub(crate) fn new(fields: Fields, schema: Arc<JsonSchema>) -> Self {
        Self { fields, schema }
    }

    /// Checks a body, whose parts are separated by `boundary`, within some steps. Returns `None` if they are too few.
    pub(super) fn check_within(&self, steps: Steps, boundary: &str, body: &[u8]) -> Option<Result<(), Refusal>> {
        let intake = Intake::new(MAX_MEMORY, steps);
        match self.object(boundary, body, &intake) {
            Ok(object) => judged(object, intake, &self.schema),
            Err(refusal) => Some(Err(refusal)),
        }
    }

    pub(super) fn object(&self, boundary: &str, body: &[u8], intake: &Intake) -> Result<Object, Refusal> {
        let parts = multipart::parts(boundary, body).map_err(|problem| malformed(format!("the body {problem}")))?;
        let (mut texts, mut violations) = (Vec::new(), Vec::new());
        for part in &parts {
            if part.name == CHARSET && !std::str::from_utf8(part.content).is_ok_and(is_utf8_name) {
                return Err(malformed(NOT_UTF8));
            }
            match self.text(part) {
                Ok(text) => texts.push((part.name, text)),
                Err(problem) => violations.push(wrong("", part.name, problem)),
            }
        }
        if !violations.is_empty() {
            return Ok(Err(violations));
        }
        let pairs = texts.iter().map(|(name, text)| (Cow::Borrowed(*name), &**text)).collect();
        Ok(self.fields.object_of(pairs, TextEncoding::Plain, "", intake))
    }

    /// The text of a part. The error completes a sentence that begins with "it".
    fn text<'b>(&self, part: &Part<'b>) -> Result<Cow<'b, str>, &'static str> {
        let media = part.media.map(|written| MediaType::parse(written).map_err(|_| "has a Content-Type that is none"));
        let media = media.transpose()?;
        if !self.fields.get(part.name).is_none_or(|field| is_accepted(field, media.as_ref(), part.file)) {
            return Err("has a media type that is not accepted here");
        }
        // Servers decode what is not a file as it says.
        if !(part.file || media.as_ref().is_none_or(is_utf8)) {
            return Err("has a charset that is not UTF-8");
        }
        let text = media.as_ref().is_none_or(|media| {
            media.ty.as_str().eq_ignore_ascii_case("text") && media.subty.as_str().eq_ignore_ascii_case("plain")
        });
        let free = (part.file || !text) && self.fields.is_free(part.name);
        if free && part.file {
            return Ok(Cow::Owned("x".repeat(part.content.len())));
        }
        if !media.as_ref().is_none_or(is_utf8) {
            return Err("has a charset that is not UTF-8");
        }
        match std::str::from_utf8(part.content) {
            Ok(_) if free => Ok(Cow::Owned("x".repeat(part.content.len()))),
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) if free => Err("is not UTF-8 text; give it a `filename`"),
            Err(_) => Err("is not UTF-8 text"),
        }
    }
}

/// What a form may be, or what is wrong with its fields.
pub(super) type Object = Result<Draft, Vec<Violation>>;

fn judged(object: Object, intake: Intake, schema: &JsonSchema) -> Option<Result<(), Refusal>> {
    let (numbers, steps) = intake.finish().ok()?;
    let violations = match object {
        Ok(object) => object.violations_within(steps, &numbers, schema, "")?,
        Err(violations) => violations,
    };
    Some(if violations.is_empty() { Ok(()) } else { Err(json::violated("the form", violations)) })
}

/// Refuses a form that cannot be judged within the budget.
pub(super) fn too_complex() -> Refusal {
    json::violated("the form", vec![json::too_complex("")])
}

fn is_utf8_name(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
}

/// The boundary of a multipart body (RFC 2046 §5.1.1).
pub(super) fn boundary(media: &MediaType<'_>) -> Result<String, Refusal> {
    let is =
        |name: &str, prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    // `boundary*` and `boundary*0` (RFC 2231) are the boundary for some servers.
    let mut written = media.params().filter(|(name, _)| is(name.as_str(), "boundary"));
    let boundary = match (written.next(), written.next()) {
        (Some((name, value)), None) if name.as_str().len() == "boundary".len() => Some(value),
        _ => None,
    };
    let text = boundary.map(|value| value.as_str().trim_matches('"').to_owned());
    text.filter(|text| multipart::is_boundary(text)).ok_or_else(|| {
        malformed("the Content-Type must have one boundary, of 1 to 70 letters, digits or `'()+_,-./:=?`")
    })
}

/// Whether a part has one of the media types of its field. A part that names none is text (RFC 7578 §4.4), and is validated as
/// its field; a file is not.
fn is_accepted(field: &Field, media: Option<&MediaType<'_>>, file: bool) -> bool {
    const FILE: &str = "application/octet-stream";
    match media {
        Some(media) => field.accepts(media),
        None => !file || MediaType::parse(FILE).is_ok_and(|media| field.accepts(&media)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::refusal::Reason;
    use crate::stages::schema::fields::Style;
    use crate::stages::schema::media_type::MediaRange;

    impl Form {
        fn check(&self, body: &[u8]) -> Result<(), Refusal> {
            self.check_within(Steps::new(json::MAX_STEPS), body).unwrap()
        }
    }

    impl Multipart {
        fn check(&self, boundary: &str, body: &[u8]) -> Result<(), Refusal> {
            self.check_within(Steps::new(json::MAX_STEPS), boundary, body).unwrap()
        }
    }

    /// S1: the tree of a body has one bound, however many parts it is made of, and whether its name is known or not.
    #[test]
    fn json_in_parts_takes_no_more_memory_than_all_of_them_may() {
        let schema =
            json!({"properties": {"meta": {"type": "array"}, "more": {"type": "array", "items": {"type": "object"}}}});
        let form = Multipart::new(Fields::of(&schema, Style::Json, true), Arc::new(JsonSchema::new(&schema).unwrap()));
        let part = |name: &str, json: &str| {
            format!(
                "--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\nContent-Type: application/json\r\n\r\n{json}\r\n"
            )
        };
        let dense = |count: usize| format!("[{}{{}}]", "{\"\":0},".repeat(count));
        let check = |parts: &[String]| form.check("b", format!("{}--b--\r\n", parts.concat()).as_bytes());
        check(&[part("meta", &dense(100))]).unwrap();
        let refusal = check(&[part("meta", &dense(100_000))]).unwrap_err();
        assert!(refusal.violations()[0].detail.starts_with("too complex"), "{refusal:?}");
        let many: Vec<String> = (0..100).map(|_| part("more", &dense(1000))).collect();
        let refusal = check(&many).unwrap_err();
        assert!(refusal.violations()[0].detail.starts_with("too complex"), "{refusal:?}");
    }

    /// S1: what takes long is not judged on the worker.
    #[test]
    fn a_form_that_takes_more_steps_is_not_decided_at_once() {
        let schema = json!({"properties": {"a": {"items": {"anyOf": [{"minLength": 9}, {"type": "string"}]}}}});
        let form = Form::new(Fields::of(&schema, Style::Form, true), Arc::new(JsonSchema::new(&schema).unwrap()));
        let body = "a=x&".repeat(900);
        assert_eq!(form.check_within(Steps::new(500), body.as_bytes()), None);
        assert_eq!(form.check_within(Steps::new(50_000), body.as_bytes()), Some(Ok(())));
    }

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
        let form = Form::new(Fields::of(&schema, Style::Form, true).json_objects(), plain(&schema));
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
        let form = Multipart::new(Fields::of(&schema, Style::Form, true).json_objects(), plain(&schema));
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
            let body = format!("{}--b--\r\n", parts.concat());
            let media = MediaType::parse("multipart/form-data; boundary=\"b\"").unwrap();
            let judged =
                boundary(&media).and_then(|boundary| form.check(&boundary, body.as_bytes())).map_err(|refusal| {
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
            let refusal = boundary(&media).and_then(|boundary| form.check(&boundary, body.as_bytes())).unwrap_err();
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
            assert_eq!(form.check("b", body.as_bytes()).is_ok(), good, "{head}");
        }
    }

    /// F25: what the schema calls text is judged as text, whatever its part says of itself.
    #[test]
    fn a_label_does_not_exempt_a_part() {
        let schema = json!({"properties": {
            "name": {"type": "string", "pattern": "^[a-z]+$"},
            "count": {"type": "integer", "maximum": 9},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
            "any": {},
        }, "additionalProperties": {"type": "string", "pattern": "^[0-9]+$"}});
        let form = Multipart::new(
            Fields::of(&schema, Style::Form, true).json_objects(),
            Arc::new(JsonSchema::new(&schema).unwrap()),
        );
        for label in [
            "",
            "; filename=\"\"",
            "; filename=\"a.txt\"",
            "\r\ncontent-type: text/html",
            "\r\ncontent-type: application/octet-stream",
            "\r\ncontent-type: application/json",
            "; filename=a\r\ncontent-type: image/png",
        ] {
            for (name, value, good) in [
                ("name", "abc", true),
                ("name", "../../etc", false),
                ("name", "\"abc\"", false),
                ("count", "9", true),
                ("count", "10", false),
                ("tags", "a", true),
                ("tags", "c", false),
                ("tags[]", "c", false),
                ("tags[]", "b", true),
                ("other", "12", true),
                ("other", "ab", false),
                ("any", "/", true),
            ] {
                let body =
                    format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"{label}\r\n\r\n{value}\r\n--b--");
                assert_eq!(form.check("b", body.as_bytes()).is_ok(), good, "{name} {value} {label}");
            }
        }
        for (head, content, good) in [
            ("name=any; filename=a", &b"\xff\xfe"[..], true),
            ("name=any\r\ncontent-type: image/png", b"\xff\xfe", false),
            ("name=name; filename=a", b"\xff\xfe", false),
            ("name=name\r\ncontent-type: text/plain; charset=utf-8", b"abc", true),
            ("name=name\r\ncontent-type: text/plain; charset=utf-7", b"abc", false),
            ("name=any\r\ncontent-type: text/html; charset=utf-7", b"abc", false),
            ("name=name\r\ncontent-type: text", b"abc", false),
            ("name=_charset_", b"utf-7", false),
        ] {
            let head = format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n");
            let body = [head.as_bytes(), content, b"\r\n--b--"].concat();
            assert_eq!(form.check("b", &body).is_ok(), good, "{head}");
        }
    }

    /// F25
    #[test]
    fn a_form_that_servers_read_in_different_ways_is_malformed() {
        let schema = json!({"properties": {"a": {"type": "string"}}});
        let form = Form::new(Fields::of(&schema, Style::Form, true), Arc::new(JsonSchema::new(&schema).unwrap()));
        for (body, good) in [
            ("a=1&b=%C3%A9+%25", true),
            ("a", false),
            ("a=\u{e9}", false),
            ("a=%zz", false),
            ("a=100%", false),
            ("%6=1", false),
            ("a=1;b=2", false),
            ("a =1", false),
            ("a=1&\ta=2", false),
            ("_charset_=UTF-8&a=1", true),
            ("_charset_=utf-7&a=1", false),
        ] {
            let reason = form.check(body.as_bytes()).err().map(|refusal| refusal.reason());
            assert_eq!(reason, (!good).then_some(Reason::MalformedBody), "{body}");
        }
        for (media, good) in [
            ("multipart/form-data; boundary=b", true),
            ("multipart/form-data; Boundary=\"b\"", true),
            ("multipart/form-data; boundary=\"\\b\"", false),
            ("multipart/form-data; boundary=\"b c\"", false),
            ("multipart/form-data; boundary=b; boundary=c", false),
            ("multipart/form-data; boundary=b; boundary*=utf-8''c", false),
            ("multipart/form-data; boundary*0=b", false),
        ] {
            assert_eq!(boundary(&MediaType::parse(media).unwrap()).is_ok(), good, "{media}");
        }
    }

    /// F34, F37, F38
    #[test]
    fn an_object_in_a_form_is_json_and_an_unknown_name_may_repeat() {
        let item = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false});
        let schema = json!({"properties": {
            "name": {"type": "string"},
            "address": {"type": "object", "properties": {"name": {"type": "integer"}}, "required": ["name"]},
            "lines": {"type": "array", "items": item},
            "either": {"enum": ["1", 3]},
        }});
        let fields = || Fields::of(&schema, Style::Form, true).json_objects();
        let schema = Arc::new(JsonSchema::new(&schema).unwrap());
        let (form, parts) = (Form::new(fields(), Arc::clone(&schema)), Multipart::new(fields(), schema));
        for (pairs, good) in [
            (&[("name", "a"), ("address", "{\"name\": 5}")][..], true),
            (&[("name", "a"), ("address", "{\"name\": \"b\"}")], false),
            (&[("address", "name")], false),
            (&[("address[name]", "5")], true),
            (&[("address[name]", "b")], false),
            (&[("lines", "{\"n\": 1}"), ("lines", "{\"n\": 2}")], true),
            (&[("lines", "{\"n\": 1}"), ("lines", "{\"m\": 2}")], false),
            (&[("lines", "[{\"n\": 1}, {\"n\": 2}]")], true),
            (&[("lines", "[{\"n\": 1}, {\"n\": \"x\"}]")], false),
            (&[("either", "1")], true),
            (&[("either", "3")], true),
            (&[("either", "2")], false),
            (&[("other", "1"), ("other", "2")], true),
            (&[("name", "1"), ("name", "2")], false),
        ] {
            let encode = |text: &str| {
                percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
            };
            let text: Vec<_> =
                pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
            assert_eq!(form.check(text.join("&").as_bytes()).is_ok(), good, "{pairs:?}");
            let part = |(name, value): &(&str, &str)| {
                format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
            };
            let body = format!("{}--b--", pairs.iter().map(part).collect::<String>());
            assert_eq!(parts.check("b", body.as_bytes()).is_ok(), good, "{body}");
        }
    }
}
