//! Queries and paths: whatever comes, there is a verdict; and a query that is let through has its `id`.
#![no_main]

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};
use world::{World, assert_decided};

thread_local!(static WORLD: LazyLock<World> = const { LazyLock::new(World::new) });

fn get(target: &str) -> Option<(u16, &'static str)> {
    bounded(Bounds::USUAL, target.len(), || WORLD.with(|world| world.request(&Method::GET, target, "", b"")))
}

fuzz_target!(|text: &str| {
    let verdict = get(&format!("/query/7?{text}"));
    assert_decided(verdict);
    if verdict.is_none() {
        assert!(text.contains('='));
    }
    let segment: String = text.chars().filter(|c| !matches!(c, '/' | '?' | '#')).collect();
    if !segment.is_empty() {
        assert_decided(get(&format!("/query/{segment}?id=1")));
    }
});
