//! Forms, as HTML sends them and in parts: whatever comes, there is a verdict.
#![no_main]

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};
use world::{World, assert_decided};

thread_local!(static WORLD: LazyLock<World> = const { LazyLock::new(World::new) });

fuzz_target!(|body: &[u8]| {
    for kind in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b"] {
        let request = || WORLD.with(|world| world.request(&Method::POST, "/form", kind, body));
        assert_decided(bounded(Bounds::USUAL, body.len(), request));
    }
});
