//! Appends sealed lines: the sealer's end of the spool.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::files::{Position, create};
use super::shared::{Recent, Spool};
use crate::audit::sealed_line::SealedLine;

/// Smallest and largest size of a segment in bytes; otherwise an eighth of the spool.
pub(super) const SEGMENT: (u64, u64) = (1 << 20, 64 << 20);

/// Most bytes of lines that are in memory beside the disk.
const RECENT: usize = 1 << 20;

/// Writes segments. There is one.
pub(in crate::audit) struct Appender {
    spool: Arc<Spool>,
    file: File,
    end: Position,
    /// Something was written that may not be on disk.
    dirty: bool,
    /// A sync of it failed.
    unsynced: bool,
    /// Bytes that there were when it was full for this size. Until there are fewer, nothing fits: otherwise a small batch would
    /// now and then, between large ones.
    full: Option<(u64, u64)>,
}

/// Why lines were not appended. None of them were.
#[derive(Debug)]
pub(in crate::audit) enum AppendError {
    /// The spool is as large as it may be.
    Full,
    /// The system refuses.
    Io(io::Error),
}

impl std::fmt::Display for AppendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("it has the size that the policy allows"),
            Self::Io(error) => f.write_str(&crate::error_text::system(error)),
        }
    }
}

impl Appender {
    pub(super) fn new(spool: &Arc<Spool>, end: Position) -> io::Result<Self> {
        let file = create(&spool.segment(end.segment))?;
        file.sync_all()?;
        Ok(Self { spool: Arc::clone(spool), file, end, dirty: false, unsynced: false, full: None })
    }

    /// The spool.
    pub(in crate::audit) fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// Appends whole lines in one write: all of them, or none. The spool then has at most `size` bytes.
    pub(in crate::audit) fn append(&mut self, lines: &Bytes, count: u64, size: u64) -> Result<(), AppendError> {
        let bytes = self.spool.bytes();
        let still_full = self.full.is_some_and(|(full, of)| of == size && bytes >= full);
        if still_full || bytes + lines.len() as u64 > size {
            self.full = Some((bytes, size));
            // What alone fills a spool that was made smaller does not go otherwise.
            let is_alone = bytes == self.end.offset && lines.len() as u64 <= size;
            if !is_alone || !self.start_over() {
                return Err(AppendError::Full);
            }
        }
        self.full = None;
        if self.end.offset >= (size / 8).clamp(SEGMENT.0, SEGMENT.1)
            && let Err(error) = self.roll()
            && !self.start_over()
            && self.dirty
        {
            return Err(AppendError::Io(error));
        }
        // Without room for another file, the segment grows.
        if let Err(error) = self.write(lines) {
            // A disk that is full of what every sink has.
            if !self.start_over() || self.write(lines).is_err() {
                return Err(AppendError::Io(error));
            }
        }
        self.dirty = true;
        let recent = Recent { start: self.end, lines: lines.clone(), count };
        self.end.offset += lines.len() as u64;
        self.end.line += count;
        let mut state = self.spool.lock();
        state.end = self.end;
        state.recent.push_back(recent);
        let mut bytes: usize = state.recent.iter().map(|recent| recent.lines.len()).sum();
        while bytes > RECENT
            && let Some(oldest) = state.recent.pop_front()
        {
            bytes -= oldest.lines.len();
        }
        if let Some((_, bytes)) = state.segments.back_mut() {
            *bytes = self.end.offset;
        }
        // A wake-up that nobody waits for would still be a system call.
        if state.waiting > 0 {
            self.spool.appended.notify_all();
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.file.write_all_at(lines, self.end.offset);
        if written.is_err() {
            // Readers do not look past the end, and the next lines overwrite what was written.
            let _ = self.file.set_len(self.end.offset);
        }
        written
    }

    /// Goes on with an empty segment, if every sink has all lines. Returns whether lines were removed.
    pub(super) fn start_over(&mut self) -> bool {
        let next = Position { line: self.end.line, segment: self.end.line, offset: 0 };
        if !self.spool.is_delivered() || self.spool.bytes() == 0 {
            // A sink that has them may not have written how far it is, or have open what was removed.
            self.spool.wake();
            return false;
        }
        if next.segment == self.end.segment {
            // It is empty: the disk takes segments, but no lines.
            return self.spool.start_over(next);
        }
        let path = self.spool.segment(next.segment);
        let Ok(file) = create(&path) else { return false };
        if file.set_len(0).is_err() || !self.spool.start_over(next) {
            // The next start would take it for the end of all lines.
            let _ = std::fs::remove_file(path);
            return false;
        }
        (self.file, self.end, self.unsynced) = (file, next, false);
        true
    }

    /// Starts the next segment.
    pub(super) fn roll(&mut self) -> io::Result<()> {
        self.sync()?;
        let next = Position { line: self.end.line, segment: self.end.line, offset: 0 };
        let file = create(&self.spool.segment(next.segment))?;
        // Left by a process that was killed between making and using it.
        file.set_len(0)?;
        File::open(&self.spool.folder)?.sync_all()?;
        (self.file, self.end) = (file, next);
        let mut state = self.spool.lock();
        state.segments.push_back((next.segment, 0));
        state.end = next;
        Ok(())
    }

    /// Appends to another file from now on, and returns the one before.
    #[cfg(test)]
    pub(in crate::audit) fn put_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    /// Makes sure that everything appended is on disk.
    pub(in crate::audit) fn sync(&mut self) -> io::Result<()> {
        if !self.dirty {
            return Ok(());
        }
        if self.unsynced {
            self.write_again()?;
        }
        self.unsynced = true;
        self.file.sync_data()?;
        (self.dirty, self.unsynced) = (false, false);
        self.spool.synced(self.end);
        Ok(())
    }

    /// Writes again, in its place, what a failed sync may have lost. Linux takes pages that it could not write for written: the
    /// next sync would succeed without them (<https://lwn.net/Articles/752063/>).
    ///
    /// # Errors
    /// It cannot be written, or it is lost: it is neither in memory nor in the file as it was.
    fn write_again(&self) -> io::Result<()> {
        let state = self.spool.lock();
        let from = if state.synced.segment == self.end.segment { state.synced.offset } else { 0 };
        let is_unsynced = |recent: &&Recent| {
            recent.start.segment == self.end.segment && recent.start.offset + recent.lines.len() as u64 > from
        };
        let recent = state.recent.iter().filter(is_unsynced);
        let recent: Vec<_> = recent.map(|recent| (recent.start.offset, recent.lines.clone())).collect();
        drop(state);
        if recent.first().is_some_and(|(start, _)| *start <= from) {
            return recent.iter().try_for_each(|(start, lines)| self.file.write_all_at(lines, *start));
        }
        // The system still has the pages, unless it needed the memory.
        let mut bytes = vec![0; usize::try_from(self.end.offset.saturating_sub(from)).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, from)?;
        let holds = |line: &[u8]| line.strip_suffix(b"\n").and_then(SealedLine::parse).is_some_and(|line| line.holds());
        if !bytes.split_inclusive(|byte| *byte == b'\n').all(holds) {
            let why =
                "lines that could not be written to the disk are lost; restart the process, which puts them aside";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.file.write_all_at(&bytes, from)
    }
}
