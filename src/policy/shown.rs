//! What callers are shown of a route beside its rules: what it does, and the schemas of what it takes and gives. Kept only where
//! `self_service` shows it.

use std::sync::Arc;

use serde_json::Value;

/// What callers are shown of a route.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// What it does, in one line.
    pub(crate) summary: Option<Box<str>>,
    pub(crate) parameters: Vec<ShownParameter>,
    /// Bodies of requests, by media type.
    pub(crate) bodies: ShownBodies,
    /// Responses by `200`, `2XX` or `default`, and their bodies.
    pub(crate) responses: Vec<(Box<str>, ShownBodies)>,
}

/// Media types, and the schema of bodies of each.
pub(crate) type ShownBodies = Vec<(Box<str>, ShownSchema)>;

/// A parameter in the path, the query, a header or a cookie.
#[derive(Debug)]
pub(crate) struct ShownParameter {
    pub(crate) name: Box<str>,
    /// `path`, `query`, `header` or `cookie`.
    pub(crate) location: &'static str,
    pub(crate) required: bool,
    /// How it is serialized, and whether each item is a parameter of its own, where the description says so.
    pub(crate) style: Option<(&'static str, bool)>,
    pub(crate) schema: ShownSchema,
}

/// A schema, in a document in which every reference is a JSON pointer from the root (or names a file that is not shown).
#[derive(Debug, Clone)]
pub(crate) struct ShownSchema {
    pub(crate) document: Arc<Value>,
    /// Where it is.
    pub(crate) pointer: Box<str>,
}

impl ShownSchema {
    /// A whole document.
    pub(crate) fn whole(document: &Arc<Value>) -> Self {
        Self { document: Arc::clone(document), pointer: Box::default() }
    }

    /// A definition of a document.
    pub(crate) fn definition(document: &Arc<Value>, name: &str) -> Self {
        Self { document: Arc::clone(document), pointer: format!("/$defs/{}", escaped(name)).into() }
    }
}

/// The parameters that the properties of an object schema are.
pub(crate) fn parameters<'s>(
    object: &'s ShownSchema,
    location: &'static str,
    style: impl Fn(&str) -> Option<(&'static str, bool)> + 's,
) -> impl Iterator<Item = ShownParameter> + 's {
    let value = object.document.pointer(&object.pointer);
    let member = |name: &str| value.and_then(|value| value.get(name));
    let required = member("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let properties = member("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(move |(name, _)| ShownParameter {
        name: name.as_str().into(),
        location,
        required: location == "path" || required.iter().any(|one| one.as_str() == Some(name)),
        style: style(name),
        schema: ShownSchema {
            document: Arc::clone(&object.document),
            pointer: format!("{}/properties/{}", object.pointer, escaped(name)).into(),
        },
    })
}

/// A name as a part of a JSON pointer (RFC 6901 §3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
