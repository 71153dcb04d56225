//! Media types (RFC 9110 §8.3.1), without their parameters.

/// `TYPE/SUBTYPE` in lower case.
fn essence(media: &str) -> String {
    media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether it is JSON, or has the suffix `+json` (RFC 6839 §3.1).
pub(super) fn is_json(media: &str) -> bool {
    let essence = essence(media);
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}
