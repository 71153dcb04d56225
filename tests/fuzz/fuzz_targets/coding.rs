//! Content codings: whatever comes, there is a verdict, and decoding costs no more than a window and the limits allow. The first
//! byte chooses the coding.
#![no_main]

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};
use world::{ORDER_SCHEMA, World, assert_decided};

const POLICY: &str = "version: 1
listen: [{ address: '127.0.0.1:0' }]
apis: { all: { upstream: 'http://127.0.0.1:9', routes: { POST /json: { public: true, request: { json: order.json, max_size: 16KiB } } } } }
audit: none
";

/// The sender chooses the window: up to 16 MiB in brotli (RFC 7932 §9.1), where the old one is kept while it grows, and up to 8
/// MiB in zstd (RFC 8878 §3.1.1.1.2).
const BOUNDS: Bounds = Bounds { memory: 26 * 1024 * 1024, ..Bounds::USUAL };

thread_local!(static WORLD: LazyLock<World> =
    const { LazyLock::new(|| World::with(POLICY, &[("order.json", ORDER_SCHEMA)])) });

fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let coding = match first % 4 {
        0 => "gzip",
        1 => "deflate",
        2 => "br",
        _ => "zstd",
    };
    let request =
        || WORLD.with(|world| world.encoded_request(&Method::POST, "/json", "application/json", coding, body));
    assert_decided(bounded(BOUNDS, body.len(), request));
});
