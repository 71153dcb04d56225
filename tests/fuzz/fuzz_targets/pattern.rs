//! Patterns, each with a text: a pattern in parentheses matches what it matches without, and no more when it is optional but
//! nothing; and whatever it is, it costs little.
#![no_main]

use bartizan::rehearsal::parsers::XmlSchema;
use libfuzzer_sys::fuzz_target;
use world::element;
use world::oracle::{Bounds, bounded};

fuzz_target!(|input: &[u8]| {
    let input = String::from_utf8_lossy(input);
    let (pattern, text) = input.split_once('\n').unwrap_or((&input, ""));
    let matches = |pattern: &str| {
        let facet = format!("<xs:pattern value=\"{}\"/>", world::escaped(pattern));
        let schema = element("string", &facet);
        let compiled = bounded(Bounds::COMPILED, schema.len(), || XmlSchema::new(&[("main.xsd", schema.as_bytes())]));
        let body = format!("<v>{}</v>", world::escaped(text));
        bounded(Bounds::BODY, 0, || compiled.as_ref().ok().and_then(|schema| schema.judge(&body)))
    };
    let Some(matched) = matches(pattern) else { return };
    // These may be too large where the pattern alone is not.
    if let Some(grouped) = matches(&format!("({pattern})")) {
        assert_eq!(grouped, matched, "in parentheses: {pattern:?} {text:?}");
    }
    if let Some(optional) = matches(&format!("({pattern})?")) {
        assert_eq!(optional, matched || text.is_empty(), "optional: {pattern:?} {text:?}");
    }
});
