//! Validates path, query, headers and cookies.
//!
//! Each of the four is decoded into a JSON object, which one schema validates: required names, unknown names, values.

use std::sync::Arc;

use super::cookies;
use super::draft::Draft;
use super::fields::{Field, wrong};
use super::json::{self, JsonSchema};
use super::media_type;
use super::object::{Fields, MAX_MEMORY};
use super::segment::{PathPlace, Split};
use super::text_encoding::{Decoding, TextEncoding, has_broken_escapes};
use crate::budget::Steps;
use crate::exchange::Request;
use crate::refusal::{Reason, Refusal, Stage, Violation};
use crate::stages::strict_json::Intake;
use http::HeaderMap;
use http::header::HeaderName;

/// Parameters of one location.
#[derive(Debug)]
pub(crate) struct Group<F> {
    /// How each is written.
    pub(crate) fields: F,
    /// What the object of all must be.
    pub(crate) schema: Arc<JsonSchema>,
}

/// The parameters of a route, by location.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    /// Each with its place in the path.
    pub(crate) path: Option<Group<Vec<(Field, PathPlace)>>>,
    /// Of the query. The schema validates names that are not among them.
    pub(crate) query: Option<Group<Fields>>,
    /// Headers by name.
    pub(crate) headers: Option<Group<Vec<(Field, HeaderName)>>>,
    /// Cookies.
    pub(crate) cookies: Option<Group<Fields>>,
}

impl Parameters {
    /// Takes the parameters of another for each location that has none here.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            path: self.path.or(other.path),
            query: self.query.or(other.query),
            headers: self.headers.or(other.headers),
            cookies: self.cookies.or(other.cookies),
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.path.is_none() && self.query.is_none() && self.headers.is_none() && self.cookies.is_none()
    }

    /// Checks all parameters of a request.
    pub(crate) fn check(&self, request: &Request<'_>) -> Result<(), Refusal> {
        if self.query.is_some() && request.query.is_some_and(has_broken_escapes) {
            let detail = "the query has a `%` without two hexadecimal digits behind it; write %25";
            return Err(Refusal::new(Stage::Schema, Reason::MalformedRequest, detail));
        }
        if self.query.is_some() && request.query.is_some_and(|query| media_type::recodes(request.headers, query)) {
            let detail =
                "the query is UTF-8, and servers may read it in the charset of the Content-Type; leave that out";
            return Err(Refusal::new(Stage::Schema, Reason::MalformedRequest, detail));
        }
        let mut violations = Vec::new();
        if let Some(path) = &self.path {
            for split in [Split::Shortest, Split::Longest] {
                // Upstreams differ in how they split `1-2-3` for `{a}-{b}`: both readings must be valid.
                let differs = split == Split::Shortest || path.fields.iter().any(|(_, place)| place.is_part());
                if differs && violations.is_empty() {
                    path.validate("/path", &mut violations, |fields, intake| {
                        path_object(fields, request.path(), split, intake)
                    });
                }
            }
        }
        if let Some(query) = &self.query {
            let text = request.query.unwrap_or_default();
            query.validate("/query", &mut violations, |fields, intake| query_object(fields, text, intake));
        }
        if let Some(headers) = &self.headers {
            headers
                .validate("/header", &mut violations, |fields, intake| header_object(fields, request.headers, intake));
        }
        if let Some(cookies) = &self.cookies {
            cookies
                .validate("/cookie", &mut violations, |fields, intake| cookie_object(fields, request.headers, intake));
        }
        match violations.is_empty() {
            true => Ok(()),
            false => Err(json::violated("the request's path, query, headers or cookies", violations)),
        }
    }
}

impl<F> Group<F> {
    fn validate(
        &self,
        prefix: &str,
        violations: &mut Vec<Violation>,
        object: impl FnOnce(&F, &Intake) -> Result<Draft, Vec<Violation>>,
    ) {
        // On the worker, so only as much as takes little time: parameters are small.
        let intake = Intake::new(MAX_MEMORY, Steps::new(json::STEPS_AT_ONCE));
        let object = object(&self.fields, &intake);
        let found = intake.finish().ok().and_then(|(numbers, steps)| match object {
            Ok(object) => object.violations_within(steps, &numbers, &self.schema, prefix),
            Err(violations) => Some(violations),
        });
        violations.extend(found.unwrap_or_else(|| vec![json::too_complex(prefix)]));
    }
}

pub(super) type Object = Result<Draft, Vec<Violation>>;

/// The members of an object.
type Read = Vec<(String, Draft)>;

fn path_object(fields: &[(Field, PathPlace)], path: &str, split: Split, intake: &Intake) -> Object {
    let mut object = Read::new();
    for (field, place) in fields {
        insert(&mut object, field, &[place.value(path, split)], (TextEncoding::Percent, intake), "/path")?;
    }
    Ok(Draft::Object(object))
}

fn header_object(fields: &[(Field, HeaderName)], headers: &HeaderMap, intake: &Intake) -> Object {
    let mut object = Read::new();
    for (field, name) in fields {
        // Several fields of one name are one, with commas (RFC 9110 §5.3).
        let values: Result<Vec<&str>, _> = headers.get_all(name).iter().map(|value| value.to_str()).collect();
        match values {
            Ok(values) if values.is_empty() => {}
            Ok(values) => {
                let mut text = values.join(",");
                if field.has_items() && text.contains([' ', '\t']) {
                    // Optional whitespace around the commas of a list belongs to no item (RFC 9110 §5.6.1).
                    text = text.split(',').map(|item| item.trim_matches([' ', '\t'])).collect::<Vec<_>>().join(",");
                }
                insert(&mut object, field, &[&text], (TextEncoding::Plain, intake), "/header")?;
            }
            Err(_) => return Err(vec![wrong("/header", field.name(), "is not visible ASCII")]),
        }
    }
    Ok(Draft::Object(object))
}

pub(super) fn query_object(fields: &Fields, query: &str, intake: &Intake) -> Object {
    cookies::check_query(query).map_err(|problem| vec![Violation::new("/query", format!("it {problem}"))])?;
    fields.object(query, "/query", intake)
}

fn cookie_object(fields: &Fields, headers: &HeaderMap, intake: &Intake) -> Object {
    let sent = cookies::cookies(headers);
    let sent = sent.map_err(|problem| vec![Violation::new("/cookie", format!("it {problem}"))])?;
    let mut object = Read::new();
    for field in fields.iter() {
        let texts = cookies::values(&sent, field.name());
        let texts = texts.map_err(|problem| vec![wrong("/cookie", field.name(), problem)])?;
        if !texts.is_empty() {
            insert(&mut object, field, &texts, (TextEncoding::Percent, intake), "/cookie")?;
        }
    }
    Ok(Draft::Object(object))
}

fn insert(
    object: &mut Read,
    field: &Field,
    texts: &[&str],
    (encoding, intake): (TextEncoding, &Intake),
    prefix: &str,
) -> Result<(), Vec<Violation>> {
    match field.value(texts, Decoding { encoding, intake }) {
        _ if intake.is_exhausted() => Err(vec![json::too_complex(prefix)]),
        Ok(value) => {
            object.push((field.name().to_owned(), value));
            Ok(())
        }
        Err(problem) => Err(vec![wrong(prefix, field.name(), problem)]),
    }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;
    use http::{HeaderValue, Method};
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::exchange::SampleRequest;
    use crate::stages::schema::fields::Style;
    use crate::stages::schema::segment::{Extent, SegmentPattern};

    #[test]
    fn each_location_is_judged() {
        let integer = json!({"type": "integer", "minimum": 1});
        let field = |name: &str, style| Field::new(name, style, false, &integer, &integer);
        let place = |extent| PathPlace { segment: 1, extent };
        let schema = |names: &[&str]| {
            let properties: Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), integer.clone())).collect();
            let schema = json!({"properties": properties, "required": names, "additionalProperties": false});
            Arc::new(JsonSchema::new(&schema).unwrap())
        };
        let parameters = Parameters {
            path: Some(Group {
                fields: vec![(field("id", Style::Simple), place(Extent::Whole))],
                schema: schema(&["id"]),
            }),
            query: Some(Group { fields: Fields::new(vec![field("q", Style::Form)]), schema: schema(&["q"]) }),
            headers: Some(Group {
                fields: vec![(field("X-Count", Style::Simple), HeaderName::from_static("x-count"))],
                schema: schema(&["X-Count"]),
            }),
            cookies: Some(Group { fields: Fields::new(vec![field("c", Style::Form)]), schema: schema(&["c"]) }),
        };
        for (path, query, count, cookie, pointers) in [
            ("/orders/7", Some("q=1"), "2", "a=b; c=3", ""),
            ("/orders/%37", Some("q=1"), "2", "c=3", ""),
            ("/orders/x", Some("q=0"), "0", "c=y", "/path/id /query/q /header/X-Count /cookie/c"),
            ("/orders/7", Some("q=1&r=2"), "2", "c=3", "/query"),
            ("/orders/7", None, "2", "c=3", "/query"),
            ("/orders/7", Some("q=1"), "2", "c=3; c=4", "/cookie/c"),
            ("/orders/7", Some("q=1"), "2", "d=3", "/cookie"),
        ] {
            let headers = HeaderMap::from_iter([
                (HeaderName::from_static("x-count"), HeaderValue::from_static(count)),
                (COOKIE, HeaderValue::from_static(cookie)),
            ]);
            let checked = parameters.check(&SampleRequest::new(&Method::GET, path).with(query, &headers));
            let found = checked.err().map_or(String::new(), |refusal| {
                let pointers: Vec<_> = refusal.violations().iter().map(|violation| &*violation.pointer).collect();
                pointers.join(" ")
            });
            assert_eq!(found, pointers, "{path} {query:?} {count} {cookie}");
        }
    }

    /// F34: `fetch` joins the values of a header with a comma and a space.
    #[test]
    fn whitespace_around_the_commas_of_a_header_belongs_to_no_item() {
        let numbers = json!({"type": "array", "items": {"type": "integer"}});
        let member = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
        let text = json!({"type": "string", "pattern": "^a, b$"});
        for (schema, values, good) in [
            (&numbers, vec!["1, 2"], true),
            (&numbers, vec!["1 ,\t2", "3"], true),
            (&numbers, vec!["1, x"], false),
            (&numbers, vec!["1 2"], false),
            (&member, vec!["a, 1"], true),
            (&member, vec!["a, x"], false),
            (&text, vec!["a, b"], true),
            (&text, vec!["a,b"], false),
        ] {
            let field = Field::new("x-list", Style::Simple, false, schema, schema);
            let schema = Arc::new(JsonSchema::new(&json!({"properties": {"x-list": schema}})).unwrap());
            let headers = Some(Group { fields: vec![(field, HeaderName::from_static("x-list"))], schema });
            let parameters = Parameters { headers, ..Parameters::default() };
            let name = || HeaderName::from_static("x-list");
            let sent = HeaderMap::from_iter(values.iter().map(|value| (name(), HeaderValue::from_static(value))));
            let checked = parameters.check(&SampleRequest::new(&Method::GET, "/").with(None, &sent));
            assert_eq!(checked.is_ok(), good, "{values:?}");
        }
    }

    #[test]
    fn the_rest_of_a_path_is_one_value() {
        let text = json!({"type": "string", "maxLength": 5});
        let field = Field::new("rest", Style::Simple, false, &text, &text);
        let schema = Arc::new(JsonSchema::new(&json!({"properties": {"rest": text}})).unwrap());
        let path = Some(Group { fields: vec![(field, PathPlace { segment: 1, extent: Extent::Rest })], schema });
        let parameters = Parameters { path, ..Parameters::default() };
        for (path, good) in [("/files/a/b", true), ("/files/a/b/c", true), ("/files/aa/bb/cc", false)] {
            let (sample, headers) = (SampleRequest::new(&Method::GET, path), HeaderMap::new());
            assert_eq!(parameters.check(&sample.with(None, &headers)).is_ok(), good, "{path}");
        }
    }

    /// F38: a reading that is valid is valid, in every location.
    #[test]
    fn a_text_is_read_as_whatever_its_schema_allows() {
        let list = json!({"type": "array", "items": {"type": "integer"}});
        for (schema, text, good) in [
            (json!({"oneOf": [{"type": "string", "pattern": "^[a-z]+$"}, list]}), "abc", true),
            (json!({"oneOf": [{"type": "string", "pattern": "^[a-z]+$"}, list]}), "1,2", true),
            (json!({"oneOf": [{"type": "string", "pattern": "^[a-z]+$"}, list]}), "1,b", false),
            (json!({"type": ["string", "array"], "maxLength": 3, "maxItems": 1}), "a,b", true),
            (json!({"type": ["string", "array"], "maxLength": 2, "maxItems": 1}), "a,b", false),
            (json!({"anyOf": [{"type": "object", "required": ["a"]}, {"type": "integer"}]}), "1", true),
            (json!({"anyOf": [{"type": "object", "required": ["a"]}, {"type": "integer"}]}), "a,1", true),
            (json!({"anyOf": [{"type": "object", "required": ["a"]}, {"type": "integer"}]}), "b,1", false),
            (json!({"enum": ["1", 3]}), "1", true),
            (json!({"enum": ["1", 3]}), "3", true),
            (json!({"enum": ["1", 3]}), "2", false),
            (json!({"type": "array", "items": {"enum": ["1", 3]}}), "1,3", true),
            (json!({"type": ["string", "null"], "minLength": 2}), "", true),
            (json!({"type": ["string", "null"], "minLength": 5}), "null", false),
        ] {
            let group = || Arc::new(JsonSchema::new(&json!({"properties": {"v": schema}})).unwrap());
            let field = |style| Field::new("v", style, false, &schema, &schema);
            let place = PathPlace { segment: 1, extent: Extent::Whole };
            let header = HeaderName::from_static("v");
            let parameters = Parameters {
                path: Some(Group { fields: vec![(field(Style::Simple), place)], schema: group() }),
                query: Some(Group { fields: Fields::new(vec![field(Style::Form)]), schema: group() }),
                headers: Some(Group { fields: vec![(field(Style::Simple), header.clone())], schema: group() }),
                cookies: Some(Group { fields: Fields::new(vec![field(Style::Form)]), schema: group() }),
            };
            let headers = HeaderMap::from_iter([
                (header, HeaderValue::from_str(text).unwrap()),
                (COOKIE, HeaderValue::try_from(format!("v={text}")).unwrap()),
            ]);
            let (path, query) = (format!("/x/{text}"), format!("v={text}"));
            let checked = parameters.check(&SampleRequest::new(&Method::GET, &path).with(Some(&query), &headers));
            let found = checked.err().map_or(0, |refusal| {
                let tops = refusal.violations().iter().filter_map(|violation| violation.pointer.split('/').nth(1));
                tops.collect::<std::collections::BTreeSet<_>>().len()
            });
            assert_eq!(found, if good { 0 } else { 4 }, "{schema} {text}");
        }
    }

    /// F40: the text says which number it is, in every location, and in JSON as text.
    #[test]
    fn numbers_are_judged_as_they_are_written() {
        let object = |schema: &Value| json!({"type": "object", "properties": {"n": schema}});
        for (schema, text, good) in [
            (json!({"type": "integer"}), "1.0000000000000000001", false),
            (json!({"type": "integer"}), "1.0000000000000000000", true),
            (json!({"type": "integer"}), "1e-400", false),
            (json!({"type": "number", "maximum": 0.3}), "0.3000000000000000000001", false),
            (json!({"type": "number", "maximum": 0.3}), "0.2999999999999999999999", true),
            (json!({"type": "integer", "minimum": i64::MIN}), "-9223372036854775809", false),
            (json!({"enum": ["1", 3]}), "3.00000000000000000001", false),
            (json!({"enum": ["1", 3]}), "3.00000000000000000000", true),
            (json!({"type": "array", "items": {"type": "integer"}}), "5e-324,1.0000000000000000001", false),
            (json!({"type": "array", "items": {"type": "number", "maximum": 0.3}}), "5e-324,0.3", true),
        ] {
            let group = |schema: &Value| Arc::new(JsonSchema::new(&json!({"properties": {"v": schema}})).unwrap());
            let place = PathPlace { segment: 1, extent: Extent::Whole };
            let header = HeaderName::from_static("v");
            let field = |style| Field::new("v", style, false, &schema, &schema);
            let whole = object(&schema);
            let as_json = Field::new("v", Style::Json, false, &whole, &whole);
            let parameters = Parameters {
                path: Some(Group { fields: vec![(field(Style::Simple), place)], schema: group(&schema) }),
                query: Some(Group { fields: Fields::new(vec![field(Style::Form)]), schema: group(&schema) }),
                headers: Some(Group { fields: vec![(field(Style::Simple), header.clone())], schema: group(&schema) }),
                cookies: Some(Group { fields: Fields::new(vec![as_json]), schema: group(&whole) }),
            };
            let of_list = if schema["type"] == "array" { format!("[{text}]") } else { text.to_owned() };
            let headers = HeaderMap::from_iter([
                (header, HeaderValue::from_str(text).unwrap()),
                (COOKIE, HeaderValue::try_from(format!("v=%7B%22n%22:{}%7D", of_list.replace(',', "%2C"))).unwrap()),
            ]);
            let (path, query) = (format!("/x/{text}"), format!("v={text}"));
            let checked = parameters.check(&SampleRequest::new(&Method::GET, &path).with(Some(&query), &headers));
            let found = checked.err().map_or(0, |refusal| {
                let tops = refusal.violations().iter().filter_map(|violation| violation.pointer.split('/').nth(1));
                tops.collect::<std::collections::BTreeSet<_>>().len()
            });
            assert_eq!(found, if good { 0 } else { 4 }, "{schema} {text}");
        }
    }

    /// F25
    #[test]
    fn a_query_with_a_broken_escape_is_malformed_where_it_is_judged() {
        let schema = Arc::new(JsonSchema::new(&json!({})).unwrap());
        let query = Some(Group { fields: Fields::default(), schema });
        let judged = Parameters { query, ..Parameters::default() };
        for (query, good) in [("a=%41", true), ("a=%zz", false), ("a=%", false), ("%4=1", false)] {
            let (sample, headers) = (SampleRequest::new(&Method::GET, "/"), HeaderMap::new());
            let reason = judged.check(&sample.with(Some(query), &headers)).err().map(|refusal| refusal.reason());
            assert_eq!(reason, (!good).then_some(Reason::MalformedRequest), "{query}");
            let (sample, headers) = (SampleRequest::new(&Method::GET, "/"), HeaderMap::new());
            assert!(Parameters::default().check(&sample.with(Some(query), &headers)).is_ok());
        }
    }

    /// F25's kind: Django decodes a query in the charset of the Content-Type.
    #[test]
    fn a_query_that_servers_may_read_in_another_charset_is_malformed_where_it_is_judged() {
        let schema = Arc::new(JsonSchema::new(&json!({})).unwrap());
        let judged = Parameters { query: Some(Group { fields: Fields::default(), schema }), ..Parameters::default() };
        for (query, media, good) in [
            ("a=%2BAC4-", "application/json", true),
            ("a=%2BAC4-", "text/plain; charset=utf-8", true),
            ("a=%2BAC4-", "text/plain; charset=UTF-7", false),
            ("a=b", "text/plain; charset=UTF-7", true),
            ("a=%20", "text/plain; charset=\"utf-16\"", false),
            ("a=%20", "charset=utf-7", false),
            ("a=%20", "text/plain; charset=ISO-8859-1", true),
            ("a=%C3%A9", "text/plain; charset=ISO-8859-1", false),
            ("a=%C3%A9", "text/plain", true),
        ] {
            let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, http::HeaderValue::from_static(media))]);
            let sample = SampleRequest::new(&Method::GET, "/");
            let reason = judged.check(&sample.with(Some(query), &headers)).err().map(|refusal| refusal.reason());
            assert_eq!(reason, (!good).then_some(Reason::MalformedRequest), "{query} {media}");
        }
    }

    /// F1
    #[test]
    fn names_with_text_between_them_are_valid_in_both_splits() {
        let pattern = Arc::new(SegmentPattern::new(vec!["".into(), "-".into(), ".csv".into()]));
        let number = json!({"type": "integer"});
        let place = |at| PathPlace { segment: 1, extent: Extent::Part(Arc::clone(&pattern), at) };
        let field = |name: &str, schema: &Value| Field::new(name, Style::Simple, false, schema, schema);
        let text = json!({"type": "string"});
        let schema = json!({"properties": {"a": number, "b": text}});
        let fields = vec![(field("a", &number), place(0)), (field("b", &text), place(1))];
        let path = Some(Group { fields, schema: Arc::new(JsonSchema::new(&schema).unwrap()) });
        let parameters = Parameters { path, ..Parameters::default() };
        for (path, good) in [("/x/1-b.csv", true), ("/x/a-b.csv", false), ("/x/1-b-c.csv", false), ("/x/1-.csv", true)]
        {
            let (sample, headers) = (SampleRequest::new(&Method::GET, path), HeaderMap::new());
            assert_eq!(parameters.check(&sample.with(None, &headers)).is_ok(), good, "{path}");
        }
    }
}
