//! The bytes of a client connection: heads, chunked bodies, absolute targets, paths, hosts, forwarded addresses, cookies,
//! headers, API keys. Whatever comes, every request gets a verdict, and none depends on how its bytes were split.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};
use world::{ORDER_SCHEMA, World};

const POLICY: &str = "version: 1
listen: [{ address: '127.0.0.1:0' }]
trusted_proxies: [127.0.0.0/8]
limits: { header_size: 4KiB, headers: 30, body_size: 16KiB }
roles: { clerk: [orders:read] }
consumers:
  acme:
    roles: [clerk]
    keys: [{ id: acme-1, sha256: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08', expires: 2099-01-01T00:00:00Z }]
apis:
  one:
    hosts: [api.example.com, shop.example, '[2001:db8::1]']
    upstream: http://127.0.0.1:9
    routes:
      GET /open: { public: true }
      GET /keyed: { scopes: [orders:read] }
      GET /files/{path...}: { public: true }
      POST /orders/{id}: { public: true, request: { path: path.json, query: path.json, headers: headers.json, cookies: cookies.json, json: order.json, max_size: 16KiB } }
audit: none
";
const PATH: &str = r#"{"properties": {"id": {"type": "integer"}}}"#;
const HEADERS: &str = r#"{"properties": {"x-list": {"type": "array", "items": {"type": "integer"}}, "x-when": {"type": "string", "format": "date-time"}}}"#;
const COOKIES: &str =
    r#"{"properties": {"session": {"type": "string", "pattern": "^[a-z]+$"}, "n": {"type": "number"}}}"#;

thread_local!(static WORLD: LazyLock<World> = const { LazyLock::new(|| World::with(
    POLICY,
    &[("path.json", PATH), ("headers.json", HEADERS), ("cookies.json", COOKIES), ("order.json", ORDER_SCHEMA)],
)) });

fuzz_target!(|sent: &[u8]| {
    let verdicts = |piece| WORLD.with(|world| world.connection(sent, piece));
    let whole = bounded(Bounds::USUAL, sent.len(), || verdicts(sent.len()));
    for verdict in &whole {
        assert!(
            matches!(verdict, None | Some((400 | 401 | 403 | 404 | 405 | 413 | 414 | 415 | 422 | 431 | 501 | 505, _))),
            "{verdict:?}"
        );
    }
    for piece in [7, 61] {
        assert_eq!(verdicts(piece), whole, "in pieces of {piece}");
    }
});
