//! The sinks against peers that say everything a peer can say, and against real ones.

mod batches;
mod elasticsearch;
mod http;
mod otlp;
mod recorder;
mod syslog;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderMap;
use serde_json::json;

use super::*;
use crate::audit::config::HttpEndpoint;
use crate::url::{Form, HttpUrl};

/// The id of a record.
fn id(number: usize) -> String {
    format!("0192f0c1-7a53-7c4e-8f00-{number:012x}")
}

/// A sealed record, with its line break.
fn line(number: usize) -> String {
    let record = json!({
        "@timestamp": "2026-11-27T10:00:00.123Z",
        "http": {"request": {"method": "GET"}, "response": {"status_code": 403}},
        "url": {"path": "/v1/orders"},
        "trace": {"id": "4bf92f3577b34da6a3ce929d0e0e4736"},
        "bartizan": {"consumer": "acme", "route": "GET /v1/orders", "node": "edge-1"},
    });
    let (id, hash) = (id(number), "0".repeat(64));
    let record = record.to_string();
    let record = record.strip_suffix('}').unwrap();
    format!(
        "{record},\"event\":{{\"kind\":\"event\",\"type\":[\"access\",\"denied\"],\"action\":\"request\",\"id\":\"{id}\",\
         \"sequence\":{number},\"hash\":\"{hash}\"}}}}\n"
    )
}

fn batch(numbers: impl IntoIterator<Item = usize>) -> Bytes {
    numbers.into_iter().map(line).collect::<String>().into()
}

fn endpoint(url: &str, folder: &Path) -> HttpEndpoint {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "ApiKey secret".parse().unwrap());
    HttpEndpoint {
        url: HttpUrl::parse(url, Form::COLLECTOR).unwrap(),
        has_secret_path: false,
        headers,
        trust: None,
        egress: Arc::default(),
        timeout: Duration::from_secs(30),
        gzip: true,
        max_batch: 1 << 20,
        rejected: folder.join("rejected.jsonl"),
    }
}

/// A delivery in short: `done 0`, `sent, 2 unconfirmed`, `partly 1 rest=[2, 3] why`, `failed why`. The numbers are those of records.
fn told(delivery: &Delivery) -> String {
    let numbers = |rest: &Bytes| -> Vec<u64> {
        let record = |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).unwrap();
        lines::lines(rest).map(|line| record(line)["event"]["sequence"].as_u64().unwrap()).collect()
    };
    let refused = |rejected: &Rejections| match rejected.not_kept {
        0 => rejected.records.to_string(),
        not_kept => format!("{}, not kept {not_kept}", rejected.records),
    };
    match delivery {
        Delivery::Done { rejected } => format!("done {}", refused(rejected)),
        Delivery::Sent { unconfirmed } => format!("sent, {unconfirmed} unconfirmed"),
        Delivery::Partly { rest, rejected, failure } => {
            format!("partly {} rest={:?} {}", refused(rejected), numbers(rest), failure.why)
        }
        Delivery::Failed(failure) => format!("failed {}", failure.why),
    }
}

/// The rejected records: number and error.
fn rejected(folder: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(folder.join("rejected.jsonl")).unwrap_or_default();
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        (value["record"]["event"]["sequence"].as_u64().unwrap(), value["error"].as_str().unwrap().to_owned())
    };
    text.lines().map(line).collect()
}

/// The folder of an engine, by a variable of the environment; a test is skipped where there is none.
fn engine(variable: &str) -> Option<std::path::PathBuf> {
    let found = std::env::var_os(variable).map(std::path::PathBuf::from);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "skipped in CI: {variable} is not set");
        eprintln!("SKIPPED: {variable} is not set; `.ci/run` installs it");
    }
    found
}

/// A child process, which ends with the test.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody uses now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `look` finds something.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < end, "this never happened: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
