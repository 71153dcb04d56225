//! The fields that concern a single hop: `Connection` and `TE` (RFC 9110 §7.6.1, §10.1.4).

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE};

use super::response_fields::ResponseFields;
use super::rules::is_protected;

/// Removes the fields that these values of `Connection` name, except those that determine the meaning of the message.
pub(crate) fn remove_named<'a>(fields: &mut ResponseFields, connection: impl Iterator<Item = &'a [u8]>) {
    fields.remove_all(&named(options(connection)).collect());
}

/// Returns the fields that these options of `Connection` name and that may be removed.
pub(super) fn named<'a>(options: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = HeaderName> {
    options
        .filter(|option| !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close"))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        // `te` has its own rule.
        .filter(|name| name != TE && !is_protected(name.as_str()))
}

/// Returns the options in all `Connection` fields, in any case.
pub(super) fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    options(headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes))
}

fn options<'a>(connection: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    connection
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}

/// Whether this value of `TE` accepts trailers (RFC 9110 §10.1.4).
pub(crate) fn accepts_trailers(te: &[u8]) -> bool {
    te.split(|&byte| byte == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}
