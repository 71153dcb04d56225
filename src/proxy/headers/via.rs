//! The Via field (RFC 9110 §7.6.3): names this process to upstreams, and finds requests that come back from one.

use std::sync::LazyLock;

use http::Version;
use http::header::{HeaderMap, VIA};
use uuid::Uuid;

/// The pseudonym of this process. Unlike one name for all, it lets a request pass several proxies of this kind.
static PSEUDONYM: LazyLock<String> = LazyLock::new(|| {
    let id = Uuid::now_v7();
    let (_, _, _, random) = id.as_fields();
    format!("bartizan-{}", random.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
});

/// Writes the value of another line of the list (RFC 9110 §5.3).
pub(super) fn write(out: &mut Vec<u8>, received: Version) {
    out.extend_from_slice(match received {
        Version::HTTP_10 => b"1.0 ",
        Version::HTTP_2 => b"2 ",
        _ => b"1.1 ",
    });
    out.extend_from_slice(PSEUDONYM.as_bytes());
}

/// Whether this process has already forwarded the request.
pub(crate) fn is_loop(headers: &HeaderMap) -> bool {
    let mut entries = headers.get_all(VIA).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    // An entry is a protocol, a pseudonym, and perhaps a comment.
    entries.any(|entry| {
        let mut words = entry.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        words.nth(1) == Some(PSEUDONYM.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    /// A loop is ended where it closes, and a chain of proxies is none (U11).
    #[test]
    fn only_the_own_entry_is_a_loop() {
        let mut out = Vec::new();
        write(&mut out, Version::HTTP_2);
        let line = String::from_utf8(out).unwrap();
        let own = line.strip_prefix("2 ").unwrap();
        assert_eq!(own.len(), "bartizan-".len() + 16, "{own}");
        for (lines, expected) in [
            (vec![format!("1.1 {own}")], true),
            (vec!["1.1 edge".to_owned(), format!("1.0 fred, HTTP/1.1\t{own} (comment), 2 p.example")], true),
            (vec!["1.1 bartizan-0000000000000000, 1.1 edge".to_owned()], false),
            (vec![format!("1.1 edge ({own})")], false),
            (vec![format!("1.1 {own}x")], false),
            (vec![String::new()], false),
            (vec![], false),
        ] {
            let fields: Vec<_> = lines.iter().map(|line| ("via", line.as_str())).collect();
            assert_eq!(is_loop(&map(&fields)), expected, "{lines:?}");
        }
    }
}
