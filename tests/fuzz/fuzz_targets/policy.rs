//! Policies, and the quantities in them: whatever stands in a file, it is a policy, or problems that can be printed; and a
//! quantity means the same when it is displayed and read again.
#![no_main]

use std::sync::LazyLock;

use bartizan::rehearsal::parsers;
use http::Method;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use world::World;
use world::oracle::{Bounds, bounded};

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a folder"));

fuzz_target!(|text: &[u8]| {
    let policy = FOLDER.path().join("policy.yaml");
    std::fs::write(&policy, text).expect("a file");
    match bounded(Bounds::COMPILED, text.len(), || World::of(&policy)) {
        Ok(world) => drop(world.request(&Method::GET, "/", "", b"")),
        Err(problems) => assert!(problems.contains("error"), "{problems}"),
    }
    for line in String::from_utf8_lossy(text).lines() {
        for word in line.split([' ', ',', '{', '}', '[', ']', '"']).filter(|word| !word.is_empty()) {
            for shown in bounded(Bounds::USUAL, word.len(), || parsers::quantities(word)) {
                assert!(parsers::quantities(&shown).contains(&shown), "{word} is displayed as {shown}");
            }
        }
    }
});
