//! OpenAPI documents: whatever stands in one, it makes a policy, or problems that can be printed.
#![no_main]

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use world::World;
use world::oracle::{Bounds, bounded};

const POLICY: &str = "version: 1
listen: [{ address: '127.0.0.1:0' }]
apis:
  all: { upstream: 'http://127.0.0.1:9', openapi: api.yaml }
audit: none
";

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("policy.yaml"), POLICY).expect("a file");
    folder
});

fuzz_target!(|document: &[u8]| {
    std::fs::write(FOLDER.path().join("api.yaml"), document).expect("a file");
    match bounded(Bounds::COMPILED, document.len(), || World::of(&FOLDER.path().join("policy.yaml"))) {
        Ok(world) => drop(world.request(&Method::GET, "/", "", b"")),
        Err(problems) => assert!(problems.contains("error"), "{problems}"),
    }
});
