//! How a field is encoded in HTTP/2 (RFC 7541).

use http::header::{HeaderName, HeaderValue};

use crate::refusal::X_REQUEST_ID;

/// Returns the value of a field, marked as one that is never indexed (RFC 7541 §6.2.3) if no other message has it.
///
/// Such a value is not worth a place in the dynamic table: it would drive out those that come again, and h2 compares a value with all
/// of the same name that the table has.
pub(super) fn unindexed_if_unique(name: &HeaderName, mut value: HeaderValue) -> HeaderValue {
    if *name == X_REQUEST_ID || matches!(name.as_str(), "traceparent" | "ratelimit") {
        value.set_sensitive(true);
    }
    value
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::DATE;

    use super::super::{ResponseFields, field_writer::FieldWriter};
    use super::*;

    #[test]
    fn values_that_do_not_come_again_are_not_indexed() {
        for (name, is_indexed) in [
            ("x-request-id", false),
            ("traceparent", false),
            ("ratelimit", false),
            ("ratelimit-policy", true),
            ("date", true),
        ] {
            let name = HeaderName::from_static(name);
            let mut response = ResponseFields::default();
            response.push(DATE, HeaderValue::from_static("b"));
            response.push(name.clone(), HeaderValue::from_static("a"));
            let mut request = HeaderMap::new();
            request.line(name.clone(), b"a");
            for fields in [response.into_http2(None), request] {
                let indexed: Vec<_> = fields.get_all(&name).iter().map(|value| !value.is_sensitive()).collect();
                assert_eq!(indexed.last(), Some(&is_indexed), "{name}");
            }
        }
    }
}
