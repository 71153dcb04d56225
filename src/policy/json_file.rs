//! A file with one JSON value: JSON as it is, YAML by the core schema of YAML 1.2 (§10.3). Schemas and descriptions of APIs
//! are such files.
//!
//! Unquoted scalars become numbers, booleans or null where they look like them; quoted text stays text. Keys are always
//! text: `200:` is the status 200.

use std::cell::OnceCell;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::diagnostic::Problems;
use super::json_place;
use super::source::{Place, SourceText};
use super::tree::{Kind, NodeId, Scalar, Tree};
use super::yaml::{self, Dialect};
use crate::stages::decimal::{self, Lost, Written};
use crate::stages::strict_json;

/// Deepest nesting, for JSON and YAML alike.
const MAX_DEPTH: usize = 120;

/// A file, its value, and the places in it.
#[derive(Debug)]
pub(crate) struct JsonFile {
    pub(crate) source: Arc<SourceText>,
    pub(crate) value: Arc<Value>,
    dialect: Dialect,
    /// For places in YAML, parsed when first needed.
    tree: OnceCell<Option<Tree>>,
}

impl JsonFile {
    /// Parses a file and reports its problems; `dialect` is what it is called if it is YAML.
    pub(crate) fn read(source: &Arc<SourceText>, dialect: Dialect, problems: &mut Problems) -> Option<Self> {
        let (value, tree) = read(source, dialect, problems)?;
        let cell = OnceCell::new();
        if let Some(tree) = tree {
            let _ = cell.set(Some(tree));
        }
        Some(Self { source: Arc::clone(source), value: Arc::new(value), dialect, tree: cell })
    }

    /// The place of a value by its JSON pointer, or of its key; where it does not exist, of its nearest ancestor.
    pub(crate) fn place(&self, pointer: &str, key: bool) -> Place {
        let json = self.source.text.trim_start_matches('\u{feff}').trim_start().starts_with('{');
        if json && let Some((key_range, value_range)) = json_place::find(&self.source.text, pointer) {
            return Place::new(&self.source, if key { key_range } else { value_range });
        }
        let parse = || yaml::parse_as(self.dialect, &self.source, &mut Problems::new());
        let Some(tree) = self.tree.get_or_init(parse) else { return Place::new(&self.source, 0..1) };
        let at = tree.at().pointer(pointer);
        if key { at.key_place() } else { at.place() }
    }
}

fn read(source: &Arc<SourceText>, dialect: Dialect, problems: &mut Problems) -> Option<(Value, Option<Tree>)> {
    let text = source.text.trim_start_matches('\u{feff}');
    let named_json = source.name.ends_with(".json");
    if named_json || text.trim_start().starts_with('{') {
        match strict_json::parse_within(MAX_DEPTH, text.as_bytes()) {
            Ok(value) => {
                let start = source.text.len() - text.len();
                for Lost { place, written, .. } in decimal::lost(text.as_bytes()) {
                    warn_of_rounding(Place::new(source, start + place.start..start + place.end), &written, problems);
                }
                return Some((value, None));
            }
            // A YAML map in flow style begins the same way.
            Err(error) if named_json => {
                let start = offset(text, error.line(), error.column()) + source.text.len() - text.len();
                let place = Place::new(source, start..start + 1);
                let repeating = dialect.repeats.then(|| strict_json::parse_repeating(MAX_DEPTH, text.as_bytes()).ok());
                let Some(value) = repeating.flatten() else {
                    problems.error(place, format!("not acceptable JSON: {error}"));
                    return None;
                };
                let message = "a name occurs twice in this object: only the last one counts";
                problems.warning(place, message).help("remove the others");
                return Some((value, None));
            }
            Err(_) => {}
        }
    }
    let before = problems.len();
    let tree = yaml::parse_as(dialect, source, problems)?;
    let mut conversion = Conversion { tree: &tree, problems, lost: Vec::new() };
    let value = conversion.value(tree.root());
    let lost = conversion.lost;
    let good = problems.len() == before;
    for (place, written) in lost {
        warn_of_rounding(place, &written, problems);
    }
    good.then_some((value, Some(tree)))
}

/// Warns of a number that is judged as another one than is written, if it is.
fn warn_of_rounding(place: Place, written: &Written, problems: &mut Problems) {
    if let Some(rounded) = written.rounded() {
        let message = format!("this number has more digits than are kept: it is read as {rounded}");
        problems.warning(place, message).help("write the number that is meant, with at most 15 digits");
    }
}

/// The byte offset of a line and a column, both counted from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len().saturating_sub(1))
}

struct Conversion<'t, 'p> {
    tree: &'t Tree,
    problems: &'p mut Problems,
    /// The numbers that were rounded.
    lost: Vec<(Place, Written)>,
}

impl Conversion<'_, '_> {
    fn value(&mut self, id: NodeId) -> Value {
        match self.tree.kind(id) {
            Kind::Scalar(scalar) => {
                let Some(value) = scalar_value(scalar) else {
                    let message = "`.inf` and `.nan` are not JSON numbers";
                    self.problems.error(self.tree.place(id), message).help("put it in quotes if text is meant");
                    return Value::Null;
                };
                let token = scalar.written().trim_start_matches('+');
                let lost = value.as_number().and_then(|number| Written::lost(token, number));
                self.lost.extend(lost.map(|written| (self.tree.place(id), written)));
                value
            }
            Kind::Sequence(items) => items.iter().map(|item| self.value(*item)).collect(),
            Kind::Mapping(entries) => {
                let member =
                    |(key, value): &(NodeId, NodeId)| (self.tree.key_text(*key).to_owned(), self.value(*value));
                Value::Object(entries.iter().map(member).collect::<Map<_, _>>())
            }
        }
    }
}

/// `None` for numbers of YAML that JSON does not have.
fn scalar_value(scalar: &Scalar) -> Option<Value> {
    let text = scalar.written();
    if !scalar.plain {
        return Some(Value::String(text.to_owned()));
    }
    if scalar.is_null() {
        return Some(Value::Null);
    }
    match text {
        "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return None,
        _ if matches!(text.trim_start_matches(['+', '-']), ".inf" | ".Inf" | ".INF") => return None,
        _ => {}
    }
    Some(number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

fn number(text: &str) -> Option<Number> {
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(Number::from);
    if let Some(digits) = text.strip_prefix("0o") {
        return digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| radix(digits, 8))?;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| radix(digits, 16))?;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit());
    if whole {
        let exact = text.parse::<u64>().ok().map(Number::from).or_else(|| text.parse::<i64>().ok().map(Number::from));
        if exact.is_some() {
            return exact;
        }
    }
    let begins = unsigned.starts_with(|c: char| c.is_ascii_digit())
        || unsigned.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let made_of = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
    (begins && unsigned.bytes().all(made_of)).then(|| text.parse::<f64>().ok())?.and_then(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::diagnostic::Severity;

    fn read_text(name: &str, text: &str) -> (Option<Value>, Vec<String>) {
        let source = Arc::new(SourceText::new(name.to_owned(), text.to_owned(), 0));
        let mut problems = Problems::new();
        let value = read(&source, yaml::OPENAPI, &mut problems).map(|(value, _)| value);
        (value, problems.iter().map(|problem| problem.message.clone()).collect())
    }

    #[test]
    fn unquoted_scalars_are_what_yaml_says() {
        for (text, expected) in [
            ("12", json!(12)),
            ("+12", json!(12)),
            ("-12", json!(-12)),
            ("012", json!(12)),
            ("0o14", json!(12)),
            ("0xC", json!(12)),
            ("1.5", json!(1.5)),
            ("1.", json!(1.0)),
            ("-.5e3", json!(-500.0)),
            ("1e3", json!(1000.0)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("18446744073709551616", json!(18_446_744_073_709_551_616.0)),
            ("1e999", json!("1e999")),
            ("1_000", json!("1_000")),
            ("1.2.3", json!("1.2.3")),
            ("2020-01-01", json!("2020-01-01")),
            ("0x", json!("0x")),
            ("0o8", json!("0o8")),
            ("-x", json!("-x")),
            (".", json!(".")),
            ("e3", json!("e3")),
            ("true", json!(true)),
            ("FALSE", json!(false)),
            ("yes", json!("yes")),
            ("null", json!(null)),
            ("~", json!(null)),
            ("nULL", json!("nULL")),
            ("'12'", json!("12")),
            ("\"true\"", json!("true")),
            ("|-\n  12", json!("12")),
        ] {
            let (value, diagnostics) = read_text("a.yaml", &format!("a: {text}\n"));
            assert_eq!(value, Some(json!({"a": expected})), "{text}: {diagnostics:?}");
        }
        for text in [".inf", "-.Inf", ".nan"] {
            assert_eq!(read_text("a.yaml", &format!("a: {text}\n")).0, None, "{text}");
        }
    }

    /// F40: what is judged is said where another number is written.
    #[test]
    fn a_number_that_is_rounded_is_a_warning_at_its_place() {
        let rounded = "this number has more digits than are kept: it is read as 0.3";
        let whole = "this number has more digits than are kept: it is read as 1.8446744073709552e+19";
        for (name, text, expected) in [
            ("a.json", "{\"a\": [1, 0.3],\n \"b\": 0.3000000000000000000001}", vec![("2:7", rounded)]),
            ("a.json", r#"{"a": "0.3000000000000000000001", "b": 0.30000000000000004, "c": 5e-324}"#, vec![]),
            ("a.json", r#"{"a": 18446744073709551616, "b": 18446744073709551615}"#, vec![("1:7", whole)]),
            ("a.yaml", "a: [1, 0.3]\nb: +0.3000000000000000000001\n", vec![("2:4", rounded)]),
            ("a.yaml", "a: '0.3000000000000000000001'\nb: 100000000000000000000\n", vec![]),
        ] {
            let source = Arc::new(SourceText::new(name.to_owned(), text.to_owned(), 0));
            let mut problems = Problems::new();
            let value = read(&source, yaml::OPENAPI, &mut problems).map(|(value, _)| value);
            let place = |place: &Place| {
                let (line, column) = place.start();
                format!("{line}:{column}")
            };
            let found: Vec<_> = problems
                .iter()
                .map(|problem| (problem.place.as_ref().map(place).unwrap(), &*problem.message))
                .collect();
            let found: Vec<(&str, &str)> = found.iter().map(|(place, message)| (&**place, *message)).collect();
            assert_eq!((value.is_some(), found), (true, expected), "{text}");
            assert!(problems.iter().all(|problem| problem.severity == Severity::Warning));
        }
    }

    /// F27: published schemas have them (IIIF).
    #[test]
    fn a_name_that_occurs_twice_in_a_schema_is_a_warning() {
        for (dialect, text, expected, severity) in [
            (
                yaml::SCHEMA,
                r#"{"a": 1, "b": {"c": 1, "c": 2}}"#,
                Some(json!({"a": 1, "b": {"c": 2}})),
                Severity::Warning,
            ),
            (yaml::OPENAPI, r#"{"a": 1, "b": {"c": 1, "c": 2}}"#, None, Severity::Error),
            (yaml::SCHEMA, r#"{"a": 1, "a": 2,}"#, None, Severity::Error),
        ] {
            let source = Arc::new(SourceText::new("a.json".to_owned(), text.to_owned(), 0));
            let mut problems = Problems::new();
            let value = read(&source, dialect, &mut problems).map(|(value, _)| value);
            let reported: Vec<Severity> = problems.iter().map(|problem| problem.severity).collect();
            assert_eq!((value, reported), (expected, vec![severity]), "{text}");
        }
    }

    #[test]
    fn json_and_yaml_are_told_apart_by_what_they_are() {
        for (name, text, expected) in [
            ("a.json", r#"{"a": "\ud83d\ude00", "b": 1e2}"#, Some(json!({"a": "😀", "b": 100.0}))),
            ("a.yaml", r#"{"a": [1, "2"]}"#, Some(json!({"a": [1, "2"]}))),
            ("a.yaml", "{a: 1}", Some(json!({"a": 1}))),
            ("a.yaml", "200: ok\n'201': ok\n", Some(json!({"200": "ok", "201": "ok"}))),
            ("a.yaml", "x: &x [1]\ny: *x\n", Some(json!({"x": [1], "y": [1]}))),
            ("a.json", "{a: 1}", None),
            ("a.json", r#"{"a": 1, "a": 2}"#, None),
            ("a.yaml", "a: 1\na: 2\n", None),
            ("a.yaml", "a: !!int 1\n", None),
            ("a.yaml", "", None),
        ] {
            let (value, diagnostics) = read_text(name, text);
            assert_eq!(value, expected, "{name} {text} {diagnostics:?}");
            assert_eq!(diagnostics.is_empty(), expected.is_some(), "{name} {text} {diagnostics:?}");
        }
    }
}
