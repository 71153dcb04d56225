//! The world around the proxy, under a test's control: what stands behind it ([`upstream()`]), who vouches for callers
//! ([`issuer()`]), the real binary ([`proxy()`]), and who calls ([`client()`]).
//!
//! Nothing here sleeps for a guessed time and nothing measures time. Whatever has to be waited for is waited for in
//! [`eventually`] or on a socket with the deadline below, which is generous and panics.

pub mod certificates;
pub mod chromium;
pub mod client;
pub mod collector;
pub mod forward_proxy;
pub mod http2_upstream;
pub mod issuer;
pub mod npm;
pub mod proxy;
pub mod redis;
pub mod upstream;
pub mod vault;
pub mod websocket;
pub mod wire;

use std::time::{Duration, Instant};

pub use certificates::authority;
pub use client::client;
pub use http2_upstream::{Http2Call, Http2Upstream, http2_upstream};
pub use issuer::issuer;
pub use proxy::{Policy, Proxy, proxy, said};
pub use serde_json::{Value, json};
pub use upstream::{Upstream, upstream};

/// What has not happened by then will not: no test depends on anything being quicker.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `look` finds something. The one place where tests wait for what tells nobody that it is done (a file that
/// grows, a counter): it looks, yields for a moment, and looks again, until [`DEADLINE`].
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "this never happened: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A test that needs a tool says so when the tool is missing; where `CI` is set, tools are not missing.
#[track_caller]
pub fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "skipped in CI: {why}");
    eprintln!("SKIPPED: {why}");
}

/// Whether a tool can be run here.
pub fn has(tool: &str) -> bool {
    std::process::Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
}
