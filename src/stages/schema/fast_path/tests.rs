use jsonschema::{Keyword, PatternOptions, ValidationError, Validator};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::FastPath;
use crate::budget::Steps;
use crate::stages::schema::multiple::Multiple;
use crate::stages::strict_json::{self, MAX_DEPTH};

const PLENTY: Steps = Steps::new(1_000_000);

const DRAFTS: [&str; 5] = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-04/schema#",
];

/// `multipleOf` as decimals are written: the crate divides in binary64. It has tests of its own.
struct Exact(Option<Multiple>);

impl<'i> Keyword<'i> for Exact {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) { Ok(()) } else { Err(ValidationError::custom("no multiple")) }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        self.0.zip(instance.as_number()).is_none_or(|(multiple, number)| multiple.allows(number))
    }
}

/// The crate's validator, and the fast path if there is one. `None` for an invalid schema.
fn both(schema: &Value) -> Option<(Validator, Option<FastPath>)> {
    let validator = jsonschema::options()
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(PatternOptions::regex())
        .with_keyword("multipleOf", |_, divisor, _| Ok(Box::new(Exact(divisor.as_number().and_then(Multiple::new)))))
        .build(schema)
        .ok()?;
    let fast_path = FastPath::new(schema, validator.draft());
    Some((validator, fast_path))
}

fn fast_path(schema: &Value) -> Option<FastPath> {
    both(schema).unwrap_or_else(|| panic!("not a schema: {schema}")).1
}

fn slow(validator: &Validator, body: &[u8]) -> bool {
    strict_json::parse(body).is_ok_and(|value| validator.is_valid(&value))
}

/// No other test would notice if the fast path were never taken.
#[test]
fn ordinary_bodies_are_accepted() {
    let order = json!({
        "$schema": DRAFTS[0], "$id": "https://example.com/order", "title": "An order", "x-owner": "sales",
        "type": "object", "required": ["id", "lines"], "additionalProperties": false,
        "properties": {
            "id": {"type": "string", "pattern": "^o-[0-9]+$"},
            "lines": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"$ref": "#/$defs/line"}},
            "by": {"type": "string", "format": "date", "description": "until when"},
            "channel": {"enum": ["web", "phone", null]},
            "note": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
            "parent": {"oneOf": [{"$ref": "#"}, {"type": "null"}]},
            "first": {"allOf": [{"$ref": "#/$defs/line"}], "description": "of them"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 40},
            "price": {"type": "number", "minimum": 0, "multipleOf": 0.01},
            "code": {"not": {"const": 7}},
            "any": true,
        },
        "$defs": {"line": {
            "type": "object", "required": ["item"],
            "properties": {"item": {"type": "string", "minLength": 1}, "count": {"type": "integer", "exclusiveMinimum": 0}},
        }},
    });
    let labels: Vec<String> = (0..40).map(|n| format!("\"l{n}\": \"\"")).collect();
    for (schema, body) in [
        (&order, r#"{"id": "o-1", "lines": [{"item": "rope"}]}"#.to_owned()),
        (&order, r#"{"lines": [{"count": 2, "item": "\u00e9", "unknown": [1.5, {"a": {}}]}], "id": "o-2"}"#.to_owned()),
        (
            &order,
            r#"{"id": "o-1", "lines": [{"item": "x", "count": 3.0}], "by": "2027-02-28", "channel": null}"#.to_owned(),
        ),
        (&order, r#"{"id": "o-1", "lines": [{"item": "x"}], "note": "ééééé", "channel": "web"}"#.to_owned()),
        (&order, r#"{"id": "o-1", "lines": [{"item": "x"}], "note": null, "first": {"item": "x"}}"#.to_owned()),
        (
            &order,
            r#"{"\u0069d": "o-1", "lines": [{"item": "x"}], "parent": {"id": "o-2", "lines": [{"item": "y"}]}}"#
                .to_owned(),
        ),
        (&order, r#"{"id": "o-1", "lines": [{"item": "x"}], "price": 19.99, "code": 8}"#.to_owned()),
        (&order, format!(r#"{{"id": "o-1", "lines": [{{"item": "x"}}], "labels": {{{}}}}}"#, labels.join(","))),
        (&json!({"type": "object"}), "{}".to_owned()),
        (&json!(true), format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH))),
        (&json!({"type": "integer", "minimum": -5, "maximum": u64::MAX}), "18446744073709551615".to_owned()),
        (&json!({"type": ["string", "null"], "format": "email"}), "\"a@b.example\"".to_owned()),
    ] {
        let (validator, fast_path) = both(schema).unwrap();
        assert!(slow(&validator, body.as_bytes()), "{body}");
        assert!(fast_path.expect("a fast_path").accepts(body.as_bytes(), PLENTY), "{schema} {body}");
    }
    for draft in DRAFTS {
        let schema = json!({"$schema": draft, "$ref": "#/definitions/a",
            "definitions": {"a": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}, "a": {"$ref": "#/definitions/a"}}}}});
        assert!(fast_path(&schema).expect("a fast_path").accepts(br#"{"a": {"n": 1, "a": {}}}"#, PLENTY), "{draft}");
    }
}

#[test]
fn what_is_in_doubt_is_not_accepted() {
    let any = fast_path(&json!(true)).unwrap();
    let deep = format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
    let deeper = "[{\"a\":".repeat(50_000);
    for body in [
        r#"{"a": 1, "a": 1}"#,
        r#"{"a": {"b": 1, "\u0062": 2}}"#,
        r#"{"a": 1} {"#,
        r#"{"a": 1,}"#,
        r#"{"a": 1e999}"#,
        r#""\ud800""#,
        "\u{feff}1",
        "",
        " ",
        "NaN",
        "01",
        &deep,
        &deeper,
    ] {
        assert!(!any.accepts(body.as_bytes(), PLENTY), "{}", body.chars().take(40).collect::<String>());
    }
    assert!(!any.accepts(b"\"\xff\"", PLENTY), "not UTF-8");
    let many: Vec<String> = (0..100).map(|n| format!("\"l{}\": 1", n % 99)).collect();
    assert!(!any.accepts(format!("{{{}}}", many.join(",")).as_bytes(), PLENTY), "a duplicate key among many");

    let named =
        fast_path(&json!({"properties": {"a": {"type": "string", "minLength": 2, "maxLength": 3}}, "required": ["a"]}))
            .unwrap();
    for body in [
        r#"{"a": "xx", "a": "xx"}"#,
        r#"{"a": "xx", "\u0061": "xx"}"#,
        "{}",
        r#"{"a": "é"}"#,
        r#"{"a": "éééé"}"#,
        r#"{"a": 1}"#,
    ] {
        assert!(!named.accepts(body.as_bytes(), PLENTY), "{body}");
    }
}

#[test]
fn a_schema_with_other_words_has_no_shape() {
    let wide: serde_json::Map<String, Value> = (0..65).map(|n| (format!("p{n}"), json!(true))).collect();
    for schema in [
        json!({"patternProperties": {"^x": {"type": "string"}}}),
        json!({"properties": {"a": {"uniqueItems": true}}}),
        json!({"anyOf": [{"multipleOf": 2.5}, {"type": ["array", "number"]}]}),
        json!({"not": {"multipleOf": 2.5}}),
        json!({"nullable": true}),
        json!({"unevaluatedProperties": false}),
        json!({"$defs": {"a": {"$id": "https://example.com/other", "type": "string"}}, "$ref": "#/$defs/a"}),
        json!({"$defs": {"a": {"$anchor": "there"}}, "type": "object"}),
        json!({"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a", "maxLength": 1}),
        json!({"$defs": {"a b": true}, "properties": {"a": {"$ref": "#/$defs/a%20b"}}}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "properties": {"a": {"$ref": "#/$defs/a"}}}),
        json!({"$defs": {"a": {}}, "anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}),
        json!({"additionalProperties": false, "required": ["a"]}),
        json!({"properties": wide}),
        json!({"$schema": DRAFTS[2], "items": [true]}),
        json!({"$ref": "#"}),
        json!({"$schema": DRAFTS[2], "$id": "https://example.com/a#b", "type": "object"}),
        json!({"$id": "https://json-schema.org/draft/2020-12/schema", "type": "object"}),
    ] {
        assert!(fast_path(&schema).is_none(), "{schema}");
    }
    // A chain of references may be as long as the document, and does not use the stack.
    let chain: serde_json::Map<String, Value> = (0..5_000)
        .map(|n| (format!("d{n}"), json!({"items": {"$ref": format!("#/$defs/d{}", (n + 1) % 5_000)}})))
        .collect();
    assert!(FastPath::new(&json!({"$defs": chain, "$ref": "#/$defs/d0"}), jsonschema::Draft::Draft202012).is_some());
}

/// Choices, from bytes that proptest makes and shrinks. Without bytes left, every choice is the first.
struct Dice<'d>(std::slice::Iter<'d, u8>);

impl Dice<'_> {
    fn below(&mut self, sides: usize) -> usize {
        usize::from(*self.0.next().unwrap_or(&0)) % sides
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == sides - 1
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

const NAMES: [&str; 6] = ["a", "b", "bb", "é", "$id", "c d"];
const STRINGS: [&str; 9] = ["", "a", "ab", "é", "a-1", "2027-02-28", "a@b.example", "12345678901234567", "🦀🦀"];
const NUMBERS: [&str; 20] = [
    "0",
    "1",
    "-1",
    "2",
    "10",
    "1.0",
    "1e2",
    "-0",
    "-0.0",
    "0.5",
    "1.5",
    "2.50",
    "9007199254740993",
    "9007199254740992.0",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "1e-7",
];
const TYPES: [&str; 7] = ["object", "string", "integer", "number", "array", "boolean", "null"];

fn number(dice: &mut Dice<'_>) -> Value {
    serde_json::from_str(dice.of(&NUMBERS)).unwrap_or(json!(3))
}

fn plain(dice: &mut Dice<'_>) -> Value {
    match dice.below(6) {
        0 | 1 => json!(dice.of(&STRINGS)),
        2 => number(dice),
        3 => json!(dice.one_in(2)),
        4 => Value::Null,
        _ => json!({"a": [number(dice)]}),
    }
}

fn put(schema: &mut Value, key: &str, value: Value) {
    schema[key] = value;
}

fn schema(dice: &mut Dice<'_>, depth: usize) -> Value {
    let mut made = json!({});
    if dice.one_in(16) {
        return json!(dice.one_in(2));
    }
    if dice.one_in(7) {
        return json!({"$ref": dice.of(&["#/$defs/a", "#/definitions/b", "#", "#/$defs/b"])});
    }
    if depth > 0 && dice.one_in(7) {
        let branches: Vec<Value> = (0..=dice.below(3)).map(|_| schema(dice, depth - 1)).collect();
        put(&mut made, dice.of(&["anyOf", "oneOf", "allOf"]), json!(branches));
        if dice.one_in(2) {
            return made;
        }
    }
    if depth > 0 && dice.one_in(16) {
        put(&mut made, dice.of(&["not", "if", "then"]), schema(dice, depth - 1));
    }
    let kind = dice.of(&TYPES);
    match dice.below(8) {
        0 => {}
        1 => put(&mut made, "type", json!([kind, "null", "boolean"])),
        _ => put(&mut made, "type", json!(kind)),
    }
    match kind {
        "object" if depth > 0 => {
            let names: Vec<&str> = (0..dice.below(4)).map(|_| dice.of(&NAMES)).collect();
            let properties: serde_json::Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), schema(dice, depth - 1))).collect();
            put(&mut made, "properties", json!(properties));
            match dice.below(4) {
                0 => put(&mut made, "additionalProperties", json!(false)),
                1 => put(&mut made, "additionalProperties", schema(dice, depth - 1)),
                _ => {}
            }
            if dice.one_in(2) {
                let required: std::collections::BTreeSet<&str> = (0..=dice.below(2)).map(|_| dice.of(&NAMES)).collect();
                put(&mut made, "required", json!(required));
            }
            if dice.one_in(4) {
                put(&mut made, dice.of(&["minProperties", "maxProperties"]), json!(dice.below(4)));
            }
        }
        "array" if depth > 0 => {
            put(&mut made, "items", schema(dice, depth - 1));
            if dice.one_in(3) {
                put(&mut made, dice.of(&["minItems", "maxItems"]), json!(dice.below(4)));
            }
            if dice.one_in(12) {
                put(&mut made, "uniqueItems", json!(true));
            }
        }
        "integer" | "number" => {
            for key in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"] {
                if dice.one_in(5) {
                    put(&mut made, key, number(dice));
                }
            }
        }
        "string" => {
            for key in ["minLength", "maxLength"] {
                if dice.one_in(4) {
                    put(&mut made, key, dice.of(&[json!(2), json!(0), json!(17), json!(1.0)]));
                }
            }
            if dice.one_in(5) {
                put(
                    &mut made,
                    "pattern",
                    json!(dice.of(&["^a", "^[a-z]+-[0-9]$", "\\S", "^é$", "^(a|ab)$", "^.{1,3}$"])),
                );
            }
            if dice.one_in(5) {
                put(&mut made, "format", json!(dice.of(&["date", "email", "uuid", "uri", "ipv4", "date-time"])));
            }
        }
        _ => {}
    }
    if dice.one_in(8) {
        put(&mut made, "const", plain(dice));
    }
    if dice.one_in(8) {
        let mut values: Vec<Value> = (0..=dice.below(3)).map(|_| plain(dice)).collect();
        values.dedup();
        put(&mut made, "enum", json!(values));
    }
    if dice.one_in(20) {
        put(&mut made, dice.of(&["title", "x-note", "nullable", "dependentRequired"]), json!("of it"));
    }
    made
}

fn document(dice: &mut Dice<'_>) -> Value {
    let mut root = schema(dice, 3);
    if root.is_object() {
        let defs = json!({"a": schema(dice, 2), "b": schema(dice, 1)});
        put(&mut root, "$defs", defs.clone());
        put(&mut root, "definitions", defs);
        if dice.one_in(2) {
            put(&mut root, "$schema", json!(dice.of(&DRAFTS)));
        }
        if dice.one_in(8) {
            put(&mut root, "$id", json!("https://example.com/root"));
        }
    }
    root
}

fn quoted(dice: &mut Dice<'_>, text: &str) -> String {
    if dice.one_in(12) {
        let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        return format!("\"{units}\"");
    }
    json!(text).to_string()
}

/// A text that a schema may find valid: most choices follow it.
fn body(dice: &mut Dice<'_>, root: &Value, schema: &Value, depth: usize) -> String {
    if dice.one_in(40) {
        return plain(dice).to_string();
    }
    if depth == 0 {
        return dice.of(&["null", "1", "\"a\"", "{}", "[]"]).to_owned();
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap_or(root);
        return body(dice, root, target, depth - 1);
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(branches) = schema[key].as_array()
            && (schema.get("type").is_none() || dice.one_in(2))
        {
            let branch = dice.of(branches);
            return body(dice, root, &branch, depth - 1);
        }
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema["enum"].as_array() {
        return dice.of(values).to_string();
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => dice.of(kinds).as_str().unwrap_or("null").to_owned(),
        _ => dice.of(&TYPES).to_owned(),
    };
    match kind.as_str() {
        "object" => {
            let mut names: Vec<String> = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|name| name.as_str().unwrap().to_owned())
                .collect();
            for name in schema["properties"].as_object().into_iter().flat_map(serde_json::Map::keys) {
                if !names.contains(name) && dice.one_in(2) {
                    names.push(name.clone());
                }
            }
            if schema["additionalProperties"] != json!(false) {
                names.extend((0..dice.below(3)).map(|n| format!("other{n}")));
            }
            if dice.one_in(16) {
                names.push(dice.of(&NAMES).to_owned());
            }
            if dice.one_in(200) {
                names.extend((0..30).map(|n| format!("many{}", n % 29)));
            }
            let members: Vec<String> = names
                .iter()
                .map(|name| {
                    let within = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                    format!("{}: {}", quoted(dice, name), body(dice, root, within, depth - 1))
                })
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        "array" => {
            let least = schema["minItems"].as_u64().unwrap_or(0) as usize;
            let items: Vec<String> =
                (0..least + dice.below(3)).map(|_| body(dice, root, &schema["items"], depth - 1)).collect();
            if dice.one_in(60) {
                let levels = MAX_DEPTH - 8 + dice.below(10);
                return format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            }
            format!("[{}]", items.join(","))
        }
        "string" => {
            let text = dice.of(&STRINGS);
            quoted(dice, text)
        }
        "integer" | "number" => match dice.below(3) {
            0 => schema["minimum"].as_number().map_or("1".to_owned(), ToString::to_string),
            _ => dice.of(&NUMBERS).to_owned(),
        },
        "boolean" => dice.of(&["true", "false"]).to_owned(),
        _ => "null".to_owned(),
    }
}

/// Breaks a text here and there.
fn broken(dice: &mut Dice<'_>, text: String) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    if dice.one_in(8) {
        let at = (dice.below(256) * 256 + dice.below(256)) % (bytes.len() + 1);
        match dice.below(3) {
            0 if at < bytes.len() => drop(bytes.remove(at)),
            1 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
            _ => bytes.insert(at, dice.of(b"\"{}[],:\\ 0.eE-\xff\xc3")),
        }
    }
    bytes
}

proptest! {
    #[test]
    fn what_a_shape_accepts_is_valid(dice in prop::collection::vec(any::<u8>(), 0..120), more in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..10)) {
        let root = document(&mut Dice(dice.iter()));
        if let Some((validator, Some(fast_path))) = both(&root) {
            for dice in &more {
                let mut dice = Dice(dice.iter());
                let text = body(&mut dice, &root, &root, 8);
                let text = broken(&mut dice, text);
                if fast_path.accepts(&text, PLENTY) {
                    prop_assert!(slow(&validator, &text), "{root}\n{}", String::from_utf8_lossy(&text));
                }
            }
        }
    }

    /// The definitions of the same documents, each with its own fast path, sharing one list of nodes.
    #[test]
    fn what_the_shape_of_a_definition_accepts_is_valid(dice in prop::collection::vec(any::<u8>(), 0..120), more in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..10)) {
        let mut root = document(&mut Dice(dice.iter()));
        if let Some(map) = root.as_object_mut() {
            map.remove("$schema");
        }
        let defs = root.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
        let names: Vec<&str> = defs.keys().map(String::as_str).collect();
        if both(&root).is_some() {
            for (name, fast_path) in names.iter().zip(FastPath::of_definitions(&root, jsonschema::Draft::Draft202012, &names)) {
                let Some(fast_path) = fast_path else { continue };
                // References to the root mean the original root, and this document has another one.
                if root.to_string().contains("\"#\"") {
                    continue;
                }
                let alone = json!({"$ref": format!("#/$defs/{name}"), "$defs": defs});
                let Some((validator, _)) = both(&alone) else { continue };
                for dice in &more {
                    let mut dice = Dice(dice.iter());
                    let text = body(&mut dice, &defs[*name], &root, 8);
                    let text = broken(&mut dice, text);
                    if fast_path.accepts(&text, PLENTY) {
                        prop_assert!(slow(&validator, &text), "{alone}\n{}", String::from_utf8_lossy(&text));
                    }
                }
            }
        }
    }
}
