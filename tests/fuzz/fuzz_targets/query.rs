//! Queries and paths: whatever comes, there is a verdict; and a query that is let through has its `id`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use world::{World, assert_decided};

thread_local!(static WORLD: LazyLock<World> = const { LazyLock::new(World::new) });

fuzz_target!(|text: &str| {
    let verdict = WORLD.with(|world| world.request(&http::Method::GET, &format!("/query/7?{text}"), "", b""));
    assert_decided(verdict);
    if verdict.is_none() {
        assert!(text.contains("=") && !text.is_empty());
    }
    let segment: String = text.chars().filter(|c| !matches!(c, '/' | '?' | '#')).collect();
    if !segment.is_empty() {
        assert_decided(WORLD.with(|world| world.request(&http::Method::GET, &format!("/query/{segment}?id=1"), "", b"")));
    }
});
