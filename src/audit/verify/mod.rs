//! Verifies records offline: that no line was changed, removed, added or moved, and that checkpoints are signed by the right
//! keys.
//!
//! Lines of several streams may be mixed, as in a file that is shared or collected from several nodes. A checkpoint covers the
//! lines before it in its stream and, through the hash of its end, the stream that it follows. What no checkpoint covers is only
//! protected by the hash chain: someone who can write the file can compute all hashes again. So with a key, no more than the end
//! of a stream may be uncovered, and no more time than until the next checkpoint is due.

mod lines;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

pub(crate) use self::lines::{LineRead, Lines};
use super::chain::{Hash, Link};
use super::checkpoint;
use super::checkpoint_key::PublicKey;
use super::record::{CHAIN_STARTED, CHECKPOINT};
use super::sealed_line::SealedLine;
use super::sink_state::timestamp;

const NO_PLACE: &str = "this line has no place in a hash chain";

/// How many lines of a stream may have got further than what its successor knows: a machine that stopped may have lost them after
/// a sink had them.
const AHEAD: usize = 1 << 16;

/// What is allowed beside the time until the next checkpoint is due.
const LATE: Duration = Duration::from_secs(60);

/// What is verified.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// The keys that checkpoints may be signed with. Without any, signatures are not verified.
    pub(crate) keys: Vec<PublicKey>,
    /// The checkpoint with this hash must be there.
    pub(crate) expect: Option<String>,
    /// The first line of every stream must be there, and every stream that another follows.
    pub(crate) complete: bool,
    /// Streams may begin in the middle, as in a part of what was collected from several nodes.
    pub(crate) partial: bool,
}

/// What a verifier knows of a stream.
struct Stream {
    /// `event.sequence` of its first line here.
    first: u64,
    last: Link,
    /// The stream that it follows, and the last line of that which it knows.
    follows: Option<(Box<str>, u64)>,
    /// Hashes of its last lines, the last one last.
    hashes: VecDeque<Hash>,
    /// Hash of its last checkpoint.
    checkpoint: Option<Hash>,
    /// Id of the key that the next checkpoint must be signed with, if one has named it.
    next_key: Option<Box<str>>,
    /// The last line that a signature covers; zero if there is none.
    covered: u64,
    /// Time of the first line that no signature covers.
    uncovered: Option<Timestamp>,
    /// Time of its last line.
    time: Option<Timestamp>,
}

/// Verifies lines, one after another.
pub(crate) struct Verifier {
    terms: Terms,
    streams: HashMap<Box<str>, Stream>,
    lines: u64,
    checkpoints: u64,
    /// Longest time until a checkpoint is due, as checkpoints say.
    every: Duration,
    /// Bytes of lines that were not written whole, if the next one says so.
    torn: Option<u64>,
    torn_lines: u64,
}

/// Why a record is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Break {
    /// What is wrong, in one sentence. It may quote the record: clean it before it is shown.
    pub(crate) message: String,
    /// It is this many lines before the one that was verified last.
    pub(crate) back: u64,
}

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Number of lines.
    pub(crate) lines: u64,
    /// Number of checkpoints.
    pub(crate) checkpoints: u64,
    /// Lines that were not written whole, when a process or its machine ended; the line after each says so.
    pub(crate) torn: u64,
    /// The last line was not written whole.
    pub(crate) ends_torn: bool,
    /// The streams, in the order of their names.
    pub(crate) streams: Vec<VerifiedStream>,
}

/// A part of a stream that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VerifiedStream {
    /// Its name, as the record writes it.
    pub(crate) stream: String,
    /// `event.sequence` of its first line.
    pub(crate) first: u64,
    /// `event.sequence` of its last line.
    pub(crate) last: u64,
    /// Lines at its end that no signature covers.
    pub(crate) uncovered: u64,
}

impl Verifier {
    pub(crate) fn new(terms: Terms) -> Self {
        Self {
            terms,
            streams: HashMap::new(),
            lines: 0,
            checkpoints: 0,
            every: Duration::ZERO,
            torn: None,
            torn_lines: 0,
        }
    }

    /// Verifies the next line, without its line break.
    ///
    /// # Errors
    /// It is not what was written here.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<(), Break> {
        let Some(sealed) = SealedLine::parse(line) else {
            self.torn = Some(self.torn.unwrap_or_default() + line.len() as u64);
            return Ok(());
        };
        if !sealed.holds() {
            return Err(self.after_torn("this line was changed: its hash is another"));
        }
        let is_mark = has_action(&sealed, CHAIN_STARTED) || has_action(&sealed, CHECKPOINT);
        let mark = if is_mark { serde_json::from_slice(line).unwrap_or(Value::Null) } else { Value::Null };
        if let Some(bytes) = self.torn
            && mark.pointer("/bartizan/chain/torn").and_then(Value::as_u64) != Some(bytes)
        {
            return Err(self.after_torn(NO_PLACE));
        }
        self.torn_lines += u64::from(self.torn.take().is_some());
        self.place(&sealed, &mark, timestamp(line))?;
        self.lines += 1;
        if mark.pointer("/event/action").is_some_and(|action| action == CHECKPOINT) {
            self.checkpoint(&sealed, &mark)?;
        }
        Ok(())
    }

    /// What is wrong; first with the line before, if that has no place.
    fn after_torn(&self, message: &str) -> Break {
        match self.torn {
            Some(_) => Break { back: 1, ..Break::new(NO_PLACE) },
            None => Break::new(message),
        }
    }

    /// Verifies that the line follows the last one of its stream.
    fn place(&mut self, sealed: &SealedLine<'_>, mark: &Value, time: Option<Timestamp>) -> Result<(), Break> {
        let Some(stream) = self.streams.get_mut(sealed.stream) else { return self.first(sealed, mark, time) };
        let Link { sequence, hash } = stream.last;
        let message = match sealed.sequence {
            next if next == sequence + 1 && sealed.previous == hash => {
                stream.add(sealed, time);
                return Ok(());
            }
            next if next == sequence + 1 => {
                "the line before this one was changed or exchanged: its hash is another".to_owned()
            }
            next if next > sequence => match next - sequence - 1 {
                1 => "a line is missing before this one".to_owned(),
                missing => format!("{missing} lines are missing before this one"),
            },
            _ => "this line is out of place: it came before, or was moved".to_owned(),
        };
        Err(Break::new(message))
    }

    /// Verifies the first line of a stream.
    fn first(&mut self, sealed: &SealedLine<'_>, mark: &Value, time: Option<Timestamp>) -> Result<(), Break> {
        let Terms { complete, partial, .. } = self.terms;
        // What the first line of all follows may be in a file that is not kept any more.
        let may_begin_here = !complete && (partial || self.lines == 0);
        if sealed.sequence > 1 && !may_begin_here {
            let missing = sealed.sequence - 1;
            return Err(Break::new(format!("the stream {} lacks its first {missing} lines", sealed.stream)));
        }
        let follows = mark.pointer("/bartizan/chain/follows").and_then(Value::as_str).map(escaped);
        let after = mark.pointer("/bartizan/chain/after").and_then(Value::as_u64).unwrap_or_default();
        if let Some(name) = &follows {
            match self.streams.get_mut(name.as_str()) {
                Some(earlier) => {
                    earlier.ends_with(name, after, sealed.previous)?;
                    // There may be very many streams, and each is followed once.
                    earlier.hashes = VecDeque::new();
                }
                None if may_begin_here => {}
                None => return Err(Break::new(format!("the stream {name} is missing, which this one follows"))),
            }
        }
        let mut stream = Stream {
            first: sealed.sequence,
            last: Link { sequence: 0, hash: None },
            follows: follows.map(|name| (name.into(), after)),
            hashes: VecDeque::new(),
            checkpoint: None,
            next_key: None,
            covered: 0,
            uncovered: None,
            time: None,
        };
        stream.add(sealed, time);
        self.streams.insert(sealed.stream.into(), stream);
        Ok(())
    }

    /// Verifies a checkpoint, which is the last line of its stream so far.
    fn checkpoint(&mut self, sealed: &SealedLine<'_>, mark: &Value) -> Result<(), Break> {
        let Some(stream) = self.streams.get_mut(sealed.stream) else { return Ok(()) };
        let text = |pointer: &str| mark.pointer(pointer).and_then(Value::as_str);
        let before = stream.checkpoint.map(|hash| String::from_utf8_lossy(&hash).into_owned());
        // The one before the first line here is not known.
        if (before.is_some() || stream.first == 1) && before.as_deref() != text("/bartizan/checkpoint/previous") {
            return Err(Break::new("this checkpoint does not follow the one before it"));
        }
        stream.checkpoint = Some(sealed.hash);
        self.checkpoints += 1;
        let Terms { keys, expect, .. } = &mut self.terms;
        expect.take_if(|expect| expect.as_bytes() == sealed.hash);
        if keys.is_empty() {
            return Ok(());
        }
        let key = text("/bartizan/checkpoint/key").unwrap_or_default();
        let Some(public) = keys.iter().find(|public| public.id() == key) else {
            let message = format!(
                "this checkpoint is signed with the key {key}, which is neither given nor named by a checkpoint"
            );
            return Err(Break::new(message));
        };
        if stream.next_key.as_ref().is_some_and(|next| **next != *key) {
            return Err(Break::new(format!(
                "this checkpoint is signed with the key {key}, which another has replaced"
            )));
        }
        let signature = text("/bartizan/checkpoint/signature").and_then(|text| STANDARD.decode(text).ok());
        let signed = sealed.hash_unsigned().map(|hash| checkpoint::text(&hash));
        if !signed.zip(signature).is_some_and(|(signed, signature)| public.verify(&signed, &signature)) {
            return Err(Break::new("the signature of this checkpoint is wrong"));
        }
        if let Some(next) = text("/bartizan/checkpoint/next_key").and_then(|next| PublicKey::from_base64(next).ok()) {
            stream.next_key = Some(next.id().into());
            if !keys.contains(&next) {
                keys.push(next);
            }
        }
        let every = mark.pointer("/bartizan/checkpoint/every").and_then(Value::as_u64).unwrap_or_default();
        self.every = self.every.max(Duration::from_secs(every));
        self.cover(sealed.stream);
        Ok(())
    }

    /// A signature covers everything in this stream, and the one that it follows up to the line that it names: what comes after that
    /// line is in nobody's hash.
    fn cover(&mut self, name: &str) {
        let mut next = self.streams.get(name).map(|stream| (Box::from(name), stream.last.sequence));
        while let Some((name, to)) = next.take()
            && let Some(stream) = self.streams.get_mut(&name)
            && stream.covered < to
        {
            stream.covered = to;
            if to == stream.last.sequence {
                stream.uncovered = None;
            }
            next.clone_from(&stream.follows);
        }
    }

    /// Ends the record.
    ///
    /// # Errors
    /// Something is missing at its end, or too much of it is not signed.
    pub(crate) fn finish(self) -> Result<Verified, Break> {
        if let Some(expected) = &self.terms.expect {
            return Err(Break::new(format!("the checkpoint with the hash {expected} is missing")));
        }
        if !self.terms.keys.is_empty() {
            if self.streams.values().all(|stream| stream.covered == 0) {
                return Err(Break::new("no checkpoint signs any of these lines"));
            }
            for (name, stream) in &self.streams {
                stream.is_covered_in_time(name, 2 * self.every + LATE)?;
            }
        }
        let stream = |(name, stream): (Box<str>, Stream)| VerifiedStream {
            stream: name.into(),
            first: stream.first,
            last: stream.last.sequence,
            uncovered: stream.last.sequence - stream.covered.max(stream.first - 1),
        };
        let mut streams: Vec<_> = self.streams.into_iter().map(stream).collect();
        streams.sort_by(|a, b| a.stream.cmp(&b.stream));
        Ok(Verified {
            lines: self.lines,
            checkpoints: self.checkpoints,
            torn: self.torn_lines,
            ends_torn: self.torn.is_some(),
            streams,
        })
    }
}

impl Stream {
    fn add(&mut self, sealed: &SealedLine<'_>, time: Option<Timestamp>) {
        self.last = Link { sequence: sealed.sequence, hash: Some(sealed.hash) };
        if self.hashes.len() == AHEAD {
            self.hashes.pop_front();
        }
        self.hashes.push_back(sealed.hash);
        self.uncovered = self.uncovered.or(time);
        self.time = time.or(self.time);
    }

    /// Whether its line `after` is the one with this hash. Lines may have come here that were lost where the next stream began.
    fn ends_with(&self, name: &str, after: u64, hash: Option<Hash>) -> Result<(), Break> {
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
        Ok(())
    }

    /// Whether no more is uncovered than may be.
    fn is_covered_in_time(&self, name: &str, most: Duration) -> Result<(), Break> {
        let span = self.uncovered.zip(self.time).map(|(first, last)| last.duration_since(first).unsigned_abs());
        let Some(span) = span.filter(|span| *span > most) else { return Ok(()) };
        let lines = self.last.sequence - self.covered.max(self.first - 1);
        let (span, most) = (Duration::from_secs(span.as_secs()), Duration::from_secs(most.as_secs()));
        Err(Break::new(format!(
            "no checkpoint signs the last {lines} lines of the stream {name}, over {span:?}; it should after {most:?}"
        )))
    }
}

/// Whether a line has this `event.action`, as far as its bytes say.
fn has_action(sealed: &SealedLine<'_>, action: &str) -> bool {
    const ACTION: &[u8] = b"\"action\":\"";
    let start = memchr::memmem::find(sealed.event, ACTION).map(|start| start + ACTION.len());
    start.and_then(|start| sealed.event.get(start..)).is_some_and(|rest| rest.starts_with(action.as_bytes()))
}

/// A text as JSON writes it, without quotes.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

impl Break {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), back: 0 }
    }
}

#[cfg(test)]
pub(super) mod tests;
