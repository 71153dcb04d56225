//! What a schema says that nothing enforces: misspelt keywords, those of other drafts and for other types, and formats that
//! are not known; and what nothing can meet. All of it is legal, so it is reported, and no schema is refused for it.

use std::collections::BTreeMap;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::contradictions;
use super::keywords::{self, Keyword, Step, Word, draft_name, subschemas};
use super::metaschemas;
use super::uri::escaped;
use crate::stages::schema::formats;

/// Most findings of one document that are kept.
const MOST: usize = 20;
/// Most unknown words that are counted apart.
const MOST_WORDS: usize = 1000;
/// Most unknown words that are named.
const NAMED: usize = 5;

/// One thing that is written and has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lint {
    /// JSON pointer to the key.
    pub(crate) pointer: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// What was found in a document.
#[derive(Debug, Default)]
pub(crate) struct Lints {
    pub(crate) found: Vec<Lint>,
    /// How many more there are than are kept.
    pub(crate) more: usize,
    /// Words that are no keywords, and how often each occurs.
    words: BTreeMap<String, usize>,
}

impl Lints {
    /// Looks through a document in `draft`. `named` says whether values are judged by its root.
    pub(crate) fn of(document: &Value, draft: Draft, named: bool) -> Self {
        let mut linter = Linter { lints: Self::default(), pointer: String::new(), near: BTreeMap::new() };
        if named {
            linter.root(document, draft);
        }
        linter.visit(document, draft);
        linter.lints
    }

    /// Names the words that are taken for annotations, if there are any.
    pub(crate) fn annotations(&self) -> Option<String> {
        let first: Vec<String> = self.words.keys().take(NAMED).map(|word| format!("`{word}`")).collect();
        let (count, more) = (self.words.len(), self.words.len().saturating_sub(NAMED));
        match (count, more) {
            (0, _) => None,
            (1, _) => Some(format!("{} is no keyword, and is taken for an annotation", first.join(", "))),
            (_, 0) => {
                Some(format!("{count} words are no keywords, and are taken for annotations: {}", first.join(", ")))
            }
            _ => Some(format!(
                "{count} words are no keywords, and are taken for annotations: {} and {more} more",
                first.join(", ")
            )),
        }
    }
}

struct Linter {
    lints: Lints,
    pointer: String,
    /// What words are, by draft: looking for the nearest keyword takes a while.
    near: BTreeMap<(Draft, String), Word>,
}

impl Linter {
    fn tell(&mut self, key: &str, message: String, help: impl Into<Option<String>>) {
        if self.lints.found.len() >= MOST {
            self.lints.more += 1;
            return;
        }
        let pointer = if key.is_empty() { self.pointer.clone() } else { format!("{}/{}", self.pointer, escaped(key)) };
        self.lints.found.push(Lint { pointer, message, help: help.into() });
    }

    /// A root that judges nothing.
    fn root(&mut self, document: &Value, draft: Draft) {
        let Value::Object(map) = document else { return };
        let judges = |key: &String| keywords::find(key).is_some_and(|keyword| keyword.is_of(draft) && keyword.judges());
        if !map.is_empty() && !map.keys().any(judges) {
            let help = match ["$defs", "definitions"].into_iter().find(|key| map.contains_key(*key)) {
                Some(key) => format!("refer to the one that is meant: `\"$ref\": \"#/{key}/NAME\"`"),
                None => "write what values must be, such as `\"type\": \"object\"`".to_owned(),
            };
            self.tell("", "this schema accepts every value: nothing in it judges".to_owned(), help);
        }
    }

    fn visit(&mut self, schema: &Value, draft: Draft) {
        let Value::Object(map) = schema else { return };
        let named = map.get("$schema").and_then(Value::as_str).and_then(metaschemas::draft);
        let draft = named.unwrap_or(if draft == Draft::Unknown { Draft::default() } else { draft });
        self.schema(map, draft);
        let mut below = Vec::new();
        subschemas(draft, map, |keyword, step, inner| below.push((keyword, step, inner)));
        let length = self.pointer.len();
        for (keyword, step, inner) in below {
            self.pointer.push('/');
            self.pointer.push_str(keyword);
            match step {
                Step::Itself => {}
                Step::Index(index) => self.pointer.push_str(&format!("/{index}")),
                Step::Name(name) => {
                    self.pointer.push('/');
                    self.pointer.push_str(&escaped(name));
                }
            }
            self.visit(inner, draft);
            self.pointer.truncate(length);
        }
    }

    fn schema(&mut self, map: &Map<String, Value>, draft: Draft) {
        if draft < Draft::Draft201909 && map.contains_key("$ref") {
            return self.beside_reference(map, draft);
        }
        let types = types(map);
        for (key, value) in map {
            match self.word(draft, key) {
                Word::Keyword(keyword) => self.keyword(keyword, value, map, types.as_deref()),
                // A property of a draft that is not this one may well be called `id`.
                Word::Foreign(..) if key == "id" && !value.is_string() => {}
                Word::Foreign(whose, help) => {
                    let message =
                        format!("`{key}` is a keyword of {whose}, but not of {}: it is not checked", draft_name(draft));
                    self.tell(key, message, help.to_owned());
                }
                Word::Misspelt(meant) => {
                    let message = format!("`{key}` is not a keyword, so it is not checked");
                    self.tell(key, message, format!("did you mean `{meant}`?"));
                }
                Word::Annotation => {}
                Word::Unknown => self.unknown(key),
            }
        }
        for (key, message) in contradictions::find(map, types.as_deref()) {
            self.tell(key, message, None);
        }
    }

    fn word(&mut self, draft: Draft, name: &str) -> Word {
        match keywords::find(name) {
            Some(keyword) if keyword.is_of(draft) => Word::Keyword(keyword),
            _ => {
                if let Some(known) = self.near.get(&(draft, name.to_owned())) {
                    return *known;
                }
                if self.near.len() >= MOST_WORDS {
                    return Word::Unknown;
                }
                let word = keywords::word(draft, name);
                self.near.insert((draft, name.to_owned()), word);
                word
            }
        }
    }

    fn unknown(&mut self, word: &str) {
        if let Some(count) = self.lints.words.get_mut(word) {
            *count += 1;
        } else if self.lints.words.len() < MOST_WORDS {
            self.lints.words.insert(word.chars().take(60).collect(), 1);
        }
    }

    /// Keywords beside `$ref`, where it replaces them (draft-07 core, §8.3).
    fn beside_reference(&mut self, map: &Map<String, Value>, draft: Draft) {
        let judging = map.keys().filter(|key| *key != "$ref");
        let judging: Vec<&String> = judging
            .filter(|key| keywords::find(key).is_some_and(|keyword| keyword.is_of(draft) && keyword.judges()))
            .collect();
        let Some(first) = judging.first() else { return };
        let names: Vec<String> = judging.iter().take(NAMED).map(|key| format!("`{key}`")).collect();
        let verb = if judging.len() == 1 { "is" } else { "are" };
        let message = format!("{} beside `$ref` {verb} not checked in {}", names.join(", "), draft_name(draft));
        let help = "put the reference into `allOf`, or name 2019-09 or a later draft in `$schema`";
        self.tell(first, message, help.to_owned());
    }

    fn keyword(&mut self, keyword: Keyword, value: &Value, map: &Map<String, Value>, types: Option<&[&str]>) {
        let name = keyword.name;
        if let Some(message) = types.and_then(|types| for_another_type(keyword, types)) {
            return self.tell(name, message, None);
        }
        let companion = match name {
            "then" | "else" => Some("if"),
            "minContains" | "maxContains" => Some("contains"),
            _ => None,
        };
        if let Some(companion) = companion.filter(|companion| !map.contains_key(*companion)) {
            return self.tell(name, format!("`{name}` has no effect without `{companion}`"), None);
        }
        if let ("format", Some(format)) = (name, value.as_str())
            && let Some((message, help)) = unknown_format(format)
        {
            self.tell(name, message, help);
        }
    }
}

/// The keywords of a schema that no value meets together, and why.
pub(crate) fn contradictions(schema: &Map<String, Value>) -> Vec<(&'static str, String)> {
    contradictions::find(schema, types(schema).as_deref())
}

/// The types that a schema allows, if it says.
fn types(map: &Map<String, Value>) -> Option<Vec<&str>> {
    match map.get("type")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(several) => several.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Says that a keyword judges no value of these types.
pub(crate) fn for_another_type(keyword: Keyword, types: &[&str]) -> Option<String> {
    let judged = |name: &&str| keyword.types.contains(name);
    if keyword.types.is_empty() || types.is_empty() || types.iter().any(judged) {
        return None;
    }
    let whose = match keyword.types {
        ["string"] => "strings",
        ["array"] => "arrays",
        ["object"] => "objects",
        _ => "numbers",
    };
    Some(format!("`{}` is for {whose}, so it has no effect beside `type: {}`", keyword.name, types.join(", ")))
}

/// Says that a format is not known, and which one may be meant.
pub(crate) fn unknown_format(format: &str) -> Option<(String, Option<String>)> {
    if formats::is_known(format) {
        return None;
    }
    let shown: String = format.chars().take(60).collect();
    let lower = format.to_ascii_lowercase().replace('_', "-");
    let known = |name: &&'static str| strsim::osa_distance(&lower, name) <= if name.len() < 6 { 1 } else { 2 };
    let near = if lower.len() > 32 {
        None
    } else {
        formats::names().find(|name| *name == lower).or_else(|| formats::names().find(known))
    };
    let help = near.map(|name| format!("did you mean `{name}`?"));
    Some((format!("the format `{shown}` is not known, so it is not checked"), help))
}
