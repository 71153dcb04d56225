//! Where a sink's writer takes lines from: its queue, or the spool.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::batch::Batch;
use super::chain::Hash;
use super::queue::{Queue, Received};
use super::spool::{Reader, Spool, Taken};

/// How a sink reads the spool.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// How long lines may wait for more, once there are some.
    pub(super) linger: Duration,
    /// How often the place in the spool is written to disk.
    pub(super) keep: Duration,
}

/// The lines of a sink.
pub(super) enum Source {
    /// Lines that exist only in memory.
    Queue(Queued),
    /// Lines that are kept until they are delivered.
    Spool(Spooled),
}

/// A queue, and what was received of it and not taken yet.
pub(super) struct Queued {
    queue: Arc<Queue<Batch>>,
    received: VecDeque<Batch>,
}

/// The reader of a spool.
pub(super) struct Spooled {
    spool: Arc<Spool>,
    /// Name of the sink.
    sink: String,
    /// Absent until the writer has started.
    reader: Option<Reader>,
    kept: Instant,
    pace: Pace,
}

impl Source {
    /// The lines of a queue.
    pub(super) fn queue(queue: &Arc<Queue<Batch>>) -> Self {
        Self::Queue(Queued { queue: Arc::clone(queue), received: VecDeque::new() })
    }

    /// The lines of a spool where this sink is registered.
    pub(super) fn spool(spool: &Arc<Spool>, sink: &str, pace: Pace) -> Self {
        Self::Spool(Spooled {
            spool: Arc::clone(spool),
            sink: sink.to_owned(),
            reader: None,
            kept: Instant::now(),
            pace,
        })
    }

    /// Whether lines are kept until they are delivered, even over a crash.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Self::Spool(_))
    }

    /// Gets ready; with a spool, waits for a former writer of the same sink to end. `last` is the last line that the sink has,
    /// if that is known.
    pub(super) fn start(&mut self, last: impl FnOnce() -> io::Result<Option<Hash>>) -> io::Result<()> {
        let Self::Spool(spooled) = self else { return Ok(()) };
        let mut reader = Reader::new(&spooled.spool, &spooled.sink, spooled.pace.linger)?;
        if let Some(hash) = last()? {
            reader.skip_past(&hash)?;
        }
        spooled.reader = Some(reader);
        Ok(())
    }

    /// Waits for lines, and takes at least one, but not many more than `most` bytes. With `ends`, it does not wait.
    pub(super) fn take(&mut self, most: usize, ends: bool) -> io::Result<Taken> {
        match self {
            Self::Queue(queued) => Ok(queued.take(most)),
            Self::Spool(spooled) => match &mut spooled.reader {
                Some(reader) => reader.take(most, ends),
                None => Ok(Taken::Ended),
            },
        }
    }

    /// What was taken is delivered. `sync` makes it durable, before the place in the spool is written.
    pub(super) fn delivered(&mut self, sync: impl FnOnce()) {
        if let Self::Spool(Spooled { reader: Some(reader), kept, pace, .. }) = self {
            reader.delivered();
            if kept.elapsed() >= pace.keep || reader.is_past_segment() {
                sync();
                reader.keep();
                *kept = Instant::now();
            }
        }
    }

    /// Lines that are not delivered; unknown of a queue.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Spool(Spooled { reader: Some(reader), .. }) => Some(reader.left()),
            _ => None,
        }
    }

    /// Takes no more lines.
    pub(super) fn close(&self) {
        if let Self::Queue(queued) = self {
            queued.queue.close();
        }
    }
}

impl Queued {
    fn take(&mut self, most: usize) -> Taken {
        if self.received.is_empty() {
            match self.queue.receive(None) {
                Received::Items(batches) => self.received = batches,
                Received::Nothing => return Taken::Nothing,
                Received::Closed => return Taken::Ended,
            }
        }
        let Some(Batch { lines: mut taken, mut records }) = self.received.pop_front() else { return Taken::Nothing };
        // Usually there is one batch, and nothing is copied.
        while taken.len() < most
            && let Some(next) = self.received.pop_front()
        {
            let mut joined = Vec::from(std::mem::take(&mut taken));
            joined.extend_from_slice(&next.lines);
            (taken, records) = (Bytes::from(joined), records + next.records);
        }
        Taken::Lines(taken, records)
    }
}
