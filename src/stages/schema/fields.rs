//! Decodes parameters and form fields into the JSON value that a schema validates: numbers, lists and objects.
//!
//! The styles are OpenAPI's (3.1, §4.8.12), after RFC 6570. The schema decides how a text is read: `5` is a number
//! where numbers are allowed, and text elsewhere. The only check here is that a name with a single value occurs once.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use mediatype::MediaType;
use serde_json::{Map, Value};

use super::media_type::MediaRange;
use super::nested;
use super::text_encoding::{TextEncoding, decoded};
use super::value_type::{MAX_DEPTH, ValueType, gather};
use crate::refusal::Violation;
use crate::stages::strict_json;

/// Most name-value pairs of one message, counting repeated names.
const MAX_PAIRS: usize = 1000;

/// How a value is serialized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `a,b`.
    Simple,
    /// `.a.b`.
    Label,
    /// `;name=a;name=b`.
    Matrix,
    /// `name=a&name=b`, or `name=a,b`.
    Form,
    /// `name=a%20b`.
    SpaceDelimited,
    /// `name=a|b`.
    PipeDelimited,
    /// `name[a]=1&name[b]=2`.
    DeepObject,
    /// JSON as text.
    Json,
}

/// One parameter, or one field of a form.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    name: Box<str>,
    style: Style,
    /// Whether each item of a list or member of an object is serialized separately.
    explode: bool,
    /// The media types that it may have as a part of a multipart form; empty for any.
    media: Box<[MediaRange]>,
    value_type: ValueType,
}

impl Field {
    /// `schema` describes the value; its references resolve within `root`.
    pub(crate) fn new(name: &str, style: Style, explode: bool, schema: &Value, root: &Value) -> Self {
        // `a=1&b=2` and `p[a]=1` may be nested further, and other styles cannot.
        let value_type = match style {
            Style::Form | Style::DeepObject => ValueType::nested(schema, root),
            _ => ValueType::flat(schema, root),
        };
        Self { name: name.into(), style, explode, media: Box::default(), value_type }
    }

    /// As a part of a multipart form, of these media types only; of any if there are none.
    pub(crate) fn accepting(self, media: &[MediaRange]) -> Self {
        Self { media: media.into(), ..self }
    }

    pub(super) fn accepts(&self, media: &MediaType<'_>) -> bool {
        self.media.is_empty() || self.media.iter().any(|range| range.contains(media))
    }

    /// Whether its value is JSON as text.
    pub(super) fn is_json(&self) -> bool {
        self.style == Style::Json
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its text is made of items: of a list, or of the members of an object.
    pub(super) fn has_items(&self) -> bool {
        self.style == Style::Simple && (self.value_type.list.is_some() || self.value_type.object.is_some())
    }

    /// Whether it may occur several times.
    pub(super) fn is_list(&self) -> bool {
        self.value_type.list.is_some()
    }

    /// Decodes a single text: the whole value, or one item of a list.
    pub(super) fn item(&self, text: &str, encoding: TextEncoding) -> Result<Value, &'static str> {
        self.value_type.list.as_deref().unwrap_or(&self.value_type).scalar(text, encoding)
    }

    /// Decodes the value of these texts. The error completes a sentence that begins with "it".
    pub(super) fn value(&self, texts: &[&str], encoding: TextEncoding) -> Result<Value, &'static str> {
        const TWICE: &str = "occurs more than once; send it once";
        if let (Some(item), Style::Form, true) = (&self.value_type.list, self.style, self.explode) {
            let items = texts.iter().map(|text| item.scalar(text, encoding));
            return items.collect::<Result<_, _>>().map(Value::Array);
        }
        let [text] = *texts else { return Err(TWICE) };
        let (text, delimiter) = self.unprefixed(text)?;
        if self.style == Style::Json {
            let text = decoded(text, encoding)?;
            return strict_json::parse(text.as_bytes()).map_err(|_| "is not acceptable JSON");
        }
        match (&self.value_type.list, &self.value_type.object) {
            // Without brackets, this is neither a list nor an object.
            _ if self.style == Style::DeepObject => self.value_type.scalar(text, encoding),
            (None, None) => self.value_type.scalar(text, encoding),
            (Some(_), _) if text.is_empty() => Ok(Value::Array(Vec::new())),
            (Some(item), _) => {
                let prefix = format!("{}=", self.name);
                let named = self.style == Style::Matrix && self.explode;
                let escaped = !item.commas && encoding != TextEncoding::Plain;
                let items = split(text, delimiter, escaped).map(|text| match named {
                    true => text.strip_prefix(&prefix).ok_or("is not serialized in the style of this parameter"),
                    false => Ok(text),
                });
                items.map(|text| item.scalar(text?, encoding)).collect::<Result<_, _>>().map(Value::Array)
            }
            (None, Some(_)) if text.is_empty() => Ok(Value::Object(Map::new())),
            (None, Some(_)) => {
                let mut pieces = split(text, delimiter, false);
                let mut pairs = Vec::new();
                while let Some(piece) = pieces.next() {
                    let pair =
                        if self.explode { piece.split_once('=') } else { pieces.next().map(|text| (piece, text)) };
                    pairs.push(pair.ok_or("is not serialized in the style of this parameter")?);
                }
                self.members(pairs.into_iter(), encoding)
            }
        }
    }

    /// Strips the style's prefix from a text, and returns the rest with the style of its delimiter.
    fn unprefixed<'t>(&self, text: &'t str) -> Result<(&'t str, Style), &'static str> {
        const WRONG_STYLE: &str = "is not serialized in the style of this parameter";
        match self.style {
            Style::Label => Ok((
                text.strip_prefix('.').ok_or(WRONG_STYLE)?,
                if self.explode { Style::Label } else { Style::Simple },
            )),
            Style::Matrix => {
                let text = text.strip_prefix(';').ok_or(WRONG_STYLE)?;
                match (self.value_type.list.is_none() && self.value_type.object.is_none(), self.explode) {
                    (true, _) | (_, false) => {
                        let text = text.strip_prefix(&*self.name).ok_or(WRONG_STYLE)?;
                        Ok((text.strip_prefix('=').unwrap_or(text), Style::Simple))
                    }
                    (_, true) => Ok((text, Style::Matrix)),
                }
            }
            style => Ok((text, style)),
        }
    }

    fn members<'t>(
        &self,
        pairs: impl Iterator<Item = (&'t str, &'t str)>,
        encoding: TextEncoding,
    ) -> Result<Value, &'static str> {
        let mut members = Map::new();
        for (name, text) in pairs {
            let name = decoded(name, encoding)?.into_owned();
            let value = self.value_type.member(&name).scalar(text, encoding)?;
            if members.insert(name, value).is_some() {
                return Err("has the same member twice");
            }
        }
        Ok(Value::Object(members))
    }
}

/// Splits a text at the delimiters of a style. With `escaped`, an encoded comma is one too: clients encode it, and the items
/// cannot contain any.
fn split(text: &str, style: Style, escaped: bool) -> impl Iterator<Item = &str> {
    const COMMAS: &[&str] = &[",", "%2C", "%2c"];
    const SPACES: &[&str] = &["%20", "+", " "];
    const PIPES: &[&str] = &["|", "%7C", "%7c"];
    let delimiters: &[&str] = match style {
        Style::Label => &["."],
        Style::Matrix => &[";"],
        Style::SpaceDelimited => SPACES,
        Style::PipeDelimited => PIPES,
        _ if escaped => COMMAS,
        _ => &[","],
    };
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let found = delimiters.iter().filter_map(|delimiter| Some((text.find(delimiter)?, delimiter.len()))).min();
        let Some((at, length)) = found else { return rest.take() };
        rest = text.get(at + length..);
        text.get(..at)
    })
}

/// The fields of a query or of a form.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(Vec<Field>);

impl Fields {
    pub(crate) fn new(fields: Vec<Field>) -> Self {
        Self(fields)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Field> {
        self.0.iter()
    }

    /// The properties of an object schema as fields, all in one style.
    pub(crate) fn of(schema: &Value, style: Style, explode: bool) -> Self {
        let (mut types, mut parts) = (Vec::new(), Vec::new());
        gather(schema, schema, MAX_DEPTH, &mut types, &mut parts);
        let properties = parts.iter().filter_map(|part| part.get("properties")?.as_object()).flatten();
        Self(properties.map(|(name, property)| Field::new(name, style, explode, property, schema)).collect())
    }

    /// Decodes a query or a form into an object. Names that are not among the fields become text members, which the
    /// schema validates.
    pub(super) fn object(&self, text: &str, prefix: &str) -> Result<Map<String, Value>, Vec<Violation>> {
        let mut texts: BTreeMap<Cow<'_, str>, Vec<&str>> = BTreeMap::new();
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        for (count, pair) in pairs.enumerate() {
            if count == MAX_PAIRS {
                return Err(vec![Violation::new(prefix, format!("there are more than {MAX_PAIRS} names; send fewer"))]);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match decoded(name, TextEncoding::Form) {
                Ok(name) => texts.entry(name).or_default().push(value),
                Err(problem) => return Err(vec![Violation::new(prefix, format!("a name {problem}"))]),
            }
        }
        let (mut object, mut violations) = (Map::new(), Vec::new());
        let mut nested = self.take_nested(&mut texts);
        for field in &self.0 {
            let brackets = nested.remove(&*field.name);
            let value = match (field.taken(&mut texts), brackets) {
                (Taken::Nothing, None) => continue,
                (Taken::Texts(texts), None) => field.value(&texts, TextEncoding::Form),
                (Taken::Members(pairs), None) => {
                    field.members(pairs.iter().map(|(name, text)| (&**name, *text)), TextEncoding::Form)
                }
                (Taken::Nothing, Some(brackets)) => {
                    let pairs = brackets.iter().map(|(brackets, text)| (&**brackets, *text));
                    nested::value(&field.value_type, pairs, TextEncoding::Form)
                }
                (_, Some(_)) => Err("occurs with brackets and without; send it in one form"),
            };
            match value {
                Ok(value) => drop(object.insert(field.name.to_string(), value)),
                Err(problem) => violations.push(wrong(prefix, &field.name, problem)),
            }
        }
        let text = ValueType::default();
        for (name, texts) in texts {
            let values: Result<Vec<Value>, _> =
                texts.iter().map(|value| text.scalar(value, TextEncoding::Form)).collect();
            let value = match values {
                Ok(mut values) if values.len() == 1 => values.pop().unwrap_or_default(),
                Ok(values) => Value::Array(values),
                Err(problem) => {
                    violations.push(wrong(prefix, &name, problem));
                    continue;
                }
            };
            object.insert(name.into_owned(), value);
        }
        if violations.is_empty() { Ok(object) } else { Err(violations) }
    }
}

/// By field: what follows its name in brackets, and the text.
type Nested<'t> = BTreeMap<String, Vec<(String, &'t str)>>;

impl Fields {
    /// Takes the names that begin with that of a field and a bracket, in the order that they were sent in for each field.
    /// Whatever its style, they belong to the field: an upstream may read them so.
    fn take_nested<'t>(&self, texts: &mut BTreeMap<Cow<'t, str>, Vec<&'t str>>) -> Nested<'t> {
        let mut nested = Nested::new();
        if !texts.keys().any(|name| name.contains('[')) {
            return nested;
        }
        let names: HashSet<&str> = self.0.iter().map(|field| &*field.name).collect();
        let own = |name: &str| {
            let (field, _) = name.split_once('[')?;
            (names.contains(field) && !names.contains(name)).then(|| field.to_owned())
        };
        let taken: Vec<(String, String)> =
            texts.keys().filter_map(|name| Some((own(name)?, name.to_string()))).collect();
        for (field, name) in taken {
            let brackets = name.get(field.len()..).unwrap_or_default().to_owned();
            let values = texts.remove(name.as_str()).into_iter().flatten();
            nested.entry(field).or_default().extend(values.map(|text| (brackets.clone(), text)));
        }
        nested
    }
}

impl IntoIterator for Fields {
    type Item = Field;
    type IntoIter = std::vec::IntoIter<Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The part of a query or form that belongs to a field.
enum Taken<'t> {
    Nothing,
    Texts(Vec<&'t str>),
    /// Members of an object, each with its own name.
    Members(Vec<(String, &'t str)>),
}

impl Field {
    fn taken<'t>(&self, texts: &mut BTreeMap<Cow<'t, str>, Vec<&'t str>>) -> Taken<'t> {
        let claimed: Vec<(String, String)> = match (&self.value_type.object, self.style, self.explode) {
            (Some(members), Style::Form, true) if self.value_type.list.is_none() => {
                let names = members.known.iter().map(|(name, _)| (name.to_string(), name.to_string()));
                names.filter(|(name, _)| texts.contains_key(name.as_str())).collect()
            }
            _ => return texts.remove(&*self.name).map_or(Taken::Nothing, Taken::Texts),
        };
        if claimed.is_empty() {
            return Taken::Nothing;
        }
        let mut members = Vec::new();
        for (name, member) in claimed {
            members.extend(texts.remove(name.as_str()).into_iter().flatten().map(|text| (member.clone(), text)));
        }
        Taken::Members(members)
    }
}

/// The violation of a field that cannot be decoded.
pub(super) fn wrong(prefix: &str, name: &str, problem: &str) -> Violation {
    let name = name.replace('~', "~0").replace('/', "~1");
    Violation::new(format!("{prefix}/{name}"), format!("it {problem}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(style: Style, explode: bool, schema: &Value) -> Field {
        Field::new("p", style, explode, schema, schema)
    }

    #[test]
    fn styles_write_scalars_lists_and_objects() {
        let (text, list, object) = (
            json!({"type": "string"}),
            json!({"type": "array", "items": {"type": "integer"}}),
            json!({"type": "object", "properties": {"R": {"type": "integer"}, "G": {"type": "string"}}}),
        );
        let (numbers, colour) = (json!([3, 4, 5]), json!({"R": 100, "G": "200"}));
        for (style, explode, schema, written, value) in [
            (Style::Simple, false, &text, "blue", Some(json!("blue"))),
            (Style::Simple, false, &list, "3,4,5", Some(numbers.clone())),
            (Style::Simple, false, &object, "R,100,G,200", Some(colour.clone())),
            (Style::Simple, true, &object, "R=100,G=200", Some(colour.clone())),
            (Style::Simple, false, &object, "R,100,G", None),
            (Style::Simple, true, &object, "R=100,G", None),
            (Style::Simple, false, &object, "R,1,R,2", None),
            (Style::Simple, false, &list, "", Some(json!([]))),
            (Style::Label, false, &text, ".blue", Some(json!("blue"))),
            (Style::Label, false, &list, ".3,4,5", Some(numbers.clone())),
            (Style::Label, true, &list, ".3.4.5", Some(numbers.clone())),
            (Style::Label, true, &object, ".R=100.G=200", Some(colour.clone())),
            (Style::Label, false, &text, "blue", None),
            (Style::Matrix, false, &text, ";p=blue", Some(json!("blue"))),
            (Style::Matrix, true, &text, ";p", Some(json!(""))),
            (Style::Matrix, false, &list, ";p=3,4,5", Some(numbers.clone())),
            (Style::Matrix, true, &list, ";p=3;p=4;p=5", Some(numbers.clone())),
            (Style::Matrix, true, &object, ";R=100;G=200", Some(colour.clone())),
            (Style::Matrix, true, &list, ";p=3;q=4", None),
            (Style::SpaceDelimited, false, &list, "3%204+5", Some(numbers.clone())),
            (Style::PipeDelimited, false, &list, "3|4%7C5", Some(numbers)),
            (Style::Json, false, &object, "%7B%22R%22:100,%22G%22:%22200%22%7D", Some(colour)),
            (Style::Json, false, &object, "%7B", None),
            (Style::Form, false, &text, "%ff", None),
            (Style::Form, false, &text, "a+b%2Bc", Some(json!("a b+c"))),
        ] {
            let got = field(style, explode, schema).value(&[written], TextEncoding::Form);
            assert_eq!(got.as_ref().ok(), value.as_ref(), "{style:?} {explode} {written}: {got:?}");
        }
    }

    #[test]
    fn a_schema_says_what_a_text_stands_for() {
        for (schema, text, value) in [
            (json!({"type": "string"}), "5", json!("5")),
            (json!({"type": "integer"}), "5", json!(5)),
            (json!({"type": "integer"}), "5x", json!("5x")),
            (json!({"type": "integer"}), " 5", json!(" 5")),
            (json!({"type": "integer"}), "5 ", json!("5 ")),
            (json!({"type": "integer"}), "5\n", json!("5\n")),
            (json!({"type": "integer"}), "05", json!("05")),
            (json!({"type": "number"}), "1e3", json!(1000.0)),
            (json!({"type": "number"}), "NaN", json!("NaN")),
            (json!({"type": ["integer", "null"]}), "", json!(null)),
            (json!({"type": ["string", "null"]}), "", json!("")),
            (json!({"type": "boolean"}), "true", json!(true)),
            (json!({"type": "boolean"}), "1", json!("1")),
            (json!({"enum": [1, 2]}), "2", json!(2)),
            (json!({"enum": ["1", "2"]}), "2", json!("2")),
            (json!({"allOf": [{"$ref": "#/$defs/n"}], "$defs": {"n": {"type": "number"}}}), "7", json!(7)),
            (json!({"$ref": "#"}), "7", json!("7")),
            (json!({}), "7", json!("7")),
            (json!(true), "7", json!("7")),
        ] {
            assert_eq!(
                field(Style::Form, true, &schema).value(&[text], TextEncoding::Form),
                Ok(value),
                "{schema} {text}"
            );
        }
    }

    #[test]
    fn queries_become_objects() {
        let schema = json!({"properties": {
            "limit": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
        }});
        let filter = json!({"type": "object", "properties": {"min": {"type": "integer"}}});
        let mut fields: Vec<Field> = Fields::of(&schema, Style::Form, true).iter().cloned().collect();
        fields.push(Field::new("filter", Style::DeepObject, true, &filter, &filter));
        let integer = json!({"type": "integer"});
        fields.push(Field::new("page", Style::Form, true, &integer, &integer));
        fields.push(Field::new("page[size]", Style::Form, true, &integer, &integer));
        for (name, items) in [
            ("ids", integer.clone()),
            ("names", json!({"type": "string"})),
            ("states", json!({"type": "string", "enum": ["open", "paid"]})),
        ] {
            let list = json!({"type": "array", "items": items});
            fields.push(Field::new(name, Style::Form, false, &list, &list));
        }
        let fields = Fields::new(fields);
        for (query, object) in [
            ("", Ok(json!({}))),
            ("limit=5&tags=a&tags=b%26c", Ok(json!({"limit": 5, "tags": ["a", "b&c"]}))),
            ("%6Cimit=5&&", Ok(json!({"limit": 5}))),
            ("tags=a", Ok(json!({"tags": ["a"]}))),
            ("filter[min]=3&filter[x]=y", Ok(json!({"filter": {"min": 3, "x": "y"}}))),
            ("filter%5Bmin%5D=3", Ok(json!({"filter": {"min": 3}}))),
            ("other=1&other=2&flag", Ok(json!({"other": ["1", "2"], "flag": ""}))),
            ("limit=5&limit=6", Err("/query/limit")),
            ("filter[min]=3&filter[min]=4", Err("/query/filter")),
            // F15: whatever a field's style is, names with brackets are its own.
            ("tags[]=a&tags[]=b", Ok(json!({"tags": ["a", "b"]}))),
            ("limit[]=5", Ok(json!({"limit": ["5"]}))),
            ("limit[a][b]=5", Ok(json!({"limit": {"a": {"b": "5"}}}))),
            ("filter=3", Ok(json!({"filter": "3"}))),
            ("filter=3&filter[min]=3", Err("/query/filter")),
            ("tags=a&tags[]=b", Err("/query/tags")),
            ("filter[min=3", Err("/query/filter")),
            ("page[size]=3", Ok(json!({"page[size]": 3}))),
            ("ids=1%2C2,3", Ok(json!({"ids": [1, 2, 3]}))),
            ("names=a%2Cb,c", Ok(json!({"names": ["a,b", "c"]}))),
            ("states=open%2cpaid", Ok(json!({"states": ["open", "paid"]}))),
            ("limit=%ff", Err("/query/limit")),
            ("a~/b=%ff", Err("/query/a~0~1b")),
            ("%ff=1", Err("/query")),
        ] {
            let got =
                fields.object(query, "/query").map(Value::Object).map_err(|violations| violations[0].pointer.clone());
            assert_eq!(got, object.map_err(str::to_owned), "{query}");
        }
        assert!(fields.object(&"a&".repeat(1000), "/query").is_ok());
        assert!(fields.object(&"a&".repeat(1001), "/query").is_err());
    }
}
