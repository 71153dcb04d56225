//! Client certificates, in DER or PEM: whatever comes, its names are read or it is refused.
#![no_main]

use bartizan::rehearsal::parsers;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};

fuzz_target!(|input: &[u8]| {
    // Seeds are text; what is made of them is mostly DER.
    let text = String::from_utf8_lossy(input);
    let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let decoded = text.starts_with("-----BEGIN").then(|| STANDARD.decode(&lines).ok()).flatten();
    let der = decoded.as_deref().unwrap_or(input);
    let names = bounded(Bounds::USUAL, der.len(), || parsers::certificate(der));
    assert!(names.is_none_or(|names| names <= 32), "{names:?}");
});
