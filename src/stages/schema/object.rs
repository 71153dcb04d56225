//! Decodes a query or a form into an object, whose members are the fields: each takes the names that are its own.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Value, json};

use super::draft::Draft;
use super::fields::{Field, Style, wrong};
use super::json;
use super::nested;
use super::text_encoding::{Decoding, TextEncoding, decoded};
use super::value_type::{MAX_DEPTH, ValueType, gather, is_plain_object};
use crate::refusal::Violation;
use crate::stages::strict_json::Intake;

/// Most name-value pairs of one message, counting repeated names.
pub(super) const MAX_PAIRS: usize = 1000;

/// Memory in bytes that the JSON in one message may take. There may be copies of it: one for each reading.
pub(super) const MAX_MEMORY: usize = 12 << 20;

/// The fields of a query or of a form.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    fields: Vec<Field>,
    /// The type of what has any other name.
    others: ValueType,
    /// Whether the schema of them all asks nothing of a field but what the field's own schema asks.
    plain: bool,
    /// The names of fields, and of members without a name before their own, as [`spelled`] has them.
    spellings: HashSet<String>,
}

/// What is wrong with a name that servers may take for a field's.
const ALIAS: &str = "has a name that some servers read as that of another field; write that one";

impl Default for Fields {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Fields {
    pub(crate) fn new(fields: Vec<Field>) -> Self {
        let members = fields.iter().filter_map(Field::exploded_members);
        let members = members.flat_map(|members| members.known.iter().map(|(name, _)| &**name));
        let names = fields.iter().map(|field| &*field.name).chain(members);
        let spellings = names.filter(|name| !name.contains('[')).map(spelled).collect();
        Self { fields, others: ValueType::default(), plain: true, spellings }
    }

    /// The properties of an object schema as fields, all in one style.
    pub(crate) fn of(schema: &Value, style: Style, explode: bool) -> Self {
        let parts = parts(schema, schema);
        let mut properties: Vec<(&str, Vec<&Value>)> = Vec::new();
        for (name, property) in parts.iter().filter_map(|part| part.get("properties")?.as_object()).flatten() {
            match properties.iter_mut().find(|(known, _)| known == name) {
                Some((_, schemas)) => schemas.push(property),
                None => properties.push((name, vec![property])),
            }
        }
        let field = |(name, schemas): (&str, Vec<&Value>)| match *schemas {
            [only] => Field::new(name, style, explode, only, schema),
            _ => Field::new(name, style, explode, &json!({"allOf": schemas}), schema),
        };
        Self::new(properties.into_iter().map(field).collect()).within(schema, schema)
    }

    /// As fields of a form, whose objects are JSON.
    pub(crate) fn json_objects(self) -> Self {
        Self::new(self.fields.into_iter().map(|field| field.json_objects(true)).collect())
            .taking(self.others, self.plain)
    }

    fn taking(self, others: ValueType, plain: bool) -> Self {
        Self { others, plain, ..self }
    }

    /// As the fields of an object with this schema, which may also have others.
    pub(crate) fn within(self, schema: &Value, root: &Value) -> Self {
        let parts = parts(schema, root);
        let others = parts.iter().find_map(|part| part.get("additionalProperties"));
        let others = others.map_or_else(ValueType::default, |others| ValueType::nested(others, root));
        self.taking(others, is_plain_object(&parts))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter()
    }

    /// The field with this name.
    pub(super) fn get(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| *field.name == *name)
    }

    /// The names that could be those of several values, because the members of an object have no name before their own; each
    /// in a sentence.
    pub(crate) fn collisions(&self) -> Vec<String> {
        let objects: Vec<_> =
            self.fields.iter().filter_map(|field| Some((&*field.name, field.exploded_members()?))).collect();
        let mut found = Vec::new();
        for (position, (object, members)) in objects.iter().enumerate() {
            for (name, _) in members.known.iter().filter(|(name, _)| **name != **object) {
                if self.get(name).is_some() {
                    found.push(format!("`{name}` is also a member of `{object}`: it is read as the parameter"));
                }
                let earlier = objects.iter().take(position);
                for (other, _) in earlier.filter(|(_, other)| other.known.iter().any(|(known, _)| known == name)) {
                    found.push(format!("`{name}` is a member of `{other}` and of `{object}`: it is read as both"));
                }
            }
        }
        let mut open = objects.iter().filter(|(_, members)| members.open).map(|(object, _)| object);
        if let (Some(first), Some(second)) = (open.next(), open.next()) {
            found
                .push(format!("`{first}` and `{second}` have members of any name: all are read as those of `{first}`"));
        }
        found
    }

    /// Whether what has this name may be any bytes.
    pub(super) fn is_free(&self, name: &str) -> bool {
        self.plain && self.get(name).map_or(self.others.free, Field::is_free)
    }

    /// Decodes a query or a form. Names that are not among the fields become members, too, which the schema validates.
    pub(super) fn object(&self, text: &str, prefix: &str, intake: &Intake) -> Result<Draft, Vec<Violation>> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == MAX_PAIRS {
                return Err(vec![Violation::new(prefix, format!("there are more than {MAX_PAIRS} names; send fewer"))]);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name, TextEncoding::Form);
            let name = name.map_err(|problem| vec![Violation::new(prefix, format!("a name {problem}"))])?;
            pairs.push((name, value));
        }
        self.object_of(pairs, TextEncoding::Form, prefix, intake)
    }

    /// Decodes an object from names and texts.
    pub(super) fn object_of<'t>(
        &self,
        pairs: Vec<(Cow<'t, str>, &'t str)>,
        encoding: TextEncoding,
        prefix: &str,
        intake: &Intake,
    ) -> Result<Draft, Vec<Violation>> {
        let decoding = Decoding { encoding, intake };
        let mut texts: Texts<'_> = BTreeMap::new();
        for (name, text) in pairs {
            texts.entry(name).or_default().push(text);
        }
        if let Some(name) = texts.keys().find(|name| self.is_alias(name)) {
            return Err(vec![wrong(prefix, name, ALIAS)]);
        }
        let mut nested = self.take_nested(&mut texts);
        let mut exploded = self.take_exploded(&mut texts);
        let (mut members, mut violations) = (Vec::new(), Vec::new());
        for field in &self.fields {
            let own = texts.remove(&*field.name);
            let value = match (own, exploded.remove(&*field.name), nested.remove(&*field.name)) {
                (None, None, None) => continue,
                (Some(texts), None, None) => field.value(&texts, decoding),
                (None, Some(members), None) => field.members(members, decoding),
                (None, None, Some(brackets)) => {
                    let pairs = brackets.iter().map(|(brackets, text)| (&**brackets, *text));
                    nested::value(&field.value_type, pairs, decoding)
                }
                (Some(_), Some(_), None) => Err("occurs by its members and by itself; send it in one form"),
                (_, _, Some(_)) => Err("occurs with brackets and without; send it in one form"),
            };
            match value {
                Ok(value) => members.push((field.name.to_string(), value)),
                Err(problem) => violations.push(wrong(prefix, &field.name, problem)),
            }
        }
        for (name, texts) in texts {
            match self.other(&texts, decoding) {
                Ok(value) => members.push((name.into_owned(), value)),
                Err(problem) => violations.push(wrong(prefix, &name, problem)),
            }
        }
        if intake.is_exhausted() {
            return Err(vec![json::too_complex(prefix)]);
        }
        if violations.is_empty() { Ok(Draft::Object(members)) } else { Err(violations) }
    }

    /// Whether some servers take a name for that of a field, which it is not.
    fn is_alias(&self, name: &str) -> bool {
        let is_known = |name: &str| {
            let member = |field: &Field| {
                field.exploded_members().is_some_and(|members| members.known.iter().any(|(known, _)| **known == *name))
            };
            self.get(name).is_some() || self.fields.iter().any(member)
        };
        // Most names are those of fields.
        !is_known(stem(name)) && !is_known(name) && self.spellings.contains(&spelled(name))
    }

    /// The value of a name that no field has. It may occur several times.
    fn other(&self, texts: &[&str], decoding: Decoding<'_>) -> Result<Draft, &'static str> {
        let item = self.others.list.as_deref();
        let values = texts.iter().map(|text| item.unwrap_or(&self.others).scalar(text, decoding));
        let mut values = values.collect::<Result<Vec<_>, _>>()?;
        match (values.pop(), values.is_empty() && item.is_none()) {
            (Some(only), true) => Ok(only),
            (last, _) => {
                values.extend(last);
                Ok(Draft::List(values))
            }
        }
    }
}

/// A name without the brackets behind it.
fn stem(name: &str) -> &str {
    name.split_once('[').filter(|(_, rest)| rest.contains(']')).map_or(name, |(stem, _)| stem)
}

/// A name as those servers see it that see the least of it: PHP has `_` for blanks, dots and a bracket that is not closed;
/// ASP.NET does not tell capitals from small letters.
fn spelled(name: &str) -> String {
    stem(name).chars().map(|letter| if " .[".contains(letter) { '_' } else { letter.to_ascii_lowercase() }).collect()
}

/// The parts of a schema that describe an object.
fn parts<'s>(schema: &'s Value, root: &'s Value) -> Vec<&'s Value> {
    let (mut types, mut parts) = (Vec::new(), Vec::new());
    gather(schema, root, MAX_DEPTH, &mut types, &mut parts);
    parts
}

/// The texts of each name.
type Texts<'t> = BTreeMap<Cow<'t, str>, Vec<&'t str>>;

/// By field: what follows its name in brackets, or the names of its members, and the text.
type Owned<'t> = BTreeMap<String, Vec<(String, &'t str)>>;

impl Fields {
    /// Takes the names that begin with that of a field and a bracket, in the order that they were sent in for each field.
    /// Whatever its style, they belong to the field: an upstream may read them so.
    fn take_nested<'t>(&self, texts: &mut Texts<'t>) -> Owned<'t> {
        let mut nested = Owned::new();
        if !texts.keys().any(|name| name.contains('[')) {
            return nested;
        }
        let names: HashSet<&str> = self.fields.iter().map(|field| &*field.name).collect();
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

    /// Takes the names of members of objects that are serialized without their own name. A field keeps its name, even if it is
    /// also that of a member. What no object knows belongs to the first that may have members of any name.
    fn take_exploded<'t>(&self, texts: &mut Texts<'t>) -> Owned<'t> {
        let mut taken = Owned::new();
        let objects: Vec<_> = self.fields.iter().filter_map(|field| Some((field, field.exploded_members()?))).collect();
        if objects.is_empty() {
            return taken;
        }
        let mut used = BTreeSet::new();
        for (field, members) in &objects {
            for (name, _) in &members.known {
                // Two objects may have members of one name: it is read as both.
                let own = *name == field.name && !field.value_type.plain;
                if let Some(values) = texts.get(&**name).filter(|_| own || self.get(name).is_none()) {
                    let pairs = values.iter().map(|text| (name.to_string(), *text));
                    taken.entry(field.name.to_string()).or_default().extend(pairs);
                    used.insert(name.to_string());
                }
            }
        }
        if let Some((field, _)) = objects.iter().find(|(_, members)| members.open) {
            let names = texts.keys().filter(|name| self.get(name).is_none() && !used.contains(&***name));
            let names: Vec<String> = names.map(ToString::to_string).collect();
            for name in names {
                let values = texts.get(&*name).into_iter().flatten().map(|text| (name.clone(), *text));
                taken.entry(field.name.to_string()).or_default().extend(values);
                used.insert(name);
            }
        }
        texts.retain(|name, _| !used.contains(&**name));
        taken
    }
}

impl IntoIterator for Fields {
    type Item = Field;
    type IntoIter = std::vec::IntoIter<Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.fields.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Steps;

    #[test]
    fn queries_become_objects() {
        let schema = json!({"properties": {
            "limit": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
        }});
        let filter = json!({"type": "object", "properties": {"min": {"type": "integer"}}});
        let mut fields: Vec<Field> = Fields::of(&schema, Style::Form, true).into_iter().collect();
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
            let got = fields
                .object(query, "/query", &Intake::new(MAX_MEMORY, Steps::new(1000)))
                .map(|draft| draft.value())
                .map_err(|violations| violations[0].pointer.clone());
            assert_eq!(got, object.map_err(str::to_owned), "{query}");
        }
        assert!(fields.object(&"a&".repeat(1000), "/query", &Intake::new(MAX_MEMORY, Steps::new(1000))).is_ok());
        assert!(fields.object(&"a&".repeat(1001), "/query", &Intake::new(MAX_MEMORY, Steps::new(1000))).is_err());
    }

    /// F15's kind: a name that some servers take for a field's is judged as none, so it is refused.
    #[test]
    fn another_spelling_of_a_field_is_refused() {
        let integer = json!({"type": "integer"});
        let object = json!({"type": "object", "properties": {"min": integer}});
        let fields = ["a_b", "limit", "page[size]", "Both", "both"]
            .map(|name| Field::new(name, Style::Form, true, &integer, &integer));
        let fields = fields.into_iter().chain([Field::new("range", Style::Form, true, &object, &object)]);
        let fields = Fields::new(fields.collect());
        for (query, alias) in [
            ("a.b=x", Some("/query/a.b")),
            ("a%20b=x", Some("/query/a b")),
            ("a+b=x", Some("/query/a b")),
            ("a[b=x", Some("/query/a[b")),
            ("a.b[c]=x", Some("/query/a.b[c]")),
            ("a_b=1&A_B=x", Some("/query/A_B")),
            ("LIMIT=x", Some("/query/LIMIT")),
            ("Min=x", Some("/query/Min")),
            ("a_b=1&limit=2&min=3", None),
            ("Both=1&both=2", None),
            ("page[size]=1&page=2", None),
            ("ab=x&a-b=x&limit_=x&limits=x", None),
        ] {
            let found = fields
                .object(query, "/query", &Intake::new(MAX_MEMORY, Steps::new(1000)))
                .err()
                .map(|violations| violations[0].pointer.clone());
            assert_eq!(found.as_deref(), alias, "{query}");
        }
    }

    /// F39
    #[test]
    fn a_field_keeps_its_name_and_an_object_takes_what_is_left() {
        let schema = |value: Value| value;
        let exploded = |name: &str, schema: &Value| Field::new(name, Style::Form, true, schema, schema);
        let (point, text, number) = (
            schema(json!({"type": "object", "properties": {"x": {"type": "integer"}, "name": {"type": "integer"}}})),
            schema(json!({"type": "string"})),
            schema(json!({"type": "integer"})),
        );
        let open = schema(json!({"type": "object", "additionalProperties": {"type": "integer"}}));
        let either = schema(json!({"anyOf": [{"type": "object", "properties": {"y": {}}}, {"type": "integer"}]}));
        for reversed in [false, true] {
            let mut fields = vec![
                exploded("p", &point),
                exploded("name", &text),
                exploded("n", &number),
                exploded("e", &either),
                exploded("open", &open),
            ];
            if reversed {
                fields.reverse();
            }
            let fields = Fields::new(fields);
            let collisions = fields.collisions();
            assert_eq!(collisions, ["`name` is also a member of `p`: it is read as the parameter"]);
            for (query, object) in [
                ("x=1&name=2", Ok(json!({"p": {"x": 1}, "name": "2"}))),
                ("name=2", Ok(json!({"name": "2"}))),
                ("z=3&w=a&n=4", Ok(json!({"open": {"z": 3, "w": "a"}, "n": 4}))),
                ("e=5", Ok(json!({"e": 5}))),
                ("y=5", Ok(json!({"e": {"y": "5"}}))),
                ("y=5&e=5", Err("/query/e")),
                ("z=3&z=4", Err("/query/open")),
            ] {
                let got = fields
                    .object(query, "/query", &Intake::new(MAX_MEMORY, Steps::new(1000)))
                    .map(|draft| draft.value());
                let got = got.map_err(|violations| violations[0].pointer.clone());
                assert_eq!(got, object.map_err(str::to_owned), "{query}");
            }
        }
    }

    #[test]
    fn names_that_no_field_has_are_read_as_the_schema_says() {
        let schema = json!({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}});
        let fields = Fields::of(&schema, Style::Form, true);
        let object = fields.object("a=1&b=1&c=1&c=2", "", &Intake::new(MAX_MEMORY, Steps::new(1000))).unwrap().value();
        assert_eq!(object, json!({"a": "1", "b": 1, "c": [1, 2]}));
        assert!(fields.is_free("a") && !fields.is_free("b"));
        for (schema, free) in [
            (json!({"properties": {"a": {"type": "string", "maxLength": 5, "format": "binary"}}}), true),
            (json!({"properties": {"a": {"type": "array", "items": {"type": "string"}}}}), true),
            (json!({"properties": {"a": {"anyOf": [{"type": "string", "format": "binary"}, {"type": "null"}]}}}), true),
            (json!({"properties": {"a": {"type": "string", "pattern": "a"}}}), false),
            (json!({"properties": {"a": {"type": ["string", "integer"]}}}), false),
            (json!({"properties": {"a": {"not": {}}}}), false),
            (json!({"properties": {"a": {}}, "if": {}, "then": {}}), false),
            (json!({"properties": {"a": {}}, "patternProperties": {}}), false),
            (json!({"properties": {"a": {}}, "additionalProperties": {"pattern": "b"}}), true),
            (json!({"allOf": [{"properties": {"a": {}}}, {"additionalProperties": {"pattern": "b"}}]}), false),
            (json!({"allOf": [{"properties": {"a": {}}}, {"properties": {"a": {"enum": ["b"]}}}]}), false),
        ] {
            assert_eq!(Fields::of(&schema, Style::Form, true).is_free("a"), free, "{schema}");
        }
    }
}
