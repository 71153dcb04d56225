//! Parameters in the path, the query, headers and cookies.
//!
//! The parameters of each location become one object schema. The schema stage decodes them by their style, and
//! validates the resulting object.

use http::HeaderName;
use serde_json::{Map, Value, json};

use super::files::Node;
use super::media_type::is_json;
use super::path;
use super::reading::Reading;
use super::schema::{Name, reference};
use crate::policy::source::quote;
use crate::stages::schema::fields::Style;
use crate::stages::schema::media_type::MediaRange;

/// The location of a parameter (`in`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Location {
    /// In a segment of the path.
    Path,
    /// In the query.
    Query,
    /// In a header field.
    Header,
    /// In a cookie.
    Cookie,
}

/// All parameters of one location.
#[derive(Debug, Clone)]
pub(crate) struct Parameters {
    pub(crate) location: Location,
    /// How each is serialized.
    pub(crate) fields: Vec<Field>,
    /// Schema of the object that they make: a definition of requests.
    pub(crate) schema: Name,
}

/// One parameter, or one field of a form.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Its name; for a path parameter, as it is in the route.
    pub(crate) name: String,
    /// How its value is serialized.
    pub(crate) style: Style,
    /// Whether each item of a list and each member of an object is a parameter of its own.
    pub(crate) explode: bool,
    /// Of a form: whether its objects are JSON.
    pub(crate) json_objects: bool,
    /// Of a part of a multipart form: the media types that it may have; empty for any.
    pub(crate) media: Vec<MediaRange>,
    /// Schema of its value: a definition of requests.
    pub(crate) schema: Name,
}

impl Location {
    const ALL: [(&str, Self); 4] =
        [("path", Self::Path), ("query", Self::Query), ("header", Self::Header), ("cookie", Self::Cookie)];

    /// The styles allowed here; the first is the default.
    fn styles(self) -> &'static [Style] {
        match self {
            Self::Path => &[Style::Simple, Style::Label, Style::Matrix],
            Self::Query => &[Style::Form, Style::SpaceDelimited, Style::PipeDelimited, Style::DeepObject],
            Self::Header => &[Style::Simple],
            Self::Cookie => &[Style::Form],
        }
    }
}

/// The styles by name.
const STYLES: [(&str, Style); 7] = [
    ("simple", Style::Simple),
    ("label", Style::Label),
    ("matrix", Style::Matrix),
    ("form", Style::Form),
    ("spaceDelimited", Style::SpaceDelimited),
    ("pipeDelimited", Style::PipeDelimited),
    ("deepObject", Style::DeepObject),
];

/// `style` and `explode` of a parameter or an encoding.
pub(super) fn style(reading: &mut Reading<'_>, node: &Node<'_>, location: Location) -> (Style, bool) {
    let allowed = location.styles();
    let default = allowed.first().copied().unwrap_or(Style::Simple);
    let style = match node.get("style") {
        None => default,
        Some(written) => {
            let text = written.value.as_str().unwrap_or_default();
            let style = STYLES.iter().find(|(name, _)| *name == text).map(|(_, style)| *style);
            style.filter(|style| allowed.contains(style)).unwrap_or_else(|| {
                reading.diagnostics.closing(&written, format!("the style {} cannot be used here", quote(text)));
                default
            })
        }
    };
    let explode = match node.get("explode") {
        None => style == Style::Form,
        Some(written) => written.value.as_bool().unwrap_or_else(|| {
            reading.diagnostics.closing(&written, "`explode` is `true` or `false`");
            style == Style::Form
        }),
    };
    (style, explode)
}

/// The parameters of an operation, and those of its path that it does not override.
pub(super) fn read<'d>(
    reading: &mut Reading<'d>,
    operation: &Node<'d>,
    path_item: &Node<'d>,
    template: &str,
) -> Vec<Parameters> {
    let mut found = listed(reading, operation, path_item);
    let names: Vec<&str> = path::names(template).collect();
    found.retain(|(location, name, node)| {
        let astray = *location == Location::Path && !names.contains(name);
        if astray {
            reading.diagnostics.warning(node, format!("the path has no `{{{name}}}`, so this is not checked"));
        }
        !astray
    });
    let groups = Location::ALL.map(|(_, location)| group(reading, operation, location, &found));
    groups.into_iter().flatten().collect()
}

/// A parameter as the description lists it: its location, its name, and its description.
type Listed<'d> = (Location, &'d str, Node<'d>);

/// Returns the parameters that an operation and its path list, and reports those that are not valid.
fn listed<'d>(reading: &mut Reading<'d>, operation: &Node<'d>, path_item: &Node<'d>) -> Vec<Listed<'d>> {
    let mut found: Vec<Listed<'d>> = Vec::new();
    for node in [operation, path_item] {
        reading.require(node, "parameters", Value::is_array, "a list");
        let Some(list) = node.get("parameters") else { continue };
        let inherited = !found.is_empty();
        for written in list.items() {
            let parameter = match written.resolved() {
                Ok(parameter) => parameter,
                Err(problem) => {
                    reading.diagnostics.closing(&written, problem);
                    continue;
                }
            };
            let location = parameter.text("in").and_then(|text| Location::ALL.iter().find(|(name, _)| *name == text));
            let (Some((_, location)), Some(name)) = (location, parameter.text("name")) else {
                reading
                    .diagnostics
                    .closing(&parameter, "a parameter needs a `name`, and `in`: path, query, header or cookie");
                continue;
            };
            // OpenAPI 3.1, §4.8.12: other parts of the description define these.
            let ignored = ["accept", "authorization", "content-type"];
            if *location == Location::Header && ignored.iter().any(|other| name.eq_ignore_ascii_case(other)) {
                continue;
            }
            if *location == Location::Header && HeaderName::from_bytes(name.as_bytes()).is_err() {
                reading.diagnostics.closing(&parameter, format!("{} is not a header name", quote(name)));
                continue;
            }
            let known = found.iter().any(|(place, other, _)| place == location && *other == name);
            if !known {
                found.push((*location, name, parameter));
            } else if !inherited {
                reading.diagnostics.closing(&written, format!("the parameter {} is defined twice", quote(name)));
            }
        }
    }
    found
}

/// Compiles the parameters of one location into fields, and the schema of an object that has them as its members.
fn group<'d>(
    reading: &mut Reading<'d>,
    operation: &Node<'d>,
    location: Location,
    listed: &[Listed<'d>],
) -> Option<Parameters> {
    let members: Vec<_> = listed.iter().filter(|(place, ..)| *place == location).collect();
    let strict = reading.options.strict && location == Location::Query;
    if members.is_empty() && !strict {
        return None;
    }
    let (mut fields, mut properties, mut required) = (Vec::new(), Map::new(), Vec::new());
    for (_, name, node) in members {
        let name = if location == Location::Path { path::parameter(name) } else { (*name).to_owned() };
        reading.require(node, "required", Value::is_boolean, "`true` or `false`");
        let field = field(reading, location, name.clone(), node);
        if node.flag("required") || location == Location::Path {
            required.push(Value::from(name.as_str()));
        }
        properties.insert(name, reference(&field.schema));
        fields.push(field);
    }
    let mut object = json!({"type": "object", "properties": properties, "required": required});
    if strict && let Some(object) = object.as_object_mut() {
        object.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    Some(Parameters { location, fields, schema: reading.requests.define_made(object, operation) })
}

fn field<'d>(reading: &mut Reading<'d>, location: Location, name: String, node: &Node<'d>) -> Field {
    let (mut style, explode) = self::style(reading, node, location);
    reading.require(node, "content", Value::is_object, "a map of media types");
    let content = node.get("content").and_then(|content| content.entries().next());
    let schema = match content {
        None => node.get("schema"),
        Some((media, media_type)) if is_json(media) => {
            style = Style::Json;
            media_type.get("schema")
        }
        Some((media, media_type)) => {
            reading.diagnostics.warning(&media_type, format!("values in {} are not checked", quote(media))).at_key();
            None
        }
    };
    let schema = match schema {
        None => reading.requests.define_made(Value::Bool(true), node),
        Some(schema) => {
            let name = reading.requests.define(&schema);
            if node.flag("allowEmptyValue") && location == Location::Query {
                let empty = json!({"anyOf": [reference(&name), {"const": ""}]});
                reading.requests.define_made(empty, node)
            } else {
                name
            }
        }
    };
    Field { name, style, explode, json_objects: false, media: Vec::new(), schema }
}
