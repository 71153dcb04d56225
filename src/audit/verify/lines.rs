//! Reads lines of any source in large pieces.

use std::io::{self, Read};

use crate::audit::sealed_line::LINE_MAX;

/// Bytes that are read at once.
const PIECE: usize = 1024 * 1024;

/// Reads lines; memory is bounded by the longest line that recorders could write.
pub(crate) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
}

/// A line, without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LineRead<'a> {
    /// A whole line.
    Whole(&'a [u8]),
    /// The end of the source, which has no line break.
    Torn(&'a [u8]),
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, buffer: vec![0; PIECE], start: 0, end: 0, ended: false }
    }

    /// Returns the next line, or `None` at the end.
    ///
    /// # Errors
    /// The source cannot be read, or a line is longer than any record.
    pub(crate) fn next(&mut self) -> io::Result<Option<LineRead<'_>>> {
        // How much of what is not used yet has no line break.
        let mut searched = 0;
        loop {
            let unread = self.buffer.get(self.start + searched..self.end).unwrap_or_default();
            if let Some(length) = memchr::memchr(b'\n', unread) {
                let (start, end) = (self.start, self.start + searched + length);
                self.start = end + 1;
                return Ok(self.buffer.get(start..end).map(LineRead::Whole));
            }
            searched = self.end - self.start;
            if self.ended {
                let (start, end) = (self.start, self.end);
                self.start = end;
                return Ok(self.buffer.get(start..end).filter(|rest| !rest.is_empty()).map(LineRead::Torn));
            }
            if searched > LINE_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than any record"));
            }
            self.fill()?;
        }
    }

    /// Reads more, after what is not used yet.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.buffer.len() - self.end < PIECE / 2 {
            self.buffer.resize(self.buffer.len() + PIECE, 0);
        }
        let read = loop {
            match self.source.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end += read;
        self.ended = read == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    #[test]
    fn lines_come_whole_however_they_are_read() {
        let long = "x".repeat(LINE_MAX);
        for text in ["", "a", "a\n", "a\n\nbc", &format!("{long}\n{long}\nz\n"), "\n"] {
            for count in [1, 7, usize::MAX] {
                if count == 1 && text.len() > 100 {
                    continue;
                }
                let (mut lines, mut joined) = (Lines::new(Slow(text.as_bytes(), count)), Vec::new());
                while let Some(line) = lines.next().unwrap() {
                    match line {
                        LineRead::Whole(line) => joined.extend([line, b"\n"].concat()),
                        LineRead::Torn(rest) => joined.extend(rest),
                    }
                }
                assert!(joined == text.as_bytes());
            }
        }
        let endless = Lines::new(io::repeat(b'x')).next().map(|_| ()).unwrap_err();
        assert_eq!(endless.kind(), io::ErrorKind::InvalidData);
    }
}
