//! Parses a `$ref` (RFC 3986, RFC 6901): which file, and where in it.
//!
//! Text only: [`super::files`] decides whether the file exists and may be read.

use percent_encoding::percent_decode_str;

use crate::policy::source::beside;

/// The target of a reference.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Path relative to the policy's folder; none for the file that the reference is in.
    pub(super) path: Option<String>,
    /// JSON pointer.
    pub(super) pointer: String,
}

/// Parses a reference in the file `from`. The error says what is wrong with it.
pub(super) fn parse(from: &str, reference: &str) -> Result<Target, String> {
    let (path, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "it is not UTF-8 once decoded".to_owned());
        decoded.map(|text| text.into_owned())
    };
    let pointer = decode(fragment)?;
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err("only JSON pointers are followed (`#/…`), not names of anchors".to_owned());
    }
    let path = if path.is_empty() { None } else { Some(beside(from, &decode(path)?)?) };
    Ok(Target { path, pointer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_a_file_and_a_place() {
        for (from, reference, path, pointer) in [
            ("a.yaml", "#/components/schemas/X", None, "/components/schemas/X"),
            ("a.yaml", "#", None, ""),
            ("a.yaml", "#/paths/~1orders~1%7Bid%7D/get", None, "/paths/~1orders~1{id}/get"),
            ("a.yaml", "b.yaml", Some("b.yaml"), ""),
            ("specs/a.yaml", "./b.yaml#/x", Some("specs/b.yaml"), "/x"),
            ("specs/v1/a.yaml", "../common/b%20c.yaml#/x", Some("specs/common/b c.yaml"), "/x"),
            ("specs/a.yaml", "../../b.yaml", Some("../b.yaml"), ""),
            ("../specs/a.yaml", "../b.yaml", Some("../b.yaml"), ""),
            ("../a.yaml", "../../b.yaml", Some("../../../b.yaml"), ""),
            ("/etc/specs/a.yaml", "b.yaml", Some("/etc/specs/b.yaml"), ""),
            ("a.yaml", "b:c.yaml", None, "!"),
            ("a.yaml", "https://example.com/b.yaml", None, "!"),
            ("a.yaml", "//example.com/b.yaml", None, "!"),
            ("a.yaml", "file:///etc/passwd", None, "!"),
            ("a.yaml", "/etc/passwd", None, "!"),
            ("a.yaml", "..\\b.yaml", None, "!"),
            ("a.yaml", "#Name", None, "!"),
            ("a.yaml", "#/%ff", None, "!"),
        ] {
            let got = parse(from, reference);
            let expected = Target { path: path.map(str::to_owned), pointer: pointer.to_owned() };
            match pointer {
                "!" => assert!(got.is_err(), "{reference}"),
                _ => assert_eq!(got.as_ref(), Ok(&expected), "{from} {reference}"),
            }
        }
    }
}
