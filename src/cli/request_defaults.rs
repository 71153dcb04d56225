//! Defaults for the requests of `explain` and `test`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Default client address: one for documentation (RFC 5737), which no policy trusts.
pub(super) const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Returns the content type of a file by its extension.
pub(super) fn media_type(file: &Path) -> Option<&'static str> {
    match file.extension()?.to_str()? {
        "json" => Some("application/json"),
        "xml" => Some("application/xml"),
        "txt" => Some("text/plain; charset=utf-8"),
        _ => None,
    }
}

/// Splits `METHOD /path`.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let (method, target) = text.split_once(' ')?;
    let good = !method.is_empty() && !target.is_empty() && !target.contains(char::is_whitespace);
    good.then_some((method, target))
}
