//! XML bodies, bare and in an envelope: whatever comes, there is a verdict; and nothing with a DTD is let through.
#![no_main]

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};
use world::{World, assert_decided};

thread_local!(static WORLD: LazyLock<World> = const { LazyLock::new(World::new) });

fuzz_target!(|body: &[u8]| {
    for path in ["/xml", "/soap"] {
        let request = || WORLD.with(|world| world.request(&Method::POST, path, "text/xml", body));
        let verdict = bounded(Bounds::USUAL, body.len(), request);
        assert_decided(verdict);
        if verdict.is_none() {
            assert!(!body.windows(9).any(|part| part == b"<!DOCTYPE"), "a DTD");
        }
    }
});
