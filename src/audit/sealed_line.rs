//! Reads the place in the chain of a line that was sealed.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};

use super::chain::{AFTER_HASH, BEFORE_HASH, END, HASH_LENGTH, Hash, hex};
use crate::open_file;

/// What `bartizan` ends with and `event` begins with. It cannot be in a string, where quotes are escaped.
const EVENT: &[u8] = b"\"},\"event\":{";
const SEQUENCE: &[u8] = b",\"sequence\":";
const PREVIOUS: &[u8] = b"\",\"previous\":\"";
const SIGNATURE: &[u8] = b",\"signature\":\"";
const STREAM: &[u8] = b",\"stream\":\"";

/// Most bytes of a line; what recorders write is far shorter.
pub(crate) const LINE_MAX: usize = 1024 * 1024;

/// Bytes at the end of a file in which there nearly always is a whole line.
const USUAL_END: u64 = 64 * 1024;

/// Stream and sequence of a line.
pub(super) type LineId = (Box<str>, u64);

/// A line of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SealedLine<'a> {
    /// Name of the stream, as JSON writes it, without quotes.
    pub(super) stream: &'a str,
    /// `event.sequence`.
    pub(super) sequence: u64,
    /// `bartizan.previous`.
    pub(super) previous: Option<Hash>,
    /// `event.hash`, as it is written.
    pub(super) hash: Hash,
    /// The members of `event` before its sequence.
    pub(super) event: &'a [u8],
    /// What was hashed, without its end.
    hashed: &'a [u8],
}

impl<'a> SealedLine<'a> {
    /// Reads a line without its line break. Returns `None` if it has no place in a chain.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let (rest, hash) = last_hash(line.strip_suffix(AFTER_HASH)?)?;
        let hashed = rest.strip_suffix(BEFORE_HASH)?;
        let digits = hashed.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (rest, digits) = hashed.split_at_checked(hashed.len().checked_sub(digits)?)?;
        let sequence = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let event = rest.strip_suffix(SEQUENCE)?;
        let end = memchr::memmem::rfind(event, EVENT)?;
        let mut facts = event.get(..end)?;
        let previous = last_hash(facts).and_then(|(rest, hash)| Some((rest.strip_suffix(PREVIOUS)?, hash)));
        if let Some((rest, _)) = previous {
            facts = rest;
        }
        let start = memchr::memrchr(b'"', facts)? + 1;
        let stream = facts.get(start..)?;
        facts.get(..start)?.strip_suffix(STREAM)?;
        Some(Self {
            stream: std::str::from_utf8(stream).ok()?,
            sequence,
            previous: previous.map(|(_, hash)| hash),
            hash,
            event: event.get(end + EVENT.len()..)?,
            hashed,
        })
    }

    /// Whether the hash is that of the line.
    pub(super) fn holds(&self) -> bool {
        hash(&[self.hashed]) == self.hash
    }

    /// The hash that the line would have with an empty signature. Absent if it has none.
    pub(super) fn hash_unsigned(&self) -> Option<Hash> {
        let start = memchr::memmem::find(self.hashed, SIGNATURE)? + SIGNATURE.len();
        let (before, rest) = self.hashed.split_at_checked(start)?;
        let end = memchr::memchr(b'"', rest)?;
        Some(hash(&[before, rest.get(end..)?]))
    }
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.update(END);
    hex(context.finish().as_ref())
}

/// Splits a hash off the end.
fn last_hash(text: &[u8]) -> Option<(&[u8], Hash)> {
    let (rest, hash) = text.split_last_chunk::<HASH_LENGTH>()?;
    hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some((rest, *hash))
}

/// The end of a file of sealed lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileEnd {
    /// Stream, sequence and hash of the last whole line, if it has a place in a chain.
    pub(super) last: Option<(Box<str>, u64, Hash)>,
    /// Bytes after it, of lines that were not written whole.
    pub(super) torn: u64,
    /// Those of them that an earlier start has ended with a line break.
    pub(super) ended: u64,
}

impl FileEnd {
    /// Reads the end of a regular file; of anything else, and of one that cannot be read, nothing is known.
    pub(super) fn of(path: &Path) -> Self {
        Self::read(path).unwrap_or_default()
    }

    fn read(path: &Path) -> io::Result<Self> {
        let file = open_file::regular(path)?;
        let length = file.metadata()?.len();
        let end_of = |most: u64| {
            let start = length.saturating_sub(most);
            let mut bytes = vec![0; usize::try_from(length - start).unwrap_or_default()];
            file.read_exact_at(&mut bytes, start)?;
            Ok(Self::in_text(&bytes))
        };
        let end: io::Result<Self> = end_of(USUAL_END);
        match end {
            Ok(Self { last: None, .. }) if length > USUAL_END => end_of(2 * LINE_MAX as u64),
            end => end,
        }
    }

    /// The end of a text whose beginning may be missing. Lines at the end that have no place in a chain count as torn: an earlier
    /// start may have ended them.
    pub(super) fn in_text(text: &[u8]) -> Self {
        let mut whole = text.get(..memchr::memrchr(b'\n', text).map_or(0, |end| end + 1)).unwrap_or_default();
        let (mut torn, mut ended) = ((text.len() - whole.len()) as u64, 0);
        while let Some(lines) = whole.strip_suffix(b"\n") {
            let start = memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1);
            let line = lines.get(start..).unwrap_or_default();
            if let Some(line) = SealedLine::parse(line) {
                let last = Some((line.stream.into(), line.sequence, line.hash));
                return Self { last, torn, ended };
            }
            torn += line.len() as u64;
            ended += line.len() as u64;
            whole = whole.get(..start).unwrap_or_default();
        }
        Self { last: None, torn, ended }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::Chain;
    use super::super::chain::tests::unsealed;
    use super::*;

    #[test]
    fn the_end_of_a_file_is_found_behind_what_is_torn() {
        let mut out = Vec::new();
        Chain::new("a/1", None).seal((unsealed("1") + &unsealed("2")).as_bytes(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let first = text.find('\n').unwrap() + 1;
        for (text, sequence, torn) in [
            (text.clone(), Some(2), 0),
            (format!("{text}{{\"@ti"), Some(2), 5),
            (format!("{text}{{\"@ti\n"), Some(2), 5),
            (format!("{text}{{\"@ti\n{{\"\n"), Some(2), 7),
            (text[..first + 9].to_owned(), Some(1), 9),
            (text[3..].to_owned(), Some(2), 0),
            ("no record\n".to_owned(), None, 9),
            (String::new(), None, 0),
        ] {
            let end = FileEnd::in_text(text.as_bytes());
            assert_eq!((end.last.map(|(_, sequence, _)| sequence), end.torn), (sequence, torn), "{text}");
        }
    }
}
