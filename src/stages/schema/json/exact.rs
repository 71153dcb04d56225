//! Keywords about numbers, judged of decimals as they are written, where the crate would judge what binary64 makes of them.

use std::borrow::Cow;
use std::cmp::Ordering;

use jsonschema::Draft;
use jsonschema::json::cmp;
use serde_json::{Map, Number, Value};

use crate::budget::{Exhausted, Steps};
use crate::stages::decimal::{self, Decimal, Written};

/// What some keywords say about numbers.
#[derive(Debug)]
pub(super) struct Exact {
    draft: Draft,
    /// The types that are allowed, if the schema says.
    types: Option<Vec<String>>,
    bounds: Vec<Bound>,
    /// `const` and `enum`.
    listed: Vec<Listed>,
    /// Whether binary64 prints one of its own numbers as another integer than it is.
    has_large: bool,
}

#[derive(Debug)]
struct Listed {
    keyword: &'static str,
    values: Vec<Value>,
    /// The numbers among them.
    numbers: Vec<Decimal>,
}

#[derive(Debug)]
struct Bound {
    keyword: &'static str,
    number: Number,
    decimal: Decimal,
    /// How a number may compare with it.
    allowed: [Ordering; 2],
    words: &'static str,
}

impl Exact {
    pub(super) fn new(draft: Draft, keywords: &Map<String, Value>) -> Self {
        let types = keywords.get("type").map(|types| match types {
            Value::Array(types) => types.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            one => one.as_str().map(str::to_owned).into_iter().collect(),
        });
        let mut listed = Vec::new();
        if let Some(value) = keywords.get("const").filter(|_| draft != Draft::Draft4) {
            listed.push(Listed::new("const", std::slice::from_ref(value)));
        }
        if let Some(Value::Array(values)) = keywords.get("enum") {
            listed.push(Listed::new("enum", values));
        }
        let bounds = bounds(draft, keywords);
        let has_large = bounds.iter().any(|bound| decimal::is_large_binary(&bound.number))
            || listed.iter().flat_map(|listed| &listed.values).any(decimal::has_large_binary);
        Self { draft, types, bounds, listed, has_large }
    }

    /// A number as it is written, if it must be judged here.
    pub(super) fn written<'n>(&self, value: &Value, numbers: &'n [Written]) -> Option<Cow<'n, Written>> {
        let number = value.as_number().filter(|number| number.is_f64() || self.has_large)?;
        decimal::as_written(numbers, number)
    }

    /// The lists of `const` and `enum` that have numbers in lists or objects, which the crate compares with those in a value.
    pub(super) fn has_nested_numbers(&self) -> bool {
        let nested = |value: &Value| (value.is_array() || value.is_object()) && decimal::any_number(value, &|_| true);
        self.listed.iter().flat_map(|listed| &listed.values).any(nested)
    }

    /// Whether all keywords allow a number.
    pub(super) fn allows(&self, number: &Written) -> bool {
        self.type_allows(number)
            && self.bounds.iter().all(|bound| bound.allows(number))
            && self.listed.iter().all(|listed| listed.numbers.contains(&number.decimal))
    }

    fn type_allows(&self, number: &Written) -> bool {
        let whole = if self.draft == Draft::Draft4 { number.is_plain } else { number.decimal.is_whole() };
        let allows = |name: &String| name == "number" || (name == "integer" && whole);
        self.types.as_ref().is_none_or(|types| types.iter().any(allows))
    }

    /// The keywords that do not allow a number, and in words what they say.
    pub(super) fn errors(&self, number: &Written) -> Vec<(&'static str, String)> {
        let mut errors = Vec::new();
        if let Some(types) = self.types.as_ref().filter(|_| !self.type_allows(number)) {
            errors.push(("type", format!("value is not of type \"{}\"", types.join("\" or \""))));
        }
        let broken = self.bounds.iter().filter(|bound| !bound.allows(number));
        errors.extend(broken.map(|bound| (bound.keyword, format!("value is {} of {}", bound.words, bound.number))));
        let others = self.listed.iter().filter(|listed| !listed.numbers.contains(&number.decimal));
        errors.extend(others.map(|listed| unlisted(listed.keyword)));
        errors
    }

    /// The keyword of `const` and `enum` that does not allow a value, if one does not.
    pub(super) fn unlisted(
        &self,
        value: &Value,
        numbers: &[Written],
        steps: &mut Steps,
    ) -> Result<Option<(&'static str, String)>, Exhausted> {
        for listed in &self.listed {
            let mut found = false;
            for one in &listed.values {
                found = equal((one, &[]), (value, numbers), steps)?;
                if found {
                    break;
                }
            }
            if !found {
                return Ok(Some(unlisted(listed.keyword)));
            }
        }
        Ok(None)
    }
}

fn unlisted(keyword: &'static str) -> (&'static str, String) {
    let what = if keyword == "const" { "not the one of `const`" } else { "none of those of `enum`" };
    (keyword, format!("value is {what}"))
}

impl Listed {
    fn new(keyword: &'static str, values: &[Value]) -> Self {
        let numbers = values.iter().filter_map(Value::as_number).map(Decimal::of).collect();
        Self { keyword, values: values.to_vec(), numbers }
    }
}

impl Bound {
    fn allows(&self, number: &Written) -> bool {
        self.allowed.contains(&number.decimal.cmp(&self.decimal))
    }
}

fn bounds(draft: Draft, keywords: &Map<String, Value>) -> Vec<Bound> {
    use Ordering::{Equal, Greater, Less};
    const ALL: [(&str, &str, Ordering); 4] = [
        ("minimum", "less than the minimum", Greater),
        ("maximum", "greater than the maximum", Less),
        ("exclusiveMinimum", "less than or equal to the minimum", Greater),
        ("exclusiveMaximum", "greater than or equal to the maximum", Less),
    ];
    let excludes = |keyword: &str| draft == Draft::Draft4 && keywords.get(keyword) == Some(&Value::Bool(true));
    let mut bounds = Vec::new();
    for (keyword, words, beyond) in ALL {
        let Some(number) = keywords.get(keyword).and_then(Value::as_number) else { continue };
        let own = match keyword {
            "minimum" => excludes("exclusiveMinimum"),
            "maximum" => excludes("exclusiveMaximum"),
            _ => true,
        };
        let allowed = [beyond, if own { beyond } else { Equal }];
        bounds.push(Bound { keyword, number: number.clone(), decimal: Decimal::of(number), allowed, words });
    }
    bounds
}

/// Whether two values are equal, each with its rounded numbers.
pub(super) fn equal(
    (one, ones): (&Value, &[Written]),
    (other, others): (&Value, &[Written]),
    steps: &mut Steps,
) -> Result<bool, Exhausted> {
    match (one, other) {
        (Value::Number(number), Value::Number(same)) => {
            let is_kept = |numbers, number: &Number| decimal::as_written(numbers, number).is_none();
            if !(number.is_f64() || same.is_f64()) || (is_kept(ones, number) && is_kept(others, same)) {
                return Ok(cmp::equal(one, other));
            }
            let (one, other) = (decimal::written(ones, number), decimal::written(others, same));
            steps.take(one.steps().min(other.steps()))?;
            let equal = one.decimal == other.decimal;
            // Nobody knows.
            if equal && one.decimal.is_beyond() { Err(Exhausted) } else { Ok(equal) }
        }
        (Value::Array(items), Value::Array(same)) => {
            steps.take(1)?;
            let mut equals = items.len() == same.len();
            for (item, same) in items.iter().zip(same).take_while(|_| items.len() == same.len()) {
                equals &= equals && equal((item, ones), (same, others), steps)?;
            }
            Ok(equals)
        }
        (Value::Object(members), Value::Object(same)) => {
            steps.take(1 + members.len() as u64 / 16)?;
            if members.len() != same.len() {
                return Ok(false);
            }
            for (name, member) in members {
                let Some(same) = same.get(name) else { return Ok(false) };
                if !equal((member, ones), (same, others), steps)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(cmp::equal(one, other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::strict_json::{Intake, parse_in};

    /// F40
    #[test]
    fn values_are_equal_if_their_numbers_are_written_so() {
        for (one, other, expected) in [
            ("0.3", "0.3000000000000000000001", false),
            ("0.3000000000000000000001", "0.30000000000000000000010", true),
            ("18446744073709551615", "18446744073709551615.0", true),
            ("18446744073709551615", "18446744073709551616", false),
            ("1.8446744073709552e19", "18446744073709552000", true),
            ("9223372036854775808", "9.223372036854775808e18", true),
            ("9223372036854775808", "9223372036854776000", false),
            ("9.223372036854776e18", "9223372036854776000", true),
            ("1", "1.0", true),
            ("[1, {\"a\": 1e-400}]", "[1.0, {\"a\": 1e-400}]", true),
            ("[1, {\"a\": 1e-400}]", "[1.0, {\"a\": 0}]", false),
            ("[1, 2]", "[1]", false),
            ("{\"a\": 1}", "{\"b\": 1}", false),
            ("5e-324", "5e-324", true),
        ] {
            let read = |text: &str| {
                let intake = Intake::new(10_000, Steps::new(1000));
                (parse_in(&intake, text.as_bytes()).unwrap(), intake.finish().unwrap().0)
            };
            let ((one, ones), (other, others)) = (read(one), read(other));
            let found = equal((&one, &ones), (&other, &others), &mut Steps::new(1000));
            assert_eq!(found, Ok(expected), "{one} {ones:?} {other} {others:?}");
        }
    }
}
