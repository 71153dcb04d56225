//! Reads the lines that a sink does not have yet.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::cursor;
use super::files::Position;
use super::shared::{Entry, Recent, Spool, State, Wanted};
use crate::audit::chain::Hash;
use crate::audit::sealed_line::{LINE_MAX, LineId, SealedLine};
use crate::open_file;

/// How far it is looked ahead, in bytes: a sink is synced more often.
const AHEAD: usize = 256 << 20;

/// A sink's end of the spool.
pub(in crate::audit) struct Reader {
    spool: Arc<Spool>,
    /// Name of the cursor.
    name: String,
    /// The sink has everything before this.
    delivered: Position,
    /// Everything before this is on its way to the sink.
    sent: Position,
    /// Everything before this was handed out.
    taken: Position,
    /// Where the lines end that were handed out each time, after those that the sink has.
    pieces: VecDeque<Position>,
    /// Where the lines that were handed out last start.
    piece: Position,
    /// The segment that is read.
    pub(super) file: Option<(u64, File)>,
    /// The last wake-up that was seen.
    wakes: u64,
    /// How long lines may wait for more, once there are some: each wake-up then moves many.
    linger: Duration,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::audit) enum Taken {
    /// Whole lines, and their number.
    Lines(Bytes, u64),
    /// Nothing: somebody wants the reader to look up.
    Nothing,
    /// There is nothing more, and `ends` was true.
    Ended,
}

impl Reader {
    /// Takes the cursor of a sink. Waits until the sink is in force, and its former reader has ended. Absent if the reader is not
    /// wanted any more meanwhile.
    pub(in crate::audit) fn new(
        spool: &Arc<Spool>,
        sink: &str,
        linger: Duration,
        is_wanted: impl Fn() -> bool,
    ) -> Option<Self> {
        let name = cursor::name(sink);
        // Of those that did not say so before.
        let _wanted = Wanted::new(spool, sink);
        let delivered = spool.take_cursor(&name, is_wanted)?;
        let (sent, taken, piece, pieces) = (delivered, delivered, delivered, VecDeque::new());
        let spool = Arc::clone(spool);
        Some(Self { spool, name, delivered, sent, taken, pieces, piece, file: None, wakes: 0, linger })
    }

    /// Lines that the sink does not have yet.
    pub(in crate::audit) fn left(&self) -> u64 {
        self.spool.end().saturating_sub(self.delivered.line)
    }

    /// Waits for lines, and takes at most `most` bytes of them, but at least one. With `ends`, it does not wait.
    ///
    /// # Errors
    /// The spool cannot be read. It can be tried again.
    pub(in crate::audit) fn take(&mut self, most: usize, ends: bool) -> io::Result<Taken> {
        let spool = Arc::clone(&self.spool);
        let (end, length) = {
            let mut state = spool.lock();
            let mut waited = false;
            while state.end == self.taken && state.wakes == self.wakes && !ends {
                waited = true;
                state.waiting += 1;
                state = spool.appended.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
            }
            if waited && state.wakes == self.wakes {
                let more = |state: &mut State| state.wakes == self.wakes;
                let waited = spool.appended.wait_timeout_while(state, self.linger, more);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            self.wakes = state.wakes;
            if state.end == self.taken {
                return Ok(if ends { Taken::Ended } else { Taken::Nothing });
            }
            self.enter_segment(&state.segments, state.end);
            if state.end == self.taken {
                // A segment that has no lines yet.
                return Ok(if ends { Taken::Ended } else { Taken::Nothing });
            }
            let mut recent = state.recent.iter().filter(|recent| recent.lines.len() <= most);
            if let Some(Recent { lines, count, .. }) = recent.find(|recent| recent.start == self.taken) {
                self.piece = self.taken;
                self.taken.offset += lines.len() as u64;
                self.taken.line += count;
                self.pieces.push_back(self.taken);
                return Ok(Taken::Lines(lines.clone(), *count));
            }
            let segment = state.segments.iter().find(|(first, _)| *first == self.taken.segment);
            (state.end, segment.map(|(_, bytes)| *bytes))
        };
        self.read(most, end, length)
    }

    /// Goes on to the next segment at the end of one, and past segments that are gone.
    fn enter_segment(&mut self, segments: &VecDeque<(u64, u64)>, end: Position) {
        let current = segments.iter().find(|(first, _)| *first == self.taken.segment);
        if self.taken.segment == end.segment || current.is_some_and(|(_, bytes)| self.taken.offset < *bytes) {
            return;
        }
        let next =
            segments.iter().find(|(first, _)| *first > self.taken.segment).map_or(end.segment, |(first, _)| *first);
        if next > self.taken.line {
            let lines = next - self.taken.line;
            tracing::error!(lines, "lines of the audit spool are gone: somebody removed a segment");
        }
        self.taken = Position { line: next, segment: next, offset: 0 };
        // What is removed makes room only once nobody has it open.
        self.file = None;
    }

    /// Reads from a segment of this length; absent if it was removed, and is still open.
    fn read(&mut self, most: usize, end: Position, length: Option<u64>) -> io::Result<Taken> {
        let Position { segment, offset, .. } = self.taken;
        self.piece = self.taken;
        if self.file.as_ref().is_none_or(|(open, _)| *open != segment) {
            self.file = Some((segment, open_file::regular(&self.spool.segment(segment))?));
        }
        let Some((_, file)) = &self.file else { return Ok(Taken::Nothing) };
        let length = match length {
            _ if segment == end.segment => end.offset,
            // A write that failed may have left something behind the last line.
            Some(length) => length,
            None => file.metadata()?.len(),
        };
        let available = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; available.min(most)];
        let whole = loop {
            file.read_exact_at(&mut bytes, offset)?;
            if let Some(last) = memchr::memrchr(b'\n', &bytes) {
                break last + 1;
            }
            // One line alone is longer than that.
            if bytes.len() >= available || bytes.len() > LINE_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the audit spool has no end"));
            }
            bytes.resize((bytes.len() * 2).min(available), 0);
        };
        bytes.truncate(whole);
        let lines = memchr::memchr_iter(b'\n', &bytes).count() as u64;
        self.taken.offset += whole as u64;
        self.taken.line += lines;
        self.pieces.push_back(self.taken);
        Ok(Taken::Lines(bytes.into(), lines))
    }

    /// The sink has everything that was taken.
    pub(in crate::audit) fn delivered(&mut self) {
        self.sent = self.taken;
        self.confirmed();
    }

    /// Everything that was taken is on its way to the sink. The last lines, so many, may not arrive; the sink has those that were
    /// handed out before.
    pub(in crate::audit) fn sent(&mut self, unconfirmed: u64) {
        self.sent = self.taken;
        if unconfirmed == 0 {
            return self.confirmed();
        }
        let confirmed = self.taken.line.saturating_sub(unconfirmed);
        let count = self.pieces.partition_point(|end| end.line <= confirmed);
        if let Some(end) = self.pieces.drain(..count).next_back() {
            self.delivered = end;
        }
        self.note();
    }

    /// All that was sent has arrived.
    pub(in crate::audit) fn confirmed(&mut self) {
        let count = self.pieces.partition_point(|end| *end <= self.sent);
        self.pieces.drain(..count);
        self.delivered = self.sent;
        self.note();
    }

    fn note(&self) {
        if let Some(entry) = self.spool.lock().cursors.get_mut(&self.name) {
            (entry.sent, entry.delivered) = (self.sent, self.delivered);
        }
    }

    /// Whether a segment was finished since [`keep`](Self::keep) wrote the cursor.
    pub(in crate::audit) fn is_past_segment(&self) -> bool {
        self.spool
            .lock()
            .cursors
            .get(&self.name)
            .is_some_and(|entry| entry.cursor.position.segment < self.delivered.segment)
    }

    /// Writes the cursor to disk, so that what was delivered is not delivered again.
    pub(in crate::audit) fn keep(&self) {
        if let Err(error) = self.spool.keep(&self.name, self.delivered) {
            tracing::error!(%error, "a cursor of the audit spool could not be written; its sink may get lines twice");
        }
    }

    /// What the sink has since [`keep`](Self::keep) wrote the cursor may not be on its disk, and comes again.
    ///
    /// # Errors
    /// The cursor cannot be written; lines come again all the same.
    pub(in crate::audit) fn go_back(&mut self) -> io::Result<()> {
        let gone_back = self.spool.go_back(&self.name);
        let position = self.spool.lock().cursors.get(&self.name).map(|entry| entry.delivered);
        if let Some(position) = position {
            (self.delivered, self.sent) = (position, position);
            self.take_from(position);
        }
        gone_back
    }

    /// Lines are handed out from here on.
    fn take_from(&mut self, position: Position) {
        (self.taken, self.piece, self.file) = (position, position, None);
        self.pieces.clear();
    }

    /// Whether what the sink has since its cursor was written may not be on its disk.
    pub(in crate::audit) fn is_doubtful(&self) -> bool {
        self.spool.is_unsynced(&self.name)
    }

    /// Whether the sink has more than its cursor on disk says.
    pub(in crate::audit) fn is_ahead(&self) -> bool {
        let is_ahead = |entry: &Entry| entry.unwritten || entry.cursor.position != self.delivered;
        self.spool.lock().cursors.get(&self.name).is_some_and(is_ahead)
    }

    /// Stream and sequence of the next line.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub(in crate::audit) fn first(&mut self) -> io::Result<Option<LineId>> {
        let mut first = None;
        self.look_ahead(|line| {
            first = Some((line.stream.into(), line.sequence));
            false
        })?;
        Ok(first)
    }

    /// Which of these lines are among the next ones.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub(in crate::audit) fn among(&mut self, hashes: &HashSet<Hash>) -> io::Result<HashSet<Hash>> {
        let mut found = HashSet::new();
        if !hashes.is_empty() {
            self.look_ahead(|line| {
                found.extend(hashes.get(&line.hash));
                found.len() < hashes.len()
            })?;
        }
        Ok(found)
    }

    /// Shows the next lines, which come all the same, while `see` wants more.
    fn look_ahead(&mut self, mut see: impl FnMut(&SealedLine<'_>) -> bool) -> io::Result<()> {
        const PIECE: usize = 64 << 10;
        let (start, mut seen, mut looked) = (self.delivered, 0, Ok(()));
        while seen < AHEAD {
            match self.take(PIECE, true) {
                Ok(Taken::Lines(lines, _)) => {
                    seen += lines.len();
                    let mut lines = lines.split(|byte| *byte == b'\n').filter_map(SealedLine::parse);
                    if !lines.all(|line| see(&line)) {
                        break;
                    }
                }
                Ok(Taken::Nothing | Taken::Ended) => break,
                Err(error) => {
                    looked = Err(error);
                    break;
                }
            }
        }
        self.take_from(start);
        looked
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.keep();
        self.spool.let_go(&self.name);
    }
}
