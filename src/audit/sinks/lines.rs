//! Lines of a batch.

/// The end of a record: what comes after its id.
const TAIL: usize = 512;

/// The lines of a batch, each with its line break.
pub(super) fn lines(batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    batch.split_inclusive(|byte| *byte == b'\n').filter(|line| *line != b"\n")
}

/// How many lines a batch has.
pub(super) fn count(batch: &[u8]) -> u64 {
    lines(batch).count() as u64
}

/// The length of the first lines that have at most `most` bytes together; of one line, if that alone is longer.
pub(super) fn fitting(batch: &[u8], most: usize) -> usize {
    let head = batch.get(..most).unwrap_or(batch);
    if head.len() == batch.len() {
        return batch.len();
    }
    match memchr::memrchr(b'\n', head).or_else(|| memchr::memchr(b'\n', batch)) {
        Some(end) => end + 1,
        None => batch.len(),
    }
}

/// A line without its line break.
pub(super) fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// The `event.id` of a record, if it is plain: it is among the last members of `event`, which ends the record.
pub(super) fn event_id(line: &[u8]) -> Option<&str> {
    let tail = line.get(line.len().saturating_sub(TAIL)..)?;
    let key = b"\"id\":\"";
    let start = memchr::memmem::rfind(tail, key)? + key.len();
    let rest = tail.get(start..)?;
    let id = rest.get(..memchr::memchr(b'"', rest)?)?;
    let plain = (1..=64).contains(&id.len()) && id.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    if plain { std::str::from_utf8(id).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_between_lines() {
        for (batch, most, length) in [
            ("aa\nbb\n", 100, 6),
            ("aa\nbb\n", 6, 6),
            ("aa\nbb\n", 5, 3),
            ("aa\nbb\n", 3, 3),
            ("aa\nbb\n", 2, 3),
            ("aaaaaa\nbb\n", 1, 7),
            ("aaaaaa\nbb\n", 0, 7),
            ("aaaa", 2, 4),
            ("", 2, 0),
        ] {
            assert_eq!(fitting(batch.as_bytes(), most), length, "{batch:?} {most}");
        }
    }

    #[test]
    fn the_id_is_that_of_the_event() {
        let id = "0192f0c1-7a53-7c4e-8f00-000000000001";
        let long = format!(
            "{{\"user\":{{\"id\":\"u\"}},\"x\":\"{}\",\"event\":{{\"id\":\"{id}\",\"sequence\":7}}}}\n",
            "y".repeat(2000)
        );
        for (line, found) in [
            (long.as_str(), Some(id)),
            ("{\"event\":{\"id\":\"abc\",\"hash\":\"00\"}}", Some("abc")),
            ("{\"event\":{\"id\":\"a\\\"b\",\"hash\":\"00\"}}", None),
            ("{\"event\":{\"id\":\"\"}}", None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(event_id(line.as_bytes()), found, "{line}");
        }
    }
}
