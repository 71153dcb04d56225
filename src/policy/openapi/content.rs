//! `content`: how bodies are validated, by media type.
//!
//! JSON and forms are validated against their schema; so is JSON where a range of media types (`*/*`) has a schema. Any
//! other body passes unchecked, with a warning where it has a schema.

use serde_json::{Value, json};

use super::files::Node;
use super::media_type::is_json;
use super::parameters::{self, Field, Location};
use super::reading::Reading;
use super::schema::{Direction, Name, Schemas, reference};
use crate::policy::source::quote;
use crate::stages::schema::fields::Style;
use crate::stages::schema::media_type::MediaRange;

/// How bodies of a media type are validated. Schemas are definitions of the message's direction.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// JSON that satisfies this schema.
    Json(Name),
    /// `application/x-www-form-urlencoded`.
    Form(Form),
    /// `multipart/form-data`.
    Multipart(Form),
    /// Any bytes.
    Unchecked,
}

/// A form: an object, and how its fields are serialized.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    /// The described fields.
    pub(crate) fields: Vec<Field>,
    /// Schema of the form as an object.
    pub(crate) schema: Name,
}

impl Content {
    /// The definitions that it needs.
    pub(super) fn schemas(&self) -> Vec<&Name> {
        match self {
            Self::Json(name) => vec![name],
            Self::Form(form) | Self::Multipart(form) => {
                form.fields.iter().map(|field| &field.schema).chain(std::iter::once(&form.schema)).collect()
            }
            Self::Unchecked => Vec::new(),
        }
    }
}

/// Reads `content`: ranges of media types, and how bodies of each are validated.
pub(super) fn read<'d>(
    reading: &mut Reading<'d>,
    content: &Node<'d>,
    direction: Direction,
) -> Vec<(MediaRange, Content)> {
    let mut types: Vec<(MediaRange, Vec<Node<'d>>)> = Vec::new();
    for (media, node) in content.entries() {
        let Some(range) = MediaRange::parse(media) else {
            let message = format!("{} is not a media type, so it is ignored", quote(media));
            reading.diagnostics.warning(&node, message).at_key();
            continue;
        };
        if !node.value.is_object() {
            let help = "a media type is a map, such as `{ schema: { type: object } }`; write `{}` for any body";
            reading.diagnostics.closing(&node, format!("this says nothing of {}", quote(media))).help(help);
            continue;
        }
        match types.iter_mut().find(|(known, _)| *known == range) {
            Some((_, nodes)) => {
                let which = if range.is_json() { "bodies may satisfy either" } else { "the first applies" };
                let message = format!("{} is the same media type as one above: {which}", quote(media));
                reading.diagnostics.warning(&node, message).at_key().help("write each media type once");
                nodes.push(node);
            }
            None => types.push((range, vec![node])),
        }
    }
    if types.is_empty() && content.entries().any(|(_, node)| node.value.is_object()) {
        // Without any media type, no body would be described, and so every body accepted.
        reading.diagnostics.closing(content, "none of these is a media type");
    }
    let mut contents = Vec::new();
    for (range, nodes) in types {
        if range.is_json() {
            let schema = json_schema(schemas(reading, direction), &nodes);
            contents.push((range, Content::Json(schema)));
            continue;
        }
        let Some(node) = nodes.first() else { continue };
        match node.get("schema") {
            Some(schema) if !range.is("text/event-stream") => {
                one(reading, direction, range, (node, &schema), &mut contents);
            }
            _ => {
                if range.is("text/event-stream") {
                    reading.diagnostics.warning(node, "event streams are not checked").at_key();
                }
                contents.push((range, Content::Unchecked));
            }
        }
    }
    contents
}

fn schemas<'r, 'd>(reading: &'r mut Reading<'d>, direction: Direction) -> &'r mut Schemas<'d> {
    match direction {
        Direction::Request => &mut reading.requests,
        Direction::Response => &mut reading.responses,
    }
}

fn json_schema<'d>(schemas: &mut Schemas<'d>, nodes: &[Node<'d>]) -> Name {
    let mut names: Vec<Name> = Vec::new();
    for node in nodes {
        let name = match node.get("schema") {
            Some(schema) => schemas.define(&schema),
            None => schemas.define_made(Value::Bool(true), node),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match (names.as_slice(), nodes.first()) {
        ([_, _, ..], Some(node)) => {
            let branches: Vec<Value> = names.iter().map(|name| reference(name)).collect();
            schemas.define_made(json!({"anyOf": branches}), node)
        }
        _ => names.into_iter().next().unwrap_or_else(|| "".into()),
    }
}

/// A media type that is not JSON, with its schema.
fn one<'d>(
    reading: &mut Reading<'d>,
    direction: Direction,
    range: MediaRange,
    (node, schema): (&Node<'d>, &Node<'d>),
    contents: &mut Vec<(MediaRange, Content)>,
) {
    let request = direction == Direction::Request;
    let shown = range.to_string();
    let xml = shown.contains("/xml") || shown.contains("+xml");
    let content = if request && range.is("application/x-www-form-urlencoded") {
        Content::Form(form(reading, node, schema))
    } else if request && range.is("multipart/form-data") {
        Content::Multipart(form(reading, node, schema))
    } else if is_plain(schema) && !xml {
        Content::Unchecked
    } else if range.is_wide() {
        let name = schemas(reading, direction).define(schema);
        contents.push((range.clone().json(), Content::Json(name)));
        let message = format!("only the JSON bodies of {} are checked", quote(&shown));
        reading.diagnostics.warning(node, message).at_key().help("list the media types that are accepted");
        Content::Unchecked
    } else {
        let message = format!("bodies in {} are not checked by this schema", quote(&shown));
        let problem = reading.diagnostics.warning(node, message).at_key();
        if xml && request {
            problem.help("a route in the policy can check them: `request: { xml: schema.xsd }`");
        }
        Content::Unchecked
    };
    contents.push((range, content));
}

/// Whether a schema accepts any text or any bytes.
fn is_plain(schema: &Node<'_>) -> bool {
    const DESCRIBE: [&str; 9] = [
        "type",
        "format",
        "description",
        "title",
        "example",
        "examples",
        "contentEncoding",
        "contentMediaType",
        "nullable",
    ];
    let Ok(schema) = schema.resolved() else { return false };
    let text = schema.value.get("type").is_none_or(|name| name == "string");
    text && schema.entries().all(|(key, _)| DESCRIBE.contains(&key) || key.starts_with("x-"))
}

fn form<'d>(reading: &mut Reading<'d>, node: &Node<'d>, schema: &Node<'d>) -> Form {
    let mut properties = Vec::new();
    properties_of(schema, 8, &mut properties);
    let encoding = node.get("encoding");
    let mut by_name: Vec<(&str, Vec<Node<'d>>)> = Vec::new();
    for (name, property) in properties {
        match by_name.iter_mut().find(|(known, _)| *known == name) {
            Some((_, nodes)) => nodes.push(property),
            None => by_name.push((name, vec![property])),
        }
    }
    let mut fields: Vec<Field> = Vec::new();
    for (name, nodes) in by_name {
        let encoding = encoding.as_ref().and_then(|encoding| encoding.get(name));
        let (mut style, mut explode, mut json_objects, mut media) = (Style::Form, true, true, Vec::new());
        if let Some(encoding) = &encoding {
            // OpenAPI 3.1, §4.8.15: with any of these `contentType` does not count, and objects are not JSON.
            if ["style", "explode", "allowReserved"].iter().any(|keyword| encoding.get(keyword).is_some()) {
                json_objects = false;
                (style, explode) = parameters::style(reading, encoding, Location::Query);
            }
            media = media_ranges(reading, encoding);
            if encoding.text("contentType").is_some_and(|text| text.split(',').all(is_json)) {
                style = Style::Json;
            }
        }
        let names: Vec<Value> = nodes.iter().map(|node| reference(&reading.requests.define(node))).collect();
        let schema = match (&*nodes, nodes.first()) {
            ([only], _) => reading.requests.define(only),
            (_, Some(first)) => reading.requests.define_made(json!({"allOf": names}), first),
            _ => continue,
        };
        fields.push(Field { name: name.to_owned(), style, explode, json_objects, media, schema });
    }
    Form { fields, schema: reading.requests.define(schema) }
}

/// The media types in `contentType` of an encoding.
fn media_ranges(reading: &mut Reading<'_>, encoding: &Node<'_>) -> Vec<MediaRange> {
    let Some(written) = encoding.get("contentType") else { return Vec::new() };
    let text = written.value.as_str().unwrap_or_default();
    let ranges: Option<Vec<_>> = text.split(',').map(MediaRange::parse).collect();
    ranges.unwrap_or_else(|| {
        reading.diagnostics.closing(&written, format!("{} is not a list of media types", quote(text)));
        Vec::new()
    })
}

/// The properties of an object, including those in `allOf`, `anyOf` and `oneOf`.
fn properties_of<'d>(schema: &Node<'d>, depth: usize, found: &mut Vec<(&'d str, Node<'d>)>) {
    let (Some(depth), Ok(schema)) = (depth.checked_sub(1), schema.resolved()) else { return };
    found.extend(schema.get("properties").iter().flat_map(Node::entries));
    for part in ["allOf", "anyOf", "oneOf"].iter().filter_map(|keyword| schema.get(keyword)) {
        part.items().for_each(|part| properties_of(&part, depth, found));
    }
}
