//! JSON bodies: whatever comes, there is a verdict; and what is let through is JSON to others, too.
#![no_main]

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};
use world::{World, assert_decided};

thread_local!(static WORLD: LazyLock<World> = const { LazyLock::new(World::new) });

fuzz_target!(|body: &[u8]| {
    let request = || WORLD.with(|world| world.request(&Method::POST, "/json", "application/json", body));
    let verdict = bounded(Bounds::USUAL, body.len(), request);
    assert_decided(verdict);
    if verdict.is_none() {
        let value: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        assert!(value["id"].as_i64().is_some_and(|id| id >= 1) || value["id"].as_f64().is_some_and(|id| id >= 1.0));
    }
});
