//! The end of a file that a spool has lines for: which of them it has already, and what was not written whole.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::chain::Hash;
use super::sealed_line::{LINE_MAX, LineId, SealedLine};
use super::verify::{LineRead, Lines};

/// How much of a file is looked at: a sync covers less.
const SEARCHED: u64 = 256 << 20;
/// How every line begins.
const BEGINNING: &[u8] = b"{\"";
/// Bytes that are read or written at once.
const PIECE: u64 = 1 << 20;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A line of a chain, as it was sealed.
    Sealed(Hash),
    /// Blocks that the machine had not written when it stopped, or the beginning of a line.
    Unwritten,
    /// The end of such a line: a sealed one that begins behind what was not written.
    Behind(Hash),
    /// Of somebody else.
    Other,
}

/// The lines of a file after the last one that comes before those of the spool.
#[derive(Debug)]
pub(super) struct FileTail {
    start: u64,
    end: u64,
    /// Where each line starts, and what it is.
    lines: Vec<(u64, Kind)>,
    /// What is before these lines comes before those of the spool.
    is_whole: bool,
}

impl FileTail {
    /// Reads a file from its end back to where `first`, the first line that the spool has for it, can be. Without one, only a line that
    /// has no end is found.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(file: &File, first: Option<&LineId>) -> io::Result<Self> {
        let end = file.metadata()?.len();
        let (mut from, least) = (end, end.saturating_sub(SEARCHED));
        // Of each piece, from the end; and what is read of a line that starts before.
        let (mut pieces, mut rest) = (Vec::new(), Vec::new());
        let mut is_found = false;
        while from > least && !is_found {
            let start = from.saturating_sub(PIECE);
            let mut bytes = vec![0; usize::try_from(from - start).unwrap_or_default()];
            file.read_exact_at(&mut bytes, start)?;
            bytes.append(&mut rest);
            let whole = if start == 0 { 0 } else { memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |at| at + 1) };
            let (mut place, mut lines) = (start + whole as u64, Vec::new());
            for line in bytes.get(whole..).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
                let sealed = line.strip_suffix(b"\n").and_then(SealedLine::parse).filter(SealedLine::holds);
                let is_before = |(stream, sequence): &LineId| {
                    sealed.is_some_and(|sealed| *sealed.stream == **stream && sealed.sequence < *sequence)
                };
                if first.map_or(sealed.is_some(), is_before) {
                    lines.clear();
                    is_found = true;
                } else {
                    lines.push((place, kind_of(line, sealed.as_ref())));
                    lines.extend(behind(line).map(|hash| (place, Kind::Behind(hash))));
                }
                place += line.len() as u64;
            }
            pieces.push(lines);
            bytes.truncate(whole);
            (rest, from) = (end_of(bytes), start);
        }
        let lines: Vec<_> = pieces.into_iter().rev().flatten().collect();
        let start = lines.first().map_or(end, |(start, _)| *start);
        Ok(Self { start, end, lines, is_whole: is_found })
    }

    /// Whether what is before these lines comes before those of the spool: no other file has any of them.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether nothing was written behind it.
    pub(super) fn is_end_of(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|metadata| metadata.len() == self.end)
    }

    /// Hashes of the lines that were sealed.
    pub(super) fn hashes(&self) -> impl Iterator<Item = Hash> {
        self.lines.iter().filter_map(|(_, kind)| match kind {
            Kind::Sealed(hash) | Kind::Behind(hash) => Some(*hash),
            Kind::Unwritten | Kind::Other => None,
        })
    }

    /// Where the first line is that was not written, if nothing is behind it but what the spool has.
    pub(super) fn unwritten(&self, spooled: &HashSet<Hash>) -> Option<u64> {
        let is_ours = |(_, kind): &&(u64, Kind)| match kind {
            Kind::Sealed(hash) | Kind::Behind(hash) => spooled.contains(hash),
            Kind::Unwritten => true,
            Kind::Other => false,
        };
        let ours = self.lines.iter().rev().take_while(is_ours).count();
        let ours = self.lines.get(self.lines.len() - ours..).unwrap_or_default();
        ours.iter().find(|(_, kind)| *kind == Kind::Unwritten).map(|(place, _)| *place)
    }

    /// Ends it here, where the file was cut, and takes the lines behind from `present`. Returns how many bytes are gone.
    pub(super) fn cut(&mut self, end: u64, present: &mut HashSet<Hash>) -> u64 {
        let cut = self.lines.partition_point(|(place, _)| *place < end);
        for (_, kind) in self.lines.drain(cut..) {
            if let Kind::Sealed(hash) | Kind::Behind(hash) = kind {
                present.remove(&hash);
            }
        }
        self.start = self.start.min(end);
        std::mem::replace(&mut self.end, end) - end
    }

    /// Writes the same bytes again, in their place: the system may take them for written although they are not on the disk. `file` was
    /// not opened for appending.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub(super) fn write_again(&self, file: &File) -> io::Result<()> {
        let mut place = self.start;
        while place < self.end {
            let mut bytes = vec![0; usize::try_from(PIECE.min(self.end - place)).unwrap_or_default()];
            file.read_exact_at(&mut bytes, place)?;
            file.write_all_at(&bytes, place)?;
            place += bytes.len() as u64;
        }
        Ok(())
    }

    /// Hashes of lines that nobody can read, because what is before them was not written.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = Hash> {
        self.lines.iter().filter_map(|(_, kind)| match kind {
            Kind::Behind(hash) => Some(*hash),
            Kind::Sealed(_) | Kind::Unwritten | Kind::Other => None,
        })
    }
}

/// The end of a long line, which tells whether a part of it was not written.
fn end_of(mut line: Vec<u8>) -> Vec<u8> {
    let Some(excess) = line.len().checked_sub(LINE_MAX).filter(|excess| *excess > 0) else { return line };
    let is_unwritten = line.drain(..excess).any(|byte| byte == 0);
    if is_unwritten {
        line.insert(0, 0);
    }
    line
}

/// Hashes of the lines in a text that was put aside, and whether one of them comes before `first`.
///
/// # Errors
/// It cannot be read.
pub(super) fn hashes_in(text: impl Read, first: &LineId) -> io::Result<(HashSet<Hash>, bool)> {
    let (mut lines, mut hashes, mut is_found) = (Lines::new(text.take(SEARCHED)), HashSet::new(), false);
    while let Some(LineRead::Whole(line)) = lines.next()? {
        let Some(sealed) = SealedLine::parse(line).filter(SealedLine::holds) else { continue };
        if *sealed.stream == *first.0 && sealed.sequence < first.1 {
            (hashes, is_found) = (HashSet::new(), true);
        } else {
            hashes.insert(sealed.hash);
        }
    }
    Ok((hashes, is_found))
}

/// The sealed line that begins in this one, behind blocks that were not written.
fn behind(line: &[u8]) -> Option<Hash> {
    let start = memchr::memrchr(0, line)? + 1;
    let sealed = line.get(start..)?.strip_suffix(b"\n").and_then(SealedLine::parse);
    sealed.filter(SealedLine::holds).map(|sealed| sealed.hash)
}

fn kind_of(line: &[u8], sealed: Option<&SealedLine<'_>>) -> Kind {
    match sealed {
        Some(sealed) => Kind::Sealed(sealed.hash),
        None if line.contains(&0) => Kind::Unwritten,
        // The beginning of a line of ours, and no note of somebody.
        None if line.last() != Some(&b'\n') && line.iter().zip(BEGINNING).all(|(is, of)| is == of) => Kind::Unwritten,
        None => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::Chain;
    use super::super::chain::tests::unsealed;
    use super::*;

    /// Sealed lines with these contents, and their hashes.
    fn sealed(stream: &str, count: usize, long: usize) -> (Vec<String>, Vec<Hash>) {
        let mut out = Vec::new();
        let lines: String = (0..count).map(|n| unsealed(&format!("{n}{}", "x".repeat(long)))).collect();
        Chain::new(stream, None).seal(lines.as_bytes(), &mut out);
        let lines: Vec<_> = String::from_utf8(out).unwrap().split_inclusive('\n').map(str::to_owned).collect();
        let hashes = lines.iter().map(|line| SealedLine::parse(line.trim_end().as_bytes()).unwrap().hash).collect();
        (lines, hashes)
    }

    fn file(text: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(text, 0).unwrap();
        file
    }

    #[test]
    fn lines_of_the_spool_are_found_wherever_they_are() {
        // More than a piece.
        let ((ours, hashes), (others, _)) = (sealed("a/1", 40, 100_000), sealed("b/2", 5, 10));
        let text = [&ours[..20], &others[..2], &ours[20..], &others[2..]].concat().concat();
        for (first, expected) in [(1, 40), (2, 39), (21, 20), (40, 1), (41, 0)] {
            let id = ("a/1".into(), first);
            let tail = FileTail::read(&file(text.as_bytes()), Some(&id)).unwrap();
            let spooled: HashSet<Hash> = hashes[usize::try_from(first).unwrap() - 1..].iter().copied().collect();
            let found: HashSet<Hash> = tail.hashes().filter(|hash| spooled.contains(hash)).collect();
            assert_eq!((found.len(), tail.is_whole()), (expected, first > 1), "{first}");
            assert_eq!(hashes_in(text.as_bytes(), &id).unwrap(), (tail.hashes().collect(), first > 1));
        }
    }

    #[test]
    fn it_is_no_end_once_somebody_wrote_behind_it() {
        let file = file(b"a line\nanother");
        let tail = FileTail::read(&file, None).unwrap();
        assert!(tail.is_end_of(&file));
        file.write_all_at(b" line\n", 14).unwrap();
        assert!(!tail.is_end_of(&file));
    }

    #[test]
    fn what_was_not_written_may_be_long() {
        let (ours, hashes) = sealed("a/1", 2, 10);
        let zeros = "\0".repeat(3 << 20);
        let text = format!("{}{zeros}{}", ours[0], ours[1]);
        let tail = FileTail::read(&file(text.as_bytes()), Some(&("a/1".into(), 2))).unwrap();
        assert_eq!(tail.unwritten(&hashes.iter().copied().collect()), Some(ours[0].len() as u64));
        assert_eq!(tail.unreadable().collect::<Vec<_>>(), [hashes[1]]);
    }

    #[test]
    fn only_what_was_not_written_and_what_the_spool_has_is_cut() {
        let ((ours, hashes), (others, _)) = (sealed("a/1", 4, 10), sealed("b/2", 1, 10));
        let zeros = "\0".repeat(ours[1].len());
        let first = ours[0].len() as u64;
        for (lines, cut) in [
            (vec![&ours[0], &ours[1]], None),
            // A machine that stopped.
            (vec![&ours[0], &zeros, &ours[2]], Some(first)),
            (vec![&ours[0], &zeros], Some(first)),
            // A process that was killed.
            (vec![&ours[0], &ours[1][..9].to_owned()], Some(first)),
            // Lines of others.
            (vec![&ours[0], &zeros, &others[0]], None),
            (vec![&ours[0], &zeros, &"\na note\n".to_owned(), &ours[2]], None),
            (vec![&"a note\n".to_owned()], None),
            (vec![&ours[0], &"a note".to_owned()], None),
        ] {
            let text = lines.into_iter().map(String::as_str).collect::<String>();
            let tail = FileTail::read(&file(text.as_bytes()), Some(&("a/1".into(), 2))).unwrap();
            assert_eq!(tail.unwritten(&hashes[1..].iter().copied().collect()), cut, "{text:?}");
        }
    }
}
