//! What a request may become: a WebSocket.

use std::time::Duration;

/// How long a WebSocket may stay open (RFC 6455).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WebSocket {
    /// Without a byte in either direction.
    pub(crate) idle: Duration,
    /// In all.
    pub(crate) lifetime: Duration,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { idle: Duration::from_secs(300), lifetime: Duration::from_secs(24 * 3600) }
    }
}
