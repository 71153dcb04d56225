//! Paths: one that is not refused has a normal form, which is its own normal form and which nobody reads in another way.
#![no_main]

use bartizan::rehearsal::parsers;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};

fuzz_target!(|text: &str| {
    let Some(path) = bounded(Bounds::USUAL, text.len(), || parsers::path(text)) else { return };
    assert_eq!(parsers::path(&path).as_ref(), Some(&path), "{text:?}");
    assert!(path.starts_with('/') && !path.contains("//") && !path.contains(['\\', '?', '#']), "{text:?}: {path:?}");
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{text:?}: {path:?}");
    let upper = path.to_ascii_uppercase();
    for escape in ["%2F", "%5C", "%2E", "%00", "%25"] {
        let doubled = escape == "%25" && !upper.match_indices(escape).any(|(at, _)| is_escape(upper.get(at + 3..)));
        assert!(doubled || !upper.contains(escape), "{text:?}: {path:?}");
    }
});

/// Whether two hexadecimal digits follow.
fn is_escape(rest: Option<&str>) -> bool {
    rest.and_then(|rest| rest.as_bytes().get(..2)).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}
