//! `format`: which are asserted, in all drafts alike, and how.
//!
//! - Formats that any draft has mean the same in all of them; the `jsonschema` crate judges them.
//! - Formats of OpenAPI's registry (spec.openapis.org/registry/format) are judged as it says.
//! - Any other is an annotation.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};

use jsonschema::json::{Json, Node};
use jsonschema::paths::Location;
use jsonschema::{Draft, Keyword, PatternOptions, Retrieve, ValidationError, ValidationOptions, Validator};
use serde_json::{Map, Number, Value};

use super::ecma_regex::Pattern;
use super::scalar::{Scalar, Scalars};
use crate::stages::decimal::{Decimal, Written};

/// Formats of the drafts.
const STANDARD: [&str; 19] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];
/// Whether a text has a format.
type Judge = fn(&str) -> bool;

/// Formats of texts in OpenAPI's registry that are judged here.
const TEXTS: [(&str, Judge); 5] = [
    ("base64url", is_base64url),
    ("byte", is_base64),
    ("char", |text| text.chars().count() == 1),
    ("date-time-local", |text| is_standard("date-time", &format!("{text}Z"))),
    ("time-local", |text| is_standard("time", &format!("{text}Z"))),
];
/// Formats of numbers in OpenAPI's registry, but `float` and `double`.
const INTEGERS: [(&str, i128, i128); 9] = [
    ("double-int", -(1 << 53) + 1, (1 << 53) - 1),
    ("int16", i16::MIN as i128, i16::MAX as i128),
    ("int32", i32::MIN as i128, i32::MAX as i128),
    ("int64", i64::MIN as i128, i64::MAX as i128),
    ("int8", i8::MIN as i128, i8::MAX as i128),
    ("uint16", 0, u16::MAX as i128),
    ("uint32", 0, u32::MAX as i128),
    ("uint64", 0, u64::MAX as i128),
    ("uint8", 0, u8::MAX as i128),
];
/// Formats of OpenAPI's registry that every value of the type has.
const FREE: [&str; 6] = ["binary", "commonmark", "double", "html", "password", "unixtime"];
/// `float` of OpenAPI's registry.
const FLOAT: &str = "float";

/// Whether a format is asserted, or every value has it.
pub(crate) fn is_known(format: &str) -> bool {
    names().any(|known| known == format)
}

/// All formats that are known here.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let texts = TEXTS.iter().map(|(name, _)| *name);
    let integers = INTEGERS.iter().map(|(name, ..)| *name);
    STANDARD.into_iter().chain(texts).chain(integers).chain(FREE).chain([FLOAT])
}

/// Options to judge keywords with the crate, in a representation of values: formats are asserted, patterns run in linear
/// time, and nothing is fetched.
pub(super) fn options<F: Json>(draft: Draft, keywords: &Value) -> ValidationOptions<'static, Arc<dyn Retrieve>, F> {
    let mut options = jsonschema::options_for::<F>()
        .offline()
        .with_draft(if draft == Draft::Unknown { Draft::default() } else { draft })
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex())
        .with_keyword("pattern", pattern_keyword::<F>);
    for format in formats(keywords) {
        if let Some((name, judge)) = TEXTS.iter().find(|(name, _)| *name == format) {
            options = options.with_format(*name, judge);
        } else if format == "regex" {
            options = options.with_format("regex", Pattern::is_valid);
        } else if let Some(name) = STANDARD.into_iter().find(|name| *name == format)
            && !options.is_known_format(draft, name)
        {
            options = options.with_format(name, move |text: &str| is_standard(name, text));
        }
    }
    options
}

/// `pattern`, as ECMA-262 has it, for what the crate judges whole.
struct PatternKeyword(Pattern);

/// Compiles `pattern`. One that needs a budget is not for the crate.
fn pattern_keyword<'s, F: Json>(
    _: &'s Map<String, Value>,
    value: &'s Value,
    _: Location,
) -> Result<Box<dyn for<'i> Keyword<'i, F>>, ValidationError<'s>> {
    let pattern = value.as_str().and_then(|text| Pattern::new(text).ok());
    let cheap = pattern.filter(Pattern::is_cheap);
    let cheap = cheap.ok_or_else(|| ValidationError::custom("the pattern needs a budget"))?;
    Ok(Box::new(PatternKeyword(cheap)))
}

impl<'i, F: Json> Keyword<'i, F> for PatternKeyword {
    fn validate(&self, instance: F::Node<'i>) -> Result<(), ValidationError<'i>> {
        if Keyword::<F>::is_valid(self, instance) { Ok(()) } else { Err(ValidationError::custom("no match")) }
    }

    fn is_valid(&self, instance: F::Node<'i>) -> bool {
        instance.as_string().is_none_or(|text| self.0.matches_cheaply(&text) == Some(true))
    }
}

/// The formats in some keywords, at any depth.
fn formats(keywords: &Value) -> Vec<&str> {
    let (mut found, mut left) = (Vec::new(), vec![keywords]);
    while let Some(value) = left.pop() {
        match value {
            Value::Object(members) => {
                found.extend(members.get("format").and_then(Value::as_str));
                left.extend(members.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    found
}

/// Whether a format of numbers is somewhere below these keywords, where [`NumberFormat::of`] does not look.
pub(super) fn has_nested_number_format(keywords: &Map<String, Value>) -> bool {
    let nested = keywords.iter().filter(|(key, _)| *key != "format").map(|(_, value)| value);
    nested.flat_map(formats).any(|format| NumberFormat::named(format).is_some())
}

/// Whether a text has a format of the drafts, by the latest of them.
fn is_standard(format: &'static str, text: &str) -> bool {
    static VALIDATORS: LazyLock<HashMap<&'static str, Validator<Scalars>>> = LazyLock::new(|| {
        let one = |name: &'static str| {
            let schema = serde_json::json!({ "format": name });
            let options = jsonschema::options_for::<Scalars>().offline().should_validate_formats(true);
            Some((name, options.with_draft(Draft::Draft202012).build(&schema).ok()?))
        };
        STANDARD.into_iter().filter_map(one).collect()
    });
    // Without its validator, nothing has the format.
    VALIDATORS.get(format).is_some_and(|validator| validator.is_valid(Scalar::Text(text)))
}

/// RFC 4648 §4.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    text.len().is_multiple_of(4) && padding <= 2 && digits.bytes().all(digit)
}

/// RFC 4648 §5; the padding may be left out.
fn is_base64url(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let whole = padding == 0 || (text.len().is_multiple_of(4) && padding <= 2);
    whole && digits.len() % 4 != 1 && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// A format that bounds numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NumberFormat {
    /// A whole number in this range.
    Integer(&'static str, RangeInclusive<i128>),
    /// A number that binary32 can hold.
    Float,
}

impl NumberFormat {
    /// The format of numbers among some keywords.
    pub(super) fn of(keywords: &Map<String, Value>) -> Option<Self> {
        Self::named(keywords.get("format")?.as_str()?)
    }

    fn named(format: &str) -> Option<Self> {
        if format == FLOAT {
            return Some(Self::Float);
        }
        let (name, least, most) = INTEGERS.iter().find(|(name, ..)| *name == format)?;
        Some(Self::Integer(name, *least..=*most))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Integer(name, _) => name,
            Self::Float => FLOAT,
        }
    }

    /// Whole numbers have the format in this range.
    pub(super) fn range(&self) -> RangeInclusive<i128> {
        match self {
            Self::Integer(_, range) => range.clone(),
            Self::Float => i128::MIN..=i128::MAX,
        }
    }

    /// Whether a number has the format, if it is not one of those that only a decimal says.
    pub(super) fn allows(&self, number: &Number) -> bool {
        let whole = number.as_u64().map(i128::from).or(number.as_i64().map(i128::from));
        match (self, whole, number.as_f64()) {
            (Self::Integer(_, range), Some(whole), _) => range.contains(&whole),
            (Self::Integer(_, range), None, Some(number)) => number.fract() == 0.0 && range.contains(&(number as i128)),
            (Self::Float, _, Some(number)) => number.abs() <= f64::from(f32::MAX),
            _ => false,
        }
    }

    /// Whether a number has the format as it is written.
    pub(super) fn allows_written(&self, number: &Written) -> bool {
        match self {
            Self::Integer(_, range) => {
                let (least, most) = (Decimal::from(*range.start()), Decimal::from(*range.end()));
                number.decimal.is_whole() && least <= number.decimal && number.decimal <= most
            }
            Self::Float => number.value.abs() <= f64::from(f32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stages::decimal;

    #[test]
    fn every_format_of_the_drafts_is_known_to_the_crate() {
        let options = jsonschema::options();
        for format in STANDARD {
            assert!(options.is_known_format(Draft::Draft202012, format), "{format}");
        }
    }

    /// F30: what a draft does not list is asserted all the same. F40: whole numbers are compared exactly.
    #[test]
    fn formats_mean_the_same_in_every_draft() {
        for (format, value, valid) in [
            ("uuid", json!("2eb8aa08-aa98-11ea-b4aa-73b441d16380"), true),
            ("uuid", json!("2eb8aa08"), false),
            ("duration", json!("P1D"), true),
            ("duration", json!("1 day"), false),
            ("idn-email", json!("ä@ö.example"), true),
            ("idn-email", json!("a"), false),
            ("idn-hostname", json!("straße.example"), true),
            ("idn-hostname", json!("a..b"), false),
            ("iri", json!("https://straße.example/"), true),
            ("iri", json!("straße"), false),
            ("byte", json!("YQ=="), true),
            ("byte", json!("YQ"), false),
            ("byte", json!("Y==="), false),
            ("base64url", json!("_-8"), true),
            ("base64url", json!("+/8="), false),
            ("char", json!("ä"), true),
            ("char", json!("ab"), false),
            ("time-local", json!("12:00:00"), true),
            ("time-local", json!("noon"), false),
            ("date-time-local", json!("2026-01-01T12:00:00"), true),
            ("date-time-local", json!("2026-01-01"), false),
            ("password", json!("x"), true),
            ("binary", json!("x"), true),
            ("int32", json!(2_147_483_647), true),
            ("int32", json!(2_147_483_648_u64), false),
            ("int32", json!(-1.0), true),
            ("int32", json!(1.5), false),
            ("int32", json!("x"), true),
            ("int64", json!(i64::MIN), true),
            ("int64", json!(i64::MAX), true),
            ("int64", json!(9_223_372_036_854_775_808_u64), false),
            ("int64", serde_json::from_str("-9223372036854775809").unwrap(), false),
            ("uint64", serde_json::from_str("18446744073709551616").unwrap(), false),
            ("uint64", json!(u64::MAX), true),
            ("uint8", json!(-1), false),
            ("float", json!(3.5e38), false),
            ("float", json!(3.4e38), true),
            ("double", json!(1e300), true),
            ("no-such-format", json!("x"), true),
        ] {
            for draft in [Draft::Draft4, Draft::Draft6, Draft::Draft7, Draft::Draft201909, Draft::Draft202012] {
                let keywords = json!({ "format": format });
                let validator = options::<jsonschema::json::SerdeJson>(draft, &keywords).build(&keywords).unwrap();
                let number = NumberFormat::of(keywords.as_object().unwrap());
                let allowed = number.zip(value.as_number()).is_none_or(|(format, number)| {
                    decimal::as_written(&[], number)
                        .map_or_else(|| format.allows(number), |written| format.allows_written(&written))
                });
                assert_eq!(validator.is_valid(&value) && allowed, valid, "{format} {value} {draft:?}");
            }
        }
    }
}
