//! How the fields of a request are written: as the lines of HTTP/1.1, or to the map that HTTP/2 encodes. Which fields there are
//! is decided once, by [`UpstreamHeaders`](super::UpstreamHeaders).

use http::HeaderMap;
use http::header::{HOST, HeaderName, HeaderValue};

use super::hpack::unindexed_if_unique;
use crate::proxy::http1::fields::write_line;

/// Where the fields of a request are written.
pub(crate) trait FieldWriter {
    /// The host and port that the request is for.
    fn host(&mut self, authority: &HeaderValue);

    /// A field as it is.
    fn field(&mut self, name: &HeaderName, value: &HeaderValue);

    /// A field with a value of our own: visible ASCII, spaces and tabs.
    fn line(&mut self, name: HeaderName, value: &[u8]);

    /// A field about the connection, which HTTP/2 does not have (RFC 9113 §8.2.2).
    fn option(&mut self, name: HeaderName, value: &[u8]);

    /// A field whose value `write` appends; none if that is nothing. Returns whether there is one.
    fn joined(&mut self, name: HeaderName, write: impl FnOnce(&mut Vec<u8>)) -> bool;
}

/// Lines with their CRLF.
impl FieldWriter for Vec<u8> {
    fn host(&mut self, authority: &HeaderValue) {
        write_line(self, HOST.as_str(), authority.as_bytes());
    }

    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        write_line(self, name.as_str(), value.as_bytes());
    }

    fn line(&mut self, name: HeaderName, value: &[u8]) {
        write_line(self, name.as_str(), value);
    }

    fn option(&mut self, name: HeaderName, value: &[u8]) {
        self.line(name, value);
    }

    fn joined(&mut self, name: HeaderName, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let before = self.len();
        self.extend_from_slice(name.as_str().as_bytes());
        self.extend_from_slice(b": ");
        let empty = self.len();
        write(self);
        let has_any = self.len() > empty;
        if has_any {
            self.extend_from_slice(b"\r\n");
        } else {
            self.truncate(before);
        }
        has_any
    }
}

/// Fields of HTTP/2. The host is not among them: it is `:authority` (RFC 9113 §8.3.1).
impl FieldWriter for HeaderMap {
    fn host(&mut self, _authority: &HeaderValue) {}

    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name.clone(), value.clone());
    }

    fn line(&mut self, name: HeaderName, value: &[u8]) {
        // What is written here are names of the policy, addresses and the like, which are always values of fields.
        if let Ok(value) = HeaderValue::from_bytes(value) {
            let value = unindexed_if_unique(&name, value);
            self.append(name, value);
        }
    }

    fn option(&mut self, _name: HeaderName, _value: &[u8]) {}

    fn joined(&mut self, name: HeaderName, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut value = Vec::new();
        write(&mut value);
        if !value.is_empty() {
            self.line(name, &value);
        }
        !value.is_empty()
    }
}
