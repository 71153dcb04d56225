//! Answers of upstreams against their schemas: whatever comes, it goes to the client or is a 502. The first byte chooses the
//! status, the second the media type.
#![no_main]

use std::sync::LazyLock;

use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};
use world::{ORDER_SCHEMA, World};

const POLICY: &str = "version: 1
listen: [{ address: '127.0.0.1:0' }]
apis:
  all:
    upstream: http://127.0.0.1:9
    routes:
      GET /order: { public: true, response: { 200: { json: order.json }, 4XX: { json: order.json }, default: { json: order.json }, max_size: 16KiB } }
audit: none
";

thread_local!(static WORLD: LazyLock<World> =
    const { LazyLock::new(|| World::with(POLICY, &[("order.json", ORDER_SCHEMA)])) });

fuzz_target!(|input: &[u8]| {
    let [first, second, body @ ..] = input else { return };
    let statuses = [200, 201, 206, 302, 404, 422, 500, 503];
    let status = statuses[usize::from(first % 8)];
    let kinds = ["application/json", "application/problem+json", "application/json; charset=utf-8", "text/html", "*/*"];
    let kind = kinds[usize::from(second % 5)];
    let status = StatusCode::from_u16(status).expect("a status");
    let respond = || WORLD.with(|world| world.response("/order", status, kind, body));
    let verdict = bounded(Bounds::USUAL, body.len(), respond);
    assert!(matches!(verdict, None | Some((502, "invalid_upstream_response"))), "{verdict:?}");
    if verdict.is_none() && kind.contains("json") && !body.is_empty() {
        let value: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        assert!(value["id"].is_number(), "{value}");
    }
});
