//! How else a normalised path may be read by an upstream.
//!
//! RFC 3986 §2.2 keeps `%3A` and `:` apart, and many frameworks decode before they match. Servlet containers remove the
//! parameters of a segment (`;x=1`) before they match. Where such a reading leads to another route, the request is refused:
//! it would be admitted to one operation, and served by another.

/// The other readings of a path; none for an ordinary one.
pub(super) fn of(path: &str) -> impl Iterator<Item = String> + use<> {
    let (mut escaped, mut has_parameters) = (false, false);
    for byte in path.bytes() {
        escaped |= byte == b'%';
        has_parameters |= byte == b';';
    }
    let decoded = escaped.then(|| decode(path));
    let bare = decoded.as_deref().unwrap_or(path);
    let bare = (has_parameters || (escaped && bare.contains(';'))).then(|| without_parameters(bare));
    decoded.into_iter().chain(bare)
}

/// Decodes the escapes of characters that may stand unencoded in a segment (`sub-delims`, `:` and `@`), and of slashes, which
/// only routes with `encoded_slash: keep` have.
fn decode(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let octet = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match octet.filter(|octet| b"/!$&'()*+,;=:@".contains(octet)) {
            Some(octet) => {
                decoded.push(char::from(octet));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

fn without_parameters(path: &str) -> String {
    let bare = path.split('/').map(|segment| match segment.split_once(';') {
        // A segment of nothing but parameters is the value of a `matrix` parameter.
        Some(("", _)) | None => segment,
        Some((bare, _)) => bare,
    });
    bare.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_parsers_decode_and_remove_parameters() {
        for (path, readings) in [
            ("/a/b:c", &[] as &[&str]),
            ("/a%3Ab/c%20d", &["/a:b/c%20d"]),
            ("/a;x=1/b", &["/a/b"]),
            ("/a%3Bx/b%2Cc", &["/a;x/b,c", "/a/b,c"]),
            ("/a/;x=1", &["/a/;x=1"]),
            ("/a%2Fb", &["/a/b"]),
            ("/%25", &["/%25"]),
            ("/%253A", &["/%253A"]),
        ] {
            assert_eq!(of(path).collect::<Vec<_>>(), readings, "{path}");
        }
    }
}
