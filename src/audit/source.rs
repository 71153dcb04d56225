//! Where a sink's writer takes lines from: its queue, or the spool.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::batch::Batch;
use super::chain::Hash;
use super::queue::{Queue, Received};
use super::sink_state::State;
use super::spool::{Reader, Spool, Taken, Wanted};

/// Hashes of the next lines that a sink has already.
pub(super) type Present = HashSet<Hash>;

/// How often it is looked whether a former sink has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long a former sink has to end after it was given up.
const LATE: Duration = Duration::from_secs(1);

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
    /// That of the sink that wrote to the same place before, until it has ended.
    former: Option<Arc<State>>,
    received: VecDeque<Batch>,
}

/// The reader of a spool.
pub(super) struct Spooled {
    spool: Arc<Spool>,
    /// Name of the sink.
    sink: String,
    /// Keeps its cursor until the writer has started, also if the policy is replaced before.
    wanted: Option<Wanted>,
    /// Absent until the writer has started.
    reader: Option<Box<Reader>>,
    kept: Instant,
    pace: Pace,
}

impl Source {
    /// The lines of a queue, once the `former` sink of the same place has ended.
    pub(super) fn queue(queue: &Arc<Queue<Batch>>, former: Option<Arc<State>>) -> Self {
        Self::Queue(Queued { queue: Arc::clone(queue), former, received: VecDeque::new() })
    }

    /// The lines of a spool.
    pub(super) fn spool(spool: &Arc<Spool>, sink: &str, pace: Pace) -> Self {
        Self::Spool(Spooled {
            spool: Arc::clone(spool),
            sink: sink.to_owned(),
            wanted: Some(Wanted::new(spool, sink)),
            reader: None,
            kept: Instant::now(),
            pace,
        })
    }

    /// Whether lines are kept until they are delivered, even over a crash.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Self::Spool(_))
    }

    /// Gets ready. Waits until a former writer of the same sink has ended, and with a spool until the sink is in force. `begin`
    /// then prepares the sink, and returns which of the next lines it has. Absent if the sink is not wanted any more meanwhile. After
    /// an error it can be tried again.
    pub(super) fn start(
        &mut self,
        begin: impl FnOnce(Option<&mut Reader>) -> io::Result<Present>,
        is_wanted: impl Fn() -> bool,
    ) -> io::Result<Option<Present>> {
        match self {
            Self::Queue(Queued { former, .. }) => {
                while let Some(before) = former.as_ref().filter(|former| !former.ended.load(Acquire)) {
                    if !is_wanted() {
                        return Ok(None);
                    }
                    if before.deadline().is_some_and(|deadline| Instant::now() >= deadline + LATE) {
                        tracing::warn!(
                            "an audit sink did not end in time; the one in its place may write between its lines"
                        );
                        break;
                    }
                    std::thread::park_timeout(LOOK);
                }
                *former = None;
                begin(None).map(Some)
            }
            Self::Spool(spooled) => {
                let reader = match &mut spooled.reader {
                    Some(reader) => reader,
                    none => match Reader::new(&spooled.spool, &spooled.sink, spooled.pace.linger, is_wanted) {
                        Some(reader) => none.insert(Box::new(reader)),
                        None => return Ok(None),
                    },
                };
                spooled.wanted = None;
                begin(Some(reader)).map(Some)
            }
        }
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

    /// What was taken is delivered. `sync` makes it durable, before the place in the spool is written; if it fails, all lines
    /// since the sync before come again.
    pub(super) fn delivered(&mut self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let Self::Spool(Spooled { reader: Some(reader), kept, pace, .. }) = self else { return Ok(()) };
        reader.delivered();
        if kept.elapsed() >= pace.keep || reader.is_past_segment() { self.settle(sync) } else { Ok(()) }
    }

    /// Makes what was delivered durable by `sync`, and writes the place in the spool; if it fails, all lines since the sync before come
    /// again.
    pub(super) fn settle(&mut self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let Self::Spool(Spooled { reader: Some(reader), .. }) = self else { return Ok(()) };
        if !reader.is_ahead() {
            return Ok(());
        }
        let synced = sync();
        match synced {
            Ok(()) => self.keep(),
            Err(_) => self.go_back(),
        }
        synced
    }

    /// What was delivered is durable: writes the place in the spool.
    pub(super) fn keep(&mut self) {
        if let Self::Spool(Spooled { reader: Some(reader), kept, .. }) = self {
            reader.keep();
            *kept = Instant::now();
        }
    }

    /// What was delivered since the last sync that succeeded may not be on disk, and comes again.
    pub(super) fn go_back(&mut self) {
        if let Self::Spool(Spooled { reader: Some(reader), .. }) = self
            && let Err(error) = reader.go_back()
        {
            tracing::error!(%error, "a cursor of the audit spool could not be written");
        }
    }

    /// Prepares the sink for lines that come again by `begin`, which returns which of them it has.
    ///
    /// # Errors
    /// Those of `begin`.
    pub(super) fn begin_again(
        &mut self,
        begin: impl FnOnce(Option<&mut Reader>) -> io::Result<Present>,
    ) -> io::Result<Present> {
        match self {
            Self::Spool(Spooled { reader: Some(reader), .. }) => begin(Some(reader)),
            _ => Ok(Present::default()),
        }
    }

    /// What was taken is on its way, and the last lines, so many, may not arrive: the place in the spool stays before them.
    pub(super) fn sent(&mut self, unconfirmed: u64) {
        if let Self::Spool(Spooled { reader: Some(reader), kept, pace, .. }) = self {
            reader.sent(unconfirmed);
            if kept.elapsed() >= pace.keep || reader.is_past_segment() {
                reader.keep();
                *kept = Instant::now();
            }
        }
    }

    /// All that was sent has arrived. The place in the spool is written at the end.
    pub(super) fn confirmed(&mut self) {
        if let Self::Spool(Spooled { reader: Some(reader), .. }) = self {
            reader.confirmed();
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
