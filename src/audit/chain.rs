//! The hash chain: every line has a number, the hash of the line before it, and its own hash.
//!
//! `event.hash` is the SHA-256 (FIPS 180-4) of the exact bytes of the line, without its line break, before the hash was
//! added; `bartizan.previous` is the `event.hash` of the line before it in the same `bartizan.stream`. So nothing has to be
//! parsed or brought into a canonical form to check a line: the hash is always its last member.

use aws_lc_rs::digest::{SHA256, digest};

/// Where a recorder leaves room for what the sealer adds, twice in a line: before the end of `bartizan`, and in place of the
/// end of `event` and of the line. It never occurs in JSON, where control characters are escaped.
pub(super) const MARK: u8 = 0x01;

/// Length of a hash in hexadecimal digits.
pub(super) const HASH_LENGTH: usize = 64;

/// A hash in hexadecimal digits.
pub(super) type Hash = [u8; HASH_LENGTH];

/// What stands between the bytes that are hashed and the hash.
pub(super) const BEFORE_HASH: &[u8] = b",\"hash\":\"";
/// The end of a line, after its hash.
pub(super) const AFTER_HASH: &[u8] = b"\"}}";
/// The end of the bytes that are hashed.
pub(super) const END: &[u8] = b"}}";

/// The last line of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Its `event.sequence`; zero before the first.
    pub(super) sequence: u64,
    /// Its `event.hash`; absent before the first line of a stream that follows no other.
    pub(super) hash: Option<Hash>,
}

/// A chain that lines are added to.
pub(super) struct Chain {
    /// Name of the stream, as JSON writes it, without quotes.
    stream: Box<str>,
    /// The last line. To undo what was sealed and could not be written, put an earlier one back.
    pub(super) last: Link,
}

impl Chain {
    /// An empty chain. `stream` is its name as JSON writes it, without quotes. The first line names `previous`, the hash of
    /// the last line of the stream that this one follows.
    pub(super) fn new(stream: &str, previous: Option<Hash>) -> Self {
        Self { stream: stream.into(), last: Link { sequence: 0, hash: previous } }
    }

    /// Adds `lines`, which recorders wrote, and appends them to `out` as they are kept.
    pub(super) fn seal(&mut self, lines: &[u8], out: &mut Vec<u8>) {
        let mut rest = lines;
        while let Some((line, next)) = split(rest) {
            self.add(line, out);
            rest = next;
        }
        debug_assert!(rest.is_empty(), "a line lacks its marks");
    }

    /// The hash that one line would have as the next one.
    pub(super) fn hash_of_next(&self, line: &[u8]) -> Option<Hash> {
        let mut next = Self { stream: self.stream.clone(), last: self.last };
        next.seal(line, &mut Vec::new());
        next.last.hash
    }

    fn add(&mut self, [facts, event]: [&[u8]; 2], out: &mut Vec<u8>) {
        let start = out.len();
        self.last.sequence += 1;
        out.extend_from_slice(facts);
        out.extend_from_slice(b",\"stream\":\"");
        out.extend_from_slice(self.stream.as_bytes());
        if let Some(previous) = &self.last.hash {
            out.extend_from_slice(b"\",\"previous\":\"");
            out.extend_from_slice(previous);
        }
        out.push(b'"');
        out.extend_from_slice(event);
        out.extend_from_slice(b",\"sequence\":");
        out.extend_from_slice(itoa::Buffer::new().format(self.last.sequence).as_bytes());
        out.extend_from_slice(END);
        let hash = hash_of(out.get(start..).unwrap_or_default());
        out.truncate(out.len() - END.len());
        out.extend_from_slice(BEFORE_HASH);
        out.extend_from_slice(&hash);
        out.extend_from_slice(AFTER_HASH);
        out.push(b'\n');
        self.last.hash = Some(hash);
    }
}

/// Splits the first line off: its two parts, without the marks, and what follows it.
fn split(lines: &[u8]) -> Option<([&[u8]; 2], &[u8])> {
    let (facts, rest) = lines.split_at_checked(memchr::memchr(MARK, lines)?)?;
    let rest = rest.get(1..)?;
    let (event, rest) = rest.split_at_checked(memchr::memchr(MARK, rest)?)?;
    Some(([facts, event], rest.get(2..)?))
}

/// Returns the SHA-256 of bytes.
pub(super) fn hash_of(bytes: &[u8]) -> Hash {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Returns the hexadecimal digits of a digest.
pub(super) fn hex(digest: &[u8]) -> Hash {
    let mut hash = [0; HASH_LENGTH];
    for (pair, byte) in hash.chunks_exact_mut(2).zip(digest) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    hash
}

fn digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'a' + value - 10,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A line as recorders write them, with a name that [`names`] reads.
    pub(in crate::audit) fn unsealed(name: &str) -> String {
        format!("{{\"bartizan\":{{\"name\":\"{name}\"\u{1}}},\"event\":{{\"id\":\"1\"\u{1}\n")
    }

    /// The names in sealed lines, the actions of the sealer's own, and other lines as they are.
    pub(in crate::audit) fn names(lines: &[u8]) -> Vec<String> {
        let name = |line: &[u8]| {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
            let name =
                value.pointer("/bartizan/name").or(value.pointer("/event/action")).and_then(|name| name.as_str());
            name.map_or_else(|| String::from_utf8_lossy(line).into_owned(), str::to_owned)
        };
        lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(name).collect()
    }

    #[test]
    fn each_line_has_the_hash_of_the_one_before_and_its_own() {
        let (mut chain, mut out) = (Chain::new("a/1", None), Vec::new());
        chain.seal((unsealed("one") + &unsealed("two")).as_bytes(), &mut out);
        let first = r#"{"bartizan":{"name":"one","stream":"a/1"},"event":{"id":"1","sequence":1}}"#;
        let one = String::from_utf8(hash_of(first.as_bytes()).to_vec()).unwrap();
        let second = format!(
            r#"{{"bartizan":{{"name":"two","stream":"a/1","previous":"{one}"}},"event":{{"id":"1","sequence":2}}}}"#
        );
        let two = String::from_utf8(hash_of(second.as_bytes()).to_vec()).unwrap();
        let sealed = |line: &str, hash: &str| format!("{},\"hash\":\"{hash}\"}}}}\n", &line[..line.len() - 2]);
        assert_eq!(String::from_utf8(out).unwrap(), sealed(first, &one) + &sealed(&second, &two));
        assert_eq!(chain.last, Link { sequence: 2, hash: Some(two.as_bytes().try_into().unwrap()) });
        // FIPS 180-4, appendix of examples.
        assert_eq!(&hash_of(b"abc")[..16], b"ba7816bf8f01cfea");
    }
}
