//! What operators send and stores hold: bodies of the admin API, entries, API keys. The first byte chooses the operation.
#![no_main]

use std::sync::LazyLock;

use bartizan::rehearsal::parsers;
use http::Method;
use libfuzzer_sys::fuzz_target;
use world::World;
use world::oracle::{Bounds, bounded};

const POLICY: &str = "version: 1
listen: [{ address: '127.0.0.1:0' }]
roles: { clerk: [orders:read, orders:write] }
plans: { gold: { rate: 10/s } }
auth: { issuers: { corp: { issuer: 'https://corp.example', audience: [a], algorithms: [HS256], max_lifetime: 1h, secret: 9f86d081884c7d659a2feaa0c55ad015 } } }
consumers: { acme: { roles: [clerk], plan: gold } }
apis: { all: { upstream: 'http://127.0.0.1:9', routes: { GET /orders: { scopes: [orders:read] } } } }
audit: none
";

const OPERATIONS: [(&str, &str); 8] = [
    ("POST", "/v1/consumers"),
    ("PUT", "/v1/consumers/new"),
    ("POST", "/v1/consumers/acme/keys"),
    ("PUT", "/v1/consumers/acme/suspension"),
    ("POST", "/v1/consumers/acme/grants"),
    ("POST", "/v1/revocations"),
    ("PUT", "/v1/consumers/acme/keys/acme-2"),
    ("GET", ""),
];

thread_local!(static WORLD: LazyLock<World> = const { LazyLock::new(|| World::with(POLICY, &[])) });

fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let (method, target) = OPERATIONS[usize::from(first % 8)];
    let listed = format!("/v1/keys?{}", String::from_utf8_lossy(body));
    let target = if target.is_empty() { &listed } else { target };
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let operate = || WORLD.with(|world| world.operate(&method, target, body));
    let status = bounded(Bounds::USUAL, body.len(), operate);
    assert!(!status.is_server_error(), "{status} for {method} {target}");

    for entry in bounded(Bounds::USUAL, body.len(), || parsers::entry(body)) {
        assert!(parsers::entry(&entry).contains(&entry), "{}", String::from_utf8_lossy(&entry));
    }
    let mistyped = bounded(Bounds::USUAL, body.len(), || parsers::is_mistyped_key(body));
    assert!(!mistyped || body.starts_with(b"bz_"));
});
