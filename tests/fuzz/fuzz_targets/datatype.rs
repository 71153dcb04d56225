//! Two values of a type that has an order: numbers, dates, times and durations, of any length. What is a value is one in a
//! facet, too; each is equal to itself; none is less than another and not less; and numbers are one or the other.
#![no_main]

use std::sync::LazyLock;

use bartizan::rehearsal::parsers::XmlSchema;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};
use world::{element, escaped};

/// The type, and whether any two of its values can be compared.
const TYPES: [(&str, bool); 13] = [
    ("decimal", true),
    ("integer", true),
    ("unsignedByte", true),
    ("float", false),
    ("double", false),
    ("dateTime", false),
    ("date", false),
    ("time", false),
    ("gYear", false),
    ("gYearMonth", false),
    ("gMonthDay", false),
    ("gDay", false),
    ("duration", false),
];

fn compiled(ty: &str, facet: &str) -> Result<XmlSchema, String> {
    let schema = element(ty, facet);
    bounded(Bounds::COMPILED, schema.len(), || XmlSchema::new(&[("main.xsd", schema.as_bytes())]))
}

thread_local! {
    static PLAIN: LazyLock<Vec<XmlSchema>> =
        LazyLock::new(|| TYPES.iter().map(|(ty, _)| compiled(ty, "").expect("a good schema")).collect());
}

fuzz_target!(|input: &[u8]| {
    let [kind, rest @ ..] = input else { return };
    let position = usize::from(*kind) % TYPES.len();
    let (ty, total) = TYPES[position];
    let rest = String::from_utf8_lossy(rest);
    let (bound, value) = rest.split_once('\n').unwrap_or((&rest, &rest));
    let judge = |schema: &XmlSchema, value: &str| {
        let body = format!("<v>{}</v>", escaped(value));
        bounded(Bounds::BODY, 0, || schema.judge(&body))
    };
    let is_value = |text: &str| PLAIN.with(|plain| judge(&plain[position], text));
    let facet = |name: &str| compiled(ty, &format!("<xs:{name} value=\"{}\"/>", escaped(bound)));
    let Some(bound_is_value) = is_value(bound) else { return };
    let (least, beyond, same) = (facet("minInclusive"), facet("maxExclusive"), facet("enumeration"));
    assert_eq!(same.is_ok(), bound_is_value, "{ty} {bound:?}");
    let Ok(same) = same else { return };
    assert_eq!(judge(&same, bound), Some(true), "not equal to itself: {ty} {bound:?}");
    let (Ok(least), Ok(beyond)) = (least, beyond) else { return };
    assert_eq!(judge(&beyond, bound), Some(false), "less than itself: {ty} {bound:?}");
    if is_value(value) != Some(true) {
        assert_ne!(judge(&least, value), Some(true), "no value: {ty} {value:?}");
        return;
    }
    let (not_less, less) = (judge(&least, value), judge(&beyond, value));
    assert!(not_less != Some(true) || less != Some(true), "less and not less: {ty} {bound:?} {value:?}");
    if total {
        assert_ne!(not_less, less, "neither less nor not: {ty} {bound:?} {value:?}");
    }
    if judge(&same, value) == Some(true) {
        assert_eq!(less, Some(false), "equal and less: {ty} {bound:?} {value:?}");
    }
});
