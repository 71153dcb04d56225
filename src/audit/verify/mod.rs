//! Verifies records offline: that no line was changed, removed, added or moved, and that checkpoints are signed by the right
//! keys.
//!
//! Lines of several streams may be mixed, as in a file that is shared or collected from several nodes. What no checkpoint
//! covers yet is only protected by the hash chain: whoever can write the file could have made all of it again.

mod lines;

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub(crate) use self::lines::{LineRead, Lines};
use super::chain::{Hash, Link};
use super::checkpoint::CheckpointText;
use super::checkpoint_key::PublicKey;
use super::record::{CHAIN_STARTED, CHECKPOINT};
use super::sealed_line::SealedLine;

const NO_PLACE: &str = "this line has no place in a hash chain";

/// What a verifier knows of a stream.
struct Stream {
    /// `event.sequence` of its first line here.
    first: u64,
    last: Link,
    /// Hash of its last checkpoint.
    checkpoint: Option<Hash>,
    /// Lines that a checkpoint with a trusted key covers.
    covered: u64,
}

/// Verifies lines, one after another.
pub(crate) struct Verifier {
    /// The keys that checkpoints may be signed with: given, and named by a checkpoint that was signed with such a key.
    keys: Vec<PublicKey>,
    streams: HashMap<Box<str>, Stream>,
    lines: u64,
    checkpoints: u64,
    /// Length of a line that was not written whole, if the next one says so.
    torn: Option<u64>,
    torn_lines: u64,
    /// A checkpoint that must be there.
    expected: Option<Box<str>>,
    /// The first line of every stream must be there.
    complete: bool,
}

/// Why a record is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Break {
    /// What is wrong, in one sentence.
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
    /// The streams, in the order of their names.
    pub(crate) streams: Vec<VerifiedStream>,
}

/// A part of a stream that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VerifiedStream {
    /// Its name.
    pub(crate) stream: String,
    /// `event.sequence` of its first line.
    pub(crate) first: u64,
    /// `event.sequence` of its last line.
    pub(crate) last: u64,
    /// Lines at its end that no checkpoint covers.
    pub(crate) uncovered: u64,
}

impl Verifier {
    /// Trusts `keys`. Without any, signatures are not verified. The checkpoint with the hash `expected` must be there, and with
    /// `complete` the first line of every stream.
    pub(crate) fn new(keys: Vec<PublicKey>, expected: Option<&str>, complete: bool) -> Self {
        Self {
            keys,
            streams: HashMap::new(),
            lines: 0,
            checkpoints: 0,
            torn: None,
            torn_lines: 0,
            expected: expected.map(Into::into),
            complete,
        }
    }

    /// Verifies the next line, without its line break.
    ///
    /// # Errors
    /// It is not what was written here.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<(), Break> {
        let Some(sealed) = SealedLine::parse(line) else {
            return match self.torn.replace(line.len() as u64) {
                Some(_) => Err(Break { back: 1, ..Break::new(NO_PLACE) }),
                None => Ok(()),
            };
        };
        if !sealed.holds() {
            return Err(Break::new("this line was changed: its hash is another"));
        }
        let mark = if has_action(&sealed, CHAIN_STARTED) || has_action(&sealed, CHECKPOINT) {
            serde_json::from_slice(line).unwrap_or(Value::Null)
        } else {
            Value::Null
        };
        if let Some(length) = self.torn.take() {
            if mark.pointer("/bartizan/chain/torn").and_then(Value::as_u64) != Some(length) {
                return Err(Break { back: 1, ..Break::new(NO_PLACE) });
            }
            self.torn_lines += 1;
        }
        self.place(&sealed, &mark)?;
        self.lines += 1;
        if mark.pointer("/event/action").is_some_and(|action| action == CHECKPOINT) {
            self.checkpoint(&sealed, &mark)?;
        }
        Ok(())
    }

    /// Verifies that the line follows the last one of its stream.
    fn place(&mut self, sealed: &SealedLine<'_>, mark: &Value) -> Result<(), Break> {
        let Some(stream) = self.streams.get_mut(sealed.stream) else { return self.first(sealed, mark) };
        let Link { sequence, hash } = stream.last;
        let message = match sealed.sequence {
            next if next == sequence + 1 && sealed.previous == hash => {
                stream.last = Link { sequence: next, hash: Some(sealed.hash) };
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
    fn first(&mut self, sealed: &SealedLine<'_>, mark: &Value) -> Result<(), Break> {
        // What the first line here follows may be in a file that is not kept any more.
        if sealed.sequence > 1 && (self.lines > 0 || self.complete) {
            let message = format!("the stream {} lacks its first {} lines", sealed.stream, sealed.sequence - 1);
            return Err(Break::new(message));
        }
        if let Some(name) = mark.pointer("/bartizan/chain/follows").and_then(Value::as_str)
            && let Some(earlier) = self.streams.get(escaped(name).as_str())
        {
            let after = mark.pointer("/bartizan/chain/after").and_then(Value::as_u64).unwrap_or_default();
            let same = after == earlier.last.sequence && sealed.previous == earlier.last.hash;
            // Lines may have gone elsewhere that were lost here when the machine stopped.
            if after > earlier.last.sequence || (after == earlier.last.sequence && !same) {
                let message = format!(
                    "the end of the stream {name} is missing: its last line here is {}, and the next stream says {after}",
                    earlier.last.sequence
                );
                return Err(Break::new(message));
            }
        }
        let last = Link { sequence: sealed.sequence, hash: Some(sealed.hash) };
        let stream = Stream { first: sealed.sequence, last, checkpoint: None, covered: 0 };
        self.streams.insert(sealed.stream.into(), stream);
        Ok(())
    }

    /// Verifies a checkpoint, which is the last line of its stream so far.
    fn checkpoint(&mut self, sealed: &SealedLine<'_>, mark: &Value) -> Result<(), Break> {
        let Some(stream) = self.streams.get_mut(sealed.stream) else { return Ok(()) };
        let text = |pointer: &str| mark.pointer(pointer).and_then(Value::as_str);
        let hash = |hash: &Option<Hash>| hash.map(|hash| String::from_utf8_lossy(&hash).into_owned());
        let checkpoint = text("/bartizan/checkpoint/previous");
        // The one before the first line here is not known.
        if (stream.checkpoint.is_some() || stream.first == 1) && hash(&stream.checkpoint).as_deref() != checkpoint {
            return Err(Break::new("this checkpoint does not follow the one before it"));
        }
        stream.checkpoint = Some(sealed.hash);
        self.checkpoints += 1;
        if self.expected.as_ref().is_some_and(|expected| expected.as_bytes() == sealed.hash) {
            self.expected = None;
        }
        if self.keys.is_empty() {
            return Ok(());
        }
        let key = text("/bartizan/checkpoint/key").unwrap_or_default();
        let Some(public) = self.keys.iter().find(|public| public.id() == key) else {
            let message = format!(
                "this checkpoint is signed with the key {key}, which is neither given nor named by a checkpoint"
            );
            return Err(Break::new(message));
        };
        let next_key = text("/bartizan/checkpoint/next_key");
        let previous = hash(&sealed.previous);
        let signed = CheckpointText {
            stream: sealed.stream,
            sequence: sealed.sequence,
            previous: previous.as_deref(),
            checkpoint,
            time: text("/@timestamp").unwrap_or_default(),
            key,
            next_key,
        };
        let signature = text("/bartizan/checkpoint/signature").and_then(|text| STANDARD.decode(text).ok());
        if !signature.is_some_and(|signature| public.verify(signed.text().as_bytes(), &signature)) {
            return Err(Break::new("the signature of this checkpoint is wrong"));
        }
        stream.covered = stream.last.sequence;
        if let Some(next) = next_key.and_then(|next| PublicKey::from_base64(next).ok())
            && !self.keys.contains(&next)
        {
            self.keys.push(next);
        }
        Ok(())
    }

    /// Ends the record.
    ///
    /// # Errors
    /// Something is missing at its end.
    pub(crate) fn finish(self) -> Result<Verified, Break> {
        if self.torn.is_some() {
            return Err(Break::new(NO_PLACE));
        }
        if let Some(expected) = &self.expected {
            return Err(Break::new(format!("the checkpoint with the hash {expected} is missing")));
        }
        if self.lines > 0 && !self.keys.is_empty() && self.streams.values().all(|stream| stream.covered == 0) {
            return Err(Break::new("no checkpoint signs any of these lines"));
        }
        let stream = |(name, stream): (Box<str>, Stream)| VerifiedStream {
            stream: name.into(),
            first: stream.first,
            last: stream.last.sequence,
            uncovered: stream.last.sequence - stream.covered.max(stream.first - 1),
        };
        let mut streams: Vec<_> = self.streams.into_iter().map(stream).collect();
        streams.sort_by(|a, b| a.stream.cmp(&b.stream));
        Ok(Verified { lines: self.lines, checkpoints: self.checkpoints, torn: self.torn_lines, streams })
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
mod tests;
