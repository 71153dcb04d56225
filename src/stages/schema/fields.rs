//! Decodes parameters and form fields into the JSON value that a schema validates: numbers, lists and objects.
//!
//! The styles are OpenAPI's (3.1, §4.8.12), after RFC 6570. The schema decides how a text is read: `5` is a number
//! where numbers are allowed, and text elsewhere; where it allows several, all are readings. The only check here is that a name
//! with a single value occurs once.

use std::collections::HashMap;

use mediatype::MediaType;
use serde_json::Value;

use super::draft::Draft;
use super::media_type::MediaRange;
use super::text_encoding::{Decoding, TextEncoding, decoded, without_mark};
use super::value_type::{Members, ValueType};
use crate::refusal::Violation;
use crate::stages::strict_json;

pub(super) const TWICE: &str = "occurs more than once; send it once";
const WRONG_STYLE: &str = "is not serialized in the style of this parameter";

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

impl Style {
    /// Its name in OpenAPI; `json`, which has no name there, is `content`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Label => "label",
            Self::Matrix => "matrix",
            Self::Form => "form",
            Self::SpaceDelimited => "spaceDelimited",
            Self::PipeDelimited => "pipeDelimited",
            Self::DeepObject => "deepObject",
            Self::Json => "json",
        }
    }
}

/// One parameter, or one field of a form.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(super) name: Box<str>,
    style: Style,
    /// Whether each item of a list or member of an object is serialized separately.
    explode: bool,
    /// Whether its objects are JSON, each as one text, although its style could write them in another way.
    json_objects: bool,
    /// The media types that it may have as a part of a multipart form; empty for any.
    media: Box<[MediaRange]>,
    pub(super) value_type: ValueType,
}

impl Field {
    /// `schema` describes the value; its references resolve within `root`.
    pub(crate) fn new(name: &str, style: Style, explode: bool, schema: &Value, root: &Value) -> Self {
        // `a=1&b=2` and `p[a]=1` may be nested further, and other styles cannot.
        let value_type = match style {
            Style::Form | Style::DeepObject => ValueType::nested(schema, root),
            _ => ValueType::flat(schema, root),
        };
        Self { name: name.into(), style, explode, json_objects: false, media: Box::default(), value_type }
    }

    /// As a part of a multipart form, of these media types only; of any if there are none.
    pub(crate) fn accepting(self, media: &[MediaRange]) -> Self {
        Self { media: media.into(), ..self }
    }

    /// As a field of a form, whose objects are JSON (OpenAPI 3.1, §4.8.15: `contentType`).
    pub(crate) fn json_objects(self, json_objects: bool) -> Self {
        Self { json_objects, ..self }
    }

    pub(super) fn accepts(&self, media: &MediaType<'_>) -> bool {
        self.media.is_empty() || self.media.iter().any(|range| range.contains(media))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it, or each item of it, may be any bytes.
    pub(super) fn is_free(&self) -> bool {
        self.style != Style::Json && self.value_type.list.as_deref().unwrap_or(&self.value_type).free
    }

    /// Whether its text is made of items: of a list, or of the members of an object.
    pub(super) fn has_items(&self) -> bool {
        self.style == Style::Simple && (self.value_type.list.is_some() || self.value_type.object.is_some())
    }

    /// Its members, if each is serialized with a name of its own.
    pub(super) fn exploded_members(&self) -> Option<&Members> {
        let exploded = self.style == Style::Form && self.explode && !self.json_objects;
        self.value_type.object.as_ref().filter(|_| exploded && self.value_type.list.is_none())
    }

    /// Decodes the value of these texts. The error completes a sentence that begins with "it".
    pub(super) fn value(&self, texts: &[&str], decoding: Decoding<'_>) -> Result<Draft, &'static str> {
        let several = self.style == Style::Form && self.explode;
        let mut readings = match texts {
            _ if self.style == Style::Json => return self.json(texts, decoding),
            [text] => self.readings(text, decoding),
            _ => Vec::new(),
        };
        if let Some(item_type) = self.value_type.list.as_deref().filter(|_| several) {
            let item = |text: &&str| match item_type.json_objects(text, decoding).filter(|_| self.json_objects) {
                Some(object) => Ok(object),
                None => item_type.scalar(text, decoding),
            };
            readings.insert(0, texts.iter().map(item).collect::<Result<_, _>>().map(Draft::List));
        }
        one_of(readings, TWICE)
    }

    /// JSON as text: once, or in a form once for each item of a list.
    fn json(&self, texts: &[&str], decoding: Decoding<'_>) -> Result<Draft, &'static str> {
        let parsed = |text: &&str| -> Result<Draft, &'static str> {
            let text = decoded(text, decoding.encoding)?;
            let value = strict_json::parse_in(decoding.intake, without_mark(text.as_bytes()));
            let value = value.map_err(|_| "is not acceptable JSON")?;
            Ok(Draft::Value(value))
        };
        let mut values = texts.iter().map(parsed).collect::<Result<Vec<_>, _>>()?;
        let list = self.json_objects && self.value_type.list.is_some();
        match values.pop() {
            Some(only) if values.is_empty() && !list => Ok(only),
            Some(only @ Draft::Value(Value::Array(_))) if values.is_empty() => {
                Ok(Draft::one_of(vec![only.clone(), Draft::List(vec![only])]))
            }
            Some(last) if list => {
                values.push(last);
                Ok(Draft::List(values))
            }
            _ => Err(TWICE),
        }
    }

    /// What a single text may be.
    fn readings(&self, text: &str, decoding: Decoding<'_>) -> Vec<Result<Draft, &'static str>> {
        let ValueType { list, object, plain, .. } = &self.value_type;
        let exploded = self.style == Style::Form && self.explode;
        let mut readings = Vec::new();
        if self.json_objects {
            readings.extend(self.value_type.json_objects(text, decoding).map(Ok));
        }
        // Without brackets, what may have some is neither a list nor an object.
        let split = self.style != Style::DeepObject && !exploded;
        if let Some(item) = list.as_deref().filter(|_| split) {
            readings.push(self.list(item, text, decoding));
        }
        if object.is_some() && split && !self.json_objects {
            readings.push(self.object(text, decoding));
        }
        if *plain || readings.is_empty() {
            readings.push(self.unprefixed(text, true).and_then(|text| self.value_type.scalar(text, decoding)));
        }
        readings
    }

    fn list(&self, item: &ValueType, text: &str, decoding: Decoding<'_>) -> Result<Draft, &'static str> {
        let text = self.unprefixed(text, !self.explode)?;
        if text.is_empty() {
            return Ok(Draft::List(Vec::new()));
        }
        let prefix = format!("{}=", self.name);
        let named = self.style == Style::Matrix && self.explode;
        let escaped = !item.commas && decoding.encoding != TextEncoding::Plain;
        let items = split(text, self.delimiter(), escaped).map(|text| match named {
            true => text.strip_prefix(&prefix).ok_or(WRONG_STYLE),
            false => Ok(text),
        });
        items.map(|text| item.scalar(text?, decoding)).collect::<Result<_, _>>().map(Draft::List)
    }

    fn object(&self, text: &str, decoding: Decoding<'_>) -> Result<Draft, &'static str> {
        let text = self.unprefixed(text, !self.explode)?;
        let members = self.value_type.object.as_ref();
        let escaped = members.is_some_and(|members| !members.commas) && decoding.encoding != TextEncoding::Plain;
        let mut pieces = split(text, self.delimiter(), escaped).filter(|_| !text.is_empty());
        let mut pairs = Vec::new();
        while let Some(piece) = pieces.next() {
            let pair = if self.explode { piece.split_once('=') } else { pieces.next().map(|text| (piece, text)) };
            let (name, text) = pair.ok_or(WRONG_STYLE)?;
            pairs.push((decoded(name, decoding.encoding)?.into_owned(), text));
        }
        self.members(pairs, decoding)
    }

    fn delimiter(&self) -> Style {
        match self.style {
            Style::Label | Style::Matrix if !self.explode => Style::Simple,
            style => style,
        }
    }

    /// Strips the style's prefix from a text; and the name, where it is written once.
    fn unprefixed<'t>(&self, text: &'t str, once: bool) -> Result<&'t str, &'static str> {
        match self.style {
            Style::Label => text.strip_prefix('.').ok_or(WRONG_STYLE),
            Style::Matrix => {
                let text = text.strip_prefix(';').ok_or(WRONG_STYLE)?;
                if !once {
                    return Ok(text);
                }
                let text = text.strip_prefix(&*self.name).ok_or(WRONG_STYLE)?;
                Ok(text.strip_prefix('=').unwrap_or(text))
            }
            _ => Ok(text),
        }
    }

    /// Decodes an object of these members. A member that is a list may occur several times.
    pub(super) fn members(&self, pairs: Vec<(String, &str)>, decoding: Decoding<'_>) -> Result<Draft, &'static str> {
        let mut members: Vec<(String, Draft)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (name, text) in pairs {
            let member = self.value_type.member(&name);
            let item = member.list.as_deref();
            let value = item.unwrap_or(member).scalar(text, decoding)?;
            let known = places.get(&name).and_then(|place| members.get_mut(*place));
            match (known, item) {
                (Some((_, Draft::List(items))), Some(_)) => items.push(value),
                (Some(_), _) => return Err("has the same member twice"),
                (None, item) => {
                    places.insert(name.clone(), members.len());
                    members.push((name, if item.is_some() { Draft::List(vec![value]) } else { value }));
                }
            }
        }
        Ok(Draft::Object(members))
    }
}

/// The readings that there are; or the first error, or this one if there is none.
fn one_of(readings: Vec<Result<Draft, &'static str>>, none: &'static str) -> Result<Draft, &'static str> {
    let mut problem = None;
    let mut good = Vec::new();
    for reading in readings {
        match reading {
            Ok(draft) => good.push(draft),
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    if good.is_empty() { Err(problem.unwrap_or(none)) } else { Ok(Draft::one_of(good)) }
}

/// Splits a text at the delimiters of a style. With `escaped`, an encoded comma is one too: clients encode it, and what is
/// delimited cannot contain any.
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
        // One pass over all: a search for each delimiter would look through the whole rest for each item.
        let found = text.char_indices().find_map(|(at, _)| {
            let here = text.get(at..)?;
            delimiters.iter().find(|delimiter| here.starts_with(**delimiter)).map(|delimiter| (at, delimiter.len()))
        });
        let Some((at, length)) = found else { return rest.take() };
        rest = text.get(at + length..);
        text.get(..at)
    })
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
    use crate::budget::Steps;
    use crate::stages::strict_json::Intake;

    fn field(style: Style, explode: bool, schema: &Value) -> Field {
        Field::new("p", style, explode, schema, schema)
    }

    /// S1: the items of a list, and the members of an object, are found in one pass. Two would take minutes here.
    #[test]
    fn long_lists_and_objects_are_read_in_one_pass() {
        let intake = Intake::new(0, Steps::new(1000));
        let decoding = Decoding { encoding: TextEncoding::Form, intake: &intake };
        let list = json!({"type": "array", "items": {"type": "integer"}});
        for style in [Style::Form, Style::SpaceDelimited, Style::PipeDelimited] {
            let delimiter =
                ["|", ",", "+"][usize::from(style == Style::Form) + 2 * usize::from(style == Style::SpaceDelimited)];
            let text = format!("1{delimiter}").repeat(500_000) + "1";
            let Ok(Draft::List(items)) = field(style, false, &list).value(&[&text], decoding) else {
                panic!("{style:?}")
            };
            assert_eq!(items.len(), 500_001);
        }
        let object = json!({"type": "object"});
        let text: Vec<String> = (0..200_000).map(|member| format!("m{member},1")).collect();
        let read = field(Style::Form, false, &object).value(&[&text.join(",")], decoding);
        assert!(matches!(read, Ok(Draft::Object(members)) if members.len() == 200_000));
    }

    #[test]
    fn styles_write_scalars_lists_and_objects() {
        let (text, list, object) = (
            json!({"type": "string"}),
            json!({"type": "array", "items": {"type": "integer"}}),
            json!({"type": "object", "properties": {"R": {"type": "integer"}, "G": {"type": "string"}}}),
        );
        // Only what is closed has no names and values with commas.
        let of_numbers = json!({"type": "object", "properties": {"R": {"type": "integer"}, "G": {"type": "boolean"}}});
        let mut closed = of_numbers.clone();
        closed["additionalProperties"] = json!(false);
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
            (Style::Json, false, &list, "[3,4,5]", Some(json!([3, 4, 5]))),
            (Style::Json, false, &list, "3", Some(json!(3))),
            (Style::Form, false, &closed, "R%2C100%2cG,true", Some(json!({"R": 100, "G": true}))),
            (Style::Simple, true, &closed, "R=100%2CG=true", Some(json!({"R": 100, "G": true}))),
            (Style::Form, false, &closed, "R%2C100%2CG", None),
            (Style::Form, false, &of_numbers, "R%2C100%2CG%2Ctrue", None),
            (Style::Form, false, &object, "R%2C100%2CG%2C200", None),
            (Style::Form, false, &text, "%ff", None),
            (Style::Form, false, &text, "a+b%2Bc", Some(json!("a b+c"))),
        ] {
            let got = field(style, explode, schema)
                .value(
                    &[written],
                    Decoding { encoding: TextEncoding::Form, intake: &Intake::new(1 << 20, Steps::new(1000)) },
                )
                .map(|draft| draft.value());
            assert_eq!(got.as_ref().ok(), value.as_ref(), "{style:?} {explode} {written}: {got:?}");
        }
    }

    /// F37: a parameter in JSON is one text; a field of a form may have one for each item.
    #[test]
    fn only_a_form_repeats_a_name_for_the_items_of_a_list_in_json() {
        let list = json!({"type": "array", "items": {"type": "integer"}});
        let parameter = field(Style::Json, true, &list);
        let value = |field: &Field| {
            field
                .value(
                    &["3", "4"],
                    Decoding { encoding: TextEncoding::Form, intake: &Intake::new(1 << 20, Steps::new(1000)) },
                )
                .map(|draft| draft.value())
        };
        assert_eq!(value(&parameter), Err(TWICE));
        assert_eq!(value(&parameter.json_objects(true)), Ok(json!([3, 4])));
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
                field(Style::Form, true, &schema)
                    .value(
                        &[text],
                        Decoding { encoding: TextEncoding::Form, intake: &Intake::new(1 << 20, Steps::new(1000)) }
                    )
                    .map(|draft| draft.value()),
                Ok(value),
                "{schema} {text}"
            );
        }
    }
}
