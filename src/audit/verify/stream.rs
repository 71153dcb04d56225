//! What a verifier knows of a stream.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::keys::Keys;
use super::terms::Break;
use crate::audit::chain::{Hash, Link};
use crate::audit::sealed_line::SealedLine;

/// How many lines of a stream may have got further than what its successor knows: a machine that stopped may have lost them after
/// a sink had them.
const AHEAD: usize = 1 << 16;

/// A stream.
pub(super) struct Stream {
    /// `event.sequence` of its first line here.
    pub(super) first: u64,
    pub(super) last: Link,
    /// The stream that it follows, and the last line of that which it knows.
    pub(super) follows: Option<(Box<str>, u64)>,
    /// The last of its lines that a stream which follows it knows.
    pub(super) followed_after: Option<u64>,
    /// The first line, after the last checkpoint of its own, with which it ends as a stream that follows it says.
    ends_with: Option<u64>,
    /// How many streams follow it after that line. Two processes that share a file may follow it one after the other.
    pub(super) followers: u32,
    /// Its process said that it ended.
    pub(super) stopped: bool,
    /// Hashes of its last lines, the last one last.
    hashes: VecDeque<Hash>,
    /// Hash of its last checkpoint.
    pub(super) checkpoint: Option<Hash>,
    /// Which keys may sign it.
    pub(super) keys: Keys,
    /// The last checkpoint of its own that is signed with one of them; zero if there is none.
    checkpoint_at: u64,
    /// The last line that a signature covers, also one of a stream that follows; zero if there is none.
    covered: u64,
    /// When the first line that no signature covers was made.
    uncovered_since: Option<Timestamp>,
    /// When its last line was made.
    time: Option<Timestamp>,
}

impl Stream {
    /// One that begins with the line `first`.
    pub(super) fn new(first: u64, follows: Option<(Box<str>, u64)>, keys: Keys) -> Self {
        Self {
            first,
            last: Link { sequence: 0, hash: None },
            follows,
            followed_after: None,
            ends_with: None,
            followers: 0,
            stopped: false,
            hashes: VecDeque::new(),
            checkpoint: None,
            keys,
            checkpoint_at: 0,
            covered: 0,
            uncovered_since: None,
            time: None,
        }
    }

    /// Adds a line that was made at this time.
    pub(super) fn add(&mut self, sealed: &SealedLine<'_>, time: Option<Timestamp>) {
        self.last = Link { sequence: sealed.sequence, hash: Some(sealed.hash) };
        if self.hashes.len() == AHEAD {
            self.hashes.pop_front();
        }
        self.hashes.push_back(sealed.hash);
        self.uncovered_since = self.uncovered_since.or(time);
        self.time = time.or(self.time);
    }

    /// Another stream follows this one after the line `after`, which has this hash there. Lines may have come here that were
    /// lost where that stream began.
    pub(super) fn add_follower(&mut self, name: &str, after: u64, hash: Option<Hash>) -> Result<(), Break> {
        let last = self.last.sequence;
        let Some(ahead) = last.checked_sub(after) else {
            return Err(Break::new(format!(
                "the end of the stream {name} is missing: its last line here is {last}, and the next stream says {after}"
            )));
        };
        let position = usize::try_from(ahead).ok().and_then(|ahead| self.hashes.len().checked_sub(ahead + 1));
        let known = match ahead {
            0 => self.last.hash,
            _ => position.and_then(|position| self.hashes.get(position)).copied(),
        };
        if known != hash {
            return Err(Break::new(format!(
                "line {after} of the stream {name} is not the one that this stream follows"
            )));
        }
        self.followers = match self.followed_after {
            Some(other) if other > after => self.followers,
            Some(other) if other == after => self.followers.saturating_add(1),
            _ => 1,
        };
        self.followed_after = self.followed_after.max(Some(after));
        if self.checkpoint_at <= after {
            self.ends_with = Some(self.ends_with.map_or(after, |earlier| earlier.min(after)));
        }
        // There may be very many streams, and few others follow one: after the same line, or a later one.
        self.hashes.drain(..position.unwrap_or_default());
        self.hashes.shrink_to_fit();
        Ok(())
    }

    /// A signature covers it up to the line `to`. Returns false if one did before.
    pub(super) fn cover(&mut self, to: u64) -> bool {
        if self.covered >= to {
            return false;
        }
        self.covered = to;
        if to == self.last.sequence {
            self.uncovered_since = None;
        }
        true
    }

    /// Whether a signature covers any of its lines.
    pub(super) fn is_signed(&self) -> bool {
        self.covered >= self.first
    }

    /// Lines at its end that no signature covers.
    pub(super) fn uncovered(&self) -> u64 {
        self.last.sequence - self.covered.max(self.first - 1)
    }

    /// Its last line is a checkpoint of its own. It shows that the process was still there, as one of two that share a file.
    pub(super) fn has_signed(&mut self) {
        self.checkpoint_at = self.last.sequence;
        self.ends_with = None;
    }

    /// Whether it ends where the next stream says so: what comes after that is in nobody's hash.
    pub(super) fn ends_where_the_next_says(&self, name: &str) -> Result<(), Break> {
        let Some(after) = self.ends_with.map(|after| after.max(self.covered)) else { return Ok(()) };
        let lines = self.last.sequence.saturating_sub(after);
        if lines == 0 {
            return Ok(());
        }
        Err(Break::new(format!(
            "no checkpoint signs the last {lines} lines of the stream {name}, which ends with line {after} as the next stream says"
        )))
    }

    /// Whether no more is uncovered than may be.
    pub(super) fn is_covered_in_time(&self, name: &str, most: Duration) -> Result<(), Break> {
        let span = self.uncovered_since.zip(self.time).map(|(first, last)| last.duration_since(first));
        // A clock that was set back says nothing.
        let span = span.and_then(|span| Duration::try_from(span).ok());
        let Some(span) = span.filter(|span| *span > most) else { return Ok(()) };
        let lines = self.uncovered();
        let (span, most) = (Duration::from_secs(span.as_secs()), Duration::from_secs(most.as_secs()));
        Err(Break::new(format!(
            "no checkpoint signs the last {lines} lines of the stream {name}, over {span:?}; it should after {most:?}"
        )))
    }
}
