//! What issuers and introspection endpoints answer: key sets, metadata, the state of a token; and the keys that partners send of
//! their clients. Whatever comes is read or refused.
#![no_main]

use bartizan::rehearsal::parsers;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};

const ISSUER: &str = "https://corp.example";

fuzz_target!(|document: &[u8]| {
    let keys = bounded(Bounds::USUAL, document.len(), || parsers::key_set(document));
    assert!(keys.is_none_or(|keys| (1..=100).contains(&keys)), "{keys:?}");
    let url = bounded(Bounds::USUAL, document.len(), || parsers::metadata(document, ISSUER));
    assert!(url.as_ref().is_none_or(|url| url.starts_with("https://")), "{url:?}");
    if let Some((kept, thumbprint)) = bounded(Bounds::USUAL, document.len(), || parsers::client_key(document)) {
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(kept.get(private).is_none(), "{kept}");
        }
        assert_eq!(
            parsers::client_key(kept.to_string().as_bytes()).map(|(_, again)| again),
            Some(thumbprint),
            "{kept}"
        );
    }
    let active = bounded(Bounds::USUAL, document.len(), || parsers::introspection(document));
    if active == Some(true) {
        let answer: serde_json::Value = serde_json::from_slice(document).expect("JSON");
        assert_eq!(answer["active"], true);
    }
});
