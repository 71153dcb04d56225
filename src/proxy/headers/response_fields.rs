//! The header fields of a response.

use std::collections::HashSet;
use std::slice;

use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Response, StatusCode};

use super::date::date;
use super::hpack::unindexed_if_unique;
use crate::policy::header_changes::HeaderChanges;
use crate::policy::request_fields::HOP_BY_HOP;
use crate::proxy::http1::fields::write_line;

/// The fields of a response, in the order in which they are sent. A list, because in most responses no field is looked up by
/// its name, and a map costs several times as much.
#[derive(Debug, Default)]
pub(crate) struct ResponseFields(Vec<(HeaderName, HeaderValue)>);

impl ResponseFields {
    /// Creates a list with room for this many fields.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Adds a field. Others with its name are kept.
    pub(crate) fn push(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    pub(crate) fn iter(&self) -> slice::Iter<'_, (HeaderName, HeaderValue)> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> slice::IterMut<'_, (HeaderName, HeaderValue)> {
        self.0.iter_mut()
    }

    /// Removes what an API removes of the upstream's fields, and sets its own.
    pub(crate) fn change(&mut self, changes: &HeaderChanges) {
        self.drop_all(changes);
        self.0.extend(changes.set().iter().cloned());
    }

    /// Removes what an API removes of the upstream's fields, or sets.
    pub(crate) fn drop_all(&mut self, changes: &HeaderChanges) {
        if !changes.is_empty() {
            self.0.retain(|(name, _)| !changes.drops(name.as_str()));
        }
    }

    /// Writes the head of an interim response of HTTP/1.1 with these fields (RFC 9110 §15.2).
    pub(crate) fn write_interim(&self, out: &mut Vec<u8>, status: StatusCode) {
        let reason = status.canonical_reason().unwrap_or_default();
        out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
        for (name, value) in &self.0 {
            write_line(out, name.as_str(), value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Returns the head of an interim response of HTTP/2 with these fields (RFC 9113 §8.1).
    pub(crate) fn into_interim(self, status: StatusCode) -> Response<()> {
        let mut head = Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = self.0.into_iter().collect();
        head
    }

    /// Sets what an API sets, in a response that is not the upstream's.
    pub(crate) fn set_all(&mut self, changes: &HeaderChanges) {
        for (name, value) in changes.set() {
            self.remove(name);
            self.0.push((name.clone(), value.clone()));
        }
    }

    /// Sets the CORS fields, in place of the upstream's (Fetch standard §3.3).
    pub(crate) fn set_cors(&mut self, fields: Vec<(HeaderName, HeaderValue)>) {
        self.0.retain(|(name, _)| !name.as_str().starts_with("access-control-"));
        self.0.extend(fields);
    }

    /// Removes all fields with this name.
    pub(crate) fn remove(&mut self, name: &HeaderName) {
        self.0.retain(|(other, _)| other != name);
    }

    /// Removes all fields with one of these names.
    pub(super) fn remove_all(&mut self, names: &HashSet<HeaderName>) {
        self.0.retain(|(name, _)| !names.contains(name));
    }

    /// Returns a map of the fields.
    pub(crate) fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.0.len());
        for (name, value) in &self.0 {
            map.append(name, value.clone());
        }
        map
    }

    /// Returns the fields as HTTP/2 sends them: without those of the connection (RFC 9113 §8.2.2), with `Date` (RFC 9110 §6.6.1), and
    /// with `Content-Length`, unless that is there or there is no `length`.
    pub(crate) fn into_http2(self, length: Option<u64>) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.0.len() + 2);
        let (mut is_dated, mut has_length) = (false, length.is_none());
        for (name, value) in self.0 {
            if name == TE || HOP_BY_HOP.has(name.as_str()) {
                continue;
            }
            is_dated |= name == DATE;
            has_length |= name == CONTENT_LENGTH;
            let value = unindexed_if_unique(&name, value);
            map.append(name, value);
        }
        if !is_dated {
            map.append(DATE, date());
        }
        if let Some(length) = length.filter(|_| !has_length) {
            map.append(CONTENT_LENGTH, length.into());
        }
        map
    }
}

impl From<&HeaderMap> for ResponseFields {
    fn from(map: &HeaderMap) -> Self {
        Self(map.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

impl Extend<(HeaderName, HeaderValue)> for ResponseFields {
    fn extend<T: IntoIterator<Item = (HeaderName, HeaderValue)>>(&mut self, fields: T) {
        self.0.extend(fields);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, map};
    use super::*;

    #[test]
    fn http2_has_a_date_and_a_length_and_nothing_about_the_connection() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (fields, length, expected) in [
            (&[date, ("connection", "close"), ("te", "a"), ("upgrade", "b")][..], None, &["date"][..]),
            (&[date, ("vary", "a")], Some(1), &["content-length", "date", "vary"]),
            (&[("content-length", "1"), date], Some(2), &["content-length", "date"]),
            (&[], None, &["date"]),
        ] {
            let sent = ResponseFields::from(&map(fields)).into_http2(length);
            let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, expected, "{fields:?}");
            let length = sent.get(CONTENT_LENGTH).map_or("1", |length| length.to_str().unwrap());
            assert_eq!(length, "1", "{fields:?}");
            assert!(sent[DATE].len() == 29 && (fields.is_empty() || sent[DATE] == date.1), "{fields:?}");
        }
    }

    #[test]
    fn fields_with_the_same_name_are_kept_and_removed_together() {
        let all = map(&[("set-cookie", "a"), ("age", "1"), ("set-cookie", "b"), ("vary", "c")]);
        let mut fields = ResponseFields::from(&all);
        assert_eq!(lines(&fields.to_map()), lines(&all));
        fields.push(HeaderName::from_static("age"), HeaderValue::from_static("2"));
        fields.remove(&HeaderName::from_static("set-cookie"));
        assert_eq!(lines(&fields.to_map()), ["age: 1", "age: 2", "vary: c"]);
        fields.remove_all(&HashSet::from(["age", "x"].map(HeaderName::from_static)));
        assert_eq!(lines(&fields.to_map()), ["vary: c"]);
    }
}
